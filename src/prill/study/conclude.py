"""From evaluations to conclusions: what was compared, how sure we are, and what could not be decided.

For every comparison (target, arm, control): bits per byte on `target:<name>`, paired by seed at equal tokens,
with the noise of seeds and of documents; the effect elsewhere; tokens to match; cost of choosing; and a
verdict corrected for the number of comparisons.

Source: the shape of the proof follows Madaan et al. 2024, arXiv:2406.10229 (both kinds of noise) and
Magnusson et al. 2025, arXiv:2504.11393 (paired seeds, equal budgets).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import pyarrow as pa

from prill.errors import RecipeError
from prill.stats import holm
from prill.study.arms import Arm
from prill.study.effect import Curve, Effect, learning_curve, measure
from prill.study.losses import Losses
from prill.study.matching import Compute, Ledger, Matching, account, match
from prill.study.verdict import Verdict, judge
from prill.study.words import detail_sentences, matching_sentence, verdict_sentence

__all__ = ["CONCLUDE_VERSION", "MARGIN_BPB", "REST", "Comparison", "Conclusion", "conclude", "target_set"]

CONCLUDE_VERSION = 1
"""Version of the rules below; it changes whenever a number or a verdict changes."""

MARGIN_BPB = 0.02
"""Differences up to this many bits per byte are called negligible unless the caller says otherwise."""

REST = "rest"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against one control for one target.

    Args:
        sentence: stands alone in plain words; `details` say how sure we are and why.
        largest_bpb: with verdict "no difference": no larger one is compatible with the evidence.
        p_value, p_adjusted: before and after Holm's correction; None without an estimate of noise.
        elsewhere: the same arms on every other evaluation set, `rest` first.
        ledger: None when the caller gave no cost.
    """

    target: str
    arm: str
    control: str
    verdict: Verdict
    sentence: str
    matching_sentence: str
    details: tuple[str, ...]
    largest_bpb: float | None
    p_value: float | None
    p_adjusted: float | None
    effect: Effect
    elsewhere: tuple[Effect, ...]
    matching: Matching
    ledger: Ledger | None


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """Everything a study can say."""

    version: int
    confidence: float
    margin_bpb: float
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    """Every arm on every evaluation set, sorted by set, then arm."""
    notes: tuple[str, ...]
    """How the verdicts were reached, in words."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, unrounded, in a fixed order."""
        plain: dict[str, Any] = _plain(self)
        return plain


def target_set(target: str) -> str:
    """Name of the evaluation set that holds a target's held-out documents."""
    return f"target:{target}"


def conclude(
    evals: pa.Table,
    comparisons: Sequence[tuple[str, str, str]],
    *,
    arms: Sequence[Arm] = (),
    compute: Compute | None = None,
    confidence: float = 0.95,
    margin_bpb: float = MARGIN_BPB,
    n_resamples: int = 2_000,
    seed: int = 0,
) -> Conclusion:
    """Judges every comparison.

    Args:
        evals: one row for each model and document; columns as in `prill.study.losses`. Evaluation sets are
            named `target:<name>`, and `rest` for text that no target covers.
        comparisons: (target, arm, control), judged together: the correction counts them all.
        arms: labels for the sentences; an arm without an entry is shown by its name.
        compute: cost of training and choosing; None leaves the ledger out.
        margin_bpb: largest difference that counts as none.
        n_resamples: of the bootstrap over documents.
        seed: of the bootstrap.
    Raises:
        RecipeError: there is no comparison, one is doubled, or an arm is compared with itself.
        DataError: evaluations are missing, doubled, not finite, or on different documents; the message names
            arm, seed and document.
    """
    _check(comparisons, confidence)
    losses = Losses.read(evals)
    measured = {}
    for target, arm, control in comparisons:
        sets = (target_set(target), *_others(losses, target, arm, control))
        measured[target, arm, control] = [
            measure(losses, arm, control, name, confidence=confidence, n_resamples=n_resamples, seed=seed)
            for name in sets
        ]
    p_values = {key: effects[0].difference.p_value for key, effects in measured.items()}
    adjusted = holm({repr(key): p for key, p in p_values.items() if p is not None})
    labels = {arm.name: arm for arm in arms}

    def compared(key: tuple[str, str, str]) -> Comparison:
        return _compare(
            losses,
            key[0],
            measured[key],
            labels,
            compute,
            p_value=p_values[key],
            p_adjusted=adjusted.get(repr(key)),
            n_comparisons=len(adjusted),
            margin_bpb=margin_bpb,
        )

    return Conclusion(
        version=CONCLUDE_VERSION,
        confidence=confidence,
        margin_bpb=margin_bpb,
        comparisons=tuple(compared(key) for key in measured),
        curves=_curves(losses, confidence),
        notes=_notes(confidence, margin_bpb, len(adjusted)),
    )


def _compare(
    losses: Losses,
    target: str,
    effects: list[Effect],
    labels: dict[str, Arm],
    compute: Compute | None,
    *,
    p_value: float | None,
    p_adjusted: float | None,
    n_comparisons: int,
    margin_bpb: float,
) -> Comparison:
    effect, elsewhere = effects[0], tuple(effects[1:])
    confidence = effect.difference.confidence
    arm = labels.get(effect.arm, Arm(name=effect.arm, kind="control"))
    control = labels.get(effect.control, Arm(name=effect.control, kind="control"))
    judged = judge(effect, p_adjusted, confidence=confidence, margin_bpb=margin_bpb)
    matching = match(losses, effect, confidence=confidence)
    ledger = account(losses, effect, matching, compute) if compute else None
    is_better = judged.verdict is Verdict.BETTER
    matched = matching_sentence(arm, control, effect, matching) if is_better else ""
    return Comparison(
        target=target,
        arm=effect.arm,
        control=effect.control,
        verdict=judged.verdict,
        sentence=f"{verdict_sentence(target, arm, control, effect, judged)} {matched}".rstrip(),
        matching_sentence=matched,
        details=detail_sentences(
            effect,
            arm,
            control,
            elsewhere=elsewhere,
            ledger=ledger,
            p_adjusted=p_adjusted,
            n_comparisons=n_comparisons,
            judged=judged,
        ),
        largest_bpb=judged.largest_bpb,
        p_value=p_value,
        p_adjusted=p_adjusted,
        effect=effect,
        elsewhere=elsewhere,
        matching=matching,
        ledger=ledger,
    )


def _curves(losses: Losses, confidence: float) -> tuple[Curve, ...]:
    known = [(arm, name) for name in losses.eval_sets for arm in losses.arms if (arm, name) in losses.nats]
    return tuple(learning_curve(losses, arm, name, confidence=confidence) for arm, name in known)


def _others(losses: Losses, target: str, arm: str, control: str) -> list[str]:
    """Every other set on which both arms were evaluated, `rest` first."""
    names = [name for name in losses.eval_sets if name != target_set(target)]
    both = [name for name in names if (arm, name) in losses.nats and (control, name) in losses.nats]
    return sorted(both, key=lambda name: (name != REST, name))


def _notes(confidence: float, margin_bpb: float, n_comparisons: int) -> tuple[str, ...]:
    notes = [
        "Differences are arm minus control in bits per byte at equal training tokens, paired by seed; "
        f"intervals cover {100 * confidence:g} % and count the noise of seeds and of documents together.",
        f"Differences up to {margin_bpb:g} bits per byte are called negligible.",
    ]
    if n_comparisons > 1:
        notes.append(
            f"Verdicts are corrected for {n_comparisons} comparisons (Holm), so that the chance of any false "
            f"better or worse among them is at most {100 * (1 - confidence):.3g} %."
        )
    return tuple(notes)


def _check(comparisons: Sequence[tuple[str, str, str]], confidence: float) -> None:
    if not comparisons:
        raise RecipeError(
            "a study needs at least one comparison (target, arm, control), found none", where="study"
        )
    if len(set(comparisons)) < len(comparisons):
        raise RecipeError(f"comparisons must differ, found {list(comparisons)}", where="study")
    for target, arm, control in comparisons:
        if arm == control:
            raise RecipeError(
                f"an arm needs a control other than itself, found {arm!r}", where=f"target {target!r}"
            )
    if not 0.5 <= confidence < 1:
        raise RecipeError(f"confidence must be from 0.5 to below 1, found {confidence}", where="study")


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json") and not isinstance(value, Conclusion):
        return _plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
