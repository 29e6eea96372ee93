"""Every reader of hwr, as a function that reads one file's bytes and uses what it has read; and a good file for each."""

import functools
import importlib.util
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hwr import alphabet, checkpoint, config, data, describe, gluon_params, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint
from hwr.config import Data
from hwr.data.formats import PAGE_FORMATS, xml
from hwr.data.formats.iam_forms import parse_form
from hwr.data.formats.xml_edit import Document
from hwr.data.iam_archive.unpack import unpack
from hwr.decoding import beam, language_model, lexicon, ngram
from hwr.evaluation import tune
from hwr.images import load, prepare
from hwr.loading import load_checkpoint
from hwr.pages.sources import files_in, jobs
from hwr.training import run_folder

LETTERS = Alphabet(ORIGINAL)
TEXTS = ("the cat sat on the mat", "a dog ate that hat", "what is that?")
# A network for lines of any width, as small as can be.
SMALL = [
    *(
        "model.arch=crnn",
        "model.stem=2",
        "model.stride=[2, 2]",
        "model.blocks=[[1, 2], [1, 4]]",
        "model.pools=[[2, 2]]",
    ),
    *("model.hidden=2", "model.layers=1", "image.height=16", "image.width=200"),
]


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        suffix: Of its files.
        read: Reads a file and uses what it holds.
        good: Makes files that it can read.
        words: What to put into its files, besides what every file gets.
        share: Its share of the inputs; less for slow readers.
    """

    suffix: str
    read: Callable[[Path], object]
    good: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    share: float = 1.0


# --- Reading


def _image(path: Path) -> None:
    load.size(path)
    pixels = load.read(path)
    geometry = networks.geometry(_small())
    prepare.prepare(pixels, geometry)
    for found in load.read_lines(path, [((1, 1), (40, 2), (40, 15)), ((-5, 3), (9, 9), (2**31, 5))]):
        if isinstance(found, np.ndarray):
            prepare.prepare(found, geometry)


def _pages(path: Path) -> None:
    """As a dataset, and for prediction; the image of the page is beside it."""
    Image.fromarray(np.full((60, 200), 230, np.uint8)).save(path.with_name("page.png"))
    dataset = data.read(Data(root=str(path.parent)))
    for line in dataset.lines:
        load.read_lines(line.image, [line.region])


def _predicted(path: Path) -> None:
    Image.fromarray(np.full((60, 200), 230, np.uint8)).save(path.with_name("page.png"))
    for job in jobs(files_in([path.parent]).files):
        load.read_lines(job.image, [target.region for target in job.targets])


def _updated(path: Path) -> None:
    """The page read, and its lines put back into it. Without an edit, it is the same to the byte."""
    content = path.read_bytes()
    document = Document(content, path)
    assert document.content() == content
    for page_format in PAGE_FORMATS.values():
        if xml.local(document.root) == page_format.TAG:
            page_format.update(document.root, page_format.parse(path, document.root).lines)
            xml.parse_bytes(document.content(), path)


def _dataset(path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((16, 40), 230, np.uint8)).save(path.with_name(name))
    data.read(Data(root=str(path.parent if path.name.endswith(".gt.txt") else path)))


def _lists(path: Path) -> None:
    folder = path.parent / "data"
    (folder / "lists").mkdir(parents=True, exist_ok=True)
    for name in "abc":
        Image.fromarray(np.full((16, 40), 230, np.uint8)).save(folder / f"{name}.png")
        (folder / f"{name}.gt.txt").write_text("text\n")
    for part, text in (("val", b"b\n"), ("test", b"c\n"), ("train", path.read_bytes())):
        (folder / f"lists/{part}.txt").write_bytes(text)
    data.read(Data(root=str(folder)))


def _language_model(path: Path) -> None:
    lm = language_model.load(path)
    lm.log10("that is what")
    beam.search(_logits(), LETTERS, 4, lm, 0.5, 0.1)


def _checkpoint(path: Path) -> None:
    json.dumps(describe.describe(path))
    describe.table(describe.describe(path))


def _state(path: Path) -> None:
    run_folder.alphabet(path.parent)
    run_folder.same_precision(path.parent, config.load(None, ["engine.precision=auto"]))


def _onnx(path: Path) -> None:
    from hwr import engines
    from hwr.images.batches import Batch

    loaded = load_checkpoint(path)
    engine = engines.exported(path, loaded.config, loaded.alphabet.classes)
    height = loaded.config.image.height
    lines = np.full((1, height, 64), 255, np.uint8)
    engine.logits(Batch(lines, np.array([64], np.int32), np.full((1, 1), -1, np.int32), None, np.arange(1)))


def _config(path: Path) -> None:
    config.dump(config.load(path))


def _archive(path: Path) -> None:
    unpack(path, path.parent / "out")


@functools.cache
def _small() -> config.Config:
    return config.load(None, SMALL)


@functools.cache
def _logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 10, LETTERS.classes)).astype(np.float32)


# --- Good files


def _written(write: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"good{suffix}")
        write(path)
        return path.read_bytes()


def small_checkpoint() -> Checkpoint:
    """A network with random weights, a language model and a word list."""
    rng, settings = np.random.default_rng(0), _small()
    weights = {
        name: np.abs(rng.normal(0, 0.1, shape)).astype(np.float32)
        for name, shape in networks.shapes(settings, LETTERS.classes).items()
    }
    lm = checkpoint.Part(*language_model.to_arrays(ngram.build(TEXTS, 3)))
    words = checkpoint.Part(*lexicon.to_arrays(lexicon.build(["cat", "hat"], LETTERS)))
    scores: dict[str, Any] = {"trained_on": ["mine"], "split_name": "mine", "val_cer": 0.5, "notes": []}
    return Checkpoint(weights, settings, LETTERS, scores, None, lm, words)


def _safetensors() -> list[bytes]:
    return [_written(lambda path: checkpoint.save(path, small_checkpoint()), ".safetensors")]


def _params() -> list[bytes]:
    arrays: dict[str, np.ndarray] = {"a.weight": np.ones((2, 3), np.float32), "b": np.arange(4)}
    return [_written(lambda path: gluon_params.write(path, arrays), ".params")]


def _run_state() -> list[bytes]:
    about = {"progress": {"epoch": 1}, "engine": "torch", "fingerprint": "x", "precision": "bf16", "alphabet": "abc"}
    return [_written(lambda path: checkpoint.write_arrays(path, {"a": np.ones(2)}, about), ".safetensors")]


def _models(suffix: str) -> list[bytes]:
    models = [ngram.build(TEXTS, order) for order in (2, 4)]
    return [_written(lambda path, lm=lm: language_model.save(path, lm), suffix) for lm in models]  # type: ignore[misc]


def _onnx_files() -> list[bytes]:
    made = networks.onnx_model(_small(), LETTERS.classes, small_checkpoint().weights)
    about = checkpoint.about(small_checkpoint()).encode()
    # metadata_props is field 14 of the model, an entry with key (1) and value (2).
    entry = b"\x0a\x03hwr\x12" + _length(about) + about
    return [made + b"\x72" + _length(entry) + entry]


def _length(content: bytes) -> bytes:
    number, out = len(content), b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _images() -> list[bytes]:
    out = []
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 50), np.uint8))
    for kind, mode in (
        *(("PNG", mode) for mode in ("L", "RGBA", "P", "1", "I;16")),
        *(("JPEG", "RGB"), ("TIFF", "L"), ("WEBP", "RGB"), ("BMP", "L"), ("GIF", "P"), ("JPEG2000", "L"), ("PPM", "L")),
    ):
        file = io.BytesIO()
        grey.convert(mode).save(file, kind)
        out.append(file.getvalue())
    return out


def _heic_files() -> list[bytes]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = []
    for options in ({}, {"exif": exif}, {"append_images": [grey.convert("RGB")], "save_all": True}):
        file = io.BytesIO()
        grey.convert("RGB").save(file, "HEIF", quality=50, **options)
        out.append(file.getvalue())
    return out


def _page_files(name: str) -> list[bytes]:
    from hwr.data.formats.shapes import Marked

    polygon = ((2, 2), (150, 3), (150, 20), (2, 20))
    lines = [
        Marked("l1", "some text", polygon, ((2, 18), (150, 19)), "x"),
        Marked("l2", "more &amp; text", ((2, 30), (150, 30), (150, 50)), (), "x"),
    ]
    return [_written(lambda path: xml.write(PAGE_FORMATS[name].new("page.png", (200, 60), lines), path), ".xml")]


def _form() -> list[bytes]:
    return [
        b'<form id="good" writer-id="w1"><handwritten-part><line id="good-00" text="a &amp;quot;b"><word id="good-00-00"'
        b' text="a" tag="X"><cmp x="1" y="2" width="3" height="4"/></word></line></handwritten-part></form>'
    ]


def _configs() -> list[bytes]:
    return [config.dump(config.load(None, more)).encode() for more in ([], SMALL)] + [b"data: {root: [a, b]}\n"]


def _archives(kind: str) -> list[bytes]:
    import tarfile
    import zipfile

    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("a/one.txt", b"one " * 20)
    else:
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            info = tarfile.TarInfo("a/one.txt")
            info.size = 80
            tar.addfile(info, io.BytesIO(b"one " * 20))
    return [file.getvalue()]


_POINTS = (b"1e19", b"-1", b"inf", b"nan", b"99999999999", b"1,2 3,4", b"1,2,3", b"0,0 0,0 0,0", b"1e400", b"9" * 400)
_XML = (b"&#x9b;", b"&amp;lt;", b"<Page/>", b"<!--", b"]]>", b"xmlns=''", b"\xef\xbb\xbf", *_POINTS)

READERS: dict[str, Reader] = {
    "params": Reader(".params", gluon_params.read, _params),
    "safetensors": Reader(".safetensors", _checkpoint, _safetensors, (b"null", b"[]", b"{}", b'"BF16"', b"1e999"), 0.5),
    "run state": Reader(".safetensors", _state, _run_state, (b"null", b"[]", b"{}")),
    "yaml": Reader(
        ".yaml", _config, _configs, (b"&a [*a]", b"!!int ''", b"2024-13-45", b"? ", b"- ", b"0x" + b"f" * 99), 0.3
    ),
    "page": Reader(".xml", _pages, lambda: _page_files("page"), _XML),
    "alto": Reader(".xml", _pages, lambda: _page_files("alto"), _XML),
    "predict": Reader(".xml", _predicted, lambda: _page_files("page") + _page_files("alto"), _XML),
    "update": Reader(".xml", _updated, lambda: _page_files("page") + _page_files("alto"), _XML),
    "iam form": Reader(".xml", parse_form, _form, _XML),
    "tsv": Reader(
        ".tsv", _dataset, lambda: [b"image\ttext\tid\tsplit\na.png\tone\t1\ttrain\nb.png\ttwo\t2\tval\n"], (b'"',)
    ),
    "csv": Reader(".csv", _dataset, lambda: [b'image,text\na.png,"on""e"\nb.png,two\n'], (b'"', b"\r")),
    "jsonl": Reader(
        ".jsonl",
        _dataset,
        lambda: [b'{"file_name": "a.png", "text": "one"}\n{"file_name": "b.png", "text": "tw\\u00f6", "id": 7}\n'],
        (b"\\ud800", b"null", b"[]", b"\\u0000"),
    ),
    "gt": Reader(".gt.txt", _dataset, lambda: [b"one line\n", "zwei Wörter\r\n".encode()]),
    "lists": Reader(".txt", _lists, lambda: [b"a\n", b"\xef\xbb\xbfa\r\n\r\n"], (b"../", b"a/b")),
    "image": Reader(".png", _image, _images),
    "arpa": Reader(
        ".arpa", _language_model, lambda: _models(".arpa"), (b"<s>", b"<U+110000>", b"\\end\\", b"-inf", b"1e9")
    ),
    "lm": Reader(".bin", _language_model, lambda: _models(".bin"), (b"null", b"[]")),
    "words": Reader(".txt", lambda path: lexicon.read(path, LETTERS), lambda: [b"cat\nhat\n", "Maße\n".encode()]),
    "texts": Reader(".txt", lambda path: ngram.build(tune.texts_of([path]), 3), lambda: ["\n".join(TEXTS).encode()]),
    "alphabet": Reader(".txt", lambda path: alphabet.resolve(str(path), []), lambda: [b"abc\n", "äöü".encode()]),
    "onnx": Reader(".onnx", _onnx, _onnx_files, share=0.1),
    "zip": Reader(".zip", _archive, lambda: _archives("zip"), (b"../", b"/etc/")),
    "tgz": Reader(".tgz", _archive, lambda: _archives("tgz")),
}
if importlib.util.find_spec("pillow_heif"):
    READERS["heic"] = Reader(".heic", _image, _heic_files, (b"ftyp", b"heic", b"meta", b"iloc", b"mdat"), share=0.3)
