"""What the kernels promise: any message length, a full memo, racing threads, even buckets, fresh caches."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from made_text import texts
from prill.errors import InternalError
from prill.features import ngrams as ngram_feature
from prill.features._ngram_oracle import fast_bucket, ngrams, reference_bucket
from prill.features.ngrams import count_ngrams, score_ngrams

WORDS = [f"w{i * 7919 % 100003:05d}" for i in range(6000)]


def test_sha256_of_every_length_up_to_four_blocks() -> None:
    # the end mark and the length move to another block at 56, 120, 184, ... bytes
    documents = ["x" * n for n in range(1, 260)]
    table = np.arange(1.0, 1.0 + (1 << 20))[None, :]
    sums, _ = score_ngrams(texts(documents), table, n=1, family="reference")
    assert [int(s) - 1 for s in sums[0]] == [reference_bucket((document,), 1 << 20) for document in documents]


@pytest.mark.parametrize("n_buckets", [1, 2, 97, 10_000, (1 << 24) - 3, 1 << 24])
def test_any_number_of_buckets(n_buckets: int) -> None:
    for family, rule in (("fast", fast_bucket), ("reference", reference_bucket)):
        counts, _ = count_ngrams(texts(["one two, three"]), n_buckets=n_buckets, family=family)
        expected = [rule(ngram, n_buckets) for ngram in ngrams("one two, three", 2)]
        assert sorted(np.repeat(np.flatnonzero(counts), counts[counts > 0])) == sorted(expected)


def test_a_memo_that_is_far_too_small_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    array = texts([" ".join(WORDS), " ".join(reversed(WORDS))] * 2)
    expected, _ = count_ngrams(array, n_buckets=4093, family="reference")
    monkeypatch.setattr(ngram_feature, "_MEMO_WORDS", 64)
    ngram_feature._memo.cache_clear()
    try:
        crowded, _ = count_ngrams(array, n_buckets=4093, family="reference")
    finally:
        ngram_feature._memo.cache_clear()
    np.testing.assert_array_equal(crowded, expected)


def test_threads_that_share_a_memo_change_nothing() -> None:
    array = texts([" ".join(np.random.default_rng(i).permutation(WORDS)) for i in range(8)])
    table = np.random.default_rng(0).normal(size=(1, 5003))
    ngram_feature._memo.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(
            lambda d: score_ngrams(array.slice(d, 1), table, family="reference")[0][0, 0], range(8)
        )
        racing = list(parts)
    alone, _ = score_ngrams(array, table, family="reference")
    np.testing.assert_array_equal(racing, alone[0])


def test_fast_buckets_are_even_and_ngrams_keep_their_order() -> None:
    # 12,000 distinct n-grams in 1,000 buckets: chi-square with 999 degrees of freedom, 99.9 % point 1,143
    distinct = set(ngrams(" ".join(WORDS), 2))
    counts = np.bincount([fast_bucket(ngram, 1000) for ngram in distinct], minlength=1000)
    expected = len(distinct) / 1000
    assert ((counts - expected) ** 2 / expected).sum() < 1143
    one, _ = count_ngrams(texts(["alpha beta"]), n_buckets=1 << 24)
    other, _ = count_ngrams(texts(["beta alpha"]), n_buckets=1 << 24)
    assert np.count_nonzero(one != other) == 2  # the two bigrams


def test_cached_code_is_bound_to_the_sources_it_is_made_of() -> None:
    import hashlib

    from prill.features import _jit
    from prill.features._ngram_kernel import scan

    stamp = scan._cache._cache_file._source_stamp  # type: ignore[attr-defined]
    assert stamp == _jit._sources_digest("prill.features._ngram_kernel")
    assert stamp != _jit._sources_digest("prill.features._text_kernel")  # which it imports
    alone = hashlib.sha256(Path(_jit.__file__).read_bytes()).hexdigest()
    assert _jit._sources_digest("prill.features._jit") == alone


def test_both_ways_to_write_positions_agree_with_python() -> None:
    import numba
    from numba.extending import intrinsic

    from prill.features import _vector_kernel as vector

    rng = np.random.default_rng(0)
    masks = [0, 1, 1 << 63, (1 << 64) - 1]
    masks += [int(rng.integers(0, 1 << 64, dtype=np.uint64)) & ~0 >> int(rng.integers(64)) for _ in range(50)]
    for way in (vector._put_eights, intrinsic(vector._compress)):

        @numba.njit
        def put(mask, positions, way=way):  # type: ignore[no-untyped-def]
            return way(mask, positions, 3, np.uint32(1000))

        for mask in masks:
            positions = np.zeros(80, np.uint32)
            expected = [1000 + i for i in range(64) if mask >> i & 1]
            assert put(np.uint64(mask), positions) == len(expected)
            assert positions[3 : 3 + len(expected)].tolist() == expected


def test_a_front_that_is_far_too_small_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    array = texts([" ".join(WORDS)] * 2)
    expected, _ = count_ngrams(array, n_buckets=4099, family="reference")
    monkeypatch.setattr(ngram_feature, "_FRONT_WORDS", 8)
    ngram_feature._memo.cache_clear()
    try:
        crowded, _ = count_ngrams(array, n_buckets=4099, family="reference")
    finally:
        ngram_feature._memo.cache_clear()
    np.testing.assert_array_equal(crowded, expected)


@pytest.mark.parametrize("letter", ["a", "é", "я", "語", "𝒳", "İ", "Σ", "\u212a", "Ⱥ", "“", "\u2003"])
def test_a_character_at_every_place_of_a_block(letter: str) -> None:
    documents = ["x" * i + letter + "Y" * (130 - i) + " Z" for i in range(131)]
    expected = np.zeros(997, np.int64)
    for document in documents:
        for ngram in ngrams(document, 2):
            expected[fast_bucket(ngram, 997)] += 1
    counts, _ = count_ngrams(texts(documents), n_buckets=997)
    np.testing.assert_array_equal(counts, expected)


def test_a_document_beyond_the_positions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_feature, "_MAX_DOCUMENT_BYTES", 10)
    assert count_ngrams(texts(["a", "ten bytes.", "b"]))[1] == 7
    with pytest.raises(InternalError, match="at most 10 bytes"):
        count_ngrams(texts(["a", "eleven byte", "b"]))
