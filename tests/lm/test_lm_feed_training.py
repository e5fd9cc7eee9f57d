"""Training over mixtures, phases, ramps and whole samples: resumed to the same bits, and learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import DataError
from prill.lm.batches import BatchPhase, BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.account import account
from prill.lm.feed.feed import Feed
from prill.lm.feed.mixture import MixtureFeed, SharePoint, Source
from prill.lm.feed.phases import FeedPhase, PhasedFeed
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.whole import WholeFeed
from prill.lm.fresh import Fresh
from prill.lm.plan import StepInfo
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.train import Run, RunResult, TrainSettings, train

torch = pytest.importorskip("torch")

T = 16
SHAPE = Shape(vocab_size=40, d_model=16, n_layers=1, n_heads=2, d_ff=24, seq_len=T)
RAMP = BatchTable(
    row_tokens=T,
    phases=(
        BatchPhase(n_rows=2, row_tokens=4, until_step=4),
        BatchPhase(n_rows=2, row_tokens=8, until_tokens=8 * 2 * T),
        BatchPhase(n_rows=4, row_tokens=T),
    ),
)
PLAN_ROWS = 80


class KilledError(Exception):
    """Stands for a kill at the worst moment."""


def cycle(word: list[int], n_docs: int, seed: int) -> TokenStream:
    """Documents that repeat a word from a random place of it on."""
    rng = np.random.default_rng(seed)
    docs = [np.roll(np.array(word * 9), -int(rng.integers(len(word))))[:20] for _ in range(n_docs)]
    return TokenStream.from_documents(docs, eos=0, name=f"cycle of {len(word)}")


def feed(seed: int, *, share: float = 0.8) -> Feed:
    """A mixture whose weights change, one source of whole samples, then a phase of its own."""
    first = StreamFeed(stream=cycle([3, 4, 5], 60, seed), row_tokens=T, seed=seed)
    whole = WholeFeed(
        stream=cycle([7, 8], 60, seed), row_tokens=T, seed=seed, cell_tokens=4, overlong="split"
    )
    mixed = MixtureFeed(
        sources=(Source(name="first", feed=first), Source(name="whole", feed=whole, max_epochs=1)),
        points=(SharePoint(row=0, shares=(0.9, 0.1)), SharePoint(row=40, shares=(1 - share, share))),
        row_tokens=T,
        n_rows=60,
        curve="line",
    )
    last = StreamFeed(stream=cycle([9, 10, 11, 12], 40, seed), row_tokens=T, seed=seed)
    return PhasedFeed(phases=(FeedPhase(feed=mixed, until_row=60), FeedPhase(feed=last)))


def trained(given: Feed, *, batches: BatchTable = RAMP, n_rows: int = PLAN_ROWS, **changes: Any) -> RunResult:
    settings = TrainSettings(
        start=Fresh(shape=SHAPE),
        branch_tokens=(n_rows * T,),
        batches=batches,
        schedule=ScheduleSpec(wsd=WsdSpec(warmup="3 steps")),
        precision="fp32",
        device="cpu",
        peak_rate=1e-2,
        checkpoint_s=changes.pop("checkpoint_s", 60.0),
    )
    (result,) = train([Run(label="arm", seed=1, feed=given)], settings, **changes)
    return result


@pytest.mark.parametrize("stop_after", [3, 6, 15])
def test_killed_and_resumed_over_ramps_mixtures_and_phases_gives_the_same_bits(
    tmp_path: Path, stop_after: int
) -> None:
    whole = trained(feed(1))

    def kill(info: StepInfo) -> None:
        if info.done == stop_after:
            raise KilledError

    with pytest.raises(KilledError):
        trained(feed(1), checkpoint_dir=tmp_path, on_step=kill, checkpoint_s=0.0)
    seen: list[StepInfo] = []
    resumed = trained(feed(1), checkpoint_dir=tmp_path, on_step=seen.append)
    assert seen[0].resumed_from == stop_after - 1
    assert resumed.curve == whole.curve
    assert resumed.branches[0].n_tokens == RAMP.n_tokens(RAMP.steps_for(PLAN_ROWS * T)) <= PLAN_ROWS * T


def test_a_change_of_weights_refuses_the_old_checkpoint(tmp_path: Path) -> None:
    trained(feed(1), checkpoint_dir=tmp_path)
    with pytest.raises(DataError):
        trained(feed(1, share=0.7), checkpoint_dir=tmp_path)


def test_what_is_mixed_in_is_learnt_in_proportion() -> None:
    def loss(share: float) -> float:
        mixed = MixtureFeed(
            sources=(
                Source(name="a", feed=StreamFeed(stream=cycle([3, 4, 5], 90, 0), row_tokens=T, seed=0)),
                Source(name="b", feed=StreamFeed(stream=cycle([7, 9, 8], 90, 0), row_tokens=T, seed=0)),
            ),
            points=(SharePoint(row=0, shares=(1 - share, share)),),
            row_tokens=T,
            n_rows=240,
        )
        evals = {"b": EvalSet(docs=[np.array([7, 9, 8] * 4)], n_bytes=np.array([12]), eos=0)}
        result = trained(mixed, batches=BatchTable.constant(4, T), n_rows=240, eval_sets=evals)
        assert account(mixed, 240, row_tokens=T).sources["n_tokens"].to_pylist()[1] == round(240 * share) * T
        return float(result.branches[0].losses["b"].sum())

    none, some, half = loss(0.0), loss(0.1), loss(0.5)
    assert none > some > half


def test_a_corpus_smaller_than_the_largest_batch_is_refused_before_the_first_step() -> None:
    tiny = StreamFeed(stream=cycle([3, 4], 4, 0), row_tokens=T, seed=0)
    ramp = BatchTable(
        row_tokens=T,
        phases=(BatchPhase(n_rows=1, row_tokens=T, until_step=9), BatchPhase(n_rows=8, row_tokens=T)),
    )
    with pytest.raises(
        DataError, match=r"run 'arm', cycle of 2: a stream must hold at least one batch of 8 x 16"
    ):
        trained(tiny, batches=ramp)
