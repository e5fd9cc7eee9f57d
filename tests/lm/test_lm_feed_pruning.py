"""Pruning by loss: the method card's visit lists, the groups, and what must hold for any losses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.feed.loss_groups import loss_groups
from prill.lm.feed.pruning import InfoBatch, SeTa, saved_share, window

# three each at about 0.1, 1, 2, 3; their mean is 1.525 + 0.01
CARD = np.array([base + step for base in (0.1, 1.0, 2.0, 3.0) for step in (0.0, 0.01, 0.02)])
LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=60).map(np.array)


def test_the_cards_eight_epochs_are_visited_as_the_reference_visits_them() -> None:
    seta = SeTa(n_groups=4, window_scale=0.5, delta=0.75)
    losses, visited = np.full(12, 3.0), []
    for epoch in range(8):
        found = seta.plan(losses, epoch, is_last=epoch >= 0.75 * 8, seed=5)
        visited.append(sorted(found.rows.tolist()))
        losses[found.rows] = CARD[found.rows]
        assert (found.weights == 1).all()
    whole, easy, middle, hard = (list(range(*ends)) for ends in ((0, 12), (0, 6), (3, 9), (6, 12)))
    assert visited == [whole, middle, hard, easy, middle, hard, whole, whole]
    assert saved_share(sum(map(len, visited)), 12, 8) == 0.3125


def test_windows_start_where_the_references_start() -> None:
    def kept(n_groups: int, scale: float, calls: int) -> list[tuple[int, int]]:
        found = [window(n_groups, scale, call) for call in range(calls)]
        return [(start, stop - 1) for start, stop in found]

    assert kept(10, 0.5, 7) == [(0, 9), (1, 5), (2, 6), (3, 7), (4, 8), (5, 9), (0, 4)]
    assert kept(5, 0.9, 4) == [(0, 4), (1, 4), (0, 3), (1, 4)]  # round(4.5) is 4: half to even
    assert kept(5, 0.6, 4) == [(0, 4), (1, 3), (2, 4), (0, 2)]
    assert window(1, 0.3, 3) == (0, 1)


def test_infobatch_keeps_the_cards_rows_with_the_cards_weights() -> None:
    assert CARD.mean() == pytest.approx(1.535)
    for epoch in range(5):
        found = InfoBatch(prune=0.5).plan(CARD, epoch, is_last=False, seed=1)
        weight = dict(zip(found.rows.tolist(), found.weights.tolist(), strict=True))
        assert {row for row in weight if row >= 6} == set(range(6, 12))
        assert [weight[row] for row in range(6, 12)] == [1.0] * 6
        assert [value for row, value in weight.items() if row < 6] == [2.0] * 3
        assert found.weights.sum() == 12
    last = InfoBatch(prune=0.5).plan(CARD, 7, is_last=True, seed=1)
    assert sorted(last.rows.tolist()) == list(range(12))
    assert (last.weights == 1).all()


def test_infobatch_leaves_the_expected_sum_of_every_loss_as_it_is() -> None:
    total = np.zeros(12)
    for seed in range(2000):
        found = InfoBatch(prune=0.5).plan(CARD, 1, is_last=False, seed=seed)
        total[found.rows] += found.weights
    assert (total[6:] == 2000).all()
    assert abs(total[:6] / 2000 - 1).max() < 5 / np.sqrt(2000)  # five standard errors: sd is 1


@given(LOSSES, st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_without_pruning_and_with_all_groups_an_epoch_is_a_permutation(
    losses: np.ndarray, epoch: int
) -> None:
    found = SeTa(window_scale=1.0).plan(losses, epoch, is_last=False, seed=3)
    assert sorted(found.rows.tolist()) == list(range(len(losses)))


@given(st.integers(1, 12), st.floats(0.05, 1.0))
@settings(max_examples=80, deadline=None)
def test_every_group_is_read_within_one_cycle_of_a_window_of_one_length(n_groups: int, scale: float) -> None:
    length = max(1, round(n_groups * scale))
    cycle = n_groups - length + 1
    windows = [window(n_groups, scale, call) for call in range(1, 3 * cycle + 1)]
    assert {stop - start for start, stop in windows} == {length}
    for first in range(2 * cycle):
        here = windows[first : first + cycle]
        assert {g for start, stop in here for g in range(start, stop)} == set(range(n_groups))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_groups_are_the_best_of_all_partitions(values: list[int], n_groups: int) -> None:
    losses = np.array(values, float)

    def cost(groups: np.ndarray) -> float:
        return sum(((losses[groups == g] - losses[groups == g].mean()) ** 2).sum() for g in np.unique(groups))

    ordered = np.sort(losses)
    distinct = np.unique(losses)
    n = min(n_groups, len(distinct))
    best = min(
        sum(
            ((ordered[a:b] - ordered[a:b].mean()) ** 2).sum()
            for a, b in itertools.pairwise([0, *ends, len(ordered)])
            if b > a
        )
        for ends in itertools.combinations(range(1, len(ordered)), n - 1)
    )
    found = loss_groups(losses, n_groups)
    assert len(np.unique(found)) == n
    assert cost(found) == pytest.approx(best, abs=1e-9)
    assert all(
        found[i] <= found[j] for i in range(len(losses)) for j in range(len(losses)) if losses[i] < losses[j]
    )


def test_thousands_of_losses_fall_apart_at_their_gaps() -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(center, 0.05, 4000) for center in (1, 2, 3.5)])
    assert np.array_equal(loss_groups(losses, 3), np.repeat(np.arange(3), 4000))


def test_beyond_the_bins_groups_are_nearly_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(center, 0.05, 4000) for center in (1, 2, 3.5)])
    monkeypatch.setattr("prill.lm.feed.loss_groups.BINS", 1024)
    wrong = loss_groups(losses, 3) != np.repeat(np.arange(3), 4000)
    assert 0 < wrong.sum() <= 2 * 12  # a bin holds 12 rows; only those at the two edges can be wrong


def test_equal_losses_are_cut_into_stretches_of_the_random_order() -> None:
    sizes = [len(SeTa().plan(np.full(40, 2.5), epoch, is_last=False, seed=0).rows) for epoch in range(3)]
    assert sizes == [40, 20, 20]


def test_thinning_keeps_whole_rows_and_draws_anew_each_epoch() -> None:
    seta = SeTa(prune=0.3, n_groups=1, window_scale=1.0)  # the reference's "dynamic random"
    losses = np.linspace(0, 1, 50)
    epochs = [set(seta.plan(losses, epoch, is_last=False, seed=9).rows.tolist()) for epoch in range(20)]
    assert {len(epoch) for epoch in epochs} == {35}
    assert len({frozenset(epoch) for epoch in epochs}) == 20
    assert set().union(*epochs) == set(range(50))
    assert len(SeTa(prune=0.9).plan(np.ones(10), 1, is_last=True, seed=0).rows) == 1


def test_a_plan_is_a_function_of_its_seed_and_epoch() -> None:
    seta, losses = SeTa(prune=0.2), np.random.default_rng(1).random(30)
    one = seta.plan(losses, 2, is_last=False, seed=4)
    np.random.default_rng(7).random(5)  # global or other randomness changes nothing
    assert np.array_equal(one.rows, seta.plan(losses, 2, is_last=False, seed=4).rows)
    assert not np.array_equal(one.rows, seta.plan(losses, 2, is_last=False, seed=5).rows)


def test_pruning_beyond_the_floor_is_refused_instead_of_overridden() -> None:
    with pytest.raises(RecipeError, match=r"found 0\.95"):
        SeTa(prune=0.95)
    with pytest.raises(RecipeError, match=r"found 0 and 0\.5"):
        SeTa(n_groups=0)
    with pytest.raises(DataError, match="finite"):
        loss_groups(np.array([1.0, np.nan]), 2)
