"""Batches: exact accounting, document boundaries, epochs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError
from prill.lm.data import TokenStream, batch, positions_of, row_order


def test_rows_by_hand() -> None:
    # documents [1 2] and [3], eos 0: stream 1 2 0 | 3 0, N = 5, rows of 4
    stream = TokenStream.from_documents([np.array([1, 2]), np.array([3])], eos=0)
    assert stream.tokens.tolist() == [1, 2, 0, 3, 0]
    first = batch(stream, np.array([0]), seq_len=4)
    assert first.targets.tolist() == [[1, 2, 0, 3]]
    assert first.inputs.tolist() == [[0, 1, 2, 0]]  # each document opens with end-of-text
    assert first.segments.tolist() == [[0, 0, 0, 1]]
    assert first.positions.tolist() == [[0, 1, 2, 0]]
    second = batch(stream, np.array([1]), seq_len=4)  # the last token, then the second epoch
    assert second.targets.tolist() == [[0, 1, 2, 0]]
    assert second.inputs.tolist() == [[3, 0, 1, 2]]
    assert second.segments.tolist() == [[1, 2, 2, 2]]
    assert second.positions.tolist() == [[0, 0, 1, 2]]


def test_one_document_repeated_is_still_cut_between_epochs() -> None:
    stream = TokenStream.from_documents([np.array([1, 2, 3])], eos=0)
    rows = batch(stream, np.array([1]), seq_len=3)
    assert rows.targets.tolist() == [[0, 1, 2]]
    assert rows.segments.tolist() == [[0, 1, 1]]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 9))
def test_every_token_is_a_target_once_an_epoch(lengths: list[int], n_rows: int, seq_len: int) -> None:
    docs = [np.arange(length) + 1 for length in lengths]
    stream = TokenStream.from_documents(docs, eos=0)
    size = n_rows * seq_len
    if stream.n_tokens < size:
        with pytest.raises(DataError):
            batch(stream, np.arange(n_rows), seq_len=seq_len)
        return
    n_steps = 2 * stream.n_tokens // size + 1
    got = [batch(stream, np.arange(n_rows) + s * n_rows, seq_len=seq_len) for s in range(n_steps)]
    targets = np.concatenate([r.targets.ravel() for r in got])
    inputs = np.concatenate([r.inputs.ravel() for r in got])
    expected = np.resize(stream.tokens, len(targets))
    np.testing.assert_array_equal(targets, expected)
    np.testing.assert_array_equal(inputs[1:], targets[:-1])
    for rows in got:
        starts = rows.positions == 0
        changed = np.ones_like(starts)
        changed[:, 1:] = rows.segments[:, 1:] != rows.segments[:, :-1]
        np.testing.assert_array_equal(starts, changed)


def test_positions_restart() -> None:
    assert positions_of(np.array([[4, 4, 5, 5, 5, 9]])).tolist() == [[0, 1, 0, 1, 2, 0]]


def test_the_digest_ignores_the_integer_width() -> None:
    a = TokenStream(tokens=np.array([1, 0], dtype=np.uint16), doc_starts=np.array([0, 2]))
    b = TokenStream(tokens=np.array([1, 0], dtype=np.uint32), doc_starts=np.array([0, 2]))
    c = TokenStream(tokens=np.array([2, 0], dtype=np.uint32), doc_starts=np.array([0, 2]))
    assert a.digest() == b.digest() != c.digest()


def test_broken_boundaries_are_refused() -> None:
    with pytest.raises(DataError, match=r"pool: document starts must rise from 0 to the 3 tokens"):
        TokenStream(tokens=np.array([1, 2, 0]), doc_starts=np.array([0, 2]), name="pool")
    with pytest.raises(DataError, match=r"must end with one and the same end-of-text token, found \[0, 2\]"):
        TokenStream(tokens=np.array([1, 2, 0]), doc_starts=np.array([0, 2, 3]))
    with pytest.raises(DataError, match="at least one document"):
        TokenStream.from_documents([], eos=0)


@given(st.integers(0, 2**70), st.integers(1, 50), st.integers(1, 200), st.integers(1, 9))
def test_a_plan_visits_its_rows_once_and_blocks_in_order(
    seed: int, block: int, n_steps: int, n_rows: int
) -> None:
    total = n_steps * n_rows
    visited = np.concatenate(
        [row_order(s * n_rows, n_rows, seed=seed, block=block, total=total) for s in range(n_steps)]
    )
    assert sorted(visited) == list(range(total))
    np.testing.assert_array_equal(visited // block, np.arange(total) // block)


def test_the_order_of_rows_is_keyed_and_fixed() -> None:
    first = row_order(0, 6, seed=1, block=6, total=6).tolist()
    assert first == [2, 0, 4, 1, 3, 5]  # changing it changes every result: raise the version in its key
    assert first != row_order(0, 6, seed=2, block=6, total=6).tolist()
    assert row_order(3, 4, seed=1, block=1, total=9).tolist() == [3, 4, 5, 6]
