"""Charts of what happened during training: one line a model and path, over training tokens.

Trunks are drawn in full, decays finer; a decay leaves its trunk at the tokens where it began. The losses of
the first steps, many times those of all others, stay outside the picture; its sentence tells them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prill.report import numbers
from prill.report.axes import Scale, decimals, linear_ticks, log_ticks, padded
from prill.report.frame import LEFT, LETTER, WIDTH, Label, across, along, label_column, picture
from prill.report.svg import element, line_path, text
from prill.report.training_model import PathPoint, TrainingPath

__all__ = ["Drawn", "loss_chart", "norm_chart", "rate_chart"]

HEIGHT = 232
_TOP, _BOTTOM, _RIGHT = 26, 40, 10
_SHOWN_SINCE = 0.02  # of the tokens: the first steps do not decide the scale
_LABELLED = 4  # more models than this are drawn without names


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A path with the colour of its model."""

    path: TrainingPath
    css: str


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What a chart shows of a point, and how its axis reads."""

    value: Callable[[PathPoint], float]
    unit: str
    said: str
    is_log: bool = False


def loss_chart(drawn: Sequence[Drawn], *, unit: str) -> Markup:
    """Training loss of every model."""
    kind = _Kind(value=lambda point: point.loss, unit=unit, said="Training loss")
    return _chart(drawn, kind, is_cut=True, is_labelled=True)


def norm_chart(drawn: Sequence[Drawn]) -> Markup:
    """Gradient norm of every model before clipping, on a logarithmic axis."""
    kind = _Kind(
        value=lambda point: point.gradient_norm,
        unit="gradient norm before clipping",
        said="Gradient norm",
        is_log=True,
    )
    return _chart(drawn, kind)


def rate_chart(drawn: Sequence[Drawn]) -> Markup:
    """Learning rate of the first model; the others follow the same schedule."""
    first = drawn[0].path.run if drawn else ""
    own = [one for one in drawn if one.path.run == first]
    peak = max((point.learning_rate for one in own for point in one.path.points), default=0.0)
    if peak <= 0:
        return Markup("")
    power = math.floor(math.log10(peak))
    factor = numbers.power(10.0**power) if power >= 0 else f"10{_superscript(power)}"
    kind = _Kind(
        value=lambda point: point.learning_rate / 10.0**power,
        unit=f"learning rate, in units of {factor}",
        said="Learning rate",
    )
    return _chart(own, kind, is_from_zero=True)


def _chart(
    drawn: Sequence[Drawn],
    kind: _Kind,
    *,
    is_cut: bool = False,
    is_labelled: bool = False,
    is_from_zero: bool = False,
) -> Markup:
    lines = [(one, points) for one in drawn if (points := _places(one, drawn, kind))]
    if not lines:
        return Markup("")
    is_labelled = is_labelled and len({one.path.run for one, _ in lines}) <= _LABELLED
    stop = WIDTH - (_widest(lines) if is_labelled else _RIGHT)
    last = max(points[-1][0] for _, points in lines)
    x = Scale(low=0.0, high=last, start=LEFT + 2, stop=stop)
    y = _vertical(lines, kind, since=_SHOWN_SINCE * last if is_cut else 0.0, is_from_zero=is_from_zero)
    x_ticks = linear_ticks(0.0, last, n_about=4)
    parts = [_grid(y, stop, kind), along(x, x_ticks, y.start, [numbers.compact(tick) for tick in x_ticks])]
    parts += [_line(one, points, x, y) for one, points in lines]
    if is_labelled:
        parts += label_column(_labels(lines, x, y), y.start - 7)
    parts += [text(0, 11, kind.unit, css="unit")]
    parts += [text(stop, HEIGHT - 4, "training tokens", css="unit", anchor="end")]
    return picture(HEIGHT, _spoken(lines, kind), parts)


_Places = list[tuple[int, float]]
_Lines = Sequence[tuple[Drawn, _Places]]


def _places(one: Drawn, drawn: Sequence[Drawn], kind: _Kind) -> _Places:
    """Where a path goes; a decay begins at the trunk's last point before it."""
    own = _finite(one.path, kind)
    if one.path.branch is None or not own:
        return own
    trunk = next((o.path for o in drawn if o.path.run == one.path.run and o.path.branch is None), None)
    before = [] if trunk is None else [place for place in _finite(trunk, kind) if place[0] < own[0][0]]
    return [*before[-1:], *own]


def _finite(path: TrainingPath, kind: _Kind) -> _Places:
    places = [(point.n_tokens, kind.value(point)) for point in path.points]
    return [(n, value) for n, value in places if math.isfinite(value) and (value > 0 or not kind.is_log)]


def _vertical(lines: _Lines, kind: _Kind, *, since: float, is_from_zero: bool) -> Scale:
    values = [value for _, points in lines for n, value in points if n >= since]
    values = values or [value for _, points in lines for _, value in points]
    if kind.is_log:
        low, high = (math.exp(bound) for bound in padded(map(math.log, values), share=0.05))
        return Scale(low=low, high=high, start=HEIGHT - _BOTTOM, stop=_TOP, is_log=True)
    low, high = padded(values)
    return Scale(low=0.0 if is_from_zero else low, high=high, start=HEIGHT - _BOTTOM, stop=_TOP)


def _grid(y: Scale, right: float, kind: _Kind) -> Markup:
    ticks = log_ticks((), y.low, y.high, n_most=5) if kind.is_log else []
    if len(ticks) < 2:
        ticks = linear_ticks(y.low, y.high, n_about=4)
    digits = decimals(ticks)
    names = [numbers.plain(tick) if kind.is_log else f"{tick:.{digits}f}" for tick in ticks]
    return across(y, right=right, ticks=ticks, names=names)


def _line(one: Drawn, points: _Places, x: Scale, y: Scale) -> Markup:
    """The path from where it enters the picture; what leaves it later runs along the edge."""
    inside = next((i for i, (_, value) in enumerate(points) if y.low <= value <= y.high), len(points) - 1)
    places = [(x(n), y(min(max(value, y.low), y.high))) for n, value in points[inside:]]
    css = f"line path {one.css}" + ("" if one.path.branch is None else " decay")
    if len(places) == 1:
        return element("circle", {"class": f"dot {one.css}", "cx": places[0][0], "cy": places[0][1], "r": 2})
    return element("path", {"class": css, "d": line_path(places)})


def _labels(lines: _Lines, x: Scale, y: Scale) -> list[Label]:
    """The name of each model at the end of its longest path."""
    ends: dict[str, tuple[Drawn, tuple[int, float]]] = {}
    for one, points in lines:
        known = ends.get(one.path.run)
        if known is None or points[-1][0] >= known[1][0]:
            ends[one.path.run] = (one, points[-1])
    return [
        (x(n), y(min(max(value, y.low), y.high)), one.css, one.path.run[:16])
        for one, (n, value) in ends.values()
    ]


def _widest(lines: _Lines) -> float:
    return max(len(one.path.run[:16]) for one, _ in lines) * LETTER + 20


def _spoken(lines: _Lines, kind: _Kind) -> str:
    said = []
    for one, points in lines:
        if one.path.branch is None or len(lines) <= _LABELLED:
            where = (
                one.path.run if one.path.branch is None else f"{one.path.run}, decay {one.path.branch + 1}"
            )
            first, last = numbers.plain(points[0][1]), numbers.plain(points[-1][1])
            tokens = numbers.compact(points[-1][0])
            said.append(f"{where} from {first} to {last} after {tokens} tokens")
    more = f"; {len(lines) - len(said)} more lines" if len(lines) > len(said) else ""
    return f"{kind.said}, {kind.unit}: {'; '.join(said[:8])}{more}."


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
