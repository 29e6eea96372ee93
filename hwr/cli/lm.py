"""`hwr lm`: language models for reading."""

from pathlib import Path

import click

from hwr import Error, bundled
from hwr.cli.options import Group, checkpoint_option, config_option, engine_option, examples, load, set_option


@click.group(cls=Group)
def lm() -> None:
    """Character n-grams that help to read: build one, find how much to heed it."""


@lm.command()
@click.option(
    "--text",
    "texts",
    required=True,
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Text, one line of writing a line, as text_train.txt of export-typo; may be given several times.",
)
@click.option("--order", default=6, show_default=True, type=click.IntRange(min=2), help="Characters of an n-gram.")
@click.option("--out", required=True, metavar="FILE", help="The model: .arpa, which other tools read too, or .bin.")
@examples("""
    hwr lm build --text typo/text_train.txt --out lm.arpa
    hwr lm build --text typo/text_train.txt --text more.txt --order 7 --out lm.bin
""")
def build(texts: tuple[Path, ...], order: int, out: str) -> None:
    """Count a language model of characters, with modified Kneser-Ney smoothing.

    Leave out texts that you want to read or to choose settings by: only those of the training lines, and other texts.
    """
    from hwr.decoding import ngram
    from hwr.evaluation.tune import texts_of

    if not Path(out).parent.is_dir():
        raise Error(f"{out}: there is no folder {Path(out).parent}")
    if Path(out).suffix not in (".arpa", ".bin"):
        raise Error(f"{out}: a language model's file ends with .arpa or .bin")
    lines = texts_of(list(texts))
    model = ngram.build(lines, order)
    ngram.save(out, model)
    counts = ", ".join(f"{count:,}" for count in model.counts)
    click.echo(f"{out}: {len(lines):,} lines, {len(model.characters)} characters; n-grams of 1 to {order}: {counts}")


@lm.command()
@checkpoint_option
@config_option
@set_option
@click.option("--lm", "lm_path", metavar="FILE", help="Of `hwr lm build`. Without: confidences only.")
@click.option("--words", metavar="FILE", help="A word list, or any text; finds what an unknown word should cost, too.")
@click.option("--beam", default=16, show_default=True, type=click.IntRange(min=1), help="Texts kept per step.")
@engine_option
@click.option("--out", metavar="FILE", help="The checkpoint with the settings (default: --checkpoint itself).")
@examples("""
    hwr lm tune --checkpoint runs/iam_line/best.safetensors --lm lm.arpa
    hwr lm tune --checkpoint runs/iam_line/best.safetensors --out calibrated.safetensors
""")
def tune(
    checkpoint: str,
    config_path: str | None,
    overrides: tuple[str, ...],
    lm_path: str | None,
    words: str | None,
    beam: int,
    engine: str | None,
    out: str | None,
) -> None:
    """Find the decoder's weights on the validation lines, and store them in the checkpoint.

    The language model's weight and the bonus per character are those of the lowest CER; then confidences are calibrated, by
    a temperature, to tell what share of a line's characters is right. The test lines are not looked at.
    """
    from hwr.evaluation import tune
    from hwr.evaluation.report import percent
    from hwr.recognizer import Recognizer

    target = out or checkpoint
    if bundled.is_model_name(target):
        raise Error(f"{target} is the bundled model, which stays as it is; name a file for the tuned one with --out")
    if target.endswith(".params"):
        raise Error(f"{target}: a .params file holds weights alone; name a .safetensors with --out")
    loaded, settings = load(checkpoint, config_path, overrides, engine)
    if loaded.exported:
        raise Error(f"{checkpoint}: is an exported network; tune its .safetensors, then export that")
    lm_path, words = (str(Path(path).absolute()) if path else None for path in (lm_path, words))
    found = tune.tune(Recognizer(loaded, settings), lm_path, words, beam)
    for weight, insertion, unknown, cer in found.tried:
        click.echo(f"lm-weight {weight:<7.4g} insertion {insertion:<7.4g} unknown {unknown:<5.4g} CER {percent(cer)}")
    if found.tried:
        chosen = found.decode
        click.echo(f"greedy: held-out CER {percent(found.greedy_cer)}")
        click.echo(
            f"beam {beam}, lm-weight {chosen.lm_weight:g}, insertion {chosen.insertion:g}, unknown {chosen.unknown:g}: "
            f"held-out CER {percent(found.cer)}"
        )
    click.echo(
        f"temperature {found.decode.temperature:g}: confidence is {percent(found.error)} off (ECE), "
        f"before {percent(found.error_before)}"
    )
    tune.save(target, loaded, found)
    click.echo(f"stored in {target}")
