"""The steps of a run, in the order in which they are walked. Each is one function: parents in, `Done` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.columns import read_columns
from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.corpus.writers import write_parquet
from prill.errors import told_of
from prill.features.keyed import derive_seed
from prill.features.ngrams import compile_kernels
from prill.features.pool import PoolView
from prill.features.token_counts import TokenCounter
from prill.methods.scored import Scored
from prill.pipeline import pool
from prill.pipeline.arms import policy_of, scored_by
from prill.pipeline.choose import PoolTables, WriteChoice
from prill.pipeline.features import Features
from prill.pipeline.measuring import ReadDocuments, engine_kind, measure_all
from prill.pipeline.quarantine import set_aside
from prill.pipeline.walk import Done, Walk
from prill.recipe.model import ArmSpec
from prill.run.atomic import atomic_write
from prill.run.fingerprint import safe_name
from prill.select.decide import Decision, decide
from prill.targets.target import SPLIT_VERSION, Target

__all__ = ["Choice", "Pool", "choose", "features_of", "prepare_pool", "score", "store_targets"]


MOST_REST = 0.1
"""A small pool gives at most this share of its documents to `rest`."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The finished first stretch: what is known of every document of the pool."""

    read: Done
    eligible: Done
    tokenizer: Done
    tokens: Done
    targets: Done

    @property
    def counts(self) -> Mapping[str, Any]:
        """Documents, bytes and tokens: of all, eligible, and dropped by reason."""
        return self.tokens.record.counts

    def parts(self) -> tuple[list[Path], list[Path], list[Path]]:
        """Read, eligible and token parts, one a shard."""
        return list(self.read.parts), list(self.eligible.parts), list(self.tokens.parts)


def store_targets(walk: Walk, targets: Mapping[str, Target]) -> Done:
    """Store the split of every target, so that it can be read beside the run."""
    recipe = walk.recipe
    files = [f"{safe_name(name)}.parquet" for name in targets]

    def build(paths: list[Path]) -> Mapping[str, Any]:
        for path, target in zip(paths, targets.values(), strict=True):
            write_parquet(path, _target_table(target))
        return {
            name: {"n_fit": len(t.fit), "n_held_out": len(t.held_out), "n_copies": t.n_copies}
            for name, t in targets.items()
        }

    return walk.at_once(
        "targets",
        version=SPLIT_VERSION,
        settings={
            "seed": recipe.seed,
            "held_out": {name: spec.held_out for name, spec in recipe.targets.items()},
        },
        parents=[],
        files=files,
        build=build,
        inputs=[{"target": name, "sha256": target.digest()} for name, target in targets.items()],
        label="split the targets",
    )


def _target_table(target: Target) -> pa.Table:
    part = ["fit"] * len(target.fit) + ["held_out"] * len(target.held_out)
    return pa.table({"part": pa.array(part), "text": pa.concat_arrays([target.fit, target.held_out])})


def prepare_pool(walk: Walk, targets: Mapping[str, Target], targets_done: Done) -> Pool:
    """Read the pool, say which documents may be chosen, and count their tokens."""
    kind = engine_kind(walk.corpus)
    if kind == "processes":
        compile_kernels()  # once, so that workers load them from the cache
    (read,) = measure_all(walk, [ReadDocuments(spec=walk.corpus.spec)], label="read the pool")
    if read.record.counts["n_bad"]:
        set_aside(walk, read)
    eligible = _mark_eligible(walk, read, targets, targets_done)
    tokenizer = _tokenizer(walk, read, eligible)
    refusal = TokenCounter.of(tokenizer.path.read_bytes()).refusal
    if refusal:
        walk.progress.note(f"token counts go through the tokenizers library, which is slower: {refusal}")
    tokens = walk.over_shards(
        "tokens",
        version=pool.TOKENS_VERSION,
        settings={},
        parents=[read, eligible, tokenizer],
        work=lambda: pool.CountTokens(
            corpus=walk.corpus, eligible_parts=list(eligible.parts), tokenizer=tokenizer.path.read_bytes()
        ),
        kind=kind,
        counts=lambda parts: {
            **pool.pool_counts(list(read.parts), list(eligible.parts), parts),
            **({"through_library": refusal} if refusal else {}),
        },
        label="count tokens",
    )
    return Pool(read=read, eligible=eligible, tokenizer=tokenizer, tokens=tokens, targets=targets_done)


def _mark_eligible(walk: Walk, read: Done, targets: Mapping[str, Target], targets_done: Done) -> Done:
    recipe = walk.recipe
    seed = derive_seed(recipe.seed, "rest")
    n_bytes = max(1, int(read.record.counts["n_bytes"]))
    rest_share = min(MOST_REST, recipe.rest.size / n_bytes) if recipe.trials else 0.0

    def work() -> pool.MarkEligible:
        return pool.MarkEligible(
            read_parts=list(read.parts),
            is_first=pool.first_copies(list(read.parts)) if recipe.duplicates == "drop" else None,
            held_out_keys=np.concatenate([target.keys for target in targets.values()]),
            rest_share=rest_share,
            seed=seed,
        )

    return walk.over_shards(
        "eligible",
        version=pool.ELIGIBLE_VERSION,
        settings={"duplicates": recipe.duplicates, "rest_share": rest_share, "seed": seed},
        parents=[read, targets_done],
        work=work,
        label="drop exact copies",
    )


def _tokenizer(walk: Walk, read: Done, eligible: Done) -> Done:
    spec = walk.recipe.tokenizer
    given = (walk.base / spec.path).read_bytes() if spec.path else None
    if given is not None:
        load_tokenizer(given)
    seed = derive_seed(walk.recipe.seed, "tokenizer")

    def build(paths: list[Path]) -> Mapping[str, Any]:
        content = given
        if content is None:
            texts = pool.sample_texts(
                walk.corpus, list(read.parts), list(eligible.parts), n_bytes=spec.sample, seed=seed
            )
            content = train_bpe(texts, spec.vocab_size)
        atomic_write(paths[0], content)
        return {"vocab_size": load_tokenizer(content).vocab_size}

    return walk.at_once(
        "tokenizer",
        version=1,
        settings={"vocab_size": spec.vocab_size, "sample": spec.sample, "seed": seed}
        if given is None
        else {},
        parents=[read, eligible] if given is None else [],
        inputs=[] if given is None else [{"tokenizer": load_tokenizer(given).sha256}],
        files=["tokenizer.json"],
        build=build,
        label="train the tokenizer",
    )


def features_of(walk: Walk, pool_done: Pool, targets: Mapping[str, Target]) -> Features:
    """What methods can ask for of this pool and these targets."""
    read, eligible, tokens = pool_done.parts()
    return Features(
        walk=walk,
        pool=PoolView(
            corpus=walk.corpus,
            read_parts=tuple(read),
            eligible_parts=tuple(eligible),
            token_parts=tuple(tokens),
            tokenizer=pool_done.tokenizer.path,
        ),
        targets=targets,
        read=pool_done.read,
        parents=(pool_done.read, pool_done.eligible, pool_done.tokens, pool_done.tokenizer),
        goes_on=walk.recipe.unfit == "leave_out",
    )


def score(features: Features, arms: Sequence[ArmSpec]) -> dict[str, Scored]:
    """Resolve every arm's scores for every target, and all they need; by the arm's name.

    Some are in `features.refused` instead, where the recipe leaves out arms that cannot work.
    """
    walk = features.walk
    asked = {arm.label: scored_by(arm, list(features.targets), walk.base) for arm in arms}
    features.resolve(list(asked.values()))
    return asked


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One arm's choice for one target: its parts, and the account that the decision left.

    Attributes:
        flops: operations of scoring the pool, for all targets, everything it needs included.
    """

    arm: ArmSpec
    target: str
    done: Done
    tables: PoolTables
    flops: float

    @property
    def audit(self) -> dict[str, Any]:
        """The account: kept by stratum, ties, shortfall, histograms."""
        return dict(orjson.loads(self.done.parts[-1].read_bytes()))

    @property
    def parts(self) -> list[Path]:
        """The chosen rows, one file a shard."""
        return list(self.done.parts[:-1])


def choose(
    walk: Walk, arm: ArmSpec, target: str, pool_done: Pool, scored: Done, *, flops: float = 0.0
) -> Choice:
    """Choose under the target's budget, exactly."""
    recipe = walk.recipe
    budget = recipe.budget_of(target)
    policy = policy_of(arm)
    seed = derive_seed(recipe.seed, "choice")
    read, eligible, tokens = pool_done.parts()
    tables = PoolTables(
        read_parts=read,
        eligible_parts=eligible,
        token_parts=tokens,
        score_parts=list(scored.parts),
        target=target,
    )
    n_shards = len(walk.corpus.shards)

    def build(paths: list[Path]) -> Mapping[str, Any]:
        with told_of(f"arm `{arm.label}`, target `{target}`"):
            decision: Decision = decide(tables, n_shards, budget=budget, policy=policy, seed=seed)
        write = WriteChoice(tables=tables, decision=decision)
        walk.engine.map(write, list(enumerate(paths[:-1])), kind="threads", name="choose")
        atomic_write(
            paths[-1], orjson.dumps(decision.audit, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        )
        return {"kept": decision.audit["kept"], "candidates": decision.audit["candidates"]}

    done = walk.at_once(
        f"choose-{safe_name(arm.label)}-{safe_name(target)}"[:64],
        version=1,
        settings={
            "target": target,
            "budget": budget.model_dump(mode="json"),
            "policy": policy.model_dump(mode="json"),
            "seed": seed,
        },
        parents=[scored, pool_done.tokens, pool_done.eligible],
        files=[*(f"part-{index:05d}.parquet" for index in range(n_shards)), "audit.json"],
        build=build,
        label=f"{arm.label}: choose for {target}",
    )
    return Choice(arm=arm, target=target, done=done, tables=tables, flops=flops)


def held_out_rest(walk: Walk, eligible_parts: list[Path]) -> pa.Array:
    """The texts of the pool that were put aside as `rest`, in corpus order."""
    found = []
    for shard in walk.corpus.shards:
        reasons = read_columns(eligible_parts[shard.index], ["drop_reason"])["drop_reason"]
        is_rest = pc.fill_null(pc.equal(reasons, pool.REST), False).to_numpy()
        if is_rest.any():
            for batch in walk.corpus.batches(shard):
                rows = np.flatnonzero(is_rest[batch.first_row : batch.first_row + batch.n_rows])
                found.append(batch.text.take(pa.array(rows)))
    return pa.concat_arrays(found) if found else pa.array([], pa.large_string())


def longest_document(token_parts: list[Path]) -> int:
    """Tokens of the longest document."""
    return max(
        int(np.max(read_columns(p, ["n_tokens"])["n_tokens"].to_numpy(), initial=0)) for p in token_parts
    )
