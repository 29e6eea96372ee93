"""`hwr data convert`: a dataset in another format."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from hwr import Error, __version__
from hwr.atomic import replacing
from hwr.data import Dataset, Line
from hwr.data.splits import PARTS
from hwr.images import load

PAGE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
ALTO = "http://www.loc.gov/standards/alto/ns-v4#"


def convert(dataset: Dataset, out: Path, kind: str) -> None:
    """Write a dataset as `page`, `alto`, `gt`, `table` or `iam`.

    Lines of pages stay on them in PAGE and ALTO; the others have an image for each line, cut out as training sees it. The
    parts go into the column `split` of a table, IAM's lists, and else into lists/{train,val,test}.txt, to be read with
    `data.lists=lists data.train=[train] data.val=[val] data.test=[test]`.

    Raises:
        Error: The folder is there already, or can't be written.
    """
    if out.exists() and any(out.iterdir()):
        raise Error(f"{out} is there already; choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Dataset, Path], None]] = {
        "page": lambda dataset, out: _pages(dataset, out, page),
        "alto": lambda dataset, out: _pages(dataset, out, alto),
        "gt": _gt,
        "table": _table,
        "iam": _iam,
    }
    writers[kind](dataset, out)


def now() -> str:
    """The time as PAGE's metadata has it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def _all(dataset: Dataset) -> list[tuple[str, Line]]:
    return [(part, line) for part in PARTS for line in dataset.part(part)]


def _lists(dataset: Dataset, out: Path, ids: dict[str, str]) -> None:
    (out / "lists").mkdir()
    for part in PARTS:
        rows = [ids[line.id] for line in dataset.part(part)]
        (out / "lists" / f"{part}.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _save(line: Line, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(load.read_line(line.image, line.region)).save(path)


def _names(dataset: Dataset) -> dict[str, str]:
    """Id -> a file's name without folders, no two alike, not even where case does not count."""
    out: dict[str, str] = {}
    used: set[str] = set()
    for _, line in _all(dataset):
        base = name = re.sub(r"[/\s]", "-", line.id).lstrip(".-") or "line"
        number = 1
        while name.casefold() in used:
            number += 1
            name = f"{base}~{number}"
        used.add(name.casefold())
        out[line.id] = name
    return out


def _gt(dataset: Dataset, out: Path) -> None:
    names = _names(dataset)
    for _, line in tqdm(_all(dataset), "writing", unit="line", disable=None, leave=False):
        _save(line, out / f"{names[line.id]}.png")
        (out / f"{names[line.id]}.gt.txt").write_text(f"{line.text}\n", encoding="utf-8")
    _lists(dataset, out, names)


def _table(dataset: Dataset, out: Path) -> None:
    names = _names(dataset)
    with open(out / "metadata.jsonl", "w", encoding="utf-8") as file:
        for part, line in tqdm(_all(dataset), "writing", unit="line", disable=None, leave=False):
            name = f"images/{names[line.id]}.png"
            _save(line, out / name)
            row = {"file_name": name, "text": line.text, "split": part, "writer": line.writer, "id": line.id}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _iam(dataset: Dataset, out: Path) -> None:
    from lxml import etree

    # A form has one writer.
    forms: dict[str, list[Line]] = {}
    names: dict[tuple[str, str], str] = {}
    for _, line in _all(dataset):
        document = line.id.rpartition("/")[0] or line.id.rpartition("-")[0] or "form"
        form = names.get((document, line.writer))
        if form is None:
            base = form = re.sub(r"[/\s]", "-", document).lstrip(".-") or "form"
            number = 1
            while form.casefold() in {name.casefold() for name in forms}:
                number += 1
                form = f"{base}~{number}"
            names[document, line.writer] = form
        forms.setdefault(form, []).append(line)
    (out / "xml").mkdir()
    ids: dict[str, str] = {}
    for form, lines in tqdm(forms.items(), "writing", unit="form", disable=None, leave=False):
        root = etree.Element("form", {"id": form, "writer-id": lines[0].writer})
        part = sub(root, "handwritten-part")
        for number, line in enumerate(lines):
            ids[line.id] = f"{form}-{number:02d}"
            # IAM's texts have their entities escaped once more, and its reader unescapes them.
            sub(part, "line", id=ids[line.id], text=line.text.replace("&", "&amp;"))
            _save(line, out / "lines" / form.split("-")[0] / form / f"{ids[line.id]}.png")
        write_xml(root, out / "xml" / f"{form}.xml")
    folder = out / "largeWriterIndependentTextLineRecognitionTask"
    folder.mkdir()
    for part_, name in (("train", "trainset"), ("val", "validationset1"), ("test", "testset")):
        rows = [ids[line.id] for line in dataset.part(part_)]
        (folder / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    (folder / "validationset2.txt").write_text("")


def _pages(dataset: Dataset, out: Path, make: Callable[[str, tuple[int, int], list[Line]], Any]) -> None:
    """One XML for each image, beside a copy of it."""
    of: dict[Path, list[Line]] = {}
    for _, line in _all(dataset):
        of.setdefault(line.image, []).append(line)
    names: dict[str, Path] = {}
    ids: dict[str, str] = {}
    for path, lines in tqdm(of.items(), "writing", unit="page", disable=None, leave=False):
        stem = path.stem
        while names.setdefault(stem, path) != path:
            stem += "_"
        name, size = f"{stem}{path.suffix}", load.size(path, upright=False)
        if size == load.size(path) or lines[0].region:
            shutil.copyfile(path, out / name)
        else:  # PAGE and ALTO mean pixels as they are stored, and this line image has to be turned
            name, size = f"{stem}.png", load.size(path)
            Image.fromarray(load.read(path)).save(out / name)
        for line in lines:
            ids[line.id] = f"{stem}/{_line_id(line)}"
        write_xml(make(name, size, lines), out / f"{stem}.xml")
    _lists(dataset, out, ids)


def _line_id(line: Line) -> str:
    return line.id.rpartition("/")[2]


def _polygon(line: Line, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    width, height = size
    return line.region or ((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1))


def page(name: str, size: tuple[int, int], lines: list[Line]) -> Any:
    """PAGE of an image, its root element."""
    root = _root("PcGts", PAGE)
    metadata = sub(root, "Metadata")
    for tag, text in (("Creator", f"hwr {__version__}"), ("Created", now()), ("LastChange", now())):
        sub(metadata, tag).text = text
    width, height = size
    page = sub(root, "Page", imageFilename=name, imageWidth=width, imageHeight=height)
    region = sub(page, "TextRegion", id="region")
    sub(region, "Coords", points=_points(((0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1))))
    for line in lines:
        element = sub(region, "TextLine", id=_line_id(line))
        sub(element, "Coords", points=_points(_polygon(line, size)))
        if line.baseline:
            sub(element, "Baseline", points=_points(line.baseline))
        sub(sub(element, "TextEquiv"), "Unicode").text = line.text
    return root


def alto(name: str, size: tuple[int, int], lines: list[Line]) -> Any:
    """ALTO of an image, its root element."""
    root = _root("alto", ALTO)
    description = sub(root, "Description")
    sub(description, "MeasurementUnit").text = "pixel"
    sub(sub(description, "sourceImageInformation"), "fileName").text = name
    box = {"HPOS": 0, "VPOS": 0, "WIDTH": size[0], "HEIGHT": size[1]}
    page = sub(sub(root, "Layout"), "Page", ID="page", PHYSICAL_IMG_NR="1", WIDTH=size[0], HEIGHT=size[1])
    block = sub(sub(page, "PrintSpace", **box), "TextBlock", ID="block", **box)
    for line in lines:
        points = _polygon(line, size)
        xs, ys = zip(*points, strict=True)
        place = {"HPOS": min(xs), "VPOS": min(ys), "WIDTH": max(xs) - min(xs), "HEIGHT": max(ys) - min(ys)}
        base = {"BASELINE": _points(line.baseline, " ")} if line.baseline else {}
        element = sub(block, "TextLine", ID=_line_id(line), **base, **place)
        sub(sub(element, "Shape"), "Polygon", POINTS=_points(points, " "))
        sub(element, "String", CONTENT=line.text, **place)
    return root


def _root(name: str, namespace: str) -> Any:
    from lxml import etree

    return etree.fromstring(f'<{name} xmlns="{namespace}"/>')


def sub(parent: Any, name: str, **attributes: object) -> Any:
    """A new last child, of the parent's namespace."""
    from lxml import etree

    namespace = etree.QName(parent).namespace
    tag = f"{{{namespace}}}{name}" if namespace else name
    return etree.SubElement(parent, tag, {key: str(value) for key, value in attributes.items()})


def _points(points: tuple[tuple[int, int], ...], between: str = ",") -> str:
    return " ".join(f"{x}{between}{y}" for x, y in points)


def write_xml(root: Any, path: Path) -> None:
    """Write an element as a file, indented."""
    from lxml import etree

    with replacing(path) as temporary:
        temporary.write_bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))
