"""`prill plan`: rows, tokens, disk, memory and time of a recipe before anything runs.

Headers are read, and one batch of a few shards; the rest is arithmetic with rates that were measured on two
cores of a server processor, so times are orders of magnitude, not promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prill.corpus.corpus import Corpus
from prill.errors import RecipeError
from prill.methods.scored import Fitted, Scored
from prill.pipeline.arms import scored_by, uses
from prill.pipeline.estimates import duration, probe
from prill.pipeline.inputs import available_cores, check_inputs
from prill.pipeline.plan_prepare import plan_preparation
from prill.pipeline.trials import arm_name, control_tokens
from prill.recipe import PrepareRecipe, Recipe, TrainRecipe, load_any_recipe
from prill.recipe.model import CONTROL, TrialSpec
from prill.study.arms import Arm
from prill.study.plan import StudyPlan, plan_trials

__all__ = ["Estimate", "announce", "estimate", "plan_recipe"]

# Measured rates of one core, text bytes a second, and what a document costs on disk.
READ_RATE = 150e6
TOKEN_RATE = 50e6  # byte-level BPE; a tokenizer that only the library follows takes 20 times as long
SCORE_RATE = 150e6
TRAIN_FLOPS = 45e9  # of one thread on small models in bf16
BYTES_PER_TOKEN = 3.0  # of a trained vocabulary of a few thousand entries
COLUMN_BYTES = 60  # a document: hashes, lengths, reasons
SCORE_BYTES = 8  # a document, arm and target


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a recipe will need, in documents, bytes, tokens and seconds."""

    n_documents: int
    n_bytes: int
    n_tokens: int
    budgets: tuple[str, ...]
    n_trials: int
    n_trial_tokens: int
    disk_bytes: int
    memory_bytes: int
    prepare_s: float
    train_s: float


def plan_recipe(path: Path, *, n_workers: int | None) -> str:
    """The plan of a recipe as a text, one fact a line.

    Raises:
        PrillError: the recipe or an input is wrong; tells all problems.
    """
    recipe = load_any_recipe(path)
    base = path.resolve().parent
    workers = n_workers or available_cores()
    if isinstance(recipe, PrepareRecipe):
        corpus = Corpus.open(recipe.corpus, base)
        lines = plan_preparation(recipe.prepare, corpus, base, n_workers=workers)
        return "\n".join([f"recipe     {recipe.name}", *lines])
    if isinstance(recipe, TrainRecipe):
        from prill.pipeline.plan_train import plan_training

        return "\n".join([f"recipe     {recipe.name}", *plan_training(recipe, base, n_workers=workers)])
    corpus, targets = check_inputs(recipe, base)
    preparing = (
        plan_preparation(recipe.prepare, corpus, base, n_workers=workers)
        if recipe.prepare is not None
        else []
    )
    found = estimate(recipe, corpus, n_targets=len(targets), n_workers=workers)
    summary, graph = corpus.schema_summary(), _graph(recipe, base)
    lines = [
        f"recipe     {recipe.name}",
        *preparing,
        f"pool       about {found.n_documents:,} documents, {found.n_bytes / 1e6:,.1f} MB of text in "
        f"{summary['n_files']} files, {summary['n_shards']} shards",
        f"tokens     about {found.n_tokens:,} (at {BYTES_PER_TOKEN:g} bytes a token)",
        *(
            f"target     {name}: {len(t.fit)} documents to fit, {len(t.held_out)} held out"
            for name, t in targets.items()
        ),
        *_budgets(found, recipe),
        f"methods    {len(recipe.arms)} and the random control",
        *graph,
        f"proof      {found.n_trials} trials, {found.n_trial_tokens:,} training tokens in all"
        if recipe.trials
        else "proof      none (trials: null)",
        f"disk       about {found.disk_bytes / 1e6:,.0f} MB in {recipe.output}",
        f"memory     about {found.memory_bytes / 1e9:.1f} GB",
        f"time       about {duration(found.prepare_s + found.train_s)} with "
        f"{workers} worker{'s' * (workers != 1)}"
        + _parts(found)
        + (", without the features above" if graph else ""),
    ]
    return "\n".join(lines)


def _budgets(found: Estimate, recipe: Recipe) -> list[str]:
    if len(found.budgets) == 1:
        return [f"budget     {found.budgets[0]}, for each target"]
    return [f"budget     {name}: {told}" for name, told in zip(recipe.targets, found.budgets, strict=True)]


def _graph(recipe: Recipe, base: Path) -> list[str]:
    """What the methods ask for beside their own scores: every feature once, with all who use it."""
    asked = {arm.label: scored_by(arm, list(recipe.targets), base) for arm in recipe.arms}
    shared = [use for use in uses(asked) if not isinstance(use.feature, Fitted | Scored)]
    return [f"feature    {use.feature.label}: once, for {', '.join(use.arms)}" for use in shared]


def announce(recipe: Recipe, corpus: Corpus, *, n_workers: int) -> list[tuple[str, float]]:
    """The long steps to come with the seconds they may take, so that the display can tell what remains."""
    found = estimate(recipe, corpus, n_targets=len(recipe.targets), n_workers=n_workers)
    counting = found.n_bytes / TOKEN_RATE / n_workers
    steps = [("train the tokenizer", 4.0), ("count tokens", counting)]
    return [*steps, (f"train {found.n_trials} proxies", found.train_s)] if recipe.trials else steps


def estimate(recipe: Recipe, corpus: Corpus, *, n_targets: int, n_workers: int) -> Estimate:
    """The arithmetic behind the plan."""
    n_documents, n_bytes = probe(corpus)
    n_tokens = round(n_bytes / BYTES_PER_TOKEN)
    chosen = {name: _chosen(recipe, name, n_tokens, n_documents, n_bytes) for name in recipe.targets}
    words = [f"{recipe.budget_of(name)}, about {told}" for name, (told, _) in chosen.items()]
    share = sum(part for _, part in chosen.values()) / len(chosen)
    spec = recipe.trials
    study = _study(recipe)
    n_trials = len(study.runs) if study else 0
    n_choices = n_targets * len(recipe.arms)
    prepare = n_bytes * (2 / READ_RATE + 1 / TOKEN_RATE + len(recipe.arms) * 2 / SCORE_RATE) / n_workers
    return Estimate(
        n_documents=n_documents,
        n_bytes=n_bytes,
        n_tokens=n_tokens,
        budgets=tuple(words[:1] if len(set(words)) == 1 else words),
        n_trials=n_trials,
        n_trial_tokens=study.n_tokens if study else 0,
        disk_bytes=round(
            n_documents * (COLUMN_BYTES + SCORE_BYTES * n_choices) + n_choices * share * n_bytes * 0.4
        ),
        memory_bytes=_memory(spec, n_workers),
        prepare_s=prepare + 5.0,
        train_s=_train_seconds(spec, study, n_workers) if spec and study else 0.0,
    )


def _chosen(recipe: Recipe, target: str, n_tokens: int, n_documents: int, n_bytes: int) -> tuple[str, float]:
    """How much the target's budget is of such a pool: in words, and as a share.

    Raises:
        RecipeError: more than the pool holds.
    """
    budget = recipe.budget_of(target)
    pool = {"tokens": n_tokens, "documents": n_documents, "bytes": n_bytes}[budget.limit_unit]
    n_chosen = budget.resolve(pool)
    if n_chosen > pool:
        raise RecipeError(
            f"the budget must fit into the pool, found {budget} of about {pool:,} {budget.limit_unit}",
            where="budget" if recipe.targets[target].budget is None else f"targets.{target}.budget",
        )
    return f"{n_chosen:,} {budget.limit_unit}", n_chosen / max(1, pool)


def _study(recipe: Recipe) -> StudyPlan | None:
    """Every trial of the recipe with its branches."""
    spec = recipe.trials
    if spec is None:
        return None
    arms = [Arm(name=CONTROL, kind="random")]
    arms += [
        Arm(name=arm_name(arm.label, target), kind="selected", target=target)
        for arm in recipe.arms
        for target in recipe.targets
    ]
    checkpoints = sorted({round(share * spec.tokens) for share in spec.checkpoints})
    return plan_trials(
        arms,
        range(spec.seeds),
        checkpoints,
        longer={CONTROL: sorted(set(control_tokens(spec)) - set(checkpoints))},
    )


def _train_seconds(spec: TrialSpec, study: StudyPlan, n_workers: int) -> float:
    from prill.lm.shape import flops_per_token, ladder_shape

    shape = ladder_shape(spec.size, vocab_size=4096, seq_len=spec.row_tokens)
    n_scored = sum(2 * len(run.branches) for run in study.runs) * spec.eval_tokens
    operations = (study.n_tokens + n_scored / 3) * flops_per_token(shape)
    return operations / (TRAIN_FLOPS * min(n_workers, len(study.runs)))


def _memory(spec: TrialSpec | None, n_workers: int) -> int:
    from prill.lm.shape import ladder_shape, memory_bytes

    worker = 300_000_000
    if spec:
        shape = ladder_shape(spec.size, vocab_size=4096, seq_len=spec.row_tokens)
        worker += memory_bytes(shape, n_models=1, n_rows=spec.rows or 4)
    return 400_000_000 + n_workers * worker


def _parts(found: Estimate) -> str:
    if not found.n_trials:
        return ""
    return f" ({duration(found.prepare_s)} to prepare and choose, {duration(found.train_s)} to train)"
