"""Heads for grades: exact where the data are, the same in any batch, the mean over windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.features.grade_heads import GradeHeads, fit_regression


def made(n: int = 120, k: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, grades that are linear in them, and who is kept back."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, k)).astype(np.float32)
    grades = vectors.astype(np.float64) @ rng.normal(size=k) + 2.0
    return vectors, grades, np.arange(n) % 5 == 0


def test_a_linear_rule_is_found() -> None:
    vectors, grades, held = made()
    head = fit_regression(vectors, grades, is_validation=held)
    # 120 points of 16 dimensions without noise: the smallest penalty, 0.001, leaves a thousandth.
    assert np.abs(head.predict(vectors) - grades).max() < 0.02 * np.abs(grades).max()


def test_noise_alone_is_not_learnt() -> None:
    vectors, _, held = made(n=60, k=50)
    grades = np.random.default_rng(9).normal(size=60)
    found = fit_regression(vectors, grades, is_validation=held).predict(vectors)
    assert found.std() < 0.5 * grades.std()  # the penalty shrinks what does not carry over


def test_labels_and_grades_survive_being_stored(tmp_path: Path) -> None:
    vectors, grades, held = made()
    classes = (vectors[:, 0] > 0).astype(np.int64) + 2 * (vectors[:, 1] > 1)
    heads = GradeHeads.fit(vectors, [grades, -grades], is_validation=held).with_classes(vectors, classes, 5)
    heads.save(tmp_path / "h.safetensors")
    again = GradeHeads.load(tmp_path / "h.safetensors")
    windows, one = vectors[:, None], np.ones(len(vectors), np.int8)
    for a, b in zip(heads.grades(windows, one), again.grades(windows, one), strict=True):
        np.testing.assert_array_equal(a, b)
    found = again.classes(windows, one)
    np.testing.assert_array_equal(found, heads.classes(windows, one))
    assert (found == classes).mean() > 0.8  # the penalty keeps it from the very border
    assert 4 not in found  # nobody had this label


def test_a_single_known_label_is_always_predicted() -> None:
    vectors, grades, held = made()
    heads = GradeHeads.fit(vectors, [grades], is_validation=held)
    heads = heads.with_classes(vectors, np.full(len(vectors), 3), 15)
    assert set(heads.classes(vectors[:, None], np.ones(len(vectors), np.int8))) == {3}


def test_windows_are_averaged_as_far_as_a_document_has_them() -> None:
    vectors, grades, held = made()
    heads = GradeHeads.fit(vectors, [grades], is_validation=held)
    three = np.stack([vectors[:40], vectors[40:80], vectors[80:]], axis=1)
    each = [heads.grades(three[:, w : w + 1], np.ones(40, np.int8))[0] for w in range(3)]
    n_windows = np.array([0, 1, 2, 3] * 10, np.int8)
    (found,) = heads.grades(three, n_windows)
    for i, n in enumerate(n_windows):
        if n == 0:
            assert np.isnan(found[i])
        else:
            assert found[i] == pytest.approx(np.mean([each[w][i] for w in range(n)]))


@given(st.integers(1, 119))
def test_a_document_has_one_grade_whatever_else_is_in_its_batch(cut: int) -> None:
    vectors, grades, held = made()
    heads = GradeHeads.fit(vectors, [grades], is_validation=held)
    one = np.ones(len(vectors), np.int8)
    whole = heads.grades(vectors[:, None], one)[0]
    parts = [heads.grades(part[:, None], one[: len(part)])[0] for part in (vectors[:cut], vectors[cut:])]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
