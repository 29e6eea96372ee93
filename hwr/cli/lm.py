"""`hwr lm`: language models for reading."""

import json
from pathlib import Path
from typing import Literal

import click

from hwr import Error, bundled
from hwr.cli.options import Group, checkpoint_option, config_option, engine_option, examples, load, set_option


@click.group(cls=Group)
def lm() -> None:
    """Character n-grams that help to read: build one, and find its weight."""


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
@click.option(
    "--normalise",
    type=click.Choice(["NFC", "NFKC", "NFD", "none"]),
    default="NFC",
    show_default=True,
    help="Unicode normal form of the text; that of data.normalise.",
)
@click.option(
    "--max-mb",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Prune and quantise the model to at most so many megabytes (.bin).",
)
@click.option("--out", required=True, metavar="FILE", help="The model: .arpa, which other tools read too, or .bin.")
@examples("""
    hwr lm build --text typo/text_train.txt --out lm.arpa
    hwr lm build --text typo/text_train.txt --text more.txt --order 7 --max-mb 8 --out lm.bin
""")
def build(
    texts: tuple[Path, ...],
    order: int,
    normalise: Literal["NFC", "NFKC", "NFD", "none"],
    max_mb: float | None,
    out: str,
) -> None:
    """Count a language model of characters, with modified Kneser-Ney smoothing.

    Use the texts of the training lines and other texts; those of validation or test lines would flatter the scores.
    """
    from hwr.decoding import language_model, ngram, prune
    from hwr.evaluation.tune import texts_of

    if not Path(out).parent.is_dir():
        raise Error(f"{out}: there is no folder {Path(out).parent}")
    if Path(out).suffix not in (".arpa", ".bin"):
        raise Error(f"{out}: a language model's file ends with .arpa or .bin")
    if max_mb is not None and Path(out).suffix != ".bin":
        raise Error(f"{out}: --max-mb is for a .bin")
    lines = texts_of(list(texts), normalise)
    model, times = ngram.count(lines, order)
    if max_mb is not None:
        model = prune.to_size(model, times, max_mb)
    language_model.save(out, model)
    counts = ", ".join(f"{count:,}" for count in model.counts)
    click.echo(
        f"{out}: {len(lines):,} lines, {len(model.characters)} characters; n-grams of 1 to {model.order}: {counts}; {Path(out).stat().st_size / 1e6:.1f} MB"
    )


@lm.command()
@checkpoint_option
@config_option
@set_option
@click.option(
    "--lm",
    "lm_path",
    metavar="FILE",
    help="A language model of `hwr lm build`. Without one or a word list: confidences only.",
)
@click.option("--words", metavar="FILE", help="A word list, or any text; finds the unknown-word penalty, too.")
@click.option("--beam", default=16, show_default=True, type=click.IntRange(min=1), help="Texts kept per step.")
@engine_option
@click.option(
    "--out", metavar="FILE", help="The checkpoint with the settings and the models (default: --checkpoint itself)."
)
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
    """Find the decoder's weights on the validation lines, and store them in the checkpoint with the language model itself.

    The weight of the language model, the length bonus and the unknown-word penalty are those of the lowest CER. Then a
    temperature calibrates confidences, so that they tell what share of a line's characters is right. The test lines are not
    looked at. `hwr evaluate` and `hwr predict` use what is stored; --decoder greedy turns it off.
    """
    from hwr.evaluation import tune
    from hwr.evaluation.report import described, percent
    from hwr.recognizer import Recognizer

    target = out or checkpoint
    if bundled.is_model_name(target):
        raise Error(f"{target} is the bundled model, which stays as it is; name a file for the tuned one with --out")
    if target.endswith(".params"):
        raise Error(f"{target}: a .params file holds weights alone; name a .safetensors with --out")
    given = [f"decode.{key}={json.dumps(value)}" for key, value in (("lm", lm_path), ("words", words)) if value]
    loaded, settings = load(checkpoint, config_path, (*overrides, *given), engine)
    if loaded.exported:
        raise Error(f"{checkpoint}: is an exported network; tune its .safetensors, then export that")
    found = tune.tune(Recognizer(loaded, settings), beam if lm_path or words else None)
    for weight, bonus, penalty, cer in found.tried:
        click.echo(
            f"lm-weight {weight:<7.4g} length-bonus {bonus:<7.4g} unknown-penalty {penalty:<5.4g} CER {percent(cer)}"
        )
    if found.tried:
        click.echo(f"greedy: validation CER {percent(found.greedy_cer)}")
        click.echo(f"{described(found.decode)}: validation CER {percent(found.cer)}")
    click.echo(
        f"temperature {found.decode.temperature:g}: confidence is {percent(found.error)} off (ECE), "
        f"before {percent(found.error_before)}"
    )
    tune.save(target, loaded, found)
    click.echo(f"stored in {target}")
