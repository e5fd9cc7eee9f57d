"""Verdicts: the first reason counts, the others are remembered, and the account is exact."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prill.prepare.verdict import ReasonCount, account, joined, verdict_columns


def test_first_alone_and_fired_are_told_apart() -> None:
    drops = {
        "short": np.array([True, True, False, False]),
        "noisy": np.array([False, True, True, False]),
        "never": np.zeros(4, bool),
    }
    table = pa.table(verdict_columns(drops, np.ones(4, np.int64), np.zeros(4, np.int64)))
    assert table["drop_reason"].to_pylist() == ["short", "short", "noisy", None]
    assert table["reasons"].to_pylist() == [["short"], ["short", "noisy"], ["noisy"], []]
    short, noisy, never = account(list(drops), [(table, np.array([10, 20, 40, 80]))])
    # short: fires on 10 + 20 bytes, alone on 10, first on both; noisy: 20 + 40, alone and first on 40
    assert short == ReasonCount(
        reason="short", fired=2, alone=1, first=2, fired_bytes=30, alone_bytes=10, first_bytes=30
    )
    assert noisy == ReasonCount(
        reason="noisy", fired=2, alone=1, first=1, fired_bytes=60, alone_bytes=40, first_bytes=40
    )
    assert never.fired == never.first_bytes == 0


@given(st.data())
def test_in_is_kept_plus_dropped_by_first_reason(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 12))
    drops = {
        name: np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool) for name in "abc"
    }
    n_bytes = np.array(data.draw(st.lists(st.integers(0, 99), min_size=n, max_size=n)), np.int64)
    table = pa.table(verdict_columns(drops, n_bytes, n_bytes * 0))
    cut = data.draw(st.integers(0, n))
    shards = [(table.slice(0, cut), n_bytes[:cut]), (table.slice(cut), n_bytes[cut:])]
    found = account(list(drops), shards)
    kept = np.array([reason is None for reason in table["drop_reason"].to_pylist()], bool)
    assert sum(c.first for c in found) + kept.sum() == n
    assert sum(c.first_bytes for c in found) + n_bytes[kept].sum() == n_bytes.sum()
    assert [c.fired for c in found] == [int(holds.sum()) for holds in drops.values()]


def test_a_reason_that_two_judges_give_is_either() -> None:
    a, b = {"x": np.array([True, False])}, {"x": np.array([False, False]), "y": np.array([True, True])}
    found = joined([a, b])
    assert {name: holds.tolist() for name, holds in found.items()} == {"x": [True, False], "y": [True, True]}
