"""Learning curves and histograms as small SVG pictures.

Each picture is 400 units wide, so that its text stays legible when a telephone shows it at 330 pixels,
and stands beside a second one on a desktop. Lines carry their names at their ends instead of a legend.
A sentence for screen readers comes with every picture; the page adds the numbers as a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from prill.report import numbers
from prill.report.axes import Scale, decimals, linear_ticks, log_ticks, padded
from prill.report.frame import LEFT, LETTER, WIDTH, Label, across, along, label_column, picture
from prill.report.harmless import cut
from prill.report.look import Look
from prill.report.model import Curve, CurvePoint, Histogram
from prill.report.svg import element, join, line_path, text

__all__ = ["histogram", "learning_curves"]

CURVE_HEIGHT, BARS_HEIGHT = 264, 196
_TOP, _BOTTOM, _RIGHT = 26, 40, 10


def learning_curves(curves: Sequence[Curve], looks: Mapping[str, Look], *, title: str) -> Markup:
    """Loss against training tokens (logarithmic), one line with its interval and seeds for every arm."""
    drawn = [(curve, points) for curve in curves if (points := _finite(curve.points))]
    if not drawn:
        return Markup("")
    x, y, ticks = _curve_scales(drawn, looks)
    parts = [_rows(y, right=x.stop), along(x, ticks, y.start, [numbers.compact(tick) for tick in ticks])]
    parts += [_band(points, looks[curve.arm], x, y) for curve, points in drawn]
    parts += [_line(curve, points, looks[curve.arm], x, y) for curve, points in drawn]
    parts += _end_labels(drawn, looks, x, y)
    parts += [text(0, 11, "bits per byte, lower is better", css="unit")]
    parts += [text(x.stop, CURVE_HEIGHT - 4, "training tokens", css="unit", anchor="end")]
    said = "; ".join(f"{looks[curve.arm].label} {_spoken(points)}" for curve, points in drawn)
    return picture(CURVE_HEIGHT, f"{title}. {said}.", parts)


def histogram(
    bins: Histogram,
    *,
    threshold: float | None,
    title: str,
    css: str,
    names: tuple[str, str] = ("in the pool", "kept"),
) -> Markup:
    """Share of the pool and of what was kept in every bin, each as a share of its own total.

    `names` says aloud what the two are.
    """
    shares = [_shares(bins.pool), _shares(bins.kept)]
    top = max(max(shares[0]), max(shares[1]))
    if top <= 0:
        return Markup("")
    stop = WIDTH - _RIGHT
    x = Scale(low=bins.edges[0], high=bins.edges[-1], start=LEFT, stop=stop, is_log=bins.is_log)
    y = Scale(low=0, high=top * 1.08, start=BARS_HEIGHT - _BOTTOM, stop=_TOP)
    ticks = log_ticks((), x.low, x.high, n_most=7) if bins.is_log else linear_ticks(x.low, x.high, n_about=6)
    digits = decimals(ticks)
    labels = [
        numbers.compact(t) if bins.is_log or max(map(abs, ticks)) >= 1e4 else _fixed(t, digits) for t in ticks
    ]
    parts = [_rows(y, right=stop, is_share=True), along(x, ticks, y.start, labels)]
    parts += [element("path", {"class": "pool-area", "d": _steps(bins.edges, shares[0], x, y)})]
    parts += [element("path", {"class": f"kept-area {css}", "d": _steps(bins.edges, shares[1], x, y)})]
    parts += _threshold(threshold, x, y)
    parts += [text(0, 11, f"share of {bins.counted}", css="unit")]
    parts += [text(stop, BARS_HEIGHT - 4, bins.unit, css="unit", anchor="end")]
    return picture(BARS_HEIGHT, f"{title}. {_spoken_bins(bins, threshold, names)}", parts)


def _curve_scales(
    drawn: Sequence[tuple[Curve, list[CurvePoint]]], looks: Mapping[str, Look]
) -> tuple[Scale, Scale, list[float]]:
    every = [point for _, points in drawn for point in points]
    tokens = [float(point.n_tokens) for point in every]
    low, high = min(tokens), max(tokens)
    if high / low < 1.2:
        low, high = low / 1.5, high * 1.5
    seeds = [seed.bpb for curve, _ in drawn for seed in curve.seeds]
    bounds = [b for p in every for b in (p.mean_bpb, p.low_bpb, p.high_bpb) if b is not None]
    bottom, top = padded([*bounds, *seeds], share=0.08)
    ends = [(points[-1].n_tokens, len(_name(looks, curve)) * LETTER + 12) for curve, points in drawn]
    right = min(_room(math.log(end / low) / math.log(high / low), width) for end, width in ends)
    x = Scale(low=low, high=high, start=LEFT + 10, stop=right, is_log=True)
    y = Scale(low=bottom, high=top, start=CURVE_HEIGHT - _BOTTOM, stop=_TOP)
    return x, y, log_ticks(tokens, low, high)


def _room(share: float, label_width: float) -> float:
    """Right end of the axis that leaves room for a label behind a line that ends at `share` of it."""
    start = LEFT + 10
    return min(WIDTH - _RIGHT, start + (WIDTH - label_width - start) / max(share, 0.01))


def _rows(y: Scale, *, right: float, is_share: bool = False) -> Markup:
    ticks = linear_ticks(y.low, y.high, n_about=3 if is_share else 4)
    digits = decimals([100 * tick for tick in ticks]) if is_share else decimals(ticks)
    names = [f"{100 * tick:.{digits}f} %" if is_share else f"{tick:.{digits}f}" for tick in ticks]
    return across(y, right=right, ticks=ticks, names=names)


def _band(points: Sequence[CurvePoint], look: Look, x: Scale, y: Scale) -> Markup:
    known = [(x(p.n_tokens), y(p.low_bpb), y(p.high_bpb)) for p in points if _has_interval(p)]  # type: ignore[arg-type]
    if not known:
        return Markup("")
    if len(known) == 1:
        place, low, high = known[0]
        return element(
            "line", {"class": f"whisker {look.css}", "x1": place, "x2": place, "y1": low, "y2": high}
        )
    outline = [(place, high) for place, _, high in known] + [
        (place, low) for place, low, _ in reversed(known)
    ]
    return element("path", {"class": f"band {look.css}", "d": line_path(outline, closed=True)})


def _line(curve: Curve, points: Sequence[CurvePoint], look: Look, x: Scale, y: Scale) -> Markup:
    places = [(x(point.n_tokens), y(point.mean_bpb)) for point in points]
    seeds = [s for s in curve.seeds if math.isfinite(s.bpb) and x.low <= s.n_tokens <= x.high]
    parts = [
        element("circle", {"class": f"seed {look.css}", "cx": x(s.n_tokens), "cy": y(s.bpb), "r": 2})
        for s in seeds
    ]
    parts += (
        [element("path", {"class": f"line {look.css}", "d": line_path(places)})] if len(places) > 1 else []
    )
    parts += [element("circle", {"class": f"dot {look.css}", "cx": a, "cy": b, "r": 3}) for a, b in places]
    return join(parts)


def _end_labels(
    drawn: Sequence[tuple[Curve, list[CurvePoint]]], looks: Mapping[str, Look], x: Scale, y: Scale
) -> list[Markup]:
    """Names at the ends of the lines, pushed apart where they would touch; a line leads to a moved one."""
    ends = sorted(
        (x(points[-1].n_tokens), y(points[-1].mean_bpb), looks[curve.arm].css, _name(looks, curve))
        for curve, points in drawn
    )
    parts: list[Markup] = []
    column: list[Label] = []
    right = 0.0
    for end in ends:
        if column and end[0] > right:
            parts += label_column(column, y.start - 7)
            column = []
        column.append(end)
        right = max(right, end[0] + 8 + len(end[3]) * LETTER)
    return parts + label_column(column, y.start - 7)


def _threshold(threshold: float | None, x: Scale, y: Scale) -> list[Markup]:
    if threshold is None or not math.isfinite(threshold) or not x.low <= threshold <= x.high:
        return []
    place = x(threshold)
    anchor, shift = ("end", -5) if place > WIDTH / 2 else ("start", 5)
    line = element("line", {"class": "threshold", "x1": place, "x2": place, "y1": y.start, "y2": _TOP - 8})
    label = f"threshold {numbers.score(threshold)}"
    return [line, text(place + shift, _TOP - 1, label, css="name ink", anchor=anchor)]


def _steps(edges: Sequence[float], shares: Sequence[float], x: Scale, y: Scale) -> str:
    """Outline of a histogram; bins without a document leave a gap, so that no line runs along the base."""
    paths: list[str] = []
    outline: list[tuple[float, float]] = []
    for left, right, share in (*zip(edges, edges[1:], shares, strict=False), (edges[-1], edges[-1], 0.0)):
        if share > 0:
            outline += [(x(left), y(share)), (x(right), y(share))]
        elif outline:
            paths.append(line_path([(outline[0][0], y.start), *outline, (outline[-1][0], y.start)]))
            outline = []
    return "".join(paths)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [value / total if total else 0.0 for value in counts]


def _finite(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    return sorted(
        (p for p in points if math.isfinite(p.mean_bpb) and p.n_tokens > 0), key=lambda point: point.n_tokens
    )


def _has_interval(point: CurvePoint) -> bool:
    bounds = (point.low_bpb, point.high_bpb)
    return all(bound is not None and math.isfinite(bound) for bound in bounds)


def _name(looks: Mapping[str, Look], curve: Curve) -> str:
    return cut(looks[curve.arm].label, 16)


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _spoken(points: Sequence[CurvePoint]) -> str:
    first, last = points[0], points[-1]
    end = f"{numbers.loss(last.mean_bpb)} after {numbers.compact(last.n_tokens)} tokens"
    if first is last:
        return end
    return f"from {numbers.loss(first.mean_bpb)} after {numbers.compact(first.n_tokens)} to {end}"


def _spoken_bins(bins: Histogram, threshold: float | None, names: tuple[str, str]) -> str:
    ends = f"from {numbers.plain(bins.edges[0])} to {numbers.plain(bins.edges[-1])} {bins.unit}"
    pool, kept = (numbers.count(sum(counts)) for counts in (bins.pool, bins.kept))
    counts = f"{pool} {bins.counted} {names[0]}, {kept} {names[1]}"
    line = "" if threshold is None else f"; threshold {numbers.score(threshold)}"
    return f"{counts}, {ends}{line}."
