"""kraken: https://kraken.re"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from compare_peers.lines import prepared
from compare_peers.task import Failed, Points, Reading, Task

SPEC48 = (
    "[1,48,0,1 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,9,64 Do0.1,2 Mp2,2 Cr3,9,64 Do0.1,2 S1(1x0)1,3 "
    "Lbx200 Do0.1,2 Lbx200 Do]"
)
READER = """
import json, sys, time
from kraken.configs import RecognitionInferenceConfig
from kraken.containers import BBoxLine, Segmentation
from kraken.lib.util import open_image
from kraken.tasks import RecognitionTaskModel
model, images, out = sys.argv[1:]
task = RecognitionTaskModel.load_model(model)
config = RecognitionInferenceConfig(accelerator="cpu", num_line_workers=0)
paths, texts, start = open(images).read().split("\\n"), [], time.perf_counter()
for path in paths:
    image = open_image(path)
    line = BBoxLine(id=path, bbox=(0, 0, image.width, image.height))
    page = Segmentation("bbox", path, "horizontal-lr", False, lines=[line])
    texts.append("".join(record.prediction for record in task.predict(image, page, config)))
seconds = time.perf_counter() - start
parameters = sum(weights.numel() for weights in task.net.parameters())
json.dump({"texts": texts, "seconds": seconds, "parameters": parameters}, open(out, "w"))
"""


def train(freq: float, *more: str) -> Callable[[Task], list[str]]:
    def begun(task: Task) -> list[str]:
        data = prepared(task, "kraken", None)
        bounds = ["-q", "fixed", "-N", 100_000]  # it is stopped from outside
        lists = ["-f", "path", "-t", data / "train.lst", "-e", data / "val.lst"]
        general = ["-v", "-d", "cpu", "--threads", task.threads, "-s", 0]
        own = [*lists, "--augment", *bounds, "-F", freq, *more, "-o", task.folder / "model"]
        return task.say([task.python.with_name("ketos"), *general, "train", *own])

    return begun


def points(freq: float) -> Callable[[Task], Points]:
    def found(task: Task) -> Points:
        rows = re.findall(r"validation run: .* accuracy (\S+)", task.log.read_text(errors="replace"))
        return [(i * freq, 1 - float(accuracy)) for i, accuracy in enumerate(rows, 1)]

    return found


def best_of(paths: Iterable[Path]) -> tuple[Path, bool]:
    """The checkpoint with the highest accuracy, and whether there was any validation."""

    def score(path: Path) -> float:
        found = re.search(r"-(-?\d\.\d+)(?:-v\d+)?$", path.stem)
        return float(found[1]) if found else -1e9  # checkpoint_abort: written when it was stopped

    best = max(paths, key=lambda path: (score(path), path.stat().st_mtime))
    return best, score(best) > -1e9


def read(task: Task) -> Reading:
    found = list((task.folder / "model").glob("*.ckpt"))
    if not found:
        raise Failed(f"no checkpoint after {task.minutes:g} minutes:\n{task.tail()}")
    best = task.folder / "best.safetensors"
    chosen, validated = best_of(found)
    task.run([task.python.with_name("ketos"), "convert", "-o", best, chosen])
    out, images = task.folder / "read.json", prepared(task, "kraken", None) / "test.lst"
    task.run([task.python, "-c", READER, best, images, out], say=False)
    read = json.loads(out.read_text())
    note = "" if validated else "never validated: the weights when it was ended"
    return Reading(read["texts"], len(read["texts"]) / read["seconds"], read["parameters"], best, note)
