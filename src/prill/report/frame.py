"""The frame that charts share: grid lines, axes with their ticks, labels pushed apart, the picture itself."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from prill.report.axes import Scale
from prill.report.svg import Attribute, element, join, line_path, text

__all__ = ["LEFT", "LETTER", "WIDTH", "Label", "across", "along", "label_column", "picture"]

WIDTH, LEFT = 400, 38
LETTER = 7.5  # rough width of a letter of a chart label, in units
_LABEL_GAP = 14.0

Label = tuple[float, float, str, str]
"""Place, height, class names and words of a label at the end of a line."""


def across(y: Scale, *, right: float, ticks: Sequence[float], names: Sequence[str]) -> Markup:
    """Grid lines across the picture, with their names to the left."""
    parts = []
    for tick, name in zip(ticks, names, strict=True):
        height = y(tick)
        grid = element("line", {"class": "grid", "x1": LEFT, "x2": right, "y1": height, "y2": height})
        parts += [grid, text(LEFT - 5, height + 4, name, css="tick", anchor="end")]
    return join(parts)


def along(x: Scale, ticks: Sequence[float], bottom: float, names: Sequence[str]) -> Markup:
    """The axis along the bottom with its ticks."""
    parts = []
    for tick, name in zip(ticks, names, strict=True):
        place = x(tick)
        parts += [
            element("line", {"class": "axis", "x1": place, "x2": place, "y1": bottom, "y2": bottom + 4})
        ]
        parts += [text(place, bottom + 16, name, css="tick", anchor="middle")]
    ends: dict[str, Attribute] = {
        "class": "axis",
        "x1": LEFT,
        "x2": max(x.stop, x.start),
        "y1": bottom,
        "y2": bottom,
    }
    return join([element("line", ends), *parts])


def label_column(column: Sequence[Label], bottom: float) -> list[Markup]:
    """Labels that share a place on the horizontal axis, pushed apart; a line leads to a moved one."""
    ordered = sorted(column, key=lambda end: end[1])
    heights = [end[1] for end in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + _LABEL_GAP)
    heights[-1] = min(heights[-1], bottom)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - _LABEL_GAP)
    parts = []
    for (left, end, css, name), height in zip(ordered, heights, strict=True):
        is_moved = abs(height - end) > _LABEL_GAP / 2
        if is_moved:
            leader = line_path([(left + 5, end), (left + 14, height)])
            parts.append(element("path", {"class": f"leader {css}", "d": leader}))
        parts.append(text(left + (17 if is_moved else 8), height + 4, name, css=f"name {css}"))
    return parts


def picture(height: int, said: str, parts: Sequence[Markup]) -> Markup:
    """The whole, with a sentence for screen readers."""
    frame = {"class": "chart", "viewBox": f"0 0 {WIDTH} {height}", "role": "img", "aria-label": said}
    return element("svg", frame, *parts)
