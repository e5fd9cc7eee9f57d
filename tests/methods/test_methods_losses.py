"""Losses as features: the same numbers as one document at a time, whichever way they are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from made_text import documents
from pool_of import resolve
from prill.corpus.columns import read_columns, read_infos
from prill.errors import DataError, RecipeError
from prill.features.losses import Loss, ModelDirectory, SampleLoss, TargetLoss, mean_losses
from prill.features.proxies import Proxy
from prill.lm.scoring.documents import kept_tokens

torch = pytest.importorskip("torch")

POOL = [*documents(40, seed=1), "", "x", *documents(40, seed=2, kind="b")]
POOL += documents(1, n_words=(900, 901))
TARGET = {"b": documents(30, seed=3, kind="b")}
PROXY = Proxy.of_pool(n_tokens=4000)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Features of one small run, computed."""
    asked = [
        Loss(model=PROXY, max_tokens=None, detail="tokens", top=3, precision="fp32"),
        Loss(model=PROXY, max_tokens=100, precision="fp32"),
        SampleLoss(model=PROXY, n_documents=20, max_tokens=None, precision="fp32"),
        TargetLoss(model=PROXY, targets=("b",), max_tokens=None, precision="fp32"),
    ]
    features = resolve(asked, POOL, TARGET, tmp_path_factory.mktemp("losses"))
    return {**dict(zip(["whole", "head", "sample", "target"], asked, strict=True)), "features": features}


def table_of(found: dict[Any, Any], name: str) -> pa.Table:
    return pa.concat_tables([read_columns(path) for path in found["features"].done[found[name]].parts])


def test_columns_equal_all_logits_of_one_document_at_a_time(found: dict[Any, Any]) -> None:
    from prill.lm.checkpoint import load_model
    from prill.lm.data import Rows
    from prill.lm.scoring.models import open_model
    from prill.lm.scoring.windows import windows

    folder = found["features"].done[PROXY].parts[0].parent
    model, opened = load_model(folder)[0], open_model(folder)
    rows = table_of(found, "whole").to_pylist()
    for text, row in zip(POOL, rows, strict=True):
        (doc,) = opened.tokenizer.encode_batch([text])
        padded = np.concatenate([[opened.prefix], doc]).astype(np.int64)
        logits = []
        for w in windows(len(doc), 256):
            inputs = padded[None, None, w.first : w.stop]
            places = np.arange(inputs.shape[2])[None, None]
            packed = model.pack(
                Rows(inputs=inputs, targets=inputs, positions=places, segments=np.zeros_like(inputs))
            )
            logits.append(model.logits(packed)[0].double()[w.scored - w.first :])
        assert row["n_tokens"] == len(doc)
        if not len(doc):
            assert (row["nats"], row["mean_log_prob"], row["median_top_loss"]) == (
                None,
                None,
                None,
            )  # an empty one may not be chosen
            continue
        every = torch.cat([part.reshape(-1, part.shape[-1]) for part in logits])
        logs = torch.log_softmax(every, 1)
        own = logs.gather(1, torch.tensor(doc.astype(np.int64))[:, None])[:, 0]
        top = every.topk(3, dim=1)
        is_top = own >= logs.gather(1, top.indices).amin(1) - 1e-9
        assert row["nats"] == pytest.approx(-float(own.sum()), rel=1e-4)
        np.testing.assert_allclose(row["token_log_prob"], own.numpy(), atol=1e-3)
        assert row["top_share"] == pytest.approx(float(is_top.double().mean()), abs=1e-6)
        kept = torch.where(is_top, -own, 0.0).numpy()
        assert row["median_top_loss"] == pytest.approx(float(np.median(kept)), abs=1e-3)
        assert row["top_mass"] == pytest.approx(
            float(logs.gather(1, top.indices).exp().sum(1).mean()), abs=1e-4
        )
        assert row["top_logit"] == pytest.approx(float(top.values.mean(1).mean()), abs=1e-3)
        assert row["n_bytes_scored"] == row["n_bytes"] == len(text.encode())


def test_only_the_first_tokens_count_and_their_bytes(found: dict[Any, Any]) -> None:
    whole, head = table_of(found, "whole").to_pylist(), table_of(found, "head").to_pylist()
    for text, full, cut in zip(POOL, whole, head, strict=True):
        assert cut["n_tokens"] == min(100, full["n_tokens"])
        assert cut["is_truncated"] == (full["n_tokens"] > 100)
        logs = full["token_log_prob"][:100]
        if len(logs):
            assert cut["nats"] == pytest.approx(-sum(logs), rel=1e-4, abs=1e-6)
        if cut["is_truncated"]:
            assert 0 < cut["n_bytes_scored"] < len(text.encode())
    infos = read_infos(found["features"].done[found["head"]].parts[0])
    assert {info.span for info in infos.values()} == {"first 100 tokens"}
    told = mean_losses(table_of(found, "head"), fewest=30)
    n_tokens = np.array([row["n_tokens"] for row in head])
    assert np.array_equal(np.isnan(told), n_tokens < 30)
    per_byte = mean_losses(table_of(found, "head"), per="byte")
    row = head[-1]
    assert per_byte[-1] == pytest.approx(row["nats"] / np.log(2) / row["n_bytes_scored"])


def test_a_sample_and_a_target_have_the_losses_that_the_pool_has(found: dict[Any, Any]) -> None:
    features = found["features"]
    parts = [read_columns(path) for path in features.done[found["whole"]].parts]
    sample = table_of(found, "sample")
    assert 5 <= sample.num_rows <= 40
    for row in sample.to_pylist():
        there = parts[row["shard"]]["nats"][row["row"]].as_py()
        assert row["nats"] == pytest.approx(there, rel=1e-4, abs=1e-6)
    counts = features.done[found["target"]].record.counts
    assert counts["n_documents"] == 30 - 1  # one is held out
    assert counts["nats"] == pytest.approx(float(table_of(found, "target")["nats"].to_numpy().sum()))
    assert features.flops(found["head"]) < features.flops(found["whole"])


def test_spread_windows_reach_from_the_first_token_to_the_last() -> None:
    tokens = np.arange(1000)
    kept = kept_tokens(tokens, 300, span="spread", window=100).reshape(3, 100)
    assert kept[:, 0].tolist() == [0, 450, 900]
    assert np.all(np.diff(kept, axis=1) == 1)
    assert kept_tokens(tokens, 300, span="head", window=100).tolist() == list(range(300))
    for span in ("head", "spread"):
        assert kept_tokens(tokens, None, span=span, window=100) is tokens  # type: ignore[arg-type]
        assert len(kept_tokens(tokens, 150, span=span, window=100)) == 150  # type: ignore[arg-type]


def test_a_folder_of_transformers_is_a_feature_and_faults_are_named(
    found: dict[Any, Any], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from prill.lm.checkpoint import load_model
    from prill.lm.hf import export_llama

    folder = found["features"].done[PROXY].parts[0].parent
    tokenizer = (folder / "tokenizer.json").read_bytes()
    theirs = tmp_path / "theirs"
    export_llama(theirs, load_model(folder)[0], 0, tokenizer_json=tokenizer)
    model = ModelDirectory.at(theirs)
    assert ModelDirectory.at(theirs / ".." / "theirs") == model
    loss = Loss(model=model, max_tokens=100, precision="fp32")
    (tmp_path / "run").mkdir()
    features = resolve([loss], POOL, TARGET, tmp_path / "run")
    there = pa.concat_tables([read_columns(path) for path in features.done[loss].parts])
    np.testing.assert_allclose(
        there["nats"].to_numpy(), table_of(found, "head")["nats"].to_numpy(), rtol=1e-4, atol=1e-5
    )
    config = json.loads((theirs / "config.json").read_text())
    with pytest.raises(DataError, match="found no such folder"):
        ModelDirectory.at(tmp_path / "absent")
    (theirs / "config.json").write_text(json.dumps(config | {"model_type": "odd", "auto_map": {"x": "y.z"}}))
    with pytest.raises(DataError, match="code"):
        ModelDirectory.at(theirs)
    (theirs / "config.json").write_text(json.dumps(config))
    (theirs / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"expected tokenizer\.json, found none"):
        ModelDirectory.at(theirs)
    with pytest.raises(RecipeError, match="`top` must be at most the vocabulary of"):
        resolve([Loss(model=PROXY, top=10_000)], POOL[:60], TARGET, tmp_path / "run2")
