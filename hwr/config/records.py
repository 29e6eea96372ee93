"""The typed config: one record per stage, strict, frozen. `Config()` is the original system (configs/iam_line.yaml)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from hwr.config import combinations, decoder_settings
from hwr.config.decoder_settings import Option

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
# Upper limits, far above any use, for the numbers that decide how much is computed: a checkpoint from a stranger has them too.
Few = Annotated[int, Field(ge=1, le=64)]
Size = Annotated[int, Field(ge=1, le=65_536)]


Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
# Temperature, slope and offset: see `decoding.greedy.Calibration`.
Calibration = tuple[Temperature, Annotated[float, Field(gt=0, le=1e3)], Annotated[float, Field(ge=-1e3, le=1e3)]]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


def _from_home(value: Any) -> Any:
    """A path, or several, with `~/` as a shell expands it; it does not in `--set data.root=~/lines`."""
    if isinstance(value, tuple):
        return tuple(map(_from_home, value))
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


class Data(Record):
    """Where the lines are and how they are split. configs/iam_line.yaml explains the keys."""

    format: Literal["auto", "iam", "page", "alto", "gt", "table"] = "auto"
    root: str | Annotated[tuple[str, ...], Field(min_length=1)] = "data/iam"
    unit: Literal["line", "word", "form"] = "line"
    text: Literal["xml", "ascii"] = "xml"
    split: str = "auto"
    lists: str | None = None
    train: tuple[str, ...] = ("trainset",)
    val: tuple[str, ...] = ("validationset1", "validationset2")
    test: tuple[str, ...] = ("testset",)
    exclude: tuple[str, ...] = ()
    faults: Literal["refuse", "skip"] = "refuse"
    images: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    val_share: Fraction = 0.1
    test_share: Fraction = 0.1
    normalise: Literal["NFC", "NFKC", "NFD", "none"] = "NFC"
    alphabet: str = "auto"
    cache: str | None = None

    _home = field_validator("root", "lists", "images", "alphabet", "cache")(_from_home)

    @model_validator(mode="after")
    def _shares(self) -> "Data":
        if self.val_share + self.test_share > 1 + 1e-9:
            raise ValueError(
                f"val_share and test_share are {self.val_share:g} and {self.test_share:g}: more than all lines"
            )
        return self

    @property
    def folder(self) -> Path:
        """`root`, if it is a single folder."""
        assert isinstance(self.root, str)
        return Path(self.root)


class Image(Record):
    """The size of the network's line images, in pixels. With arch crnn `width` is the largest width of a line."""

    height: Annotated[int, Field(ge=1, le=4096)] = 60
    width: Size = 800
    margin: Annotated[int, Field(ge=0)] = 0
    straighten: bool = False


class Augment(Record):
    """Ranges of the augmentation. gamma [1, 1], and 0 for the others, turn it off."""

    p: Fraction = 1.0

    gamma: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.001, 2.0)
    translate: Fraction = 0.03
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    shear: Annotated[float, Field(ge=0, lt=1.57)] = 0.7
    rotate: Annotated[float, Field(ge=0, lt=1.57)] = 0.0
    elastic: Annotated[float, Field(ge=0)] = 0.0
    thickness: Fraction = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    brightness: Fraction = 0.0
    mask: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "Augment":
        if self.gamma[0] > self.gamma[1]:
            raise ValueError(f"gamma must be [low, high], got {list(self.gamma)}")
        return self


class Original(Record):
    """The original system's network."""

    # Labels have no spaces for the paper before and after a text.
    edge_spaces: ClassVar[bool] = False
    arch: Literal["original"] = "original"
    channels: Size = 64
    downsamples: Annotated[int, Field(ge=1, le=4)] = 2
    steps: Size = 160
    hidden: Size = 512
    layers: Few = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    pretrained: str = "auto"

    _home = field_validator("pretrained")(_from_home)


class CRNN(Record):
    """Residual convolutions, max pooling over each column, biLSTMs: for lines of any width."""

    arch: Literal["crnn"]
    stem: Size = 32
    stride: tuple[Few, Few] = (4, 2)
    blocks: Annotated[tuple[tuple[Few, Size], ...], Field(max_length=64)] = ((2, 64), (3, 128), (2, 256))
    pools: Annotated[tuple[tuple[Few, Few], ...], Field(max_length=64)] = ((2, 2), (2, 2))
    hidden: Size = 256
    layers: Annotated[int, Field(ge=0, le=64)] = 3
    frames: Few = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    shortcut: Annotated[float, Field(ge=0)] = 0.1
    edge_spaces: bool = True

    @model_validator(mode="after")
    def _between(self) -> "CRNN":
        if not self.blocks or len(self.pools) != len(self.blocks) - 1:
            raise ValueError(
                f"pools go between the stages of blocks: {len(self.blocks)} stages need {max(0, len(self.blocks) - 1)} "
                f"pools, got {len(self.pools)}"
            )
        return self


def _arch(model: Any) -> str:
    return str(model.get("arch", "original") if isinstance(model, dict) else getattr(model, "arch", "original"))


Model = Annotated[
    Annotated[Original, Tag("original")] | Annotated[CRNN, Tag("crnn")],
    Discriminator(_arch, custom_error_type="arch", custom_error_message="arch must be original or crnn"),
]


class Train(Record):
    """The training run."""

    epochs: Count = 120
    batch_size: Size = 32
    shards: Literal["auto"] | Few = 1
    optimizer: Literal["adam", "muon"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    loss_weight: Annotated[float, Field(gt=0)] = 0.2
    minutes: Annotated[float, Field(gt=0)] | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    consistency: Annotated[float, Field(ge=0)] = 0.0
    consistency_from: Fraction = 0.0
    center_loss: Annotated[float, Field(ge=0)] = 0.0
    center_from: Fraction = 0.7
    best: Literal["loss", "cer"] = "loss"
    patience: Count | None = None
    init: str | None = None
    charset: Literal["keep", "union", "new"] = "union"
    anchor: Annotated[float, Field(ge=0)] = 0.0
    freeze_norm: bool = False
    add_texts: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    images_every: Annotated[int, Field(ge=0)] = 5
    save_minutes: Annotated[float, Field(gt=0)] = 10.0

    _home = field_validator("init")(_from_home)


class SelfTraining(Record):
    """A second round of fine-tuning, with lines that have no ground truth; see `hwr.training.self_training`."""

    unlabelled: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    most: Count = 300
    keep: Annotated[float, Field(gt=0, le=1)] = 0.75
    share: Annotated[float, Field(gt=0, lt=1)] = 0.65
    epochs: Count = 3

    _home = field_validator("unlabelled")(_from_home)

    @model_validator(mode="after")
    def _used(self) -> "SelfTraining":
        if self.unlabelled is None:
            for key, field in type(self).model_fields.items():
                if getattr(self, key) != field.default:
                    raise ValueError(
                        f"{key} has no effect without self_training.unlabelled; drop it, or name the lines"
                    )
        return self


class Evaluate(Record):
    """Reading lines: evaluation, export and prediction."""

    batch_size: Size = 32
    worst: Annotated[int, Field(ge=0)] = 20
    bootstrap: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class Decode(Record):
    """How the network's output becomes text. None: a default that depends on the other keys; see `complete`."""

    name: Annotated[
        Literal["greedy", "beam"] | None,
        Option(
            "Default: what the checkpoint stores (`hwr lm tune`), else beam if one of its options is given, else greedy.",
            flag="--decoder",
        ),
    ] = None
    beam: Annotated[
        Annotated[int, Field(ge=1, le=10_000)] | None,
        Option("Width of the beam search.", needs="beam", default=decoder_settings.BEAM, says="{} texts"),
    ] = None
    lm: Annotated[
        str | None,
        Option(
            "A language model from `hwr lm build`, a checkpoint that stores one, or hwr-latin; replaces the stored one.",
            metavar="FILE",
            needs="beam",
            says="language model: {}",
        ),
    ] = None
    lm_weight: Annotated[
        Annotated[float, Field(ge=0, le=1e6)] | None,
        Option("Weight of the language model; `hwr lm tune` finds it.", needs="lm", default=0.7, says="weight {:g}"),
    ] = None
    length_bonus: Annotated[
        Annotated[float, Field(ge=-1e6, le=1e6)] | None,
        Option(
            "Nats added per character, because a language model favours short texts.",
            needs="beam",
            default=0.0,
            default_with=("lm", 1.0),
            says="length bonus {:g}",
            old="insertion",
        ),
    ] = None
    words: Annotated[
        str | None,
        Option("A word list, or any text whose words to use.", metavar="FILE", needs="beam", says="word list: {}"),
    ] = None
    unknown_penalty: Annotated[
        Annotated[float, Field(ge=0, le=1e6)] | None,
        Option(
            "Nats subtracted for each word that is not in the list.",
            needs="words",
            default=2.0,
            says="unknown-word penalty {:g}",
            old="unknown",
        ),
    ] = None
    temperature: Annotated[Temperature, Option()] = 1.0
    calibration: Annotated[Calibration | None, Option()] = None
    greedy_calibration: Annotated[Calibration | None, Option()] = None

    _home = field_validator("lm", "words")(_from_home)

    @model_validator(mode="after")
    def _consistent(self) -> "Decode":
        decoder_settings.check(self.model_dump(), DECODER)
        return self

    def complete(self) -> "Decode":
        """These settings with every default filled in."""
        return Decode(**decoder_settings.complete(self.model_dump(), DECODER))


DECODER = decoder_settings.options(Decode)

# Renamed keys. Their old names are accepted for one more release.
RENAMED = {("decode", option.old): ("decode", key) for key, option in DECODER.items() if option.old}


class Engine(Record):
    """The library that runs the network, and the device it runs on."""

    name: Literal["auto", "torch", "onnx", "mxnet"] = "auto"
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None


class Config(Record):
    """Everything a run depends on."""

    data: Data = Data()
    image: Image = Image()
    augment: Augment = Augment()
    model: Model = Original()
    train: Train = Train()
    self_training: SelfTraining = SelfTraining()
    evaluate: Evaluate = Evaluate()
    decode: Decode = Decode()
    engine: Engine = Engine()

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Sequence[str] = ()) -> "Config":
        """See `hwr.config.load`."""
        from hwr.config.reading import load

        return load(path, overrides)

    @model_validator(mode="after")
    def _supported(self) -> "Config":
        combinations.check(self)
        return self
