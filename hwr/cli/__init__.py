"""The command line: each command parses its options, calls one function and prints. No heavy imports here."""

import click

from hwr import Error, __version__
from hwr.cli.align import align
from hwr.cli.augment import augment
from hwr.cli.data import data
from hwr.cli.evaluate import evaluate, export_typo
from hwr.cli.iam import iam
from hwr.cli.lm import lm
from hwr.cli.model import export, info
from hwr.cli.options import Command, Group, examples
from hwr.cli.predict import predict
from hwr.cli.serve import serve
from hwr.cli.synth import synth
from hwr.cli.train import train
from hwr.system.processes import rank_and_world_size
from hwr.system.terminal import echo


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option(
    "--debug", is_flag=True, envvar="HWR_DEBUG", show_envvar=True, help="Also print the traceback of an error."
)
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Handwritten text recognition: train and evaluate line recognisers, and read images with them."""
    command, (_, size) = context.invoked_subcommand, rank_and_world_size()
    if size > 1 and command not in ("train", "evaluate", "predict"):
        raise Error(f"hwr {command} runs in one process; start it without torchrun")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@examples("""
    hwr completion bash >> ~/.bashrc
    hwr completion zsh >> ~/.zshrc
    hwr completion fish > ~/.config/fish/completions/hwr.fish
""")
def completion(shell: str) -> None:
    """Print the script that lets a shell complete hwr's commands and options."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    echo(found(main, {}, "hwr", "_HWR_COMPLETE").source())


for command in (
    train,
    evaluate,
    export_typo,
    predict,
    align,
    serve,
    data,
    lm,
    iam,
    synth,
    augment,
    info,
    export,
    completion,
):
    main.add_command(command)
main.add_command(export_typo, "export-typo-dataset")
