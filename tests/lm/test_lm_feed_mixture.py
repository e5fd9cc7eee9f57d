"""Mixtures: weights met to the row, the same rows in any portion, limits, dry sources, accounts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import Rows, Soft, TokenStream
from prill.lm.feed.account import account
from prill.lm.feed.apportion import Apportionment
from prill.lm.feed.merge import merged
from prill.lm.feed.mixture import MixtureFeed, Source
from prill.lm.feed.shares import Pieces, SharePoint, limited, pieces_of
from prill.lm.feed.stream import StreamFeed

T = 16


def stream(seed: int, n_docs: int = 40, **channels: Any) -> TokenStream:
    rng = np.random.default_rng(seed)
    docs = [rng.integers(1, 40, size=int(rng.integers(1, 50))) for _ in range(n_docs)]
    made = TokenStream.from_documents(docs, eos=0, name=f"stream {seed}")
    given = {name: make(made.n_tokens, rng) for name, make in channels.items()}
    return TokenStream(tokens=made.tokens, doc_starts=made.doc_starts, name=made.name, **given)


def sources(*sizes: int, **limits: float) -> tuple[Source, ...]:
    return tuple(
        Source(
            name=name,
            feed=StreamFeed(stream=stream(number, size), row_tokens=T, seed=number),
            max_epochs=limits.get(name),
        )
        for number, (name, size) in enumerate(zip("abcdefg", sizes, strict=False))
    )


def mixture(given: tuple[Source, ...], *points: tuple[int, tuple[float, ...]], **changes: Any) -> MixtureFeed:
    table = tuple(SharePoint(row=row, shares=shares) for row, shares in points)
    return MixtureFeed(**({"sources": given, "points": table, "row_tokens": T, "n_rows": 300} | changes))


def equal(a: Rows, b: Rows) -> bool:
    names = ("inputs", "targets", "positions", "segments", "weights", "scores", "visible")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all((x is None and y is None) or np.array_equal(x, y) for x, y in pairs)


def portioned(feed: Any, first: int, cuts: list[int]) -> Rows:
    """The rows from `first` on, asked for in portions."""
    parts, at = [], 0
    for count in cuts:
        parts.append((np.arange(at, at + count), feed.rows(first + at, count)))
        at += count
    return merged(parts)


@st.composite
def shares(draw: st.DrawFn, n: int) -> tuple[float, ...]:
    raw = draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n).filter(any))
    return tuple(value / sum(raw) for value in raw)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Pieces, list[int | None]]:
    """Shares over rows, and limits of some sources."""
    n = draw(st.integers(1, 6))
    rows = [0, *sorted(draw(st.sets(st.integers(1, 2500), max_size=3)))]
    points = [SharePoint(row=row, shares=draw(shares(n))) for row in rows]
    pieces = pieces_of(points, n_sources=n, curve=draw(st.sampled_from(["steps", "line"])))
    return pieces, draw(st.lists(st.none() | st.integers(0, 900), min_size=n, max_size=n))


def targets(pieces: Pieces, n_rows: int) -> np.ndarray[Any, Any]:
    """Rows due to each source after 0, 1, ... rows, by summing pieces one by one."""
    edges = [*pieces.starts.tolist(), math.inf]
    rows = np.arange(n_rows + 1, dtype=np.float64)
    found = np.zeros((n_rows + 1, pieces.shares.shape[1]))
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        inside = np.minimum(np.maximum(rows - start, 0), stop - start)
        found += inside[:, None] * pieces.shares[number]
    return found


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 5))
def test_every_source_has_had_its_share_to_less_than_a_row_after_any_number_of_rows(
    table: tuple[Pieces, list[int | None]], seed: int
) -> None:
    pieces, limits = table
    if seed % 2:
        pieces, _ = limited(pieces, limits)
    n_rows, n = int(min(3000, pieces.end)), pieces.shares.shape[1]
    order = np.random.default_rng(seed).permutation(n).tolist()
    dealt = Apportionment(pieces=pieces, order=tuple(order), n_rows=n_rows)
    counts = np.zeros((n_rows + 1, n))
    np.cumsum(np.eye(n)[dealt.sources(0, n_rows)], axis=0, out=counts[1:])
    bound = 1 - 1 / (2 * n - 2) if n > 1 else 0.0  # the theorem's, plus what floating point may add
    assert np.abs(counts - targets(pieces, n_rows)).max() <= bound + 1e-5
    if seed % 2:
        assert all(limit is None or had <= limit for had, limit in zip(counts[-1], limits, strict=True))
    for first in {0, n_rows // 3, n_rows // 2, 1023, 1024} & set(range(n_rows)):
        assert np.array_equal(dealt.counts(first), counts[first])
        assert np.array_equal(np.eye(n)[dealt.sources(first, 1)][0], counts[first + 1] - counts[first])


def test_a_line_moves_evenly_and_its_sum_is_exact() -> None:
    points = (SharePoint(row=0, shares=(1.0, 0.0)), SharePoint(row=1000, shares=(0.0, 1.0)))
    pieces = pieces_of(points, n_sources=2, curve="line")
    assert targets(pieces, 1000)[-1] == pytest.approx([500, 500])  # the area below either line
    assert np.abs(np.diff(pieces.shares[:, 0])).max() < 0.07  # 64 rows of 1,000
    assert targets(pieces, 3000)[-1] - targets(pieces, 1000)[-1] == pytest.approx([0, 2000])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(0, 40), shares(3), shares(3))
def test_any_portioning_gives_the_same_rows(
    cuts: list[int], first: int, early: tuple[float, ...], late: tuple[float, ...]
) -> None:
    feed = mixture(sources(40, 9, 25), (0, early), (77, late), n_rows=600)
    assert equal(feed.rows(first, sum(cuts)), portioned(feed, first, cuts))


def test_each_source_is_read_in_its_own_order_without_gaps() -> None:
    given = sources(40, 30)
    feed = mixture(given, (0, (0.25, 0.75)))
    rows = feed.rows(0, 120)
    dealt = feed.sources_of(0, 120)
    assert feed.counts(120) == {"a": 30, "b": 90}
    for number, source in enumerate(given):
        own = np.concatenate([source.feed.rows(r, 1).targets for r in range(int((dealt == number).sum()))])
        assert np.array_equal(rows.targets[dealt == number], own)


def test_weights_that_change_are_met_from_their_row_on() -> None:
    feed = mixture(sources(40, 30), (0, (0.5, 0.5)), (100, (0.9, 0.1)))
    assert feed.counts(100) == {"a": 50, "b": 50}
    assert feed.counts(300) == {"a": 230, "b": 70}


def test_channels_that_one_source_lacks_are_blank_in_its_rows() -> None:
    def some(n: int, rng: np.random.Generator) -> Any:
        return rng.random(n, np.float32)

    def opening(n: int, rng: np.random.Generator) -> Any:
        return np.zeros(n, np.bool_)

    weighted = stream(7, 40, weights=some, scores=some, visible=opening)
    given = (
        Source(name="plain", feed=StreamFeed(stream=stream(1), row_tokens=T, seed=0)),
        Source(name="weighted", feed=StreamFeed(stream=weighted, row_tokens=T, seed=0)),
    )
    feed = mixture(given, (0, (0.5, 0.5)), n_rows=20)
    rows, dealt = feed.rows(0, 20), feed.sources_of(0, 20)
    assert rows.weights is not None
    assert rows.scores is not None
    assert rows.visible is not None
    assert (rows.weights[dealt == 0] == 1).all()
    assert (rows.scores[dealt == 0] == 0).all()
    assert np.array_equal(rows.weights[dealt == 1], given[1].feed.rows(0, 10).weights)


def test_soft_targets_of_different_width_come_together() -> None:
    def rows(width: int) -> Rows:
        ids = np.full((2, T), width)
        soft = Soft(ids=np.full((2, T, width), 5), shares=np.full((2, T, width), 0.25, np.float32))
        return Rows(inputs=ids, targets=ids, positions=ids, segments=ids, soft=soft if width else None)

    whole = merged([(np.array([0, 3]), rows(2)), (np.array([1, 2]), rows(4)), (np.array([4, 5]), rows(0))])
    assert whole.soft is not None
    assert whole.soft.shares.sum(-1)[:, 0].tolist() == [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]


def test_a_source_that_runs_dry_is_named_with_the_step_and_tokens_before_training() -> None:
    given = sources(40, 20, b=2)
    limit = 2 * given[1].feed.n_tokens // T
    table = BatchTable.constant(4, T)
    with pytest.raises(DataError) as caught:
        mixture(given, (0, (0.5, 0.5)), n_rows=2 * limit + 40, batches=table)
    text = str(caught.value)
    row = int(text.split("(")[1].split(" tokens")[0]) // T
    assert "source 'b'" in text
    assert f"at step {row // 4} " in text
    assert abs(row - 2 * limit) <= 2  # every second row was its own
    assert mixture(given, (0, (0.5, 0.5)), n_rows=row, batches=table).counts(row)["b"] == limit


def test_all_dry_sources_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        mixture(sources(20, 20, a=1, b=1), (0, (0.5, 0.5)), n_rows=5000)
    assert len(caught.value.problems) == 2


def test_weight_of_a_dry_source_goes_to_the_others_in_proportion() -> None:
    given = sources(60, 10, 60, b=1)
    limit = given[1].feed.n_tokens // T
    feed = mixture(given, (0, (0.3, 0.5, 0.2)), n_rows=600, when_dry="others")
    (dry,) = feed.dry
    assert (dry.source, dry.row) == ("b", 2 * limit)
    assert feed.counts(600)["b"] == limit
    rest = 600 - 2 * limit
    assert feed.counts(600)["a"] == pytest.approx(0.3 * 2 * limit + 0.6 * rest, abs=1)
    assert feed.counts(600)["c"] == pytest.approx(0.2 * 2 * limit + 0.4 * rest, abs=1)
    assert account(feed, 600, row_tokens=T).sources.to_pylist()[1]["passes"] <= 1


def test_when_all_are_dry_nothing_is_left_to_train_on() -> None:
    with pytest.raises(DataError, match="found every source dry after"):
        mixture(sources(20, 20, a=1, b=1), (0, (0.5, 0.5)), n_rows=5000, when_dry="others")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.5, 0.4), "must sum to 1, found 0.9"),
        ((1.5, -0.5), "a number from 0 to 1, found -0.5"),
        ((math.nan, 1.0), "a number from 0 to 1, found nan"),
        ((1.0,), "one weight a source, 2, found 1"),
    ],
)
def test_bad_weights_are_refused_with_row_and_value(weights: tuple[float, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        mixture(sources(20, 20), (0, (0.5, 0.5)), (10, weights))
    assert "row 10" in str(caught.value)


def test_bad_sources_and_rows_are_refused() -> None:
    same = sources(20, 20)
    with pytest.raises(RecipeError, match="found 'a' twice"):
        mixture((same[0], same[0]), (0, (0.5, 0.5)))
    with pytest.raises(RecipeError, match="passes must be above 0, found 0"):
        mixture(sources(20, 20, a=0), (0, (0.5, 0.5)))
    with pytest.raises(RecipeError, match="rise from row 0"):
        mixture(same, (5, (0.5, 0.5)))
    with pytest.raises(DataError, match="holds 300 rows, found rows 299 to 301"):
        mixture(same, (0, (0.5, 0.5))).rows(299, 2)


def test_a_source_smaller_than_a_step_is_repeated_within_it() -> None:
    given = sources(40, 1)
    tiny = given[1].feed
    assert isinstance(tiny, StreamFeed)
    feed = mixture(given, (0, (0.5, 0.5)))
    assert tiny.n_tokens < 100 * T
    assert equal(feed.rows(0, 200), portioned(feed, 0, [1] * 200))


def test_digest_tells_what_decides_the_rows() -> None:
    given = sources(40, 30)
    digests = {
        mixture(given, (0, (0.5, 0.5))).digest(),
        mixture(given, (0, (0.4, 0.6))).digest(),
        mixture(given, (0, (0.5, 0.5)), seed=1).digest(),
        mixture(sources(40, 31), (0, (0.5, 0.5))).digest(),
        mixture(given, (0, (0.5, 0.5)), (5, (0.5, 0.5)), curve="line").digest(),
    }
    assert len(digests) == 5
    assert mixture(given, (0, (0.5, 0.5))).digest() == mixture(given, (0, (0.5, 0.5)), n_rows=9).digest()


def test_documents_name_what_the_rows_hold() -> None:
    feed = mixture(sources(40, 30), (0, (0.5, 0.5)))
    dealt = feed.sources_of(10, 1)[0]
    (name,) = {text.split(", ")[0] for text in feed.documents(10, 1)}
    assert name == f"stream {dealt}"
