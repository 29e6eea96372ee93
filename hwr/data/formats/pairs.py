"""Line images with their texts beside them, `a.png` and `a.gt.txt`, as kraken, Calamari and OCRopus have them -> Dataset."""

import os
from pathlib import Path

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset, Line, splits
from hwr.images import load

SUFFIX = ".gt.txt"


def read(data: Data) -> Dataset:
    """Read all pairs below `data.root`. A document is the folder that they are in.

    Raises:
        Error: No pairs; a text without an image, or one of more than one line; names file and line.
    """
    root, lines, empty = data.folder, list[Line](), list[str]()
    if not root.is_dir():
        raise Error(f"data.root: {root}: no such folder")
    alone = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        texts = sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))
        stems = {name.removesuffix(SUFFIX) for name in texts}
        # Prepared images stand beside the original, or in its place, as a.bin.png and a.nrm.png.
        pictures: dict[str, list[str]] = {}
        prepared: dict[str, list[str]] = {}
        for name in sorted(names):
            stem, dot, suffix = name.rpartition(".")
            if f"{dot}{suffix}".lower() in load.SUFFIXES and not name.startswith("."):
                before = stem.rpartition(".")[0]
                if stem in stems or before not in stems:
                    pictures.setdefault(stem, []).append(name)
                else:
                    prepared.setdefault(before, []).append(name)
        alone += len(pictures.keys() - stems)
        for name in texts:
            path = Path(folder, name)
            stem = name.removesuffix(SUFFIX)
            found = pictures.get(stem) or prepared.get(stem, [])[:1]
            if not found:
                raise Error(f"{path}: there is no image {stem}.png (or of another kind) beside it")
            if len(found) > 1:
                raise Error(f"{path}: {', '.join(found)}: which is its image?")
            id = path.relative_to(root).as_posix().removesuffix(SUFFIX)
            text = _text(path)
            if text:
                lines.append(Line(id, Path(folder, found[0]), text, "", f"{path}:1"))
            else:
                empty.append(id)
    if not lines:
        raise Error(f"{root}: no image with a {SUFFIX} beside it")
    notes = [f"{alone} images have no {SUFFIX} beside them"] if alone else []
    if empty:
        notes.append(f"{len(empty)} texts are empty and left out: {', '.join(empty[:5])}")
    return splits.split(data, lines, [line.id.rpartition("/")[0] or "." for line in lines], empty, notes)


def _text(path: Path) -> str:
    try:
        rows = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"{path}: could not be read as UTF-8: {error}") from error
    full = [row for row in rows if row.strip()]
    if len(full) > 1:
        raise Error(f"{path}:2: has {len(full)} lines of text; an image is one line")
    return full[0].strip() if full else ""
