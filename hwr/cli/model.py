"""The commands `hwr info` and `hwr export`: describe a checkpoint, and write it in other formats."""

from pathlib import Path

import click

from hwr import Error, bundled
from hwr.cli.options import Command, examples
from hwr.system.terminal import echo

sizes_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    help="The recipe of a bare .params, for its image size, such as iam_word (default: that of iam_line).",
)


@click.command(cls=Command)
@click.argument("checkpoint", metavar="CHECKPOINT")
@sizes_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@examples("""
    hwr info runs/iam_line/best.safetensors
    hwr info models/handwriting_line8.params --json
    hwr info words.params --config iam_word
""")
def info(checkpoint: str, config_path: str | None, as_json: bool) -> None:
    """Describe a checkpoint: its network, alphabet, data, scores and decoder."""
    from hwr import describe
    from hwr.system.json_text import to_json

    about = describe.describe(checkpoint, config_path)
    echo(to_json(about) if as_json else describe.table(about))


@click.command(cls=Command)
@click.argument("checkpoint", metavar="CHECKPOINT")
@sizes_option
@click.option("--format", "kind", type=click.Choice(["onnx", "torchscript", "params", "safetensors"]), required=True)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Output file (default: next to the checkpoint; for hwr-latin, the current folder).",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "fp16"]),
    help="Shrink the file: int8 for onnx on a CPU, fp16 for safetensors.",
)
@examples("""
    hwr export runs/iam_line/best.safetensors --format onnx
    hwr export runs/iam_line/best.safetensors --format onnx --quantize int8 --out small.onnx
    hwr export runs/iam_line/best.safetensors --format params --out line.params
    hwr export words.params --config iam_word --format safetensors
    hwr predict --checkpoint runs/iam_line/best.onnx line.png
""")
def export(checkpoint: str, config_path: str | None, kind: str, out: Path | None, quantize: str | None) -> None:
    """Export a checkpoint for other programs, and check that its outputs stay the same.

    ONNX and TorchScript map (N, H, W) uint8 pixels (with arch crnn also (N,) int64 widths) to (N, T, C) logits, for any
    number of lines, and any width that the network accepts. params is Gluon's format, for the original network only.
    """
    from hwr.engines.export import FORMATS
    from hwr.engines.export import export as run
    from hwr.loading import check_sizes, settings_for

    if Path(checkpoint).suffix == ".onnx":
        raise Error(f"{checkpoint} is an exported network; export its .safetensors")
    check_sizes(checkpoint, config_path)
    source, beside = bundled.model(checkpoint), Path(checkpoint).with_suffix(FORMATS[kind])
    if out is None and kind == "safetensors" and source.suffix == ".params" and beside.exists():
        raise Error(f"{beside} exists already, and may store more than these weights; name the file with --out")
    out = out or beside
    if out.exists() and source.exists() and out.samefile(source):
        raise Error(f"{out} is the checkpoint itself; name another file with --out")
    loaded, settings = settings_for(
        checkpoint, config_path, ("engine.device=cpu", "engine.precision=fp32", "engine.name=torch"), decodes=False
    )
    away = run(loaded, settings, out, kind, quantize)
    what = "weights" if kind in ("params", "safetensors") else "logits"
    echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; its {what} differ from the checkpoint's by at most {away:.2g}")
