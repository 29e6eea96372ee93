"""Lines in the other toolkits' formats."""

import hashlib
import random
import shutil
from pathlib import Path

from PIL import Image

from compare_peers.task import Task
from hwr.images import load


def prepared(task: Task, peer: str, height: int | None) -> Path:
    """Write the lines in a peer's format unless they exist: PNG and .gt.txt for kraken, tables for PyLaia."""
    parts = {part: task.dataset.part(part) for part in ("train", "val", "test")}
    folder = task.out / "data" / peer
    stamp = hashlib.sha256(
        repr([[(str(x.image), x.text) for x in lines] for lines in parts.values()]).encode()
    ).hexdigest()
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    letters = sorted({c for line in parts["train"] for c in line.text if not c.isspace()})
    symbols = ["<ctc>", *letters, "<space>", "<unk>"]
    for part, lines in parts.items():
        names = [f"{part}{i:06d}" for i in range(len(lines))]
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for name, line in zip(names, lines, strict=True):
            picture = Image.fromarray(load.read_line(line.image, line.region, line.upright, line.baseline))
            if height:
                size = max(1, round(picture.width * height / picture.height)), height
                picture = picture.resize(size, Image.Resampling.LANCZOS)
            picture.save(folder / f"{name}.png")
            (folder / f"{name}.gt.txt").write_text(line.text, encoding="utf-8")
            tokens = ["<space>" if c.isspace() else c if c in letters else "<unk>" for c in line.text]
            rows.append(" ".join([name, *tokens]))
        # PyLaia 1.0.7 trains in the order of its table in every epoch; kraken shuffles.
        random.Random(0).shuffle(rows)
        (folder / f"{part}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
        # kraken's lists contain files, PyLaia's contain names.
        listed = names if peer == "pylaia" else [str(folder / f"{name}.png") for name in names]
        (folder / f"{part}.lst").write_text("\n".join(listed), encoding="utf-8")
    (folder / "syms.txt").write_text("".join(f"{s} {i}\n" for i, s in enumerate(symbols)), encoding="utf-8")
    (folder / "stamp").write_text(stamp)
    return folder
