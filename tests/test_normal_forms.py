"""Composed and decomposed accents: texts, language models and the names of files mean the same in either form."""

import json
import runpy
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import config, data
from hwr.alphabet import Alphabet
from hwr.cli import main
from hwr.data.formats import PAGE_FORMATS, iam, xml
from hwr.data.formats.iam_forms import new_form
from hwr.data.formats.shapes import Marked
from hwr.data.iam_archive.check import check
from hwr.decoding import beam, lexicon, ngram

from .conftest import REPOSITORY

CASE = REPOSITORY.parent / "shared/cases/nfd-language-model"
FORMS = ("NFC", "NFD")


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def ids(root: Path, *overrides: str) -> list[str]:
    found = data.read(config.load(None, [f"data.root={root}", *overrides]).data)
    return [line.id for line in found.lines]


def logits(alphabet: Alphabet) -> np.ndarray:
    """A network that writes \u00e9t\u00e9 a little more surely than ete."""
    out = np.full((1, 11, alphabet.classes), -10, np.float32)
    out[0, :, alphabet.blank] = 0
    for k, (accented, plain) in enumerate(zip("\u00e9t\u00e9", "ete", strict=True)):
        out[0, 1 + 2 * k, alphabet.blank] = -10
        out[0, 1 + 2 * k, alphabet.characters.index(accented)] = 3
        out[0, 1 + 2 * k, alphabet.characters.index(plain)] = 2.5 if accented != plain else 3
    return out


@pytest.mark.parametrize("form", FORMS)
def test_word_lists_and_language_models(form: str, tmp_path: Path) -> None:
    alphabet = Alphabet("acdehlnort\u00e9\u00e8 ")
    text = unicodedata.normalize(form, "l'\u00e9t\u00e9 a \u00e9t\u00e9 chaud\nun \u00e9t\u00e9 a\n" * 5)  # type: ignore[arg-type]
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    words = lexicon.read(tmp_path / "text.txt", alphabet)
    (found,) = beam.search(logits(alphabet), alphabet, lexicon=words, unknown_penalty=3)
    assert found[0].text == "\u00e9t\u00e9"
    model = ngram.build(text.splitlines(), 5)
    (found,) = beam.search(logits(alphabet), alphabet, lm=model, lm_weight=1, length_bonus=1)
    assert found[0].text == "\u00e9t\u00e9"


def test_the_case(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its script uses the names of an earlier version."""
    if not CASE.is_dir():
        pytest.skip("no ../shared/cases")
    monkeypatch.chdir(CASE)
    monkeypatch.setattr("sys.argv", ["try.py", str(REPOSITORY / "models/hwr-latin.safetensors")])
    with warnings.catch_warnings(record=True) as found:  # it also leaves files open
        warnings.simplefilter("always")
        runpy.run_path("try.py", run_name="__main__")
    assert "hwr.beam is now hwr.decoding.beam" in [str(warning.message) for warning in found]
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("[(")[1].split(",")[0] for row in rows] == ["'\u00e9t\u00e9'"] * 4


@pytest.mark.parametrize(("on_disk", "in_text"), [(nfd, nfc), (nfc, nfd)])
def test_names_of_files(tmp_path: Path, on_disk: object, in_text: object) -> None:
    """macOS decomposes the names of files; tables, lists, pages and people usually do not."""
    assert callable(on_disk)
    assert callable(in_text)
    names = [f"{word}{i}" for i, word in enumerate(("\u00e9t\u00e9", "No\u00ebl", "\u00c5ngstr\u00f6m"))]
    box = "bo\u00eete"
    pairs, tables, pages = (tmp_path / name for name in ("pairs", "tables", "pages"))
    for folder in (pairs / "lists", tables / on_disk(box), pages):
        folder.mkdir(parents=True)
    for name, part in zip(names, data.PARTS, strict=True):
        image = Image.new("L", (80, 30), 230)
        image.save(pairs / f"{on_disk(name)}.png")
        (pairs / f"{in_text(name)}.gt.txt").write_text("text", encoding="utf-8")
        (pairs / f"lists/{part}.txt").write_text(in_text(name), encoding="utf-8")
        image.save(tables / on_disk(box) / f"{on_disk(name)}.png")
        image.save(pages / f"{on_disk(name)}.png")
        line = Marked("l", "text", ((0, 0), (79, 0), (79, 29), (0, 29)), (), "")
        xml.write(PAGE_FORMATS["page"].new(in_text(f"{name}.png"), (80, 30), [line]), pages / f"{in_text(name)}.xml")
    rows = "".join(f"{in_text(box)}/{in_text(name)}.png,text\n" for name in names)
    (tables / "table.csv").write_text(f"image,text\n{rows}", encoding="utf-8")
    for root in (pairs, tables, pages):
        assert len(ids(root)) == 3, root
        first = ids(root)[0]
        assert len(ids(root, f"data.exclude=['{on_disk(first)}']")) == 2
        assert len(ids(root, f"data.exclude=['{in_text(first)}']")) == 2
        assert len(ids(root, f"data.exclude=['{in_text(first)[:-1]}*']")) == 2
        done = json.loads(invoke("data", "summary", root, "--json").stdout)
        assert not done["faults"]


def test_names_of_several_folders(tmp_path: Path) -> None:
    for form, name in ((nfd, "\u00e9t\u00e9"), (nfc, "No\u00ebl")):
        (tmp_path / form(name)).mkdir()
        Image.new("L", (80, 30), 230).save(tmp_path / form(name) / "0.png")
        (tmp_path / form(name) / "0.gt.txt").write_text("text", encoding="utf-8")
    settings = config.Data(root=tuple(map(str, sorted(tmp_path.iterdir()))))
    for form in (nfc, nfd):
        for gone, left in (("No\u00ebl", "\u00e9t\u00e9"), ("\u00e9t\u00e9", "No\u00ebl")):
            found = data.read(settings.model_copy(update={"exclude": (form(f"{gone}/0"),)}))
            assert [line.id for line in found.lines] == [f"{left}/0"]


@pytest.mark.parametrize(("on_disk", "in_text"), [(nfd, nfc), (nfc, nfd)])
def test_names_of_files_in_the_layout_of_iam(tmp_path: Path, on_disk: object, in_text: object) -> None:
    assert callable(on_disk)
    assert callable(in_text)
    forms = [f"{word}-{i}" for i, word in enumerate(("\u00e9t\u00e9", "No\u00ebl", "\u00c5ngstr\u00f6m"))]
    (tmp_path / "xml").mkdir()
    (tmp_path / iam.LISTS).mkdir()
    for form, name in zip(forms, ("trainset", "validationset1", "testset"), strict=True):
        root, part = new_form(in_text(form), "w")
        xml.add(part, "line", id=in_text(f"{form}-00"), text="text")
        xml.write(root, tmp_path / on_disk(f"xml/{form}.xml"))
        folder = tmp_path / on_disk(f"lines/{form.partition('-')[0]}/{form}")
        folder.mkdir(parents=True)
        Image.new("L", (80, 30), 230).save(folder / on_disk(f"{form}-00.png"))
        (tmp_path / iam.LISTS / f"{name}.txt").write_text(in_text(f"{form}-00\n"), encoding="utf-8")
    lists = "data.val=[validationset1]"
    assert ids(tmp_path, lists) == [f"{form}-00" for form in forms]
    for normal in (nfc, nfd):
        assert ids(tmp_path, lists, f"data.exclude=['{normal(forms[1])}']") == [f"{forms[i]}-00" for i in (0, 2)]
    found = check(tmp_path, progress=False)
    assert (found.missing, found.damaged, found.problems) == ((), (), ())


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_file_is_named_once(tmp_path: Path, form: str) -> None:
    Image.new("L", (80, 30), 230).save(tmp_path / "a.png")
    gone = unicodedata.normalize(form, "\u00e9t\u00e9.png")  # type: ignore[arg-type]
    (tmp_path / "table.csv").write_text(f"image,text\na.png,x\n{gone},y\n", encoding="utf-8")
    (fault,) = json.loads(invoke("data", "summary", tmp_path, "--json").stdout)["faults"]
    assert "no such image" in fault["fault"]
