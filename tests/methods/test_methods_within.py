"""Methods that decide in training: what they draw before it, and what they ask of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pool_of import run_method
from prill.lm.data import TokenStream
from prill.lm.feed.in_training import Drawn, Early, Watched
from prill.lm.feed.phases import PhasedFeed
from prill.lm.feed.pruning import InfoBatch, SeTa
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.watched import WatchedFeed
from prill.methods.registry import get_method
from prill.methods.scored import made

WITHIN = ("fresh_random", "infobatch", "rs2", "seta")
DOCUMENTS = [f"document {i} of a small pool with words and numbers such as {i * i}" for i in range(40)]
TARGETS = {"a": ["one text", "another text"], "b": ["some code", "more code"]}


def stream() -> TokenStream:
    docs = [np.arange(1, 12) + i % 7 for i in range(60)]
    return TokenStream.from_documents(docs, eos=0, name="documents")


@pytest.mark.parametrize("name", WITHIN)
def test_scores_are_draws_keyed_by_text_equal_for_all_targets(name: str, tmp_path: Path) -> None:
    straight = run_method(name, DOCUMENTS, TARGETS, {}, tmp_path / "one")
    turned = run_method(name, DOCUMENTS[::-1], TARGETS, {}, tmp_path / "two")
    other = run_method(name, DOCUMENTS, TARGETS, {}, tmp_path / "three", seed=1)
    assert np.array_equal(straight["a"], straight["b"])
    assert np.array_equal(straight["a"], turned["a"][::-1])
    assert len(set(straight["a"].tolist())) == 40
    assert ((straight["a"] > 0) & (straight["a"] < 1)).all()
    assert not np.array_equal(straight["a"], other["a"])


def test_no_two_of_them_share_their_draws(tmp_path: Path) -> None:
    found = [run_method(name, DOCUMENTS, TARGETS, {}, tmp_path / name)["a"] for name in WITHIN]
    assert len({tuple(scores.tolist()) for scores in found}) == 4


def test_only_these_ask_for_something_and_say_how_they_differ() -> None:
    assert made("random", {}).in_training() is None
    assert made("dsir", {}).in_training() is None
    for name in ("seta", "infobatch", "rs2"):
        assert made(name, {}).in_training() is not None
        assert len(get_method(name).info.differs) > 100


def test_settings_reach_the_planner() -> None:
    found = made("seta", {"prune": 0.1, "groups": 5, "window_scale": 0.9, "passes": 3, "initial_loss": 3.0})
    expected = SeTa(prune=0.1, n_groups=5, window_scale=0.9, initial_loss=3.0)
    assert found.in_training() == Watched(planner=expected, passes=3)
    found = made("infobatch", {"prune": 0.3, "delta": 0.5})
    assert found.in_training() == Watched(planner=InfoBatch(prune=0.3, delta=0.5), passes=4)
    assert made("rs2", {"rounds": 7, "with_replacement": True}).in_training() == Drawn(
        use="rs2", n_rounds=7, replaces=True
    )
    assert made("fresh_random", {}).in_training() == Drawn(use="fresh_random")


def test_a_choice_for_the_first_phase_gives_way_to_the_pool_at_its_row() -> None:
    assert made("salt", {}).in_training() is None
    found = made("salt", {"first_phase": 0.25}).in_training()
    assert found == Early(share=0.25)
    feed = Early(share=0.25).feed(stream(), row_tokens=12, seed=1, n_rows=40, rounds=(10, 50))
    assert isinstance(feed, PhasedFeed)
    assert [phase.until_row for phase in feed.phases] == [10, None]
    numbers = [{int(name.rpartition(" ")[2]) for name in feed.documents(first, 10)} for first in (0, 10)]
    assert numbers[0] == set(range(10))
    assert len(numbers[1]) == 10


def test_each_makes_the_feed_it_stands_for() -> None:
    def feed(name: str, rounds: tuple[int, ...]) -> object:
        found = made(name, {}).in_training()
        assert found is not None
        return found.feed(stream(), row_tokens=12, seed=1, n_rows=40, rounds=rounds)

    within = feed("seta", (60,))
    assert isinstance(within, WatchedFeed)
    assert len(within.candidates) == 10
    assert isinstance(feed("fresh_random", (60,)), StreamFeed)
    by_round = feed("rs2", (10, 20, 15, 15))
    assert isinstance(by_round, PhasedFeed)
    assert [phase.until_row for phase in by_round.phases] == [10, 20, 30, None]
    read = [by_round.documents(first, 10) for first in (0, 10, 20, 30)]
    numbers = [{int(name.rpartition(" ")[2]) for name in names} for names in read]
    # documents of 12 tokens fill rows of 12: a round of 10 documents is read once, whole
    assert numbers[0] == set(range(10))
    assert [len(found) for found in numbers] == [10, 10, 10, 10]
    assert not numbers[1] & numbers[2]
