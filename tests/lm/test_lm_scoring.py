"""Packed scoring against one document at a time: proxies, real bases, any learner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, InternalError, RecipeError, ResourceError
from prill.lm.scoring.packing import best_fit
from prill.lm.scoring.rows import Layout, packed_rows
from prill.lm.scoring.windows import windows
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from base_models import VOCAB, make_base  # noqa: E402

from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.parameters import views  # noqa: E402
from prill.lm.scoring.rows import ScoringRow  # noqa: E402
from prill.lm.scoring.scorer import LearnerScorer, scorer_of  # noqa: E402
from prill.lm.scoring.stacked import StackedScorer  # noqa: E402
from prill.lm.scoring.stream import Flush, ScoreSettings, layout_of, score_stream  # noqa: E402
from prill.lm.scoring.token_values import Head, TokenValues, token_values  # noqa: E402

SHAPE = Shape(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
LENGTHS = [1, 5, 16, 17, 33, 0, 40, 2, 9, 9, 7, 16]
Docs = list[np.ndarray[Any, np.dtype[np.uint16]]]


def documents(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> Docs:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCAB, size=n).astype(np.uint16) for n in lengths]


def stack(n_models: int = 2, **changes: Any) -> StackedLlama:
    """Models far from their initialisation: no gain is 1, no logit near 0."""
    shape = Shape(**{**vars(SHAPE), **changes})
    model = StackedLlama.init(shape, list(range(n_models)))
    model.flat += 0.3 * torch.randn(model.flat.shape, generator=torch.Generator().manual_seed(1))
    return model


def scored(scorer: Any, docs: Docs, **changes: Any) -> tuple[np.ndarray[Any, Any], list[Flush]]:
    flushes = list(score_stream(scorer, docs, ScoreSettings(prefix=0, **changes)))
    return np.concatenate([flush.nats() for flush in flushes], axis=1), flushes


def alone(model: Any, doc: np.ndarray[Any, Any], *, m: int, c: int = 1) -> np.ndarray[Any, Any]:
    """Log-probability of every token through all logits of the library's model, one window at a time."""
    padded = torch.tensor([0, *doc.tolist()])
    found = []
    for w in windows(len(doc), m, context=c):
        logits = model(input_ids=padded[None, w.first : w.stop], use_cache=False).logits[0].double()
        logs = torch.log_softmax(logits, 1).gather(1, padded[w.first + 1 : w.stop + 1, None])[:, 0]
        found.append(logs[w.scored - w.first :].detach().numpy())
    return np.concatenate(found) if found else np.zeros(0)


def test_packing_oracles() -> None:
    def sizes(lengths: list[int], capacity: int) -> list[list[int]]:
        return [[lengths[i] for i in row] for row in best_fit(lengths, capacity, most=99)]

    assert sizes([10, 7, 5, 4, 3, 1], 10) == [[10], [7, 3], [5, 4, 1]]
    assert sizes([6, 5, 5, 4, 3, 3, 2, 2], 10) == [[6, 4], [5, 5], [3, 3, 2, 2]]
    with pytest.raises(InternalError, match="expected lengths of 1 to 4, found 2 to 5"):
        best_fit([2, 5], 4, most=9)


@given(st.lists(st.integers(1, 64), max_size=120), st.integers(64, 100), st.integers(1, 20))
def test_every_window_is_in_one_row(lengths: list[int], capacity: int, most: int) -> None:
    rows = best_fit(lengths, capacity, most=most)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity and 1 <= len(row) <= most for row in rows)
    if most == 20 and lengths:  # no two rows could be one: the bound of any fitting rule
        totals = sorted(sum(lengths[i] for i in row) for row in rows if len(row) < most)
        assert len(totals) < 2 or totals[0] + totals[1] > capacity


def test_five_thousand_lengths_leave_almost_no_room() -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(math.log(392), 1.0, 5000).astype(int), 8, 4096).tolist()
    rows = best_fit(lengths, 4096, most=256)
    assert sum(lengths) / (4096 * len(rows)) > 0.998  # sorted batches of 32 reach 0.982


@settings(max_examples=60)
@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 16), st.data())
def test_every_token_of_every_document_is_scored_once(
    lengths: list[int], max_len: int, data: st.DataObject
) -> None:
    layout = Layout(
        row_tokens=data.draw(st.integers(max_len, 40)),
        max_len=max_len,
        context=data.draw(st.integers(1, max_len)),
        most_windows=data.draw(st.integers(1, 9)),
        row_step=data.draw(st.integers(1, 12)),
    )
    docs = documents(lengths)
    starts = np.cumsum([0, *lengths])
    tokens = np.concatenate([np.zeros(0, int), *docs])
    before = np.concatenate(
        [np.zeros(0, int), *(np.concatenate([[0], doc[:-1]]) for doc in docs if len(doc))]
    )
    seen = []
    for row in packed_rows(docs, starts, layout, prefix=0):
        place = row.scores[row.scores >= 0]
        np.testing.assert_array_equal(row.targets[row.scores >= 0], tokens[place])
        np.testing.assert_array_equal(row.inputs[row.scores >= 0], before[place])
        assert row.n_tokens == sum(row.lengths) <= layout.row_tokens
        assert max(row.lengths) <= max_len
        assert sum(row.scores[np.cumsum(row.lengths) - 1] >= 0) <= layout.most_windows  # the others fill up
        assert row.n_tokens % layout.row_step == 0 or row.n_tokens == layout.row_tokens
        seen += place.tolist()
    assert sorted(seen) == list(range(len(tokens)))


def test_the_context_of_a_window_must_fit_in_it() -> None:
    with pytest.raises(RecipeError, match="must be 1 to its length 4, found 5"):
        windows(10, 4, context=5)
    with pytest.raises(RecipeError, match="at most the 16 tokens of the model's context, found 17"):
        layout_of(StackedScorer(stack()), ScoreSettings(prefix=0, max_len=17))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("row_tokens", "context"), [(16, 1), (64, 1), (200, 8)])
def test_proxies_packed_equal_the_exported_model_alone(
    tmp_path: Path, tied: bool, row_tokens: int, context: int
) -> None:
    transformers = pytest.importorskip("transformers")
    from prill.lm.hf import export_llama

    model = stack(2, tied=tied)
    docs = documents()
    nats, flushes = scored(StackedScorer(model), docs, row_tokens=row_tokens * 2, context=context)
    for k in range(2):
        export_llama(tmp_path / str(k), model, k)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / str(k)).eval()
        expected = [alone(theirs, doc, m=16, c=context) for doc in docs]
        np.testing.assert_allclose(nats[k], [-logs.sum() for logs in expected], rtol=2e-6)
        np.testing.assert_allclose(flushes[0].values["log_prob"][k], np.concatenate(expected), atol=3e-5)


@pytest.mark.parametrize("kind", ["qwen2", "gemma2", "gpt-neox", "olmo2", "mistral", "granite"])
def test_real_bases_packed_equal_the_library_alone(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    from prill.lm.bases.base import TransformersBase

    folder = make_base(tmp_path, kind)
    base = TransformersBase(folder=folder)
    learner = base.learner([0], n_extra=0, dtype=torch.float32, device=torch.device("cpu"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    docs = documents()
    nats, _ = scored(scorer_of(learner), docs, max_len=20, context=5, row_tokens=50)
    expected = [-alone(theirs, doc, m=20, c=5).sum() for doc in docs]
    np.testing.assert_allclose(nats[0], expected, rtol=1e-5)


def test_bf16_is_close_to_fp32() -> None:
    model = stack(1)
    half = StackedLlama(model.shape, model.flat, dtype=torch.bfloat16)
    docs = documents([200, 100, 300])
    full, _ = scored(StackedScorer(model), docs)
    near, _ = scored(StackedScorer(half), docs)
    np.testing.assert_allclose(near, full, rtol=5e-3)


def test_rows_come_in_few_shapes_whatever_the_documents() -> None:
    settings = ScoreSettings(prefix=0, row_tokens=1024)
    layout = layout_of(StackedScorer(stack(1, seq_len=512)), settings)
    shapes = set()
    for seed in range(30):
        docs = documents(np.random.default_rng(seed).integers(1, 900, size=12).tolist())
        starts = np.cumsum([0, *map(len, docs)])
        shapes |= {row.n_tokens for row in packed_rows(docs, starts, layout, prefix=0)}
    assert shapes <= {256, 512, 768, 1024}


def test_any_learner_can_be_scored_through_its_losses() -> None:
    model = stack(2)
    docs = documents()
    slow = LearnerScorer(model, vocab_size=VOCAB, context=16)
    np.testing.assert_allclose(scored(slow, docs)[0], scored(StackedScorer(model), docs)[0], rtol=1e-5)
    with pytest.raises(RecipeError, match="gives losses only"):
        scored(slow, docs, is_whole=True)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(LENGTHS))), st.sampled_from([16, 40, 400]), st.integers(1, 300))
def test_mates_rows_and_flushes_change_nothing_beyond_rounding(
    order: list[int], row_tokens: int, flush_tokens: int
) -> None:
    scorer = StackedScorer(stack(1))
    docs = documents()
    expected, _ = scored(scorer, docs)
    turned, flushes = scored(
        scorer,
        [docs[i] for i in order],
        row_tokens=row_tokens,
        flush_tokens=flush_tokens,
        flush_documents=5,
        most_windows=3,
    )
    np.testing.assert_allclose(turned[0], expected[0][order], rtol=1e-5, atol=1e-6)
    assert sum(len(flush.n_tokens) for flush in flushes) == len(docs)
    assert all(len(f.n_tokens) == 1 or int(f.n_tokens.sum()) <= flush_tokens for f in flushes)


def test_the_same_call_gives_the_same_bytes() -> None:
    model, docs = stack(2), documents()
    first, _ = scored(StackedScorer(model), docs, flush_tokens=60)
    again, _ = scored(StackedScorer(model), docs, flush_tokens=60)
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("scale", [0.1, 30.0])  # below and above the bound without a running maximum
@pytest.mark.parametrize("cap", [None, 5.0])
def test_token_values_by_hand(scale: float, cap: float | None) -> None:
    drawn = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(700, 8, generator=drawn), torch.randn(2500, 8, generator=drawn)
    targets = torch.randint(0, 2500, (700,), generator=drawn)
    logits = scale * hidden.double() @ weight.double().T
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    logs = torch.log_softmax(logits, 1)
    own = logs.gather(1, targets[:, None])
    mean = (logs.exp() * logs).sum(1)
    variance = (logs.exp() * (logs - mean[:, None]) ** 2).sum(1)
    head = Head.of(weight, scale=scale, cap=cap)
    whole = token_values(hidden, head, targets, is_whole=True)
    fast = token_values(hidden, head, targets, is_whole=False)
    close = {"rtol": 1e-5, "atol": 1e-5 * max(1.0, scale)}
    for found in (whole.log_prob, fast.log_prob):
        torch.testing.assert_close(found.double(), own[:, 0], **close)
    assert whole.mean_log_prob is not None
    assert whole.var_log_prob is not None
    assert whole.rank is not None
    torch.testing.assert_close(whole.mean_log_prob.double(), mean, **close)
    torch.testing.assert_close(whole.var_log_prob.double(), variance, rtol=1e-4, atol=1e-4 * scale**2)
    if cap is None or scale < 1:  # else nearly all logits are one number, and rounding decides
        assert int((whole.rank - (logs > own).sum(1)).abs().max()) <= 2


def test_sums_means_and_variances_by_hand() -> None:
    # two documents of tokens (-1, -3) and (-2), with an empty one between them
    flush = Flush(
        first=0,
        starts=np.array([0, 2, 2, 3]),
        values={"log_prob": np.array([[-1.0, -3.0, -2.0]], np.float32)},
    )
    assert flush.nats().tolist() == [[4.0, 0.0, 2.0]]
    np.testing.assert_array_equal(flush.means("log_prob"), [[-2.0, np.nan, -2.0]])
    np.testing.assert_array_equal(flush.variances("log_prob"), [[1.0, np.nan, 0.0]])


def test_a_uniform_model_has_known_moments() -> None:
    model = stack(1)
    views(model.flat, SHAPE)["final_norm"].zero_()  # all logits equal
    _, (flush,) = scored(StackedScorer(model), documents(), is_whole=True)
    np.testing.assert_allclose(flush.values["mean_log_prob"], -math.log(VOCAB), rtol=1e-6)
    np.testing.assert_allclose(flush.values["var_log_prob"], 0.0, atol=1e-9)
    assert not flush.values["rank"].any()


def test_what_is_wrong_is_told_with_its_document() -> None:
    scorer = StackedScorer(stack(1))
    docs = documents([3, 4])
    docs[1][2] = VOCAB
    with pytest.raises(DataError, match=rf"document 1: token ids must be below .* {VOCAB}, found {VOCAB}"):
        scored(scorer, docs, flush_documents=1)
    model = stack(1)
    views(model.flat, SHAPE)["embedding"][0, 5] = torch.nan
    docs = [np.array([1, 2]), np.array([3, 5, 4])]
    with pytest.raises(DataError, match=r"loss must be finite, found nan under model 0"):
        scored(StackedScorer(model), docs, flush_documents=1)
    with pytest.raises(RecipeError, match="`row_tokens` must be at least 1, found 0"):
        ScoreSettings(prefix=0, row_tokens=0)


class Cramped:
    """A model on a machine that holds rows of at most 40 tokens."""

    n_models, vocab_size, context, row_tokens = 1, VOCAB, 512, None
    opening_id, gives_moments = None, True

    def score(self, row: ScoringRow, *, is_whole: bool, top: int = 0) -> list[TokenValues]:
        if row.n_tokens > 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return [TokenValues(torch.zeros(row.n_tokens))]


def test_too_little_memory_is_told_with_a_row_that_fits() -> None:
    with pytest.raises(ResourceError, match=r"(?s)a row of 512 tokens.*a row of 32 tokens fits.*`max_len`"):
        scored(Cramped(), documents([300]))
    assert scored(Cramped(), documents([300]), row_tokens=37)[0].tolist() == [[0.0]]
