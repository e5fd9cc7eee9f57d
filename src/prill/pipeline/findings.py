"""From everything a run holds to what its report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from prill import __version__
from prill.methods.registry import get_method
from prill.methods.scored import made
from prill.pipeline.arms import LeftOut
from prill.pipeline.steps import Choice, Pool
from prill.pipeline.trials import Proof, arm_name
from prill.recipe.model import CONTROL, ArmSpec, Recipe
from prill.report import model as page
from prill.report.evidence import evidence
from prill.run.record import Record
from prill.study.arms import Arm
from prill.study.comparison import Row
from prill.study.conclude import Conclusion, conclude
from prill.study.matching import Compute
from prill.targets.target import Target

__all__ = ["Findings", "judge", "lineage_step", "report_data", "shown"]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a report is made of."""

    recipe: Recipe
    recipe_path: Path
    pool: Pool
    targets: Mapping[str, Target]
    choices: Sequence[Choice]
    samples: Mapping[tuple[str, str], tuple[page.SampleGroup, ...]]
    proof: Proof | None
    conclusion: Conclusion | None
    left_out: Sequence[LeftOut]
    rows: Sequence[Row]
    records: Sequence[Record]


def shown(arm: ArmSpec) -> str:
    """How a sentence calls an arm: `DSIR`, or the name that the recipe gave it."""
    return arm.name or get_method(arm.method).info.called


def judge(recipe: Recipe, proof: Proof, choices: Sequence[Choice], pool: Pool) -> Conclusion:
    """Compare every arm with the control at equal tokens, and at equal compute."""
    names = {arm_name(c.arm.label, c.target): c for c in choices}
    arms = [
        Arm(
            name=name, kind="selected", target=c.target, method=c.arm.method, label=f"{shown(c.arm)}'s choice"
        )
        for name, c in names.items()
    ]
    control = Arm(name=CONTROL, kind="random", label="random text")
    n_targets = len({choice.target for choice in choices})
    scoring = {name: c.flops / n_targets for name, c in names.items()}
    return conclude(
        proof.evals,
        [(c.target, name, CONTROL) for name, c in names.items()],
        arms=[*arms, control],
        compute=Compute(train_flops_per_token=proof.settings.start.flops_per_token, scoring_flops=scoring),
        seed=recipe.seed,
    )


def report_data(found: Findings) -> page.ReportData:
    """Fill the report."""
    recipe, counts = found.recipe, found.pool.counts
    spec = recipe.trials
    facts = [
        page.Fact(label="Pool", value=f"{counts['n_eligible']:,} documents, {counts['n_tokens']:,} tokens"),
        page.Fact(label="Budget", value=_budgets(recipe)),
    ]
    if spec and found.proof:
        n_params = found.proof.settings.start.n_params
        facts += [
            page.Fact(label="Proxy", value=f"{spec.size}, {n_params / 1e6:.2f} M parameters"),
            page.Fact(label="Training", value=f"{spec.tokens:,} tokens a trial, {spec.seeds} seeds an arm"),
        ]
    arms = [
        page.Arm(name=a.label, label=shown(a), description=get_method(a.method).info.title)
        for a in recipe.arms
    ]
    control = page.Arm(
        name=CONTROL,
        label="random",
        role="control",
        description="random text of the pool, as many tokens, drawn anew for every seed",
    )
    return page.ReportData(
        title=recipe.name,
        recipe=found.recipe_path.name,
        question=_question(found),
        targets=tuple(_target(found, name) for name in found.targets),
        arms=(*arms, control),
        facts=tuple(facts),
        warnings=tuple(_warnings(found)),
        costs=tuple(_costs(found)),
        methods=tuple(_method_note(arm) for arm in recipe.arms),
        lineage=tuple(lineage_step(record) for record in found.records),
        inputs=tuple(_inputs(found)),
        versions=(page.Fact(label="Prill", value=__version__),),
        seeds=tuple(range(spec.seeds)) if spec else (),
        recipe_text=found.recipe_path.read_text(encoding="utf-8"),
        repeat_command=f"prill run {found.recipe_path.name}",
        repeat_notes=(
            "The same recipe, inputs and version give the same bytes, whatever the number of workers.",
            "How long each step took on this machine: prill report RUN --timings.",
        ),
    )


def _budgets(recipe: Recipe) -> str:
    """The common budget, or each target's own."""
    if recipe.common_budget is not None:
        return f"{recipe.common_budget} for each target"
    return "; ".join(f"{name}: {recipe.budget_of(name)}" for name in recipe.targets)


def _question(found: Findings) -> str:
    names = ", ".join(found.targets)
    return f"Which {found.recipe.common_budget or 'documents'} teach best: {names}?"


def _target(found: Findings, name: str) -> page.TargetReport:
    target = found.targets[name]
    choices = [c for c in found.choices if c.target == name]
    names = {CONTROL: CONTROL, **{arm_name(c.arm.label, name): c.arm.label for c in choices}}
    proven = vars(evidence(found.conclusion, name, names)) if found.conclusion else {}
    return page.TargetReport(
        name=name,
        facts=(
            page.Fact(label="Fit part", value=f"{len(target.fit):,} documents, seen by methods"),
            page.Fact(
                label="Held out", value=f"{len(target.held_out):,} documents, seen by the evaluation only"
            ),
        ),
        **proven,
        selections=tuple(_audit(found, c) for c in choices),
        samples=tuple(group for c in choices for group in found.samples.get((name, c.arm.label), ())),
        warnings=tuple(f"{shown(c.arm)}: {w}" for c in choices for w in c.audit["warnings"]),
    )


def _audit(found: Findings, choice: Choice) -> page.SelectionAudit:
    audit = choice.audit
    cut = next(iter(audit["strata"].values())) if len(audit["strata"]) == 1 else None
    last = (cut or {}).get("last_in") or {}
    row = next((r for r in found.rows if (r.target, r.arm) == (choice.target, choice.arm.label)), None)
    return page.SelectionAudit(
        arm=choice.arm.label,
        budget=str(audit["budget"]),
        n_documents_candidates=audit["eligible"]["documents"],
        n_tokens_candidates=audit["eligible"]["tokens"],
        n_documents_kept=audit["kept"]["documents"],
        n_tokens_kept=audit["kept"]["tokens"],
        threshold=last.get("score") if audit["policy"]["kind"] != "gumbel" else None,
        score_name=_score_name(choice),
        n_ties_boundary=audit["ties"]["documents"],
        shortfall_tokens=audit["shortfall"] if audit["unit"] == "tokens" else 0,
        precision=row.precision if row else None,
        kl_nats=row.kl_nats if row else None,
        by_source=tuple(_sources(audit)),
        lengths=_histogram(audit["lengths"], unit="tokens", is_log=True),
        scores=_histogram(audit["scores"], unit=_score_name(choice), is_log=False),
        dropped=tuple(page.Dropped(reason=r, n_documents=n) for r, n in found.pool.counts["dropped"].items()),
    )


def _score_name(choice: Choice) -> str:
    meaning = made(choice.arm.method, choice.arm.settings).meaning()
    return f"{shown(choice.arm)} score, {meaning.unit}"


def _sources(audit: Mapping[str, Any]) -> list[page.SourceShare]:
    rows = audit["sources"] or {}
    named = [
        page.SourceShare(
            source=None if name == "(none)" else name,
            n_documents_pool=row["all"]["documents"],
            n_tokens_pool=row["all"]["tokens"],
            n_documents_kept=row["kept"]["documents"],
            n_tokens_kept=row["kept"]["tokens"],
        )
        for name, row in rows.items()
    ]
    return sorted(named, key=lambda s: (-s.n_tokens_kept, -s.n_tokens_pool, s.source or ""))


def _histogram(counts: Mapping[str, Any], *, unit: str, is_log: bool) -> page.Histogram | None:
    if len(counts["edges"]) < 2:
        return None
    return page.Histogram(
        edges=tuple(counts["edges"]),
        pool=tuple(counts["all"]["documents"]),
        kept=tuple(counts["kept"]["documents"]),
        unit=unit,
        is_log=is_log,
    )


def _warnings(found: Findings) -> list[str]:
    spec, said = found.recipe.trials, []
    if spec is None:
        said.append("No trials were run, so nothing here proves that the choice is better than random text.")
    elif found.proof is not None and found.proof.n_epochs > 1.001:
        said.append(
            f"A trial read its choice up to {found.proof.n_epochs:.1f} times, "
            "because the budget is smaller than the trial."
        )
    said += [f"{one}." for one in found.left_out]
    few = [name for name, target in found.targets.items() if len(target.fit) < 10]
    said += [
        f"`{name}` gives methods only {len(found.targets[name].fit)} documents; more would be safer."
        for name in few
    ]
    return said


def _costs(found: Findings) -> list[page.StepCost]:
    counts, proof = found.pool.counts, found.proof
    read = {"n_documents": counts["n_documents"], "n_bytes": counts["n_bytes"]}
    rows = [
        page.StepCost(step="read", what="read, hash and account every document", **read),
        page.StepCost(
            step="tokens",
            what="count tokens",
            n_documents=counts["n_eligible"],
            n_bytes=counts["n_eligible_bytes"],
            n_tokens=counts["n_tokens"],
        ),
    ]
    for arm in found.recipe.arms:
        what = f"fit and score {len(found.targets)} target{'s' * (len(found.targets) != 1)} in one pass each"
        n_bytes = counts["n_eligible_bytes"] + counts["n_bytes"]
        rows.append(
            page.StepCost(step=shown(arm), what=what, n_documents=counts["n_documents"], n_bytes=n_bytes)
        )
    if proof is not None:
        rows.append(
            page.StepCost(
                step="trials",
                what=f"train {proof.n_trials} proxies",
                n_tokens=proof.n_tokens,
                flops=proof.flops,
            )
        )
    return rows


def _method_note(arm: ArmSpec) -> page.MethodNote:
    info = get_method(arm.method).info
    return page.MethodNote(
        name=shown(arm),
        title=info.title,
        paper="" if info.paper == "none" else f"arXiv:{info.paper}",
        formula=info.formula,
        summary=f"Cost: {info.cost}.",
        assumptions=(info.assumes,),
        deviations=(info.differs,),
    )


def lineage_step(record: Record) -> page.LineageStep:
    """A finished step, as a report shows it."""
    return page.LineageStep(
        step=record.step,
        fingerprint=record.fingerprint,
        version=str(record.version),
        parents=tuple(record.parents),
        settings=tuple(
            page.Fact(label=name, value=_written(value)) for name, value in sorted(record.settings.items())
        ),
        counts=tuple(
            page.Fact(label=name, value=_written(value)) for name, value in sorted(record.counts.items())
        ),
    )


def _written(value: Any) -> str:
    """A setting or count as people write it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _inputs(found: Findings) -> list[page.InputFile]:
    files = [
        page.InputFile(
            path=str(f.get("path", "")),
            n_bytes=int(f.get("size", 0)),
            sha256=str(f.get("sha256", "")),
            role="pool",
        )
        for f in found.pool.read.record.inputs
    ]
    targets = [
        page.InputFile(path=f"target {f['target']}", n_bytes=0, sha256=f["sha256"], role="target")
        for f in found.pool.targets.record.inputs
    ]
    return [*files, *targets]
