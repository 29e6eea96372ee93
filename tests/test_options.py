"""Every option of every command is obeyed or refused, never ignored. A new option needs an entry here."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from hwr import checkpoint, config
from hwr.cli import main
from hwr.system import processes

from .conftest import REPOSITORY, TINY_CRNN


@dataclass(frozen=True)
class World:
    """A trained model, its synthetic lines, and an output folder."""

    model: Path
    drawn: Path
    folder: Path

    def hwr(self, *arguments: object, refused: bool = False) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == (2 if refused else 0), f"{result.output}\n{result.exception!r}"
        return result

    def refuses(self, message: str, *arguments: object) -> None:
        said = self.hwr(*arguments, refused=True).stderr
        assert message in said, said

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def image(self) -> Path:
        return sorted((self.drawn / "lines").rglob("*.png"))[0]

    @property
    def named(self) -> list[object]:
        return ["--checkpoint", self.model]

    def report(self, *arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.hwr("evaluate", *self.named, "--json", "-", *arguments).stdout)
        return found

    def pairs(self, *arguments: object) -> list[list[str]]:
        """What export-typo reads."""
        self.hwr("export-typo", *self.named, "--out", self.folder / "typo", *arguments)
        found: list[list[str]] = json.loads((self.folder / "typo/validating.json").read_text(encoding="utf-8"))
        return found

    def train(self, *arguments: object, refused: bool = False) -> Result:
        path = self.file(
            "small.yaml", config.dump(config.load(None, [*TINY_CRNN, f"data.root={self.drawn}", "train.epochs=1"]))
        )
        run = ["--out", self.folder / "run"] if "--out" not in arguments else []
        return self.hwr("train", "--config", path, *run, *arguments, refused=refused)


@pytest.fixture
def world(model: Path, drawn: Path, tmp_path: Path) -> World:
    return World(model, drawn, tmp_path)


Check = Callable[[World], None]
CHECKS: dict[tuple[str, str], Check | str] = {}


def check(*options: str) -> Callable[[Check], Check]:
    """Register a check that options (`command --option`) are obeyed or refused."""

    def add(function: Check) -> Check:
        for option in options:
            command, _, name = option.rpartition(" ")
            assert (command, name) not in CHECKS, option
            CHECKS[command, name] = function
        return function

    return add


def elsewhere(test: str, *options: str) -> None:
    """Register options that another test covers: `file.py::test`."""
    for option in options:
        command, _, name = option.rpartition(" ")
        assert (command, name) not in CHECKS, option
        CHECKS[command, name] = test


def every_option() -> Iterator[tuple[str, str]]:
    def walk(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            names = [name for name in parameter.opts if name.startswith("--")]
            yield path, names[0] if names else str(parameter.name)
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk(inner, f"{path} {name}".strip())

    yield from walk(main, "")


OPTIONS = [(command, name) for command, name in every_option() if command != "export-typo-dataset"]


def test_the_table_has_every_option_and_no_other() -> None:
    assert {" ".join(pair) for pair in OPTIONS} == {" ".join(pair) for pair in CHECKS}
    assert main.commands["export-typo-dataset"] is main.commands["export-typo"]


# --- hwr


@check(" --version")
def _version(world: World) -> None:
    import hwr

    assert hwr.__version__ in world.hwr("--version").output


elsewhere("test_processes.py::test_debug_prints_the_traceback", " --debug")
elsewhere("test_cli.py::test_shell_completion", "completion shell")


# --- train


@check("train --config", "train --set", "train --out")
def _train(world: World) -> None:
    world.train("--set", "train.lr=0.002", "augment.p=0.25", "--out", world.folder / "there")
    settings = config.load(world.folder / "there/config.yaml")
    assert (settings.train.lr, settings.augment.p, settings.model.hidden) == (0.002, 0.25, 24)
    world.refuses("exists already", "train", "--config", world.folder / "small.yaml", "--out", world.folder / "there")
    world.refuses("give --config FILE, or --resume", "train")


@check("train --resume")
def _resume(world: World) -> None:
    world.refuses("no such config file", "train", "--resume", "--out", world.folder / "nothing")
    world.train()
    said = world.hwr("train", "--resume", "--out", world.folder / "run", "--set", "train.epochs=2").output
    assert "resuming after 1 epoch and 0 batches" in said


@check("train --init", "train --charset")
def _init(world: World) -> None:
    own = checkpoint.load(world.model)
    assert f"initialised from {world.model}" in world.train("--init", world.model, "--charset", "keep").output
    assert checkpoint.load(world.folder / "run/last.safetensors").alphabet == own.alphabet
    assert "no such file" in world.train("--init", "./gone.safetensors", refused=True).stderr
    assert "--charset applies to fine-tuning only" in world.train("--charset", "keep", refused=True).stderr


@check("train --engine", "evaluate --engine", "export-typo --engine", "predict --engine", "lm tune --engine")
def _engine(world: World) -> None:
    assert "'onnx' is not one of" in world.train("--engine", "onnx", refused=True).stderr
    assert "onnx only reads" in world.train("--set", "engine.name=onnx", refused=True).stderr
    message = "the mxnet engine does not support crnn"
    assert message in world.train("--engine", "mxnet", refused=True).stderr
    for arguments in (
        ["evaluate"],
        ["export-typo", "--out", world.folder / "typo"],
        ["predict", world.image],
        ["lm", "tune", "--out", world.folder / "tuned.safetensors"],
    ):
        world.refuses(message, *arguments, *world.named, "--engine", "mxnet")


# --- a checkpoint, its config, its lines


@check("evaluate --checkpoint", "evaluate --config", "evaluate --set", "evaluate --split")
def _evaluate(world: World) -> None:
    path = world.file("c.yaml", f"data:\n  root: {world.drawn}\nevaluate:\n  worst: 1\n")
    report = world.report("--config", path, "--set", "evaluate.batch_size=3", "--split", "val")
    found = {key: report[key] for key in ("checkpoint", "split", "batch_size", "data")}
    assert found == {"checkpoint": str(world.model), "split": "val", "batch_size": 3, "data": str(world.drawn)}
    assert len(report["worst"]) == 1
    path = world.file("c.yaml", "image:\n  height: 99\n")
    for more in (["--config", path], ["--set", "image.height=99"]):
        world.refuses("image.height is 24, not 99", "evaluate", *world.named, *more)


elsewhere("test_evaluate_pages.py::test_lines_found_as_they_are_marked", "evaluate --pages")
elsewhere("test_evaluate_pages.py::test_a_broken_page_counts_and_the_others_are_read", "evaluate --segmenter")


@check("evaluate --json", "evaluate --picture", "evaluate --report")
def _reports(world: World) -> None:
    paths = {option: world.folder / f"r.{option}" for option in ("json", "picture", "report")}
    world.hwr("evaluate", *world.named, *(part for option, path in paths.items() for part in (f"--{option}", path)))
    starts = {option: path.read_bytes()[:8].strip().lower() for option, path in paths.items()}
    assert starts["json"].startswith(b"{")
    assert starts["picture"].startswith(b"\x89png")
    assert starts["report"].startswith(b"<!doctyp")
    for option in paths:
        world.refuses("no such folder", "evaluate", *world.named, f"--{option}", world.folder / "gone/file")


@check(
    "export-typo --checkpoint", "export-typo --config", "export-typo --set", "export-typo --split", "export-typo --out"
)
def _typo(world: World) -> None:
    path = world.file("c.yaml", f"data:\n  root: {world.drawn}\n  test: [validationset1]\n")
    ids = world.pairs("--config", path, "--split", "test")
    assert ids != world.pairs("--config", path, "--split", "test", "--set", "data.test=[testset]")
    assert ids != world.pairs("--split", "test")
    world.refuses("gone.safetensors: no such file", "export-typo", "--checkpoint", "gone.safetensors", "--out", "x")


elsewhere("test_tune.py::test_n_best_does_not_change_the_pairs", "export-typo --n-best")


elsewhere("test_align_pages.py::test_lines_of_page_get_their_texts", "align pages", "align texts", "align --json")
elsewhere("test_align_pages.py::test_lines_of_images_are_found", "align --segmenter")
elsewhere("test_align_pages.py::test_a_table_to_train_on", "align --format", "align --out", "align --min-score")


@check("align --checkpoint", "align --config", "align --set", "align --engine")
def _align(world: World) -> None:
    text = world.file("text.txt", "a text")
    arguments = ["align", world.image, text, "--out", world.folder / "aligned"]
    world.refuses("gone.safetensors: no such file", *arguments, "--checkpoint", "gone.safetensors")
    path = world.file("c.yaml", "image:\n  height: 99\n")
    for more in (["--config", path], ["--set", "image.height=99"]):
        world.refuses("image.height is 24, not 99", *arguments, *world.named, *more)
    world.refuses("this command does not use decode.beam", *arguments, *world.named, "--set", "decode.beam=4")
    world.refuses("the mxnet engine does not support crnn", *arguments, *world.named, "--engine", "mxnet")


@check("predict inputs", "predict --checkpoint", "predict --config", "predict --set")
def _predict(world: World) -> None:
    world.refuses("gone.safetensors: no such file", "predict", world.image, "--checkpoint", "gone.safetensors")
    path = world.file("c.yaml", "image:\n  height: 99\n")
    for more in (["--config", path], ["--set", "image.height=99"]):
        world.refuses("image.height is 24, not 99", "predict", world.image, *world.named, *more)
    path = world.file("c.yaml", "decode:\n  temperature: 50\n")
    sure = [
        json.loads(world.hwr("predict", world.image, *world.named, "--json", *more).stdout)["confidence"]
        for more in ([], ["--config", path], ["--set", "decode.temperature=50"])
    ]
    assert sure[0] > sure[1] == sure[2]
    assert len(world.hwr("predict", world.image, world.image.parent, *world.named).stdout.splitlines()) > 1


# --- the decoder, of all commands that read


def texts(world: World, command: str, *more: object) -> list[str]:
    match command:
        case "evaluate":
            return [line["hypothesis"] for line in world.report(*more)["worst"]]
        case "export-typo":
            return [read for _, read in world.pairs("--split", "test", *more)]
    images = sorted((world.drawn / "lines").rglob("*.png"))[-7:]
    return world.hwr("predict", *images, *world.named, *more).stdout.splitlines()


READERS = ("evaluate", "export-typo", "predict")


@check(*(f"{command} --{option}" for command in READERS for option in ("decoder", "beam", "length-bonus")))
def _beam(world: World) -> None:
    def length(command: str, *more: object) -> int:
        return sum(map(len, texts(world, command, *more)))

    for command in READERS:
        plain, long = length(command), length(command, "--decoder", "beam", "--length-bonus", 6)
        assert long > plain
        assert length(command, "--decoder", "beam", "--beam", 1, "--length-bonus", 6) != long


@check(*(f"{command} --{option}" for command in READERS for option in ("lm", "lm-weight", "words", "unknown-penalty")))
def _language(world: World) -> None:
    words = world.file("words.txt", "jewel\n")
    world.file("text.txt", "zzzz zzzz\nzzzzz\n")
    lm = world.folder / "zzz.arpa"
    world.hwr("lm", "build", "--text", world.folder / "text.txt", "--order", 2, "--out", lm)
    for command in READERS:
        plain = texts(world, command)
        assert texts(world, command, "--lm", lm, "--lm-weight", 3) != plain
        assert texts(world, command, "--words", words, "--unknown-penalty", 20) != plain
        out = ["--out", world.folder / "typo"] if command == "export-typo" else []
        start = [command, *([world.image] if command == "predict" else []), *world.named, *out]
        gone = world.folder / "gone.txt"
        world.refuses("gone.txt", *start, "--lm", gone, "--lm-weight", 1)
        world.refuses("gone.txt", *start, "--words", gone, "--unknown-penalty", 1)
        world.refuses("needs", *start, "--lm-weight", 1)
        world.refuses("needs", *start, "--unknown-penalty", 1)


# Old names, hidden in the help.
for command in READERS:
    for option in ("insertion", "unknown"):
        elsewhere("test_tune.py::test_old_names_are_read_with_a_warning", f"{command} --{option}")


# --- predict


elsewhere("test_predict_pages.py::test_pages_are_read_line_by_line_where_the_segmenter_found_them", "predict --page")
elsewhere("test_predict_pages.py::test_line_page_and_segmenter_contradict", "predict --line", "predict --segmenter")


@check("predict --format", "predict --json", "predict --out", "predict --characters", "predict --min-confidence")
def _output(world: World) -> None:
    start = ["predict", world.image, *world.named]
    assert world.hwr(*start, "--format", "tsv").stdout.startswith("image\tline\ttext")
    out = world.folder / "read.jsonl"
    world.hwr(*start, "--json", "--characters", "--out", out, "--min-confidence", 1)
    line = json.loads(out.read_text())
    assert (line["text"], "characters" in line) == ("", True)
    assert "characters" not in json.loads(world.hwr(*start, "--format", "json").stdout)
    world.refuses("--json and --format tsv contradict", *start, "--json", "--format", "tsv")
    copy = Path(shutil.copy(world.image, world.folder / "copy.png"))
    world.hwr("predict", copy, *world.named, "--format", "page")  # beside the image
    again = ["predict", copy, *world.named, "--format", "page"]
    assert "1 page (1 of them before)" in world.hwr(*again).stderr
    world.refuses("copy.xml was written by another model or with other", *again, "--min-confidence", 1)
    for more in ([], ["--format", "tsv"], ["--format", "page", "--out", world.folder]):
        world.refuses("--characters: the ", *start, "--characters", *more)


elsewhere("test_archive.py::test_finished_pages_are_not_read_again", "predict --again")
elsewhere("test_archive.py::test_parts_of_the_files", "predict --part")


@check("predict --workers")
def _workers(world: World) -> None:

    asked: list[int | None] = []
    pool = processes.pool

    def counted(number: int | None, *more: Any) -> Any:
        asked.append(number)
        return pool(number, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "pool", counted)
        world.hwr("predict", world.image, *world.named, "--workers", 1)
    assert asked == [1]


# --- serve


@check(
    "serve folder",
    "serve --checkpoint",
    "serve --set",
    "serve --host",
    "serve --port",
    "serve --token",
    "serve --max-upload",
)
def _serve(world: World) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from hwr.serve import run

    asked: list[Any] = []
    folder = world.folder / "pages"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run", lambda *arguments: asked.extend(arguments))
        sets = ["--set", "train.epochs=2", "engine.threads=1", "decode.name=greedy"]
        net = ["--host", "0.0.0.0", "--port", 9, "--token", "x" * 16, "--max-upload", 3]
        world.hwr("serve", folder, *world.named, *sets, *net)
        world.hwr("serve", folder, "--set", "train={epochs: 2}", "--set", "engine={threads: 1}")
    reading, training = ["engine.threads=1", "decode.name=greedy"], ["train.epochs=2", "engine.threads=1"]
    assert asked[:8] == [folder, str(world.model), reading, training, "0.0.0.0", 9, "x" * 16, 3_000_000]
    assert asked[11:13] == [["engine={threads: 1}"], ["train={epochs: 2}", "engine={threads: 1}"]]
    world.refuses("--token: needs at least 16 characters", "serve", folder, "--token", "short")
    world.refuses("no such folder", "serve", world.folder / "gone", "--port", 0)
    world.refuses("this command does not use data.root", "serve", folder, "--set", "data.root=x")
    world.refuses("image.height is 24, not 99", "serve", folder, "--port", 0, *world.named, "--set", "image.height=99")
    world.refuses("choose another", "serve", folder, "--port", 0, "--host", "256.0.0.1")


# --- data, iam, lm


@check(
    "data summary path", "data summary --format", "data summary --config", "data summary --set", "data summary --json"
)
def _summary(world: World) -> None:
    found = json.loads(world.hwr("data", "summary", world.drawn, "--json", "--set", "data.test=[]").stdout)
    assert found != json.loads(world.hwr("data", "summary", world.drawn, "--json").stdout)
    world.refuses("gone.yaml", "data", "summary", world.drawn, "--config", "./gone.yaml")
    world.hwr("data", "summary", world.drawn, "--format", "page", refused=True)
    world.hwr("data", "summary", world.folder / "gone", refused=True)


elsewhere("test_formats.py::test_summary", "data summary --picture")
elsewhere(
    "test_formats.py::test_converted_datasets_are_read_back",
    "data convert path",
    "data convert out",
    "data convert --to",
)


@check("data convert --format", "data convert --set")
def _convert(world: World) -> None:
    start = ["data", "convert", world.drawn, world.folder / "out", "--to", "gt"]
    world.hwr(*start, "--format", "page", refused=True)
    world.refuses("unknown key data.rot", *start, "--set", "data.rot=1")
    assert not (world.folder / "out").exists()


@check("iam check --root", "iam check --images")
def _iam_check(world: World) -> None:
    damaged = world.folder / "iam"
    shutil.copytree(world.drawn, damaged)
    image = sorted((damaged / "lines").rglob("*.png"))[0]
    image.write_bytes(b"broken")
    said = [
        CliRunner().invoke(main, ["iam", "check", "--root", str(damaged), option]).output
        for option in ("--images", "--no-images")
    ]
    assert [image.name in text for text in said] == [True, False], said


elsewhere(
    "test_iam_download.py::test_parts_and_credentials_are_asked_for",
    *("iam download --root", "iam download --email", "iam download --password", "iam download --part"),
)
elsewhere("test_iam_download.py::test_archives_can_be_kept", "iam download --keep-archives")


@check("lm build --add-to", "lm build --share")
def _add_to(world: World) -> None:
    text, base = world.file("t.txt", "one two three\nfour five\n" * 20), world.folder / "base.bin"
    world.hwr("lm", "build", "--text", text, "--order", 3, "--out", base)
    added = [
        "lm",
        "build",
        "--text",
        world.file("u.txt", "".join(f"six {n}\n" for n in range(30))),
        "--out",
        world.folder / "m.arpa",
    ]
    assert "n-grams of 1 to 3" in (said := world.hwr(*added, "--add-to", base).output)
    assert "share of the new texts" in said
    assert "perplexity" in said
    said = world.hwr(*added, "--add-to", base, "--share", 0.25, "--order", 4).output
    assert "share of the new texts 0.25\n" in said
    assert "n-grams of 1 to 4" in said
    world.refuses("--share needs --add-to", *added, "--share", 0.25)
    world.refuses("--max-mb can't prune", *added[:-1], world.folder / "m.bin", "--add-to", base, "--max-mb", 1)
    world.refuses("stores no language model", *added, "--add-to", world.model)
    world.refuses("no bundled model", *added, "--add-to", "hwr-greek")


@check(*(f"lm build --{option}" for option in ("text", "order", "normalise", "max-mb", "out")))
def _build(world: World) -> None:
    text, out = world.file("t.txt", "one two three\nfour five\n"), world.folder / "m.arpa"
    assert "n-grams of 1 to 3" in world.hwr("lm", "build", "--text", text, "--order", 3, "--out", out).output
    assert out.read_text().count("-grams:") == 3
    form = [
        "lm",
        "build",
        "--text",
        world.file("nfc.txt", "\u00e9t\u00e9\n"),
        "--order",
        2,
        "--out",
        world.folder / "nfd.arpa",
    ]
    world.hwr(*form, "--normalise", "NFD")
    assert "\u0301" in (world.folder / "nfd.arpa").read_text(encoding="utf-8")
    world.refuses("--max-mb needs a .bin file", *form, "--max-mb", 1)
    world.refuses("no room", *form[:-1], world.folder / "m.bin", "--max-mb", 0.00001)
    world.refuses("must end in .arpa or .bin", "lm", "build", "--text", text, "--out", world.folder / "m.txt")
    world.refuses("gone.txt", "lm", "build", "--text", "gone.txt", "--out", out)
    world.refuses("--order 65: n-grams have at most 64", "lm", "build", "--text", text, "--order", 65, "--out", out)


elsewhere(
    "test_tune.py::test_the_best_weights_are_stored",
    *("lm tune --checkpoint", "lm tune --lm", "lm tune --beam", "lm tune --out"),
)
elsewhere("test_tune.py::test_options_of_the_decoder", "lm tune --words")


@check("lm tune --config", "lm tune --set")
def _tune(world: World) -> None:
    start = ["lm", "tune", *world.named, "--out", world.folder / "tuned.safetensors"]
    path = world.file("c.yaml", "image:\n  height: 99\n")
    for more in (["--config", path], ["--set", "image.height=99"]):
        world.refuses("image.height is 24, not 99", *start, *more)


# --- drawing, checkpoints


@check("synth --out", "synth --lines", "synth --writers", "synth --seed")
def _synth(world: World) -> None:
    def drawn(name: str, seed: int) -> list[bytes]:
        out = world.folder / name
        world.hwr("synth", "--out", out, "--lines", 9, "--writers", 4, "--seed", seed)
        return [path.read_bytes() for path in sorted((out / "lines").rglob("*.png"))]

    assert len(drawn("a", 1)) == 9
    assert drawn("b", 1) != drawn("c", 2)
    xml = "".join(path.read_text() for path in (world.folder / "a/xml").glob("*.xml"))
    assert len(set(re.findall(r'writer-id="([^"]*)"', xml))) == 4


@check("synth --fonts", "synth --text", "synth --processes")
def _synth_fonts(world: World) -> None:
    import matplotlib

    fonts, text = Path(matplotlib.get_data_path()) / "fonts/ttf", world.folder / "text.txt"
    text.write_text("the only words of this text\n" * 40, encoding="utf-8")
    size = ("--lines", 4, "--writers", 4)
    world.hwr("synth", "--out", world.folder / "f", *size, "--fonts", fonts, "--text", text, "--processes", 2)
    found = "".join(path.read_text() for path in (world.folder / "f/xml").glob("*.xml"))
    assert "the only words" in found
    world.refuses("--text", "synth", "--out", world.folder / "g", *size, "--fonts", fonts)
    world.refuses("--fonts", "synth", "--out", world.folder / "g", *size, "--text", text)
    world.refuses("--fonts", "synth", "--out", world.folder / "g", *size, "--processes", 2)


@check("synth --ink")
def _synth_ink(world: World) -> None:
    size = ("--lines", 4, "--writers", 4, "--processes", 1)
    world.hwr("synth", "--out", world.folder / "h", *size, "--ink", world.drawn)
    assert len(list((world.folder / "h/lines").rglob("*.webp"))) == 4
    world.refuses("--fonts", "synth", "--out", world.folder / "i", *size, "--ink", world.drawn, "--fonts", world.folder)


@check("augment --config", "augment --set", "augment --split", "augment --out", "augment --lines", "augment --times")
def _augment(world: World) -> None:
    from PIL import Image

    path = world.file("c.yaml", f"data:\n  root: {world.drawn}\nimage:\n  height: 30\n  width: 300\n")

    def sheet(*more: object) -> np.ndarray:
        out = world.folder / "sheet.png"
        world.hwr("augment", "--config", path, "--out", out, *more)
        with Image.open(out) as image:
            return np.array(image)

    usual = sheet("--lines", 2, "--times", 2)
    assert sheet("--lines", 3, "--times", 2).shape != usual.shape
    assert sheet("--lines", 2, "--times", 3).shape != usual.shape
    for more in (["--split", "test"], ["--set", "augment.shear=0.1"]):
        assert not np.array_equal(sheet("--lines", 2, "--times", 2, *more), usual)
    world.refuses("no such folder", "augment", "--config", path, "--out", world.folder / "gone/sheet.png")
    # As in training, no line becomes too narrow for its text: here 10 letters and 2 spaces, and 4 pixels a time step.
    Image.new("L", (60, 48), 200).save(world.folder / "line.png")
    table = world.file("lines.csv", "image,text,split\nline.png,abcdefghij,train\n")
    narrow = ["--times", 30, "--set", f"data.root={table}", "image.straighten=false"]
    narrow += ["--set", "augment={p: 1, scale: 0.9}"]
    world.hwr("augment", "--config", "lines_cpu", "--out", world.folder / "sheet.png", *narrow)
    with Image.open(world.folder / "sheet.png") as image:
        widths = (np.array(image)[24::50] != 128).sum(1)
    assert len(widths) == 31
    assert min(widths) >= 48


elsewhere("test_cli.py::test_a_bare_params_of_words_is_described_and_exported", "info --config", "export --config")


@check("info checkpoint", "info --json")
def _info(world: World) -> None:
    assert json.loads(world.hwr("info", world.model, "--json").stdout)["file"] == str(world.model)
    assert not world.hwr("info", world.model).stdout.startswith("{")


@check("export checkpoint", "export --format", "export --out", "export --quantize")
def _export(world: World) -> None:
    sizes = []
    for name, more in (("a", []), ("b", ["--quantize", "fp16"])):
        out = world.folder / f"{name}.safetensors"
        world.hwr("export", world.model, "--format", "safetensors", "--out", out, *more)
        sizes.append(out.stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    world.refuses("params", "export", world.model, "--format", "params", "--out", world.folder / "a.params")
    world.hwr("export", world.model, "--format", "torchscript", "--quantize", "fp16", refused=True)


@pytest.mark.parametrize("checked", list(dict.fromkeys(CHECKS.values())), ids=lambda x: getattr(x, "__name__", x))
def test_every_option_is_obeyed_or_refused(checked: Check | str, world: World) -> None:
    pytest.importorskip("torch")
    if isinstance(checked, str):
        file, _, name = checked.partition("::")
        assert re.search(rf"^def {name}\(", (REPOSITORY / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)
    else:
        checked(world)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "a.png", "--out", "-"),
        ("predict", "a.png", "--out=-"),
        ("train", "--config", "lines_cpu", "--out", "-"),
        ("synth", "--out", "-"),
        ("lm", "build", "--text", "a.txt", "--out", "-"),
        ("export", "hwr-latin", "--format", "onnx", "--out", "-"),
        ("augment", "--config", "lines_cpu", "--out", "-"),
        ("evaluate", "--checkpoint", "hwr-latin", "--report", "-"),
        ("align", "a.png", "a.txt", "--out", "-"),
    ],
)
def test_standard_output_is_no_name_of_a_file(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "a file of this name is ./-" in done.output
