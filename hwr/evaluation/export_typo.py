"""`hwr export-typo`: training data for a spelling corrector."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwr import data
from hwr.config import Decode
from hwr.decoding import Decoder
from hwr.evaluation.evaluate import prepared, read_with
from hwr.images import pieces
from hwr.recognizer import Recognizer
from hwr.system.atomic import make_folder, replacing


def export_typo(
    model: Recognizer, split: str, out: str | Path, n_best: int | None = None
) -> tuple[list[str], list[Path]]:
    """Write the two files of the original system and, with `n_best`, validating_nbest.json (by beam search).

    `validating.json` is a list of [reference, prediction] pairs, one for each line of the split; `text_train.txt` has the
    training lines' transcriptions, one per line, in UTF-8.

    Args:
        split: The split to read. The original used its test lines; `val` keeps the test lines unseen.
        out: A folder; created if missing.

    Returns:
        Notes on the data, and the paths.
    """
    searching = _searching(model.decoder, model.config.decode, n_best) if n_best else None
    out = Path(out)
    make_folder(out)
    config = model.config
    dataset = data.read(config.data)
    lines, training = data.lines_of(dataset, split, config.data), data.lines_of(dataset, "train", config.data)
    examples = prepared(lines, model.alphabet, pieces.unsqueezed(model.geometry), config.data.cache)
    texts = read_with(model, examples).texts
    pairs_path, train_path = out / "validating.json", out / "text_train.txt"
    with replacing(pairs_path) as temporary:
        pairs = [[line.text, text] for line, text in zip(lines, texts, strict=True)]
        temporary.write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")
    with replacing(train_path) as temporary:
        temporary.write_text("".join(f"{line.text}\n" for line in training), encoding="utf-8")
    paths, nbest_path, notes = [pairs_path, train_path], out / "validating_nbest.json", list(dataset.notes)
    if searching and n_best:
        readings: list[dict[str, Any]] = [{}] * len(lines)
        for batch, logits in model.logits(examples.images):
            found = searching.n_best(logits, n_best)
            for i, hypotheses in zip(batch.index.tolist(), found, strict=True):
                alternatives = [[h.text, round(h.score, 4)] for h in hypotheses]
                readings[i] = {"reference": lines[i].text, "readings": alternatives}
        paths.append(nbest_path)
        with replacing(nbest_path) as temporary:
            temporary.write_text(json.dumps(readings, ensure_ascii=False), encoding="utf-8")
    elif nbest_path.exists():
        notes.append(f"{nbest_path} is of an earlier export; --n-best would replace it")
    return notes, paths


def _searching(decoder: Decoder, settings: Decode, n_best: int) -> Decoder:
    """The decoder; beam search if none was chosen, because greedy decoding gives only one reading.

    Raises:
        Error: The decoder can't give that many readings.
    """
    if settings.name is None and decoder.settings.name == "greedy":
        decoder = replace(decoder, settings=replace(decoder.settings, name="beam"))
    decoder.check_n_best(n_best)
    return decoder
