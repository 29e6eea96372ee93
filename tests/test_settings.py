"""The config used with a model: the checkpoint's, a file's, or from --set; and which lines."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hwr import Error, checkpoint, config, gluon_params, networks
from hwr.alphabet import ORIGINAL, Alphabet
from hwr.checkpoint import Checkpoint
from hwr.cli import main
from hwr.config import Config, reading, yaml_lines
from hwr.loading import default_model, settings_for
from hwr.system import signature
from hwr.training.finetune import fine_tuning_config

from .conftest import REPOSITORY, TINY, TINY_CRNN

BEAM = ["decode.name=beam", "decode.beam=7", "decode.temperature=1.5"]


def saved(path: Path, *overrides: str) -> Path:
    settings = config.load(None, list(overrides))
    shapes = networks.shapes(settings, 81)
    weights = {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}
    checkpoint.save(path, Checkpoint(weights, settings, Alphabet(ORIGINAL), {"epoch": 1}))
    return path


@pytest.fixture
def crnn(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return saved(tmp_path / "model/crnn.safetensors", *TINY_CRNN, *BEAM, "data.normalise=NFD", "data.unit=word")


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_set_in_a_file_are_obeyed(crnn: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "data:\n  root: x\ndecode:\n  beam: 3\nevaluate:\n  worst: 1\n")
    loaded, settings = settings_for(crnn, path)
    assert (settings.model, settings.image) == (loaded.config.model, loaded.config.image)
    assert settings.decode == loaded.config.decode.model_copy(update={"beam": 3})
    assert settings.data == config.Data(root="x", normalise="NFD")
    assert settings.evaluate.worst == 1


def test_a_file_may_repeat_what_the_checkpoint_says(crnn: Path, tmp_path: Path) -> None:
    own = config.load(None, TINY_CRNN)
    path = write(tmp_path, config.dump(own.model_copy(update={"data": config.Data(normalise="NFD")})))
    _, settings = settings_for(crnn, path, ["image.height=24", "image={height: 24}"])
    assert (settings.model, settings.image.height) == (own.model, 24)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("image:\n  height: 64\n", [], r"c\.yaml:2: the network .* can't be changed: image\.height is 24, not 64"),
        ("model:\n  arch: crnn\n  hidden: 9\n", [], r"c\.yaml:3: .*model\.hidden is 24, not 9"),
        ("model:\n  arch: original\n", [], r"c\.yaml:2: .*model\.arch is crnn, not original"),
        ("model:\n  channels: 8\n", [], r"c\.yaml:2: .*model\.channels is absent \(model\.arch is crnn\), not 8"),
        ("", ["image={height: 64}"], r"--set image=\{height: 64\}: .*image\.height is 24, not 64"),
        ("", ["image.height=64"], r"--set image\.height=64: .*image\.height is 24, not 64"),
        ("data:\n  normalise: NFC\n", [], r"c\.yaml:2: data\.normalise belongs to the checkpoint.* is NFD, not NFC"),
        ("", ["data.normalise=NFC"], r"--set data\.normalise=NFC: .* NFD, not NFC"),
        ("model:\n  hiden: 9\n", [], r"c\.yaml:2: unknown key model\.hiden"),
    ],
)
def test_contradictions_to_the_checkpoint_are_refused(
    crnn: Path, tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(Error, match=message):
        settings_for(crnn, write(tmp_path, text) if text else None, overrides)


def test_a_bare_params_takes_the_image_size_but_not_the_network_keys(tmp_path: Path) -> None:
    native = saved(tmp_path / "line.safetensors", *TINY)
    gluon_params.write(tmp_path / "line.params", checkpoint.load(native).weights)
    path = write(tmp_path, "image:\n  height: 32\n  width: 320\nmodel:\n  hidden: 16\n  pretrained: auto\n")
    _, settings = settings_for(tmp_path / "line.params", path, ["data.normalise=NFD"])
    assert (settings.image.height, settings.model.hidden, settings.data.normalise) == (32, 16, "NFD")
    with pytest.raises(Error, match=r"model=\{hidden: 7\}: .*model\.hidden is 16, not 7"):
        settings_for(tmp_path / "line.params", path, ["model={hidden: 7}"])


PATHS = [
    *("data.root=/home/me/letters", "data.lists=/home/me/lists", "data.images=/home/me/scans", "data.cache=/home/me/c"),
    *("data.alphabet=/home/me/letters.txt", "train.init=/home/me/m.safetensors", "data.test=[/home/me/test.txt]"),
    "model.pretrained=/home/me/resnet.pth",
]


def test_a_checkpoint_keeps_no_paths(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", *TINY, *PATHS, "data.seed=3")
    assert b"/home/me" not in path.read_bytes()
    assert checkpoint.load(path).config.data == config.Data(seed=3)


def test_the_paths_of_an_old_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", *TINY)
    arrays, about = checkpoint.read_arrays(path)
    about["config"] = config.to_dict(config.load(None, [*TINY, *PATHS]))
    checkpoint.write_arrays(path, arrays, about)
    loaded = checkpoint.load(path)
    assert "/home/me" not in json.dumps(config.to_dict(loaded.config))
    assert loaded.scores == {"epoch": 1, "trained_on": ["letters"]}


def test_the_lines_of_a_run_are_the_default(crnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_for(crnn)[1].data.root == "data/iam"
    with pytest.raises(Error, match=r"crnn\.safetensors: .*--set data\.root=FOLDER"):
        settings_for(crnn, dataset=True)
    (tmp_path / "data/iam").mkdir(parents=True)
    assert settings_for(crnn, dataset=True)[1].data.root == "data/iam"
    run = crnn.parent / "config.yaml"
    text = "data:\n  root: mine\n  test: [x]\n  normalise: NFC\nevaluate:\n  worst: 3\n"
    run.write_text(signature.signed(text))
    notes: list[str] = []
    _, settings = settings_for(crnn, None, ["data.test=[y]"], dataset=True, note=notes.append)
    assert settings.data == config.Data(root="mine", test=("y",), normalise="NFD")
    assert settings.evaluate.worst == 20
    assert notes == [f"unset data keys come from {run}"]
    assert settings_for(crnn)[1].data.root == "data/iam"  # reading images needs none of them


@pytest.mark.parametrize("fault", ["unsigned", "changed", "another user's", "a device"])
def test_a_config_from_elsewhere_names_no_paths(
    crnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    run, text = crnn.parent / "config.yaml", f"data:\n  root: {secret}\n  cache: {secret}\n"
    run.write_text(signature.signed(text))
    match fault:
        case "unsigned":
            run.write_text(text)
        case "changed":
            run.write_text(run.read_text().replace("  cache", "  images"))
        case "another user's":
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        case "a device":
            run.unlink()
            run.symlink_to("/dev/zero")
    with pytest.raises(Error, match=r"crnn\.safetensors: .*--set data\.root=FOLDER"):
        settings_for(crnn, dataset=True)
    named = settings_for(crnn, None, ["data.root=mine"], dataset=True)[1].data
    assert (named.root, named.cache, named.images) == ("mine", None, None)
    if fault in ("unsigned", "changed"):
        with pytest.raises(Error, match=r"unless you ask for them with --config .*config\.yaml"):
            settings_for(crnn, dataset=True)
        assert settings_for(crnn, run, dataset=True)[1].data.root == str(secret)


def test_a_user_without_a_home_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert signature.signed("a: 1\n") == "a: 1\n"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "c.yaml").write_text(signature.signed("a: 1\n"))
    assert signature.is_signed(tmp_path / "c.yaml")
    assert (tmp_path / "state/hwr/key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state/hwr").iterdir()] == ["key"]


def test_an_mxnet_checkpoint_is_read_by_any_engine(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", *TINY, "engine.name=mxnet")
    assert settings_for(path)[1].engine.name == "auto"
    assert settings_for(path, None, ["engine.name=mxnet"])[1].engine.name == "mxnet"


def test_the_bundled_model_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HWR_MODEL", raising=False)
    assert default_model() == REPOSITORY / "models/hwr-latin.safetensors"
    assert settings_for("hwr-latin")[1].image.height == 48
    with pytest.raises(Error, match=r"hwr-greek: no bundled model .* hwr-latin.*write its path"):
        settings_for("hwr-greek")
    monkeypatch.setenv("HWR_MODEL", str(tmp_path / "gone.safetensors"))
    with pytest.raises(Error, match=r"HWR_MODEL: .*gone\.safetensors: no such file"):
        default_model()
    monkeypatch.setenv("HWR_MODEL", "hwr-latin")
    assert default_model() == REPOSITORY / "models/hwr-latin.safetensors"
    monkeypatch.setenv("HWR_MODEL", f"{tmp_path}/")
    with pytest.raises(Error, match=r"HWR_MODEL: .*: a folder, not a file"):
        default_model()


def tuned(path: Path, text: str, *overrides: str) -> Config:
    return fine_tuning_config(config.given(write(path.parent, text), [f"train.init={path}", *overrides]))


def test_fine_tuning_obeys_the_network_keys_of_a_file(crnn: Path) -> None:
    settings = tuned(crnn, "model:\n  dropout: 0.4\n  shortcut: 0\nimage:\n  height: 30\n", "image={margin: 5}")
    own = checkpoint.load(crnn).config
    assert settings.model == own.model.model_copy(update={"dropout": 0.4, "shortcut": 0.0})
    assert (settings.image.height, settings.image.margin, settings.image.width) == (30, 5, 480)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  hidden: 9\n", r"differs from the checkpoint's.*\n.*c\.yaml:2: model\.hidden: 24 -> 9"),
        ("model:\n  arch: original\n", r"c\.yaml:2: .*differs from the checkpoint's: model\.arch is crnn"),
        ("model:\n  channels: 8\n", r"unknown key model\.channels"),
    ],
)
def test_fine_tuning_refuses_what_the_weights_do_not_fit(crnn: Path, text: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        tuned(crnn, text)


def test_fine_tuning_a_bare_params_takes_the_image_size_of_the_file(tmp_path: Path) -> None:
    gluon_params.write(tmp_path / "line.params", checkpoint.load(saved(tmp_path / "line.safetensors", *TINY)).weights)
    settings = tuned(tmp_path / "line.params", "image:\n  height: 32\n  width: 320\n")
    assert (settings.image.height, settings.model.hidden) == (32, 16)
    with pytest.raises(Error, match="another image size"):
        tuned(tmp_path / "line.params", "")


def test_a_config_is_parsed_once_and_checked_once(crnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    checked: list[str] = []
    read, over = yaml_lines.read, config.over
    monkeypatch.setattr(yaml_lines, "read", lambda text, path: parsed.append(path) or read(text, path))
    for module in (config, reading):
        monkeypatch.setattr(module, "over", lambda found, base=None: checked.append(found.name) or over(found, base))
    path = write(tmp_path, f"train:\n  init: {crnn}\n")
    own = f"{crnn} (its config)"
    settings_for(crnn, path, ["evaluate.worst=1"], dataset=False)
    assert (parsed, checked) == ([str(path)], [own, str(path)])
    fine_tuning_config(config.given(path))
    assert (parsed, checked) == ([str(path)] * 2, [own, str(path)] * 2)


def test_the_bundled_model_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["lm", "tune", "--checkpoint", "hwr-latin"])
    assert result.exit_code == 2
    assert "hwr-latin is the bundled model" in result.stderr
