"""Sketches: what is kept of a text, and the sample that asks for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.data import TokenStream
from prill.lm.samples.registry import SAMPLES
from prill.lm.samples.sketches import Sketches, key_tokens, token_counts
from prill.lm.samples.transform import Documents

VOCAB = 50


def documents(texts: list[list[int]], visible: bool = False) -> Documents:
    stream = TokenStream.from_documents([np.array(text, np.int64) for text in texts], eos=0)
    if visible:
        shown = np.zeros(stream.n_tokens, np.bool_)
        stream = TokenStream(tokens=stream.tokens, doc_starts=stream.doc_starts, visible=shown)
    return Documents(
        stream=stream,
        hashes=np.arange(len(texts), dtype=np.uint64),
        encode=lambda texts: [],
        vocab_size=VOCAB,
    )


def test_a_sketch_worked_by_hand() -> None:
    # corpus: token 1 is common (99 + 1 of 128), the others rare (4: 15 + 1, 5: 11 + 1)
    counts = np.zeros(VOCAB, np.int64)
    counts[[1, 4, 5]] = [99, 15, 11]
    counts = counts[:6]  # smoothed total: 100 + 16 + 12 + 3 unseen = 131
    text = np.array([1, 1, 4, 5, 1, 1, 1, 5])
    # -ln share: 1 0.27, 4 2.10, 5 2.39; with counts in the text 5, 1, 2: 0.70, 2.10, 4.05.
    # sums of two in a row: 1.41 2.80 6.15 4.75 1.41 1.41 4.75; the best window of each token:
    # 1.41 2.80 6.15 6.15 4.75 1.41 4.75 4.75
    kept = key_tokens(text, np.array([8]), counts, share=0.5, span=2)
    assert kept.tolist() == [False, False, True, True, True, False, True, False]
    given_documents = documents([text.tolist()])
    stream = Sketches(row_tokens=32, share=0.5, span=2, counts=np.pad(counts, (0, VOCAB - 6)))(
        given_documents, seed=0
    )
    mask, begin = VOCAB, VOCAB + 1
    sample = [mask, 4, 5, 1, mask, 1, mask, begin, *text.tolist(), 0]
    assert stream.tokens[: len(sample)].tolist() == sample
    assert stream.visible is not None
    assert stream.visible.tolist() == [True] * 8 + [False] * 24
    assert stream.weights is not None
    assert stream.weights.tolist() == [0.0] * 8 + [1.0] * 9 + [0.0] * 15


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=60), min_size=1, max_size=6),
    share=st.floats(0.05, 0.9),
    span=st.integers(1, 5),
    row_tokens=st.integers(16, 70),
)
def test_the_text_follows_its_sketch(
    texts: list[list[int]], share: float, span: int, row_tokens: int
) -> None:
    made = Sketches(row_tokens=row_tokens, share=share, span=span)
    stream = made(documents(texts), seed=0)
    assert stream.n_tokens % row_tokens == 0
    assert stream.visible is not None
    assert stream.origins is not None
    found: list[tuple[int, ...]] = []
    for i in range(stream.n_documents):
        part = slice(stream.doc_starts[i], stream.doc_starts[i + 1])
        assert part.start // row_tokens == (part.stop - 1) // row_tokens
        sketch = stream.tokens[part][stream.visible[part]].astype(int).tolist()
        text = np.trim_zeros(stream.tokens[part][~stream.visible[part]].astype(int), "b").tolist()
        assert sketch[-1] == VOCAB + 1
        words = [token for token in sketch if token < VOCAB]
        assert len(words) == min(max(int(share * len(text)), 1), len(text))
        left = iter(text)
        assert all(word in left for word in words)  # in the order of the text
        masks = np.array(sketch) == VOCAB
        assert not np.any(masks[1:] & masks[:-1])
        found.append((int(stream.origins[i]), *text))
    size = made.piece_tokens
    expected = [
        (number, *text[first : first + size])
        for number, text in enumerate(texts)
        for first in range(0, max(len(text), 1), size)
    ]
    assert sorted(found) == sorted(expected)


@given(st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=30), min_size=2, max_size=5), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_sketch_does_not_depend_on_its_neighbours(texts: list[list[int]], span: int) -> None:
    counts = token_counts(documents(texts).stream, VOCAB)
    sizes = np.array([len(text) for text in texts])
    together = key_tokens(
        np.concatenate([np.array(text, np.int64) for text in texts]), sizes, counts, share=0.3, span=span
    )
    alone = [
        key_tokens(np.array(text, np.int64), np.array([len(text)]), counts, share=0.3, span=span)
        for text in texts
    ]
    assert np.array_equal(together, np.concatenate(alone))


def test_repeated_rare_tokens_are_kept_before_common_ones() -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(1, 5, size=100)
    text[[20, 21, 22, 60, 61, 62]] = [40, 41, 42, 40, 41, 42]
    counts = np.full(VOCAB, 2)
    counts[1:5] = 1000
    kept = key_tokens(text, np.array([100]), counts, share=0.1, span=3)
    assert kept[[20, 21, 22, 60, 61, 62]].all()


def test_settings_are_checked_and_recorded() -> None:
    with pytest.raises(RecipeError, match="`share` must be between 0 and 1, found 0"):
        SAMPLES.build("sketches", {"share": 0.0, "span": 0}, where="samples")
    with pytest.raises(DataError, match="earlier transform"):
        Sketches()(documents([[1, 2]], visible=True), seed=0)
    made = SAMPLES.build("sketches", {"share": 0.2})
    assert made.n_added == 2
    assert made.as_record()["settings"] == {"share": 0.2, "span": 3}
    assert made.as_record()["row_tokens"] == 512
    assert made.as_record() != Sketches(share=0.2, counts=np.ones(VOCAB, np.int64)).as_record()
