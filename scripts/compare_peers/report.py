"""The table and the picture of what the entrants brought."""

import json
from pathlib import Path
from typing import Any

import click

from compare_peers.task import REPOSITORY

_GENERAL = (
    "Each entrant ran once, with one seed: the intervals tell of other test lines, not of other seeds.",
    "All start from random weights, and minutes on a CPU are not what the other toolkits were made for. Their settings are "
    "defaults\n  or their documentation's but for what stands below and in the commands, and not tuned for this.",
    "hwr brings its step size down as its minutes run out, and validates its last weights after them. The others keep theirs, and "
    "lose\n  what they learnt after their last validation.",
    "Preparing images (scaling, converting, hwr's cache) doesn't count in the budget. Starting the program does; hwr counts its "
    "own\n  minutes (`train.minutes`), which may leave that out. How long each took in all stands under conditions.",
)
_CHOSEN = (
    "hwr's recipe was chosen on these training and validation lines, by a dozen shorter runs (docs/experiments.md); that lines "
    "should\n  be made level was seen on a report of these test lines."
)
_PECULIAR = {
    "kraken": "kraken trains on single lines by default (`-B 1`), and read them one by one, through its API "
    "(`RecognitionTaskModel`).\n  It had as many threads as hwr (`--threads`) and `--augment`, which is off by default, and validated more often "
    "than once\n  an epoch (`-F`), for in these minutes it would hardly have finished one. It straightens lines as it trains, in every epoch "
    "anew;\n  hwr does so beforehand.",
    "pylaia": "PyLaia took 8 lines at once. They are scaled to 48 px beforehand, where its documentation recommends 128; as its "
    "pooling of the\n  width by 8 would leave long lines fewer steps than characters, the last pooling leaves the width alone. It "
    "validates once per epoch,\n  so what it learnt in the last, unfinished one is lost. Version 1.0.7 doesn't shuffle the training "
    "lines: they were, once, beforehand.\n  Its file has the optimizer's state too. It needs torch 1.13.",
}


# What must be the same for all. The processor may differ: then the table can't tell toolkits from processors alone, and says so.
_CONDITIONS = ("minutes", "data", "lines", "threads", "smoke")


def write(out: Path, entrants: list[str]) -> None:
    """Draw up comparison.md and .png from the results in OUT: in docs/, or of a smoke run in OUT.

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
        folder, kept = out, {}  # what is published was made under other conditions, and stays as it is
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
    rows = ["| entrant | CER [95 %] | WER | lines/s training | lines/s reading | epochs | parameters | MB |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for result in results:
        if "failure" in result:
            rows.append(f"| {result['entrant']}: {result['about']} | none: {result['failure']} | | | | | | |")
            continue
        low, high = (f"{100 * bound:.1f}" for bound in result["cer_ci95"])
        cells = [f"{result['entrant']}: {result['about']}", f"{100 * result['cer']:.1f} % [{low}, {high}]"]
        cells += [f"{100 * result['wer']:.1f} %", _number(result["training_lines_per_second"], 1)]
        cells += [_number(result["reading_lines_per_second"], 1), _number(result["epochs"], 1)]
        cells += [f"{result['parameters'] / 1e6:.2f} M", _number(result["megabytes"], 1)]
        rows.append("| " + " | ".join(cells) + " |")
    over = sorted({result["over"] for result in done})
    smoke = "\nThis was a smoke run, on a few lines: the figures mean nothing.\n" if first["smoke"] else ""
    text = f"""# Which toolkit reads better after {minutes} minutes of training?

Each trained for {minutes} minutes on {lines["train"]:,} lines of {first["data"]}, kept what read the {lines["val"]:,} validation lines
best, and read the {lines["test"]:,} test lines with that: greedily, without a language model. `scripts/compare` does it all.
{smoke}
{chr(10).join(rows)}

CER and WER are over all test lines, cased, spaces counted, by the same function for all; the intervals are bootstraps over
{" and ".join(over) or "lines"}. Training speed is lines seen per second of wall clock up to the last validation, with starting and
validating. Reading speed is from image files to texts, the model loaded.

![Learning curves](comparison.png)

*CER on the validation lines, each toolkit's own count of it, over the wall clock.*

## Conditions

"""
    text += f"- {first['threads']} CPUs for each entrant, no GPU.\n"
    if len({result["cpu"] for result in results}) > 1:
        text += "- Not all ran on the same kind of processor: a newer one does more in the same minutes.\n"
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
        text += f"- {result['entrant']}: {result['date']}, commit {result['commit']}, on {result['cpu']}"
        if "failure" not in result:
            text += f"; trained for {result['seconds']:.0f} s"
            if "other_cpus" in result:
                text += f", while other programs took {result['other_cpus']:.2f} CPUs"
            text += f"; {versions}"
        text += "\n"
    for result in done:
        if result["note"]:
            text += f"- {result['entrant']}: {result['note']}.\n"
    own = [_CHOSEN] if first["data"] == "copiste-fr" and "hwr" in {result["entrant"] for result in done} else []
    text += "\n## What the figures don't say\n\n" + "".join(f"- {words}\n" for words in (*_GENERAL, *own))
    peers = {result["entrant"].removesuffix("48") for result in done}
    text += "".join(f"- {words}\n" for peer, words in _PECULIAR.items() if peer in peers)
    text += "\n## Commands\n\n"
    for result in done:
        text += f"{result['entrant']}:\n\n```\n" + "\n".join(result["commands"]) + "\n```\n\n"
    return text.rstrip() + "\n"


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
