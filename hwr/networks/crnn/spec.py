"""The network for lines of any width, without a tensor library: its parameters' names and shapes."""

from hwr.config import CRNN


def shapes(model: CRNN, classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and running statistic, as `hwr.networks.crnn.torch.Network` names them."""
    out: dict[str, tuple[int, ...]] = {}

    def batch_norm(name: str, channels: int) -> None:
        out.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})

    def convolution(name: str, norm: str, into: int, of: int, kernel: int) -> None:
        out[f"{name}.weight"] = (into, of, kernel, kernel)
        batch_norm(norm, into)

    convolution("stem", "norm", model.stem, 1, 7)
    channels = model.stem
    for s, (number, wide) in enumerate(model.blocks):
        for b in range(number):
            block = f"stages.{s}.{b}"
            convolution(f"{block}.conv1", f"{block}.norm1", wide, channels, 3)
            convolution(f"{block}.conv2", f"{block}.norm2", wide, wide, 3)
            if channels != wide:
                convolution(f"{block}.skip.0", f"{block}.skip.1", wide, channels, 1)
            channels = wide
    features = channels
    for layer in range(model.layers):
        for way in ("right", "left"):
            lstm = f"lstms.{layer}.{way}"
            out[f"{lstm}.weight_ih_l0"] = (4 * model.hidden, features)
            out[f"{lstm}.weight_hh_l0"] = (4 * model.hidden, model.hidden)
            out[f"{lstm}.bias_ih_l0"] = out[f"{lstm}.bias_hh_l0"] = (4 * model.hidden,)
        features = 2 * model.hidden
    out["head.weight"], out["head.bias"] = (classes * model.frames, features), (classes * model.frames,)
    if model.shortcut:
        out["shortcut.weight"] = (classes * model.frames, channels, 3)
        out["shortcut.bias"] = (classes * model.frames,)
    return out
