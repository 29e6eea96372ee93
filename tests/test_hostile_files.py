"""Files made to do harm: pipes and devices, YAML and JSON bombs, formats that start programs."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwr import Error, alphabet, checkpoint, config, data, gluon_params
from hwr.config import Data, yaml_lines
from hwr.data.formats import xml
from hwr.decoding import language_model, lexicon
from hwr.evaluation import tune
from hwr.images import load
from hwr.loading import load_checkpoint
from hwr.system import files

from .conftest import REPOSITORY

pytestmark = pytest.mark.timeout(20)

ALPHABET = alphabet.Alphabet(alphabet.ORIGINAL)
READERS: dict[str, Callable[[Path], object]] = {
    "image": load.read,
    "image size": load.size,
    "xml": xml.parse,
    "config": config.load,
    "alphabet": lambda path: alphabet.resolve(str(path), []),
    "table": lambda path: data.read(Data(root=str(path), format="table")),
    "word list": lambda path: lexicon.read(path, ALPHABET),
    "texts": lambda path: tune.texts_of([path]),
    "language model": language_model.load,
    "arpa": lambda path: language_model.load(path.with_suffix(".arpa")),
    "params": gluon_params.read,
    "checkpoint": checkpoint.load,
    "onnx": lambda path: load_checkpoint(path.with_suffix(".onnx")),
}
SUFFIX = {"table": ".tsv", "config": ".yaml", "language model": ".bin", "arpa": ".arpa", "onnx": ".onnx"}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"a{SUFFIX.get(name, '.png')}"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
    with pytest.raises(Error, match=r"regular files|a folder|no such config|not a table"):
        READERS[name](path)


def test_pipes_in_a_folder_are_no_data(tmp_path: Path) -> None:
    """They lie where images, texts, pages and tables are looked for."""
    for name in ("a.png", "b.gt.txt", "p.xml"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "b.png").touch()
    with pytest.raises(Error, match="regular files"):
        data.read(Data(root=str(tmp_path)))
    with pytest.raises(Error, match="regular files"):
        data.read(Data(root=str(tmp_path), format="gt"))


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # it has holes only
    with pytest.raises(Error, match=r"1,099,511,627,776 bytes; at most"):
        xml.parse(path)


def test_a_name_with_a_nul_is_no_file() -> None:
    with pytest.raises(Error, match=r"null (byte|character)"):
        files.check("a\0b")


def test_an_eps_named_png_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def ghostscript(*arguments: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 40\n%%EndComments\n(%pipe%touch owned) run\n%%EOF\n"
    )
    for read in (load.read, load.size):
        with pytest.raises(Error, match="cannot identify image file"):
            read(path)


def test_pillow_opens_images_in_known_formats_only() -> None:
    calls = [
        (path, node)
        for path in (REPOSITORY / "hwr").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
    ]
    assert {path.name for path, _ in calls} >= {"load.py", "pdf_image.py"}
    for path, node in calls:
        # pdf_image opens what it has just written itself.
        known = path.name == "pdf_image.py" or any(keyword.arg == "formats" for keyword in node.keywords)
        assert known, f"{path}:{node.lineno}: use hwr.images.load.opened"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "DIB", "GIF", "JPEG2000", "PPM"])
def test_every_format_is_still_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"  # the name does not matter
    image = Image.fromarray(np.full((20, 30), 255, np.uint8))
    image.save(path, kind)
    assert load.read(path).shape == (20, 30)
    assert load.size(path) == (30, 20)


BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "recursion": "data: &a [*a]",
    "recursive mapping": "data: &a {root: *a}",
    "deep": "data: " + "[" * 100_000,
    "deep mapping": "data: " + "{a: " * 3000 + "1" + "}" * 3000,
    "date": "data:\n  root: 2024-13-45",
    "digits": "data:\n  seed: " + "9" * 5000,
    "hexadecimal": "data:\n  seed: 0x" + "f" * 5000,
    "base 60": "data:\n  seed: 1" + ":01" * 5000,
    "empty int": 'data:\n  seed: !!int ""',
    "bool": "data:\n  seed: !!bool maybe",
    "timestamp": "data:\n  seed: !!timestamp soon",
    "python": "data: !!python/object/apply:os.system [true]",
    "unhashable": "? [a]\n: b",
    "set": "data: !!set {a, b}",
    "binary": "data:\n  root: !!binary '####'",
    "control": "data:\n  root: \x07",
    "surrogate": 'data:\n  root: "\\ud800"',
    "nul": 'data:\n  root: "a\\0b"',
    "number as a key": "1: {2: 3}",
    "null as a key": "? \n: x",
    "list": "[data]",
    "two documents": "a: 1\n---\nb: 2",
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_yaml_is_refused_quickly(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BOMBS[name], encoding="utf-8")
    with pytest.raises(Error, match=r"c\.yaml"):
        config.load(path)


@pytest.mark.parametrize("value", ["[" * 10_000, "9" * 5000, "2024-13-45", "&a [*a]"])
def test_hostile_values_on_the_command_line(value: str) -> None:
    with pytest.raises(Error, match="the value is "):
        yaml_lines.value(value)


@pytest.mark.parametrize(
    "row",
    ["[" * 100_000, '{"image": ' * 5000, '{"image": ' + "9" * 5000 + "}", '{"image": "a\\ud800.png", "text": "a"}'],
)
def test_hostile_json_lines(tmp_path: Path, row: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(row + "\n", encoding="utf-8")
    with pytest.raises(Error, match=r"t\.jsonl:1: "):
        data.read(Data(root=str(path)))


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e99999"])
def test_long_numbers_in_arpa(tmp_path: Path, number: str) -> None:
    path = tmp_path / "m.arpa"
    start = "\\data\\\nngram 1={}\n\n\\1-grams:\n{}\ta\n-1\t<s>\n-1\t</s>\n\n\\end\\\n"
    for text in (start.format(number.strip("-"), "-1"), start.format(3, number), start.replace("1=", f"{number}=")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(Error, match=r"m\.arpa:\d"):
            language_model.load(path)


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_damaged_archives_are_named(tmp_path: Path, kind: str) -> None:
    import tarfile
    import zipfile

    from hwr.data.iam_archive.unpack import unpack

    whole, content = tmp_path / f"whole.{kind}", b"some text " * 50
    if kind == "zip":
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("a/one.txt", "a/two.txt"):
                archive.writestr(name, content)
    else:
        with tarfile.open(whole, "w:gz") as tar:
            for name in ("one.txt", "two.txt"):
                (tmp_path / name).write_bytes(content)
                tar.add(tmp_path / name, f"a/{name}")
    rng, right = np.random.default_rng(0), whole.read_bytes()
    faults: dict[Path, str] = {}
    for number in range(150):
        damaged, out = bytearray(right), tmp_path / f"out{number}"
        for at in rng.integers(len(right), size=rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(damaged[: rng.integers(1, len(right) + 1)] if number % 2 else damaged)
        try:
            unpack(path, out)
        except Error as error:
            faults[path] = str(error)
            assert not out.exists()
    assert len(faults) > 100
    assert all(fault.startswith(f"{path}: ") for path, fault in faults.items())
    assert not list(tmp_path.glob(".unpacking*"))
