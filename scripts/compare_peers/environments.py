"""A virtual environment for each of the other toolkits."""

import json
import platform
import shlex
import subprocess
from importlib import metadata
from pathlib import Path

import click

from compare_peers.task import REPOSITORY, Failed

# Python version, packages installed one after another (all respect the versions pinned here), packages named in the report.
PEERS: dict[str, tuple[str, list[list[str]], list[str]]] = {
    "kraken": ("3.11", [["torch==2.13.0"], ["kraken==7.1.1"]], ["kraken", "torch", "lightning"]),
    "pylaia": (
        "3.10",
        [["pip<24.1", "setuptools<70", "wheel", "numpy<2"], ["torch==1.13.1", "pylaia==1.0.7"]],
        ["pylaia", "torch", "pytorch-lightning"],
    ),
}
# A torchvision built for another torch lacks its operators, and its import fails when it describes them. kraken uses none of
# them, so declare them without code.
DECLARED = """import torch
_library = torch.library.Library("torchvision", "DEF")
_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def make(peer: str, folder: Path, python310: str | None) -> None:
    """Create a peer's environment unless it exists.

    Raises:
        Failed: No Python of its version is available, or a package can't be installed.
    """
    version, steps, _ = PEERS[peer]
    python, stamp = folder / "bin/python", json.dumps(PEERS[peer])
    if (folder / ".stamp").exists() and (folder / ".stamp").read_text() == stamp:
        return
    given = python310 if version == "3.10" else None
    found = subprocess.run([REPOSITORY / "scripts/python", version], capture_output=True, text=True).stdout.strip()
    others = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))
    base = given or found or (str(others[-1]) if others else "")
    if not base:
        raise Failed(f"{peer} needs Python {version}, and none was found")
    click.echo(f"making {folder} with {base} (minutes, once)")

    def run(*command: object) -> bool:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode and "-c" not in command:
            raise Failed("\n".join([shlex.join(map(str, command)), *(done.stdout + done.stderr).splitlines()[-15:]]))
        return not done.returncode

    run(base, "-m", "venv", "--clear", folder)
    (folder / "constraints.txt").write_text("\n".join(word for step in steps for word in step) + "\n")
    for step in steps:
        run(python, "-m", "pip", "install", "--constraint", folder / "constraints.txt", *step)
    if peer == "kraken" and not run(python, "-c", "import torchvision"):
        (folder / f"lib/python{version}/site-packages/sitecustomize.py").write_text(DECLARED)
        if not run(python, "-c", "import torchvision"):
            raise Failed(f"torchvision can't be imported in {folder}")
    (folder / ".stamp").write_text(stamp)


def versions(peer: str, python: Path) -> dict[str, str]:
    """Installed versions in a peer's environment, by name; "" is hwr."""
    if not peer:
        return {"Python": platform.python_version()} | {p: metadata.version(p) for p in ("hwr", "torch", "numpy")}
    code = "import json, platform, sys; from importlib.metadata import version\n"
    code += "print(json.dumps({'Python': platform.python_version()} | {p: version(p) for p in sys.argv[1:]}))"
    asked = subprocess.run([python, "-c", code, *PEERS[peer][2]], capture_output=True, text=True, check=True)
    return dict(json.loads(asked.stdout))
