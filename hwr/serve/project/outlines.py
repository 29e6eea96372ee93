"""Outlines and baselines of lines: split at a column or row, and merged."""

from collections.abc import Sequence

from hwr.images.load import Polygon

Point = tuple[float, float]


def is_tall(polygon: Polygon) -> bool:
    """Whether an outline is higher than wide."""
    left, top, right, bottom = box(polygon)
    return bottom - top > right - left


def split(polygon: Polygon, place: float, row: bool = False) -> tuple[Polygon, Polygon]:
    """The parts of an outline left and right of a column, or above and below a row (Sutherland and Hodgman 1974)."""
    if row:
        above, below = split(_transposed(polygon), place)
        return _transposed(above), _transposed(below)
    return _clipped(polygon, place, keep_left=True), _clipped(polygon, place, keep_left=False)


def _transposed(points: Polygon) -> Polygon:
    return tuple((y, x) for x, y in points)


def _clipped(polygon: Polygon, limit: float, keep_left: bool) -> Polygon:
    sign = 1 if keep_left else -1
    out: list[Point] = []
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        inside, then = sign * (limit - x0) >= 0, sign * (limit - x1) >= 0
        if inside:
            out.append((x0, y0))
        if inside != then:
            out.append((limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)))
    return _rounded(out)


def split_baseline(baseline: Polygon, x: float, row: bool = False) -> tuple[Polygon, Polygon]:
    """The parts of a baseline as `split` has those of an outline; () for a part of fewer than two points."""
    if row:
        above, below = split_baseline(_transposed(baseline), x)
        return _transposed(above), _transposed(below)
    if _backwards(baseline):
        before, after = split_baseline(baseline[::-1], x)
        return before[::-1], after[::-1]
    left: list[Point] = [p for p in baseline if p[0] <= x]
    right: list[Point] = [p for p in baseline if p[0] > x]
    if left and right:
        (x0, y0), (x1, y1) = left[-1], right[0]
        cut = (x, y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        left, right = [*left, cut], [cut, *right]
    parts = (_rounded(left), _rounded(right))
    return parts[0] if len(parts[0]) > 1 else (), parts[1] if len(parts[1]) > 1 else ()


def merged(polygons: Sequence[Polygon]) -> Polygon:
    """The convex hull of several outlines (Andrew's monotone chain, 1979)."""
    points = sorted({point for polygon in polygons for point in polygon})
    if len(points) < 3:
        return tuple(points)

    def half(ordered: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for p in ordered:
            while len(chain) > 1 and _cross(chain[-2], chain[-1], p) <= 0:
                chain.pop()
            chain.append(p)
        return chain[:-1]

    return tuple(half(points) + half(points[::-1]))


def merged_baseline(baselines: Sequence[Polygon], vertical: bool = False) -> Polygon:
    """Several baselines as one from left to right, or from right to left if all are so; () if one is missing.

    Those of vertical lines from top to bottom, or from bottom to top.
    """
    if vertical:
        return _transposed(merged_baseline([_transposed(one) for one in baselines]))
    if not all(baselines):
        return ()
    out: list[tuple[int, int]] = []
    for baseline in sorted(one[::-1] if _backwards(one) else one for one in baselines):
        out += [point for point in baseline if not out or point[0] > out[-1][0]]
    found = tuple(out) if len(out) > 1 else ()
    return found[::-1] if all(map(_backwards, baselines)) else found


def _backwards(baseline: Polygon) -> bool:
    """Whether a baseline runs from right to left: as that of a line that is upside down."""
    return len(baseline) > 1 and baseline[0][0] > baseline[-1][0]


def box(polygon: Polygon) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an outline."""
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _cross(o: tuple[int, int], a: tuple[int, int], b: tuple[int, int]) -> int:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def _rounded(points: Sequence[Point]) -> Polygon:
    out: list[tuple[int, int]] = []
    for x, y in points:
        point = (round(x), round(y))
        if not out or point != out[-1]:
            out.append(point)
    return tuple(out)
