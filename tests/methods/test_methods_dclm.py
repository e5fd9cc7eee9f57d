"""DCLM's classifier: planted signal, published models, files of positives, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linear_oracle import write_bin
from made_text import documents
from pool_of import run_method
from prill.corpus.columns import ColumnInfo, write_columns
from prill.errors import DataError, PrillError, RecipeError
from prill.features.fasttext_model import read_fasttext
from prill.features.feature import Given
from prill.features.target_classifier import LogOdds, TargetClassifier
from prill.features.text_hash import hash_documents
from prill.methods.dclm import DCLM, DCLMSettings

VOCABULARY = ["</s>", "river", "stone", "kernel", "socket"]


def published(path: Path, **changed: int) -> None:
    """A model by hand: `river` and `stone` speak for hq, `kernel` and `socket` for cc."""
    values = np.array([0.0, 1.0, 2.0, -1.0, -2.0] + [0.0] * 8)[:, None]
    write_bin(path, VOCABULARY, ["cc", "hq"], values, np.array([[-1.0], [1.0]]), **changed)


def fitted(tmp_path: Path, texts: list[str], **settings: Any) -> None:
    """Build the classifier alone: what the run would build."""
    method = DCLM(DCLMSettings(**settings))
    odds = method.needs(["t"], tmp_path)["t"]
    assert isinstance(odds, LogOdds)
    assert isinstance(odds.model, TargetClassifier)
    sample = odds.model.sample
    pool = pa.array(documents(40, kind="b"), pa.large_string())
    columns = {"text": pool, "key": hash_documents(pool)[1]}
    write_columns(tmp_path / "sample", columns, [ColumnInfo(name="text"), ColumnInfo(name="key")])
    given: Any = Given(
        pool=None,  # type: ignore[arg-type]
        targets={"t": pa.array(texts, pa.large_string())},
        seed=0,
        parts={sample: (tmp_path / "sample",)},
    )
    odds.model.build(given, [tmp_path / name for name in odds.model.files])


def test_planted_documents_win_and_empty_ones_get_no_score(tmp_path: Path) -> None:
    good = documents(12, seed=1, kind="a")
    pool = [*documents(60, seed=2, kind="b"), *good, *documents(30, seed=3, kind="noise"), "...", " \n\u3000"]
    targets = {"t": documents(25, seed=4, kind="a")}
    settings = {"n_buckets": 1 << 14, "epochs": 20, "lr": 0.5}
    scores = run_method("dclm", pool, targets, settings, tmp_path)
    assert np.isnan(scores["t"]).nonzero()[0].tolist() == [len(pool) - 1]
    best = np.argsort(-np.nan_to_num(scores["t"], nan=-np.inf))[:12]
    assert set(best) == set(range(60, 72))


def test_a_published_model_scores_all_targets_alike(tmp_path: Path) -> None:
    published(tmp_path / "hq.bin")
    pool = ["river stone", "river\r\nstone\n", "kernel kernel", "socket river", "nothing known", "", "stone"]
    targets = {"t": documents(3, seed=1), "u": documents(3, seed=2)}
    scores = run_method("dclm", pool, targets, {"model": "hq.bin"}, tmp_path)
    np.testing.assert_array_equal(scores["t"], scores["u"])
    # mean over features, twice the value: river stone </s> and two pairs: 2 (1 + 2 + 0) / 5
    expected = [6 / 5, 6 / 5, -4 / 5, -2 / 5, 0, np.nan, 4 / 3]
    np.testing.assert_allclose(scores["t"], expected, rtol=1e-6)
    p = read_fasttext(tmp_path / "hq.bin").predict(pa.array(pool, pa.large_string()))[:, 1]
    assert np.argsort(-p[:5]).tolist() == np.argsort(-scores["t"][:5]).tolist()  # the order of P


def test_positives_may_be_files(tmp_path: Path) -> None:
    texts = documents(15, seed=1)
    (tmp_path / "a.jsonl").write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts[:7]))
    pq.write_table(pa.table({"text": texts[7:]}), tmp_path / "b.parquet")
    settings = {"n_buckets": 1 << 10}
    fitted(tmp_path, texts, **settings)
    of_target = [(tmp_path / f"model-{fold}.safetensors").read_bytes() for fold in range(2)]
    fitted(tmp_path, ["unused"], positives=["a.jsonl", "b.parquet"], **settings)
    assert of_target == [(tmp_path / f"model-{fold}.safetensors").read_bytes() for fold in range(2)]
    one = DCLM(DCLMSettings(positives=["a.jsonl"])).needs(["t", "u"], tmp_path)
    assert one["t"] == one["u"]  # computed once
    before = one["t"].digest
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps({"text": "changed"}) + b"\n")
    assert DCLM(DCLMSettings(positives=["a.jsonl"])).needs(["t"], tmp_path)["t"].digest != before


def test_too_few_positives_are_refused_with_the_number_that_would_do(tmp_path: Path) -> None:
    few = [*documents(3), "", "  \n"]  # texts without words do not count
    with pytest.raises(DataError, match="at least 10 documents with words in target 't', found 3") as caught:
        fitted(tmp_path, few)
    assert "7 more will do" in str(caught.value)
    with pytest.raises(DataError, match="at least 60 documents of the pool"):
        fitted(tmp_path, documents(60), min_positives=60)
    fitted(tmp_path, few, min_positives=3, n_buckets=64)


def test_settings_that_cannot_be_are_told_before_anything_runs(tmp_path: Path) -> None:
    published(tmp_path / "hq.bin")
    published(tmp_path / "vectors.bin", model=2)
    cases: list[tuple[dict[str, Any], type[PrillError], str]] = [
        ({"model": "absent.bin"}, DataError, "expected a fastText model, found no file"),
        ({"model": "vectors.bin"}, DataError, "expected a supervised model, found word vectors"),
        ({"positives": ["absent.jsonl"]}, RecipeError, "expected files of positives, found none at"),
        (
            {"model": "hq.bin", "positives": ["a.jsonl"]},
            RecipeError,
            "expected `model` or `positives`, found both",
        ),
    ]
    for settings, kind, message in cases:
        with pytest.raises(kind, match=message):
            DCLM(DCLMSettings(**settings)).needs(["t"], tmp_path)


def test_a_label_that_the_model_lacks_is_told_with_those_it_has(tmp_path: Path) -> None:
    published(tmp_path / "hq.bin")
    with pytest.raises(PrillError, match="labels: cc, hq"):
        run_method("dclm", documents(9), {"t": documents(3)}, {"model": "hq.bin", "label": "good"}, tmp_path)
