"""The overview of many choices: a table of choices by targets, the best first, instead of a plot for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from prill.report.look import Look
from prill.report.model import ReportData
from prill.report.overview import Comparison, spoken

__all__ = ["League", "LeagueRow", "league"]

_FEWEST = 6  # pairs; fewer have a plot each


@dataclass(frozen=True, kw_only=True)
class LeagueRow:
    """One choice against its control: a comparison a target, None where there is none."""

    label: str
    sublabel: str
    look: Look
    cells: tuple[Comparison | None, ...]
    mean_bpb: float | None


@dataclass(frozen=True, kw_only=True)
class League:
    """Rows of choices, the largest gain over all targets first; columns of targets with their anchors."""

    control: str
    targets: tuple[tuple[str, str], ...]
    rows: tuple[LeagueRow, ...]


def league(rows: Sequence[Comparison], data: ReportData, look: Mapping[str, Look]) -> League | None:
    """The table of these comparisons; None where plots say it better: few choices, or one target."""
    pairs = dict.fromkeys((row.arm, row.control) for row in rows)
    if len(pairs) < _FEWEST or len(data.targets) < 2:
        return None
    anchors = {row.target: row.anchor for row in rows}
    of = {(row.arm, row.control, row.target): row for row in rows}
    controls = {control for _, control in pairs}
    made = []
    for arm, control in pairs:
        cells = tuple(of.get((arm, control, target)) for target in anchors)
        gains = [cell.effect.difference_bpb for cell in cells if cell is not None and cell.effect is not None]
        made.append(
            LeagueRow(
                label=look[arm].label,
                sublabel=f"against {spoken(data.arm(control))}" if len(controls) > 1 else "",
                look=look[arm],
                cells=cells,
                mean_bpb=fmean(gains) if gains else None,
            )
        )
    made.sort(key=lambda row: (row.mean_bpb is None, row.mean_bpb or 0.0, row.label))
    control = spoken(data.arm(*controls)) if len(controls) == 1 else "its control"
    return League(control=control, targets=tuple(anchors.items()), rows=tuple(made))
