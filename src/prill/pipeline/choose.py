"""From columns to a choice: the tables that a decision is made over, and the parts that it leaves.

A table is built anew for each pass from the sidecar columns of one shard, so memory holds one shard's numbers
and never text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.columns import StoredColumns, read_columns
from prill.corpus.writers import write_parquet
from prill.features.keyed import keyed_uniform
from prill.methods.registry import STRATUM
from prill.select.budget import Budget
from prill.select.decide import Decision, Tables, decide
from prill.select.policy import Policy

__all__ = ["DrawTables", "PoolTables", "SubsetTables", "WriteChoice", "draw"]

CHOICE_COLUMNS = ("row", "score", "n_tokens", "n_bytes", "key")


@dataclass(frozen=True, kw_only=True)
class PoolTables:
    """Tables of the whole pool: every document with one method's score for one target, and the stratum that
    the method may tell beside it.

    Args:
        read_parts, eligible_parts, token_parts, score_parts: parts of those steps, one a shard.
        target: the score column.
    """

    read_parts: list[Path]
    eligible_parts: list[Path]
    token_parts: list[Path]
    score_parts: list[Path]
    target: str

    def __call__(self, shard: int) -> pa.Table:
        told = StoredColumns(self.score_parts[shard])
        score = told[self.target]
        table = _table(self.read_parts[shard], self.eligible_parts[shard], self.token_parts[shard], score)
        return table.append_column("stratum", told[STRATUM]) if STRATUM in told.column_names else table


@dataclass(frozen=True, kw_only=True)
class DrawTables:
    """Tables of the whole pool with a keyed draw for a score: what the random control is taken from."""

    read_parts: list[Path]
    eligible_parts: list[Path]
    token_parts: list[Path]
    seed: int

    def __call__(self, shard: int) -> pa.Table:
        low = read_columns(self.read_parts[shard], ["hash_low"])["hash_low"].to_numpy()
        draws = pa.array(keyed_uniform(self.seed, low))
        return _table(self.read_parts[shard], self.eligible_parts[shard], self.token_parts[shard], draws)


@dataclass(frozen=True, kw_only=True)
class SubsetTables:
    """Tables of a choice with a keyed draw for a score: what a trial shorter than the choice reads."""

    choice_parts: list[Path]
    seed: int

    def __call__(self, shard: int) -> pa.Table:
        chosen = read_choice(self.choice_parts[shard])
        draws = keyed_uniform(self.seed, chosen["key"].to_numpy())
        columns = {name: chosen[name] for name in ("row", "n_tokens", "n_bytes", "key")}
        return pa.table({**columns, "score": draws, "eligible": np.ones(chosen.num_rows, bool)})


def _table(read_part: Path, eligible_part: Path, token_part: Path, score: pa.Array) -> pa.Table:
    read = read_columns(read_part, ["hash_low", "n_bytes", "source"])
    return pa.table(
        {
            "row": np.arange(read.num_rows, dtype=np.int64),
            "score": score,
            "n_tokens": read_columns(token_part, ["n_tokens"])["n_tokens"],
            "n_bytes": read["n_bytes"],
            "key": read["hash_low"],
            "eligible": pc.is_null(read_columns(eligible_part, ["drop_reason"])["drop_reason"]),
            "source": read["source"],
        }
    )


def draw(tables: Tables, n_shards: int, *, n_tokens: int, seed: int) -> Decision:
    """The first documents in the order of their draws that hold `n_tokens` tokens, or all of them."""
    budget = Budget(amount=n_tokens, unit="tokens")
    return decide(tables, n_shards, budget=budget, policy=Policy(on_short="take_all"), seed=seed)


@dataclass(frozen=True, kw_only=True)
class WriteChoice:
    """Writes the chosen rows of one shard."""

    tables: Tables
    decision: Decision

    def __call__(self, item: tuple[int, Path]) -> None:
        shard, path = item
        write_parquet(path, self.decision.rows(self.tables(shard), shard).select(CHOICE_COLUMNS))


def read_choice(path: Path) -> pa.Table:
    """One shard's part of a choice, checksums verified."""
    return read_columns(path, CHOICE_COLUMNS)
