"""Positions on an image that EXIF rotates: from the upright image to the pixels as stored."""

from hwr.images.load import Polygon


def as_stored(points: Polygon, orientation: int, width: int, height: int) -> Polygon:
    """Points of the upright image as points of the stored one.

    Args:
        points: (x, y) in pixels.
        orientation: EXIF's, as JEITA CP-3451 defines it: where row 0 and column 0 of the stored image are shown.
        width: Of the stored image, in pixels; `height` too.
    """
    right, bottom = width - 1, height - 1
    match orientation:
        case 2:
            return tuple((right - x, y) for x, y in points)
        case 3:
            return tuple((right - x, bottom - y) for x, y in points)
        case 4:
            return tuple((x, bottom - y) for x, y in points)
        case 5:
            return tuple((y, x) for x, y in points)
        case 6:
            return tuple((y, bottom - x) for x, y in points)
        case 7:
            return tuple((right - y, bottom - x) for x, y in points)
        case 8:
            return tuple((right - y, x) for x, y in points)
        case _:
            return points
