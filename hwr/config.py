"""The typed config: one record per stage, strict, frozen. `Config()` is the original system (configs/iam_line.yaml)."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from hwr import Error, decoder_settings, fields
from hwr.decoder_settings import Option
from hwr.given import Given, read

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class RenamedKey(FutureWarning):
    """A key or an option was given under its old name."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


class Data(Record):
    """Where the lines are and how they are split. Keys are explained in configs/iam_line.yaml."""

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
    images: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    val_share: Fraction = 0.1
    test_share: Fraction = 0.1
    normalise: Literal["NFC", "NFKC", "NFD", "none"] = "NFC"
    alphabet: str = "auto"
    cache: str | None = None

    @property
    def folder(self) -> Path:
        """`root`, where that is one."""
        assert isinstance(self.root, str)
        return Path(self.root)


class Image(Record):
    """The size that line images are brought to, in pixels. With arch crnn `width` is the most that a line may have."""

    height: Count = 60
    width: Count = 800
    margin: Annotated[int, Field(ge=0)] = 0
    straighten: bool = False


class Augment(Record):
    """Ranges of the random warps. The values that change nothing are gamma [1, 1] and 0 for the others."""

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
            raise ValueError(f"gamma is [low, high], got {list(self.gamma)}")
        return self


class Original(Record):
    """The original system's network."""

    # All lines are brought to one width, and nothing stands for the paper before and after a text.
    any_width: ClassVar[bool] = False
    edge_spaces: ClassVar[bool] = False
    arch: Literal["original"] = "original"
    channels: Count = 64
    downsamples: Annotated[int, Field(ge=1, le=4)] = 2
    steps: Count = 160
    hidden: Count = 512
    layers: Count = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    pretrained: str = "auto"


class CRNN(Record):
    """Residual convolutions, the highest value of each column, biLSTMs: for lines of any width."""

    any_width: ClassVar[bool] = True
    arch: Literal["crnn"]
    stem: Count = 32
    stride: tuple[Count, Count] = (4, 2)
    blocks: tuple[tuple[Count, Count], ...] = ((2, 64), (3, 128), (2, 256))
    pools: tuple[tuple[Count, Count], ...] = ((2, 2), (2, 2))
    hidden: Count = 256
    layers: Annotated[int, Field(ge=0)] = 3
    frames: Count = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    shortcut: Annotated[float, Field(ge=0)] = 0.1
    edge_spaces: bool = True

    @model_validator(mode="after")
    def _between(self) -> "CRNN":
        if not self.blocks or len(self.pools) != len(self.blocks) - 1:
            raise ValueError(
                f"pools stand between the stages of blocks: {len(self.blocks)} stages need {max(0, len(self.blocks) - 1)} "
                f"pools, got {len(self.pools)}"
            )
        return self


def _arch(model: Any) -> str:
    return str(model.get("arch", "original") if isinstance(model, dict) else getattr(model, "arch", "original"))


Model = Annotated[
    Annotated[Original, Tag("original")] | Annotated[CRNN, Tag("crnn")],
    Discriminator(_arch, custom_error_type="arch", custom_error_message="arch is original or crnn"),
]


class Train(Record):
    """The training run."""

    epochs: Count = 120
    batch_size: Count = 32
    lr: Annotated[float, Field(gt=0)] = 1e-4
    loss_weight: Annotated[float, Field(gt=0)] = 0.2
    minutes: Annotated[float, Field(gt=0)] | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    center_loss: Annotated[float, Field(ge=0)] = 0.0
    center_from: Fraction = 0.7
    best: Literal["loss", "cer"] = "loss"
    patience: Count | None = None
    init: str | None = None
    charset: Literal["keep", "union", "new"] = "union"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    images_every: Annotated[int, Field(ge=0)] = 5
    save_minutes: Annotated[float, Field(gt=0)] = 10.0


class Evaluate(Record):
    """Reading lines: evaluation, export and prediction."""

    batch_size: Count = 32
    worst: Annotated[int, Field(ge=0)] = 20
    bootstrap: Count = 1000


class Decode(Record):
    """How text is read off the network's output. None: the default for what is given; see `complete`."""

    name: Annotated[
        Literal["greedy", "beam"] | None,
        Option("Default: greedy, or beam if one of its options is given.", flag="--decoder"),
    ] = None
    beam: Annotated[
        Count | None,
        Option("Texts kept per step of the beam search.", needs="beam", default=16, says="{} texts"),
    ] = None
    lm: Annotated[
        str | None,
        Option(
            "A language model of `hwr lm build`, in place of one stored in the checkpoint.",
            metavar="FILE",
            needs="beam",
            says="language model: {}",
        ),
    ] = None
    lm_weight: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Option("Weight of the language model; `hwr lm tune` finds it.", needs="lm", default=0.7, says="weight {:g}"),
    ] = None
    length_bonus: Annotated[
        float | None,
        Option(
            "Nats added per character, since a language model favours short texts.",
            needs="beam",
            default=0.0,
            default_with=("lm", 1.0),
            says="length bonus {:g}",
            old="insertion",
        ),
    ] = None
    words: Annotated[
        str | None,
        Option("A word list, or any text.", metavar="FILE", needs="beam", says="word list: {}"),
    ] = None
    unknown_penalty: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Option(
            "Nats that a word costs that is not in the list.",
            needs="words",
            default=2.0,
            says="unknown-word penalty {:g}",
            old="unknown",
        ),
    ] = None
    temperature: Annotated[Annotated[float, Field(gt=0)], Option()] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> "Decode":
        decoder_settings.check(self.model_dump(), DECODER)
        return self

    def complete(self) -> "Decode":
        """These settings with every default filled in."""
        return Decode(**decoder_settings.complete(self.model_dump(), DECODER))


DECODER = decoder_settings.options(Decode)

# Keys that were renamed, which are read under their old names for one release more.
RENAMED = {("decode", option.old): ("decode", key) for key, option in DECODER.items() if option.old}


class Engine(Record):
    """What computes."""

    name: Literal["torch", "mxnet"] = "torch"
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    threads: Count | None = None


class Config(Record):
    """Everything a run depends on."""

    data: Data = Data()
    image: Image = Image()
    augment: Augment = Augment()
    model: Model = Original()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    decode: Decode = Decode()
    engine: Engine = Engine()

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Sequence[str] = ()) -> "Config":
        """See `hwr.config.load`."""
        return load(path, overrides)

    @model_validator(mode="after")
    def _supported(self) -> "Config":
        if self.engine.name == "mxnet":
            if self.engine.precision == "bf16":
                raise ValueError(
                    "engine.precision: the mxnet engine computes in fp32 only; set fp32, or engine.name=torch"
                )
            if self.model.arch != "original":
                raise ValueError(f"model.arch: the mxnet engine has no {self.model.arch}; set engine.name=torch")
            # What is at its default is not asked for.
            for key in ("weight_decay", "clip", "ema", "center_loss"):
                if getattr(self.train, key):
                    raise ValueError(f"train.{key}: the mxnet engine has none; leave it out, or set engine.name=torch")
        if self.model.arch == "original":
            for section, key in (
                ("train", "center_loss"),
                ("image", "margin"),
                ("image", "straighten"),
                ("augment", "rotate"),
            ):
                if getattr(getattr(self, section), key):
                    raise ValueError(f"{section}.{key}: is for model.arch crnn only")
        if 2 * self.image.margin >= self.image.width:
            raise ValueError(
                f"image.margin: {self.image.margin} on both sides leaves nothing of image.width {self.image.width}"
            )
        return self


def given(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Given:
    """What a config file and overrides set, not yet checked: see `hwr.given.read`."""
    found = _renamed(read(Config, path))
    file = dict(found.keys("decode"))
    return _overridden(found, file, overrides)


def _overridden(found: Given, decoder: Mapping[str, Any], overrides: Sequence[str]) -> Given:
    """The same with overrides; of the decoder's settings they take away what they rule out."""
    for text in overrides:
        key, equals, value = text.partition("=")
        section, _, name = key.partition(".")
        new = RENAMED.get((section, name))
        if new:
            _warn(f"--set {text}", key, ".".join(new))
        found.set(Config, f"{'.'.join(new)}{equals}{value}" if new else text)
    found = _renamed(found, whole=False)  # of decode={…}
    later = {
        key: value for key, value in found.keys("decode").items() if found.place("decode", key).startswith("--set")
    }
    if later:
        found.tree["decode"] = decoder_settings.merge(decoder, later, DECODER)
    return found


def _renamed(found: Given, whole: bool = True) -> Given:
    """What is set, with the renamed keys under their new names; warns of those that somebody wrote.

    Args:
        whole: The keys are of one source; if one is old, all are as the older version wrote them or read them.

    Raises:
        Error: A key is set under both names.
    """
    tree = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in found.tree.items()}
    places, written = dict(found.places), dict(found.written)
    old = [key for key in RENAMED if isinstance(tree.get(key[0]), dict) and key[1] in tree[key[0]]]
    for key in old:
        new, section = RENAMED[key], tree[key[0]]
        if new[1] in section:
            place = found.place(*key)
            raise Error(f"{place}: {'.'.join(key)} is the old name of {'.'.join(new)}, which is set too")
        if key in places or key[:1] in places:
            _warn(found.place(*key), ".".join(key), ".".join(new))
        section[new[1]] = section.pop(key[1])
        for noted in (places, written):
            if key in noted:
                noted[new] = noted.pop(key)
    if whole and any(section == "decode" for section, _ in old):
        tree["decode"] = decoder_settings.from_old(tree["decode"], strict=bool(places))
    return Given(tree, places, written, found.name)


def _warn(place: str, old: str, new: str) -> None:
    warnings.warn(f"{place}: {old} is now called {new}; the old name will go", RenamedKey, 3)


def over(found: Given, base: Config | None = None) -> Config:
    """The keys that are set, and `base` (by default `Config()`) for all others.

    Raises:
        Error: An unknown key, a wrong type or range; names file:line or the override.
    """
    merged = to_dict(base) if base is not None else {}
    for name, section in found.tree.items():
        under = merged.get(name)
        if name == "decode" and isinstance(section, dict) and isinstance(under, dict):
            merged[name] = decoder_settings.merge(under, section, DECODER)
        else:
            merged[name] = {**under, **section} if isinstance(section, dict) and isinstance(under, dict) else section
    try:
        return Config.model_validate(_tuples(merged))
    except ValidationError as error:
        raise Error(fields.explain(Config, error.errors(), found.places, found.written, found.name)) from None


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, apply `key=value` overrides, and check the whole: see `given`.

    Args:
        path: None starts from the defaults, which are the original system's.

    Raises:
        Error: As `given`; an unknown key, a wrong type or range; names file:line or the override.
    """
    return over(given(path, overrides))


def override(tree: dict[str, Any], overrides: Sequence[str]) -> Config:
    """Apply `key=value` overrides to a nested dict, and check it as `from_dict` does."""
    found = _renamed(Given(tree))
    return over(_overridden(found, dict(found.keys("decode")), overrides))


def from_dict(tree: dict[str, Any], default: str = "config") -> Config:
    """Check a nested dict (as parsed from YAML or JSON) and make it a Config.

    Args:
        tree: Sections and their keys.
        default: Where it stands, for messages.
    """
    return over(_renamed(Given(tree, name=default)))


def to_dict(config: Config) -> dict[str, Any]:
    """The nested dict of plain JSON values that `from_dict` takes."""
    return config.model_dump(mode="json")


def dump(config: Config) -> str:
    """The config as YAML, every key said."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def differences(a: Config, b: Config) -> list[str]:
    """The keys in which two configs differ, each as `train.lr: 0.0001 -> 0.001`."""
    one, other = to_dict(a), to_dict(b)
    return [
        f"{section}.{key}: {one[section].get(key, 'not there')} -> {other[section].get(key, 'not there')}"
        for section in one
        for key in {**one[section], **other[section]}  # two networks have different keys
        if one[section].get(key, ...) != other[section].get(key, ...)
    ]


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples: strict validation takes no list for a tuple, and a frozen record holds no list."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
