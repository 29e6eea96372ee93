"""Images that EXIF rotates: what `hwr` writes, it reads again, in the same place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hwr import config, data
from hwr.cli import main
from hwr.data.formats import PAGE_FORMATS, marked_pages, xml
from hwr.data.formats.shapes import Marked
from hwr.images import exif as exif_tags
from hwr.images import load

from .conftest import REPOSITORY

# Undoes what EXIF's orientation does, so that the image as shown is the original.
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(pixels: np.ndarray, orientation: int, path: Path) -> Path:
    """An image file that is shown as `pixels` if its EXIF orientation is applied."""
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[exif_tags.ORIENTATION] = orientation
    (image.transpose(UNDO[orientation]) if orientation in UNDO else image).save(path, exif=exif)
    assert np.array_equal(load.read(path), pixels)
    return path


def hwr(*arguments: object) -> Any:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(params=["png", "tif"])
def photos(drawn: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A line in all eight orientations."""
    pixels = load.read(sorted(drawn.rglob("*.png"))[0])
    (tmp_path / "photos").mkdir()
    for orientation in range(1, 9):
        turned(pixels, orientation, tmp_path / f"photos/{orientation}.{request.param}")
    return tmp_path / "photos"


@pytest.mark.parametrize("kind", PAGE_FORMATS)
def test_photos_are_read_where_their_lines_were_found(photos: Path, model: Path, kind: str) -> None:
    first = hwr("predict", photos, "--checkpoint", model).stdout.splitlines()
    assert len(set(first)) == 1
    assert first[0]
    hwr("predict", photos, "--checkpoint", model, "--format", kind, "--out", photos / "out")
    assert hwr("predict", photos / "out", "--checkpoint", model).stdout.splitlines() == first
    # Converted, lines are upright; so are they as training sees them, and after another conversion.
    hwr("data", "convert", photos / "out", photos.parent / "gt", "--to", "gt")
    hwr("data", "convert", photos / "out", photos.parent / "again", "--to", kind)
    expected = load.read(next(photos.glob("1.*")))
    images = sorted((photos.parent / "gt").rglob("*.png"))
    assert len(images) == 8
    for path in images:
        assert np.array_equal(load.read(path), expected)
    for root in (photos / "out", photos.parent / "again"):
        dataset = data.read(config.Data(root=str(root)))
        lines = dataset.lines
        assert len(lines) == 8
        for line in lines:
            assert np.array_equal(load.read_line(line.image, line.region, line.upright), expected)


@pytest.mark.parametrize("kind", PAGE_FORMATS)
def test_foreign_positions_mean_the_image_whose_size_the_file_gives(kind: str, tmp_path: Path) -> None:
    pixels = np.full((300, 500), 255, np.uint8)
    pixels[40:60, 100:400] = 0
    region = ((100, 40), (399, 40), (399, 59), (100, 59))

    def read(orientation: int, size: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        path = turned(pixels, orientation, tmp_path / "a.png")
        root = PAGE_FORMATS[kind].new(path.name, size, [Marked("l", "text", region, (), "x:1")])
        xml.write(root, tmp_path / "a.xml")
        _, page = marked_pages.with_image(PAGE_FORMATS[kind].parse(tmp_path / "a.xml", root), tmp_path / "a.xml", None)
        return page.upright, (page.width, page.height)

    assert read(1, (500, 300)) == (False, (500, 300))
    assert read(3, (500, 300)) == (False, (500, 300))
    assert read(6, (300, 500)) == (False, (300, 500))
    assert read(6, (500, 300)) == (True, (500, 300))
    assert read(8, (1000, 600)) == (True, (500, 300))  # scaled
    with pytest.raises(Exception, match="says 400 x 400 pixels"):
        read(6, (400, 400))


def test_photos_with_orientations_three_and_six(tmp_path: Path) -> None:
    case = REPOSITORY.parent / "shared/cases/exif-roundtrip"
    if not case.is_dir():
        pytest.skip("no ../shared/cases here")
    images = sorted(case.glob("*.jpg"))
    first = hwr("predict", *images).stdout
    assert first == "On 9 January 2027 the doctor lost\n" * 2
    for kind in PAGE_FORMATS:
        out = tmp_path / kind / "out"
        for image in images:
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / image.name).write_bytes(image.read_bytes())
        hwr("predict", *images, "--format", kind, "--out", out)
        assert hwr("predict", *sorted(out.glob("*.xml"))).stdout == first
        hwr("data", "convert", out, tmp_path / f"{kind}-gt", "--to", "gt")
        assert hwr("predict", tmp_path / f"{kind}-gt").stdout == first
