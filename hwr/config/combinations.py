"""Settings of different records that contradict each other, or that have no effect together, are refused."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwr.config.records import Config

# What the mxnet engine does not support in training. At its default a setting is off, and so not asked for.
NOT_ON_MXNET = ("optimizer", "weight_decay", "clip", "ema", "consistency", "center_loss", "anchor", "freeze_norm")

# What the original network does not support: record and key, off if false.
NOT_IN_ORIGINAL = (("train", "center_loss"), ("image", "margin"), ("image", "straighten"), ("augment", "rotate"))

# Keys of train: when a loss begins, and the loss.
BEGINNINGS = {"consistency_from": "consistency", "center_from": "center_loss"}


def check(config: "Config") -> None:
    """Check the settings of a run together.

    Raises:
        ValueError: Some can't be obeyed; names the key and the remedy.
    """
    _engine(config)
    _training(config)
    _network(config)


def _changed(config: "Config", key: str) -> bool:
    """Whether a key of train is not at its default."""
    return bool(getattr(config.train, key) != type(config.train).model_fields[key].default)


def _engine(config: "Config") -> None:
    name, precision = config.engine.name, config.engine.precision
    if name in ("onnx", "mxnet") and precision == "bf16":
        raise ValueError(f"engine.precision: the {name} engine supports fp32 only; set fp32, or engine.name=torch")
    if name != "mxnet":
        return
    if config.model.arch != "original":
        raise ValueError(f"model.arch: the mxnet engine does not support {config.model.arch}; set engine.name=torch")
    if config.train.shards not in ("auto", 1):
        raise ValueError("train.shards: the mxnet engine does not support it; set auto or 1, or engine.name=torch")
    for key in NOT_ON_MXNET:
        if _changed(config, key):
            raise ValueError(f"train.{key}: the mxnet engine does not support it; drop it, or set engine.name=torch")


def _training(config: "Config") -> None:
    train = config.train
    for key, loss in BEGINNINGS.items():
        if _changed(config, key) and not getattr(train, loss):
            raise ValueError(f"train.{key}: has no effect without train.{loss}; drop it, or set both")
    if train.center_loss and train.shards not in ("auto", 1):
        raise ValueError("train.center_loss: needs the whole batch in one place; set train.shards to auto or 1")
    if train.shards != "auto" and train.shards > train.batch_size:
        raise ValueError(f"train.shards: {train.shards} shares need at least {train.shards} lines per batch")


def _network(config: "Config") -> None:
    if config.model.arch == "original":
        if config.train.optimizer != "adam":
            raise ValueError(f"train.optimizer: {config.train.optimizer} needs model.arch crnn")
        for section, key in NOT_IN_ORIGINAL:
            if getattr(getattr(config, section), key):
                raise ValueError(f"{section}.{key}: needs model.arch crnn")
    if 2 * config.image.margin >= config.image.width:
        raise ValueError(
            f"image.margin: {config.image.margin} on each side leaves no room in image.width {config.image.width}"
        )
