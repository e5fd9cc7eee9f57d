"""UL2's denoisers: the published counts, the round trip, what is visible, whole rows."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.lm.data import TokenStream, batch, stack_rows
from prill.lm.feed.stream import StreamFeed
from prill.lm.samples.denoisers import DENOISERS, Convention, Denoisers, raw_length, sample_sizes
from prill.lm.samples.keyed_bits import keyed
from prill.lm.samples.registry import SAMPLES
from prill.lm.samples.spans import hidden_counts, parts
from prill.lm.samples.transform import Documents
from prill.lm.samples.whole_rows import best_fit, in_whole_rows
from prill.lm.shape import Shape

VOCAB = 100
Ints = NDArray[np.int64]


def documents(sizes: list[int], *, seed: int = 0, **channels: Any) -> Documents:
    rng = np.random.default_rng(seed)
    texts = [rng.integers(1, VOCAB, size=size) for size in sizes]
    stream = TokenStream.from_documents(texts, eos=0)
    for name, values in channels.items():
        stream = TokenStream(tokens=stream.tokens, doc_starts=stream.doc_starts, **{name: values})
    hashes = np.array(
        [int.from_bytes(hashlib.sha256(text.tobytes()).digest()[:8], "little") for text in texts], np.uint64
    )
    return Documents(stream=stream, hashes=hashes, encode=lambda texts: [], vocab_size=VOCAB)


def only(number: int, **changes: Any) -> Denoisers:
    weights = tuple(float(i == number) for i in range(len(DENOISERS)))
    return Denoisers(weights=weights, **changes)


def restored(sample: Ints, visible: NDArray[np.bool_], made: Denoisers) -> Ints:
    """The text of a sample: target spans put where their sentinels stand in the input."""
    tags = VOCAB + made.n_sentinels
    inputs, target = sample[visible], np.trim_zeros(sample[~visible], "b")  # without end-of-text and filling
    inputs = inputs[inputs < tags]
    if not len(inputs) or inputs.max() < VOCAB:
        return np.concatenate([inputs, target])
    marks = np.flatnonzero(target >= VOCAB)
    spans = np.split(target, marks)[1:]
    found = []
    for token in inputs:
        found += spans[token - VOCAB][1:].tolist() if token >= VOCAB else [int(token)]
    return np.array(found, np.int64)


@pytest.mark.parametrize(
    ("number", "hidden", "spans", "n_input", "n_target"),
    [
        (0, 77, 26, 462, 104),
        (1, 77, 10, 446, 88),
        (2, 256, 85, 342, 342),
        (3, 256, 32, 289, 289),
        (4, 77, 1, 437, 79),
        (5, 256, 4, 261, 261),
        (6, 128, 1, 384, 128),
    ],
)
def test_counts_at_512_are_the_published_ones(
    number: int, hidden: int, spans: int, n_input: int, n_target: int
) -> None:
    denoiser = DENOISERS[number]
    counts = hidden_counts(512, rate=denoiser.rate, mean_span=denoiser.mean_span or np.inf)
    assert (int(counts[0]), int(counts[1])) == (hidden, spans)
    assert tuple(map(int, sample_sizes(512, denoiser))) == (n_input, n_target)
    made = only(number, row_tokens=1024, convention="raw", length=512)
    stream = made(documents([512]), seed=3)
    assert int(stream.visible.sum()) == n_input + 1  # the mode tag
    # S at the end of its document trains on end-of-text; the ends of the others are in the count
    assert int((stream.weights > 0).sum()) == n_target + (number == 6)
    text = stream.tokens[stream.visible]
    assert int(((text >= VOCAB) & (text < VOCAB + made.n_sentinels)).sum()) == (spans if number < 6 else 0)


def test_a_fixed_input_of_512_takes_568_raw_tokens() -> None:
    assert raw_length(DENOISERS[0], 512, "input") == 568
    assert tuple(map(int, sample_sizes(568, DENOISERS[0]))) == (512, 114)


@pytest.mark.parametrize("convention", ["sample", "input", "raw"])
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_the_raw_length_is_the_longest_that_fits(convention: Convention, denoiser: Any) -> None:
    def counted(size: int) -> int:
        inputs, targets = map(int, sample_sizes(size, denoiser))
        whole = inputs + targets + (1 if denoiser.mean_span else 2)
        return {"sample": whole, "input": inputs, "raw": size}[convention]

    size = raw_length(denoiser, 200, convention)
    assert counted(size) <= 200 < counted(size + 1)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 150), min_size=1, max_size=8),
    number=st.integers(-1, 6),
    row_tokens=st.integers(40, 90),
    mode_tags=st.booleans(),
    seed=st.integers(0, 5),
)
def test_every_text_can_be_put_together_again(
    sizes: list[int], number: int, row_tokens: int, mode_tags: bool, seed: int
) -> None:
    given_documents = documents(sizes)
    made = (
        Denoisers(row_tokens=row_tokens, mode_tags=mode_tags)
        if number < 0
        else only(number, row_tokens=row_tokens, mode_tags=mode_tags)
    )
    stream = made(given_documents, seed=seed)
    assert stream.n_tokens % row_tokens == 0
    assert stream.visible is not None
    assert stream.weights is not None
    assert stream.origins is not None
    found = []
    for i in range(stream.n_documents):
        part = slice(stream.doc_starts[i], stream.doc_starts[i + 1])
        visible, sample = stream.visible[part], stream.tokens[part].astype(np.int64)
        assert not np.any(np.diff(visible.astype(int)) > 0)  # what is visible opens the sample
        assert not np.any(stream.weights[part][visible])
        is_mark = (sample >= VOCAB) & (sample < VOCAB + made.n_sentinels) & visible
        assert not np.any(is_mark[1:] & is_mark[:-1])
        assert part.start // row_tokens == (part.stop - 1) // row_tokens
        found.append((int(stream.origins[i]), *restored(sample, visible, made).tolist()))
    source, pieces = given_documents.stream, made.pieces(given_documents, seed=seed)
    expected = [
        (document, *source.tokens[start : start + size].tolist())
        for document, start, size in zip(pieces.document, pieces.start, pieces.size, strict=True)
    ]
    assert sorted(found) == sorted(expected)
    assert sum(pieces.size) == sum(sizes)
    assert pieces.is_last.sum() == len(sizes)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    made = Denoisers(row_tokens=64)

    def samples(given_documents: Documents) -> list[list[int]]:
        stream = made(given_documents, seed=1)
        return sorted(
            np.trim_zeros(stream.tokens[a:b], "b").tolist()
            for a, b in zip(stream.doc_starts, stream.doc_starts[1:], strict=False)
        )

    both, first = documents([50, 70]), documents([50])
    assert np.array_equal(both.stream.tokens[:51], first.stream.tokens)
    alone = samples(first)
    assert all(sample in samples(both) for sample in alone)
    assert made(both, seed=1).digest() == made(both, seed=1).digest() != made(both, seed=2).digest()


def test_the_mixture_is_drawn_in_its_shares() -> None:
    many = documents([30] * 6000, seed=4)
    for mixture, shares in (("uniform", [2 / 7, 4 / 7, 1 / 7]), ("ul2r", [0.25, 0.25, 0.5])):
        pieces = Denoisers(mixture=mixture, row_tokens=128).pieces(many, seed=0)
        modes = np.array(["RXS".index(d.mode) for d in DENOISERS])[pieces.denoiser]
        # 6,000 draws: a share's standard error is at most 0.0065
        assert np.allclose(np.bincount(modes, minlength=3) / len(modes), shares, atol=0.03)


def test_parts_are_uniform_over_all_ways_of_cutting() -> None:
    n = 6000
    bits = keyed(np.arange(n), seed=0, use="test")
    found = parts(np.full(n, 5), np.full(n, 3), bits).reshape(n, 3)
    assert np.all(found.sum(1) == 5)
    assert found.min() == 1
    ways, counts = np.unique(found, axis=0, return_counts=True)
    assert len(ways) == 6  # 4 choose 2
    assert counts.min() > 1000 - 5 * 29  # five standard errors


def test_targets_of_a_row_follow_their_visible_input() -> None:
    stream = only(6, row_tokens=32)(documents([20, 20, 9]), seed=0)
    rows = batch(stream, np.arange(stream.n_tokens // 32), seq_len=32)
    assert rows.visible is not None
    assert rows.weights is not None
    for segments, visible, weights in zip(rows.segments, rows.visible, rows.weights, strict=True):
        for segment in np.unique(segments):
            here = segments == segment
            assert visible[here][0]
            assert weights[here].any()
            assert not weights[here][0]


def test_weights_of_an_earlier_transform_stay_on_their_targets() -> None:
    given_documents = documents([60])
    weights = np.linspace(1, 2, 61, dtype=np.float32)
    weighted = Documents(
        stream=TokenStream(
            tokens=np.arange(1, 62, dtype=np.uint32) % 61,
            doc_starts=np.array([0, 61]),
            weights=weights,
        ),
        hashes=given_documents.hashes,
        encode=given_documents.encode,
        vocab_size=VOCAB,
    )
    stream = only(2, row_tokens=128)(weighted, seed=0)
    assert stream.visible is not None
    assert stream.weights is not None
    trained = ~stream.visible & (stream.tokens < VOCAB) & (stream.tokens > 0)
    assert np.allclose(stream.weights[trained], weights[stream.tokens[trained] - 1])


@pytest.mark.parametrize("name", ["denoisers", "sketches"])
def test_a_model_learns_from_samples_what_they_hide(name: str) -> None:
    torch = pytest.importorskip("torch")
    from prill.lm.model import StackedLlama

    rng = np.random.default_rng(0)
    texts = [1 + (int(rng.integers(20)) + np.arange(24)) % 20 for _ in range(200)]
    given_documents = Documents(
        stream=TokenStream.from_documents(texts, eos=0),
        hashes=np.arange(200, dtype=np.uint64),
        encode=lambda texts: [],
        vocab_size=21,
    )
    made = SAMPLES.build(name, {}, offered={"row_tokens": 64})
    stream = made(given_documents, seed=0)
    shape = Shape(vocab_size=21 + made.n_added, d_model=32, n_layers=2, n_heads=2, d_ff=48, seq_len=64)
    model = StackedLlama.init(shape, [0])
    adam = torch.optim.AdamW([model.flat], lr=1e-2, weight_decay=0.0)
    feed = StreamFeed(stream=stream, row_tokens=64, seed=0)
    curve = []
    for step in range(60):
        packed = model.pack(stack_rows([feed.rows(4 * step, 4)]))
        losses, model.flat.grad = model.losses_and_gradient(packed)
        adam.step()
        curve.append(float(losses[0]))
    assert np.mean(curve[-5:]) < 0.6 * curve[0]
    # a target's state knows its whole input: another last visible token changes the first visible state
    rows = stack_rows([feed.rows(0, 1)])
    assert rows.visible is not None
    last = int(np.flatnonzero(rows.visible[0, 0] & (rows.segments[0, 0] == rows.segments[0, 0, 0]))[-1])
    changed = rows.inputs.copy()
    changed[0, 0, last] = 1 + changed[0, 0, last] % 20
    before = model.states(model.pack(rows))[0, 0]
    after = model.states(model.pack(dataclasses.replace(rows, inputs=changed)))[0, 0]
    assert not torch.allclose(before, after)


def test_tags_follow_the_vocabulary_and_suffice() -> None:
    made = Denoisers(row_tokens=1024, convention="raw", length=512)
    assert made.n_sentinels == 85
    assert made.n_added == 89 == len(made.tags(VOCAB))
    stream = only(2, row_tokens=1024, convention="raw", length=512)(documents([700] * 5), seed=0)
    assert int(stream.tokens.max()) == made.tags(VOCAB)["<end>"] == VOCAB + 88


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="a row of 512 tokens, found"):
        Denoisers(row_tokens=512, convention="raw", length=512)
    with pytest.raises(RecipeError, match="seven shares"):
        Denoisers(weights=(1.0,))
    with pytest.raises(RecipeError, match="mixture"):
        SAMPLES.build("denoisers", {"mixture": "ul3"}, where="samples")
    given_documents = documents([20])
    shown = documents([20], visible=np.zeros(21, np.bool_))
    with pytest.raises(DataError, match="earlier transform"):
        Denoisers()(shown, seed=0)
    with pytest.raises(DataError, match="must fit into a row of 16 tokens, found one of 21"):
        in_whole_rows(given_documents.stream, 16)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_rows_are_filled_without_cutting(sizes: list[int], window: int) -> None:
    order, room = best_fit(np.array(sizes), 40, window=window)
    assert sorted(order) == list(range(len(sizes)))
    ends = np.cumsum(np.array(sizes)[order] + room)
    starts = ends - room - np.array(sizes)[order]
    assert ends[-1] % 40 == 0
    assert room.min() >= 0
    assert np.all(starts // 40 == (ends - 1) // 40)
    assert np.all(ends[room > 0] % 40 == 0)
    # best fit never leaves two rows of a window at most half full
    if window >= len(sizes):
        filled = np.bincount(starts // 40, weights=np.array(sizes)[order])
        assert (filled <= 20).sum() <= 1
