"""A comparison in plain English: one sentence that stands alone, and details that say how sure we are."""

from __future__ import annotations

from prill.stats import Interval, Multiple
from prill.study.arms import Arm
from prill.study.effect import Effect
from prill.study.matching import Ledger, Matching
from prill.study.numbers import count, decimals_for, fixed, percent, times, tokens
from prill.study.verdict import Judgement, Verdict

__all__ = ["detail_sentences", "matching_sentence", "verdict_sentence"]

_NEARLY_EQUAL = 0.005
"""Extra tokens for equal compute, as a share, below which a sentence does not tell them apart."""


def verdict_sentence(target: str, arm: Arm, control: Arm, effect: Effect, judged: Judgement) -> str:
    """The finding with its numbers: what was reached, against what, at how many tokens, how sure."""
    arm_bpb, control_bpb, size, half = _consistent(effect)
    at = f"at equal {tokens(effect.n_tokens)}"
    levels = f"{arm_bpb} bits per byte against {control_bpb} for {control.shown}"
    reached = f"For `{target}`, {arm.shown} reached {levels} {at}"
    if judged.verdict is Verdict.NO_DIFFERENCE:
        if effect.difference.low == effect.difference.high == 0:
            same = f"{arm.shown} and {control.shown} gave the same losses"
            return f"For `{target}`, {same} {at}: no difference at all."
        largest = judged.largest_bpb or 0.0
        bound = _rounded_up(largest, decimals_for(largest))
        return f"{reached}: no difference larger than {bound} bits per byte ({_basis(effect)})."
    way = "lower" if effect.difference.estimate < 0 else "higher"
    if float(size) == 0 and half is None:
        return f"{reached}. We cannot tell which is better: {judged.reason}."
    basis = _basis(effect, bare=half is None)
    difference = f"{size} {way} ({basis})" if half is None else f"{size} ± {half} {way} ({basis})"
    if judged.verdict is Verdict.CANNOT_TELL:
        return f"{reached}: {difference}. We cannot tell which is better: {judged.reason}."
    return f"{reached}: {difference}."


def matching_sentence(arm: Arm, control: Arm, effect: Effect, matching: Matching) -> str:
    """How many tokens the choice is worth; empty where the curves cannot say."""
    needs, saves = matching.control_needs, matching.arm_saves
    at_least = times(needs.value or 1, bound="at_least"), times(saves.value or 1, bound="at_least")
    if _says_something(needs, "exact"):
        text = f"{control.shown} would need about {times(needs.value or 1)} times the tokens to match it"
        return _capital(f"{text}{_range(needs)}.")
    if _says_something(needs, "at_least"):
        trained = tokens((needs.value or 1) * effect.n_tokens)
        text = f"{control.shown} would need more than {at_least[0]} times the tokens to match it"
        return _capital(f"{text}: trained on {trained}, it did not reach that loss.")
    if _says_something(saves, "exact"):
        text = f"{arm.shown} reached the loss of {control.shown} with about {times(saves.value or 1)} times"
        return _capital(f"{text} fewer tokens{_range(saves)}.")
    if _says_something(saves, "at_least"):
        text = (
            f"{arm.shown} reached the loss of {control.shown} with at least {at_least[1]} times fewer tokens"
        )
        return _capital(f"{text}: its first checkpoint was already there.")
    return ""


def detail_sentences(
    effect: Effect,
    arm: Arm,
    control: Arm,
    *,
    elsewhere: tuple[Effect, ...],
    ledger: Ledger | None,
    p_adjusted: float | None,
    n_comparisons: int,
    judged: Judgement,
) -> tuple[str, ...]:
    """How sure we are and why; what the choice costs elsewhere; what it costs to choose."""
    said = [_noise(effect), _detectable(effect, judged), _parts(effect)]
    if p_adjusted is not None and n_comparisons > 1:
        said.append(
            f"Corrected for {n_comparisons} comparisons (Holm), the chance that noise alone gives a "
            f"difference this clear is {_chance(p_adjusted)}; the intervals themselves are not widened."
        )
    said += [_elsewhere(arm, other) for other in elsewhere]
    said.append(_cost(effect, control, ledger, judged) if ledger else "")
    return tuple(sentence for sentence in said if sentence)


def _consistent(effect: Effect) -> tuple[str, str, str, str | None]:
    """Arm, control, size of the difference and half-width, with enough decimals for the subtraction to
    agree."""
    half = effect.difference.half_width
    first = decimals_for(half)
    for decimals in (first, first + 1, first + 2):
        arm, control = fixed(effect.arm_bpb, decimals), fixed(effect.control_bpb, decimals)
        size = fixed(abs(effect.difference.estimate), decimals)
        if fixed(abs(float(arm) - float(control)), decimals) == size:
            break
    else:
        decimals = first
        arm, control = fixed(effect.arm_bpb, decimals), fixed(effect.control_bpb, decimals)
        size = fixed(abs(effect.difference.estimate), decimals)
    return arm, control, size, None if half is None else fixed(half, decimals)


def _basis(effect: Effect, *, bare: bool = False) -> str:
    counts = f"{count(effect.n_seeds, 'seed')}, {count(effect.n_documents, 'document')}"
    return counts if bare else f"{100 * effect.difference.confidence:g} %, {counts}"


def _noise(effect: Effect) -> str:
    if effect.noise_floor is None:
        return ""
    return (
        f"Between seeds, the control varies by {_size(effect.noise_floor)} bits per byte "
        f"(standard deviation), the arm by {_size(effect.arm_noise or 0.0)}."
    )


def _detectable(effect: Effect, judged: Judgement) -> str:
    if effect.smallest_detectable is None:
        return "Two or more seeds and documents are needed to state a noise floor."
    text = (
        f"With this noise, a true difference of {_size(effect.smallest_detectable)} bits per byte would be "
        "found four times out of five."
    )
    if judged.verdict is not Verdict.CANNOT_TELL:
        return text
    if effect.n_seeds_needed and effect.n_seeds_needed > effect.n_seeds:
        text += f" A difference of the size seen here would need about {effect.n_seeds_needed:,} seeds."
    seeds, documents = effect.over_seeds.standard_error, effect.over_documents.standard_error
    if seeds is not None and documents is not None and documents > seeds:
        text += " Most of the noise comes from the held-out documents: more of them would help most."
    return text


def _parts(effect: Effect) -> str:
    seeds, documents = effect.over_seeds, effect.over_documents
    if seeds.half_width is None or documents.low is None or documents.high is None:
        return ""
    return (
        f"From seeds alone the difference is {_signed(seeds)}; resampling documents alone gives "
        f"{_plus(documents.low, documents.half_width)} to {_plus(documents.high, documents.half_width)}."
    )


def _elsewhere(arm: Arm, other: Effect) -> str:
    half = other.difference.half_width
    decimals = decimals_for(half)
    size = fixed(abs(other.difference.estimate), decimals)
    if half is None:
        way = "higher" if other.difference.estimate > 0 else "lower"
        level = f"{arm.shown} is {size} bits per byte {way}"
        return f"On `{other.eval_set}`, {level}; how sure that is cannot be told."
    if other.difference.sign == 0:
        return (
            f"On `{other.eval_set}` the difference is {_plus(other.difference.estimate, half)} "
            f"± {fixed(half, decimals)} bits per byte: not clear."
        )
    way = "worse: that is what the choice costs there" if other.difference.estimate > 0 else "better"
    return f"On `{other.eval_set}`, {arm.shown} is {size} ± {fixed(half, decimals)} bits per byte {way}."


def _cost(effect: Effect, control: Arm, ledger: Ledger, judged: Judgement) -> str:
    if ledger.scoring_flops == 0:
        return "Choosing cost no compute worth counting, so equal tokens are equal compute."
    text = f"Choosing cost as much compute as {percent(ledger.scoring_share)} of training one such model"
    if abs(ledger.n_tokens_equal_compute / ledger.n_tokens - 1) < _NEARLY_EQUAL:
        return f"{text}, so equal tokens are nearly equal compute."
    text += f"; for the same total {control.shown} may train on {tokens(ledger.n_tokens_equal_compute)}."
    if ledger.difference_equal_compute is not None:
        return (
            f"{text} Then the difference is {_signed(ledger.difference_equal_compute)} (arm minus control)."
        )
    if effect.difference.estimate >= 0:
        return f"{text} The comparison at equal tokens leaves that advantage out."
    if judged.verdict is not Verdict.BETTER:
        return text
    if ledger.holds:
        return f"{text} It needs more than that to match, so the finding holds at equal compute."
    return f"{text} It was not trained that far, so the finding is not tested at equal compute."


def _range(multiple: Multiple) -> str:
    if multiple.low is None or multiple.high is None:
        return f" ({count(multiple.n_seeds, 'seed')})" if multiple.n_seeds == 1 else ""
    return (
        f" (between {times(multiple.low)} and {times(multiple.high)} over {count(multiple.n_seeds, 'seed')})"
    )


def _signed(interval: Interval) -> str:
    half = interval.half_width
    value = _plus(interval.estimate, half)
    return value if half is None else f"{value} ± {fixed(half, decimals_for(half))}"


def _plus(value: float, half: float | None) -> str:
    text = fixed(value, decimals_for(half))
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _size(value: float) -> str:
    return fixed(value, decimals_for(value))


def _chance(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def _rounded_up(value: float, decimals: int) -> str:
    text = fixed(value, decimals)
    return text if float(text) >= value else fixed(value + 0.5 * 10.0**-decimals, decimals)


def _says_something(multiple: Multiple, bound: str) -> bool:
    return multiple.bound == bound and multiple.value is not None and multiple.value > 1.05


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
