"""Rounds of random subsets: the released sampler's blocks, its defect repaired, and what chance allows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.features.rounds import Order, Wrap, independent_blocks, keyed_order, served_blocks

N = 10


def shuffled_like_the_reference() -> Order:
    """One array shuffled in place again and again by numpy's legacy generator, seed 0."""
    state, ids, passes = np.random.RandomState(0), np.arange(N), []

    def order(number: int) -> tuple[np.ndarray, np.ndarray]:
        while len(passes) <= number:
            state.shuffle(ids)
            passes.append(ids.copy())
        return passes[number], np.ones(N, np.int64)

    return order


def keyed(seed: int, keys: np.ndarray, units: np.ndarray | None = None) -> Order:
    units = np.ones(len(keys), np.int64) if units is None else units

    def order(number: int) -> tuple[np.ndarray, np.ndarray]:
        ids = keyed_order(seed, number, keys)
        return ids, units[ids]

    return order


def lists(blocks: list[np.ndarray]) -> list[list[int]]:
    return [block.tolist() for block in blocks]


def test_the_released_samplers_rounds_are_repeated_defect_included() -> None:
    found = served_blocks(shuffled_like_the_reference(), 3, 8, wrap="reference")
    assert lists(found) == [
        [2, 8, 4], [9, 1, 6], [7, 3, 0], [5, 2], [9, 6, 8], [4, 5, 0], [2, 7, 3], [1, 9],
    ]  # fmt: skip
    for wrap in ("reference", "refill", "drop"):  # no seam, no difference
        halves = served_blocks(shuffled_like_the_reference(), 5, 4, wrap=wrap)  # type: ignore[arg-type]
        assert lists(halves) == [[2, 8, 4, 9, 1], [6, 7, 3, 0, 5], [9, 6, 8, 4, 5], [0, 2, 7, 3, 1]]


def test_the_seam_is_completed_by_the_next_permutation_or_dropped() -> None:
    # the second permutation is 9 6 8 4 5 0 2 7 3 1; the tail of the first is 5
    filled = served_blocks(shuffled_like_the_reference(), 3, 6, wrap="refill")
    assert lists(filled)[3:] == [[5, 9, 6], [8, 4, 5], [0, 2, 7]]
    dropped = served_blocks(shuffled_like_the_reference(), 3, 6, wrap="drop")
    assert lists(dropped)[3:] == [[9, 6, 8], [4, 5, 0], [2, 7, 3]]


def test_a_document_of_the_tail_is_not_read_twice_in_the_round_at_the_seam() -> None:
    passes = [np.array([0, 1, 2, 3, 4]), np.array([4, 0, 1, 2, 3])]
    found = served_blocks(lambda k: (passes[k % 2], np.ones(5, np.int64)), 2, 5, wrap="refill")
    assert lists(found) == [[0, 1], [2, 3], [4, 0], [4, 1], [2, 3]]


@given(st.integers(1, 40), st.data(), st.sampled_from(["refill", "drop"]))
def test_every_round_is_whole_and_every_pass_serves_each_document_once(
    n: int, data: st.DataObject, wrap: Wrap
) -> None:
    size = data.draw(st.integers(1, n))
    order = keyed(data.draw(st.integers(0, 5)), np.arange(n, dtype=np.uint64) * 977)
    blocks = served_blocks(order, size, 3 * n // size + 1, wrap=wrap)
    assert all(len(block) == size == len(set(block.tolist())) for block in blocks)
    served = np.concatenate(blocks)
    if wrap == "refill" or n % size == 0:
        for start in range(0, len(served) - n + 1, n):
            assert sorted(served[start : start + n].tolist()) == list(range(n))


@given(st.lists(st.integers(1, 9), min_size=3, max_size=30), st.data())
def test_rounds_of_tokens_hold_at_least_their_size_and_not_a_document_more(
    units: list[int], data: st.DataObject
) -> None:
    sizes = np.array(units)
    amount = data.draw(st.integers(1, int(sizes.sum())))
    for block in served_blocks(keyed(1, np.arange(len(units), dtype=np.uint64), sizes), amount, 4):
        assert sizes[block].sum() >= amount > sizes[block[:-1]].sum()


def test_rounds_are_functions_of_seed_and_text_not_of_shards() -> None:
    keys = np.random.default_rng(0).integers(0, 2**63, 60).astype(np.uint64)
    turned = np.random.default_rng(1).permutation(60)

    def texts(make: Callable[[Order], list[np.ndarray]]) -> list[list[set[int]]]:
        return [
            [set(here[block].tolist()) for block in make(keyed(3, here))] for here in (keys, keys[turned])
        ]

    for make in (lambda o: served_blocks(o, 7, 12), lambda o: independent_blocks(o, 7, 12)):
        straight, other = texts(make)
        assert straight == other
    assert lists(independent_blocks(keyed(3, keys), 7, 3)) != lists(independent_blocks(keyed(4, keys), 7, 3))


def test_with_replacement_every_document_is_as_likely_and_rounds_overlap_by_chance() -> None:
    n, size, rounds = 200, 40, 400
    blocks = independent_blocks(keyed(0, np.arange(n, dtype=np.uint64) * 7919), size, rounds)
    counts = np.bincount(np.concatenate(blocks), minlength=n)
    p = size / n
    spread = np.sqrt(rounds * p * (1 - p))  # binomial
    assert abs(counts - rounds * p).max() < 4.5 * spread  # 200 documents: P(any beyond) < 0.2%
    chi2 = (((counts - rounds * p) / spread) ** 2).sum()
    assert abs(chi2 - n) < 5 * np.sqrt(2 * n)
    overlaps = [len(np.intersect1d(a, b)) for a, b in zip(blocks[::2], blocks[1::2], strict=True)]
    expected = size * size / n  # b^2 / N = 8, hypergeometric
    sd = np.sqrt(expected * (1 - p) * (n - size) / (n - 1))
    assert abs(np.mean(overlaps) - expected) < 4 * sd / np.sqrt(len(overlaps))


def test_a_round_larger_than_the_pool_is_refused_with_both_sizes() -> None:
    order = keyed(0, np.arange(5, dtype=np.uint64))
    for make in (served_blocks, independent_blocks):
        with pytest.raises(RecipeError, match="pool of 5, found 6"):
            make(order, 6, 1)
