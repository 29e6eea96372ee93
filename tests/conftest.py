import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwr import config, decoding, networks
from hwr.alphabet import Alphabet
from hwr.config import Config
from hwr.data import Line, synth
from hwr.engines import Engine
from hwr.evaluation import evaluate
from hwr.images import augment, batches, cache
from hwr.images.batches import Batch
from hwr.images.cache import Images

# One thread: these networks are tiny, and results then do not depend on the load of the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A background job of a shell ignores Ctrl-C, and so do the programs that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
TINY = [
    "image.height=32",
    "image.width=320",
    "model.channels=8",
    "model.steps=80",
    "model.hidden=16",
    "model.layers=1",
    "model.pretrained=none",
    "train.batch_size=8",
    "train.epochs=2",
    "train.lr=0.001",
    "engine.threads=1",
    "engine.device=cpu",
]
TINY_CRNN = [
    "model.arch=crnn",
    "model.stem=8",
    "model.stride=[2, 2]",
    "model.blocks=[[1, 8], [1, 16]]",
    "model.pools=[[2, 2]]",
    "model.hidden=24",
    "model.layers=1",
    "image.height=24",
    "image.width=480",
    "image.margin=4",
    "augment.p=0.5",
    "augment.elastic=0.03",
    "augment.shear=0.3",
    "train.batch_size=8",
    "train.epochs=2",
    "train.lr=0.001",
    "train.loss_weight=1",
    "engine.threads=1",
    "engine.device=cpu",
]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if importlib.util.find_spec("mxnet") is None:
        return
    for item in items:
        if item.get_closest_marker("once"):
            item.add_marker(pytest.mark.skip("runs in the environment without MXNet"))


@pytest.fixture(autouse=True, scope="session")
def _shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep module fixtures out of the user's cache and state."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWR_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _shared_cache: None) -> None:
    """Give each test its own cache."""
    monkeypatch.setenv("HWR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-four synthetic lines by six writers, in IAM's layout."""
    root = tmp_path_factory.mktemp("data") / "drawn"
    synth.write(root, 44, 6, 1)
    return root


@pytest.fixture(scope="session")
def model(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for lines of any width that reads a little."""
    from hwr.training.loop import train

    folder = tmp_path_factory.mktemp("model")
    # With AdamW it learns too little for these tests on some processors.
    more = ["train.epochs=60", "train.lr=0.01", "train.batch_size=4", "train.optimizer=muon", "train.schedule=cosine"]
    more += ["augment.p=0", "train.images_every=60", f"data.root={drawn}", f"data.cache={folder}"]
    assert train(config.load(None, [*TINY_CRNN, *more]), folder / "run", say=lambda line: None)
    return folder / "run/last.safetensors"  # the best by the loss is of an early epoch


@pytest.fixture
def tiny(drawn: Path) -> Config:
    """A network that trains in seconds, on the synthetic lines."""
    return config.load(None, [*TINY, f"data.root={drawn}"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, without a window."""
    webdriver = pytest.importorskip("selenium.webdriver")
    paths = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    binary, driver = next((path for path in paths if path), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--window-size=1200,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def whole(images: np.ndarray, labels: np.ndarray, warps: augment.Warps | None = None) -> Batch:
    """A batch of images whose lines fill the whole width."""
    return Batch(images, np.full(len(images), images.shape[2], np.int32), labels, warps, np.arange(len(images)))


def prepared_images(lines: Sequence[Line], settings: Config, progress: bool = False) -> Images:
    """Lines preprocessed for the config's network."""
    return cache.prepared(lines, networks.geometry(settings), settings.data.cache, progress)


def encoded(lines: Sequence[Line], alphabet: Alphabet, settings: Config, widths: np.ndarray) -> list[np.ndarray]:
    """Label ids of lines with these prepared widths, all of which must be writable."""
    images = Images(np.zeros(0, np.uint8), widths, settings.image.height)
    return batches.all_writable(batches.encode(lines, images, alphabet, networks.geometry(settings))).labels


def predictions(
    engine: Engine, images: Images, lines: Sequence[Line], alphabet: Alphabet, settings: Config
) -> evaluate.Predictions:
    """An engine's predictions for prepared lines."""
    geometry = networks.geometry(settings)
    examples = batches.encode(lines, images, alphabet, geometry)

    def read(logits: np.ndarray) -> tuple[list[str], np.ndarray]:
        return decoding.build(settings.decode, alphabet, settings.model.edge_spaces)(logits)

    return evaluate.read(engine, read, examples, settings.evaluate.batch_size, geometry)


def recipe_of(settings: Config) -> batches.Recipe:
    """The config's recipe for batches."""
    views = 2 if settings.train.consistency else 1
    size, seed = settings.train.batch_size, settings.train.seed
    return batches.Recipe(networks.geometry(settings), size, seed, settings.augment, views)


def events(folder: Path) -> dict[str, Any]:
    """TensorBoard's view of a run folder: name -> [step, value] of scalars, [step, width, height, PNG in hex] of images.

    Read in another process, for mxboard and TensorBoard can't be imported into one.
    """
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("no TensorBoard here")
    code = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1])
found.Reload()
scalars = {name: [[e.step, e.value] for e in found.Scalars(name)] for name in found.Tags()["scalars"]}
images = {
    name: [[e.step, e.width, e.height, e.encoded_image_string.hex()] for e in found.Images(name)]
    for name in found.Tags()["images"]
}
print(json.dumps({"scalars": scalars, "images": images}))
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """The torch device of an `engine.device`."""
    torch = pytest.importorskip("torch")
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return str(request.param)


def assert_same(found: Any, expected: Any, device: str) -> None:
    """To the bit, or on a GPU, which sums CTC's gradient in no fixed order, nearly."""
    if device == "cpu":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)  # 3e-4 was seen after six updates


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
