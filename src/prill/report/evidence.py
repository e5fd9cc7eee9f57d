"""From a study's conclusion to a target's part of the report: findings, effects and learning curves.

The study may call its arms `dsir for fiction`, the report shows one arm `dsir` on every target: `names`
translates. Effects on other targets stay in the sentences; the charts show the target and the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prill.report.model import Curve, CurvePoint, Effect, EvalSet, Finding, SeedPoint
from prill.study import conclude, effect

__all__ = ["Evidence", "evidence"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The fields of a `TargetReport` that a study decides, under the same names.

    `tokens_to_match` holds only what the findings' own sentences do not say already.
    """

    findings: tuple[Finding, ...]
    curves: tuple[Curve, ...]
    effects: tuple[Effect, ...]
    tokens_to_match: tuple[str, ...]


def evidence(
    conclusion: conclude.Conclusion, target: str, names: Mapping[str, str] | None = None
) -> Evidence:
    """What `conclusion` says about `target`; `names` maps the study's arms to the report's."""
    known = names or {}
    comparisons = [item for item in conclusion.comparisons if item.target == target]
    arms = {name for item in comparisons for name in (item.arm, item.control)}
    sets: dict[str, EvalSet] = {conclude.target_set(target): "target", conclude.REST: "rest"}
    return Evidence(
        findings=tuple(_finding(item, known) for item in comparisons),
        curves=tuple(
            _curve(curve, sets[curve.eval_set], known)
            for curve in conclusion.curves
            if curve.arm in arms and curve.eval_set in sets
        ),
        effects=tuple(
            _effect(one, sets[one.eval_set], known, is_primary=one is item.effect)
            for item in comparisons
            for one in (item.effect, *item.elsewhere)
            if one.eval_set in sets
        ),
        tokens_to_match=tuple(
            item.matching_sentence for item in comparisons if item.matching_sentence not in item.sentence
        ),
    )


def _finding(item: conclude.Comparison, names: Mapping[str, str]) -> Finding:
    return Finding(
        arm=names.get(item.arm, item.arm),
        control=names.get(item.control, item.control),
        verdict=item.verdict,
        sentence=item.sentence,
        details=item.details,
    )


def _curve(curve: effect.Curve, eval_set: EvalSet, names: Mapping[str, str]) -> Curve:
    return Curve(
        arm=names.get(curve.arm, curve.arm),
        eval_set=eval_set,
        points=tuple(
            CurvePoint(n_tokens=p.n_tokens, mean_bpb=p.mean_bpb, low_bpb=p.low_bpb, high_bpb=p.high_bpb)
            for p in curve.points
        ),
        seeds=tuple(
            SeedPoint(seed=seed, n_tokens=point.n_tokens, bpb=bpb)
            for point in curve.points
            for seed, bpb in point.seeds.items()
        ),
    )


def _effect(one: effect.Effect, eval_set: EvalSet, names: Mapping[str, str], *, is_primary: bool) -> Effect:
    return Effect(
        arm=names.get(one.arm, one.arm),
        control=names.get(one.control, one.control),
        eval_set=eval_set,
        n_tokens=one.n_tokens,
        difference_bpb=one.difference.estimate,
        low_bpb=one.difference.low,
        high_bpb=one.difference.high,
        noise_floor_bpb=one.noise_floor,
        detectable_bpb=one.smallest_detectable,
        seed_differences_bpb=tuple(one.differences.values()),
        level=one.difference.confidence,
        is_primary=is_primary,
    )
