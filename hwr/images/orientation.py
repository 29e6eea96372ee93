"""Positions on an image that EXIF rotates: on the upright image, and on the pixels as stored."""

from typing import TypeVar

Number = TypeVar("Number", int, float)


def as_shown(
    points: tuple[tuple[Number, Number], ...], orientation: int, width: int, height: int
) -> tuple[tuple[Number, Number], ...]:
    """Points of the stored image as points of the upright one; the inverse of `as_stored`, with the same arguments."""
    back = {6: 8, 8: 6}.get(orientation, orientation)  # all but the quarter turns are their own inverse
    return as_stored(points, back, *((height, width) if orientation >= 5 else (width, height)))


def as_stored(
    points: tuple[tuple[Number, Number], ...], orientation: int, width: int, height: int
) -> tuple[tuple[Number, Number], ...]:
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
