"""Feeds that learn from losses: told of their own rows, resumed to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import DataError, InternalError, RecipeError
from prill.lm.batches import BatchPhase, BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.pruning import InfoBatch, Planner, SeTa
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.watched import Watch, WatchedFeed
from prill.lm.fresh import Fresh
from prill.lm.plan import StepInfo
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.train import Run, RunResult, TrainSettings, train

torch = pytest.importorskip("torch")

T = 16
SHAPE = Shape(vocab_size=40, d_model=16, n_layers=1, n_heads=2, d_ff=24, seq_len=T)
TABLE = BatchTable(
    row_tokens=T,
    phases=(BatchPhase(n_rows=3, row_tokens=8, until_step=4), BatchPhase(n_rows=3, row_tokens=T)),
)
PLAN_ROWS = 96
EVALS = {"a": EvalSet(docs=[np.arange(1, 30), np.array([5, 6])], n_bytes=np.array([30, 2]), eos=0)}


class KilledError(Exception):
    """Stands for a kill at the worst moment."""


def stream(seed: int, n_docs: int = 90) -> TokenStream:
    rng = np.random.default_rng(seed)
    docs = [rng.integers(1, 40 if i % 2 else 4, int(rng.integers(4, 30))) for i in range(n_docs)]
    return TokenStream.from_documents(docs, eos=0, name=f"stream {seed}")


def feed(planner: Planner, seed: int = 1, **changes: Any) -> WatchedFeed:
    given: dict[str, Any] = {"stream": stream(seed), "row_tokens": T, "seed": seed, "n_rows": PLAN_ROWS}
    return WatchedFeed(planner=planner, **(given | changes))


def trained(runs: list[Run], **changes: Any) -> list[RunResult]:
    settings = TrainSettings(
        start=Fresh(shape=SHAPE),
        branch_tokens=(TABLE.n_tokens(18), PLAN_ROWS * T),
        batches=TABLE,
        schedule=ScheduleSpec(wsd=WsdSpec(warmup="3 steps")),
        precision="fp32",
        device="cpu",
        peak_rate=1e-2,
        checkpoint_s=changes.pop("checkpoint_s", 60.0),
    )
    return train(runs, settings, eval_sets=EVALS, **changes)


def watched(watch: Watch, n: int) -> None:
    """Read n rows, three a step, with losses that depend on the row."""
    for first in range(0, n, 3):
        watch.reach(first + 3)
        watch.rows(first, 3)
        watch.saw(first, watch.visits[first : first + 3] / 10.0)


def test_the_training_tokens_stay_the_same_and_epochs_fill_them() -> None:
    given = feed(SeTa(n_groups=4, delta=0.75))
    assert len(given.candidates) == 24 == len(set(given.candidates.tolist()))
    watch = given.watch()
    watched(watch, PLAN_ROWS)
    epochs = np.split(watch.visits, watch.epoch_starts[1:])
    assert sorted(epochs[0].tolist()) == list(range(24))
    assert all(len(set(epoch.tolist())) == len(epoch) for epoch in epochs)
    assert 72 in watch.epoch_starts  # three quarters: the last epochs are whole
    assert sorted(watch.visits[72:96].tolist()) == list(range(24))
    middle = [epoch for epoch in epochs[1:] if len(epoch) == 12]
    assert {tuple(sorted(epoch.tolist())) for epoch in middle} == {  # losses rise with the row
        tuple(range(6, 18)), tuple(range(12, 24)), tuple(range(12)),
    }  # fmt: skip


def test_a_row_that_was_never_read_counts_as_the_mean_or_as_the_setting_says() -> None:
    for initial, expected in ((None, 0.7), (3.0, 3.0)):
        watch = feed(SeTa(prune=0.5, initial_loss=initial)).watch()
        watch.reach(12)
        watch.saw(0, np.full(12, 0.7))
        known = watch._known()
        assert sorted(set(known.tolist())) == sorted({0.7, expected})


def test_rows_carry_the_planners_weights_and_the_streams() -> None:
    given = feed(InfoBatch(prune=0.5))
    watch = given.watch()
    watched(watch, 60)
    rows = watch.rows(24, 12)
    assert rows.weights is not None
    assert np.array_equal(rows.weights, np.repeat(watch.weights[24:36, None], T, axis=1))
    assert set(np.unique(watch.weights)) == {1.0, 2.0}
    assert watch.rows(0, 12).weights is None  # the first epoch: all equal
    starts = given.candidates[watch.visits[24:36]] * T
    assert np.array_equal(rows.targets[:, 0], given.stream.tokens[starts])


def test_rows_that_are_not_decided_yet_are_never_made_up() -> None:
    with pytest.raises(InternalError, match="decided"):
        feed(SeTa()).watch().rows(0, 30)
    with pytest.raises(RecipeError, match=r"found 0\.5"):
        feed(SeTa(), passes=0.5)


def test_a_copy_goes_its_own_way_and_a_state_comes_back_whole() -> None:
    given = feed(SeTa(prune=0.2))
    watch = given.watch()
    watched(watch, 42)
    other, back = watch.copy(), given.watch(watch.state())
    other.reach(90)
    other.saw(42, np.full(40, 9.0))
    for name, array in watch.state().items():
        assert np.array_equal(array, back.state()[name], equal_nan=True)
    watch.reach(96)
    back.reach(96)
    assert np.array_equal(watch.visits, back.visits)


def runs_of(planner: Planner) -> list[Run]:
    plain = StreamFeed(stream=stream(5), row_tokens=T, seed=5)
    fed = {"within/1": feed(planner), "plain": plain, "within/2": feed(planner, 2)}
    return [Run(label=label, seed=3, feed=given) for label, given in fed.items()]


@pytest.fixture(scope="module", params=[SeTa(prune=0.1, n_groups=4), InfoBatch()], ids=["seta", "infobatch"])
def unbroken(request: pytest.FixtureRequest) -> tuple[Planner, list[RunResult]]:
    """A planner, and what its trainings give when nothing stops them."""
    return request.param, trained(runs_of(request.param))


@pytest.mark.parametrize("stop_after", [3, 14, 22, 31])
def test_killed_and_resumed_gives_the_same_bytes(
    tmp_path: Path, unbroken: tuple[Planner, list[RunResult]], stop_after: int
) -> None:
    planner, whole = unbroken

    def kill(info: StepInfo) -> None:
        if info.done == stop_after:
            raise KilledError

    with pytest.raises(KilledError):
        trained(runs_of(planner), checkpoint_dir=tmp_path, on_step=kill, checkpoint_s=0.0)
    seen: list[StepInfo] = []
    resumed = trained(runs_of(planner), checkpoint_dir=tmp_path, on_step=seen.append)
    assert seen[0].resumed_from == stop_after - 1
    for a, b in zip(whole, resumed, strict=True):
        assert a.curve == b.curve
        for p, q in zip(a.branches, b.branches, strict=True):
            assert np.array_equal(p.losses["a"], q.losses["a"])


KILLED = """
import os, signal
from pathlib import Path
from test_lm_feed_watched import SeTa, Run, feed, trained
def kill(info):
    if info.done == 25:
        os.kill(os.getpid(), signal.SIGKILL)
trained([Run(label="x", seed=0, feed=feed(SeTa(prune=0.1)))], checkpoint_dir=Path({checkpoint!r}),
        on_step=kill, checkpoint_s=0.0)
"""


def test_kill_9_and_resumption_give_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED.format(checkpoint=str(tmp_path))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    seen: list[StepInfo] = []
    runs = [Run(label="x", seed=0, feed=feed(SeTa(prune=0.1)))]
    (resumed,) = trained(runs, checkpoint_dir=tmp_path, on_step=seen.append)
    (whole,) = trained(runs)
    assert seen[0].resumed_from == 24
    assert whole.curve == resumed.curve
    for p, q in zip(whole.branches, resumed.branches, strict=True):
        assert np.array_equal(p.losses["a"], q.losses["a"])


def test_the_feed_is_told_the_losses_of_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the models' token losses, row by row, with a weighted stream and rows that are cut."""
    told: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    from prill.lm import _loop

    step, saw = _loop.Loop._step, Watch.saw

    def note(self: Watch, first: int, losses: np.ndarray) -> None:
        told.append(losses)
        saw(self, first, losses)

    def check(self: Any, path: Any, segment: Any, rows: Any, share: float) -> Any:
        batch = path.model.pack(rows)
        nll = path.model.token_losses(batch)[0].numpy().reshape(3, T)
        weights = np.ones((3, T)) if rows.weights is None else rows.weights.reshape(3, T)
        expected.append((nll * (weights != 0)).sum(1) / (weights != 0).sum(1))
        return step(self, path, segment, rows, share)

    monkeypatch.setattr(Watch, "saw", note)
    monkeypatch.setattr(_loop.Loop, "_step", check)
    plain = stream(1)
    masked = TokenStream(
        tokens=plain.tokens,
        doc_starts=plain.doc_starts,
        weights=(np.arange(plain.n_tokens) % 3 > 0).astype(np.float32),
    )
    trained([Run(label="arm", seed=0, feed=feed(InfoBatch(), stream=masked))])
    assert len(told) == len(expected) > 30
    np.testing.assert_allclose(np.array(told), np.array(expected), rtol=1e-5)


def test_watching_changes_neither_losses_nor_gradients() -> None:
    """Without pruning the trained models equal those of the same rows from a plain feed, bit for bit."""
    given = feed(SeTa(n_groups=1, window_scale=1.0, delta=1.0), passes=1.0)
    assert len(given.candidates) == PLAN_ROWS  # one epoch, known beforehand

    class Same:
        name, n_tokens, highest_id = given.name, given.n_tokens, given.highest_id
        rows, documents, digest = given.rows, given.documents, given.digest

    (a,), (b,) = (trained([Run(label="x", seed=0, feed=f)]) for f in (given, Same()))
    assert a.curve == b.curve
    assert np.array_equal(a.branches[1].losses["a"], b.branches[1].losses["a"])


def test_another_planner_is_another_training(tmp_path: Path) -> None:
    trained([Run(label="x", seed=0, feed=feed(SeTa()))], checkpoint_dir=tmp_path)
    with pytest.raises(DataError, match="runs differ"):
        trained([Run(label="x", seed=0, feed=feed(SeTa(prune=0.1)))], checkpoint_dir=tmp_path)
