"""Preferences as data and weights by token: segments of bytes become tokens, tags, scores and weights."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from prill.corpus.tokenizer import TextTokenizer, load_tokenizer, train_bpe
from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.objectives.objective import Objective
from prill.lm.objectives.unlikelihood import Unlikelihood
from prill.lm.samples.chain import columns_needed, make_samples
from prill.lm.samples.metadata import Metadata
from prill.lm.samples.preference import (
    PreferenceFilter,
    PreferenceScores,
    PreferenceTags,
    aligned_share,
    score_spread,
)
from prill.lm.samples.prefixed import prefixed
from prill.lm.samples.registry import SAMPLES
from prill.lm.samples.segments import cut_texts, score_column
from prill.lm.samples.source_prefix import SourcePrefix
from prill.lm.samples.subset import NothingKeptError, take_documents
from prill.lm.samples.token_ends import token_ends
from prill.lm.samples.token_weights import TokenWeights
from prill.lm.samples.transform import Documents
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.train import Run, TrainSettings, train

TEXTS = ["Good one. Bad two! <bad> Good?", "", "日本語です。Été à Ōsaka.\n\nNext.", "one"]
SAMPLE = ["Good one. Bad two! the cat sat on the mat. an old bad cat\nfoo = 1\n  bar", "日本語です"] * 3
TOKENIZER = load_tokenizer(train_bpe(SAMPLE, 330))
EOS = TOKENIZER.eos_id


def word_tokenizer() -> TextTokenizer:
    """Words with a mark for the space before them, in lower case: tokens are not runs of the text's bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<|endoftext|>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator([*SAMPLE, *TEXTS], trainer)
    return load_tokenizer(tokenizer.to_str().encode())


def documents(
    texts: Sequence[str] = TEXTS, *, tokenizer: TextTokenizer = TOKENIZER, **columns: pa.Array
) -> Documents:
    stream = TokenStream.from_documents(tokenizer.encode_batch(texts), eos=tokenizer.eos_id)
    array = pa.array(texts, pa.large_string())
    return Documents(
        stream=stream,
        hashes=np.array([int(hashlib.sha256(t.encode()).hexdigest()[:16], 16) for t in texts], np.uint64),
        encode=tokenizer.encode_batch,
        vocab_size=tokenizer.vocab_size,
        fields=columns,
        texts=array,
        ends=token_ends(tokenizer, stream, array),
    )


def by_words(texts: Sequence[str], bad: str = "bad") -> pa.Array:
    """Scored sentences: 0.9 where a bad word stands, else 0.1."""

    def score(segments: pa.Array) -> Any:
        return np.array([0.9 if bad in one.lower() else 0.1 for one in segments.to_pylist()])

    return score_column(pa.array(texts, pa.large_string()), "sentence", score)


# segments


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("sentence", "One. Two? Three!\nFour", ["One.", " Two?", " Three!", "\nFour"]),
        ("sentence", "pi is 3.14. e.g. this", ["pi is 3.14.", " e.g.", " this"]),
        ("sentence", "A title\n\n\nText", ["A title\n\n\n", "Text"]),
        ("sentence", "One.\n\n \n\nTwo.\n", ["One.", "\n\n \n\nTwo.\n"]),
        ("sentence", " \n\n", [" \n\n"]),
        ("sentence", "日本。Ōsaka! Été", ["日本。Ōsaka!", " Été"]),
        ("line", "a = 1\n\n  b\nc", ["a = 1\n", "\n", "  b\n", "c"]),
        ("document", "One. Two.\nThree", ["One. Two.\nThree"]),
        ("line", "", []),
    ],
)
def test_segments(unit: Any, text: str, expected: list[str]) -> None:
    found = cut_texts(pa.array(["x. y", text, "z\n"], pa.large_string()), unit)
    first, behind = found.offsets[1], found.offsets[2]
    raw = text.encode()
    spans = zip(found.starts[first:behind], found.stops[first:behind], strict=True)
    assert [raw[a:b].decode() for a, b in spans] == expected


@given(st.lists(st.text(alphabet="ab .!\n日", max_size=12), min_size=1, max_size=5), st.integers(0, 3))
def test_segments_cover_each_text_without_a_gap(texts: list[str], skip: int) -> None:
    array = pa.array([*(["!"] * skip), *texts], pa.large_string()).slice(skip)
    for unit in ("sentence", "line", "document"):
        found = cut_texts(array, unit)
        assert (found.stops > found.starts).all()
        for d, text in enumerate(texts):
            here = slice(found.offsets[d], found.offsets[d + 1])
            edges = [0, *found.stops[here].tolist()]
            assert found.starts[here].tolist() == edges[:-1]
            assert edges[-1] == len(text.encode())


def test_a_scorer_sees_the_segments_once_and_its_scores_come_back() -> None:
    seen = []

    def score(segments: pa.Array) -> Any:
        seen.extend(segments.to_pylist())
        return np.arange(len(segments), dtype=float)

    texts = pa.array(["skipped", "a. b", "", "c"], pa.large_string()).slice(1)
    column = score_column(texts, "sentence", score)
    assert seen == ["a.", " b", "c"]
    assert column.to_pylist() == [
        [{"start": 0, "stop": 2, "score": 0.0}, {"start": 2, "stop": 4, "score": 1.0}],
        [],
        [{"start": 0, "stop": 1, "score": 2.0}],
    ]


@pytest.mark.parametrize("scores", [[-1.0, 0.0], [math.nan, 0.0], [0.0]])
def test_scorers_must_give_a_score_a_segment(scores: list[float]) -> None:
    with pytest.raises(DataError, match="one finite number of at least 0 a segment"):
        score_column(pa.array(["a. b"], pa.large_string()), "sentence", lambda _: np.array(scores))


# where tokens end


@pytest.mark.parametrize("tokenizer", [TOKENIZER, word_tokenizer()], ids=["bytes", "words"])
def test_tokens_end_where_their_text_ends(tokenizer: TextTokenizer) -> None:
    docs = documents([*TEXTS, "  spaces  and\ttabs ", "ÀÉ old cat"], tokenizer=tokenizer)
    assert docs.ends is not None
    starts = docs.stream.doc_starts
    for text, a, b in zip(docs.texts.to_pylist(), starts, starts[1:], strict=False):
        ends = docs.ends[a:b]
        assert ends[-1] == len(text.encode())
        assert (np.diff(ends) >= 0).all()
        offsets = tokenizer._tokenizer.encode(text, add_special_tokens=False).offsets
        characters = [len(text[:stop].encode()) for _, stop in offsets]
        is_whole = tokenizer is not TOKENIZER or text.isascii()
        assert ends[:-1].tolist() == characters if is_whole else (ends[:-1] <= characters).all()


def test_byte_tokens_end_at_their_own_bytes() -> None:
    docs = documents(["日本語です。Été à Ōsaka."])
    assert docs.ends is not None
    raw = "日本語です。Été à Ōsaka.".encode()
    names = {i: t for t, i in TOKENIZER.settings()["model"]["vocab"].items()}
    alphabet = {c: b for b, c in zip(*byte_alphabet(), strict=True)}
    start = 0
    for token, end in zip(docs.stream.tokens[:-1].tolist(), docs.ends[:-1].tolist(), strict=True):
        assert bytes(alphabet[c] for c in names[token]) == raw[start:end]
        start = end


def byte_alphabet() -> tuple[list[int], list[str]]:
    """The bytes and the characters that stand for them in a byte-level tokenizer."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return [*plain, *others], [*map(chr, plain), *(chr(256 + i) for i in range(len(others)))]


def test_texts_of_another_stream_are_an_error() -> None:
    docs = documents()
    with pytest.raises(DataError, match="document 3: tokens must be those of the text of 5 bytes"):
        token_ends(TOKENIZER, docs.stream, pa.array([*TEXTS[:3], "other"], pa.large_string()))


# tags


def shown(stream: TokenStream, n_tags: int = 2) -> list[str]:
    """Samples as text, tags as [0] and [1]."""
    names = {TOKENIZER.vocab_size + tag: f"[{tag}]" for tag in range(n_tags)}
    found = []
    for a, b in itertools.pairwise(stream.doc_starts):
        text, run = "", []
        for token in [*stream.tokens[a:b].tolist(), EOS]:
            if token in names or token == EOS:
                text, run = text + TOKENIZER.decode(np.array(run, int)) + names.get(token, ""), []
            else:
                run.append(token)
        found.append(text)
    return found


def test_each_segment_follows_its_tag_and_text_never_becomes_one() -> None:
    docs = documents(segments=by_words(TEXTS))
    tags = PreferenceTags(threshold=0.5, drop=0.0)
    assert tags.needs == ("segments", "text")
    stream = tags(docs, seed=0)
    assert shown(stream) == [
        "[0]Good one.[1] Bad two![1] <bad> Good?",
        "",
        "[0]日本語です。Été à Ōsaka.[0]\n\nNext.",
        "[0]one",
    ]
    assert stream.weights is None
    masked = PreferenceTags(threshold=0.5, drop=0.0, weight=0.0)(docs, seed=0)
    assert masked.weights is not None
    assert ((masked.weights == 0) == (masked.tokens >= TOKENIZER.vocab_size)).all()


def test_all_tags_dropped_is_maximum_likelihood_byte_for_byte() -> None:
    docs = documents(segments=by_words(TEXTS))
    assert PreferenceTags(threshold=0.5, drop=1.0)(docs, seed=0).digest() == docs.stream.digest()


def test_a_threshold_of_0_tags_by_0() -> None:
    docs = documents(["a", "b"], score=pa.array([0.0, 1e-9]))
    stream = PreferenceTags(threshold=0.0, drop=0.0, column="score", of="document")(docs, seed=0)
    assert shown(stream) == ["[0]a", "[1]b"]


def test_dropped_tags_depend_on_the_text_and_the_segment_alone() -> None:
    texts = [f"{i} good. bad cat! good." for i in range(300)]
    docs = documents(texts, segments=by_words(texts))
    tags = PreferenceTags(threshold=0.5, drop=0.3)
    found = shown(tags(docs, seed=1))
    share = 1 - sum(text.count("[") for text in found) / 900
    assert 0.25 < share < 0.35
    order = np.random.default_rng(0).permutation(300)
    assert shown(tags(take_documents(docs, order), seed=1)) == [found[i] for i in order]
    assert shown(tags(docs, seed=2)) != found


# filter


def test_the_filter_keeps_documents_by_their_mean_score() -> None:
    docs = documents(segments=by_words(TEXTS))
    # means: (0.1 + 0.9 + 0.9) / 3, no segment, 0.1, 0.1
    kept = PreferenceFilter(threshold=0.5)(docs, seed=0)
    assert kept.origins is not None
    assert kept.origins.tolist() == [1, 2, 3]
    assert PreferenceFilter(threshold=math.inf)(docs, seed=0).digest() == docs.stream.digest()
    assert PreferenceFilter(threshold=0.64)(docs, seed=0).n_documents == 4
    with pytest.raises(NothingKeptError, match=r"mean score of at most 0\.05, found none; the least is 0\.1"):
        PreferenceFilter(threshold=0.05)(take_documents(docs, np.array([0, 2, 3])), seed=0)


def test_columns_follow_the_documents_that_a_chain_keeps() -> None:
    docs = documents(
        segments=by_words(TEXTS), source=pa.array(["a", "b", "c", None], pa.large_string()), url=pa.nulls(4)
    )
    chain = [PreferenceFilter(threshold=0.5), SourcePrefix(), Metadata()]
    stream = make_samples(chain, docs, seed=0)
    assert columns_needed(chain) == ("segments", "source", "text", "url")
    assert stream.origins is not None
    assert stream.origins.tolist() == [1, 2, 3]
    lines = "URL: unknown\n\n"
    assert shown(stream) == [f"{lines}b: ", f"{lines}c: {TEXTS[2]}", f"{lines}one"]


def test_transforms_of_the_text_come_before_those_that_change_tokens() -> None:
    docs = documents(segments=by_words(TEXTS), url=pa.nulls(4))
    with pytest.raises(RecipeError, match="'preference_tags', must come before"):
        make_samples([Metadata(), PreferenceTags(threshold=0.5)], docs, seed=0)
    tags = make_samples([PreferenceTags(threshold=0.5, drop=0.0), Metadata()], docs, seed=0)
    assert shown(tags)[3] == "URL: unknown\n\n[0]one"
    kept = make_samples(
        [PreferenceFilter(threshold=0.5), PreferenceTags(threshold=0.5, drop=0.0)], docs, seed=0
    )
    assert shown(kept)[1:] == ["[0]日本語です。Été à Ōsaka.[0]\n\nNext.", "[0]one"]


# scores


def test_tokens_get_the_score_of_their_segment() -> None:
    docs = documents(segments=by_words(TEXTS))
    stream = PreferenceScores()(docs, seed=0)
    assert stream.scores is not None
    n_good = len(TOKENIZER.encode_batch(["Good one."])[0])
    size = int(stream.doc_starts[1])
    np.testing.assert_allclose(stream.scores[:size], [0.1] * n_good + [0.9] * (size - n_good))
    assert stream.scores[size] == 0  # an empty document has no segment and no score
    assert (stream.scores[size + 1 :] == np.float32(0.1)).all()
    assert stream.tokens is docs.stream.tokens
    assert aligned_share(stream, 0.5) == pytest.approx(1 - (size - n_good) / stream.n_tokens)
    mean, deviation = score_spread(stream)
    standard = PreferenceScores(mean=mean, deviation=deviation)(docs, seed=0)
    assert score_spread(standard) == pytest.approx((0, 1), abs=1e-6)


@pytest.mark.parametrize("kind", ["json", "inside", "struct"])
def test_segments_are_read_from_any_column(kind: str) -> None:
    rows = [[{"start": 0, "stop": 3, "score": 0.5}], [], None, [{"start": 0, "stop": 3, "score": 0}]]
    name, column = "segments", pa.array(rows)
    if kind == "json":
        column = pa.array([None if row is None else json.dumps(row) for row in rows])
    if kind == "inside":
        name = "meta.preference.segments"
        column = pa.array([json.dumps({"preference": {"segments": r}}) for r in rows])
    docs = documents(["a b", "", "c", "d e"], **{name.partition(".")[0]: column})
    stream = PreferenceScores(column=name, missing=2.0)(docs, seed=0)
    assert stream.scores is not None
    starts = stream.doc_starts[:-1]
    assert stream.scores[starts].tolist() == [0.5, 0.0, 2.0, 0.0]
    with pytest.raises(DataError, match=r"document 2: expected a score in .*, found none"):
        PreferenceScores(column=name)(docs, seed=0)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([{"start": 0, "stop": 9, "score": 0.5}], "lie within the text, found 0 to 9"),
        ([{"start": 2, "stop": 2, "score": 0.5}], "longer than 0 bytes"),
        ([{"start": 1, "stop": 3, "score": 0.5}, {"start": 0, "stop": 1, "score": 1.0}], "must rise"),
        ([{"start": 0, "stop": 2, "score": 0.5}, {"start": 1, "stop": 3, "score": 1.0}], "must not overlap"),
        ([{"start": 0, "stop": 2, "score": math.inf}], "must be finite, found inf"),
        ([0.5], r"expected lists of \{start, stop\}"),
    ],
)
def test_bad_segments_are_an_error(row: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        PreferenceScores()(documents(["abc"], segments=pa.array([row])), seed=0)


def test_columns_that_are_not_what_they_must_be() -> None:
    docs = documents(["abc"], score=pa.array(["high"]), other=pa.array([["x"]]))
    with pytest.raises(DataError, match="expected numbers in 'score', found string: high"):
        PreferenceScores(column="score", of="document")(docs, seed=0)
    with pytest.raises(DataError, match="expected words in 'other'"):
        SourcePrefix(column="other")(docs, seed=0)
    with pytest.raises(DataError, match=r"expected the column 'scor', found none(.|\n)*'score'"):
        PreferenceScores(column="scor")(docs, seed=0)


# weights


def weights_of(transform: TokenWeights, docs: Documents) -> list[list[float]]:
    stream = transform(docs, seed=0)
    assert stream.weights is not None
    return [stream.weights[a:b].tolist() for a, b in itertools.pairwise(stream.doc_starts)]


def test_documents_spans_and_tokens_weigh() -> None:
    texts = ["keep this bad thing", "one"]
    sizes = [len(ids) for ids in TOKENIZER.encode_batch(texts)]
    docs = documents(
        texts,
        weight=pa.array(["0.5", None]),
        spans=pa.array([[{"start": 10, "stop": 13, "kind": "x"}], None]),
        each=pa.array([[0.25] * sizes[0], None]),
    )
    assert weights_of(TokenWeights(column="weight"), docs) == [[0.5] * (sizes[0] + 1), [1] * (sizes[1] + 1)]
    assert weights_of(TokenWeights(column="each", of="tokens"), docs) == [
        [0.25] * sizes[0] + [1], [1] * (sizes[1] + 1)
    ]  # fmt: skip
    (masked, free) = weights_of(TokenWeights(column="spans", of="spans"), docs)
    assert docs.ends is not None
    starts = [0, *docs.ends[: sizes[0] - 1]]
    touched = [a < 13 and b > 10 for a, b in zip(starts, docs.ends[: sizes[0]], strict=True)]
    assert masked == [0.0 if t else 1.0 for t in touched] + [1.0]
    assert any(touched)
    assert free == [1] * (sizes[1] + 1)


@given(st.data())
def test_a_token_takes_the_least_weight_of_its_bytes(data: Any) -> None:
    texts = data.draw(st.lists(st.text(alphabet="ab 日é.", max_size=14), min_size=1, max_size=4))
    spans, bytes_of = [], []
    for text in texts:
        n = len(text.encode())
        weights = [[] for _ in range(n)]
        mine = []
        for _ in range(data.draw(st.integers(0, 3)) if n else 0):
            start = data.draw(st.integers(0, n - 1))
            stop = data.draw(st.integers(start + 1, n))
            weight = data.draw(st.sampled_from([0.0, 0.5, 3.0, None]))
            mine.append({"start": start, "stop": stop, "weight": weight})
            for place in range(start, stop):
                weights[place].append(0.25 if weight is None else weight)
        spans.append(sorted(mine, key=lambda s: s["start"]))
        bytes_of.append([min(w) if w else 1.5 for w in weights])
    kind = pa.list_(pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("weight", pa.float64())]))
    docs = documents(texts, spans=pa.array(spans, kind))
    found = weights_of(TokenWeights(column="spans", of="spans", span_weight=0.25, outside=1.5), docs)
    assert docs.ends is not None
    for d, (a, b) in enumerate(itertools.pairwise(docs.stream.doc_starts)):
        edges = [0, *docs.ends[a : b - 1].tolist()]
        assert found[d] == [*(min(bytes_of[d][i:j]) for i, j in itertools.pairwise(edges)), 1.5]


def test_spans_reach_tokens_that_have_no_bytes_of_their_own() -> None:
    tokenizer = word_tokenizer()
    docs = documents(
        ["old cat", "日本 cat"], tokenizer=tokenizer, spans=pa.array([None, [{"start": 0, "stop": 6}]])
    )
    for weights, (a, b) in zip(
        weights_of(TokenWeights(column="spans", of="spans"), docs),
        itertools.pairwise(docs.stream.doc_starts),
        strict=True,
    ):
        ends = docs.ends[a:b]
        assert weights == [0.0 if a and end <= 6 else 1.0 for end in ends]


def test_weights_multiply_and_are_bounded() -> None:
    docs = documents(["a b", "c"], one=pa.array([4.0, 0.1]), two=pa.array([1.0, 0.5]))
    stream = make_samples(
        [TokenWeights(column="one", lowest=0.2, highest=2.0, scale=0.5), TokenWeights(column="two")],
        docs,
        seed=0,
    )
    assert stream.weights is not None
    assert stream.weights[stream.doc_starts[:-1]].tolist() == pytest.approx([1.0, 0.05])
    assert TokenWeights(column="one", highest=1.0, lowest=1.0)(docs, seed=0) is docs.stream


@pytest.mark.parametrize(
    ("settings", "column", "told"),
    [
        ({}, pa.array([-1.0]), r"document 0: weights in 'w' must be finite and at least 0, found -1\.0"),
        ({"of": "tokens"}, pa.array([[1.0]]), "needs one weight a token, found 1 for"),
        ({"of": "tokens"}, pa.array([["x"]]), "expected lists of numbers in 'w'"),
        ({"of": "spans"}, pa.array([[{"start": 0, "stop": 1, "weight": -2.0}]]), r"at least 0, found -2\.0"),
    ],
)
def test_bad_weights_are_an_error(settings: dict[str, Any], column: pa.Array, told: str) -> None:
    with pytest.raises(DataError, match=told):
        TokenWeights(column="w", **settings)(documents(["one old cat"], w=column), seed=0)


def test_weights_out_of_bounds_are_refused() -> None:
    for settings in (
        {"lowest": -1.0},
        {"lowest": 2.0, "highest": 1.0},
        {"scale": 0.0},
        {"outside": math.nan},
    ):
        with pytest.raises(RecipeError, match="weights must be finite and at least 0"):
            TokenWeights(column="w", **settings)


@pytest.mark.parametrize("name", [n for n in SAMPLES.names if n.startswith(("preference", "token_weights"))])
def test_every_setting_is_described_and_recorded(name: str) -> None:
    entry = SAMPLES.entry(name)
    assert entry.description.endswith(".")
    assert all(setting.description.endswith(".") for setting in entry.settings)
    given_settings = {s.name: 0.5 if s.name == "threshold" else "c" for s in entry.settings if s.is_required}
    built = SAMPLES.build(name, given_settings)
    assert json.loads(json.dumps(built.as_record(), allow_nan=False))["name"] == name


# end to end


@pytest.fixture(scope="module")
def trained() -> dict[str, tuple[float, float]]:
    """Losses of a good and a bad continuation under three ways to train on a corpus of both."""
    pytest.importorskip("torch")
    texts = [f"the cat sat{' on the mat' if i % 2 else ' an old bad cat'}. {i}" for i in range(200)]
    docs = documents(texts, segments=by_words(texts))
    tagged = PreferenceTags(threshold=0.5, drop=0.1)(docs, seed=0)
    kept = PreferenceFilter(threshold=0.3)(docs, seed=0)
    scored = PreferenceScores()(docs, seed=0)
    shape = Shape(vocab_size=TOKENIZER.vocab_size + 2, d_model=24, n_layers=1, n_heads=2, d_ff=32, seq_len=32)
    pair = TOKENIZER.encode_batch(["the cat sat on the mat.", "the cat sat an old bad cat."])
    evals = EvalSet(docs=pair, n_bytes=np.array([23, 27]), eos=EOS)
    sets = {"alone": evals, "after good": prefixed(evals, np.array([TOKENIZER.vocab_size]))}

    def losses(objective: Objective | None, **streams: TokenStream) -> dict[str, tuple[float, float]]:
        results = train(
            [
                Run(label=name, seed=0, feed=StreamFeed(stream=stream, row_tokens=32, seed=0))
                for name, stream in streams.items()
            ],
            TrainSettings(
                start=Fresh(shape=shape),
                branch_tokens=(40 * 8 * 32,),
                batches=BatchTable.constant(n_rows=8, row_tokens=32),
                schedule=ScheduleSpec(wsd=WsdSpec(warmup="4 steps")),
                objective=objective,
                peak_rate=1e-2,
                precision="fp32",
                device="cpu",
            ),
            eval_sets=sets,
        )
        which = {
            r.label: r.branches[-1].losses["after good" if r.label == "tagged" else "alone"] for r in results
        }
        return {label: (float(good), float(bad)) for label, (good, bad) in which.items()}

    found = losses(None, plain=docs.stream, tagged=tagged, filtered=kept)
    found |= losses(Unlikelihood(threshold=0.5), unlikely=scored)
    return found


def test_maximum_likelihood_learns_good_and_bad_alike(trained: dict[str, tuple[float, float]]) -> None:
    good, bad = trained["plain"]
    assert abs(good - bad) < 1
    assert max(good, bad) < 4


@pytest.mark.parametrize("way", ["tagged", "filtered", "unlikely"])
def test_models_taught_by_preference_make_the_bad_text_unlikely(
    trained: dict[str, tuple[float, float]], way: str
) -> None:
    good, bad = trained[way]
    assert good < 4
    assert bad > good + 3
