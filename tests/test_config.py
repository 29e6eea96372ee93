from pathlib import Path

import pytest
from pydantic import ValidationError

from hwr import Error, config
from hwr.cli.options import decoder_setting


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  epoch: 3\n", r"c\.yaml:2: unknown key train\.epoch; did you mean epochs\?"),
        ("trian:\n  epochs: 3\n", r"c\.yaml:1: unknown key trian; did you mean train\?"),
        ("train:\n  epochs: three\n", r"c\.yaml:2: train\.epochs: .*integer, got 'three'"),
        ("train:\n  epochs: 3\n  epochs: 4\n", r"c\.yaml:3: train\.epochs is already set at .*c\.yaml:2"),
        ("train:\n  epochs: 0\n", r"c\.yaml:2: train\.epochs: .*greater than or equal to 1"),
        ("train:\n  lr: .nan\n", r"c\.yaml:2: train\.lr: .*finite"),
        ("augment:\n  gamma: [2, 1]\n", r"c\.yaml:1: augment: .*gamma must be \[low, high\]"),
        ("data:\n  train: trainset\n", r"c\.yaml:2: data\.train: Input should be a list"),
        ("train: [\n", r"c\.yaml:2: not valid YAML"),
        ("- a\n", r"c\.yaml: a config must be a mapping of sections"),
        (
            "engine:\n  name: mxnet\n  precision: bf16\n",
            r"c\.yaml:3: engine\.precision: the mxnet engine supports fp32 only",
        ),
        ("image:\n  straighten: 3\n", r"c\.yaml:2: image\.straighten: .*valid boolean, got 3"),
        ("model:\n  arch: crnn\n  stride: 3\n", r"c\.yaml:3: model\.stride: .*list such as \[a, b\], got 3"),
        ("data:\n  str: 3\n", r"c\.yaml:2: unknown key data\.str"),
        ("train:\n  minutes: 1:30\n", r"c\.yaml:2: YAML reads 1:30 in base 60"),
        ("train:\n  seed: 010\n", r"c\.yaml:2: YAML reads 010 in base 60 or 8"),
        ("engine:\n  name: jax\n", r"c\.yaml:2: engine\.name: .*'torch', 'onnx' or 'mxnet'"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        config.load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"--set train\.epoch=3: unknown key"),
        ("nope.a=3", r"--set nope\.a=3: unknown key nope"),
        ("train.epochs", r"write it as section\.key=value"),
        ("train.epochs=[", "not valid YAML"),
        ("train.minutes=1:30", "YAML reads 1:30 in base 60"),
        ("train.epochs=007", "YAML reads 007 in base 60 or 8"),
        ("train.epochs.x=1", r"unknown key|is a value|valid integer"),
    ],
)
def test_a_fault_in_an_override(override: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        config.load(None, [override])


def test_the_home_folder_is_found_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands it after `--set data.root=`, nor in a file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path = write(tmp_path, "data:\n  root: [~/a, b~/c]\ntrain:\n  init: ~/model.safetensors\n")
    loaded = config.load(path, ["data.lists=~/lists", "decode.lm=~/lm.bin", "data.images=~x"])
    assert loaded.data.root == (f"{tmp_path}/a", "b~/c")
    assert (loaded.data.lists, loaded.data.images) == (f"{tmp_path}/lists", "~x")
    assert (loaded.train.init, loaded.decode.lm) == (f"{tmp_path}/model.safetensors", f"{tmp_path}/lm.bin")


def test_overrides_win_and_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  lr: 1e-3\n  epochs: 7\n")
    loaded = config.load(path, ["train.epochs=2", "data.train=[a, b]", "data.root=x=y"])
    assert (loaded.train.lr, loaded.train.epochs) == (1e-3, 2)
    assert loaded.data.train == ("a", "b")
    assert loaded.data.root == "x=y"


def test_a_config_is_frozen_and_survives_its_own_yaml(tmp_path: Path) -> None:
    loaded = config.load(None, ["train.lr=3e-4", "data.exclude=[x-1]"])
    with pytest.raises(ValidationError):
        loaded.train.lr = 1.0  # type: ignore[misc]
    assert config.load(write(tmp_path, config.dump(loaded))) == loaded
    assert config.from_dict(config.to_dict(loaded)) == loaded
    assert config.differences(config.Config(), loaded) == ["data.exclude: [] -> ['x-1']", "train.lr: 0.0001 -> 0.0003"]


@pytest.mark.parametrize("text", ["08", "1e-4", "+.5", "1_0e3", "1:30", "yes", "null", "\udcff", ""])
def test_a_text_that_looks_like_a_number_survives_its_own_yaml(tmp_path: Path, text: str) -> None:
    """PyYAML quotes what it would read as a number itself; a config has more kinds of them."""
    loaded = config.from_dict({"data": {"exclude": [text], "split": text}})
    assert config.load(write(tmp_path, config.dump(loaded))) == loaded


def test_a_path_on_the_command_line_may_have_any_characters() -> None:
    """A file name that is not UTF-8 has halves of UTF-16 pairs in Python, which YAML refuses."""
    for path in ("\udcff.arpa", "\U0001f600 \x7f\u202e.arpa", 'it\'s "one".arpa', "08", "null"):
        assert config.load(None, [decoder_setting("lm", path)]).decode.lm == path


def test_no_such_file() -> None:
    with pytest.raises(Error, match=r"nowhere\.yaml: no such config file"):
        config.load("nowhere.yaml")


def test_configs_of_two_networks_differ_in_each_others_keys() -> None:
    found = config.differences(config.Config(), config.load(None, ["model.arch=crnn", "train.lr=1"]))
    assert "model.arch: original -> crnn" in found
    assert "model.channels: 64 -> absent" in found
    assert "model.stem: absent -> 32" in found
    assert "train.lr: 0.0001 -> 1.0" in found


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.arch=lstm", r"arch must be original or crnn"),
        ("model.steps=9", r"unknown key model\.steps; did you mean stem"),
        ("model.pools=[[2, 2]]", r"3 stages need 2 pools, got 1"),
        ("engine.name=mxnet", r"model\.arch: the mxnet engine does not support crnn"),
        ("image.margin=400", r"image\.margin: 400 on each side leaves no room in image\.width 800"),
        ("decode.lm_weight=0.5", r"lm_weight 0\.5 needs lm"),
    ],
)
def test_settings_that_the_newer_network_refuses(override: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        config.load(None, ["model.arch=crnn", override])


@pytest.mark.parametrize("override", ["train.center_loss=1", "image.margin=8", "augment.rotate=0.1"])
def test_settings_that_need_the_newer_network(override: str) -> None:
    key = override.split("=")[0].replace(".", r"\.")
    with pytest.raises(Error, match=f"{key}: needs model\\.arch crnn"):
        config.load(None, [override])
    config.load(None, ["model.arch=crnn", override])


@pytest.mark.parametrize("key", ["weight_decay", "clip", "ema", "consistency", "anchor"])
def test_settings_that_the_mxnet_engine_lacks_are_refused(key: str) -> None:
    with pytest.raises(Error, match=f"train\\.{key}: the mxnet engine does not support it"):
        config.load(None, ["engine.name=mxnet", f"train.{key}=0.5"])


def test_settings_that_contradict_each_other_are_named_with_their_place(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  epochs: 2\n  clip: 1.0\n")
    with pytest.raises(Error, match=r"yaml:3: train\.clip: the mxnet engine does not support it"):
        config.load(path, ["engine.name=mxnet"])
    with pytest.raises(Error, match=r"^--set train\.ema=0\.9: train\.ema: the mxnet engine does not support it"):
        config.load(write(tmp_path, "train:\n  epochs: 2\n"), ["engine.name=mxnet", "train.ema=0.9"])


@pytest.mark.parametrize(
    "text", ["Box #3", "1914", "12:30", "yes", "null", "1914-08-03", "~scans", "a: b", "{x}", "x=y", " two ", "'tis"]
)
def test_text_fields_take_the_command_line_verbatim(text: str) -> None:
    assert config.load(None, [f"data.root={text}"]).data.root == text
    assert config.load(None, [f"data.split={text}"]).data.split == text


def test_null_unsets_a_text_that_may_be_none(tmp_path: Path) -> None:
    path = write(tmp_path, "data:\n  lists: own\ntrain:\n  init: a.safetensors\n")
    loaded = config.load(path, ["data.lists=null", "train.init="])
    assert loaded.data.lists is loaded.train.init is None
    assert config.load(None, ["data.lists=1914"]).data.lists == "1914"
    with pytest.raises(Error, match=r"--set data\.root=: the value is empty"):
        config.load(None, ["data.root="])


def test_lists_and_quotes_on_the_command_line() -> None:
    assert config.load(None, ["data.root=[Box, 1914, yes]"]).data.root == ("Box", "1914", "yes")
    assert config.load(None, ["data.train=[1914]"]).data.train == ("1914",)
    assert config.load(None, ['data.root="Box #3"']).data.root == "Box #3"
    assert config.load(None, ["data.root='[x]'"]).data.root == "[x]"
    with pytest.raises(Error, match=r"data\.train: Input should be a list such as \[a, b\], got 'trainset'"):
        config.load(None, ["data.train=trainset"])


@pytest.mark.parametrize("text", ["1914", "yes", "null", "1914-08-03"])
def test_a_file_that_needs_quotes_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(Error, match=rf'c\.yaml:2: data\.root: {text} is not a text.*put it in quotes: root: "{text}"'):
        config.load(write(tmp_path, f"data:\n  root: {text}\n"))
    with pytest.raises(Error, match=rf'c\.yaml:2: data\.root\.1: {text} is not a text.*in quotes: "{text}"'):
        config.load(write(tmp_path, f"data:\n  root: [a, {text}]\n"))
    assert config.load(write(tmp_path, f'data:\n  root: "{text}"\n')).data.root == text


def test_the_keys_that_are_set_are_known(tmp_path: Path) -> None:
    found = config.given(write(tmp_path, "image:\n  height: 60\n"), ["train={lr: 0.1}", "data.root=a"])
    assert {section: dict(found.keys(section)) for section in found.tree} == {
        "image": {"height": 60},
        "train": {"lr": 0.1},
        "data": {"root": "a"},
    }
    assert found.place("image", "height").endswith("c.yaml:2")
    assert found.place("train", "lr") == "--set train={lr: 0.1}"
    base = config.load(None, ["image.width=99", "image.height=50", "train.epochs=3"])
    over = config.over(found, base)
    assert (over.image.height, over.image.width, over.train.epochs, over.train.lr) == (60, 99, 3, 0.1)


def test_a_name_is_a_bundled_recipe_and_a_path_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load("lines_cpu").model.arch == "crnn"
    write(tmp_path, "train:\n  epochs: 7\n")
    assert config.load("c.yaml").train.epochs == config.load("./c.yaml").train.epochs == 7
    with pytest.raises(Error, match=r"lines_gpu: no bundled recipe .*lines_cpu.*write its path: \./lines_gpu"):
        config.load("lines_gpu")
    with pytest.raises(
        Error, match=r"lines_cpu\.yaml: no such config file here; for the bundled recipe write lines_cpu"
    ):
        config.load("lines_cpu.yaml")
    with pytest.raises(Error, match=r"lines_cpu: no such config file; for the bundled recipe write lines_cpu"):
        config.load("./lines_cpu")
    with pytest.raises(Error, match=r"configs/lines_cpu\.yaml: no such .* for the bundled recipe write lines_cpu"):
        config.load("configs/lines_cpu.yaml")  # of a checkout, whose folder is another
