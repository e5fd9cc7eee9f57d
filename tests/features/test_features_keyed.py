"""Keyed randomness: known answers, range, independence of position, the cards' oracle."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.features.keyed import keyed_gumbel, keyed_uniform, reference_gumbel

KNOWN = ["0x1.7169852efd579p-1", "0x1.ea0dfa4ae6984p-3", "0x1.5352d6d33b883p-1"]
KEYS = np.arange(200_000, dtype=np.uint64)


def test_reference_gumbel_reproduces_the_cards_oracle() -> None:
    np.testing.assert_allclose(
        reference_gumbel(0, ["a", "b", "c", "d"]), [0.727977, 2.017812, 1.210729, 0.339535], atol=5e-7
    )
    np.testing.assert_allclose(
        reference_gumbel(1, ["a", "b", "c", "d"]), [-0.311051, 0.179786, 1.118895, -0.669601], atol=5e-7
    )


def test_reference_gumbel_with_weights_one_to_four_picks_b_and_c() -> None:
    order = np.argsort(-(np.log([1.0, 2.0, 3.0, 4.0]) + reference_gumbel(0, ["a", "b", "c", "d"])))
    assert set(order[:2]) == {1, 2}


def test_draws_never_change() -> None:
    # known answers of KEYED_VERSION 1: a change here changes every selection and needs a new version
    draws = keyed_uniform(7, np.array([0, 1, 2**64 - 1], dtype=np.uint64))
    assert [float(u).hex() for u in draws] == KNOWN


def test_uniform_is_uniform_and_seeds_are_unrelated() -> None:
    a, b = keyed_uniform(0, KEYS), keyed_uniform(1, KEYS)
    counts = np.histogram(a, bins=100, range=(0, 1))[0]
    chi2 = float(((counts - 2000.0) ** 2 / 2000.0).sum())
    assert chi2 < 149.0  # 99.9 % point of chi-square with 99 degrees of freedom
    assert abs(float(np.corrcoef(a, b)[0, 1])) < 0.01
    assert abs(float(np.corrcoef(a[:-1], a[1:])[0, 1])) < 0.01


def test_gumbel_samples_in_proportion_to_weights() -> None:
    # weights 1:2:3:4, k = 2: exact inclusion 0.234524, 0.441270, 0.608333, 0.715873 (Plackett-Luce by hand)
    g = keyed_gumbel(3, KEYS).reshape(-1, 4) + np.log([1.0, 2.0, 3.0, 4.0])
    top2 = np.argsort(-g, axis=1)[:, :2]
    inclusion = np.bincount(top2.ravel(), minlength=4) / g.shape[0]
    np.testing.assert_allclose(inclusion, [0.234524, 0.441270, 0.608333, 0.715873], atol=0.01)


@settings(deadline=None)
@given(st.integers(), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_every_draw_is_inside_the_open_interval_and_depends_on_its_key_alone(
    seed: int, keys: list[int]
) -> None:
    array = np.array(keys, dtype=np.uint64)
    draws = keyed_uniform(seed, array)
    assert np.all((draws > 0) & (draws < 1))
    assert np.all(np.isfinite(keyed_gumbel(seed, array)))
    np.testing.assert_array_equal(draws[::-1], keyed_uniform(seed, array[::-1].copy()))
