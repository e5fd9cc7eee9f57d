"""Document scoring: the card's oracles, packing against one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError
from prill.lm.score import EvalSet, score_documents, windows
from prill.lm.scoring.packing import best_fit
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm.data import Rows, stack_rows  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.parameters import views  # noqa: E402

SHAPE = Shape(vocab_size=50, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)


def documents(*lengths: int) -> EvalSet:
    rng = np.random.default_rng(0)
    docs = [rng.integers(1, 50, size=n).astype(np.uint16) for n in lengths]
    return EvalSet(docs=docs, n_bytes=np.array(lengths), eos=0, name="held-out")


def test_windows_oracle() -> None:
    # ten tokens 1..10, prefix 0, m = 4, as (inputs, targets)
    tokens = list(range(1, 11))

    def shown(context: int) -> list[tuple[list[int], list[int]]]:
        padded = [0, *tokens]
        return [
            (padded[w.first : w.scored + 1], tokens[w.scored : w.stop])
            for w in windows(10, 4, context=context)
        ]

    assert shown(1) == [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8]), ([6, 7, 8], [9, 10])]
    assert shown(2) == [([0], [1, 2, 3, 4]), ([3, 4], [5, 6, 7]), ([6, 7], [8, 9, 10])]


@given(st.integers(1, 200), st.integers(1, 20), st.data())
def test_every_token_is_scored_once(n: int, m: int, data: st.DataObject) -> None:
    context = data.draw(st.integers(1, m))
    found = windows(n, m, context=context)
    assert [t for w in found for t in range(w.scored, w.stop)] == list(range(n))
    assert all(0 <= w.first <= w.scored < w.stop and w.stop - w.first <= m for w in found)


@given(st.lists(st.integers(1, 16), max_size=40))
def test_rows_hold_every_window_once(lengths: list[int]) -> None:
    rows = best_fit(lengths, 16, most=99)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 16 for row in rows)


def test_a_uniform_model_gives_n_ln_v() -> None:
    stack = StackedLlama.init(SHAPE, [0, 1])
    views(stack.flat, SHAPE)["final_norm"].zero_()  # hidden states 0: all logits equal
    evals = documents(1, 16, 17, 100, 3)
    expected = np.tile(evals.n_tokens * math.log(50), (2, 1))
    np.testing.assert_allclose(score_documents(stack, evals), expected, rtol=1e-6)


def test_packed_equals_one_document_at_a_time() -> None:
    stack = StackedLlama.init(SHAPE, [0, 1])
    stack.flat += 0.1 * torch.randn(stack.flat.shape, generator=torch.Generator().manual_seed(1))
    evals = documents(1, 5, 16, 17, 33, 40, 2, 9, 9, 7)
    packed = score_documents(stack, evals)
    for index, doc in enumerate(evals.docs):
        total = np.zeros(2)
        for w in windows(len(doc), 16):
            tokens = np.concatenate([[0], doc]).astype(np.int64)
            inputs, targets = tokens[w.first : w.stop][None], tokens[w.first + 1 : w.stop + 1][None]
            one = Rows(
                inputs=inputs,
                targets=targets,
                positions=np.arange(inputs.shape[1])[None],
                segments=np.zeros_like(inputs),
            )
            losses = torch.log_softmax(stack.logits(stack.pack(stack_rows([one, one]))), 2)
            chosen = losses.gather(2, torch.from_numpy(targets)[None].expand(2, -1, -1).reshape(2, -1, 1))
            total -= chosen[:, w.scored - w.first :, 0].double().sum(1).numpy()
        np.testing.assert_allclose(packed[:, index], total, rtol=1e-5)


def test_order_of_documents_changes_nothing_beyond_rounding() -> None:
    stack = StackedLlama.init(SHAPE, [0])
    evals = documents(5, 30, 16, 2)
    turned = EvalSet(docs=evals.docs[::-1], n_bytes=evals.n_bytes[::-1].copy(), eos=0)
    np.testing.assert_allclose(
        score_documents(stack, evals)[:, ::-1], score_documents(stack, turned), rtol=1e-6
    )


def test_degenerate_sets_are_refused() -> None:
    with pytest.raises(DataError, match="found 0 documents"):
        EvalSet(docs=[], n_bytes=np.array([], dtype=np.int64), eos=0)
    with pytest.raises(DataError, match=r"held, 1: a document must have at least one token"):
        EvalSet(docs=[np.array([1]), np.array([], dtype=int)], n_bytes=np.array([1, 0]), eos=0, name="held")
    bad = EvalSet(docs=[np.array([50])], n_bytes=np.array([1]), eos=0, name="held")
    with pytest.raises(DataError, match="below the vocabulary size 50, found 50"):
        score_documents(StackedLlama.init(SHAPE, [0]), bad)


def test_a_diverged_model_is_an_error_that_names_the_document() -> None:
    stack = StackedLlama.init(SHAPE, [0])
    stack.flat.fill_(float("nan"))
    with pytest.raises(
        DataError, match=r"held-out, document 0: a loss must be finite, found nan under model 0"
    ):
        score_documents(stack, documents(3))
