"""The real commands, on synthetic lines."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwr import checkpoint, config, data, engines, gluon_params
from hwr.cli import main
from hwr.loading import settings_for

from .conftest import REPOSITORY, TINY


def hwr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


@pytest.fixture(scope="module")
def trained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `hwr train` with a tiny network."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    result = hwr(
        "train", "--config", REPOSITORY / "configs/iam_line.yaml", *sets(*TINY, f"data.root={drawn}"), "--out", out
    )
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"Next: hwr evaluate --checkpoint {out}/best.safetensors\n")
    return out


def test_evaluate_writes_the_documented_json(trained: Path, drawn: Path, tmp_path: Path) -> None:
    file, picture = tmp_path / "report.json", tmp_path / "lines.png"
    result = hwr("evaluate", "--checkpoint", trained / "best.safetensors", "--json", file, "--picture", picture)
    assert result.exit_code == 0, result.output
    assert "test of drawn, 7 lines" in result.output
    report: dict[str, Any] = json.loads(file.read_text())
    keys = [
        "split",
        "lines",
        "characters",
        "edits",
        "cer",
        "wer",
        "cer_mean_per_line",
        "cer_casefold",
        "wer_punct",
        "cer_ci95",
        "ctc_loss",
        "ctc_loss_weighted",
        "lines_per_second",
        "engine",
        "device",
        "checkpoint",
        "worst",
    ]
    assert not [key for key in keys if key not in report]
    explained = (REPOSITORY / "docs/evaluation.md").read_text(encoding="utf-8")
    assert not [key for key in report if f"`{key}`" not in explained]
    assert (report["split"], report["split_name"], report["lines"]) == ("test", "drawn", 7)
    assert report["cer"] == pytest.approx(report["edits"] / report["characters"])
    assert report["ctc_loss_weighted"] == pytest.approx(0.2 * report["ctc_loss"])
    low, high = report["cer_ci95"]
    assert low <= report["cer"] <= high
    assert [line["edits"] for line in report["worst"]] == sorted(
        (line["edits"] for line in report["worst"]), reverse=True
    )
    assert sum(line["edits"] for line in report["worst"]) == report["edits"]  # seven lines are all listed
    texts = {line.id: line.text for line in data.read(config.Data(root=str(drawn))).test}
    assert {line["id"]: line["reference"] for line in report["worst"]} == texts
    with Image.open(picture) as sheet:
        assert sheet.size[0] > 300


def test_evaluate_refuses_outputs_that_can_not_be_written(trained: Path, tmp_path: Path) -> None:
    start = ["evaluate", "--checkpoint", trained / "best.safetensors"]
    assert "is a folder; name a file" in hwr(*start, "--report", tmp_path).stderr
    same = ["--report", tmp_path / "x.html", "--picture", tmp_path / "x.html"]
    assert "is named for two outputs" in hwr(*start, *same).stderr
    assert not (tmp_path / "x.html").exists()


def test_evaluate_takes_a_bare_params(trained: Path, drawn: Path, tmp_path: Path) -> None:
    """Sizes come from the shapes, and the image size from --set, because the default is the original's 60 x 800."""
    native = checkpoint.load(trained / "best.safetensors")
    gluon_params.write(tmp_path / "line.params", native.weights)
    reports = []
    for path, more in (
        (trained / "best.safetensors", []),
        (
            tmp_path / "line.params",
            sets(f"data.root={drawn}", "image.height=32", "image.width=320", "engine.threads=1"),
        ),
    ):
        result = hwr("evaluate", "--checkpoint", path, *more, "--split", "val", "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.output
        reports.append(json.loads((tmp_path / "r.json").read_text()))
    assert reports[0]["edits"] == reports[1]["edits"]
    assert reports[0]["ctc_loss"] == pytest.approx(reports[1]["ctc_loss"], rel=1e-5)
    wrong = hwr("evaluate", "--checkpoint", tmp_path / "line.params", *sets(f"data.root={drawn}"))
    assert wrong.exit_code == 2
    assert "trained on another image size than 60 x 800; name its config with --config" in wrong.output


def test_a_bare_params_of_words_is_described_and_exported(tmp_path: Path) -> None:
    """Its image size, 30 x 140, is in the recipe only."""
    network = ["model.hidden=8", "model.layers=1", "model.pretrained=none"]
    words = config.load("iam_word", network)
    path, out = tmp_path / "words.params", tmp_path / "words.safetensors"
    gluon_params.write(path, engines.trainer(words, 81).weights())
    for command in (["info"], ["export", "--format", "safetensors"]):
        assert "than 60 x 800; name its config with --config" in hwr(*command, path).stderr
    assert "height 30, width 140" in hwr("info", path, "--config", "iam_word").stdout
    assert hwr("export", path, "--config", "iam_word", "--format", "safetensors").exit_code == 0
    loaded = checkpoint.load(out)
    assert (loaded.config.image, loaded.config.model) == (words.image, words.model)
    assert "height 30, width 140" in hwr("info", out).stdout
    for command in (["info"], ["export", "--format", "safetensors", "--out", tmp_path / "b.safetensors"]):
        refused = hwr(*command, out, "--config", "iam_word")
        assert (refused.exit_code, "words.safetensors has its own" in refused.stderr) == (2, True)


def test_evaluate_with_another_config_keeps_the_network(trained: Path, drawn: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"data:\n  root: {drawn}\n  test: [validationset1]\nevaluate:\n  worst: 1\n")
    result = hwr(
        "evaluate", "--checkpoint", trained / "best.safetensors", "--config", other, "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "r.json").read_text())["worst"]) == 1
    result = hwr("evaluate", "--checkpoint", trained / "best.safetensors", *sets("model.hidden=4"))
    assert result.exit_code == 2
    assert "--set model.hidden=4: the network belongs to the checkpoint" in result.output


def test_a_checkpoint_reads_on_any_machine(trained: Path, drawn: Path, tmp_path: Path) -> None:
    """The training machine's device, threads and bf16 are not used elsewhere."""
    loaded, path = checkpoint.load(trained / "best.safetensors"), tmp_path / "elsewhere.safetensors"
    engine = loaded.config.engine.model_copy(update={"device": "cuda:7", "threads": 1, "precision": "bf16"})
    checkpoint.save(path, dataclasses.replace(loaded, config=loaded.config.model_copy(update={"engine": engine})))
    _, settings = settings_for(path)
    assert settings.engine.model_dump() == {"name": "auto", "device": "auto", "threads": None, "precision": "auto"}
    _, settings = settings_for(path, None, ("engine.device=cuda:7", "engine.precision=bf16"))
    assert (settings.engine.device, settings.engine.precision) == ("cuda:7", "bf16")


def test_characters_that_the_network_cannot_write_are_counted(trained: Path, drawn: Path, tmp_path: Path) -> None:
    root = tmp_path / "drawn"
    shutil.copytree(drawn, root)
    line = data.read(config.Data(root=str(root))).test[0]
    path = (
        root / line.source.rsplit(":", 1)[0]
        if not Path(line.source).is_absolute()
        else Path(line.source.rsplit(":", 1)[0])
    )
    text = path.read_text(encoding="utf-8")
    first = text.index('text="', text.index(f'"{line.id}"')) + len('text="')
    path.write_text(text[:first] + "é" + text[first:], encoding="utf-8")
    run = ("--checkpoint", trained / "best.safetensors")
    result = hwr("evaluate", *run, *sets(f"data.root={root}"), "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["without_loss"] == [line.id]
    others = hwr("evaluate", *run, *sets(f"data.root={root}", f"data.exclude=[{line.id}]"), "--json", "-")
    assert report["ctc_loss"] == pytest.approx(json.loads(others.stdout)["ctc_loss"])  # of the lines that have one
    assert report["lines"] == 7
    assert "without loss" in result.output


@pytest.mark.parametrize("command", ["export-typo", "export-typo-dataset"])
def test_export_typo(trained: Path, drawn: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "typo"
    result = hwr(command, "--checkpoint", trained / "best.safetensors", "--out", out)
    assert result.exit_code == 0, result.output
    dataset = data.read(config.Data(root=str(drawn)))
    pairs = json.loads((out / "validating.json").read_text(encoding="utf-8"))
    assert [reference for reference, _ in pairs] == [line.text for line in dataset.val]
    assert all(isinstance(prediction, str) for _, prediction in pairs)
    assert (out / "text_train.txt").read_text(encoding="utf-8").splitlines() == [line.text for line in dataset.train]
    hwr(command, "--checkpoint", trained / "best.safetensors", "--out", out, "--split", "test")
    pairs = json.loads((out / "validating.json").read_text(encoding="utf-8"))
    assert [reference for reference, _ in pairs] == [line.text for line in dataset.test]


def test_a_file_in_place_of_a_folder_is_named(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    below = f"{tmp_path / 'taken/below'}: the folder could not be made: Not a directory"
    typo, train = ["export-typo", "--checkpoint", "hwr-latin"], ["train", "--config", REPOSITORY / "configs/demo.yaml"]
    for arguments, out, said in (
        (typo, "taken", f"{tmp_path / 'taken'} is a file, and a folder is needed; name another folder"),
        (typo, "taken/below", below),
        (train, "taken/below", below),
    ):
        done = hwr(*arguments, *sets(f"data.root={drawn}"), "--out", tmp_path / out)
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "taken").read_text() == "a file"


def test_predict_and_evaluate_give_the_same_texts(trained: Path, drawn: Path, tmp_path: Path) -> None:
    hwr("export-typo", "--checkpoint", trained / "best.safetensors", "--split", "test", "--out", tmp_path)
    pairs = json.loads((tmp_path / "validating.json").read_text())
    images = [line.image for line in data.read(config.Data(root=str(drawn))).test]
    result = hwr("predict", "--checkpoint", trained / "best.safetensors", *images)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [prediction for _, prediction in pairs]
    result = hwr(
        "predict", "--checkpoint", trained / "best.safetensors", "--json", *images, *sets("evaluate.batch_size=3")
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["text"] for line in lines] == [prediction for _, prediction in pairs]
    assert [line["image"] for line in lines] == [str(image) for image in images]
    assert all(0 <= line["confidence"] <= 1 for line in lines)


def test_predict_reports_broken_images_and_continues(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 500), np.uint8))
    grey.save(folder / "a.png")
    grey.convert("RGBA").save(folder / "b.webp")
    grey.convert("RGB").save(folder / "sub/c.jpg")
    grey.convert("1").save(folder / "d.tif")
    (folder / "e.png").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no image")
    result = hwr("predict", "--checkpoint", trained / "best.safetensors", folder, tmp_path / "gone.png", "--json")
    assert result.exit_code == 1
    names = [Path(json.loads(line)["image"]).name for line in result.stdout.splitlines()]
    assert names == ["a.png", "b.webp", "d.tif", "c.jpg"]
    assert "e.png: damaged, or not an image" in result.stderr
    assert "gone.png: no such file" in result.stderr
    assert "2 of 6 pages could not be read" in result.stderr
    (tmp_path / "empty").mkdir()
    result = hwr("predict", "--checkpoint", trained / "best.safetensors", tmp_path / "empty")
    assert result.exit_code == 2
    assert "no PAGE or ALTO files in this folder" in result.stderr


def test_synth(tmp_path: Path) -> None:
    result = hwr("synth", "--out", tmp_path / "d", "--lines", 20, "--writers", 4, "--seed", 3)
    assert result.exit_code == 0, result.output
    dataset = data.read(config.Data(root=str(tmp_path / "d")))
    assert len(dataset.lines) == 20
    result = hwr("synth", "--out", tmp_path / "d")
    assert result.exit_code == 2
    assert str(tmp_path / "d") in result.output


def test_one_set_option_takes_several_pairs(trained: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    more = ["--set", "evaluate.worst=2", "evaluate.batch_size=3", "--set", "evaluate.bootstrap=9"]
    result = hwr("evaluate", *more, "--checkpoint", trained / "best.safetensors", "--json", report)
    assert result.exit_code == 0, result.output
    assert len(json.loads(report.read_text())["worst"]) == 2
    assert json.loads(report.read_text())["batch_size"] == 3


def test_errors_are_one_message_without_a_traceback(trained: Path, tmp_path: Path) -> None:
    for arguments in (
        ["train", "--config", "nowhere.yaml"],
        ["train", "--config", REPOSITORY / "configs/iam_line.yaml", "--set", "train.epoch=1"],
        [
            "train",
            "--config",
            REPOSITORY / "configs/iam_line.yaml",
            "--set",
            f"data.root={tmp_path / 'gone'}",
            "--out",
            tmp_path / "r",
        ],
        ["evaluate", "--checkpoint", "nowhere.params"],
        ["evaluate", "--checkpoint", trained / "best.safetensors", "--set", "data.unit=form"],
        ["evaluate", "--checkpoint", "nowhere.safetensors"],
        ["predict", "--checkpoint", "nowhere.safetensors", "x.png"],
    ):
        result = hwr(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith("hwr: ")
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "r").exists()  # a run that could not start leaves nothing behind


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    assert "_HWR_COMPLETE" in hwr("completion", shell).output
    variables = {
        "_HWR_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "hwr eval",
        "COMP_CWORD": "eval" if shell == "fish" else "1",
    }
    command = [sys.executable, "-c", "from hwr.cli import main; main(prog_name='hwr')"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)
    assert "evaluate" in done.stdout


def test_help_has_examples() -> None:
    commands = sorted(main.commands)
    assert {"train", "evaluate", "export-typo", "export-typo-dataset", "predict", "synth", "iam"} <= set(commands)
    for command in commands:
        text = hwr(command, "--help").output
        assert "Examples:" in text or command in ("data", "iam", "lm"), command
    for group, command in (
        *(("data", "summary"), ("data", "convert")),
        *(("iam", "download"), ("iam", "check"), ("lm", "build"), ("lm", "tune")),
    ):
        assert "Examples:" in hwr(group, command, "--help").output


def test_the_networks_own_keys_cannot_be_set(trained: Path, drawn: Path, tmp_path: Path) -> None:
    gluon_params.write(tmp_path / "line.params", checkpoint.load(trained / "best.safetensors").weights)
    file = REPOSITORY / "configs/iam_line.yaml"
    for arguments in (
        [trained / "best.safetensors", "--set", "image.height=40"],
        [trained / "best.safetensors", "--config", file, "--set", "model.hidden=4", f"data.root={drawn}"],
        [tmp_path / "line.params", *sets("image.height=32", "image.width=320", "model.hidden=7")],
    ):
        result = hwr("evaluate", "--checkpoint", *arguments)
        assert result.exit_code == 2, arguments
        assert "belongs to the checkpoint and can't be changed" in result.stderr


def test_notes_on_the_data_are_in_every_report(trained: Path, tmp_path: Path) -> None:
    choosing_on_test = ["--set", "data.val=[testset]"]
    result = hwr(
        "evaluate", "--checkpoint", trained / "best.safetensors", *choosing_on_test, "--json", tmp_path / "r.json"
    )
    assert "WARNING" in result.output
    assert "WARNING" in " ".join(json.loads((tmp_path / "r.json").read_text())["notes"])
    result = hwr("export-typo", "--checkpoint", trained / "best.safetensors", *choosing_on_test, "--out", tmp_path)
    assert "WARNING" in result.stderr


def test_json_on_screen(trained: Path) -> None:
    result = hwr("evaluate", "--checkpoint", trained / "best.safetensors", "--json", "-")
    assert json.loads(result.stdout)["lines"] == 7


def test_folders_are_searched_recursively(trained: Path, tmp_path: Path) -> None:
    scans, elsewhere = tmp_path / "scans", tmp_path / "elsewhere"
    elsewhere.mkdir()
    scans.mkdir()
    Image.new("L", (50, 20), 255).save(elsewhere / "a.PNG")
    (elsewhere / "readme.txt").touch()
    (scans / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(scans)
    result = hwr("predict", "--checkpoint", trained / "best.safetensors", "--json", scans)
    assert result.exit_code == 0
    assert [json.loads(line)["image"] for line in result.stdout.splitlines()] == [str(scans / "linked/a.PNG")]
    assert "1 other file " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", ""],
        ["data", "summary", ""],
        ["train", "--config", "finetune", "--init", ""],
        ["train", "--config", "finetune", "--init="],
        ["lm", "tune", "--checkpoint", "hwr-latin", "--out", "x.safetensors", "--lm", ""],
    ],
)
def test_an_empty_argument_is_refused(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set, in quotes: it was the current folder, or as if the option were not given."""
    monkeypatch.chdir(tmp_path)
    done = hwr(*arguments)
    assert done.exit_code == 2
    assert "an argument is empty" in done.stderr
    assert not list(tmp_path.iterdir())


def test_shares_of_a_config_and_of_set_are_checked_together(tmp_path: Path) -> None:
    for n in range(20):
        Image.new("L", (60, 20), 200).save(tmp_path / f"{n}.png")
        (tmp_path / f"{n}.gt.txt").write_text("text")
    (tmp_path / "c.yaml").write_text("data:\n  val_share: 0.05\n  test_share: 0.05\n")
    done = hwr("data", "summary", tmp_path, "--config", tmp_path / "c.yaml", "--set", "data.val_share=0.95", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["train"] == 0
    done = hwr("data", "summary", tmp_path, "--set", "data={root: x}")
    assert "give the dataset as PATH only" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["predict", "x.png", "--set", "train.lr=5"], "train.lr"),
        (["predict", "x.png", "--set", "data.root=x"], "data.root"),
        (["predict", "x.png", "--set", "data.images=x", "self_training.most=1"], "self_training"),
        (["predict", "x.png", "--set", "augment={p: 0}"], "augment"),
        (["evaluate", "--checkpoint", "hwr-latin", "--set", "train.lr=1e-3"], "train.lr"),
        (["export-typo", "--checkpoint", "hwr-latin", "--out", "x", "--set", "augment.p=0"], "augment.p"),
        (["lm", "tune", "--checkpoint", "hwr-latin", "--out", "x.safetensors", "--set", "train.lr=5"], "train.lr"),
        (
            ["lm", "tune", "--checkpoint", "hwr-latin", "--out", "x.safetensors", "--set", "decode.beam=3"],
            "decode.beam",
        ),
        (["lm", "tune", "--checkpoint", "hwr-latin", "--out", "x.safetensors", "--beam", "7"], "--beam"),
        (["augment", "--out", "x.png", "--set", "decode.beam=3"], "decode.beam"),
        (["data", "summary", ".", "--set", "train.lr=5"], "train.lr"),
        (["data", "convert", ".", "x", "--to", "gt", "--set", "image.height=5"], "image.height"),
    ],
)
def test_a_key_that_a_command_does_not_use_is_refused(arguments: list[str], key: str) -> None:
    done = hwr(*arguments)
    assert done.exit_code == 2
    assert key in done.stderr
    assert "does not use" in done.stderr or "needs --lm" in done.stderr or "tuning finds" in done.stderr
