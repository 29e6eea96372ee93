"""What the commands share: their options, examples in their help, errors as one message, loading a checkpoint."""

import functools
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from hwr import Error
from hwr.processes import rank_and_world_size

if TYPE_CHECKING:
    from hwr.checkpoint import Checkpoint
    from hwr.config import Config


class Command(click.Command):
    """Lets one --set be followed by several: `--set train.epochs=2 train.lr=1e-3`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        for arg in args:
            after_set = spread[-2:-1] == ["--set"] or (spread[-1:] and spread[-1].startswith("--set="))
            if after_set and re.match(r"[a-z]+\.[a-z_]+=", arg):
                spread.append("--set")
            spread.append(arg)
        return super().parse_args(context, spread)


class Group(click.Group):
    """Prints our own errors as one message, without a traceback."""

    command_class = Command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise  # nobody reads any more; click ends quietly
        except (Error, OSError) as error:
            if context.find_root().params.get("debug"):
                traceback.print_exc()
            rank, size = rank_and_world_size()
            click.echo(f"hwr{f' (process {rank} of {size})' if size > 1 else ''}: {error}", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            context.exit(130)


def examples(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add examples to a command's help, with their line breaks kept."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        lines = "\n".join(f"  {line.strip()}" for line in text.strip().splitlines())
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nExamples:\n{lines}\n"
        return function

    return add


config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    help="A YAML file, or the name of a bundled recipe, as lines_cpu; every key is in configs/iam_line.yaml.",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override keys, as train.epochs=2 train.lr=1e-3."
)
engine_option = click.option(
    "--engine", type=click.Choice(["torch", "mxnet"]), help="What computes (default: the config's, torch)."
)
checkpoint_option = click.option(
    "--checkpoint",
    required=True,
    metavar="FILE",
    help="A .safetensors of hwr, a bare Gluon .params, an exported .onnx, or hwr-latin, the bundled model.",
)


_DECODER = {
    **{"decoder": "name", "beam": "beam", "lm": "lm", "lm_weight": "lm_weight", "insertion": "insertion"},
    **{"words": "words", "unknown": "unknown"},
}


def decoder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the decoder, handed on as one argument: overrides of the config."""

    @functools.wraps(function)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        given = {key: kwargs.pop(option) for option, key in _DECODER.items()}
        if (given["lm"] or given["words"]) and given["name"] is None:
            given["name"] = "beam"
        settings = [f"decode.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
        return function(*args, decoding=settings, **kwargs)

    for option in reversed(
        [
            click.option("--decoder", type=click.Choice(["greedy", "beam"]), help="Default: the checkpoint's."),
            click.option("--beam", type=click.IntRange(min=1), help="Texts kept per step of the beam search."),
            click.option("--lm", metavar="FILE", help="A language model of `hwr lm build`; means --decoder beam."),
            click.option("--lm-weight", type=click.FloatRange(min=0), help="Of the language model; see `hwr lm tune`."),
            click.option("--insertion", type=float, help="Nats added per character."),
            click.option("--words", metavar="FILE", help="A word list, or any text; means --decoder beam."),
            click.option("--unknown", type=click.FloatRange(min=0), help="Nats that a word costs that is not in it."),
        ]
    ):
        gathered = option(gathered)
    return gathered


def with_engine(overrides: tuple[str, ...], engine: str | None) -> list[str]:
    """The overrides, --engine among them."""
    return [*overrides, *([f"engine.name={engine}"] if engine else [])]


def say(line: str) -> None:
    """Print a line; once nobody reads any more (`| head`, a closed terminal), go on without."""
    try:
        click.echo(line)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def load(
    checkpoint: str, config_path: str | None, overrides: tuple[str, ...], engine: str | None
) -> "tuple[Checkpoint, Config]":
    """`recognizer.settings_for` for a command that reads a dataset."""
    from hwr.loading import settings_for

    def note(text: str) -> None:
        if not rank_and_world_size()[0]:
            click.echo(f"hwr: {text}", err=True)

    return settings_for(checkpoint, config_path, with_engine(overrides, engine), dataset=True, note=note)
