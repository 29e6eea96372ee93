"""`hwr lm`: language models for reading."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hwr import Error, bundled
from hwr.cli.options import Group, config_option, decoder_setting, engine_option, examples, load, set_option
from hwr.system.terminal import counted, echo

if TYPE_CHECKING:
    from hwr.decoding.ngram import LM


@click.group(cls=Group)
def lm() -> None:
    """Build a character n-gram language model, and tune its weight."""


@lm.command()
@click.option(
    "--text",
    "texts",
    required=True,
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Text file with one transcribed line per line, such as export-typo's text_train.txt; repeatable.",
)
@click.option(
    "--add-to",
    metavar="MODEL",
    help="Add the texts to an existing model: .bin, .arpa, a checkpoint that stores one, or hwr-latin.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="S",
    help="With --add-to: weight of the new texts, 0 to 1 (default: the best for a tenth of them, held out).",
)
@click.option(
    "--order",
    type=click.IntRange(min=2),
    help="Length of the longest n-grams, in characters (default: 6, or that of the model of --add-to).",
)
@click.option(
    "--normalise",
    type=click.Choice(["NFC", "NFKC", "NFD", "none"]),
    default="NFC",
    show_default=True,
    help="Unicode normal form of the text; should equal data.normalise.",
)
@click.option(
    "--max-mb",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Prune and quantise the model to at most N megabytes (.bin only).",
)
@click.option("--out", required=True, metavar="FILE", help="Model file: .arpa, which other tools can read, or .bin.")
@examples("""
    hwr lm build --text typo/text_train.txt --out lm.arpa
    hwr lm build --text typo/text_train.txt --text more.txt --order 7 --max-mb 8 --out lm.bin
    hwr lm build --add-to hwr-latin --text parish_names.txt --out lm.bin
""")
def build(
    texts: tuple[Path, ...],
    add_to: str | None,
    share: float | None,
    order: int | None,
    normalise: Literal["NFC", "NFKC", "NFD", "none"],
    max_mb: float | None,
    out: str,
) -> None:
    """Build a character language model with modified Kneser-Ney smoothing.

    Use the texts of the training lines, and other texts. The texts of validation or test lines would inflate the scores.
    --add-to mixes the model of your texts with an existing one, for example names and words of your documents.
    """
    from hwr.decoding import language_model, mix, ngram, prune
    from hwr.evaluation.tune import texts_of
    from hwr.system.atomic import check_folder_of

    check_folder_of(out)
    if Path(out).suffix not in (".arpa", ".bin"):
        raise Error(f"{out}: the name of a language model must end in .arpa or .bin")
    if max_mb is not None and Path(out).suffix != ".bin":
        raise Error(f"{out}: --max-mb needs a .bin file")
    if share is not None and not add_to:
        raise Error("--share needs --add-to: it is the weight of the new texts in the mixture")
    if add_to and max_mb is not None:
        raise Error("--max-mb can't prune a model from --add-to, because the counts of its texts are not known")
    if order is not None and order > language_model.MOST_ORDERS:
        raise Error(f"--order {order}: n-grams have at most {language_model.MOST_ORDERS} characters")
    base = _existing(add_to) if add_to else None
    lines = texts_of(list(texts), normalise)
    if base is not None:
        found = mix.add(base, lines, share, order)
        model = found.lm
        measured = f"; perplexity of held-out lines {found.before:.2f} -> {found.after:.2f}" if share is None else ""
        if found.share < 0.005:
            echo(
                f"note: the texts add nothing to {add_to}, which knows them or their like; --share gives them a weight",
                err=True,
            )
        echo(f"{add_to}: share of the new texts {found.share:.2f}{measured}")
    else:
        model, times = ngram.count(lines, order or 6)
        if max_mb is not None:
            model = prune.to_size(model, times, max_mb)
    language_model.save(out, model)
    counts = ", ".join(f"{count:,}" for count in model.counts)
    echo(
        f"{out}: {counted(len(lines), 'line')}, {counted(len(model.characters), 'character')}; n-grams of 1 to {model.order}: {counts}; {Path(out).stat().st_size / 1e6:.1f} MB"
    )


def _existing(name: str) -> "LM":
    """The language model of a file, of a checkpoint, or of the bundled model."""
    from hwr.decoding import language_model
    from hwr.loading import load_checkpoint

    if name.endswith((".bin", ".arpa")):
        return language_model.load(name)
    return language_model.stored(name, load_checkpoint(bundled.model(name)))


@lm.command()
@click.option(
    "--checkpoint",
    required=True,
    metavar="FILE",
    help="A .safetensors checkpoint; with --out also a .params (Gluon) file, or hwr-latin, the bundled model.",
)
@config_option
@set_option
@click.option(
    "--lm",
    "lm_path",
    metavar="FILE",
    help="A language model from `hwr lm build`, a checkpoint that stores one, or hwr-latin. Without it and --words, only confidences are calibrated.",
)
@click.option("--words", metavar="FILE", help="A word list, or any text; also tunes the unknown-word penalty.")
@click.option("--beam", type=click.IntRange(min=1), help="Beam width, with --lm or --words.  [default: 32]")
@engine_option
@click.option(
    "--out",
    metavar="FILE",
    help="Checkpoint to write, with the settings and models stored in it (default: overwrite --checkpoint).",
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
    beam: int | None,
    engine: str | None,
    out: str | None,
) -> None:
    """Tune the decoder on the validation lines, and store its settings and the language model in the checkpoint.

    Chooses the weight of the language model, the length bonus and the unknown-word penalty with the lowest CER. Then
    calibrates confidences, so that a line's confidence estimates the share of its characters that are right. Test lines are not used.
    `hwr evaluate` and `hwr predict` use the stored settings; --decoder greedy ignores them.
    """
    from hwr.config.decoder_settings import BEAM
    from hwr.evaluation import tune
    from hwr.evaluation.report import described, percent
    from hwr.recognizer import Recognizer
    from hwr.system.atomic import check_folder_of

    target = out or checkpoint
    if target == bundled.MODEL:
        raise Error(f"{target} is the bundled model, which must not be overwritten; name another file with --out")
    if target.endswith(".params"):
        raise Error(f"{target}: a .params file holds only weights; name a .safetensors with --out")
    if out is not None and Path(out).suffix != ".safetensors":
        raise Error(f"--out {out}: the name of a checkpoint ends in .safetensors")
    check_folder_of(target)
    if beam is not None and not lm_path and not words:
        raise Error(
            "--beam needs --lm or --words: without one the decoder stays as it is, and only confidences are tuned"
        )
    for text in overrides:
        if text.partition("=")[0].partition(".")[0] == "decode":
            raise Error(f"--set {text}: tuning finds the decoder's settings; give --lm, --words and --beam")
    given = [decoder_setting(key, value) for key, value in (("lm", lm_path), ("words", words)) if value]
    loaded, settings = load(checkpoint, config_path, (*overrides, *given), engine)
    if loaded.exported:
        raise Error(f"{checkpoint} is an exported network; tune its .safetensors, then export that")
    found = tune.tune(Recognizer(loaded, settings), (beam or BEAM) if lm_path or words else None)
    for weight, bonus, penalty, cer in found.tried:
        echo(f"lm-weight {weight:<7.4g} length-bonus {bonus:<7.4g} unknown-penalty {penalty:<5.4g} CER {percent(cer)}")
    if found.tried:
        echo(f"greedy: validation CER {percent(found.greedy_cer)}")
        if found.former_cer is not None:
            echo(f"as stored until now, {described(loaded.config.decode)}: validation CER {percent(found.former_cer)}")
        echo(f"{described(found.decode)}: validation CER {percent(found.cer)}")
    echo(f"confidences: calibration error (ECE) {percent(found.error)}, before {percent(found.error_before)}")
    tune.save(target, loaded, found)
    echo(f"stored in {target}")
    if found.former_cer is not None and found.former_cer < found.cer:
        echo(
            f"note: the validation lines were read better with the language model or word list that {checkpoint} stored",
            err=True,
        )
