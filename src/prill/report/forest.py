"""Forest plot and share bars drawn row by row, so that each row is a table row.

Every row holds a small picture that stretches with its cell: places are per cent of its width, sizes are
pixels, so nothing is distorted on a wide screen or a telephone. All rows of a plot share one scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prill.report.axes import Scale, decimals, linear_ticks, padded
from prill.report.model import Effect
from prill.report.svg import element, text

__all__ = ["ForestScale", "forest_axis", "forest_row", "forest_scale", "share_bars"]

_NARROW = 3.5  # per cent of the width: a narrower interval hides behind its dot and gets no end caps


@dataclass(frozen=True, kw_only=True)
class ForestScale:
    """The common scale of a forest plot: differences in bits per byte to per cent of the width."""

    scale: Scale
    ticks: tuple[float, ...]

    def place(self, value: float) -> str:
        """A place such as `41.25%`, kept within the picture."""
        return f"{min(max(self.scale(value), 0.0), 100.0):.2f}%"


def forest_scale(effects: Iterable[Effect]) -> ForestScale:
    """A scale that holds every interval, seed and noise floor, and always zero."""
    values = [0.0]
    for effect in effects:
        values += [effect.difference_bpb, *effect.seed_differences_bpb]
        values += [bound for bound in (effect.low_bpb, effect.high_bpb) if bound is not None]
        if effect.noise_floor_bpb is not None:
            values += [effect.noise_floor_bpb, -effect.noise_floor_bpb]
    low, high = padded(values)
    ticks = linear_ticks(low, high, n_about=4)
    return ForestScale(scale=Scale(low=low, high=high, start=2, stop=98), ticks=tuple(ticks))


def forest_row(effect: Effect | None, scale: ForestScale, css: str) -> Markup:
    """One interval: noise floor as a shade, seeds as fine dots, the mean as a large one, zero as a line."""
    parts = [] if effect is None else _noise(effect, scale)
    for tick in scale.ticks:
        line_css = "zero" if tick == 0 else "grid"
        parts += [_line(scale.place(tick), scale.place(tick), "0", "100%", line_css)]
    if effect is not None and math.isfinite(effect.difference_bpb):
        parts += _mark(effect, scale, css)
    return element("svg", {"class": "row-chart", "aria-hidden": "true"}, *parts)


def forest_axis(scale: ForestScale) -> Markup:
    """The tick labels under the rows."""
    digits = decimals(scale.ticks)
    names = [f"{tick:+.{digits}f}".replace("-", "−") if tick else "0" for tick in scale.ticks]
    labels = [
        text(scale.place(t), 13, n, css="tick", anchor="middle")
        for t, n in zip(scale.ticks, names, strict=True)
    ]
    return element("svg", {"class": "row-axis", "aria-hidden": "true"}, *labels)


def share_bars(pool: float, kept: float, top: float, css: str) -> Markup:
    """Two bars from the left: the pool's share above, the kept share below; `top` fills the width."""
    parts = []
    for share, y, name in ((pool, "18%", "pool-bar"), (kept, "52%", f"kept-bar {css}")):
        width = f"{100 * share / top if top > 0 else 0:.2f}%"
        parts.append(element("rect", {"class": name, "x": 0, "y": y, "width": width, "height": "30%"}))
    return element("svg", {"class": "row-chart bars", "aria-hidden": "true"}, *parts)


def _noise(effect: Effect, scale: ForestScale) -> list[Markup]:
    floor = effect.noise_floor_bpb
    if floor is None or not math.isfinite(floor) or floor <= 0:
        return []
    width = f"{scale.scale(floor) - scale.scale(-floor):.2f}%"
    return [
        element(
            "rect", {"class": "noise", "x": scale.place(-floor), "y": 0, "width": width, "height": "100%"}
        )
    ]


def _mark(effect: Effect, scale: ForestScale, css: str) -> list[Markup]:
    parts: list[Markup] = []
    low_bpb, high_bpb = effect.low_bpb, effect.high_bpb
    if low_bpb is not None and high_bpb is not None and low_bpb <= high_bpb:
        low, high = scale.place(low_bpb), scale.place(high_bpb)
        parts += [_line(low, high, "50%", "50%", f"interval {css}")]
        if scale.scale(high_bpb) - scale.scale(low_bpb) > _NARROW:
            parts += [_line(end, end, "38%", "62%", f"interval {css}") for end in (low, high)]
    seeds: Sequence[float] = [d for d in effect.seed_differences_bpb if math.isfinite(d)]
    parts += [
        element("circle", {"class": f"seed {css}", "cx": scale.place(d), "cy": "78%", "r": 1.6})
        for d in seeds
    ]
    mean = scale.place(effect.difference_bpb)
    return [*parts, element("circle", {"class": f"dot {css}", "cx": mean, "cy": "50%", "r": 4.5})]


def _line(x1: str, x2: str, y1: str, y2: str, css: str) -> Markup:
    return element("line", {"class": css, "x1": x1, "x2": x2, "y1": y1, "y2": y2})
