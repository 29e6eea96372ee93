"""The Python API: its results, equal to the command line's, and no side effects."""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import hwr
from hwr import checkpoint, config, data
from hwr.cli import main
from hwr.data.convert import convert
from hwr.pages import segment
from hwr.pages.outputs import FORMATS
from hwr.pages.sources import Target
from hwr.recognizer import pixels_of

from .conftest import REPOSITORY, TINY_CRNN


@pytest.fixture(scope="module")
def image(drawn: Path) -> Path:
    return data.read(config.Data(root=str(drawn))).train[0].image  # which the network has learned to read


def command(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_read_returns_the_same_text_as_predict(model: Path, image: Path) -> None:
    reader = hwr.load(model)
    reading = reader.read(image, characters=True)
    said = json.loads(command("predict", "--checkpoint", model, image, "--json", "--characters"))
    assert reading.text
    assert (reading.text, [list(c) for c in reading.characters]) == (said["text"], said["characters"])
    assert reading.confidence == pytest.approx(said["confidence"])
    pixels = np.asarray(Image.open(image))
    for form in (str(image), image.read_bytes(), pixels, np.dstack([pixels] * 3), Image.open(image)):
        assert reader.read(form).text == reading.text
    with pytest.raises(hwr.Error, match=r"\(H, W\) or \(H, W, 3\) uint8"):
        reader.read(pixels.astype(np.float32))
    for name in ("nowhere.png", "nowhere.pdf"):
        with pytest.raises(hwr.Error, match=f"{name}: no such file"):
            reader.read(name)


def test_a_character_that_the_network_can_not_write_is_not_located(model: Path, image: Path) -> None:
    reader = hwr.load(model)
    line = reader.prepare(pixels_of(image))
    (output,) = reader.outputs([line])
    with pytest.raises(hwr.Error, match="the alphabet lacks '\u6f22'"):
        reader.locate(output.logits, "a\u6f22", line, output.per_step)


def test_read_page_gives_the_lines_in_order(model: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a page, found by a stand-in for kraken."""
    lines = data.read(config.Data(root=str(drawn))).test[:3]
    pictures = [np.asarray(Image.open(line.image)) for line in lines]
    page = np.full((sum(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)), 255, np.uint8)
    targets, top = [], 0
    path = drawn.parent / "page.png"
    for number, pixels in enumerate(pictures):
        height, width = pixels.shape
        page[top : top + height, :width] = pixels
        corners = ((0, top), (width - 1, top), (width - 1, top + height - 1), (0, top + height - 1))
        targets.append(Target(path, corners, id=f"line{number}", upright=True))
        top += height
    Image.fromarray(page).save(path)
    monkeypatch.setattr("hwr.pages.lines_of", lambda path, recognizer: targets)
    reader = hwr.load(model)
    found = reader.read_page(path)
    assert [line.text for line in found.lines] == [reader.read(pixels).text for pixels in pictures]
    assert found.text.splitlines() == [line.text for line in found.lines]
    assert [line.region for line in found.lines] == [target.region for target in targets]
    monkeypatch.setattr("hwr.pages.lines_of", segment.lines_of)
    with pytest.raises(hwr.Error, match="gone"):
        reader.read_page(drawn / "gone.xml")


def undated(path: Path) -> object:
    """The content of a file without the time at which it was written."""
    if path.suffix == ".pdf":
        with pytest.importorskip("pypdfium2").PdfDocument(path) as document:
            text = document[0].get_textpage()
            return text.get_text_range(), [text.get_charbox(i) for i in range(text.count_chars())]
    return re.sub(rb"<LastChange>.*?</LastChange>", b"", path.read_bytes())


def test_files_are_read_as_predict_reads_them(model: Path, drawn: Path, tmp_path: Path) -> None:
    """Folders, a PDF and a TIFF of two pages each, a damaged image, and one that is not there."""
    lines = data.read(config.Data(root=str(drawn))).test[:3]
    one, *two = [Image.open(line.image).convert("L") for line in lines]
    folder = tmp_path / "scans"
    folder.mkdir()
    one.save(folder / "a.png")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    for name in ("sheets.tif", "book.pdf"):  # as JPEG, the PDF leaves its options with the picture
        two[0].save(folder / name, save_all=True, append_images=two[1:])
    reader, inputs = hwr.load(model), [folder, tmp_path / "gone.png"]
    pages = list(reader.read_files(inputs, characters=True, kind="line"))
    done = CliRunner().invoke(
        main,
        [str(x) for x in ("predict", *inputs, "--line", "--json", "--characters", "--checkpoint", model)],
        catch_exceptions=False,
    )
    said = [json.loads(row) for row in done.stdout.splitlines()]
    names = ["a.png", "book.pdf/1", "book.pdf/2", "broken.png", "sheets.tif/1", "sheets.tif/2"]
    assert [page.source for page in pages] == [*(folder / name for name in names), tmp_path / "gone.png"]
    assert [bool(page.errors) for page in pages] == [False, False, False, True, False, False, True]
    for page in pages:
        assert all(f"hwr: {error}\n" in done.stderr for error in page.errors)
    good = [page for page in pages if not page.errors]
    assert [row["image"] for row in said] == [str(page.source) for page in good]
    assert [row["text"] for row in said] == [page.text for page in good]
    for row, page in zip(said, good, strict=True):
        for one, other in zip(row["characters"], page.lines[0].characters, strict=True):
            assert one[0] == other[0]
            # Lines are read in other batches, and so rounded differently.
            assert one[1:] == pytest.approx(other[1:], abs=1e-3)
    assert [page.text for page in reader.read_files(str(folder / "a.png"), kind="line")] == [pages[0].text]


def test_a_page_of_many_is_named(model: Path, image: Path, tmp_path: Path) -> None:
    """Pages after the first are not dropped without a word."""
    reader, picture = hwr.load(model), Image.open(image).convert("L")
    for name in ("sheets.tif", "book.pdf"):  # as JPEG, the PDF leaves its options with the picture
        picture.save(tmp_path / name, save_all=True, append_images=[picture])
        with pytest.raises(
            hwr.Error, match=rf"has 2 pages; name one of them, \S+{name}/1, or read all with read_files"
        ):
            reader.read_page(tmp_path / name)
        with pytest.raises(hwr.Error, match=rf"name one of (them|its pages): \S+{name}/1"):
            reader.read(tmp_path / name)
        assert reader.read(tmp_path / name / "2").text == reader.read(tmp_path / name / "1").text


def test_what_read_files_cannot_do_is_refused_before_it_reads(model: Path, image: Path, tmp_path: Path) -> None:
    reader = hwr.load(model)
    for paths, more, message in (
        ([], {}, "there is nothing to read"),
        (None, {}, "read_files needs paths, not NoneType"),
        ([np.zeros((60, 300), np.uint8)], {}, "not ndarray; read pixels with read or read_page"),
        (tmp_path, {}, "no images"),
        (image, {"kind": "word"}, "kind must be 'page', 'line' or None, not 'word'"),
        (image, {"segmenter": "tesseract"}, "segmenter must be one of hwr, kraken, not 'tesseract'"),
        (image, {"segmenter": ["hwr"]}, r"segmenter must be one of hwr, kraken, not \['hwr'\]"),
        (image, {"kind": "line", "segmenter": "kraken"}, "kind says that there are none"),
    ):
        with pytest.raises(hwr.Error, match=message):
            reader.read_files(paths, **more)


def test_a_page_is_saved_as_predict_writes_it(model: Path, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("pikepdf")
    convert(data.read(config.Data(root=str(drawn))), tmp_path / "pages", "page")
    xml = sorted((tmp_path / "pages").rglob("*.xml"))[0]
    found = hwr.load(model, overrides=["engine.name=torch"]).read_page(xml, characters=True)
    predict = ("predict", "--checkpoint", model, "--engine", "torch")
    for kind, format in FORMATS.items():
        for more in ([], ["--characters"]) if format.holds_characters else ([],):
            said, saved = tmp_path / f"{kind}{more}", tmp_path / f"new/{kind}{format.suffix}"
            command(*predict, xml, "--format", kind, "--out", f"{said}/", *more)
            found.save(saved, format=kind if format.suffix == ".xml" else None, characters=bool(more))
            assert undated(saved) == undated(said / f"{xml.stem}{format.suffix}"), kind

    before = xml.read_bytes()
    for path, options, why in (
        (tmp_path / "x.xml", {}, "one of page, alto"),
        (tmp_path / "x.docx", {}, "one of txt, tsv, json"),
        (tmp_path / "x.xml", {"format": "epub"}, "one of txt, tsv, json"),
        (tmp_path / "x.xml", {"format": ["page"]}, "one of txt, tsv, json"),
        (tmp_path / "x.pdf", {"characters": True}, "the pdf format can't hold characters"),
        (xml, {"format": "page"}, "the page was read from this file"),
        (found.image, {"format": "txt"}, "the page was read from this file"),
        (xml / "x.txt", {}, "is a file, and a folder is needed"),
    ):
        with pytest.raises(hwr.Error, match=why):
            found.save(path, **options)
    assert xml.read_bytes() == before
    pixels = replace(found, image=Path(), source=Path())
    pixels.save(tmp_path / "pixels.txt")
    assert (tmp_path / "pixels.txt").read_text("utf-8") == found.text + "\n"
    pixels.save(tmp_path / "pixels.json")
    assert json.loads((tmp_path / "pixels.json").read_text("utf-8"))["image"] == ""
    with pytest.raises(hwr.Error, match=r"read from pixels, not a file"):
        pixels.save(tmp_path / "x.pdf")
    unlocated = replace(found, lines=tuple(replace(line, characters=()) for line in found.lines))
    with pytest.raises(hwr.Error, match="read it with characters=True"):
        unlocated.save(tmp_path / "x.json", characters=True)
    assert not list(tmp_path.glob("x.*"))

    # The image of a page of a file is written beside XML, and replaces none.
    with Image.open(found.image) as image:
        image.save(tmp_path / "book.tif", save_all=True, append_images=[image])
    second = replace(found, image=tmp_path / "book.tif/2", source=tmp_path / "book.tif/2", kind="")
    for _ in range(2):
        second.save(tmp_path / "second.xml", "alto")
    shutil.copy(found.image, tmp_path / "third.jpg")
    for path, why in (
        (tmp_path / "third.xml", "third.jpg exists already"),
        (tmp_path / "book.tif", "read from this"),
    ):
        with pytest.raises(hwr.Error, match=why):
            second.save(path, "alto")
    assert (tmp_path / "second.jpg").exists()
    assert not (tmp_path / "third.xml").exists()


def test_evaluate_returns_the_same_report_as_the_command(model: Path, drawn: Path) -> None:
    report = hwr.evaluate(hwr.load(model), drawn, split="val")
    said = json.loads(
        command("evaluate", "--checkpoint", model, "--split", "val", "--set", f"data.root={drawn}", "--json", "-")
    )
    assert (report.cer, report.wer, list(report.cer_interval)) == (said["cer"], said["wer"], said["cer_ci95"])
    mine = report.to_dict()
    assert {key: mine[key] for key in ("lines", "edits", "worst")} == {
        key: said[key] for key in ("lines", "edits", "worst")
    }
    assert set(mine) == set(said)


def test_a_split_that_does_not_exist_is_an_error(model: Path, drawn: Path) -> None:
    with pytest.raises(hwr.Error, match="validation: no such split; it is train, val, test or all"):
        hwr.evaluate(hwr.load(model), drawn, split="validation")


def test_a_single_override_may_be_a_string(model: Path) -> None:
    assert hwr.load(model, "decode.name=greedy").config.decode.name == "greedy"


def test_train_takes_a_config_or_a_recipe(drawn: Path, tmp_path: Path) -> None:
    keys = [*TINY_CRNN, "train.epochs=1", f"data.root={drawn}"]
    assert hwr.train(hwr.Config.load(None, keys), tmp_path / "config", say=lambda line: None)
    recipe = [key for key in keys if not key.startswith("augment")]
    assert hwr.train("lines_cpu", tmp_path / "recipe", say=lambda line: None, overrides=recipe)
    assert hwr.load(tmp_path / "recipe/best.safetensors").geometry.straighten  # from the recipe
    with pytest.raises(hwr.Error, match="a Config is used unchanged"):
        hwr.train(hwr.Config(), tmp_path / "x", overrides=["train.lr=1"])


def test_loading_a_model_does_not_change_the_callers_torch_state(model: Path, image: Path) -> None:
    torch = pytest.importorskip("torch")

    def state() -> list[object]:
        generators = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()]  # noqa: NPY002 (a caller's)
        flags = [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.is_grad_enabled()]
        return [*generators, *flags, torch.get_num_threads(), torch.get_default_dtype()]

    before = state()
    reader = hwr.load(model)
    reader.read(image)
    after = state()
    assert before == after
    assert not hasattr(reader.engine, "_optimizer")
    assert not any(parameter.grad is not None for parameter in reader.engine._reader.parameters())


def test_the_training_machines_device_threads_and_precision_are_ignored(model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from hwr import checkpoint

    loaded = checkpoint.load(model)
    engine = loaded.config.engine.model_copy(update={"device": "cuda:3", "threads": 77, "precision": "bf16"})
    path = tmp_path / "elsewhere.safetensors"
    checkpoint.save(path, replace(loaded, config=loaded.config.model_copy(update={"engine": engine})))
    own = hwr.load(path).config.engine
    assert (own.device, own.threads, own.precision) == ("auto", None, "auto")


def test_import_is_quick_and_complete() -> None:
    code = "import hwr, sys; assert 'numpy' not in sys.modules; print([getattr(hwr, n).__name__ for n in hwr.__all__])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert eval(done.stdout) == hwr.__all__
    with pytest.raises(AttributeError, match="nothing"):
        hwr.nothing  # noqa: B018


def test_the_lines_of_a_run_are_evaluated_as_the_command_does(drawn: Path, tmp_path: Path) -> None:
    """Split lists are the run folder's; elsewhere, a dataset of the training that is split otherwise gets a note."""
    convert(data.read(config.Data(root=str(drawn))), tmp_path / "pairs", "gt")
    drawn = tmp_path / "pairs"
    shutil.rmtree(drawn / "lists")
    dataset = data.read(config.Data(root=str(drawn)))
    (tmp_path / "lists").mkdir()
    parts = {"a": dataset.train[:8], "b": dataset.train[8:12], "c": [*dataset.test, *dataset.val]}
    for name, lines in parts.items():
        (tmp_path / f"lists/{name}.txt").write_text("".join(f"{line.id}\n" for line in lines))
    lists = [f"data.lists={tmp_path / 'lists'}", "data.train=[a]", "data.val=[b]", "data.test=[c]", "data.split=mine"]
    keys = [*TINY_CRNN, "train.epochs=1", f"data.root={drawn}", *lists]
    assert hwr.train(hwr.Config.load(None, keys), tmp_path / "run", say=lambda line: None)
    best = tmp_path / "run/best.safetensors"
    said = json.loads(command("evaluate", "--checkpoint", best, "--json", "-"))
    report = hwr.evaluate(hwr.load(best))
    assert report.to_dict()["lines"] == said["lines"] == len(parts["c"])
    assert report.dataset.name == said["split_name"] == "mine"
    elsewhere = tmp_path / "elsewhere.safetensors"
    elsewhere.write_bytes(best.read_bytes())
    other = hwr.evaluate(hwr.load(elsewhere), drawn)
    assert any("may be training lines" in note for note in other.dataset.notes)
    with pytest.raises(hwr.Error, match="does not store where its data is"):
        hwr.evaluate(hwr.load(elsewhere))


def test_a_note_names_the_folders_that_were_split_otherwise_in_training(
    model: Path, drawn: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        convert(data.read(config.Data(root=str(drawn))), tmp_path / name, "gt")
        shutil.rmtree(tmp_path / name / "lists")
    scores = {"trained_on": ["a", "b"], "split_name": "a, drawn with seed 0 + b, drawn with seed 0"}
    trained = tmp_path / "trained.safetensors"
    checkpoint.save(trained, replace(checkpoint.load(model), scores=scores))

    def noted(root: str | list[str], *more: str) -> list[str]:
        roots = [str(tmp_path / name) for name in root] if isinstance(root, list) else tmp_path / root
        report = hwr.evaluate(hwr.load(trained, more), roots)
        return [note.partition(",")[0] for note in report.dataset.notes if "may be training lines" in note]

    assert noted("a") == []  # trained on with others, and split as now
    assert noted(["b", "a"]) == []
    assert noted("a", "data.seed=1") == ["the model was trained on a"]
    assert noted("b", "data.test_share=0.5") == ["the model was trained on b"]


def test_images_of_any_kind_read_alike(model: Path, image: Path, tmp_path: Path) -> None:
    reader = hwr.load(model)
    with Image.open(image) as opened:
        turned = opened.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # turn it by 90 degrees to show it
        turned.save(tmp_path / "turned.png", exif=exif)
        text = reader.read(image).text
        assert reader.read(opened.convert("CMYK")).text == text
    with Image.open(tmp_path / "turned.png") as opened:
        assert reader.read(opened).text == reader.read(tmp_path / "turned.png").text == text
    for bad in (np.zeros((9, 9, 1), np.uint8), np.zeros((9, 9, 2), np.uint8), Image.new("F", (9, 9))):
        with pytest.raises(hwr.Error):
            reader.read(bad)
    with pytest.raises(hwr.Error, match="engine"):
        reader.with_config(hwr.Config.load(None, ["engine.device=cuda:7"]))


def test_other_types_are_refused(model: Path, image: Path, tmp_path: Path) -> None:
    reader: Any = hwr.load(model)
    for bad in (io.BytesIO(image.read_bytes()), [image], None):
        with pytest.raises(hwr.Error, match="an image must be a path, bytes, a NumPy array or a Pillow image, not a"):
            reader.read(bad)
    with pytest.raises(hwr.Error, match=r"a model such as hwr\.load\('hwr-latin'\), not a str"):
        hwr.evaluate("hwr-latin", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(hwr.Error, match="train needs a Config, a YAML file or the name of a recipe, not a dict"):
        hwr.train({"train": {"epochs": 1}}, tmp_path / "run")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["", 3])
def test_what_is_no_path_is_refused(model: Path, image: Path, tmp_path: Path, wrong: Any) -> None:
    """An empty path would be the current folder."""
    recognizer = hwr.load(model)
    page = hwr.PageReading(image, ())
    for call, name in (
        (lambda: hwr.load(wrong), "load: model"),
        (lambda: hwr.train("lines_cpu", out=wrong), "train: out"),
        (lambda: hwr.evaluate(recognizer, wrong), "evaluate: root"),
        (lambda: hwr.evaluate(recognizer, [wrong]), "evaluate: root"),
        (lambda: recognizer.read(wrong), "an image"),
        (lambda: recognizer.read_page(wrong), "an image"),
        (lambda: recognizer.read_files(wrong), "read_files"),
        (lambda: recognizer.read_files([wrong]), "read_files"),
        (lambda: page.save(wrong), "save: path"),
    ):
        with pytest.raises(hwr.Error, match=f"^{name}.* (must be a path|needs paths)"):
            call()
    with pytest.raises(hwr.Error, match="train: out must be a path, not None"):
        hwr.train("lines_cpu", out=None)  # type: ignore[arg-type]
    with pytest.raises(hwr.Error, match=r"evaluate: root must be a path, not \[\]"):
        hwr.evaluate(recognizer, [])


def test_settings_of_other_types_are_refused(tmp_path: Path) -> None:
    for wrong in (3, None, [3], [("train.epochs", 2)], b"train.epochs=2"):
        given: Any = wrong
        for call in (
            lambda given=given: hwr.load(overrides=given),
            lambda given=given: hwr.Config.load("lines_cpu", given),
            lambda given=given: hwr.train("lines_cpu", tmp_path, overrides=given),
        ):
            with pytest.raises(hwr.Error, match=r"overrides must be texts such as \['train.epochs=2'\], not "):
                call()
    for wrong in (3, "", b"lines_cpu", ["train.epochs=2"], {"train": {"epochs": 2}}):
        given = wrong
        with pytest.raises(hwr.Error, match="a config must be a path, not"):
            hwr.Config.load(given)
    silent: Any = None
    with pytest.raises(hwr.Error, match="say must be a function"):
        hwr.train("lines_cpu", tmp_path, say=silent)
    assert hwr.Config.load("lines_cpu", iter(["train.epochs=2"])).train.epochs == 2  # type: ignore[arg-type]


def test_an_image_without_pixels_is_refused(image: Path) -> None:
    with Image.open(image) as opened, pytest.raises(hwr.Error, match="must have pixels, and this one has 0 x 7"):
        pixels_of(opened.crop((10, 3, 10, 10)))


def test_results_are_shown_in_a_line(model: Path, drawn: Path) -> None:
    reader = hwr.load(model)
    assert re.fullmatch(r"<Recognizer: \S+, (onnx|torch) on cpu>", repr(reader))
    assert re.fullmatch(r"<Report: test, \d+ lines, CER [\d.]+, WER [\d.]+>", repr(hwr.evaluate(reader, drawn)))


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_model_can_be_pickled(model: Path, image: Path, engine: str) -> None:
    """As multiprocessing's `spawn` does."""
    pytest.importorskip("onnxruntime")
    reader = hwr.load(model, [f"engine.name={engine}"])
    assert pickle.loads(pickle.dumps(reader)).read(image) == reader.read(image)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_reads(model: Path, image: Path) -> None:
    """As in a web server that loads its model before it forks. PyTorch's threads are only in the first process."""
    pytest.importorskip("torch")
    code = f"""
import hwr, multiprocessing, torch
torch.set_num_threads(2)
options = ["engine.name=torch", "decode.name=greedy"]
model = hwr.load({str(model)!r}, options)
torch.ones(512, 512) @ torch.ones(512, 512)  # the small network alone might need one thread only
text = model.read({str(image)!r}).text

def read(queue):
    torch.ones(512, 512) @ torch.ones(512, 512)
    found = [one.read({str(image)!r}).text for one in (model, hwr.load({str(model)!r}, options))]
    queue.put((found, torch.get_num_threads()))
    try:
        hwr.load({str(model)!r}, [*options, "engine.threads=2"])
    except hwr.Error as error:
        queue.put(str(error))

context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=read, args=(queue,), daemon=True)
process.start()
assert queue.get(timeout=120) == ([text, text], 1)
assert "engine.threads: must be 1" in queue.get(timeout=120)
assert torch.get_num_threads() == 2
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=REPOSITORY, timeout=300)
