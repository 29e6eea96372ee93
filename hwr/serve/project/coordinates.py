"""Positions in a PAGE file <-> positions in the upright image that people see and the recognizer reads."""

from dataclasses import dataclass
from pathlib import Path

from hwr import Error
from hwr.data.formats import marked_pages
from hwr.data.formats.shapes import Page
from hwr.images import documents, exif, load, orientation
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
        scaled = tuple((x * self.scale_x, y * self.scale_y) for x, y in points)
        return tuple(_rounded(x, y) for x, y in orientation.as_shown(scaled, self.orientation, *self.stored))

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
        pages = 1 if image.format in load.PHOTOS else len(documents.frames(image))
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
    upright = marked_pages.is_upright(page, stored, shown)  # as when the file is read for training
    own = shown if upright else stored
    marked_pages.check_shape(page, image, own)
    return Frame(*shown, 1 if upright else turn, own[0] / page.width, own[1] / page.height)


def _rounded(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)
