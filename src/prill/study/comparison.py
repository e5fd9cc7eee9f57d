"""Arms side by side: one row an arm and target, and the tables that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prill.study.conclude import Comparison
from prill.study.numbers import fixed, times

__all__ = ["Row", "Shared", "no_better", "tables_of"]

_BOUNDS = {"exact": "", "at_least": "≥ ", "at_most": "≤ "}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm for one target; None where it is not known.

    Attributes:
        n_tokens: chosen.
        precision: share of the chosen tokens that belong to the target, 0 to 1; of the pool for `random`.
        kl_nats: KL divergence from the target's held-out part to the choice, hashed 1- and 2-grams.
        difference: bits per byte on the held-out part, arm minus random; below 0 favours the arm.
        low, high: its interval.
        verdict: after the correction for the number of comparisons.
        multiple: tokens that random text needs for the arm's loss, over the arm's own.
        multiple_bound: `exact`, `at_least`, `at_most` or `unknown`.
        flops: operations of choosing for all targets, everything the method needs included.
        share: what choosing cost for this target, as a share of training one model of the comparison.
    """

    target: str
    arm: str
    method: str
    n_tokens: int | None
    precision: float | None
    kl_nats: float
    flops: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    multiple: float | None = None
    multiple_bound: str = "unknown"
    share: float | None = None

    @classmethod
    def of(
        cls,
        *,
        target: str,
        arm: str,
        method: str,
        n_tokens: int | None,
        precision: float | None,
        kl_nats: float,
        flops: float,
        comparison: Comparison | None,
    ) -> Row:
        """The row of what was counted, with what the trials concluded if there were any."""
        plain = cls(
            target=target,
            arm=arm,
            method=method,
            n_tokens=n_tokens,
            precision=precision,
            kl_nats=kl_nats,
            flops=flops,
        )
        if comparison is None:
            return plain
        found, needs = comparison.effect.difference, comparison.matching.control_needs
        return cls(
            **{
                **vars(plain),
                "difference": found.estimate,
                "low": found.low,
                "high": found.high,
                "verdict": comparison.verdict.value,
                "multiple": needs.value,
                "multiple_bound": needs.bound,
                "share": None if comparison.ledger is None else comparison.ledger.scoring_share,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A feature that was computed once, its step, the operations it took, and the arms that use it."""

    label: str
    step: str
    flops: float
    arms: tuple[str, ...]


def tables_of(rows: Sequence[Row], features: Sequence[Shared] = (), left_out: Sequence[str] = ()) -> str:
    """Markdown: a table for each target, the best choices first, and what choosing costs."""
    parts = []
    for target in dict.fromkeys(row.target for row in rows):
        parts += [f"### {target}", "", *_table([row for row in rows if row.target == target]), ""]
    if left_out:
        parts += ["### Left out", "", *(f"- {one}" for one in left_out), ""]
    return (
        "\n".join(
            [
                *parts,
                "### Not shown to be better than random",
                "",
                *_losers(rows),
                "",
                *_costs(rows),
                *_trace(features),
            ]
        )
        + "\n"
    )


def no_better(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Targets, by arm, on which the trials did not find the arm better than random text."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict and row.verdict != "better":
            found.setdefault(row.arm, []).append(f"{row.target} ({row.verdict})")
    return found


def _table(rows: Sequence[Row]) -> list[str]:
    head = (
        "| method | precision | KL to target, nats | bits per byte against random | verdict | random needs |"
    )
    lines = [head, "|---|---:|---:|---:|---|---:|"]
    for row in sorted(rows, key=_rank):
        cells = [
            row.arm,
            _precision(row),
            f"{row.kl_nats:.3f}",
            _difference(row),
            row.verdict,
            _multiple(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _rank(row: Row) -> tuple[float, float, float, str]:
    """The best first: by the trials, by what belongs to the target, by words."""
    return row.difference or 0.0, -(row.precision or 0.0), row.kl_nats, row.arm


def _losers(rows: Sequence[Row]) -> list[str]:
    found = no_better(rows)
    if not any(row.verdict for row in rows):
        return ["No trials were run."]
    return [f"- {arm}: {', '.join(targets)}" for arm, targets in sorted(found.items())] or ["None."]


def _costs(rows: Sequence[Row]) -> list[str]:
    lines = [
        "### What choosing costs",
        "",
        "| method | operations, all targets | a target, of one trial's training |",
    ]
    lines.append("|---|---:|---:|")
    for arm in dict.fromkeys(row.arm for row in rows):
        row = next(row for row in rows if row.arm == arm)
        share = "" if row.share is None else f"{row.share:.1%}" if row.share < 1 else f"{row.share:.0f} x"
        lines.append(f"| {arm} | {row.flops:.2g} | {share} |")
    return lines


def _trace(features: Sequence[Shared]) -> list[str]:
    """Which feature serves whom: the proof that nothing is computed twice."""
    if not features:
        return []
    lines = [
        "",
        "### Features, each computed once",
        "",
        "| feature | operations | used by |",
        "|---|---:|---|",
    ]
    return lines + [f"| {f.label} | {f.flops:.2g} | {', '.join(f.arms)} |" for f in features]


def _precision(row: Row) -> str:
    return "" if row.precision is None else f"{row.precision:.3f}"


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    text = fixed(row.difference, 3)
    if row.low is None or row.high is None:
        return text
    return f"{text} ({fixed(row.low, 3)} to {fixed(row.high, 3)})"


def _multiple(row: Row) -> str:
    if row.multiple is None or row.multiple_bound not in _BOUNDS:
        return ""
    return f"{_BOUNDS[row.multiple_bound]}{times(row.multiple, bound=row.multiple_bound)} x"
