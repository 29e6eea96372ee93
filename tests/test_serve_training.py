"""Training from the workbench: lines held back, the process, the verdict, resuming."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwr import Error, config, data
from hwr.evaluation import metrics
from hwr.serve.project import edits, held_back
from hwr.serve.project.database import Job
from hwr.serve.training import lines, train
from hwr.serve.training.models import BASE
from hwr.serve.workbench import Workbench

from . import serve_pages

pytestmark = pytest.mark.once

SETTINGS = ["engine.device=cpu", "engine.threads=1"]


def keys(pages: int, lines: int) -> list[tuple[str, str]]:
    return [(f"p{i}", f"l{j}") for i in range(pages) for j in range(lines)]


def held(decided: dict[str, bool], lines: list[tuple[str, str]]) -> set[tuple[str, str]]:
    return {pair for pair in lines if held_back.is_held_back(decided, *pair)}


def test_a_fifth_is_held_back_and_stays_so() -> None:
    few = keys(2, 10)
    decided = held_back.assign({}, few)
    first = held(decided, few)
    assert len(first) == 4
    assert held_back.assign(decided, few) == decided
    more = keys(2, 30)
    later = held_back.assign(decided, more)
    assert held(later, few) == first
    assert len(held(later, more)) == 12


def test_of_many_pages_whole_ones_are_held_back() -> None:
    few, many = keys(2, 10), keys(12, 10)
    decided = held_back.assign(held_back.assign({}, few), many)
    new = {pair for pair in held(decided, many) if pair not in few}
    pages = {page for page, _ in new}
    assert 18 <= len(held(decided, many)) <= 36
    assert new == {pair for pair in many if pair[0] in pages}  # whole pages
    assert not pages & {"p0", "p1"}  # lines of these were trained on
    assert held(decided, few) == held(held_back.assign({}, few), few)


def test_merged_lines_are_held_back_if_a_part_was() -> None:
    decided = {"p/l1": True, "p/l2": False, "q": True, "q/l1": False}
    assert held_back.merge(decided, "p", ["l2", "l1"]) == {**decided, "p/l2": True}
    assert held_back.merge(decided, "p", ["l3", "l2"]) == {**decided, "p/l3": False}  # a part was trained on
    assert held_back.merge(decided, "p", ["l3", "l4"]) == decided  # no part was in a training
    assert held_back.merge(decided, "q", ["l1", "l2"]) == {**decided, "q/l1": True}


def test_the_parts_of_a_split_line_have_its_decision() -> None:
    decided = {"p/l1": True, "p/l2": False, "q": False}
    assert held_back.split(decided, "p", "l1", "new") == {**decided, "p/new": True}
    assert held_back.split(decided, "p", "l2", "new") == {**decided, "p/new": False}
    assert held_back.split(decided, "q", "l1", "new") == decided  # its page decides
    # A deleted line had the id of the second part.
    assert held_back.split({**decided, "q/new": True}, "q", "l1", "new") == decided
    assert held_back.split({**decided, "p/new": True}, "p", "l2", "new") == {**decided, "p/new": False}


def test_the_gain_has_an_interval_over_the_same_lines() -> None:
    references = ["abcdefghij"] * 40
    before = metrics.score(references, ["abcdefghi"] * 40)
    after = metrics.score(references, ["abcdefghij"] * 20 + ["abcdefghi"] * 20)
    gained, low, high = train.gain(before, after)
    assert gained == pytest.approx(0.05)
    assert 0.02 < low < gained < high < 0.08


@pytest.fixture
def bench(model: Path, drawn: Path, tmp_path: Path) -> Iterator[Workbench]:
    """A project with 24 corrected lines on three pages, whose texts the model can't know, and four lines without text."""
    folder = tmp_path / "project"
    folder.mkdir()
    lines = serve_pages.lines_of(drawn)[:24]
    for i in range(3):
        own = lines[8 * i : 8 * i + 8]
        serve_pages.write(folder / f"{i}.png", own, [line.text for line in own])
    serve_pages.draw(folder / "open.png", lines[:2])
    serve_pages.write(folder / "unread.png", lines[2:6])
    found = Workbench(folder, str(model), SETTINGS, [*SETTINGS, "train.epochs=3", "augment.p=0"], find=serve_pages.find)
    yield found
    found.close()


def accept(bench: Workbench) -> None:
    for page in bench.project.pages():
        if page.lines:
            edits.check_all(bench.project, page.id, page.revision)


def ended(bench: Workbench, id: int) -> Job:
    for _ in range(1200):
        job = bench.jobs.get(id)
        if job.state not in ("waiting", "running"):
            return job
        time.sleep(0.1)
    raise AssertionError(job)


def test_the_model_that_a_folder_began_with_is_remembered(model: Path, tmp_path: Path) -> None:
    folder, mine = tmp_path / "letters", tmp_path / "mine.safetensors"
    folder.mkdir()
    mine.write_bytes(model.read_bytes())
    Workbench(folder, os.path.relpath(mine), SETTINGS).close()
    again = Workbench(folder, None, SETTINGS)
    assert (Path(again.models.base), again.models.current) == (mine, BASE)
    again.close()
    mine.unlink()
    with pytest.raises(
        Error, match=r"mine\.safetensors: the model that this folder began with is gone; .*--checkpoint"
    ):
        Workbench(folder, None, SETTINGS)
    Workbench(folder, str(model), SETTINGS).close()


def test_strange_files_do_not_disturb_the_names_of_models(bench: Workbench) -> None:
    models = bench.models
    assert models.new_name() == "model-1"
    models.folder.mkdir(exist_ok=True)
    for name in ("model-2.json", "model-10.safetensors", "model-11 (copy).json", "model-x.json", "model-12.json~"):
        (models.folder / name).write_text("{}", encoding="utf-8")
    assert models.new_name() == "model-11"


def test_too_few_lines_are_refused(bench: Workbench) -> None:
    with pytest.raises(Error, match="at least 5 corrected lines; there are 0"):
        bench.start_training(None)


def test_the_fewest_lines_are_divided_too(bench: Workbench) -> None:
    page = bench.project.pages()[0]
    for line in page.lines[:5]:
        edits.set_text(bench.project, page.id, line.id, line.text, True, line.revision)
    assert len(lines.corrected(bench.project)) == 5  # others have texts, but nobody has checked them
    divided = lines.divide(bench.project)
    assert (len(divided.train), len(divided.val), len(divided.test)) == (3, 1, 1)
    assert len({line.id for part in (divided.train, divided.val, divided.test) for _, line in part}) == 5


def test_no_part_of_a_held_back_line_is_trained_on(bench: Workbench) -> None:
    accept(bench)
    divided = lines.divide(bench.project)
    for page, line in (divided.test[0], divided.train[0]):
        middle = sum(x for x, _ in line.polygon) / len(line.polygon)
        edits.split(bench.project, page.id, line.id, middle, 3, bench.project.page(page.id).revision)
    again = lines.divide(bench.project)
    assert (len(again.test), len(again.train) + len(again.val)) == (6, 20)
    page, line = again.test[0]
    others = [own for one, own in (*again.train, *again.val) if one.id == page.id]
    edits.merge(bench.project, page.id, [line.id, others[0].id], bench.project.page(page.id).revision)
    merged = lines.divide(bench.project)
    assert (len(merged.test), len(merged.train) + len(merged.val)) == (6, 19)


def test_damaged_decisions_are_set_aside(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    accept(bench)
    lines.divide(bench.project)
    path = bench.project.hidden / held_back.NAME
    for damaged in (path.read_bytes()[:-20], b"[]"):
        path.write_bytes(damaged)
        assert len(lines.divide(bench.project).test) == 5
        assert path.with_name("held_back.json.damaged").read_bytes() == damaged
        assert "held_back.json: damaged, and now called held_back.json.damaged" in capsys.readouterr().err


def test_texts_that_no_training_takes_are_skipped_and_named(bench: Workbench, drawn: Path, tmp_path: Path) -> None:
    odd = ["amount\t12", "first half\nsecond half", "he wrote שלום"]
    serve_pages.write(bench.project.root / "odd.png", serve_pages.lines_of(drawn)[:3], odd)
    accept(bench)
    out = tmp_path / "lines"
    lines.write(lines.divide(bench.project), bench.reader.recognizer, out)
    skipped = sorted(json.loads((out / "skipped.json").read_text(encoding="utf-8")))
    assert [one.partition(": ")[0] for one in skipped] == ["odd.png"] * 3
    assert "line l1: its text contains the control character U+0009" in skipped[0]
    assert "line l2: its text contains the control character U+000A" in skipped[1]
    assert "line l3: text from right to left" in skipped[2]
    dataset = data.read(config.load(None, [f"data.root={out}", "data.format=gt"]).data)
    assert len(dataset.lines) == 24


def test_unchecked_lines_are_spread_evenly_and_the_settings_decide(bench: Workbench) -> None:
    accept(bench)
    assert [page.name for page, _ in lines.unchecked(bench.project, 300)] == ["unread.png"] * 4
    assert [line.id for _, line in lines.unchecked(bench.project, 2)] == ["l1", "l3"]
    models, data = bench.models, bench.project.hidden / "lines"
    counts = {"train": 3, "unchecked": 4}
    assert (train._most(models, train.FEW), train._most(models, train.FEW + 1)) == (300, 0)
    models.training.append("self_training.most=5")
    assert train._most(models, train.FEW + 1) == 5
    assert train._overrides(models, data, counts, None)[-1] == "self_training.most=5"
    assert f"self_training.unlabelled={data.parent / train.UNCHECKED}" in train._overrides(models, data, counts, None)
    without = train._overrides(models, data, {**counts, "unchecked": 0}, None)
    assert not [key for key in without if key.startswith("self_training")]
    models.training.append("self_training.unlabelled=null")
    assert train._most(models, 5) == 0


def test_self_training_takes_no_line_that_is_held_back(bench: Workbench) -> None:
    """Neither one of a page that judges trainings, which somebody may correct later, nor one that was corrected once."""
    accept(bench)
    page, line = lines.divide(bench.project).test[0]
    edits.set_text(bench.project, page.id, line.id, line.text, False, line.revision)
    assert [page.name for page, _ in lines.unchecked(bench.project, 300)] == ["unread.png"] * 4
    (unread,) = {page.id for page, _ in lines.unchecked(bench.project, 300)}
    held_back.update(bench.project.hidden, lambda known: {**known, unread: True})
    assert lines.unchecked(bench.project, 300) == []


def test_a_training_is_stopped_resumed_and_judged(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LEAST_UNCHECKED", 4)
    accept(bench)
    before = [page.lines for page in bench.project.pages()]
    job = bench.start_training(None)
    with pytest.raises(Error, match="a training runs already"):
        bench.start_training(None)
    while not bench.jobs.get(job.id).progress.get("epochs"):
        assert bench.jobs.get(job.id).state in ("waiting", "running")
        time.sleep(0.05)
    bench.jobs.stop(job.id)
    stopped = ended(bench, job.id)
    run = bench.project.hidden / f"runs/job-{job.id}"
    if stopped.state == "stopped":  # else it was faster
        assert list(run.rglob("state.safetensors"))
        bench.jobs.resume(job.id)
        stopped = ended(bench, job.id)
    assert stopped.state == "done", stopped.error
    model = stopped.progress["model"]
    assert (model["lines"], model["held_back"]) == (19, 5)
    assert model["accepted"] == (model["after"][0] < model["before"][0])
    assert bench.models.current == bench.reader.name == ("model-1" if model["accepted"] else BASE)
    assert stopped.progress["unchecked"] == 4
    assert len(stopped.progress["epochs"]) == 3 + 3  # of both rounds
    assert not run.exists()
    if "reading" in stopped.progress:
        ended(bench, stopped.progress["reading"])
    assert [page.lines for page in bench.project.pages()][:3] == before[:3]  # checked lines stay
    bench.use_model("model-1", reread=False)
    assert bench.reader.name == "model-1"
    bench.use_model(BASE, reread=False)
    assert bench.models.current == BASE
    assert bench.models.trained()[0].name == "model-1"


def test_a_new_training_takes_nothing_from_a_lost_one(bench: Workbench) -> None:
    accept(bench)
    left = bench.project.hidden / "runs" / "job-1"  # of the first job in a database that is gone
    for part in ("train", "val", "test"):
        (left / "lines" / part).mkdir(parents=True)
    (left / "lines/skipped.json").write_text('["an old line"]', encoding="utf-8")
    bench.models.training.append("train.lr=1e9")  # ends it soon
    bench.models.training.append("train.clip=1e9")
    job = ended(bench, bench.start_training(None).id)
    assert job.id == 1
    assert (job.progress["train"], job.progress["skipped"]) == (17, [])


def test_a_training_says_which_settings_differ(bench: Workbench) -> None:
    accept(bench)
    bench.models.training.append("train.lr=1e9")
    bench.models.training.append("train.clip=1e9")
    job = ended(bench, bench.start_training(None).id)
    bench.models.training[-2:] = ["train.lr=0.001", "train.clip=2"]
    bench.jobs.resume(job.id)
    error = ended(bench, job.id).error
    assert "can't be resumed with a different config. These keys differ:\ntrain.lr: " in error
    assert "\ntrain.clip: " in error


def test_a_training_that_fails_says_why(bench: Workbench) -> None:
    accept(bench)
    bench.models.training.append("train.lr=1e9")
    bench.models.training.append("train.clip=1e9")
    job = ended(bench, bench.start_training(None).id)
    assert job.state == "failed"
    assert "diverged" in job.error
    assert bench.models.current == BASE


@pytest.mark.parametrize("last", ["add", "rmtree"])
def test_a_training_that_is_killed_when_its_model_is_there_only_finishes(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    accept(bench)
    owner: Any = {"add": bench.models, "rmtree": shutil}[last]
    real = getattr(owner, last)

    def cut_off(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        if bench.models.trained():
            raise Error("killed")

    with monkeypatch.context() as patched:
        patched.setattr(owner, last, cut_off)
        job = ended(bench, bench.start_training(None).id)
    assert job.error == "killed"
    monkeypatch.setattr(train.lines, "divide", None)  # of a training that begins anew
    job = ended(bench, bench.jobs.resume(job.id).id)
    assert job.state == "done", job.error
    assert [model.name for model in bench.models.trained()] == [job.progress["model"]["name"]]
    assert bench.jobs.get(job.id).progress.get("reading") or not job.progress["model"]["accepted"]
    assert not (bench.project.hidden / f"runs/job-{job.id}").exists()
