"""The command line: each command parses, loads the config and calls one function. Imports nothing heavy."""

import json
import sys
from pathlib import Path

import click

from hwr import Error, __version__, launched
from hwr.cli.data import data
from hwr.cli.iam import iam
from hwr.cli.lm import lm
from hwr.cli.options import (
    Group,
    checkpoint_option,
    config_option,
    decoder_options,
    engine_option,
    examples,
    load,
    say,
    set_option,
    with_engine,
    with_init,
)
from hwr.cli.predict import predict
from hwr.cli.synth import synth


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Turn photographed handwriting into text: train and evaluate line recognisers, and read with them."""
    command, (_, size) = context.invoked_subcommand, launched()
    if size > 1 and command not in ("train", "evaluate", "predict"):
        raise Error(f"hwr {command} is for one process; start it without torchrun")


@main.command()
@config_option
@set_option
@engine_option
@click.option("--out", metavar="FOLDER", help="Run folder (default: runs/NAME-OF-CONFIG).")
@click.option(
    "--init",
    metavar="FILE",
    help="Fine-tune this checkpoint: its network and weights, and its alphabet as --charset says (default: train.init).",
)
@click.option(
    "--charset",
    type=click.Choice(["keep", "union", "new"]),
    help="With --init: write the checkpoint's characters, those and the texts' (default), or data.alphabet's.",
)
@click.option("--resume", is_flag=True, help="Go on exactly where the run in --out was stopped or killed.")
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

    Prints a line per epoch and keeps, in the run folder, the best and the last checkpoint, history.csv, TensorBoard's
    event files and what an exact --resume needs. Ctrl-C saves and stops. torchrun's processes share each batch: the result
    is that of one process, but for rounding, for dropout, which each draws for itself, and for batch norm, which sees the
    lines of each apart.
    """
    from hwr import config
    from hwr.training.loop import train as run

    if config_path is None and not (resume and out):
        raise click.UsageError("give --config FILE, or --resume with --out FOLDER")
    folder = Path(out) if out else Path("runs") / Path(str(config_path)).stem
    given = with_engine(overrides, engine)
    given += [f"train.init={json.dumps(init)}"] if init else []
    given += [f"train.charset={charset}"] if charset else []
    settings = config.load(config_path or folder / "config.yaml", given)
    if charset and not settings.train.init:
        raise click.UsageError("--charset is for fine-tuning: name the checkpoint with --init")
    if settings.train.init and (config_path or init):  # the config of a run that is resumed has it all
        settings = with_init(settings, settings.train.init, overrides)
    if not run(settings, folder, resume, say=say):
        sys.exit(130)


@main.command()
@checkpoint_option
@config_option
@set_option
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@decoder_options
@engine_option
@click.option("--json", "json_path", metavar="FILE", help="Write the whole report here (-: on screen, for the table).")
@click.option("--picture", "picture_path", metavar="FILE", help="Draw lines with what was read (PNG).")
@click.option(
    "--report", "page_path", metavar="FILE", help="Write a web page with every line, its faults marked (HTML)."
)
@examples("""
    hwr evaluate --checkpoint runs/iam_line/best.safetensors --report report.html
    hwr evaluate --checkpoint models/handwriting_line8.params --set data.root=data/iam --json report.json
    hwr evaluate --checkpoint runs/iam_line/best.safetensors --lm iam.arpa --lm-weight 0.6 --insertion 1
""")
def evaluate(
    checkpoint: str,
    config_path: str | None,
    overrides: tuple[str, ...],
    split: str,
    engine: str | None,
    json_path: str | None,
    picture_path: str | None,
    page_path: str | None,
    decoding: list[str],
) -> None:
    """Read a split and score what was read: CER with its interval, WER, loss, the worst lines."""
    from hwr.evaluation import report, report_html
    from hwr.evaluation.evaluate import evaluate as run
    from hwr.recognizer import Recognizer

    for path in filter(None, (json_path, picture_path, page_path)):
        if not Path(path).parent.is_dir():  # not after minutes of reading
            raise Error(f"{path}: there is no folder {Path(path).parent}")
    loaded, settings = load(checkpoint, config_path, (*overrides, *decoding), engine)
    result = run(Recognizer(loaded, settings), split=split, checkpoint=checkpoint)
    if launched()[0]:
        return  # process 0 has it all
    if json_path == "-":
        click.echo(report.to_json(result.to_dict()))
    else:
        click.echo(report.table(result.to_dict()))
        if json_path:
            report.write_json(json_path, result.to_dict())
    if picture_path:
        report.write_picture(picture_path, result.lines, result.predictions.texts)
    if page_path:
        report_html.write(
            page_path, result.to_dict(), result.predictions, result.lines, Path(checkpoint).with_name("history.csv")
        )


@main.command("export-typo")
@checkpoint_option
@config_option
@set_option
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Lines to read."
)
@decoder_options
@click.option(
    "--n-best", type=click.IntRange(min=1), metavar="K", help="Also write up to K readings a line, with their scores."
)
@engine_option
@click.option("--out", required=True, metavar="FOLDER", help="Where the files go.")
@examples("""
    hwr export-typo --checkpoint runs/iam_line/best.safetensors --out typo
    hwr export-typo --checkpoint models/handwriting_line8.params --split test --out typo
""")
def export_typo(
    checkpoint: str,
    config_path: str | None,
    overrides: tuple[str, ...],
    split: str,
    n_best: int | None,
    engine: str | None,
    out: str,
    decoding: list[str],
) -> None:
    """Write what a spelling corrector trains on.

    validating.json: [reference, prediction] pairs of the split's lines; text_train.txt: the training texts, one a line.
    With --n-best, validating_nbest.json has for each of the lines {"reference", "readings": [[text, score], …]}, the best
    first; a score is a natural logarithm, of the network's probability plus what the language model adds.
    """
    from hwr.evaluation.export_typo import export_typo as run
    from hwr.recognizer import Recognizer

    loaded, settings = load(checkpoint, config_path, (*overrides, *decoding), engine)
    notes, paths = run(Recognizer(loaded, settings), split, out, n_best)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    for path in paths:
        click.echo(path)


main.add_command(export_typo, "export-typo-dataset")


@main.command()
@config_option
@set_option
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="train", show_default=True)
@click.option("--out", required=True, metavar="FILE", help="The picture (PNG).")
@click.option("--lines", default=6, show_default=True, type=click.IntRange(min=1), help="Spread over the split.")
@click.option("--times", default=5, show_default=True, type=click.IntRange(min=1), help="Warps of each.")
@examples("""
    hwr augment --config configs/lines_cpu.yaml --set data.root=/data/mine --out sheet.png
    hwr augment --config configs/iam_line.yaml --set augment.shear=0.3 --out sheet.png
""")
def augment(config_path: str | None, overrides: tuple[str, ...], split: str, out: str, lines: int, times: int) -> None:
    """Draw lines as the network sees them, and under them what augmentation makes of each."""
    from hwr import config, data, networks
    from hwr.evaluation.evaluate import lines_of
    from hwr.images import cache
    from hwr.images.contact_sheet import spread, write

    if not Path(out).parent.is_dir():
        raise Error(f"{out}: there is no folder {Path(out).parent}")
    settings = config.load(config_path, list(overrides))
    geometry = networks.geometry(settings)
    chosen = spread(lines_of(data.read(settings.data), split, settings.data), lines)
    images = cache.prepared(chosen, geometry, settings.data.cache, progress=True)
    write(out, images, settings.augment, settings.train.seed, times, centred=geometry.any_width)
    click.echo(out)


@main.command()
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@examples("""
    hwr info runs/iam_line/best.safetensors
    hwr info models/handwriting_line8.params --json
""")
def info(checkpoint: str, as_json: bool) -> None:
    """Tell what a checkpoint is: its network, alphabet, data, scores and decoder."""
    from hwr.cli.info import info as run
    from hwr.cli.info import table
    from hwr.evaluation import report
    from hwr.recognizer import load_checkpoint

    about = run(checkpoint, load_checkpoint(checkpoint))
    click.echo(report.to_json(about) if as_json else table(about))


@main.command()
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option("--format", "kind", type=click.Choice(["onnx", "torchscript", "params", "safetensors"]), required=True)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Default: beside the checkpoint.")
@click.option(
    "--quantize", type=click.Choice(["int8", "fp16"]), help="Smaller: int8 for onnx on a CPU, fp16 for safetensors."
)
@examples("""
    hwr export runs/iam_line/best.safetensors --format onnx
    hwr export runs/iam_line/best.safetensors --format onnx --quantize int8 --out small.onnx
    hwr export runs/iam_line/best.safetensors --format params --out line.params
    hwr predict --checkpoint runs/iam_line/best.onnx line.png
""")
def export(checkpoint: str, kind: str, out: Path | None, quantize: str | None) -> None:
    """Write a checkpoint for other programs, and see that it reads the same there.

    ONNX and TorchScript go from (N, H, W) uint8 pixels (with arch crnn also (N,) int64 widths) to (N, T, C) logits, any
    number of lines, any width where the network takes it. params are Gluon's, of the original network.
    """
    from hwr.engines.export import FORMATS
    from hwr.engines.export import export as run

    out = out or Path(checkpoint).with_suffix(FORMATS[kind])
    if out.exists() and Path(checkpoint).exists() and out.samefile(checkpoint):
        raise Error(f"{out}: is the checkpoint itself; name another file with --out")
    loaded, settings = load(checkpoint, None, ("engine.device=cpu", "engine.precision=fp32"), "torch")
    away = run(loaded, settings, out, kind, quantize)
    what = "weights" if kind in ("params", "safetensors") else "logits"
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; its {what} are at most {away:.2g} from the checkpoint's")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@examples("""
    hwr completion bash >> ~/.bashrc
    hwr completion zsh >> ~/.zshrc
    hwr completion fish > ~/.config/fish/completions/hwr.fish
""")
def completion(shell: str) -> None:
    """Print what makes a shell complete hwr's commands and options."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "hwr", "_HWR_COMPLETE").source())


main.add_command(data)
main.add_command(iam)
main.add_command(lm)
main.add_command(predict)
main.add_command(synth)
