"""ImageNet weights for the original's trunk: find and read a ResNet-34."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwr import Error, gluon_params
from hwr.networks.original.spec import BLOCKS


def pretrained(choice: str, weights: dict[str, np.ndarray], pth: bool) -> tuple[Path | None, str]:
    """Find the ImageNet trunk that `model.pretrained` names.

    Args:
        choice: `auto`, `none`, or a ResNet-34 file: a Gluon `.params`, or a torchvision `.pth` or `.safetensors`.
        weights: The initial weights, which show whether the trunk fits.
        pth: Whether the engine can read a `.pth`; if not, `auto` ignores them.

    Returns:
        The file or None, and a sentence for the user.

    Raises:
        Error: The named file does not exist, or the trunk does not have 64 channels.
    """
    if choice == "none":
        return None, "trunk: random initial weights (model.pretrained=none)"
    wide = weights["body.0.weight"].shape[0] == 64
    if choice != "auto":
        if not Path(choice).is_file():
            raise Error(f"model.pretrained: {choice} is neither auto nor none, nor an existing file")
        if not wide:
            raise Error("model.pretrained: a ResNet-34 has 64 channels; set model.channels=64 or model.pretrained=none")
        return Path(choice), f"trunk: ImageNet weights from {choice}"
    if not wide:
        return None, "trunk: random initial weights (ImageNet's have 64 channels)"
    torch = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch"))
    gluon = Path(os.environ.get("MXNET_HOME") or "~/.mxnet")
    found = sorted((torch.expanduser() / "hub/checkpoints").glob("resnet34-*.pth")) if pth else []
    found += sorted((gluon.expanduser() / "models").glob("resnet34_v1-*.params"))
    if found:
        return found[0], f"trunk: ImageNet weights from {found[0]}"
    return None, (
        "trunk: random initial weights, because no ImageNet file was found. The original used one: download it with "
        "`python -c 'import torchvision; torchvision.models.resnet34(weights=\"IMAGENET1K_V1\")'` or name a file with "
        "model.pretrained"
    )


def trunk(found: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Extract the trunk's weights from a ResNet-34 with torchvision's or Gluon's names, averaging RGB to grey.

    Raises:
        Error: The weights are not a ResNet-34's.
    """
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
    if "conv1.weight" in found:  # torchvision
        names = {"body.0.weight": "conv1.weight"}
        norms = {"body.1": "bn1"}
        for b in range(BLOCKS):
            for ours, theirs in ((0, "1"), (3, "2")):
                names[f"body.4.{b}.body.{ours}.weight"] = f"layer1.{b}.conv{theirs}.weight"
                norms[f"body.4.{b}.body.{ours + 1}"] = f"layer1.{b}.bn{theirs}"
        names |= {f"{ours}.{gluon}": f"{norms[ours]}.{t}" for ours in norms for t, gluon in parts.items()}
    else:  # Gluon: features.0 to features.4, as in the trunk
        wanted = ["0.weight", *(f"1.{p}" for p in parts.values())]
        for b in range(BLOCKS):
            wanted += [f"4.{b}.body.{i}.weight" for i in (0, 3)]
            wanted += [f"4.{b}.body.{i}.{p}" for i in (1, 4) for p in parts.values()]
        names = {f"body.{name}": f"features.{name}" for name in wanted}
    lacking = [theirs for theirs in names.values() if theirs not in found]
    if lacking:
        raise Error(f"{path}: not a ResNet-34: {lacking[0]} is missing")
    out = {ours: np.asarray(found[theirs], np.float32) for ours, theirs in names.items()}
    if out["body.0.weight"].shape != (64, 3, 7, 7):
        raise Error(f"{path}: not a ResNet-34: its first convolution is {out['body.0.weight'].shape}")
    out["body.0.weight"] = out["body.0.weight"].mean(1, keepdims=True)  # (64, 3, 7, 7) -> (64, 1, 7, 7)
    return out


def read_trunk(path: Path) -> dict[str, np.ndarray]:
    """The trunk from a `.params` or `.safetensors` file; only the torch engine reads a `.pth`."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return trunk(load_file(path), path)
        except SafetensorError as error:
            raise Error(f"{path}: not a complete .safetensors file: {error}") from error
    return trunk(gluon_params.read(path), path)
