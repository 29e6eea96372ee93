"""The command `hwr train`."""

import shlex
import sys
from pathlib import Path

import click

from hwr import Error
from hwr.cli.options import Command, config_option, examples, set_option, training_engine_option, with_engine
from hwr.system.terminal import say


@click.command(cls=Command)
@config_option
@set_option
@training_engine_option
@click.option("--out", metavar="FOLDER", help="Run folder (default: runs/NAME-OF-CONFIG).")
@click.option(
    "--init",
    metavar="FILE",
    help="Checkpoint to fine-tune; it determines the network and, with --charset, the alphabet (default: train.init).",
)
@click.option(
    "--charset",
    type=click.Choice(["keep", "union", "new"]),
    help="Alphabet when fine-tuning: keep the checkpoint's, add the training texts' characters (union, the default), or use data.alphabet (new).",
)
@click.option("--resume", is_flag=True, help="Resume the run in --out exactly where it stopped.")
@examples("""
    hwr train --config configs/iam_line.yaml
    hwr train --config configs/iam_line.yaml --set data.root=/data/mine --set train.batch_size=8 --out runs/mine
    hwr train --config configs/finetune.yaml --set data.root=/data/mine --out runs/mine
    hwr train --config configs/finetune.yaml --init runs/mine/best.safetensors --set data.root=/data/more
    hwr train --resume --out runs/mine
    torchrun --nproc-per-node 4 -m hwr train --config configs/iam_line_best.yaml
""")
def train(
    config_path: str | None,
    overrides: tuple[str, ...],
    engine: str | None,
    out: str | None,
    init: str | None,
    charset: str | None,
    resume: bool,
) -> None:
    """Train a recogniser.

    Prints one line per epoch. The run folder holds the best and the last checkpoint, history.csv, TensorBoard event files
    and the state for an exact --resume. Ctrl-C saves and stops. Under torchrun the processes share each batch. The result
    equals that of one process except for rounding, dropout (drawn per process) and batch norm (statistics per process).
    """
    from hwr import config
    from hwr.system.processes import rank_and_world_size
    from hwr.training.finetune import fine_tuning_config
    from hwr.training.loop import train as run

    if config_path is None and not (resume and out):
        raise click.UsageError("give --config FILE, or --resume with --out FOLDER")
    folder = Path(out) if out else Path("runs") / Path(str(config_path)).stem
    if config_path is None and not (folder / "config.yaml").exists():
        raise Error(
            f"{folder}: there is no run to resume here (no such config file: config.yaml); start one with --config FILE"
        )
    keys = with_engine(overrides, engine)
    keys += [] if init is None else [f"train.init={init}"]
    keys += [f"train.charset={charset}"] if charset else []
    given = config.given(config_path or folder / "config.yaml", keys)
    if charset and not given.keys("train").get("init"):
        raise click.UsageError("--charset applies to fine-tuning only: name a checkpoint with --init")
    # A resumed run's config already has the network's keys.
    settings = fine_tuning_config(given) if config_path or init else config.over(given)
    if not run(settings, folder, resume, say=say):
        sys.exit(130)
    if not rank_and_world_size()[0]:
        say(f"Next: hwr evaluate --checkpoint {shlex.quote(str(folder / 'best.safetensors'))}")
