"""`prill compare`: every arm of a recipe side by side, target by target, with what choosing cost.

Beside what the trials say, two things are told of every choice: how much of it truly belongs to the target,
where the recipe knows the members, and how far its words are from the target's held-out part. The control's
share is that of the whole pool; its words are those of a random draw as large as the choices, since a small
choice is further off for its size alone.

Legend: B buckets of hashed n-grams, C choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.errors import DataError
from prill.features.divergence import kl_divergence
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.ngram_counts import NgramCounts
from prill.pipeline.arms import LeftOut
from prill.pipeline.choose import read_choice
from prill.pipeline.steps import Choice, Pool
from prill.pipeline.trials import arm_name
from prill.pipeline.walk import Done, Walk
from prill.run.atomic import atomic_write
from prill.study.comparison import Row, Shared, tables_of
from prill.study.conclude import Conclusion
from prill.targets.target import Target

__all__ = ["compare", "read_rows"]

COMPARE_VERSION = 2
BUCKETS = NgramCounts(n=2, n_buckets=10_000)


@dataclass(frozen=True, kw_only=True)
class CountChoices:
    """Adds up, over one shard, what every choice holds: n-grams, and tokens of members.

    Attributes:
        draws: share of the pool that each random draw takes.
        seed: of the draws.
        choices: target and parts of every choice.
        members: ids of every target's documents in the pool; absent where unknown.
    """

    corpus: Corpus
    token_parts: tuple[Path, ...]
    eligible_parts: tuple[Path, ...]
    read_parts: tuple[Path, ...]
    draws: tuple[float, ...]
    seed: int
    choices: tuple[tuple[str, tuple[Path, ...]], ...]
    members: Mapping[str, frozenset[str]]

    def __call__(self, item: tuple[int, Path]) -> None:
        from safetensors.numpy import save

        shard, path = item
        n_tokens = read_columns(self.token_parts[shard], ["n_tokens"])["n_tokens"].to_numpy()
        eligible = pc.is_null(read_columns(self.eligible_parts[shard])["drop_reason"]).to_numpy()
        keys = read_columns(self.read_parts[shard], ["hash_low"])["hash_low"].to_numpy()
        drawn = keyed_uniform(self.seed, keys)
        groups = [np.flatnonzero(eligible), *(np.flatnonzero(eligible & (drawn < d)) for d in self.draws)]
        groups += [read_choice(parts[shard])["row"].to_numpy() for _, parts in self.choices]
        counts_CB = np.zeros((len(groups), BUCKETS.n_buckets), np.int64)
        is_member: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in self.members}
        fields = ["text", "id"] if self.members else ["text"]
        for batch in self.corpus.batches(self.corpus.shards[shard], fields):
            bounds = [batch.first_row, batch.first_row + batch.n_rows]
            for counts_B, rows in zip(counts_CB, groups, strict=True):
                start, stop = np.searchsorted(rows, bounds)
                if stop > start:
                    counts_B += BUCKETS.of_text(batch.text.take(pa.array(rows[start:stop] - batch.first_row)))
            for name, found in is_member.items():
                ids = batch.columns["id"].cast(pa.string()).to_pylist()
                found.append(np.array([i in self.members[name] for i in ids], bool))
        tokens = np.array([n_tokens[rows].sum() for rows in groups], np.int64)
        arrays: dict[str, NDArray[Any]] = {"counts": counts_CB, "tokens": tokens}
        for name, found in is_member.items():
            mask = np.concatenate([np.zeros(0, bool), *found])
            arrays[f"members:{name}"] = np.array([n_tokens[r[mask[r]]].sum() for r in groups], np.int64)
        atomic_write(path, save(dict(sorted(arrays.items()))))


def compare(
    walk: Walk,
    pool: Pool,
    targets: Mapping[str, Target],
    choices: Sequence[Choice],
    conclusion: Conclusion | None,
    concluded: Done | None,
    trace: Sequence[Shared],
    left_out: Sequence[LeftOut] = (),
) -> Done:
    """Write `comparison.json` and `comparison.md` into the run's folder."""
    members = {name: _members(walk, name) for name in targets}
    known = {name: found for name, found in members.items() if found is not None}
    if known and "id" not in walk.corpus.fields:
        raise DataError(
            "the corpus needs a column `id` to know its members, found none", where="targets.members"
        )
    read, eligible, tokens = pool.parts()
    draws = [_drawn_share(name, choices, int(pool.counts["n_tokens"])) for name in targets]
    counted = walk.over_shards(
        "count-choices",
        version=COMPARE_VERSION,
        settings={"members": {name: sorted(ids) for name, ids in sorted(known.items())}, "draws": draws},
        parents=[pool.read, pool.eligible, pool.tokens, *(choice.done for choice in choices)],
        work=lambda: CountChoices(
            corpus=walk.corpus,
            token_parts=tuple(tokens),
            eligible_parts=tuple(eligible),
            read_parts=tuple(read),
            draws=tuple(draws),
            seed=derive_seed(walk.recipe.seed, "comparison"),
            choices=tuple((choice.target, tuple(choice.parts)) for choice in choices),
            members=known,
        ),
        label="count what was chosen",
    )

    also = {
        "features": [asdict(shared) for shared in trace],
        "left_out": [asdict(one) for one in left_out],
    }

    def build(paths: list[Path]) -> Mapping[str, Any]:
        rows = _rows(counted.parts, targets, choices, conclusion)
        told = {"rows": [asdict(row) for row in rows], **also}
        atomic_write(paths[0], orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
        atomic_write(paths[1], tables_of(rows, trace, [str(one) for one in left_out]).encode("utf-8"))
        return {"n_rows": len(rows)}

    return walk.at_once(
        "comparison",
        version=COMPARE_VERSION,
        settings=also,
        parents=[counted, pool.targets, *([concluded] if concluded else [])],
        files=["comparison.json", "comparison.md"],
        folder=walk.run.path,
        build=build,
        label="compare",
    )


def read_rows(compared: Done) -> list[Row]:
    """The rows of a finished comparison."""
    return [Row(**row) for row in orjson.loads(compared.parts[0].read_bytes())["rows"]]


def _rows(
    parts: Sequence[Path],
    targets: Mapping[str, Target],
    choices: Sequence[Choice],
    conclusion: Conclusion | None,
) -> list[Row]:
    from safetensors.numpy import load_file

    shards = [load_file(part) for part in parts]
    total = {name: np.sum([shard[name] for shard in shards], axis=0) for name in shards[0]}
    target_B = {name: BUCKETS.of_text(target.held_out) for name, target in targets.items()}
    judged = {c.arm: c for c in conclusion.comparisons} if conclusion else {}
    rows = []
    first = 1 + len(targets)
    for number, name in enumerate(targets, 1):
        mine = [(None, number), *((c, n) for n, c in enumerate(choices, first) if c.target == name)]
        for choice, n in mine:
            found, whose = total.get(f"members:{name}"), 0 if choice is None else n
            rows.append(
                Row.of(
                    target=name,
                    arm="random" if choice is None else choice.arm.label,
                    method="random" if choice is None else choice.arm.method,
                    n_tokens=int(total["tokens"][n]) if choice is not None else None,
                    precision=None if found is None else float(found[whose] / max(1, total["tokens"][whose])),
                    kl_nats=kl_divergence(target_B[name], total["counts"][n]),
                    flops=0.0 if choice is None else choice.flops,
                    comparison=None if choice is None else judged.get(arm_name(choice.arm.label, name)),
                )
            )
    return rows


def _drawn_share(target: str, choices: Sequence[Choice], n_tokens: int) -> float:
    """Share of the pool's tokens that the target's choices took, on average."""
    taken = [choice.audit["kept"]["tokens"] for choice in choices if choice.target == target]
    return float(np.mean(taken) / max(1, n_tokens))


def _members(walk: Walk, target: str) -> frozenset[str] | None:
    """The ids that the recipe's file of members lists: a JSON list, or an object with `pool_member_ids`."""
    given = walk.recipe.targets[target].members
    if given is None:
        return None
    path = walk.base / given
    where = f"target `{target}`, members {path}"
    try:
        stored = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as problem:
        raise DataError(f"a JSON file of document ids expected: {problem}", where=where) from None
    ids = stored.get("pool_member_ids") if isinstance(stored, dict) else stored
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise DataError("a list of ids expected, alone or as `pool_member_ids`", where=where)
    return frozenset(ids)
