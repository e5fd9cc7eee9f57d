"""Optimal transport: the card's oracles, the exact linear programme, derivatives, invariances."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prill.features import transport as module
from prill.features.transport import Transport, median_cost, transport

S = np.array([[0], [0], [0], [1], [2], [3]], np.float32)
T = np.array([[2], [3]], np.float32)


def solved(source: NDArray[np.float32], target: NDArray[np.float32], epsilon: float) -> Transport:
    return transport(source, target, epsilon=epsilon, tolerance=1e-12, max_iterations=100_000)


@pytest.mark.parametrize(
    ("epsilon", "gradient", "cost"),
    [
        (0.05, [1.190837] * 3 + [-0.009163, -1.209163, -2.354185], 1.5),
        (0.1, [1.181674] * 3 + [-0.018326, -1.218326, -2.308371], 1.5),
        (0.5, [1.112324] * 3 + [-0.087676, -1.287676, -1.961620], 1.508726),
    ],
)
def test_entropic_gradients_are_the_cards(epsilon: float, gradient: list[float], cost: float) -> None:
    found = solved(S, T, epsilon)
    np.testing.assert_allclose(found.gradient(S), gradient, atol=6e-7)
    assert found.value == pytest.approx(cost, abs=6e-7)
    assert found.error <= 1e-12


def test_little_entropy_gives_the_exact_linear_programme() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    cost = np.abs(S - T.T).astype(np.float64)
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    exact = optimize.linprog(
        cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)]
    )
    f = exact.eqlin.marginals[:n]
    assert exact.fun == pytest.approx(1.5)
    np.testing.assert_allclose((f - f.mean()) * n / (n - 1), [1.2, 1.2, 1.2, 0, -1.2, -2.4], atol=1e-9)
    # the card's potentials, up to the constant that duals leave open: f = [1.75 x 3, 0.75, -0.25, -1.25]
    np.testing.assert_allclose(f - f[0], np.array([1.75] * 3 + [0.75, -0.25, -1.25]) - 1.75, atol=1e-9)
    found = solved(S, T, 0.001)
    assert found.value == pytest.approx(exact.fun, abs=1e-6)
    np.testing.assert_allclose(found.gradient(S), [1.2, 1.2, 1.2, 0, -1.2, -2.4], atol=1e-3)


def test_the_rare_kind_that_the_target_has_comes_first() -> None:
    source = np.r_[np.zeros((99, 1)), np.ones((1, 1))].astype(np.float32)
    found = solved(source, np.array([[0], [1]], np.float32), 0.05)
    assert found.value == pytest.approx(0.49, abs=1e-9)
    gradient = found.gradient(source)
    np.testing.assert_allclose(gradient[[0, -1]], [0.009746, -0.964835], atol=6e-7)
    assert np.argmin(gradient) == 99


def test_the_gradient_is_the_derivative_of_the_cost() -> None:
    draws = np.random.default_rng(0)
    source, target = (draws.normal(size=(size, 3)).astype(np.float32) for size in (12, 5))
    n, epsilon, delta = len(source), 0.3, 1e-5

    def regularised(weight: NDArray[np.float64]) -> float:
        found = transport(
            source, target, epsilon=epsilon, weight_N=weight, tolerance=1e-13, max_iterations=100_000
        )
        f = found.gradient(source) * (n - 1) / n + found.mean
        return float(weight @ f + found.potential.mean())

    gradient = solved(source, target, epsilon).gradient(source)
    for i in (0, 4, 11):
        change = np.full(n, -delta / (n - 1))
        change[i] = delta
        slope = (regularised(1 / n + change) - regularised(1 / n - change)) / (2 * delta)
        assert slope == pytest.approx(gradient[i], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(1, 8), st.integers(0, 2**31))
def test_gradients_add_up_to_zero_and_follow_permutations(n: int, m: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    source, target = (draws.normal(size=(size, 4)).astype(np.float32) for size in (n, m))
    found = transport(source, target, epsilon=0.5, tolerance=1e-10, max_iterations=20_000)
    gradient = found.gradient(source)
    assert gradient.sum() == pytest.approx(0, abs=1e-7)
    order, other = draws.permutation(n), draws.permutation(m)
    again = transport(source[order], target[other], epsilon=0.5, tolerance=1e-10, max_iterations=20_000)
    np.testing.assert_allclose(again.gradient(source[order]), gradient[order], atol=1e-6)
    np.testing.assert_allclose(again.gradient(source), gradient, atol=1e-6)


def test_a_constant_added_to_all_costs_changes_no_gradient() -> None:
    draws = np.random.default_rng(3)
    source, target = (draws.normal(size=(size, 3)).astype(np.float32) for size in (15, 4))
    apart = [np.c_[source, np.zeros(15)], np.c_[target, np.full(4, 2.0)]]  # one more axis: 4 more, squared
    near = transport(source, target, epsilon=0.5, cost="squared", tolerance=1e-12, max_iterations=50_000)
    far = transport(
        *[rows.astype(np.float32) for rows in apart],
        epsilon=0.5,
        cost="squared",
        tolerance=1e-12,
        max_iterations=50_000,
    )
    np.testing.assert_allclose(far.gradient(apart[0].astype(np.float32)), near.gradient(source), atol=1e-5)
    assert far.value == pytest.approx(near.value + 4, abs=1e-5)


def test_blocks_change_nothing_and_a_document_is_scored_alone_as_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws = np.random.default_rng(4)
    source, target = (draws.normal(size=(size, 8)).astype(np.float32) for size in (50, 7))
    whole = transport(source, target, epsilon=0.2)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 21)
    in_blocks = transport(source, target, epsilon=0.2)
    np.testing.assert_allclose(in_blocks.potential, whole.potential, atol=1e-12)
    gradient = whole.gradient(source)
    alone = np.concatenate([whole.gradient(source[i : i + 1]) for i in range(len(source))])
    np.testing.assert_array_equal(alone, gradient)
    again = Transport.of(whole.arrays())
    np.testing.assert_array_equal(again.gradient(source), gradient)
    assert (
        replace(again, target=whole.target, potential=whole.potential)
        == replace(whole, target=again.target, potential=again.potential)
        or again.arrays().keys() == whole.arrays().keys()
    )


def test_a_target_far_from_everything_is_still_reached() -> None:
    source = np.array([[0.0], [0.1]], np.float32)
    target = np.array([[0.0], [1000.0]], np.float32)  # exp(-1000 / 0.05) is zero in float64
    found = transport(source, target, epsilon=0.05, tolerance=1e-6, max_iterations=5_000)
    assert found.error <= 1e-6
    assert found.value == pytest.approx(500.0, abs=0.1)


def test_an_unfinished_solution_says_how_far_it_came() -> None:
    found = transport(S, T, epsilon=0.05, tolerance=1e-12, max_iterations=3)
    assert found.n_iterations == 3
    assert found.error > 1e-6


def test_the_median_cost_is_of_pairs() -> None:
    assert median_cost(S, T) == 2.0  # 2 2 2 1 0 1, 3 3 3 2 1 0
