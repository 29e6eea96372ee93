"""Line images with their texts beside them, `a.png` and `a.gt.txt`, as kraken, Calamari and OCRopus have them."""

from pathlib import Path

from hwr import Error
from hwr.config import Data
from hwr.data import Dataset, Fault, Line, disk, splits
from hwr.data.formats import writing
from hwr.data.formats.contents import Contents
from hwr.data.text import blank
from hwr.images import load
from hwr.system import files
from hwr.system.terminal import counted, some

LAYOUT = "line images with their texts beside them: a.png, a.gt.txt"
TAG = ""
UNITS: tuple[str, ...] = ("line",)
USES: tuple[str, ...] = ()
KEEPS_WRITERS = False
SUFFIX = ".gt.txt"


def detect(contents: Contents) -> bool:
    """Whether a folder holds texts of lines."""
    return any(name.endswith(SUFFIX) for name in contents.files)


def read(data: Data) -> Dataset:
    """Read all pairs below `data.root`. Their folder is their document.

    Raises:
        Error: No pairs; a text without an image, or one of more than one line; names file and line.
    """
    root, lines, empty, faults = data.folder, list[Line](), list[str](), list[Fault]()
    disk.check_folder(root)
    alone, unlisted = 0, dict[str, str]()
    for folder, names in files.walk(root, unlisted):
        texts = [name for name in names if name.endswith(SUFFIX)]
        stems = {files.nfc(name.removesuffix(SUFFIX)) for name in texts}
        # Prepared images, a.bin.png and a.nrm.png, lie beside the original or replace it.
        pictures: dict[str, list[str]] = {}
        prepared: dict[str, list[str]] = {}
        for name in names:
            stem, dot, suffix = files.nfc(name).rpartition(".")
            if f"{dot}{suffix}".lower() in load.SUFFIXES:
                before = stem.rpartition(".")[0]
                if stem in stems or before not in stems:
                    pictures.setdefault(stem, []).append(name)
                else:
                    prepared.setdefault(before, []).append(name)
        alone += len(pictures.keys() - stems)
        for name in texts:
            path = Path(folder, name)
            stem = name.removesuffix(SUFFIX)
            id = path.relative_to(root).as_posix().removesuffix(SUFFIX)
            try:
                key = files.nfc(stem)
                image = _image(path, stem, pictures.get(key) or prepared.get(key, [])[:1])
                text = _text(path)
            except Error as error:
                faults.append(Fault(id, str(error), id.rpartition("/")[0] or "."))
                continue
            if text:
                lines.append(Line(id, Path(folder, image), text, "", f"{path}:1"))
            else:
                empty.append(id)
    faults += disk.unlisted(root, unlisted)
    if not lines and not faults and empty:
        raise Error(f"{root}: all texts are empty ({len(empty)}: {some([id + SUFFIX for id in empty])})")
    if not lines and not faults:
        raise Error(f"{root}: no image with a {SUFFIX} beside it")
    notes = [f"{counted(alone, 'image has', 'images have')} no {SUFFIX} beside them"] if alone else []
    if empty:
        notes.append(f"{counted(len(empty), 'text is', 'texts are')} empty and skipped: {', '.join(empty[:5])}")
    return splits.split(data, lines, [line.id.rpartition("/")[0] or "." for line in lines], empty, notes, faults=faults)


def _image(path: Path, stem: str, found: list[str]) -> str:
    if not found:
        raise Error(f"{path}: no image {stem}.png (or of another type) next to it")
    if len(found) > 1:
        raise Error(f"{path}: {', '.join(found)}: which is its image?")
    if not files.is_regular(image := path.with_name(found[0])):
        files.check(image)
    return found[0]


def _text(path: Path) -> str:
    rows = files.read_text(path).splitlines()
    full = [row for row in rows if row.strip()]
    if len(full) > 1:
        raise Error(f"{path}:2: has {len(full)} lines of text; an image is one line")
    return "" if not full or blank(full[0]) else full[0].strip()


def write(dataset: Dataset, out: Path) -> None:
    """Write a dataset as pairs, with lists of its parts."""
    names = writing.file_names(dataset)
    writing.save_images((line, out / f"{names[line.id]}.png") for line in dataset.lines)
    for line in dataset.lines:
        write_text(out / f"{names[line.id]}.png", line.text)
    writing.lists(dataset, out, names)


def write_text(image: Path, text: str) -> None:
    """Write the text of a line image beside it."""
    image.with_suffix(SUFFIX).write_text(f"{text}\n", encoding="utf-8")
