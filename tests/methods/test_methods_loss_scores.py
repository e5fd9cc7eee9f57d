"""The arithmetic on losses, with the published numbers: MiniPLM, SALT-DS, CoLoR, perplexity, PreSelect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.scoring.learnable import learnable_scores
from prill.methods.miniplm import difference_sample, difference_scores, kept_in_order

LOSSES = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=30)


def test_published_differences_and_choices() -> None:
    reference, teacher = [3.1, 2.9, 5, 2, 4], [2.5, 2.8, 4.9, 2.1, 2.9]
    assert difference_scores(reference, teacher) == pytest.approx([0.6, 0.1, 0.1, -0.1, 1.1])
    assert difference_sample(reference, teacher).tolist() == [0, 4]
    small, large = [3.0, 2.0, 4.0, 1.0, 2.5], [2.0, 1.9, 3.0, 1.0, 2.6]
    assert difference_sample(small, large).tolist() == [0, 2]
    # the ratio of losses would choose row 0 here: 0.5 / 1 is below 7 / 8
    assert difference_sample([1, 8], [0.5, 7]).tolist() == [1]


def test_equal_models_keep_the_first_rows() -> None:
    assert difference_scores([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]).tolist() == [0] * 4
    assert difference_sample([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]).tolist() == [0, 1]


@given(LOSSES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_choices_nest_and_keep_the_order(losses: list[tuple[float, float]], one: float, two: float) -> None:
    reference, teacher = np.array(losses).T
    small, large = (difference_sample(reference, teacher, ratio=r) for r in sorted((one, two)))
    assert set(small) <= set(large)
    assert np.all(np.diff(large) > 0)
    assert len(large) == int(max(one, two) * len(losses))
    assert np.array_equal(difference_sample(reference, teacher, ratio=1.0), np.arange(len(losses)))
    assert np.array_equal(difference_scores(reference, teacher), -difference_scores(teacher, reference))


def test_learnable_medians_are_the_published_ones() -> None:
    cases = {
        "easy": ([0.1, 0.2, 0.3, 0.2, 0.1], [1, 1, 1, 1, 1], 0.2, 0.2),
        "informative": ([2.0, 2.5, 1.5, 3.0, 2.2], [3, 5, 2, 9, 4], 2.2, 2.2),
        "noise": ([8, 9, 10, 7, 9], [500, 900, 1200, 300, 800], 0.0, 0.0),
        "mixed": ([2.0, 9.0, 1.5, 8.0, 2.2], [3, 900, 2, 300, 4], 1.5, 2.0),
    }
    losses = np.concatenate([case[0] for case in cases.values()])
    ranks = np.concatenate([case[1] for case in cases.values()])
    starts = np.arange(0, 21, 5)
    zero, drop = (learnable_scores(losses, ranks, starts, beyond=b) for b in ("zero", "drop"))
    assert zero == pytest.approx([case[2] for case in cases.values()])
    assert drop == pytest.approx([case[3] for case in cases.values()])
    assert [list(cases)[i] for i in np.argsort(-zero, kind="stable")] == [
        "informative",
        "mixed",
        "easy",
        "noise",
    ]
    assert kept_in_order(zero, 2).tolist() == [1, 3]


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 9), st.integers(1, 30)), max_size=9), min_size=1, max_size=6),
    st.integers(1, 30),
    st.sampled_from(["zero", "drop"]),
)
def test_medians_equal_those_one_by_one(docs: list[list[tuple[float, int]]], k: int, beyond: str) -> None:
    tokens = [token for doc in docs for token in doc]
    losses, ranks = np.array([t[0] for t in tokens], float), np.array([t[1] for t in tokens], int)
    starts = np.append(0, np.cumsum([len(doc) for doc in docs]))
    found = learnable_scores(losses, ranks, starts, k=k, beyond=beyond)  # type: ignore[arg-type]
    for doc, score in zip(docs, found, strict=True):
        kept = [loss if rank <= k else 0.0 for loss, rank in doc if rank <= k or beyond == "zero"]
        assert score == pytest.approx(np.median(kept) if kept else 0.0)
    if beyond == "zero":  # a larger k never lowers a score
        assert np.all(learnable_scores(losses, ranks, starts, k=k + 5) >= found)


def test_losses_that_cannot_be_compared_are_told() -> None:
    with pytest.raises(DataError, match=r"row 1: losses must be finite, found nan and 1.0 \(1 such rows\)"):
        difference_sample([1.0, np.nan], [1.0, 1.0])
    with pytest.raises(DataError, match="found 2 and 1"):
        difference_scores([1.0, 2.0], [1.0])
    with pytest.raises(RecipeError, match="above 0 and at most 1, found 0"):
        difference_sample([1.0], [1.0], ratio=0)
    with pytest.raises(DataError, match="each of 2 tokens, found 1 and 1"):
        learnable_scores(np.ones(1), np.ones(1, np.int64), np.array([0, 2]))
    with pytest.raises(DataError, match="token 1: losses must be finite, found inf"):
        learnable_scores(np.array([1, np.inf]), np.ones(2, np.int64), np.array([0, 2]))
