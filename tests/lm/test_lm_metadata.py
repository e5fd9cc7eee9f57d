"""Metadata conditioning and cooldown, prefixes by source, and evaluation behind a prefix."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream, batch, stack_rows
from prill.lm.feed.phases import FeedPhase, PhasedFeed
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.samples.chain import columns_needed, make_samples, tags_added
from prill.lm.samples.cooldown import fresh_share, with_cooldown
from prill.lm.samples.insertion import insert_tokens
from prill.lm.samples.metadata import Metadata, frequent_values, host_of
from prill.lm.samples.plain import Plain
from prill.lm.samples.prefixed import prefixed, prefixed_like
from prill.lm.samples.registry import SAMPLES
from prill.lm.samples.source_prefix import SourcePrefix
from prill.lm.samples.subset import cut_documents, take_documents
from prill.lm.samples.transform import Documents
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet, score_documents
from prill.lm.shape import Shape
from prill.lm.train import Run, TrainSettings, train

torch = pytest.importorskip("torch")

from prill.lm.model import StackedLlama  # noqa: E402

TEXTS = ["the cat sat on the mat", "a dog <good> ran", "", "x", "the mat and the cat and the dog"]
URLS = ["https://En.Wikipedia.org/wiki/Cat", "http://www.shop.co.uk:80/a?b", "foo.com", None, "mailto:x"]
TOKENIZER = load_tokenizer(train_bpe(["the cat sat on the mat. a dog ran URL: .org .com"] * 3, 300))


def documents(texts: Sequence[str] = TEXTS, **columns: Sequence[str | None]) -> Documents:
    ids = TOKENIZER.encode_batch(texts)
    return Documents(
        stream=TokenStream.from_documents(ids, eos=TOKENIZER.eos_id),
        hashes=np.array([hash_of(text) for text in texts], np.uint64),
        encode=TOKENIZER.encode_batch,
        vocab_size=TOKENIZER.vocab_size,
        fields={name: pa.array(values, pa.large_string()) for name, values in columns.items()},
        texts=pa.array(texts, pa.large_string()),
    )


def shape(length: int) -> Shape:
    return Shape(vocab_size=300, d_model=24, n_layers=1, n_heads=2, d_ff=32, seq_len=length)


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def told(stream: TokenStream) -> list[str]:
    """The text of each sample; tags and end-of-text become nothing."""
    ends = stream.doc_starts
    known = np.where(stream.tokens < TOKENIZER.vocab_size, stream.tokens, 0)
    return [TOKENIZER.decode(known[a:b]) for a, b in itertools.pairwise(ends)]


def line_of(sample: str) -> str:
    return sample.partition("\n\n")[0]


# the card


def test_mask_of_the_card() -> None:
    # [opening end-of-text, U, R, L, t1, t2, end-of-text]: targets U R L t1 t2 E, three of them trained on
    docs = Documents(
        stream=TokenStream.from_documents([np.array([4, 5])] * 2, eos=0),
        hashes=np.zeros(2, np.uint64),
        encode=lambda words: [np.array([1, 2, 3]) for _ in words],
        vocab_size=9,
        fields={"url": pa.array(["a.b", "a.b"])},
    )
    stream = Metadata()(docs, seed=0)
    assert stream.tokens.tolist() == [1, 2, 3, 4, 5, 0] * 2
    rows = batch(stream, np.array([1]), seq_len=6)
    assert rows.inputs[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows.targets[0].tolist() == [1, 2, 3, 4, 5, 0]
    assert rows.weights is not None
    assert rows.weights[0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "transform", [Metadata(line=""), Metadata(fixed="", line="{value}"), Metadata(missing="none"), Plain()]
)
def test_without_metadata_the_stream_is_the_baseline_byte_for_byte(transform: Any) -> None:
    docs = documents(url=[None] * 5)
    assert transform(docs, seed=0).digest() == docs.stream.digest()
    assert make_samples([transform, Plain()], docs, seed=0).digest() == docs.stream.digest()


def test_logits_of_a_sample_do_not_depend_on_its_neighbours() -> None:
    docs = documents(url=URLS)
    model = StackedLlama.init(shape(96), [0])
    found = []
    for order in ([0, 1, 2, 3, 4], [3, 0, 1, 2, 4]):
        stream = Metadata()(take_documents(docs, np.array(order)), seed=0)
        rows = stack_rows([batch(stream, np.array([0]), seq_len=96)])
        place = order.index(0)
        part = slice(int(stream.doc_starts[place]), int(stream.doc_starts[place + 1]))
        found.append(model.logits(model.pack(rows))[0, part])
    assert len(found[0]) == 26
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


# what is told


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, ["URL: en.wikipedia.org", "URL: www.shop.co.uk", "URL: foo.com", *["URL: unknown"] * 2]),
        ({"form": "domain", "missing": "none"}, ["URL: wikipedia.org", "URL: shop.co.uk", "URL: foo.com"]),
        ({"form": "suffix", "missing": "none"}, ["URL: org", "URL: co.uk", "URL: com"]),
        ({"fixed": "a"}, ["URL: a"] * 5),
        ({"known": ("foo.com",)}, ["URL: unknown"] * 2 + ["URL: foo.com"] + ["URL: unknown"] * 2),
        ({"form": "value", "line": "from {value}\n\n"}, [f"from {u or 'unknown'}" for u in URLS]),
    ],
)  # fmt: skip
def test_lines(settings: dict[str, Any], lines: list[str]) -> None:
    stream = Metadata(**settings)(documents(url=URLS), seed=0)
    found = told(stream)
    assert [line_of(sample) for sample in found][: len(lines)] == lines
    assert [sample.rpartition("\n\n")[2] for sample in found] == TEXTS
    starts = stream.doc_starts
    assert stream.weights is not None
    for text, a, b in zip(TOKENIZER.encode_batch(TEXTS), starts, starts[1:], strict=False):
        n_line = int(b - a) - len(text) - 1
        assert stream.weights[a:b].tolist() == [0] * n_line + [1] * (len(text) + 1)


def test_random_ids_keep_the_groups_and_hide_the_names() -> None:
    docs = documents(url=["a.com", "b.com", "a.com", None, "b.com"])
    found = [line_of(sample) for sample in told(Metadata(random_ids=True)(docs, seed=1))]
    assert found[0] == found[2] != found[1] == found[4]
    assert found[3] == "URL: unknown"
    assert not any("a.com" in line or "b.com" in line for line in found)
    assert found != [line_of(sample) for sample in told(Metadata(random_ids=True)(docs, seed=2))]


def test_a_missing_url_can_be_an_error() -> None:
    with pytest.raises(DataError, match=r"document 3: expected a host in the column 'url', found none"):
        Metadata(missing="error")(documents(url=URLS), seed=0)
    with pytest.raises(DataError, match=r"expected the column 'url', found none(.|\n)*'urls'"):
        Metadata()(documents(urls=URLS), seed=0)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("HTTPS://User:Secret@Host.Example:8080/x?y#z", "host.example"),
        ("host.example./", "host.example"),
        ("//host.example/x", None),
        ("file:///etc/x", None),
        ("https://[2001:db8::1]:8/", "[2001:db8::1]"),
        ("just words", None),
        ("http://a.b/\nURL: c.d", "a.b"),
        ("", None),
    ],
)
def test_hosts(url: str, host: str | None) -> None:
    assert host_of(pa.array([url])).to_pylist() == [host]


def test_values_cannot_break_the_line() -> None:
    docs = documents(title=["two\n\nlines", " a \t b ", "z" * 1000, "  ", None])
    found = told(Metadata(column="title", form="value")(docs, seed=0))
    assert [line_of(sample) for sample in found][:2] == ["URL: two lines", "URL: a b"]
    assert len(line_of(found[2])) == 5 + 256
    assert line_of(found[3]) == line_of(found[4]) == "URL: unknown"


def test_rare_values_can_be_left_untold() -> None:
    docs = documents(url=["a.com", "b.com", "a.com", None, "c.com"])
    known = frequent_values(Metadata().values(docs), 2)
    assert known == ("a.com",)


def test_pieces_all_have_their_line_and_lose_nothing() -> None:
    texts = ["the cat sat on the mat " * 20, "a dog ran", "the dog " * 31]
    docs = documents(texts, url=["a.com", None, "b.com"])
    stream = Metadata(pieces=True, row_tokens=48)(docs, seed=0)
    assert stream.n_tokens % 48 == 0
    assert stream.origins is not None
    assert stream.weights is not None
    row = stream.doc_starts[:-1] // 48
    for number, text in enumerate(TOKENIZER.encode_batch(texts)):
        mine = np.flatnonzero(stream.origins == number)
        line = f"URL: {('a.com', 'unknown', 'b.com')[number]}\n\n"
        n_line = len(TOKENIZER.encode_batch([line])[0])
        found = []
        for piece in mine:
            a, b = stream.doc_starts[piece], stream.doc_starts[piece + 1]
            trained = np.flatnonzero(stream.weights[a:b])
            assert trained[0] == n_line
            assert TOKENIZER.decode(stream.tokens[a : a + n_line]) == line
            assert int(a + trained[-1]) // 48 == row[piece]
            found.append(stream.tokens[a:b][trained].tolist())
        whole, step = [*text.tolist(), TOKENIZER.eos_id], 48 - n_line - 1
        n = max(1, -(-len(text) // step))
        cuts = [whole[i * step : (i + 1) * step if i + 1 < n else None] for i in range(n)]
        assert sorted(found) == sorted(cuts)


def test_a_line_that_fills_the_row_is_an_error() -> None:
    with pytest.raises(DataError, match=r"a line must leave 16 of 32 tokens.*found 'URL: x{100}"):
        Metadata(fixed="x" * 100, pieces=True, row_tokens=32)(documents(), seed=0)
    with pytest.raises(RecipeError, match="pieces need rows of at least 32 tokens, found None"):
        Metadata(pieces=True)


# prefixes by source

SOURCES = ["web", "code", None, "web", "books"]


def test_words_and_tags_name_the_source() -> None:
    docs = documents(source=SOURCES)
    words = SourcePrefix()(docs, seed=0)
    prefixes = ["web: ", "code: ", "", "web: ", "books: "]
    assert told(words) == [a + b for a, b in zip(prefixes, TEXTS, strict=True)]
    tags = SourcePrefix(style="tag", sources=("code", "web"))
    assert tags.n_added == 2
    stream = tags(docs, seed=0)
    first = stream.tokens[stream.doc_starts[:-1]].astype(int) - TOKENIZER.vocab_size
    assert first[:2].tolist() == [1, 0]
    assert first[3] == 1
    assert (first[[2, 4]] < 0).all()
    assert stream.weights is not None
    assert stream.weights.sum() == docs.stream.n_tokens
    trained = SourcePrefix(style="tag", sources=("code", "web"), weight=1.0)(docs, seed=0)
    assert trained.weights is None


def test_text_that_looks_like_a_tag_stays_text() -> None:
    texts = ["<source:web> web: <|endoftext|> <good>", "a"]
    stream = SourcePrefix(style="tag", sources=("web",))(documents(texts, source=["web", "web"]), seed=0)
    inside = stream.tokens[1 : stream.doc_starts[1] - 1]
    assert (inside < TOKENIZER.vocab_size).all()
    assert TOKENIZER.eos_id not in inside.tolist()
    assert TOKENIZER.decode(inside) == texts[0]


def test_dropped_prefixes_depend_on_the_text_alone() -> None:
    texts = [f"{i} the cat" for i in range(400)]
    docs = documents(texts, source=["web"] * 400)
    dropped = SourcePrefix(drop=0.3)
    plain = np.array([not sample.startswith("web") for sample in told(dropped(docs, seed=5))])
    assert 0.2 < plain.mean() < 0.4
    order = np.random.default_rng(0).permutation(400)
    turned = [not s.startswith("web") for s in told(dropped(take_documents(docs, order), seed=5))]
    assert turned == plain[order].tolist()
    assert [not s.startswith("web") for s in told(dropped(docs, seed=6))] != plain.tolist()
    assert SourcePrefix(drop=1.0)(docs, seed=5).digest() == docs.stream.digest()


def test_unnamed_sources_can_be_an_error() -> None:
    with pytest.raises(DataError, match=r"document 4: expected one of 2 named sources.*found 'books'"):
        SourcePrefix(sources=("web", "code"), strict=True)(
            take_documents(documents(source=["web", "code", "web", "web", "books"]), np.arange(5)), seed=0
        )
    with pytest.raises(RecipeError, match="name each source once"):
        SourcePrefix(style="tag")


# chains


def test_tags_of_a_chain_do_not_collide_and_channels_are_kept() -> None:
    docs = documents(source=SOURCES, url=URLS)
    chain = [
        SourcePrefix(style="tag", sources=("web",)),
        SourcePrefix(style="tag", sources=("code",)),
        Metadata(),
    ]
    stream = make_samples(chain, docs, seed=0)
    assert tags_added(chain) == 2
    assert columns_needed(chain) == ("source", "url")
    tags = stream.tokens[stream.tokens >= TOKENIZER.vocab_size].astype(int) - TOKENIZER.vocab_size
    assert tags.tolist() == [0, 1, 0]
    assert stream.weights is not None
    assert stream.weights.sum() == docs.stream.n_tokens
    assert (stream.weights[stream.tokens >= TOKENIZER.vocab_size] == 0).all()


@given(st.data())
def test_inserting_and_taking_out_again_changes_nothing(data: Any) -> None:
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    docs = [np.arange(1, n + 1) for n in sizes]
    stream = TokenStream.from_documents(docs, eos=0)
    places = np.sort(data.draw(st.lists(st.integers(0, stream.n_tokens - 1), max_size=8)))
    places = np.asarray(places, np.int64)
    found = insert_tokens(stream, places, np.full(len(places), 70_000), weight=0.0)
    is_new = found.tokens == 70_000
    assert is_new.sum() == len(places)
    assert found.tokens[~is_new].tolist() == stream.tokens.tolist()
    owner = np.searchsorted(found.doc_starts, np.flatnonzero(is_new), side="right") - 1
    assert owner.tolist() == (np.searchsorted(stream.doc_starts, places, side="right") - 1).tolist()
    if len(places):
        assert found.weights is not None
        assert (found.weights == ~is_new).all()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(2, 9))
def test_pieces_put_together_are_the_document(sizes: list[int], room: int) -> None:
    docs = [np.arange(1, n + 1) for n in sizes]
    stream = TokenStream.from_documents(docs, eos=0)
    pieces, owner = cut_documents(stream, np.full(len(docs), room))
    lengths = np.diff(pieces.doc_starts)
    assert lengths.max() <= room
    weights = np.ones(pieces.n_tokens) if pieces.weights is None else pieces.weights
    owners = np.repeat(owner, lengths)
    for number, doc in enumerate(docs):
        kept = pieces.tokens[(owners == number) & (weights > 0)]
        assert kept.tolist() == [*doc.tolist(), 0]
    assert (lengths[1:][owner[1:] == owner[:-1]] >= 1).all()


# cooldown


def test_the_cooldown_is_fresh_and_plain() -> None:
    texts = [f"{i % 150} the cat sat" for i in range(200)]  # the first 50 occur twice
    docs = documents(texts, url=["a.com"] * 200)
    first, last = with_cooldown(docs, (Metadata(),), cooldown_share=0.2, seed=3)
    assert first.origins is not None
    assert last.origins is not None
    assert sorted([*first.origins, *last.origins]) == list(range(200))
    assert not {texts[i] for i in first.origins} & {texts[i] for i in last.origins}
    assert list(first.origins) == sorted(first.origins)
    assert last.n_tokens <= 0.2 * docs.stream.n_tokens < last.n_tokens + 2 * 20
    assert last.weights is None
    assert all(line_of(sample) == "URL: a.com" for sample in told(first))
    again = with_cooldown(docs, (Metadata(),), cooldown_share=0.2, seed=3)
    assert [x.digest() for x in again] == [first.digest(), last.digest()]


def test_a_cooldown_needs_two_documents() -> None:
    with pytest.raises(DataError, match="two stretches need documents each, found 1 documents"):
        with_cooldown(documents(["a"], url=["a.b"]), (Metadata(),), seed=0)
    with pytest.raises(RecipeError, match="share between 0 and 1, found 1"):
        fresh_share(np.arange(3, dtype=np.uint64), np.ones(3, np.int64), share=1.0, seed=0)


def test_conditioning_leaves_a_need_for_the_line_and_the_cooldown_ends_it() -> None:
    # the host decides the text, so the line tells the first token, which without it is never trained on
    texts = [("the cat ", "a dog ")[i % 2] * 4 + str(i) for i in range(300)]
    docs = documents(texts, url=[("cat.com", "dog.com")[i % 2] for i in range(300)])
    first, last = with_cooldown(docs, (Metadata(),), cooldown_share=0.2, seed=1)
    metadata, plain = (StreamFeed(stream=s, row_tokens=32, seed=0) for s in (first, last))
    cooled = PhasedFeed(
        phases=(FeedPhase(feed=metadata, until_row=8 * 48), FeedPhase(feed=plain)), name="two"
    )
    eval_texts = ["the cat the cat the cat", "a dog a dog a dog"]
    evals = EvalSet(docs=TOKENIZER.encode_batch(eval_texts), n_bytes=np.array([23, 17]), eos=TOKENIZER.eos_id)
    hosts = Metadata()(documents(eval_texts, url=["cat.com", "dog.com"]), seed=0)
    results = train(
        [Run(label="cooled", seed=0, feed=cooled), Run(label="metadata", seed=0, feed=metadata)],
        TrainSettings(
            start=Fresh(shape=shape(32)),
            branch_tokens=(60 * 8 * 32,),
            batches=BatchTable.constant(n_rows=8, row_tokens=32),
            schedule=ScheduleSpec(wsd=WsdSpec(warmup="4 steps")),
            peak_rate=1e-2,
            precision="fp32",
            device="cpu",
        ),
        eval_sets={"plain": evals, "told": prefixed_like(evals, hosts)},
    )
    cooled_plain, metadata_plain = (float(r.branches[-1].losses["plain"].sum()) for r in results)
    _, metadata_told = (float(r.branches[-1].losses["told"].sum()) for r in results)
    assert metadata_told < metadata_plain - 10
    assert cooled_plain < metadata_plain - 10


# evaluation behind a prefix


def test_a_prefix_is_read_and_not_scored() -> None:
    model = StackedLlama.init(shape(24), [0, 1])
    docs = [np.array([5, 6, 7]), np.arange(1, 50)]
    evals = EvalSet(docs=docs, n_bytes=np.array([3, 49]), eos=0)
    given_tokens = np.array([9, 8])
    behind = prefixed(evals, given_tokens)
    assert behind.n_tokens.tolist() == evals.n_tokens.tolist() == [3, 49]
    # chain rule: -log p(prefix, document) + log p(prefix)
    whole = EvalSet(docs=[np.concatenate([given_tokens, doc]) for doc in docs], n_bytes=np.ones(2), eos=0)
    alone = EvalSet(docs=[given_tokens], n_bytes=np.ones(1), eos=0)
    expected = score_documents(model, whole) - score_documents(model, alone)
    np.testing.assert_allclose(score_documents(model, behind), expected, rtol=1e-5)
    assert prefixed(evals, np.array([], np.int64)) is evals


def test_evaluation_documents_get_the_prefixes_of_a_transform() -> None:
    docs = documents([text or "y" for text in TEXTS], url=URLS)
    evals = EvalSet(
        docs=TOKENIZER.encode_batch([text or "y" for text in TEXTS]), n_bytes=np.ones(5), eos=TOKENIZER.eos_id
    )
    behind = prefixed_like(evals, Metadata()(docs, seed=0))
    assert behind.n_tokens.tolist() == evals.n_tokens.tolist()
    assert TOKENIZER.decode(behind.docs[0]).startswith("URL: en.wikipedia.org\n\nthe cat")
    with pytest.raises(DataError, match="expected a sample that ends with the document's own tokens"):
        prefixed_like(evals, take_documents(docs, np.array([1, 0, 2, 3, 4])).stream)


@pytest.mark.parametrize("name", ["plain", "metadata", "source_prefix"])
def test_every_setting_is_described(name: str) -> None:
    entry = SAMPLES.entry(name)
    assert entry.description.endswith(".")
    assert all(setting.description.endswith(".") for setting in entry.settings)


def test_settings_of_the_wrong_kind_are_told_together() -> None:
    with pytest.raises(RecipeError) as found:
        SAMPLES.build("metadata", {"form": "hots", "colour": 1, "missing": 3}, where="samples.0")
    text = str(found.value)
    assert "samples.0: unknown setting 'colour'" in text
    assert "`form` should be 'host', 'domain', 'suffix' or 'value', found 'hots'" in text
    assert "`missing` should be" in text
