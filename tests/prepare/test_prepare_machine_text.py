"""PAWN: the card's figures, gates, planted signal, thresholds, and the measure over a tiny model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prill.corpus.batch import Batch
from prill.corpus.tokenizer import train_bpe
from prill.errors import DataError
from prill.prepare.machine_text.thresholds import area_under_curve, thresholds_by_source

torch = pytest.importorskip("torch")

from prill.lm.hf import export_llama  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.shape import Shape  # noqa: E402
from prill.prepare.machine_text.backbone import backbone_id, load_backbone  # noqa: E402
from prill.prepare.machine_text.classifier import (  # noqa: E402
    Pawn,
    PawnShape,
    load_pawn,
    pool,
    save_pawn,
)
from prill.prepare.machine_text.measure import MachineText, MachineTextSpec  # noqa: E402
from prill.prepare.machine_text.metrics import curvature, token_metrics  # noqa: E402
from prill.prepare.machine_text.training import (  # noqa: E402
    PawnTraining,
    Traits,
    predict,
    train_pawn,
)

SMALL = PawnShape(d_model=6, width=16, n_features=8, n_gates=4, max_tokens=32)


def test_metrics_of_three_tokens_by_hand() -> None:
    # P = (.7, .2, .1), the second comes next: ln .2, sum p ln p, ln .7, second of three, .7 + .2
    found = token_metrics(torch.log(torch.tensor([[0.7, 0.2, 0.1]])) + 3.0, torch.tensor([1]))[0]
    assert found[:5].tolist() == pytest.approx([-1.609438, -0.801819, -0.356675, 2 / 3, 0.9], abs=1e-6)
    mean = -0.801819
    variance = sum(p * (math.log(p) - mean) ** 2 for p in (0.7, 0.2, 0.1))
    assert float(found[5]) == pytest.approx(variance, abs=1e-5)
    assert curvature(found[None]) == pytest.approx((-1.609438 - mean) / variance**0.5, abs=1e-4)


def test_equal_gates_on_the_first_metric_are_the_mean_log_likelihood() -> None:
    metrics = token_metrics(torch.randn(7, 20), torch.arange(7))[None, :, :1]
    pooled = pool(metrics, torch.zeros(1, 7, 1), torch.ones(1, 7, dtype=torch.bool))
    assert float(pooled) == pytest.approx(float(metrics.mean()), abs=1e-6)


def test_padding_has_no_weight_gates_sum_to_one_and_a_constant_passes() -> None:
    torch.manual_seed(0)
    gates, is_seen = torch.randn(2, 5, 4), torch.tensor([[True] * 5, [True, True, False, False, False]])
    ones = pool(torch.ones(2, 5, 8), gates, is_seen)
    assert torch.allclose(ones, torch.ones(2, 8), atol=1e-6)
    features = torch.randn(2, 5, 8)
    changed = features.clone()
    changed[1, 2:] = 1e6
    assert torch.equal(pool(features, gates, is_seen)[1], pool(changed, gates, is_seen)[1])
    shifted = pool(features + 3.5, gates, is_seen)
    assert torch.allclose(shifted, pool(features, gates, is_seen) + 3.5, atol=1e-5)


def documents(n: int, *, seed: int) -> tuple[list[Traits], list[bool]]:
    """Half have likelier tokens: a planted signal in the metrics, noise in the states."""
    rng = torch.Generator().manual_seed(seed)
    found, labels = [], []
    for k in range(n):
        length = int(torch.randint(5, 25, (1,), generator=rng))
        logits = torch.randn(length, 12, generator=rng)
        following = torch.randint(0, 12, (length,), generator=rng)
        if k % 2:
            is_best = torch.rand(length, generator=rng) < 0.5
            following = torch.where(is_best, logits.argmax(1), following)
        metrics = token_metrics(logits, following)[:, :5]
        found.append(Traits(states=torch.randn(length + 1, 6, generator=rng), metrics=metrics))
        labels.append(bool(k % 2))
    return found, labels


QUICK = PawnTraining(n_epochs=6, batch=32)


def test_a_planted_signal_is_found_shuffled_labels_are_not_and_training_repeats() -> None:
    train, labels = documents(200, seed=1)
    test, truth = documents(300, seed=2)
    model = train_pawn(SMALL, train, labels, settings=QUICK, seed=3)
    scores = predict(model, test)
    assert area_under_curve(scores, truth) > 0.95
    again = train_pawn(SMALL, train, labels, settings=QUICK, seed=3)
    assert predict(again, test).tolist() == scores.tolist()
    # 300 test documents have a standard error of 0.033; four of them
    shuffled = np.random.default_rng(0).permutation(truth).tolist()
    assert area_under_curve(scores, shuffled) == pytest.approx(0.5, abs=0.14)


def test_a_document_scores_the_same_in_any_batch() -> None:
    docs, _ = documents(9, seed=5)
    model = Pawn(SMALL).eval()
    together = predict(model, docs, batch=9)
    assert together == pytest.approx(predict(model, docs, batch=2), abs=1e-6)


def test_both_kinds_are_needed(tmp_path: Path) -> None:
    docs, _ = documents(2, seed=1)
    with pytest.raises(DataError, match="both kinds"):
        train_pawn(SMALL, docs, [True, True])
    with pytest.raises(DataError):
        PawnShape(d_model=4, n_features=10, n_gates=4)


def test_a_stored_classifier_is_the_same_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    docs, _ = documents(3, seed=1)
    model, path = Pawn(SMALL).eval(), tmp_path / "pawn.safetensors"
    save_pawn(path, model, backbone="abc")
    loaded, backbone = load_pawn(path)
    assert backbone == "abc"
    assert predict(loaded, docs).tolist() == predict(model, docs).tolist()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError):
        load_pawn(path)


def test_thresholds_keep_the_budget_of_false_positives_in_each_source() -> None:
    rng = np.random.default_rng(0)
    scores, sources = rng.random(1000), np.repeat(["a", "b"], [900, 100]).tolist()
    limits = thresholds_by_source(scores, sources, max_false_positive_share=0.05)
    for source in "ab":
        own = scores[np.asarray(sources) == source]
        assert (own > limits[source]).sum() == int(0.05 * len(own))
    few = thresholds_by_source(np.array([0.2, 0.9]), ["c", "c"], max_false_positive_share=0.05)
    assert few == {"c": 0.9}
    assert area_under_curve(np.array([1.0, 1.0, 2.0, 0.0]), [True, False, True, False]) == 0.875


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("backbone")
    tokenizer = train_bpe(["the cat sat on the mat and the dog ran"] * 5, 270)
    shape = Shape(vocab_size=270, d_model=16, n_layers=1, n_heads=2, d_ff=32, seq_len=24, tied=True)
    export_llama(made, StackedLlama.init(shape, [1]), 0, tokenizer_json=tokenizer)
    return made


def test_the_measure_scores_documents_drops_none_by_default_and_checks_its_model(
    folder: Path, tmp_path: Path
) -> None:
    shape = PawnShape(d_model=16, width=16, n_features=8, n_gates=4, max_tokens=12)
    save_pawn(tmp_path / "pawn.safetensors", Pawn(shape), backbone=backbone_id(folder))
    spec = MachineTextSpec(model=folder, classifier=tmp_path / "pawn.safetensors")
    text = pa.array(["the cat sat on the mat", "", "dog " * 50, "the cat sat on the mat"], pa.large_string())
    source = pa.array(["web", "web", "books", None], pa.large_string())
    batch = Batch(shard=0, first_row=0, columns={"text": text, "source": source})
    measure = MachineText.of(spec, Path())
    table = pa.table(measure(batch))
    assert {info.name for info in measure.columns} == set(table.column_names)
    p = np.asarray(table["p_machine"])
    assert np.isnan(p[1])
    assert p[0] == p[3]
    assert (p[[0, 2]] > 0).all()
    assert table["p_machine_tokens"].to_pylist()[1:3] == [0, 12]
    assert measure.drops(table) == {}
    assert measure.edits(table) is None
    acting = MachineText.of(spec.model_copy(update={"drop": True, "thresholds": {"web": 0.0}}), Path())
    ((_, is_dropped),) = acting.drops(table).items()
    assert is_dropped.tolist() == [True, False, False, False]
    save_pawn(tmp_path / "pawn.safetensors", Pawn(shape), backbone="another")
    with pytest.raises(DataError, match="trained with, another"):
        MachineText.of(spec, Path())


def test_states_and_metrics_are_one_apart_and_follow_the_text(folder: Path) -> None:
    backbone = load_backbone(folder)
    read = backbone.read("the cat sat", max_tokens=100)
    assert read is not None
    traits, metrics = read
    assert len(traits.states) == len(traits.metrics) + 1 == len(metrics) + 1
    longer = backbone.read("the cat sat on the mat", max_tokens=len(metrics))
    assert longer is not None
    assert torch.allclose(longer[1], metrics, atol=1e-5)
    assert (metrics[:, 0] <= metrics[:, 2] + 1e-6).all()
