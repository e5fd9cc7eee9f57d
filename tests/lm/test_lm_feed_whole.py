"""Whole samples, phases, accounts, joined files, checks and reading ahead."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus.packed import write_packed
from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchPhase, BatchTable, shorten
from prill.lm.data import Rows, TokenStream, positions_of
from prill.lm.feed.account import Accountable, account
from prill.lm.feed.check import check_feed
from prill.lm.feed.feed import Feed
from prill.lm.feed.files import open_stream
from prill.lm.feed.merge import merged
from prill.lm.feed.mixture import MixtureFeed, SharePoint, Source
from prill.lm.feed.phases import FeedPhase, PhasedFeed, split_stream
from prill.lm.feed.prefetch import Prefetch
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.whole import WholeFeed

T = 32


def marked(sizes: list[int], *, seed: int = 0, name: str = "marked") -> TokenStream:
    """A stream whose scores say which document a token belongs to, from 1; some weights are 0."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    tokens = rng.integers(1, 200, starts[-1]).astype(np.uint16)
    tokens[starts[1:] - 1] = 0
    return TokenStream(
        tokens=tokens,
        doc_starts=starts,
        name=name,
        weights=rng.integers(0, 3, len(tokens)).astype(np.float32),
        scores=np.repeat(np.arange(1, len(sizes) + 1), sizes).astype(np.float32),
    )


def counted(rows: Rows, n_documents: int) -> tuple[list[int], list[int], int]:
    """Tokens and trained tokens of each document and padding, by looking at every token."""
    assert rows.scores is not None
    assert rows.weights is not None
    owner = rows.scores.astype(int).ravel()
    n_tokens = np.bincount(owner, minlength=n_documents + 1)
    n_trained = np.bincount(owner[rows.weights.ravel() != 0], minlength=n_documents + 1)
    return n_tokens[1:].tolist(), n_trained[1:].tolist(), int(n_tokens[0])


def same(a: Rows, b: Rows) -> bool:
    names = ("inputs", "targets", "positions", "segments", "weights", "scores", "visible")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all((x is None and y is None) or np.array_equal(x, y) for x, y in pairs)


sizes_of = st.lists(st.integers(1, 75), min_size=3, max_size=30).filter(lambda sizes: sum(sizes) >= T)


@st.composite
def feeds(draw: st.DrawFn, depth: int = 1) -> Feed:
    """Any feed, mixtures and phases of others included."""
    stream = marked(draw(sizes_of), seed=draw(st.integers(0, 3)), name=f"s{draw(st.integers(0, 99))}")
    shuffle = draw(st.sampled_from(["stream", "block", "none"]))
    given: dict[str, Any] = {
        "stream": stream,
        "row_tokens": T,
        "seed": draw(st.integers(0, 3)),
        "shuffle": shuffle,
        "n_rows": 100,
    }
    kind = draw(st.sampled_from(["stream", "whole", "mixture", "phases"] if depth else ["stream", "whole"]))
    if kind == "stream":
        return StreamFeed(**given)
    if kind == "whole":
        overlong = draw(st.sampled_from(["truncate", "split", "row_end"]))
        return WholeFeed(**given, overlong=overlong, cell_tokens=draw(st.sampled_from([None, 16, 8])))
    parts = draw(st.lists(feeds(depth=0), min_size=2, max_size=3))
    if kind == "mixture":
        named = tuple(Source(name=f"source {n}", feed=feed) for n, feed in enumerate(parts))
        shares = tuple(float(x) for x in np.full(len(parts), 1 / len(parts)))
        return MixtureFeed(
            sources=named, points=(SharePoint(row=0, shares=shares),), row_tokens=T, n_rows=100
        )
    ends = [*range(20, 20 * len(parts), 20), None]
    return PhasedFeed(phases=tuple(FeedPhase(feed=f, until_row=e) for f, e in zip(parts, ends, strict=True)))


def one_by_one(feed: Feed, first: int, count: int) -> Rows:
    return merged([(np.array([n]), feed.rows(first + n, 1)) for n in range(count)])


@settings(max_examples=30, deadline=None)
@given(feeds(), st.integers(0, 40), st.integers(1, 40))
def test_accounts_equal_counting_every_token_and_rows_any_portioning(
    feed: Feed, first: int, count: int
) -> None:
    rows = one_by_one(feed, first, count)
    assert same(feed.rows(first, count), rows)
    told = account(feed, count, row_tokens=T, first=first)
    total = sum(told.sources["n_tokens"].to_pylist()) + sum(told.sources["n_padding_tokens"].to_pylist())
    assert total == count * T
    assert sum(told.sources["n_trained_tokens"].to_pylist()) == np.count_nonzero(rows.weights)
    if isinstance(feed, StreamFeed | WholeFeed):
        n_tokens, n_trained, n_padding = counted(rows, feed.stream.n_documents)
        assert told.documents["n_tokens"].to_pylist() == n_tokens
        assert told.documents["n_trained_tokens"].to_pylist() == n_trained
        assert told.sources["n_padding_tokens"].to_pylist() == [n_padding]


@settings(max_examples=40, deadline=None)
@given(sizes_of, st.sampled_from(["truncate", "split", "row_end"]), st.sampled_from([32, 16]))
def test_no_sample_is_cut_by_a_cell_and_what_is_lost_is_counted(
    sizes: list[int], overlong: Any, cell: int
) -> None:
    stream = marked(sizes)
    feed = WholeFeed(stream=stream, row_tokens=T, seed=1, overlong=overlong, cell_tokens=cell, shuffle="none")
    rows = shorten(feed.rows(0, feed.pass_rows), cell)
    assert rows.scores is not None
    n_tokens, _, n_padding = counted(rows, len(sizes))
    assert n_padding == feed.n_padding
    assert sum(n_tokens) == stream.n_tokens - feed.n_discarded
    if overlong == "truncate":
        assert n_tokens == [min(size, cell) for size in sizes]
    if overlong == "split":
        assert (n_tokens, feed.n_discarded) == (sizes, 0)
    assert np.array_equal(rows.positions, positions_of(rows.segments))
    for row in range(len(rows.inputs)):
        for segment in np.unique(rows.segments[row]):
            here = rows.segments[row] == segment
            assert len(np.unique(rows.scores[row][here])) == 1  # one document, or padding
            assert np.ptp(np.flatnonzero(here)) == here.sum() - 1  # in one piece
    starts = stream.doc_starts[:-1]
    opened = rows.scores[(rows.positions == 0) & (rows.scores > 0)].astype(int) - 1
    if overlong != "split":
        opens = (rows.positions == 0) & (rows.scores > 0)
        assert (rows.inputs[opens] == 0).all()  # every sample is read from its beginning
        assert np.array_equal(rows.targets[opens], stream.tokens[starts[opened]])


def test_meco_rows_worked_by_hand() -> None:
    # documents of 3, 4, 5 and 2 tokens in rows of 6: 3 + 3 of 4 (one lost), 5 + 1 of 2 (one lost)
    stream = TokenStream(
        tokens=np.array([1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 9, 0, 5, 0], np.uint16),
        doc_starts=np.array([0, 3, 7, 12, 14]),
    )
    feed = WholeFeed(stream=stream, row_tokens=6, seed=0, overlong="row_end", shuffle="none")
    rows = feed.rows(0, 2)
    assert rows.inputs.tolist() == [[0, 1, 2, 0, 3, 4], [0, 6, 7, 8, 9, 0]]
    assert rows.targets.tolist() == [[1, 2, 0, 3, 4, 5], [6, 7, 8, 9, 0, 5]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 0]]
    assert (feed.n_discarded, feed.n_padding, feed.n_tokens) == (2, 0, 12)


def test_a_prefix_stays_visible_to_its_whole_sample() -> None:
    stream = TokenStream(
        tokens=np.array([1, 2, 3, 4, 0, 5, 6, 0], np.uint16),
        doc_starts=np.array([0, 5, 8]),
        visible=np.array([1, 1, 0, 0, 0, 0, 0, 0], np.bool_),
    )
    rows = WholeFeed(stream=stream, row_tokens=10, seed=0).rows(0, 1)
    assert rows.visible is not None
    # inputs: end-of-text, 1, 2 are seen by all of the first sample; nothing of the second, nor padding
    assert rows.inputs.tolist() == [[0, 1, 2, 3, 4, 0, 5, 6, 0, 0]]
    assert rows.visible.tolist() == [[True, True, True] + [False] * 7]
    assert rows.weights is not None
    assert rows.weights.tolist() == [[1.0] * 8 + [0.0] * 2]


@settings(max_examples=25, deadline=None)
@given(sizes_of, st.sampled_from(["stream", "block", "none"]), st.integers(0, 9))
def test_every_document_is_read_exactly_once_in_a_run_of_one_epoch(
    sizes: list[int], shuffle: Any, seed: int
) -> None:
    total = -(-sum(sizes) // T) * T  # a whole number of rows
    stream = marked([*sizes, total - sum(sizes)] if total > sum(sizes) else sizes)
    n_rows = total // T
    feed = StreamFeed(stream=stream, row_tokens=T, seed=seed, shuffle=shuffle, n_rows=n_rows)
    documents = account(feed, n_rows, row_tokens=T).documents
    assert documents["n_tokens"].to_pylist() == np.diff(stream.doc_starts).tolist()
    assert set(documents["passes"].to_pylist()) == {1.0}


def test_passes_by_source_show_what_one_pass_in_name_hides() -> None:
    small = StreamFeed(stream=marked([T] * 10, name="small"), row_tokens=T, seed=0)
    large = StreamFeed(stream=marked([T] * 90, name="large"), row_tokens=T, seed=0)
    feed = MixtureFeed(
        sources=(Source(name="small", feed=small), Source(name="large", feed=large)),
        points=(SharePoint(row=0, shares=(0.4, 0.6)),),
        row_tokens=T,
        n_rows=100,
    )
    told = account(feed, 100, row_tokens=T, n_unique_tokens={"large": 30 * T}).sources.to_pylist()
    assert [row["passes"] for row in told] == [4.0, pytest.approx(2 / 3)]
    assert [row["effective_epochs"] for row in told] == [None, 2.0]
    assert [row["n_documents_read"] for row in told] == [10, 60]


def test_phases_follow_at_their_row_and_share_no_document() -> None:
    first, fresh = split_stream(marked([20] * 40), 36 * 20)
    feed = PhasedFeed(
        phases=(
            FeedPhase(feed=StreamFeed(stream=first, row_tokens=T, seed=0), until_row=18),
            FeedPhase(feed=StreamFeed(stream=fresh, row_tokens=T, seed=0)),
        )
    )
    rows = feed.rows(0, 20)
    assert rows.scores is not None
    early, late = set(rows.scores[:18].ravel().tolist()), set(rows.scores[18:].ravel().tolist())
    assert not early & late
    assert late <= {37.0, 38.0, 39.0, 40.0}
    told = account(feed, 20, row_tokens=T)
    assert sorted(told.documents["origin"].to_pylist()) == list(range(40))  # numbers of the whole stream
    assert feed.documents(18, 1)[0].endswith(("document 36", "document 37", "document 38"))


def test_a_phase_may_go_on_where_its_feed_was_left() -> None:
    plain = StreamFeed(stream=marked([20] * 40), row_tokens=T, seed=0)
    other = StreamFeed(stream=marked([20] * 40, seed=1), row_tokens=T, seed=0)
    feed = PhasedFeed(
        phases=(
            FeedPhase(feed=plain, until_row=5),
            FeedPhase(feed=other, until_row=8),
            FeedPhase(feed=plain, first_row=5),
        )
    )
    assert same(feed.rows(8, 4), plain.rows(5, 4))
    assert same(feed.rows(5, 3), other.rows(0, 3))
    assert feed.n_tokens == plain.n_tokens + other.n_tokens
    parts = account(feed, 12, row_tokens=T).sources
    assert parts["n_tokens"].to_pylist() == [9 * T, 3 * T]


def test_bad_phases_and_cuts_are_refused() -> None:
    plain = StreamFeed(stream=marked([40] * 3), row_tokens=T, seed=0)
    with pytest.raises(RecipeError, match="only the last without end"):
        PhasedFeed(phases=(FeedPhase(feed=plain), FeedPhase(feed=plain)))
    with pytest.raises(DataError, match="leave documents on both sides"):
        split_stream(plain.stream, 100)
    with pytest.raises(RecipeError, match="cells must divide rows of 32 tokens, found 12"):
        WholeFeed(stream=plain.stream, row_tokens=T, seed=0, cell_tokens=12)


def test_a_plan_is_checked_against_its_feed_and_all_is_told_at_once() -> None:
    stream = marked([20] * 10)
    ramp = BatchTable(
        row_tokens=T,
        phases=(BatchPhase(n_rows=1, row_tokens=16, until_step=2), BatchPhase(n_rows=50, row_tokens=T)),
    )
    whole = WholeFeed(stream=stream, row_tokens=T, seed=0)
    feed = MixtureFeed(
        sources=(Source(name="whole", feed=whole),),
        points=(SharePoint(row=0, shares=(1.0,)),),
        row_tokens=T,
        n_rows=9,
    )
    with pytest.raises(DataError) as caught:
        check_feed(feed, batches=ramp, vocab_size=50, where="run 'x'")
    text = str(caught.value)
    assert "at least one batch of 50 x 32 = 1600 tokens" in text
    assert "below the vocabulary size 50, found" in text
    assert "shortest row of 16 tokens, found them packed for 32" in text
    fitting = WholeFeed(stream=stream, row_tokens=T, seed=0, cell_tokens=16)
    check_feed(fitting, batches=BatchTable.constant(2, T), vocab_size=200, where="run 'x'")


def test_a_feed_that_cannot_tell_what_it_holds_is_refused() -> None:
    class Opaque:
        name = "opaque"
        n_tokens = 10
        highest_id = 1

    assert not isinstance(Opaque(), Accountable)
    with pytest.raises(DataError, match="tells what it holds"):
        account(Opaque(), 1, row_tokens=T)  # type: ignore[arg-type]


def packed_files(folder: Path, documents: list[list[int]], n_files: int) -> list[Path]:
    paths = [folder / f"{number}.safetensors" for number in range(n_files)]
    share = -(-len(documents) // n_files)
    for number, path in enumerate(paths):
        part = documents[number * share : (number + 1) * share]
        write_packed(path, [((number, row), ids) for row, ids in enumerate(part)], eos=0, vocab_size=300)
    return paths


def test_several_files_are_one_stream_and_stay_on_the_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(1, 300, int(rng.integers(0, 60))).tolist() for _ in range(50)]
    joined = open_stream(packed_files(tmp_path, documents, 4), name="shards")
    arrays = [np.asarray(ids, np.uint32) for ids in documents]
    whole = TokenStream.from_documents(arrays, eos=0, name="shards")
    assert joined.digest() == whole.digest()
    assert joined.highest_id == whole.highest_id
    settings = {"row_tokens": T, "seed": 3}
    a, b = StreamFeed(stream=joined, **settings), StreamFeed(stream=whole, **settings)  # type: ignore[arg-type]
    assert same(a.rows(0, 20), b.rows(0, 20))
    c, d = (WholeFeed(stream=s, **settings) for s in (joined, whole))  # type: ignore[arg-type]
    assert same(c.rows(0, 20), d.rows(0, 20))
    head, tail = split_stream(joined, 700)
    assert head.digest() == split_stream(whole, 700)[0].digest()
    assert np.array_equal(np.asarray(tail.tokens), whole.tokens[head.n_tokens :])
    assert all(isinstance(part, np.memmap) for part in joined.tokens._parts)  # type: ignore[attr-defined]


def test_one_file_of_other_tokens_is_named(tmp_path: Path) -> None:
    (path,) = packed_files(tmp_path, [[1, 2]], 1)
    other = tmp_path / "other.safetensors"
    write_packed(other, [((0, 0), [1, 2])], eos=5, vocab_size=300)
    with pytest.raises(DataError, match="must share `eos`, found 0") as caught:
        open_stream([path, other], name="shards")
    assert "other.safetensors" in str(caught.value)
    empty = tmp_path / "empty.safetensors"
    write_packed(empty, [], eos=0, vocab_size=300)
    with pytest.raises(DataError, match="at least one document, found 1 files of none"):
        open_stream([empty], name="shards")


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_reading_ahead_gives_the_same_items_in_order(depth: int) -> None:
    feed = StreamFeed(stream=marked([40] * 20), row_tokens=T, seed=0)
    with Prefetch(lambda step: feed.rows(2 * step, 2), range(3, 11), depth=depth) as ahead:
        found = list(ahead)
    assert [step for step, _ in found] == list(range(3, 11))
    assert all(same(rows, feed.rows(2 * step, 2)) for step, rows in found)


def test_an_error_comes_up_at_its_own_step_and_the_thread_ends() -> None:
    def make(step: int) -> int:
        if step == 4:
            raise DataError("a shard must be readable, found damage", where="shard 7")
        return step

    seen: list[int] = []
    with Prefetch(make, range(10), depth=3) as ahead:
        items = iter(ahead)
        seen += [next(items)[0] for _ in range(4)]
        with pytest.raises(DataError, match="shard 7: a shard must be readable"):
            next(items)
    assert seen == [0, 1, 2, 3]
    with Prefetch(make, range(4), depth=3) as ahead:
        assert [item for _, item in ahead] == [0, 1, 2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prill-prefetch")]


def test_no_more_is_made_ahead_than_asked_for() -> None:
    made: list[int] = []
    with Prefetch(lambda step: made.append(step), range(100), depth=2) as ahead:
        for step, _ in ahead:
            time.sleep(0.002)
            assert len(made) <= step + 3
            if step == 5:
                break
    assert len(made) <= 9
    with pytest.raises(RecipeError, match="found -1"):
        Prefetch(made.append, range(2), depth=-1)
