"""Whether an image shows a page or a single line."""

from collections.abc import Sequence

from hwr.images.load import Polygon

# An image at least this many times wider than high, or lower than this, in pixels, is a line without a further look.
WIDE, LOW = 6.0, 100

# The polygon of the only line of a page fills less of the image's height than this.
FILLS = 0.4


def surely_line(width: int, height: int) -> bool:
    """Whether the size alone, in pixels, tells that an image is a line: a page of that shape could not be read anyway."""
    return width >= WIDE * height or (height < LOW and width >= height / WIDE)


def is_page(width: int, height: int, polygons: Sequence[Polygon]) -> bool:
    """Whether an image is a page, by the polygons of the lines found in it: one above another, or one in much paper.

    Args:
        width: Of the image, in pixels; `height` too.
    """
    if surely_line(width, height):
        return False
    if not polygons:
        return height > 0.5 * width
    boxes = [(min(x), max(x), min(y), max(y)) for x, y in (zip(*polygon, strict=True) for polygon in polygons)]
    for i, (left, right, top, bottom) in enumerate(boxes):
        for start, end, first, last in boxes[i + 1 :]:
            apart = abs((top + bottom) - (first + last)) / 2
            beside = min(right, end) <= max(left, start)
            if not beside and apart > 0.5 * min(bottom - top, last - first):
                return True
    return max(bottom for *_, bottom in boxes) - min(top for _, _, top, _ in boxes) < FILLS * height
