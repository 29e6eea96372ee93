"""Positions in a PAGE file <-> positions in the upright image that people see and the recognizer reads."""

from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.data.formats.marked_pages import Page
from hwr.images import exif, load, orientation
from hwr.images.load import Polygon

# Larger images would take gigabytes of a server's memory in colour; a page of A3 at 600 dpi has 70 million pixels.
MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Frame:
    """How a page's positions relate to its image's.

    Attributes:
        width: Of the upright image, in pixels; `height` too.
        orientation: The image's EXIF orientation, 1 to 8; 1 if the PAGE file refers to the upright image already.
        scale_x: Pixels of the stored image per pixel of the PAGE file; `scale_y` too.
    """

    width: int
    height: int
    orientation: int = 1
    scale_x: float = 1.0
    scale_y: float = 1.0

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the image as stored."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def to_image(self, points: Polygon) -> Polygon:
        """From the PAGE file to the upright image."""
        width, height = self.stored
        scaled = [(x * self.scale_x, y * self.scale_y) for x, y in points]
        return tuple(_rounded(*_upright(x, y, width, height, self.orientation)) for x, y in scaled)

    def to_page(self, points: Polygon) -> Polygon:
        """From the upright image to the PAGE file; clipped to the image."""
        inside = tuple((min(max(x, 0), self.width - 1), min(max(y, 0), self.height - 1)) for x, y in points)
        stored = orientation.as_stored(inside, self.orientation, *self.stored)
        return tuple(_rounded(x / self.scale_x, y / self.scale_y) for x, y in stored)


def image_size(path: Path) -> tuple[int, int, int]:
    """Width, height (as stored) and EXIF orientation of an image, without decoding it.

    Raises:
        Error: It can't be opened, is too large, or has several pages.
    """
    with load.decoding(path.name), load.opened(path) as image:
        (width, height), turn = exif.stored(image)
        pages = 1 if image.format in load.PHOTOS else getattr(image, "n_frames", 1)
    if width * height > MOST_PIXELS:
        raise Error(f"{path.name}: {width} x {height} pixels are too many; the limit is {MOST_PIXELS:,}")
    if pages > 1:
        raise Error(f"{path.name}: holds {pages} images; upload it, which splits it, or split it yourself")
    return width, height, turn


def frame_of(image: Path, page: Page | None = None) -> Frame:
    """The frame of an image and its PAGE file; without one, the PAGE file to come refers to the image as stored.

    Raises:
        Error: The image can't be opened, or the file describes an image of another shape.
    """
    width, height, turn = image_size(image)
    stored, shown = (width, height), (height, width) if turn >= 5 else (width, height)
    if page is None or not page.width or not page.height:
        return Frame(*shown, 1 if page is not None and page.upright else turn)
    # As when the file is read for training: see `marked_pages.with_image`.
    upright = page.upright or (not _same_shape(page, stored) and _same_shape(page, shown))
    own = shown if upright else stored
    if not _same_shape(page, own):
        raise Error(f"{page.source}: says {page.width} x {page.height} pixels, and {image} has {own[0]} x {own[1]}")
    return Frame(*shown, 1 if upright else turn, own[0] / page.width, own[1] / page.height)


def _same_shape(page: Page, size: tuple[int, int]) -> bool:
    return abs(size[0] / page.width * page.height / size[1] - 1) <= 0.01


def _upright(x: float, y: float, width: int, height: int, orientation: int) -> tuple[float, float]:
    """Where a point of a stored image of this size lies when the image is turned upright."""
    match orientation:
        case 2:
            return width - 1 - x, y
        case 3:
            return width - 1 - x, height - 1 - y
        case 4:
            return x, height - 1 - y
        case 5:
            return y, x
        case 6:
            return height - 1 - y, x
        case 7:
            return height - 1 - y, width - 1 - x
        case 8:
            return y, width - 1 - x
    return x, y


def _rounded(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)
