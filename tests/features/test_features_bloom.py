"""The Bloom filter: sizes and rates of the published formula, no false negatives, unions, files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, InternalError
from prill.features.bloom import Bloom, BloomSize

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=200).map(lambda keys: np.array(keys, np.uint64))
SMALL = BloomSize(n_bytes=256, n_hashes=3)


def test_sizes_and_rates_follow_the_formula() -> None:
    one_mib = BloomSize.of_bytes(1 << 20, 1_000_000)
    assert one_mib.n_hashes == 6
    assert one_mib.false_positive_rate(1_000_000) == pytest.approx(0.01779, abs=5e-6)
    strict = BloomSize.of_rate(1_000_000, 1e-6)
    assert (strict.n_bytes, strict.n_hashes) == (4 << 20, 24)
    assert strict.false_positive_rate(1_000_000) == pytest.approx(1.0e-7, rel=0.05)
    assert BloomSize.of_rate(2_336_120, 1e-15) == BloomSize(n_bytes=32 << 20, n_hashes=80)


def test_the_rate_that_was_promised_is_the_rate_that_is_seen() -> None:
    rng = np.random.default_rng(5)
    bloom = Bloom.empty(BloomSize.of_bytes(1 << 17, 125_000), seed=1)  # 2^20 bits, 6 hashes, as above over 8
    keys = rng.integers(0, 2**64, 125_000, np.uint64)
    seen = bloom.add(keys)
    assert bloom.contains(keys).all()
    assert seen.mean() < 0.01  # false positives while it fills
    strangers = bloom.contains(rng.integers(0, 2**64, 200_000, np.uint64))
    expected = bloom.size.false_positive_rate(125_000)
    assert abs(strangers.mean() - expected) < 5 * np.sqrt(expected / 200_000)


@given(KEYS, KEYS)
def test_a_member_is_never_denied_and_a_union_holds_both(a: np.ndarray, b: np.ndarray) -> None:
    first, second, both = (Bloom.empty(SMALL, seed=7) for _ in range(3))
    first.add(a)
    second.add(b, b[::-1].copy())
    both.add(a)
    both.add(b, b[::-1].copy())
    united = first.unite(second)
    assert united.contains(a).all()
    assert united.contains(b, b[::-1].copy()).all()
    np.testing.assert_array_equal(united.words, both.words)


def test_adding_says_which_keys_came_before() -> None:
    bloom = Bloom.empty(BloomSize.of_rate(1000, 1e-9))
    assert bloom.add(np.array([1, 2, 1, 0, 0], np.uint64)).tolist() == [False, False, True, False, True]


def test_the_same_settings_give_the_same_bits_and_another_seed_others() -> None:
    filters = [Bloom.empty(SMALL, seed=seed) for seed in (1, 1, 2)]
    for bloom in filters:
        bloom.add(np.arange(20, dtype=np.uint64))
    np.testing.assert_array_equal(filters[0].words, filters[1].words)
    assert (filters[0].words != filters[2].words).any()
    with pytest.raises(InternalError):
        filters[0].unite(filters[2])


def test_a_file_gives_the_filter_back_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    bloom = Bloom.empty(SMALL, seed=3)
    bloom.add(np.arange(50, dtype=np.uint64))
    path = tmp_path / "known.safetensors"
    bloom.save(path)
    again = Bloom.load(path)
    assert (again.size, again.seed) == (bloom.size, bloom.seed)
    np.testing.assert_array_equal(again.words, bloom.words)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="damage"):
        Bloom.load(path)
    with pytest.raises(DataError, match="found none"):
        Bloom.load(tmp_path / "none")
