"""Whether a feed can serve a plan: told before the first step, all problems at once."""

from __future__ import annotations

from prill.errors import DataError, Problem
from prill.lm.batches import BatchTable
from prill.lm.feed.account import Wrapping
from prill.lm.feed.feed import Feed
from prill.lm.feed.mixture import MixtureFeed
from prill.lm.feed.phases import PhasedFeed
from prill.lm.feed.whole import WholeFeed

__all__ = ["check_feed"]


def check_feed(feed: Feed, *, batches: BatchTable, vocab_size: int, where: str) -> None:
    """Refuse a feed that holds less than one batch, ids over the vocabulary, or samples that rows would cut.

    Args:
        feed: of rows as long as the table's longest.
        batches: rows a step and their lengths.
        vocab_size: ids must be below it.
        where: the run, named in errors.
    Raises:
        DataError: any of these.
    """
    place = f"{where}, {feed.name}"
    problems = []
    needed = batches.largest * batches.row_tokens
    if feed.n_tokens < needed:
        message = (
            f"a stream must hold at least one batch of {batches.largest} x {batches.row_tokens} = {needed} "
            f"tokens, found {feed.n_tokens}"
        )
        hint = "select more documents, or use fewer or shorter rows"
        problems.append(Problem(message=message, where=place, hint=hint))
    if feed.highest_id >= vocab_size:
        message = f"token ids must be below the vocabulary size {vocab_size}, found {feed.highest_id}"
        hint = "use the tokenizer that the models were made for"
        problems.append(Problem(message=message, where=place, hint=hint))
    for cell in sorted({cell for cell in _cells(feed) if batches.shortest_row % cell}):
        message = (
            f"whole samples must be packed for the shortest row of {batches.shortest_row} tokens, "
            f"found them packed for {cell}"
        )
        hint = f"pack them in cells of {batches.shortest_row} tokens, or leave out the shorter rows"
        problems.append(Problem(message=message, where=place, hint=hint))
    if problems:
        raise DataError.of(problems)


def _cells(feed: Feed) -> list[int]:
    """Lengths that whole samples are packed for."""
    if isinstance(feed, WholeFeed):
        return [feed.cell]
    if isinstance(feed, MixtureFeed):
        return [cell for source in feed.sources for cell in _cells(source.feed)]
    if isinstance(feed, PhasedFeed):
        return [cell for phase in feed.phases for cell in _cells(phase.feed)]
    if isinstance(feed, Wrapping):
        return _cells(feed.feed)
    return []
