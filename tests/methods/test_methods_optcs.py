"""OptCS over the pool: with labels its mistakes stay below q; without, the planted documents are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pydantic import ValidationError

from made_text import documents
from pool_of import opened, recipe_of, table_of
from prill.corpus.columns import read_columns, read_infos
from prill.errors import DataError, PrillError
from prill.features.applied import AppliedToTargets, TextPool
from prill.methods._calibration import null_steps
from prill.methods.optcs import OptCSSettings
from prill.methods.scored import Scored, scored
from prill.pipeline.features import Features
from prill.stats.conformal import conformal_p_values

N_GOOD, N_ALL = 150, 600
TEXTS = documents(N_GOOD, seed=1, kind="a") + documents(N_ALL - N_GOOD, seed=2, kind="b")
TARGETS = {"a": documents(60, seed=3, kind="a")}
IS_GOOD = np.arange(N_ALL) < N_GOOD
MEMBERS = [{"method": "random", "settings": {"seed": 3}}, {"method": "dsir"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("optcs")
    write_labels(made / "labels.jsonl", np.random.default_rng(4).permutation(N_ALL)[:200], IS_GOOD)
    return made


@pytest.fixture(scope="module")
def features(folder: Path) -> Iterator[Features]:
    with opened(recipe_of(folder, TEXTS, TARGETS), folder) as found:
        yield found


def asked(settings: dict[str, Any], base: Path) -> Scored:
    return scored("optcs", {"of": MEMBERS, **settings}, tuple(TARGETS), base)


def column(features: Features, feature: Scored) -> np.ndarray:
    return table_of(features, feature)["a"].to_numpy()


def counts(features: Features, feature: Scored) -> dict[str, Any]:
    return dict(features.done[feature.fitted].record.counts)


def write_labels(path: Path, rows: np.ndarray, is_good: np.ndarray) -> None:
    lines = [{"text": TEXTS[i], "label": float(is_good[i])} for i in rows]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def test_steps_of_nulls_are_those_of_plain_p_values() -> None:
    rng = np.random.default_rng(0)
    good, cal, test = rng.random(80) < 0.4, rng.normal(size=80).round(1), rng.normal(size=30).round(1)
    scores, n_nulls = null_steps(cal[~good], None, 0.4)
    found = np.append(n_nulls, 0)[np.searchsorted(scores, test)]
    np.testing.assert_allclose((1 + found) / 81, conformal_p_values(cal, good, test))


def test_known_positives_are_taken_off_by_hand() -> None:
    # Pool 1..10, a fifth good; the target scores 9 and 10. At 10: 1 - 2/2 = 0; at 9: 2 - 2 = 0; at 8: 3 - 2.
    scores, n_nulls = null_steps(np.arange(1.0, 11.0), np.array([9.0, 10.0]), 0.2)
    assert dict(zip(scores.tolist(), n_nulls.tolist(), strict=True)) == {
        10.0: 0,
        9.0: 0,
        8.0: 1,
        7.0: 2,
        6.0: 3,
        5.0: 4,
        4.0: 5,
        3.0: 6,
        2.0: 7,
        1.0: 8,
    }
    # Where the target scores higher than the pool the number may not fall again: 4 above 6.5 stay 4.
    high = null_steps(np.array([5.0, 6, 7, 8, 9, 10]), np.array([1.0, 10.0]), 0.5)
    assert (np.diff(high[1]) <= 0).all()


def test_with_labels_mistakes_stay_below_q_and_the_noise_is_not_chosen(
    features: Features, folder: Path
) -> None:
    feature = asked({"labels": "labels.jsonl", "q": 0.2}, folder)
    score = column(features, feature)
    told = counts(features, feature)
    assert told["chosen"] == ["dsir"]
    assert told["n"] == [200]
    assert told["n_unmatched"] == [0]
    assert told["n_nulls"][0] == 200 - round(200 * told["prevalence"][0])
    selected = score >= 0
    assert selected[:N_GOOD].mean() > 0.8
    assert (selected & ~IS_GOOD).sum() / selected.sum() <= 0.2 + 0.08  # sd of a share of 0.2 among 180: 0.03
    assert told["fdr_estimate"][0] <= 0.2
    assert told["guarantee"].startswith("FDR <= q")


def test_the_score_is_in_the_order_of_the_chosen_member(features: Features, folder: Path) -> None:
    score = column(features, asked({"labels": "labels.jsonl", "q": 0.2}, folder))
    raw = column(features, scored("dsir", {}, tuple(TARGETS), folder))
    order = np.argsort(raw, kind="stable")
    assert (np.diff(score[order])[np.diff(raw[order]) > 0] > 0).all()


def test_without_labels_the_planted_share_is_found(features: Features, folder: Path) -> None:
    feature = asked({"q": 0.2}, folder)
    selected = column(features, feature) >= 0
    told = counts(features, feature)
    assert told["prevalence"][0] == pytest.approx(0.25, abs=0.08)
    assert told["guarantee"] == "none: estimated"
    assert selected[:N_GOOD].mean() > 0.7
    assert selected[N_GOOD:].mean() < 0.2


def test_the_pool_taken_for_not_good_finds_nothing(features: Features, folder: Path) -> None:
    # The pool compared with itself: p-values are uniform, and no multiple of q reaches them.
    feature = asked({"q": 0.2, "prevalence": 0.0}, folder)
    score = column(features, feature)
    assert counts(features, feature)["n_selected"] == [0]
    assert (score < 0).all()
    assert np.argsort(-score)[:20].max() < N_GOOD  # a budget still takes the best first


def test_target_texts_are_scored_as_if_they_were_of_the_pool(features: Features, folder: Path) -> None:
    dsir = scored("dsir", {}, tuple(TARGETS), folder)
    applied = AppliedToTargets(feature=dsir, targets=("a",))
    features.resolve([applied])
    fit = features.targets["a"].fit
    own = read_columns(features.done[applied].parts[0])["a"].to_numpy()
    assert len(own) == len(fit)
    from safetensors.numpy import load_file

    state = load_file(features.done[dsir.fitted].parts[0])
    np.testing.assert_array_equal(own, dsir.fitted.made.score_text(state, fit)[0])  # type: ignore[attr-defined]
    pool = TextPool.of(features.pool, pa.array(["abc", "", "é"], pa.large_string()))
    assert pool.document_bytes(0).tolist() == [3, 0, 2]
    assert pool.n_tokens(0)[1] == 1
    assert not pool.is_sampled(0, share=1.0, seed=0).any()


def test_too_few_labels_are_told_with_the_numbers_that_would_do(features: Features, folder: Path) -> None:
    write_labels(folder / "few.jsonl", np.arange(140, 190), IS_GOOD)
    with pytest.raises(
        DataError, match=r"at least 100 labelled documents of the pool, 30 of them at most 0\.5"
    ):
        column(features, asked({"labels": "few.jsonl", "q": 0.1}, folder))
    write_labels(folder / "one.jsonl", np.arange(200, 400), IS_GOOD)
    with pytest.raises(DataError, match="and some above, found 200, 200 and 0"):
        column(features, asked({"labels": "one.jsonl", "q": 0.1}, folder))


def test_a_pool_too_small_to_test_on_is_told(tmp_path: Path) -> None:
    few = TEXTS[:8]
    with opened(recipe_of(tmp_path, few, TARGETS), tmp_path) as f:
        feature = scored("optcs", {"of": [{"method": "random"}]}, tuple(TARGETS), tmp_path)
        with pytest.raises(DataError, match="at least 10 documents of the pool to test on, found"):
            f.resolve([feature])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "x"}\n', "labels.jsonl:1: expected `text`"),
        (b'{"text": "x", "label": 1}\n{"text": "x", "label": "good"}\n', "labels.jsonl:2"),
        (b'{"text": \n', "expected a line of JSON"),
    ],
)
def test_labels_that_are_none_are_named(
    features: Features, folder: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "labels.jsonl").write_bytes(content)
    with pytest.raises(DataError) as caught:
        column(features, asked({"labels": "labels.jsonl"}, tmp_path))
    assert message in str(caught.value)


def test_a_missing_file_of_labels_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(PrillError, match="expected a file of labels, found none"):
        asked({"labels": "nothing.jsonl"}, tmp_path)


def test_shards_change_no_bit(features: Features, folder: Path, tmp_path: Path) -> None:
    settings = {"labels": str(folder / "labels.jsonl"), "q": 0.3, "pruning": "heterogeneous"}
    here = column(features, asked(settings, folder))
    recipe = recipe_of(tmp_path, TEXTS, TARGETS, shards=5)
    with opened(recipe, tmp_path) as others:
        assert column(others, asked(settings, folder)).tobytes() == here.tobytes()


def test_the_default_members_and_weights_that_mean_nothing() -> None:
    assert [member.method for member in OptCSSettings().of] == ["dsir", "dclm"]
    with pytest.raises(ValidationError, match="candidates have no weights"):
        OptCSSettings.model_validate({"of": [{"method": "dsir", "weight": 2}]})


def test_the_columns_say_where_the_threshold_is(features: Features, folder: Path) -> None:
    feature = asked({"q": 0.2}, folder)
    features.resolve([feature])
    info = read_infos(features.done[feature].parts[0])["a"]
    assert info.summary == "log p-value below the threshold at FDR 0.2, which is 0"
    assert info.unit == "nats"
