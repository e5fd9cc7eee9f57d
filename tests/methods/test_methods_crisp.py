"""CRISP: the card's numbers, invariances, a planted target, small and empty targets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load_file

from made_text import topics
from pool_of import resolve, run_method
from prill.errors import DataError
from prill.features.keyed import keyed_gumbel
from prill.methods.crisp import STRENGTHS, CRISPSettings, capped, leave_one_out, report, shrunk
from prill.methods.scored import scored

P_G = np.array([0.5, 0.3, 0.15, 0.05])
COUNTS = np.array([1.0, 2, 5, 2])
P_S = COUNTS / 10
EACH = [0, 1, 2, 3]


def test_weights_and_report_of_the_card() -> None:
    np.testing.assert_allclose(P_S / P_G, [0.2, 0.666667, 3.333333, 4], atol=5e-7)
    found = report(P_S, P_G, epochs=4e5 / 1e6)
    assert 1 + found["chi2"] == pytest.approx(2.62)
    assert found["ess"] == pytest.approx(0.381679, abs=5e-7)
    assert found["kl"] == pytest.approx(0.637208, abs=5e-7)
    assert found["tv"] == pytest.approx(0.5)
    epochs = P_S / P_G * 4e5 / 1e6
    np.testing.assert_allclose(epochs, [0.08, 0.266667, 1.333333, 1.6], atol=5e-7)
    assert found["epochs_max"] == pytest.approx(1.6)


def test_the_cap_of_the_card() -> None:
    found = capped(P_S, P_G, repeats=1 * 1e6 / 4e5)
    np.testing.assert_allclose(found, [0.166667, 0.333333, 0.375, 0.125], atol=5e-7)


def test_shrinkage_of_the_card() -> None:
    np.testing.assert_allclose(shrunk(COUNTS, P_G, 5.0), [0.233333, 0.233333, 0.383333, 0.15], atol=5e-7)
    cluster = np.repeat(np.arange(4), COUNTS.astype(int))
    found = [leave_one_out(cluster, np.ones(10), COUNTS, P_G, m) for m in STRENGTHS]
    expected = [-16.54595, -15.98115, -15.55525, -15.40469, -15.72769, -16.36271, -17.29406]
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert STRENGTHS[int(np.argmax(found))] == 5


SHARES = st.lists(st.integers(1, 50), min_size=2, max_size=8)


def normal(counts: list[int]) -> NDArray[np.float64]:
    return np.array(counts) / sum(counts)


@given(SHARES, st.data())
def test_weights_average_to_one_and_equal_clusters_merge(counts: list[int], data: st.DataObject) -> None:
    p_g = normal(counts)
    p = normal(data.draw(st.lists(st.integers(1, 50), min_size=len(p_g), max_size=len(p_g))))
    assert (p_g * (p / p_g)).sum() == pytest.approx(1)
    whole = report(p, p_g, epochs=1.0)
    split = [np.r_[x / 2, x / 2] for x in (p, p_g)]  # every cluster becomes two of its weight
    for name, value in report(split[0], split[1], epochs=1.0).items():
        assert value == pytest.approx(whole[name], abs=1e-9), name
    same = report(p_g, p_g, epochs=1.0)
    assert (same["ess"], same["tv"]) == (pytest.approx(1), pytest.approx(0))


@given(SHARES, st.data(), st.floats(1, 20))
def test_a_capped_choice_keeps_within_the_cap_and_adds_up(
    counts: list[int], data: st.DataObject, repeats: float
) -> None:
    p_g = normal(counts)
    wanted = data.draw(st.lists(st.integers(0, 50), min_size=len(p_g), max_size=len(p_g)).filter(any))
    found = capped(normal(wanted), p_g, repeats=repeats)
    assert found.sum() == pytest.approx(1)
    assert (found <= repeats * p_g * (1 + 1e-9)).all()


def test_a_cap_that_cannot_be_met_is_told() -> None:
    with pytest.raises(DataError, match=r"fills 0\.5 of it"):
        capped(P_S, P_G, repeats=0.5)


def test_documents_are_sampled_in_proportion_to_the_clusters_of_the_target(tmp_path: Path) -> None:
    pool = [*topics(EACH * 50), "", " \n"]
    target = [*topics([0] * 15, seed=1), *topics([1] * 5, seed=2)]
    settings = {"clusters": [4], "general": 0.0, "shrinkage": 0.0, "dimensions": 64}
    scores = run_method("crisp", pool, {"t": target}, settings, tmp_path)["t"]
    assert np.isnan(scores[-2:]).all()
    means = [np.exp(scores[topic:200:4]).mean() for topic in range(4)]
    # a quarter of the pool each, all documents of one length; 15 and 4 of the target's 19 (one is held out)
    np.testing.assert_allclose(means, [60 / 19, 16 / 19, 0, 0], rtol=0.02)
    assert [len(np.unique(scores[topic:200:4])) for topic in range(4)] == [1, 1, 1, 1]
    noise = keyed_gumbel(0, np.arange(200, dtype=np.uint64))
    chosen = np.argsort(-(scores[:200] + noise))[:30]
    assert set(chosen % 4) == {0, 1}


def test_the_fitted_state_reports_what_the_sampling_does(tmp_path: Path) -> None:
    target = topics([2] * 21, seed=1)
    asked = scored("crisp", {"clusters": [4, 4], "dimensions": 64}, ("t", "u"), tmp_path)
    targets = {"t": target, "u": topics(EACH * 10, seed=4)}
    features = resolve([asked], topics(EACH * 30), targets, tmp_path)
    state = load_file(features.done[asked.fitted].path)
    assert state["log_weight"].shape == (2, 16)
    numbers = {"chi2", "epochs_max", "ess", "kl", "level", "p_not_in_pool", "p_unseen", "shrinkage", "tv"}
    assert set(state) == numbers | {"log_weight"}
    assert state["ess"][0] < 0.5 < state["ess"][1]  # u is a sample of the pool
    assert state["tv"][1] < 0.2
    assert (state["shrinkage"] >= 0.5).all()
    assert (state["p_not_in_pool"] == 0).all()


def test_a_target_without_two_documents_of_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least 2 documents with words in target 't', found [01]"):
        run_method(
            "crisp", topics(EACH * 5), {"t": ["words here", "", "  ", " \n"]}, {"clusters": [2]}, tmp_path
        )


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="power of two"):
        CRISPSettings(dimensions=100)
    with pytest.raises(ValidationError, match="`embedding_folder` belongs to static and encoder"):
        CRISPSettings(embedding="encoder")
