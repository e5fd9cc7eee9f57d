"""From a training report's values to what its template shows: rows, charts, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prill.report.charts import learning_curves
from prill.report.forest import share_bars
from prill.report.look import N_COLOURS, Look, looks
from prill.report.model import Arm, Curve, CurvePoint, SeedPoint
from prill.report.overview import Headline
from prill.report.training_charts import Drawn, loss_chart, norm_chart, rate_chart
from prill.report.training_model import (
    IncidentNote,
    PathPoint,
    Reached,
    SourceRead,
    TrainingPath,
    TrainingReport,
)
from prill.report.training_words import final, incident_sentence, training_headline, training_notes

__all__ = ["TrainingLimits", "TrainingView", "training_view"]

_SETS_A_CHART = 6
_SETS_FIRST = 8
_TABLE_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class TrainingLimits:
    """How much fits: models drawn, incidents, documents of one, held-out sets, rows of a list."""

    n_drawn: int = 16
    n_incidents: int = 40
    n_documents: int = 24
    n_charts: int = 6
    n_seeds: int = 8
    n_rows: int = 400


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its title and, where it needs one, a sentence below."""

    title: str
    chart: Markup
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReachedRow:
    """One held-out set with the colour of its line."""

    reached: Reached
    look: Look
    is_first: bool  # row of its set


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One source with its bars: wanted above, read below."""

    source: SourceRead
    share: float
    bars: Markup


@dataclass(frozen=True, kw_only=True)
class IncidentView:
    """One incident with its sentence; documents and rows as far as they are shown."""

    note: IncidentNote
    sentence: str
    where: str


@dataclass(frozen=True, kw_only=True)
class TrainingView:
    """The whole page."""

    headline: Headline
    notes: tuple[str, ...]
    first: tuple[ReachedRow, ...]
    reached: tuple[ReachedRow, ...]
    curves: tuple[Figure, ...]
    figures: tuple[Figure, ...]
    steps: tuple[PathPoint, ...]
    steps_of: str
    sources: tuple[SourceRow, ...]
    incidents: tuple[IncidentView, ...]
    n_incidents_left_out: int
    limits: TrainingLimits
    is_trimmed: bool


def training_view(data: TrainingReport, limits: TrainingLimits) -> TrainingView:
    """Everything the template shows; `data` has harmless strings."""
    names = list(dict.fromkeys(row.eval_set for row in [*final(data), *data.reached]))
    look = looks([Arm(name=name, label=name) for name in names])
    seen: set[str] = set()
    rows = []
    for row in data.reached:
        rows.append(ReachedRow(reached=row, look=look[row.eval_set], is_first=row.eval_set not in seen))
        seen.add(row.eval_set)
    to_the_end = _to_the_end(data.paths)
    return TrainingView(
        headline=training_headline(data),
        notes=training_notes(data),
        first=tuple(
            ReachedRow(reached=row, look=look[row.eval_set], is_first=True)
            for row in final(data)[:_SETS_FIRST]
        ),
        reached=tuple(rows),
        curves=tuple(_curves(data, look))[: limits.n_charts],
        figures=tuple(_figures(data, limits)),
        steps=tuple(_thinned(to_the_end)),
        steps_of=data.paths[0].run if data.paths else "",
        sources=tuple(_sources(data.sources)),
        incidents=tuple(_incident(note) for note in data.incidents[: limits.n_incidents]),
        n_incidents_left_out=max(0, len(data.incidents) - limits.n_incidents),
        limits=limits,
        is_trimmed=limits != TrainingLimits(),
    )


def _curves(data: TrainingReport, look: Mapping[str, Look]) -> Iterator[Figure]:
    """Held-out loss over tokens, some sets a chart; nothing where there is one checkpoint."""
    if len({row.n_tokens for row in data.reached}) < 2:
        return
    names = [row.eval_set for row in final(data)]
    for start in range(0, len(names), _SETS_A_CHART):
        chosen = names[start : start + _SETS_A_CHART]
        curves = [_curve(name, [row for row in data.reached if row.eval_set == name]) for name in chosen]
        title = "Held-out loss by training tokens"
        chart = learning_curves(curves, look, title=title)
        if chart:
            yield Figure(title=title, chart=chart)


def _curve(name: str, rows: Sequence[Reached]) -> Curve:
    return Curve(
        arm=name,
        eval_set="target",
        points=tuple(
            CurvePoint(n_tokens=row.n_tokens, mean_bpb=row.bpb, low_bpb=row.low, high_bpb=row.high)
            for row in rows
            if row.bpb is not None
        ),
        seeds=tuple(
            SeedPoint(seed=seed, n_tokens=row.n_tokens, bpb=value)
            for row in rows
            for seed, value in enumerate(row.by_seed)
            if value is not None
        ),
    )


def _figures(data: TrainingReport, limits: TrainingLimits) -> Iterator[Figure]:
    runs = list(dict.fromkeys(path.run for path in data.paths))
    shown = runs[: limits.n_drawn]
    css = {run: f"arm-{number % N_COLOURS + 1}" for number, run in enumerate(shown)}
    drawn = [Drawn(path=path, css=css[path.run]) for path in data.paths if path.run in css]
    unit = "nats a token" if data.is_plain_loss else "the objective's loss"
    left_out = f" The first {len(shown)} of {len(runs)} models are drawn." if len(shown) < len(runs) else ""
    decays = _branches_note(data.paths)
    titles = (
        ("Training loss", loss_chart(drawn, unit=unit), f"{decays}{left_out}"),
        ("Gradient norm", norm_chart(drawn), left_out),
        ("Learning rate", rate_chart(drawn), ""),
    )
    for title, chart, note in titles:
        if chart:
            yield Figure(title=title, chart=chart, note=note.strip())


def _branches_note(paths: Sequence[TrainingPath]) -> str:
    is_branch = {path.branch is not None for path in paths}
    if is_branch == {True, False}:
        return " Fine lines are decays."
    return " Every checkpoint has a path of its own." if len({path.branch for path in paths}) > 1 else ""


def _to_the_end(paths: Sequence[TrainingPath]) -> list[PathPoint]:
    """The first model's way to its last checkpoint: the trunk up to the last decay, then that decay."""
    own = [path for path in paths if path.run == paths[0].run and path.points]
    if not own:
        return []
    last = max(own, key=lambda path: path.points[-1].n_tokens)
    trunk = [point for path in own if path.branch is None for point in path.points]
    begin = last.points[0].n_tokens if last.branch is not None else 0
    return [*(point for point in trunk if point.n_tokens < begin), *last.points]


def _thinned(points: Sequence[PathPoint]) -> list[PathPoint]:
    step = max(1, math.ceil(len(points) / _TABLE_ROWS))
    chosen = list(points[step - 1 :: step])
    return chosen if not points or chosen[-1:] == [points[-1]] else [*chosen, points[-1]]


def _sources(sources: Sequence[SourceRead]) -> Iterator[SourceRow]:
    total = sum(source.n_tokens for source in sources) or 1
    top = max((max(s.n_tokens / total, s.wanted_share) for s in sources), default=1.0)
    for source in sources:
        share = source.n_tokens / total
        yield SourceRow(source=source, share=share, bars=share_bars(source.wanted_share, share, top, "arm-1"))


def _incident(note: IncidentNote) -> IncidentView:
    where = "" if note.branch is None else f"decay {note.branch + 1}"
    return IncidentView(note=note, sentence=incident_sentence(note), where=where)
