"""Heads: the same minimum as other solvers, shares, errors, files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.heads import Head, fit_head, roc_auc


def examples(
    n: int, k: int, n_classes: int, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    draws = np.random.default_rng(seed)
    y = draws.integers(n_classes, size=n)
    centres = draws.normal(size=(n_classes, k))
    return (centres[y] + 2 * draws.normal(size=(n, k)) + 3).astype(np.float32), y


def scaled(x: NDArray[np.float32], share: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - share @ x.astype(np.float64)
    return centred / np.sqrt((share @ centred**2).mean())


def test_ridge_is_the_closed_form_on_augmented_rows() -> None:
    x, _ = examples(40, 6, 2)
    draws = np.random.default_rng(1)
    y, weight = draws.normal(size=40) + x[:, 0], draws.random(40)
    head = fit_head(x, y, "regression", l2=0.3, weight_N=weight)
    share = weight / weight.sum()
    rows = np.c_[scaled(x, share), np.ones(40)] * np.sqrt(share)[:, None]
    rows = np.r_[rows, np.sqrt(0.3) * np.eye(7)[:6]]
    expected = np.linalg.lstsq(rows, np.r_[y * np.sqrt(share), np.zeros(6)], rcond=None)[0]
    np.testing.assert_allclose(head.predict(x), np.c_[scaled(x, share), np.ones(40)] @ expected, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_classes_reach_the_minimum_that_another_solver_finds(n_classes: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    x, y = examples(80, 5, n_classes)
    share = np.full(80, 1 / 80)
    z, wanted = scaled(x, share), np.eye(n_classes)[y]

    def loss(point: NDArray[np.float64]) -> float:
        weight, bias = point[:-n_classes].reshape(n_classes, 5), point[-n_classes:]
        logits = z @ weight.T + bias
        log_total = np.log(np.exp(logits).sum(axis=1))
        return float((log_total - (wanted * logits).sum(axis=1)).mean() + 0.01 * (weight**2).sum())

    best = optimize.minimize(loss, np.zeros(6 * n_classes), method="BFGS", options={"gtol": 1e-7})
    logits = z @ best.x[:-n_classes].reshape(n_classes, 5).T + best.x[-n_classes:]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    head = fit_head(x, y, "classes", l2=0.02)
    np.testing.assert_allclose(head.predict(x), expected, atol=2e-5)


def test_a_document_of_weight_two_counts_as_two() -> None:
    x, y = examples(30, 4, 2)
    twice = fit_head(np.r_[x, x[:10]], np.r_[y, y[:10]], "classes")
    weighted = fit_head(x, y, "classes", weight_N=np.r_[np.full(10, 2.0), np.ones(20)])
    np.testing.assert_allclose(weighted.predict(x), twice.predict(x), atol=1e-5)


def test_separable_classes_have_a_finite_head_that_separates_them() -> None:
    x = np.r_[np.full((5, 3), -1.0), np.full((5, 3), 1.0)].astype(np.float32)
    p = fit_head(x, np.repeat([0, 1], 5), "classes").predict(x)
    assert (p[:5, 0] > 0.7).all()
    assert (p[5:, 1] > 0.7).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_equal_vectors_predict_the_mean() -> None:
    x = np.ones((4, 2), np.float32)
    np.testing.assert_allclose(fit_head(x, np.array([0.0, 1, 2, 5]), "regression").predict(x), 2.0)


def test_the_same_data_give_the_same_head_and_files_keep_it(tmp_path: Path) -> None:
    x, y = examples(50, 8, 3)
    head, again = fit_head(x, y, "classes"), fit_head(x, y, "classes")
    np.testing.assert_array_equal(head.weight, again.weight)
    for fitted in (head, fit_head(x, y.astype(np.float64), "regression")):
        fitted.save(tmp_path / "head.safetensors")
        loaded = Head.load(tmp_path / "head.safetensors")
        assert loaded.kind == fitted.kind
        np.testing.assert_array_equal(loaded.predict(x), fitted.predict(x))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(20)), st.integers(1, 20))
def test_a_prediction_does_not_depend_on_the_batch(order: list[int], size: int) -> None:
    x, y = examples(20, 8, 2)
    head = fit_head(x, y, "classes")
    part = order[:size]
    np.testing.assert_array_equal(head.predict(x[part]), head.predict(x)[part])


def test_what_cannot_be_fitted_is_told() -> None:
    x, y = examples(10, 3, 2)
    with pytest.raises(DataError, match="at least 2 classes, found only class 1"):
        fit_head(x, np.ones(10, np.int64), "classes")
    with pytest.raises(DataError, match="at least 2 examples to fit a head, found 1"):
        fit_head(x[:1], y[:1], "classes")
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="finite vectors and labels"):
        fit_head(x, y, "classes")


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12)
)
def test_auc_counts_pairs(positive: list[int], negative: list[int]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in positive for b in negative]
    found = roc_auc(np.array(positive, float), np.array(negative, float))
    assert found == pytest.approx(sum(pairs) / len(pairs))
