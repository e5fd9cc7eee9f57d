"""What trials read, decided over columns alone: choices, rounds of the pool, a choice and then the pool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prill.corpus.writers import write_parquet
from prill.lm.feed.in_training import Drawn
from prill.pipeline import proof
from prill.pipeline.choose import CHOICE_COLUMNS

N_SHARDS, N_ROWS, LONGEST = 3, 40, 9


@pytest.fixture
def parts(tmp_path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Read, eligible and token parts of a pool; every tenth document may not be chosen."""
    rng = np.random.default_rng(0)
    found: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    for shard in range(N_SHARDS):
        reasons = ["exact copy" if row % 10 == 0 else None for row in range(N_ROWS)]
        n_tokens = np.where([r is None for r in reasons], rng.integers(2, LONGEST + 1, N_ROWS), 0)
        tables = (
            {
                "hash_low": rng.integers(0, 2**63, N_ROWS).astype(np.uint64),
                "n_bytes": np.full(N_ROWS, 30),
                "source": pa.array([None] * N_ROWS, pa.string()),
            },
            {"drop_reason": pa.array(reasons, pa.string())},
            {"n_tokens": n_tokens},
        )
        for kind, table in enumerate(tables):
            path = tmp_path / f"{kind}-{shard}.parquet"
            write_parquet(path, pa.table(table))
            found[kind].append(path)
    return found


def sampled(folder: Path, plans: list[proof.Sample]) -> pa.Table:
    path = folder / "samples.parquet"
    proof.write_samples(path, plans, n_shards=N_SHARDS, longest=LONGEST)
    return proof.read_samples(path)


def by_round(table: pa.Table) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["round"], []).append((row["shard"], row["row"]))
    return found


@pytest.mark.parametrize("replaces", [False, True])
def test_rounds_hold_their_tokens_and_repeat_documents_only_as_they_may(
    tmp_path: Path, parts: tuple[list[Path], list[Path], list[Path]], replaces: bool
) -> None:
    tables = proof.sample_tables(parts, None, 5)
    total = sum(int(pc.sum(proof.read_columns(path)["n_tokens"]).as_py()) for path in parts[2])
    size = total // 4
    draws = Drawn(use="x", n_rounds=7, replaces=replaces)
    plan = proof.Sample(arm="rs2:a", seed=1, n_tokens=size, tables=tables, draws=draws)
    table = sampled(tmp_path, [plan])
    rounds = by_round(table)
    assert sorted(rounds) == list(range(7))
    tokens = table.group_by("round").aggregate([("n_tokens", "sum")])["n_tokens_sum"].to_pylist()
    assert all(size <= n < size + LONGEST for n in tokens)
    assert all(len(set(found)) == len(found) for found in rounds.values())
    assert all(row % 10 for found in rounds.values() for _, row in found)
    first_three = [place for number in range(3) for place in rounds[number]]
    assert (len(set(first_three)) < len(first_three)) == replaces
    assert len({place for found in rounds.values() for place in found}) > 100 * (not replaces)
    assert proof.documents_by_round(table) == {("rs2:a", 1): tuple(len(rounds[k]) for k in range(7))}


def test_another_seed_draws_other_rounds_and_the_same_seed_the_same(
    tmp_path: Path, parts: tuple[list[Path], list[Path], list[Path]]
) -> None:
    def rounds(seed: int) -> dict[int, list[tuple[int, int]]]:
        tables = proof.sample_tables(parts, None, seed)
        draws = Drawn(use="fresh_random")
        plan = proof.Sample(arm="x:a", seed=0, n_tokens=60, tables=tables, draws=draws)
        return by_round(sampled(tmp_path, [plan]))

    assert rounds(1) == rounds(1)
    assert set(rounds(1)[0]) != set(rounds(2)[0])


def test_a_choice_for_the_beginning_is_followed_by_the_pool(
    tmp_path: Path, parts: tuple[list[Path], list[Path], list[Path]]
) -> None:
    chosen = []
    for shard in range(N_SHARDS):
        rows = np.array([1, 2, 3])
        table = {"row": rows, "score": rows / 9, "n_tokens": np.full(3, 5), "n_bytes": np.full(3, 30)}
        path = tmp_path / f"choice-{shard}.parquet"
        write_parquet(path, pa.table({**table, "key": rows.astype(np.uint64) + 7}).select(CHOICE_COLUMNS))
        chosen.append(path)
    plan = proof.Sample(
        arm="salt:a",
        seed=0,
        n_tokens=20,
        tables=proof.sample_tables(parts, chosen, 3),
        later=proof.sample_tables(parts, None, 3),
        n_later=100,
    )
    table = sampled(tmp_path, [plan])
    rounds = by_round(table)
    assert {row for _, row in rounds[0]} <= {1, 2, 3}
    assert 20 <= 5 * len(rounds[0]) <= 20 + LONGEST
    later = table.filter(pc.equal(table["round"], 1))["n_tokens"]
    assert 100 <= pc.sum(later).as_py() <= 100 + LONGEST
    assert any(row > 3 for _, row in rounds[1])
