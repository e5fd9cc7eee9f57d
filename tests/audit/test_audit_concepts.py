"""Concept frequencies: the oracle's counts, sums over shards, and the fit's worked numbers."""

import functools
import operator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.audit.concept_fit import fit_concepts
from prill.audit.concepts import ConceptIndex, count_concepts, likely_concepts
from prill.errors import DataError
from prill.features._matching_oracle import words_of

CONCEPTS = ["gravity", "polar_bear", "the moon", "moon the moon", "bear", "日本", "bear bear"]
PLURALS = {"gravities": "gravity", "bears": "bear", "polars": "polar", "moons": "moon", "thes": "the"}
INDEX = ConceptIndex.build(CONCEPTS)


def text(documents: list[str]) -> pa.Array:
    return pa.array(documents, pa.large_string())


def expected(documents: list[str]) -> list[tuple[int, int, int]]:
    """Documents, occurrences and documents with all words, by slicing lists of words."""
    split = [[PLURALS.get(word, word) for word in words_of(document)] for document in documents]
    rows = []
    for concept in CONCEPTS:
        wanted = words_of(concept.replace("_", " "))
        k = len(wanted)
        found = [sum(words[i : i + k] == wanted for i in range(len(words) - k + 1)) for words in split]
        together = sum(set(wanted) <= set(words) for words in split)
        rows.append((sum(n > 0 for n in found), sum(found), together))
    return rows


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["polar", "Bears", "bear,", "the", "MOON", "moons", "gravity", "日本", "x", "."]),
            max_size=40,
        ).map(" ".join),
        max_size=6,
    )
)
def test_counts_are_the_oracles_and_add_up_over_shards(documents: list[str]) -> None:
    counts = count_concepts(text(documents), INDEX)
    rows = zip(counts.documents.tolist(), counts.occurrences.tolist(), counts.together.tolist(), strict=True)
    assert list(rows) == expected(documents)
    assert counts.n_words == sum(len(words_of(document)) for document in documents)
    shards = [count_concepts(text([document]), INDEX) for document in documents] or [counts]
    merged = functools.reduce(operator.add, shards)
    assert merged.occurrences.tolist() == counts.occurrences.tolist()
    assert (merged.documents <= counts.together).all()  # in a row implies together


def test_a_concept_is_no_more_frequent_than_its_words() -> None:
    index = ConceptIndex.build(["polar bear", "polar", "bear"])
    counts = count_concepts(text(["polar bear", "a bear", "polar lights and a bear", "bears"]), index)
    assert counts.documents.tolist() == [1, 2, 4]
    assert counts.together.tolist() == [2, 2, 4]


def test_concepts_across_chunk_borders_are_counted() -> None:
    documents = ["z" * n + " polar bear " + "z " * 3000 for n in range(4080, 4100)]
    assert count_concepts(text(documents), INDEX).documents[1] == len(documents)


def test_slope_intercept_and_correlation_of_the_worked_case() -> None:
    # acc = .1 + .2 log10(f): .3, .5, .7, .9; a factor of e brings .2 / ln 10 = .0869
    fit = fit_concepts([10, 100, 1000, 10_000], [0.3, 0.5, 0.7, 0.9], generator=np.random.default_rng(1))
    assert (fit.slope, fit.intercept) == pytest.approx((0.2, 0.1))
    assert fit.slope / np.log(10) == pytest.approx(0.0869, abs=5e-5)
    assert fit.pearson_r == pytest.approx(1.0)
    assert fit.spearman is not None
    assert fit.spearman[0] == pytest.approx(1.0)
    assert fit.deficit == pytest.approx(np.zeros(4))
    assert fit.tail.tolist() == [0, 1, 2, 3]


def test_a_doubled_corpus_moves_the_line_but_not_its_slope() -> None:
    rng = np.random.default_rng(2)
    freq = rng.integers(1, 100_000, size=300)
    acc = np.clip(0.1 * np.log10(freq) + rng.normal(0, 0.05, size=300), 0, 1)
    one = fit_concepts(freq, acc, generator=np.random.default_rng(1))
    two = fit_concepts(2 * freq, acc, generator=np.random.default_rng(1))
    assert two.slope == pytest.approx(one.slope)
    assert one.intercept - two.intercept == pytest.approx(one.slope * np.log10(2))
    assert two.pearson_r == pytest.approx(one.pearson_r)
    assert one.pearson_r is not None
    assert one.pearson_r > 0.9
    assert one.p_value is not None
    assert one.p_value < 0.01
    assert sum(one_bin.n for one_bin in one.bins) == 300


def test_permuted_accuracies_correlate_with_nothing() -> None:
    rng = np.random.default_rng(3)
    freq, acc = 10 ** rng.uniform(0, 6, size=400), rng.uniform(size=400)
    drawn = [fit_concepts(freq, rng.permutation(acc), generator=rng, n_resamples=1) for _ in range(100)]
    values = [fit.pearson_r for fit in drawn if fit.pearson_r is not None]
    assert abs(np.mean(values)) < 0.1


def test_frequency_zero_counts_as_one_and_empty_bins_are_left_out() -> None:
    fit = fit_concepts([0, 1, 10**6], [0.0, 0.2, 0.9], generator=np.random.default_rng(1))
    assert [one_bin.n for one_bin in fit.bins] == [2, 1]
    assert fit.pearson_r is None


def test_input_that_cannot_be_fitted_or_counted_is_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(DataError, match="different frequency"):
        fit_concepts([5, 5], [0.1, 0.2], generator=rng)
    with pytest.raises(DataError, match="finite"):
        fit_concepts([5, float("nan")], [0.1, 0.2], generator=rng)
    with pytest.raises(DataError, match="two or more"):
        fit_concepts([5], [0.1], generator=rng)
    with pytest.raises(DataError, match="'polar bear' and 'Polar-Bears'"):
        ConceptIndex.build(["polar bear", "Polar-Bears"])
    with pytest.raises(DataError, match="found 0 in"):
        ConceptIndex.build(["..."])


def test_likely_concepts_are_phrases_of_several_items() -> None:
    items = ["Which polar bear is the largest?", "Where does the polar bear live?", "Why is the sky blue?"]
    assert likely_concepts(items) == ["polar bear"]
    assert likely_concepts(items, min_texts=1, n=1)[:2] == ["bear", "polar"]
