"""What the commands share: options, examples in the help, error messages, loading a checkpoint."""

import functools
import inspect
import itertools
import json
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from hwr import Error
from hwr.system import memory
from hwr.system.processes import rank_and_world_size
from hwr.system.terminal import echo, visible

if TYPE_CHECKING:
    from hwr.checkpoint import Checkpoint
    from hwr.config import Config


class _Shown(click.Command):
    """Shows control characters in click's own messages, which quote arguments: a shell's `*` may be a strange file name."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            vars(error)["message"] = visible(error.message)  # its type says that it is final
            raise
        except KeyboardInterrupt:  # click would end with status 1
            sys.exit(130)


# Options that name what is written, and those of them that print it if they are given as `-`.
_WRITES = ("--out", "--json", "--report", "--picture")
_PRINTS = (("evaluate", "--json"), ("align", "--json"))


class Command(_Shown):
    """Lets one --set take several pairs: `--set train.epochs=2 train.lr=1e-3`."""

    _params: list[click.Parameter]

    @property
    def params(self) -> list[click.Parameter]:
        """The options. The decoder's are created on first use."""
        made = [param.made() if isinstance(param, _DecoderOptions) else [param] for param in self._params]
        self._params = list(itertools.chain.from_iterable(made))
        return self._params

    @params.setter
    def params(self, params: list[click.Parameter]) -> None:
        self._params = params

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        # Of a path, it would be the current folder; of --init, that nothing is fine-tuned.
        if any(arg == "" or re.fullmatch("--[a-z-]+=", arg) for arg in args):
            raise click.UsageError("an argument is empty; is a variable of the shell not set?")
        spread: list[str] = []
        for arg in args:
            after_set = spread[-2:-1] == ["--set"] or (spread[-1:] and spread[-1].startswith("--set="))
            if after_set and re.match(r"[a-z_]+\.[a-z_0-9]+=", arg):
                spread.append("--set")
            spread.append(arg)
        self._refuse_dash(spread)
        return super().parse_args(context, spread)

    def _refuse_dash(self, args: list[str]) -> None:
        """Refuse `-`, which elsewhere means standard output, as the name of a file to write."""
        valued = {name for param in self.params if not getattr(param, "is_flag", False) for name in param.opts}
        for option in valued.intersection(_WRITES):
            given = f"{option}=-" in args or (option, "-") in itertools.pairwise(args)
            if given and (self.name, option) not in _PRINTS:
                raise click.UsageError(f"{option} -: this is not printed but written; a file of this name is ./-")


class Group(_Shown, click.Group):
    """Prints our own errors as one message, without a traceback."""

    command_class = Command

    def invoke(self, context: click.Context) -> Any:
        warnings.formatwarning = _warning  # type: ignore[assignment]
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise  # the reader has closed the pipe; click exits quietly
        except click.ClickException as error:
            vars(error)["message"] = visible(error.message)  # its type says that it is final
            raise
        except (Error, OSError) as error:
            _fail(context, str(error))
        except KeyboardInterrupt:
            context.exit(130)
        except Exception as error:
            if memory.is_short(error):
                _fail(context, f"out of memory; lower {_MEMORY}, or free some ({str(error) or type(error).__name__})")
            if isinstance(error, ImportError):
                _fail(context, f"a library can't be loaded: {error}. Is it installed completely? Is there memory left?")
            raise


# What to lower if the place that ran out does not know.
_MEMORY = "the batch size (train.batch_size, evaluate.batch_size), image.width, --beam or --workers"


def _fail(context: click.Context, message: str) -> None:
    """Print a message, after the traceback with --debug, and end the program."""
    if context.find_root().params.get("debug"):
        echo(traceback.format_exc().rstrip(), err=True)
    rank, size = rank_and_world_size()
    echo(f"hwr{f' (process {rank} of {size})' if size > 1 else ''}: {message}", err=True)
    context.exit(2)


def _warning(message: Warning | str, category: type[Warning], *place: Any) -> str:
    """A warning as the command line shows it: our own address the user, so they name no source line."""
    if category.__module__.startswith("hwr"):
        return f"hwr: {visible(message)}\n"
    return visible(_python_warning(message, category, *place))


_python_warning = warnings.formatwarning


def examples(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add examples to a command's help, with their line breaks kept."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        lines = "\n".join(f"  {line.strip()}" for line in text.strip().splitlines())
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nExamples:\n{lines}\n"
        return function

    return add


class Names(click.ParamType):
    """A choice of names from a table whose import is slow, and waits until a name is needed.

    Args:
        names: Returns the names.
    """

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self.names = names

    def _choice(self) -> click.Choice[str]:
        return click.Choice(list(self.names()))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._choice().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self._choice().choices)}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        return self._choice().shell_complete(ctx, param, incomplete)


config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    help="A YAML file, or a bundled recipe such as lines_cpu; configs/iam_line.yaml explains every key.",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override keys, e.g. train.epochs=2 train.lr=1e-3."
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["torch", "onnx", "mxnet"]),
    help="Engine that runs the network (default: engine.name, normally auto: onnxruntime for few lines, else torch).",
)
training_engine_option = click.option(
    "--engine",
    type=click.Choice(["torch", "mxnet"]),
    help="Engine that trains the network (default: engine.name, normally auto: torch).",
)
checkpoint_option = click.option(
    "--checkpoint",
    required=True,
    metavar="FILE",
    help="A .safetensors, .params (Gluon) or exported .onnx file, or hwr-latin, the bundled model.",
)


def decoder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The decoder's options, passed on as one argument, `decoding`: a list of config overrides."""

    @functools.wraps(function)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        from hwr.config import DECODER

        settings = []
        for key, option in DECODER.items():
            value, old = kwargs.pop(_argument(key), None), kwargs.pop(_argument(key, option.old), None)
            if old is not None:
                if value is not None:
                    raise Error(f"--{option.old} is the old name of {_flag(key)}; give only one of them")
                _warn_renamed(f"--{option.old}", _flag(key))
                value = old
            if value is not None:
                settings.append(decoder_setting(key, value))
        return function(*args, decoding=settings, **kwargs)

    return click.option("--decoder-options", cls=_DecoderOptions, expose_value=False)(gathered)


def decoder_setting(key: str, value: Any) -> str:
    """A setting of the decoder as an override. YAML refuses the bytes of a path that are not UTF-8, unless escaped."""
    return f"decode.{key}={visible(json.dumps(value, ensure_ascii=False))}"


class _DecoderOptions(click.Option):
    """A placeholder for the options that `config.Decode` declares, whose import takes a tenth of a second."""

    def made(self) -> list[click.Parameter]:
        from hwr.config import DECODER, Decode

        made: list[click.Parameter] = []
        for key, option in DECODER.items():
            if option.help:
                default = "" if option.default is None else f" (default: the checkpoint's, else {option.default:g})"
                if option.default_with:
                    default = f"{default[:-1]}, or with --{option.default_with[0]} {option.default_with[1]:g})"
                kind, text = _click_type(Decode.model_fields[key]), option.help.removesuffix(".") + default + "."
                made.append(click.Option([_flag(key), _argument(key)], type=kind, metavar=option.metavar, help=text))
                if option.old:
                    names = [f"--{option.old}", _argument(key, option.old)]
                    made.append(click.Option(names, type=kind, hidden=True))
        return made


def _argument(key: str, old: str = "") -> str:
    return f"decoder_{old or key}"


def _flag(key: str) -> str:
    from hwr.config import DECODER

    return DECODER[key].flag or "--" + key.replace("_", "-")


def _click_type(field: Any) -> Any:
    """The option's type, from the field's annotation: `int | None` with a minimum, …"""
    import typing

    from annotated_types import Ge
    from pydantic.fields import FieldInfo

    inner = next(part for part in typing.get_args(field.annotation) if part is not type(None))
    if typing.get_origin(inner) is typing.Literal:
        return click.Choice(typing.get_args(inner))
    least: Any = None
    if typing.get_origin(inner) is typing.Annotated:
        inner, *rest = typing.get_args(inner)
        limits = [limit for entry in rest if isinstance(entry, FieldInfo) for limit in entry.metadata]
        least = next((limit.ge for limit in limits if isinstance(limit, Ge)), None)
    if inner is str or least is None:
        return inner
    return click.IntRange(min=least) if inner is int else click.FloatRange(min=least)


def _warn_renamed(old: str, new: str) -> None:
    from hwr.config import RenamedKey

    warnings.warn(f"{old} is now called {new}; the old name will be removed", RenamedKey, 2)


def with_engine(overrides: tuple[str, ...], engine: str | None) -> list[str]:
    """The overrides, with --engine as one of them."""
    return [*overrides, *([f"engine.name={engine}"] if engine else [])]


# The sections of the config, and what the commands that read lines use of it.
_SECTIONS = ("data", "image", "augment", "model", "train", "self_training", "evaluate", "decode", "engine")
READING = ("image", "model", "evaluate", "decode", "engine", "train.loss_weight")


def refuse_unused(overrides: Sequence[str], *used: str) -> None:
    """Refuse a --set of a key that the command would ignore. A config file may hold more than one command uses.

    Args:
        used: Sections, or single keys as `section.key`.
    """
    for text in overrides:
        key = text.partition("=")[0]
        section = key.partition(".")[0]
        if section in _SECTIONS and section not in used and key not in used:
            raise Error(f"--set {text}: this command does not use {key}; it uses {', '.join(used)}")


def load(
    checkpoint: str, config_path: str | None, overrides: tuple[str, ...], engine: str | None
) -> "tuple[Checkpoint, Config]":
    """`loading.settings_for` for a command that reads a dataset."""
    from hwr.loading import settings_for

    refuse_unused(overrides, "data", *READING)

    def note(text: str) -> None:
        if not rank_and_world_size()[0]:
            echo(f"hwr: {text}", err=True)

    return settings_for(checkpoint, config_path, with_engine(overrides, engine), dataset=True, note=note)
