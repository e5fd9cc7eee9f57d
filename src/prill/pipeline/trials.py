"""The steps that prove a choice: evaluation sets, samples, encoded streams, trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.tokenizer import TextTokenizer, load_tokenizer
from prill.features.keyed import derive_seed
from prill.features.ngrams import hash_documents
from prill.lm.feed.in_training import Drawn, Early
from prill.methods.scored import made
from prill.pipeline import proof
from prill.pipeline.parts import objective_of
from prill.pipeline.pool import REST as HELD_BACK
from prill.pipeline.steps import Choice, Pool, held_out_rest, longest_document
from prill.pipeline.telling import counters
from prill.pipeline.training import stack_size, train_groups
from prill.pipeline.walk import Done, Walk
from prill.recipe.model import CONTROL, TrialSpec
from prill.study.conclude import REST, target_set
from prill.study.pieces import PIECES_VERSION, take_pieces
from prill.study.trials import TRIALS_VERSION, EvalFiles, TrialGroup, TrialRun
from prill.targets.target import Target

if TYPE_CHECKING:
    from prill.lm.feed.in_training import InTraining
    from prill.lm.plan import TrainSettings

__all__ = ["Proof", "arm_name", "prove", "train_settings"]

SPREAD = 4
"""A trial's rows are drawn from documents of this many times its tokens, where the choice holds them, so that
they come from many documents and not from a few long ones."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The finished trials: one row a trial, checkpoint, evaluation set and document."""

    done: Done
    settings: TrainSettings
    evals: pa.Table
    n_trials: int
    n_tokens: int
    flops: float
    within: frozenset[str] = frozenset()
    """Arms whose trials read their rows again by design."""

    @property
    def n_epochs(self) -> float:
        """Most passes that a trial made over its documents, where its method did not ask for them."""
        columns = (self.evals[name].to_pylist() for name in ("arm", "n_epochs"))
        return float(max((n for arm, n in zip(*columns, strict=True) if arm not in self.within), default=0.0))


def arm_name(arm: str, target: str) -> str:
    """What results call one arm's choice for one target."""
    return f"{arm}:{target}"


def train_settings(spec: TrialSpec, vocab_size: int) -> TrainSettings:
    """The training settings that every arm shares, resolved to recorded values."""
    from prill.lm.backend import require_torch, resolve_device, resolve_precision
    from prill.lm.batches import BatchTable
    from prill.lm.fresh import Fresh
    from prill.lm.plan import TrainSettings
    from prill.lm.shape import ladder_shape
    from prill.lm.steplaw import advise

    require_torch()
    device = resolve_device(spec.device)
    shape = ladder_shape(spec.size, vocab_size=vocab_size, seq_len=spec.row_tokens)
    advice = advise(shape.n_params, spec.tokens, shape.seq_len)
    return TrainSettings(
        start=Fresh(shape=shape),
        branch_tokens=tuple(sorted({round(share * spec.tokens) for share in spec.checkpoints})),
        batches=BatchTable.constant(n_rows=spec.rows or advice.n_rows, row_tokens=shape.seq_len),
        schedule=spec.schedule,
        objective=objective_of(spec.objective),
        peak_rate=spec.learning_rate or advice.peak_rate,
        precision=resolve_precision(spec.precision, device),
        device=str(device),
    )


def prove(walk: Walk, pool: Pool, targets: Mapping[str, Target], choices: Sequence[Choice]) -> Proof:
    """Train and judge every trial of every arm and of the control."""
    spec = walk.recipe.trials
    assert spec is not None
    tokenizer_json = pool.tokenizer.path.read_bytes()
    tokenizer = load_tokenizer(tokenizer_json)
    settings = train_settings(spec, tokenizer.vocab_size)
    evals = _eval_sets(walk, pool, targets, spec, tokenizer)
    samples = _samples(walk, pool, choices, spec, settings)
    encoded = walk.over_shards(
        "encode",
        version=1,
        settings={},
        parents=[samples, pool.tokenizer, pool.read],
        work=lambda: proof.EncodeShard(corpus=walk.corpus, samples=samples.path, tokenizer=tokenizer_json),
        label="tokenise what trials read",
    )
    streams = _streams(walk, samples, encoded, tokenizer)
    within = {
        arm_name(choice.arm.label, choice.target): training
        for choice in choices
        if (training := _in_training(choice)) is not None
    }
    rounds = proof.documents_by_round(proof.read_samples(samples.path))
    return _trials(walk, spec, settings, streams, evals, within, rounds)


def control_tokens(spec: TrialSpec) -> tuple[int, ...]:
    """Token counts at which the control is judged: those of the arms, then doubling up to its multiple."""
    counts = {round(share * spec.tokens) for share in spec.checkpoints}
    longer = 2.0
    while longer < spec.control_multiple:
        counts.add(round(longer * spec.tokens))
        longer *= 2
    return tuple(sorted(counts | {round(spec.control_multiple * spec.tokens)}))


def _eval_sets(
    walk: Walk, pool: Pool, targets: Mapping[str, Target], spec: TrialSpec, tokenizer: TextTokenizer
) -> dict[str, tuple[Path, Path, Done]]:
    counts = pool.counts
    bytes_per_token = counts["n_eligible_bytes"] / max(1, counts["n_tokens"])
    has_rest = counts["dropped"].get(HELD_BACK, 0) > 0
    names = [*(target_set(name) for name in targets), *([REST] if has_rest else [])]
    seed = derive_seed(walk.recipe.seed, "pieces")

    def build(paths: list[Path]) -> Mapping[str, Any]:
        texts = [target.held_out for target in targets.values()]
        texts += [held_out_rest(walk, list(pool.eligible.parts))] if has_rest else []
        accounts = {}
        for number, (name, text) in enumerate(zip(names, texts, strict=True)):
            pieces = take_pieces(
                text.to_pylist(),
                hash_documents(text)[1],
                piece_bytes=max(64, int(spec.row_tokens * bytes_per_token)),
                total_bytes=int(spec.eval_tokens * bytes_per_token),
                seed=seed,
            )
            accounts[name] = proof.write_eval_set(paths[2 * number], paths[2 * number + 1], pieces, tokenizer)
        return accounts

    files = [f"{number:03d}.{kind}" for number in range(len(names)) for kind in ("tokens", "pieces.parquet")]
    done = walk.at_once(
        "evaluation",
        version=PIECES_VERSION,
        settings={
            "eval_tokens": spec.eval_tokens,
            "row_tokens": spec.row_tokens,
            "seed": seed,
            "sets": names,
        },
        parents=[pool.targets, pool.tokens, pool.eligible],
        files=files,
        build=build,
        label="cut held-out pieces",
    )
    return {name: (done.parts[2 * n], done.parts[2 * n + 1], done) for n, name in enumerate(names)}


def _samples(
    walk: Walk, pool: Pool, choices: Sequence[Choice], spec: TrialSpec, settings: TrainSettings
) -> Done:
    parts = pool.parts()
    plans: list[proof.Sample] = []
    for seed in range(spec.seeds):
        drawn = derive_seed(walk.recipe.seed, f"trial {seed}")
        tables = proof.sample_tables(parts, None, drawn)
        n_tokens = SPREAD * max(control_tokens(spec))
        plans.append(proof.Sample(arm=CONTROL, seed=seed, n_tokens=n_tokens, tables=tables))
        for choice in choices:
            training = _in_training(choice)
            draws = None if training is None else training.draws
            if isinstance(draws, Drawn):
                plans.append(_redrawn(choice, draws, parts, walk.recipe.seed, seed, spec.tokens))
                continue
            plan = proof.Sample(
                arm=arm_name(choice.arm.label, choice.target),
                seed=seed,
                n_tokens=SPREAD * spec.tokens,
                tables=proof.sample_tables(parts, choice.parts, drawn),
            )
            if isinstance(draws, Early):
                n_later = SPREAD * round((1 - draws.share) * spec.tokens)
                plan = replace(plan, n_tokens=plan.n_tokens - n_later, later=tables, n_later=n_later)
            plans.append(plan)
    plans.sort(key=lambda plan: (plan.arm, plan.seed))

    def build(paths: list[Path]) -> Mapping[str, Any]:
        return proof.write_samples(
            paths[0], plans, n_shards=len(walk.corpus.shards), longest=longest_document(parts[2])
        )

    return walk.at_once(
        "samples",
        version=2,
        settings={
            "trials": [
                [p.arm, p.seed, p.n_tokens, p.n_later, p.draws and p.draws.as_record()] for p in plans
            ],
            "seed": walk.recipe.seed,
        },
        parents=[pool.tokens, pool.eligible, *(choice.done for choice in choices)],
        files=["samples.parquet"],
        build=build,
        label="draw what trials read",
    )


def _in_training(choice: Choice) -> InTraining | None:
    """What the choice's method asks of its trainings."""
    return made(choice.arm.method, choice.arm.settings).in_training()


def _redrawn(
    choice: Choice,
    draws: Drawn,
    parts: tuple[list[Path], list[Path], list[Path]],
    recipe_seed: int,
    seed: int,
    n_tokens: int,
) -> proof.Sample:
    """A trial that draws its rounds from the whole pool, each as large as the choice at most."""
    drawn = derive_seed(recipe_seed, f"{draws.use} trial {seed}")
    kept = int(choice.audit["kept"]["tokens"])
    return proof.Sample(
        arm=arm_name(choice.arm.label, choice.target),
        seed=seed,
        n_tokens=min(kept, SPREAD * -(-n_tokens // draws.n_rounds)),
        tables=proof.sample_tables(parts, None, drawn),
        draws=draws,
    )


def _streams(
    walk: Walk, samples: Done, encoded: Done, tokenizer: TextTokenizer
) -> dict[tuple[str, int], tuple[Path, Done]]:
    table = proof.read_samples(samples.path)
    keys = sorted(set(zip(table["arm"].to_pylist(), table["seed"].to_pylist(), strict=True)))

    def build(paths: list[Path]) -> Mapping[str, Any]:
        parts = [read_columns(path) for path in encoded.parts]
        return {
            f"{arm}/{seed}": proof.write_stream(path, table, arm, seed, parts, tokenizer)
            for path, (arm, seed) in zip(paths, keys, strict=True)
        }

    files = [f"{number:04d}.tokens" for number in range(len(keys))]
    done = walk.at_once(
        "streams",
        version=1,
        settings={},
        parents=[samples, encoded],
        files=files,
        build=build,
        label="pack streams",
    )
    return {key: (path, done) for key, path in zip(keys, done.parts, strict=True)}


def _trials(
    walk: Walk,
    spec: TrialSpec,
    settings: TrainSettings,
    streams: Mapping[tuple[str, int], tuple[Path, Done]],
    evals: Mapping[str, tuple[Path, Path, Done]],
    within: Mapping[str, InTraining],
    rounds: Mapping[tuple[str, int], tuple[int, ...]],
) -> Proof:
    parents = [next(iter(streams.values()))[1], next(iter(evals.values()))[2]]
    stack = stack_size(spec.stack, settings)
    step = walk.run.step(
        "trials",
        version=TRIALS_VERSION,
        settings={
            "training": settings.as_record(),
            "stack": stack,
            "control_tokens": list(control_tokens(spec)),
            **({"within": {arm: found.as_record() for arm, found in within.items()}} if within else {}),
        },
        parents=[parent.record for parent in parents],
    )
    together = _together(streams, stack)
    parts = [step.part(number) for number in range(len(together))]
    if step.record is None:
        with counters(len(together)) as counter_paths:
            groups = [
                TrialGroup(
                    runs=tuple(
                        TrialRun(
                            arm=arm,
                            seed=seed,
                            stream=streams[arm, seed][0],
                            within=within.get(arm),
                            rounds=rounds[arm, seed],
                        )
                        for arm, seed in keys
                    ),
                    settings=_plan(spec, settings, keys[0][0]),
                    evals=_eval_files(keys[0][0], evals),
                    checkpoints=step.folder / f"training-{number:05d}",
                    counter=counter_paths[number],
                )
                for number, keys in enumerate(together)
            ]
            train_groups(walk, step, groups, parts)
        record = step.finish(parts, {"n_trials": len(streams)})
    else:
        walk.progress.reused(f"train {len(streams)} proxies")
        record = step.record
    plans = [_plan(spec, settings, arm) for arm, _ in streams]
    return Proof(
        done=Done(record=record, parts=tuple(parts)),
        settings=settings,
        evals=pa.concat_tables(read_columns(part) for part in parts),
        n_trials=len(streams),
        n_tokens=sum(plan.n_tokens for plan in plans),
        flops=float(sum(plan.flops for plan in plans)),
        within=frozenset(arm for arm, found in within.items() if found.draws is None),
    )


def _together(keys: Iterable[tuple[str, int]], stack: int) -> list[tuple[tuple[str, int], ...]]:
    """Which trials train as one stack: seeds of one arm, at most `stack`; first seeds go first."""
    by_arm: dict[str, list[tuple[str, int]]] = {}
    for arm, seed in sorted(keys, key=lambda key: (key[0] != CONTROL, key)):
        by_arm.setdefault(arm, []).append((arm, seed))
    groups = [
        tuple(found[start : start + stack])
        for found in by_arm.values()
        for start in range(0, len(found), stack)
    ]
    return sorted(groups, key=lambda group: group[0][1])


def _plan(spec: TrialSpec, settings: TrainSettings, arm: str) -> TrainSettings:
    """The settings of one arm's trials: the control may be trained for longer."""
    return replace(settings, branch_tokens=control_tokens(spec)) if arm == CONTROL else settings


def _eval_files(arm: str, evals: Mapping[str, tuple[Path, Path, Done]]) -> tuple[EvalFiles, ...]:
    """The control is judged on every set, an arm on its own target's and on the rest."""
    own = arm.partition(":")[2]
    names = [name for name in evals if arm == CONTROL or name in (REST, target_set(own))]
    return tuple(EvalFiles(name=name, tokens=evals[name][0], pieces=evals[name][1]) for name in names)
