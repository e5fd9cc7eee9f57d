"""The verdict first: the headline, the sentence below it, and the rows of the overview plot.

The headline counts verdicts of candidates against controls; references (such as the planted truth) are
left to the evidence below. It never says more than the verdicts: every target is counted once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prill.report import numbers
from prill.report.model import Arm, Effect, Finding, ReportData, TargetReport, Verdict

__all__ = ["Comparison", "Headline", "comparisons", "headline", "is_headline", "primary_effect", "spoken"]

_ONE = {
    Verdict.BETTER: "{arm} is better than {control} for {target}",
    Verdict.WORSE: "{arm} is worse than {control} for {target}",
    Verdict.NO_DIFFERENCE: "{arm} and {control} are equally good for {target}",
    Verdict.CANNOT_TELL: "We cannot tell whether {arm} is better than {control} for {target}",
}
_MANY = {
    Verdict.BETTER: "{arm} is better than {control} for {n}",
    Verdict.WORSE: "{arm} is worse than {control} for {n}",
    Verdict.NO_DIFFERENCE: "{arm} and {control} are equally good for {n}",
    Verdict.CANNOT_TELL: "We cannot tell {arm} from {control} for {n}",
}
_REST = {
    Verdict.BETTER: "better for {n}",
    Verdict.WORSE: "worse for {n}",
    Verdict.NO_DIFFERENCE: "no difference for {n}",
    Verdict.CANNOT_TELL: "undecided for {n}",
}

_PAIRS_IN_WORDS = 2  # more arms than this are counted, not told one by one


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The largest sentence of the page, without a full stop, and the sentences under it."""

    title: str
    lede: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of the overview: an arm against its control for one target."""

    anchor: str
    target: str
    arm: str
    control: str
    finding: Finding | None
    effect: Effect | None


def spoken(arm: Arm) -> str:
    """The label within a sentence: `random` for a control called `Random`; proper names stay."""
    label = arm.label
    is_word = arm.role != "candidate" and label[1:] == label[1:].lower()
    return label[:1].lower() + label[1:] if is_word else label


def is_headline(data: ReportData, arm: str, control: str) -> bool:
    """Whether a comparison answers the question itself: a candidate against a control."""
    return data.arm(arm).role == "candidate" and data.arm(control).role == "control"


def comparisons(data: ReportData) -> list[Comparison]:
    """All comparisons in order of targets; a finding without an effect, or the reverse, keeps its row."""
    rows = []
    for number, target in enumerate(data.targets, start=1):
        pairs = dict.fromkeys((f.arm, f.control) for f in target.findings)
        pairs |= dict.fromkeys(
            (e.arm, e.control) for e in target.effects if e.is_primary and e.eval_set == "target"
        )
        for arm, control in pairs:
            finding = next((f for f in target.findings if (f.arm, f.control) == (arm, control)), None)
            effect = primary_effect(target, arm, control)
            rows.append(
                Comparison(
                    anchor=f"t{number}",
                    target=target.name,
                    arm=arm,
                    control=control,
                    finding=finding,
                    effect=effect,
                )
            )
    return rows


def primary_effect(target: TargetReport, arm: str, control: str) -> Effect | None:
    """The effect that decided this pair: on the target, after the most tokens."""
    found = [e for e in target.effects if (e.arm, e.control) == (arm, control) and e.eval_set == "target"]
    return max(found, key=lambda effect: (effect.is_primary, effect.n_tokens), default=None)


def headline(data: ReportData) -> Headline:
    """What the whole report comes to."""
    findings = _headline_findings(data)
    if not findings:
        return Headline(title=data.title, lede=("No comparison was made.",))
    by_pair: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
    for target, finding in findings:
        by_pair.setdefault((finding.arm, finding.control), []).append((target, finding))
    if len(by_pair) > _PAIRS_IN_WORDS:
        return _ranking(data, by_pair)
    first, *others = by_pair.values()
    title, lede = _pair_headline(data, first)
    for pair in others:
        other_title, _ = _pair_headline(data, pair)
        lede.append(f"{other_title}.")
    return Headline(title=title, lede=tuple(lede))


def _ranking(data: ReportData, by_pair: Mapping[tuple[str, str], Sequence[tuple[str, Finding]]]) -> Headline:
    """Many arms: how many are better everywhere, and which are better here and there."""
    everywhere: list[str] = []
    somewhere: list[str] = []
    for (arm, _), pair in by_pair.items():
        n_better = sum(finding.verdict == Verdict.BETTER for _, finding in pair)
        label = data.arm(arm).label
        if n_better:
            (everywhere if n_better == len(pair) else somewhere).append(label)
    controls = dict.fromkeys(spoken(data.arm(control)) for _, control in by_pair)
    against = next(iter(controls)) if len(controls) == 1 else "their controls"
    where = (
        f"for {data.targets[0].name}" if len(data.targets) == 1 else f"for {_all_targets(len(data.targets))}"
    )
    n_all = len(by_pair)
    count = "None" if not everywhere else "All" if len(everywhere) == n_all else str(len(everywhere))
    verb = "is" if len(everywhere) < 2 else "are"
    title = f"{count} of {n_all} choices {verb} better than {against} {where}"
    lede = [f"Better {where}: {_list(everywhere)}."] if everywhere else []
    lede += [f"Better for some targets only: {_list(somewhere)}."] if somewhere else []
    return Headline(title=title, lede=tuple(lede))


def _all_targets(n_targets: int) -> str:
    return "both targets" if n_targets == 2 else f"all {n_targets} targets"


def _list(names: Sequence[str], *, n_most: int = 8) -> str:
    shown = list(names[:n_most])
    if len(names) > n_most:
        shown.append(f"{len(names) - n_most} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _headline_findings(data: ReportData) -> list[tuple[str, Finding]]:
    every = [(target.name, finding) for target in data.targets for finding in target.findings]
    chosen = [
        (target, finding) for target, finding in every if is_headline(data, finding.arm, finding.control)
    ]
    return chosen or every


def _pair_headline(data: ReportData, pair: Sequence[tuple[str, Finding]]) -> tuple[str, list[str]]:
    target, finding = pair[0]
    names = {"arm": data.arm(finding.arm).label, "control": spoken(data.arm(finding.control))}
    if len(pair) == 1:
        return _upper(_ONE[finding.verdict].format(target=target, **names)), [finding.sentence]
    counts = Counter(finding.verdict for _, finding in pair)
    lead = max(Verdict, key=lambda verdict: counts[verdict])
    n_all = len(pair)
    n = _all_targets(n_all) if counts[lead] == n_all else f"{counts[lead]} of {n_all} targets"
    rest = [
        _REST[verdict].format(n=_which(pair, verdict))
        for verdict in Verdict
        if counts[verdict] and verdict != lead
    ]
    lede = [_upper("; ".join(rest)) + "."] if rest else []
    if size := _effect_range(data, finding, {t for t, f in pair if f.verdict == lead}, lead):
        lede.insert(0, size)
    return _upper(_MANY[lead].format(n=n, **names)), lede


def _effect_range(data: ReportData, finding: Finding, targets: set[str], lead: Verdict) -> str | None:
    """How much better or worse, over the targets the headline counts."""
    if lead not in (Verdict.BETTER, Verdict.WORSE):
        return None
    effects = [primary_effect(t, finding.arm, finding.control) for t in data.targets if t.name in targets]
    sizes = sorted(abs(effect.difference_bpb) for effect in effects if effect is not None)
    tokens = {effect.n_tokens for effect in effects if effect is not None}
    if not sizes:
        return None
    first, last = f"{sizes[0]:.2f}", f"{sizes[-1]:.2f}"
    much = first if first == last else f"{first} to {last}"
    less = "less" if lead == Verdict.BETTER else "more"
    after = f" after {numbers.compact(tokens.pop())} training tokens each" if len(tokens) == 1 else ""
    return f"Its models need {much} bits per byte {less} on held-out text of the target{after}."


def _which(pair: Sequence[tuple[str, Finding]], verdict: Verdict) -> str:
    names = [target for target, finding in pair if finding.verdict == verdict]
    return f"{len(names)} targets" if len(names) > 3 else _list(names)


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
