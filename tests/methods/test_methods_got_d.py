"""GOT-D as a method: what the target has and the pool lacks comes first; in the sample or not."""

from pathlib import Path

import numpy as np
import pytest

from made_text import topics
from pool_of import run_method
from prill.errors import DataError

SETTINGS = {"dimensions": 64}


def test_what_the_target_has_and_the_pool_lacks_is_preferred(tmp_path: Path) -> None:
    # half of the target is topic 0, of which the pool is full, half topic 1, of which it has little
    pool = [*topics([0] * 70 + [1] * 10 + [2] * 20), "", " "]
    target = topics([0] * 10 + [1] * 10, seed=1)
    scores = run_method("got_d", pool, {"t": target}, SETTINGS, tmp_path)["t"]
    assert np.isnan(scores[-2:]).all()
    common, rare, other = (np.mean(scores[a:b]) for a, b in ((0, 70), (70, 80), (80, 100)))
    assert rare > max(common, other) + 0.1
    assert set(np.argsort(-scores[:100])[:10]) == set(range(70, 80))


def test_to_avoid_is_the_opposite_and_documents_out_of_the_sample_are_scored(tmp_path: Path) -> None:
    pool, target = topics([0] * 40 + [1] * 40), topics([0] * 12, seed=1)
    scores = run_method("got_d", pool, {"t": target}, SETTINGS, tmp_path)["t"]
    away = run_method("got_d", pool, {"t": target}, {**SETTINGS, "avoid": True}, tmp_path)["t"]
    np.testing.assert_array_equal(away, -scores)
    few = run_method("got_d", pool, {"t": target}, {**SETTINGS, "candidates": 30}, tmp_path)["t"]
    assert np.isfinite(few).all()
    assert few[:40].min() > few[40:].max()
    assert scores.sum() == pytest.approx(0, abs=1e-3)  # calibrated over the sample, here the pool


def test_a_target_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one document with words in target 't', found none"):
        run_method("got_d", topics([0] * 10), {"t": ["", " ", "\n"]}, SETTINGS, tmp_path)
