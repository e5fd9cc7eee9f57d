"""The linear classifier: gradient steps against NumPy, reproducibility, planted signal, degenerate input."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from made_text import texts
from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo, write_columns
from prill.errors import DataError, InternalError, RecipeError
from prill.features._linear_kernel import count_prints, move_prints
from prill.features._linear_training_kernel import start_rows, train
from prill.features.classifier import ClassifierScores, train_linear
from prill.features.feature import Given
from prill.features.linear_model import LinearModel, one_line, word_fingerprints
from prill.features.pool import PoolView
from prill.features.sampled_texts import SampledTexts
from prill.features.target_classifier import LogOdds, TargetClassifier, fold_of, is_blank
from prill.features.text_hash import hash_documents

HQ = ["Explain why the theorem holds and give a proof", "How does photosynthesis work step by step"]
CC = ["buy cheap pills online now free shipping", "click here login register comments posted"]
SMALL = {"n_buckets": 1 << 12}


def card_model(**changed: Any) -> LinearModel:
    settings = {"n_labels": 2, "label_names": ["cc", "hq"], "epochs": 25, "lr": 1.0, **SMALL, **changed}
    return train_linear(texts(HQ + CC), np.array([1, 1, 0, 0]), **settings)[0]


def kinds(n: int, seed: int, n_kinds: int = 2) -> tuple[list[str], NDArray[np.int64]]:
    """Documents of common words and a few of their kind's own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_kinds, size=n)
    documents = []
    for label in labels:
        words = [f"common{i}" for i in rng.integers(60, size=30)]
        words += [f"own{label}-{i}" for i in rng.integers(20, size=4)]
        documents.append(" ".join(rng.permutation(words)))
    return documents, labels


def test_the_cards_documents_get_the_published_labels() -> None:
    # another order of the lines and other first vectors than fastText's: signs only
    model = card_model()
    p_hq = model.predict(texts(["explain the proof", "buy pills", "click here explain"]))[:, 1]
    assert (p_hq > 0.5).tolist() == [True, False, False]
    assert model.reported(texts(["explain the proof"])).sum() == pytest.approx(1 + 2e-5, abs=1e-12)


@pytest.mark.parametrize(("n_labels", "dim"), [(2, 16), (3, 32)])
def test_steps_equal_plain_numpy(n_labels: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([5, 1, 0, 9, 4, 7])
    ids, ends = rng.integers(20, size=sizes.sum()).astype(np.uint32), np.cumsum(sizes)
    labels, words = rng.integers(n_labels, size=6), np.array([3, 1, 1, 5, 2, 4])
    rows, outputs = np.empty((20, dim), np.float32), np.zeros((n_labels, dim), np.float32)
    start_rows(rows, np.uint64(5), np.float32(0.3))
    expected_rows, expected_outputs, loss = rows.astype(np.float64), outputs.astype(np.float64), 0.0
    done = 2.0
    for d in range(6):
        some = ids[ends[d] - sizes[d] : ends[d]]
        if len(some):
            lr = 0.7 * (1 - done / 40)
            hidden = expected_rows[some].mean(axis=0)
            raised = np.exp(expected_outputs @ hidden)
            p = raised / raised.sum()
            loss -= math.log(p[labels[d]])
            step = lr * (np.eye(n_labels)[labels[d]] - p)
            gradient = step @ expected_outputs / len(some)
            expected_outputs += step[:, None] * hidden
            np.add.at(expected_rows, some, gradient)  # a feature that comes twice learns twice
        done += words[d]
    found = train(ids, ends, labels, words, (0.7, 2.0, 40.0), rows, outputs)
    assert found == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(rows, expected_rows, atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs, atol=1e-6)


def test_the_same_model_whatever_the_order_of_documents(tmp_path: Path) -> None:
    documents, labels = kinds(60, 0)
    paths = []
    for name, order in (("a", np.arange(60)), ("b", np.random.default_rng(1).permutation(60))):
        model, _ = train_linear(texts([documents[i] for i in order]), labels[order], n_labels=2, **SMALL)
        paths.append(tmp_path / name)
        model.save(paths[-1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    other, _ = train_linear(texts(documents), labels, n_labels=2, seed=1, **SMALL)
    assert not np.array_equal(other.bucket_values, LinearModel.load(paths[0]).bucket_values)


@pytest.mark.parametrize("n_kinds", [2, 4])
def test_held_out_documents_are_told_apart(n_kinds: int) -> None:
    documents, labels = kinds(400, 0, n_kinds)
    held_out, expected = kinds(200, 1, n_kinds)
    model, counts = train_linear(
        texts(documents), labels, n_labels=n_kinds, epochs=20, lr=1.0, n_buckets=1 << 16
    )
    p = model.predict(texts(held_out))
    assert (p.argmax(axis=1) == expected).mean() > 0.95
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert counts.n_documents == 400
    assert counts.n_words == 400 * 35  # 34 words and `</s>`
    assert counts.n_vocabulary == 60 + 20 * n_kinds + 1
    assert counts.loss_nats < 0.5 * math.log(n_kinds)
    odds = np.stack([model.log_odds(texts(held_out), label) for label in range(n_kinds)], axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), p, atol=1e-5)


def test_features_that_training_never_saw_weigh_nothing() -> None:
    model = card_model(n_buckets=1 << 20)
    end = model.margins(texts([""]))[0, 0]  # `</s>` alone
    # `</s>` and the pairs q1 q2, q2 q3, q3 </s>: a mean over four
    assert model.margins(texts(["q1 q2 q3"]))[0, 0] == pytest.approx(end / 4, rel=1e-6)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_the_weight_of_the_end_can_be_taken_away(n_labels: int) -> None:
    labels = np.array([1, 1, 0, 2 if n_labels == 3 else 0])
    model, _ = train_linear(texts(HQ + CC), labels, n_labels=n_labels, epochs=25, lr=1.0, **SMALL)
    without = model.without_end()
    np.testing.assert_allclose(without.predict(texts([""])), 1 / n_labels)
    assert not np.allclose(model.predict(texts([""])), 1 / n_labels, atol=1e-3)
    tokens = 4 + 4  # three words, `</s>`, three pairs and the pair with the end: the mean is over all of them
    change = (model.margins(texts(["buy pills now"])) - without.margins(texts(["buy pills now"]))) * (
        tokens - 1
    )
    np.testing.assert_allclose(change, model.margins(texts([""])), rtol=1e-4)


def test_rare_words_are_left_out() -> None:
    documents = ["often rare-a", "often", "often rare-b", "often"]
    labels = np.array([1, 1, 0, 0])
    for min_count, n in ((1, 4), (2, 2), (5, 0)):
        if n == 0:
            with pytest.raises(DataError, match="expected words that occur at least 5 times, found none"):
                train_linear(texts(documents), labels, n_labels=2, min_count=min_count, word_ngrams=1)
            continue
        _, counts = train_linear(texts(documents), labels, n_labels=2, min_count=min_count, **SMALL)
        assert counts.n_vocabulary == n


def test_repeats_are_further_steps() -> None:
    documents, _ = kinds(60, 0)
    labels = np.arange(60) % 2  # words tell nothing
    found = []
    for repeats in (None, np.where(labels == 1, 5, 1)):
        model, counts = train_linear(
            texts(documents), labels, n_labels=2, repeats=repeats, epochs=5, lr=0.5, **SMALL
        )
        found.append((counts.n_documents, float(model.predict(texts(documents))[:, 1].mean())))
    assert found[0][0] == 60
    assert found[1][0] == 30 + 5 * 30
    assert found[0][1] == pytest.approx(1 / 2, abs=0.1)
    assert found[1][1] == pytest.approx(5 / 6, abs=0.1)  # the share of the class among the steps


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(DataError, match="expected examples of at least 2 labels to tell apart, found 1"):
        train_linear(texts(HQ), np.array([1, 1]), n_labels=2)
    with pytest.raises(DataError, match="found 0"):
        train_linear(texts([]), np.empty(0, np.int64), n_labels=2)
    for labels in ([0, 2], [-1, 1], [0]):
        with pytest.raises(InternalError):
            train_linear(texts(HQ), np.array(labels), n_labels=2)


def test_a_training_that_diverges_is_refused() -> None:
    with pytest.raises(DataError, match="diverged at the learning rate 1e\\+300"):
        card_model(lr=1e300)


def test_documents_without_words_train_the_end_alone() -> None:
    model, _ = train_linear(
        texts(["", " \n", "a b", "a"]), np.array([0, 0, 1, 1]), n_labels=2, epochs=200, lr=1.0, **SMALL
    )
    assert model.predict(texts([""]))[0, 0] > 0.5
    assert model.predict(texts(["a b"]))[0, 1] > 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_any_text_gives_probabilities_that_do_not_depend_on_its_neighbours(documents: list[str]) -> None:
    model = MODEL
    together = model.predict(texts(documents))
    assert np.isfinite(together).all()
    alone = np.concatenate([model.predict(texts([document])) for document in documents])
    np.testing.assert_array_equal(together, alone)
    lines = ["\n".join(document.strip().splitlines()) for document in documents]
    np.testing.assert_array_equal(model.predict(texts(lines)), together)


MODEL = card_model()


def test_every_kind_of_white_space_is_stripped_and_every_break_splits() -> None:
    spaces = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c).isspace()]
    documents = [
        text for s in spaces for text in (f"{s}buy pills", f"buy pills{s}", f"buy{s}pills", f"é{s}", s, s + s)
    ]
    lines = [" ".join(document.strip().splitlines()) for document in documents]
    np.testing.assert_array_equal(MODEL.margins(texts(documents)), MODEL.margins(texts(lines)))
    plain = [" a\n“b” ", "。中文", "no space at all"]
    assert one_line(texts(plain)).to_pylist() == plain  # taken as they are


def test_fingerprints_are_counted_through_growing_tables() -> None:
    prints = np.random.default_rng(0).integers(0, 500, size=3000).astype(np.uint64)
    keys, counts, n_keys, first = np.zeros(16, np.uint64), np.zeros(16, np.int64), 0, 0
    while first < len(prints):
        first, n_keys = count_prints(prints, first, keys, counts, n_keys)
        if first < len(prints):
            larger, moved = np.zeros(4 * len(keys), np.uint64), np.zeros(4 * len(keys), np.int64)
            n_keys = move_prints(keys, counts, larger, moved)
            keys, counts = larger, moved
    found = {int(key): int(n) for key, n in zip(keys, counts, strict=True) if key}
    expected = np.bincount(np.maximum(prints, 1).astype(int))
    assert found == {i: int(n) for i, n in enumerate(expected) if n}
    assert len(set(word_fingerprints([f"word{i}" for i in range(5000)]).tolist())) == 5000


def test_blank_texts() -> None:
    assert is_blank(texts(["", " \n\t", "\u3000", "a", " a "])).tolist() == [True, True, True, False, False]


def test_every_document_is_scored_by_a_model_that_has_not_seen_it(tmp_path: Path) -> None:
    pool, labels = kinds(80, 0)
    target = [document for document, label in zip(*kinds(80, 1), strict=True) if label == 1]
    _, keys = hash_documents(texts(pool))
    sample = SampledTexts(n_documents=80, use="test")
    write_columns(
        tmp_path / "sample",
        {"text": texts(pool), "key": keys},
        [ColumnInfo(name="text"), ColumnInfo(name="key")],
    )
    odds, models = {}, {}
    for n_folds in (1, 2):
        made = TargetClassifier(
            targets=("t",), sample=sample, n_folds=n_folds, n_buckets=1 << 14, epochs=40, lr=1.0
        )
        paths = tuple(tmp_path / f"{n_folds}-{name}" for name in made.files)
        view = cast("PoolView", None)  # neither asks for more of the pool than its sample and this batch
        parts = {sample: (tmp_path / "sample",), made: paths}
        given_ = Given(pool=view, targets={"t": texts(target)}, seed=7, parts=parts)
        counts = made.build(given_, paths)
        assert counts["flops"] > 0
        feature = LogOdds.of(made)
        batch = Batch(shard=0, first_row=0, columns={"text": texts(pool)})
        odds[n_folds] = feature.of_batch(given_, feature.open(given_), batch)["log_odds"]
        models[n_folds] = [LinearModel.load(path) for path in paths]
        with pytest.raises(RecipeError, match="expected one of the model's labels, found 'hq'"):
            LogOdds(model=made, of_label="hq").open(given_)
        if n_folds == 1:
            scores = ClassifierScores(model=made)
            p = scores.of_batch(given_, scores.open(given_), batch)["p_1"]
            np.testing.assert_allclose(p, 1 / (1 + np.exp(-odds[1])), atol=1e-6)
    folds = fold_of(keys, 7, made.use, 2)
    for fold, model in enumerate(models[2]):
        found = model.log_odds(texts(pool), 1)
        np.testing.assert_array_equal(odds[2][folds == fold], found[folds == fold])
        # members that were a model's negatives look less like the target to it than to the other model
        members = (labels == 1) & (folds != fold)
        assert found[members].mean() < odds[2][members].mean()
    assert odds[2][labels == 1].mean() > odds[1][labels == 1].mean()
