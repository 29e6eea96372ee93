"""The table and the plot of the results."""

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from compare_peers.task import REPOSITORY

_GENERAL = (
    "Each entrant ran once, with one seed: the intervals cover other test lines, not other seeds.",
    "All start from random weights. The other toolkits were not made for minutes on a CPU. Their settings are their defaults or "
    "those of their documentation, except as noted below and in the commands. Nobody tuned them for this comparison.",
    "hwr lowers its learning rate as its time runs out, and validates its last weights afterwards. The others keep their learning "
    "rate, and lose what they learned after their last validation.",
    "Preparing images (scaling, conversion, hwr's cache) does not count towards the time. Starting the program does, but hwr measures "
    "its own time (`train.minutes`), which may exclude its start. The conditions above give the total time of each entrant.",
)
_CHOSEN = (
    "hwr's recipe was chosen in about forty runs on these training and validation lines (docs/experiments.md). The idea to "
    "straighten lines came from a report on these test lines."
)
_PECULIAR = {
    "kraken": "kraken trains on single lines by default (`-B 1`). It read the test lines one at a time through its API "
    "(`RecognitionTaskModel`). It had as many threads as hwr (`--threads`). We turned on `--augment`, which is off by default, and "
    "let it validate more than once an epoch (`-F`), because it hardly finishes an epoch in this time. It straightens lines anew in "
    "every epoch; hwr does so once, beforehand.",
    "pylaia": "PyLaia took 8 lines at a time. We scaled them to 48 px beforehand; its documentation recommends 128. Its pooling "
    "of the width by 8 would leave long lines fewer time steps than characters, so our last pooling keeps the width. It validates "
    "once an epoch and loses what it learned in its last, unfinished epoch. Version 1.0.7 does not shuffle the training lines: we "
    "shuffled them once, beforehand. Its file includes the state of the optimizer. It needs torch 1.13.",
}


# Conditions that must be equal for all. The processor may differ; the table then says that it can't separate the two effects.
_CONDITIONS = ("minutes", "data", "lines", "threads", "smoke")


def write(out: Path, entrants: list[str]) -> None:
    """Write comparison.md and .png from the results in OUT: to docs/, or for a smoke run to OUT.

    comparison.json beside them keeps the results, so that an entrant that OUT lacks stands in the table with what it
    brought earlier under the same conditions.
    """
    found = {name: _read(out / name / "result.json") for name in entrants}
    folder = out if any(result["smoke"] for result in found.values() if result) else REPOSITORY / "docs"
    kept: dict[str, Any] = _read(folder / "comparison.json") or {}
    first = next((result for result in [*found.values(), *kept.values()] if result), None)
    if first is None:
        raise click.ClickException(f"{out} has no results")
    if any(result[key] != first[key] for result in kept.values() for key in _CONDITIONS):
        folder, kept = out, {}  # the published results have other conditions, and stay unchanged
    merged = {name: found[name] or kept.get(name) for name in entrants}
    results = [result for result in merged.values() if result and all(result[key] == first[key] for key in _CONDITIONS)]
    if other := [name for name, result in found.items() if result and result not in results]:
        raise click.ClickException(f"{out}: {', '.join(other)}: other conditions than {first['entrant']}'s")
    done = [result for result in results if "failure" not in result]
    content = {result["entrant"]: result for result in results}
    (folder / "comparison.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(_text(results, done), encoding="utf-8")
    _draw(done, folder / "comparison.png", results[0]["minutes"])
    click.echo(f"{folder / 'comparison.md'}, {folder / 'comparison.png'}")


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _text(results: list[dict[str, Any]], done: list[dict[str, Any]]) -> str:
    first = results[0]
    lines, minutes = first["lines"], f"{first['minutes']:g}"
    rows = [
        "| entrant | CER, % | 95 % interval | WER, % | training, lines/s | reading, lines/s | epochs | parameters | MB |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for result in results:
        if "failure" in result:
            rows.append(f"| {result['entrant']}: {result['about']} | none: {result['failure']} | | | | | | | |")
            continue
        low, high = (f"{100 * bound:.1f}" for bound in result["cer_ci95"])
        cells = [f"{result['entrant']}: {result['about']}", f"{100 * result['cer']:.1f}", f"{low} to {high}"]
        cells += [f"{100 * result['wer']:.1f}", _number(result["training_lines_per_second"], 1)]
        cells += [_number(result["reading_lines_per_second"], 1), _number(result["epochs"], 1)]
        cells += [f"{result['parameters'] / 1e6:.2f} M", _number(result["megabytes"], 1)]
        rows.append("| " + " | ".join(cells) + " |")
    over = sorted({result["over"] for result in done})
    smoke = "\nThis was a smoke run, on a few lines: the figures mean nothing.\n" if first["smoke"] else ""
    task = (
        f"Each toolkit trained for {minutes} minutes on {lines['train']:,} lines of {first['data']}, kept the checkpoint that "
        f"read the {lines['val']:,} validation lines best, and read the {lines['test']:,} test lines with it: greedily, "
        "without a language model. `scripts/compare` runs all of it."
    )
    measures = (
        "The same function computes CER and WER for all, over all test lines, cased, spaces counted. The intervals are "
        f"bootstraps over {' and '.join(over) or 'lines'}. Training speed is lines per second of wall-clock time up to the last "
        "validation, including starting and validating. Reading speed goes from image files to texts, with the model loaded."
    )
    text = f"""# Which toolkit reads better after {minutes} minutes of training?

{_wrapped(task)}
{smoke}
{chr(10).join(rows)}

{_wrapped(measures)}

![Learning curves](comparison.png)

*CER on the validation lines, as each toolkit counts it, over wall-clock time.*

## Conditions

"""
    text += f"- {first['threads']} CPUs for each entrant, no GPU.\n"
    if len({result["cpu"] for result in results}) > 1:
        text += "- Not all ran on the same kind of processor: a newer one does more in the same minutes.\n"
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
        item = f"- {result['entrant']}: {result['date']}, commit {result['commit']}, on {result['cpu']}"
        if "failure" not in result:
            item += f"; trained for {result['seconds']:.0f} s"
            if "other_cpus" in result:
                item += f", while other programs used {result['other_cpus']:.2f} CPUs"
            item += f"; {versions}"
        text += _wrapped(item) + "\n"
    for result in done:
        if result["note"]:
            text += f"- {result['entrant']}: {result['note']}.\n"
    own = [_CHOSEN] if first["data"] == "copiste-fr" and "hwr" in {result["entrant"] for result in done} else []
    text += "\n## What the figures do not say\n\n" + "".join(
        _wrapped(f"- {words}") + "\n" for words in (*_GENERAL, *own)
    )
    peers = {result["entrant"].removesuffix("48") for result in done}
    text += "".join(_wrapped(f"- {words}") + "\n" for peer, words in _PECULIAR.items() if peer in peers)
    text += "\n## Commands\n\n"
    for result in done:
        text += f"{result['entrant']}:\n\n```\n" + "\n".join(result["commands"]) + "\n```\n\n"
    return text.rstrip() + "\n"


def _wrapped(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _draw(done: list[dict[str, Any]], path: Path, minutes: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for result in done:
        times = [point[0] / 60 for point in result["points"]]
        rates = [min(100.0, 100 * point[2]) for point in result["points"]]
        label = f"{result['entrant']} (test {100 * result['cer']:.1f} %)"
        axes.plot(times, rates, marker="o", markersize=3, label=label)
    axes.axvline(minutes, color="grey", linestyle=":")
    axes.set(xlabel="minutes", ylabel="validation CER, %", ylim=(0, 102))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    if done:
        axes.legend()
    figure.savefig(path, dpi=120)
