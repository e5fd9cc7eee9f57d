"""Training of stacks: determinism, independence, resumption, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.plan import StepInfo
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.train import Run, RunResult, TrainSettings, train

torch = pytest.importorskip("torch")

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
EVALS = {
    "rest": EvalSet(docs=[np.arange(1, 30) % 39 + 1, np.array([5])], n_bytes=np.array([40, 2]), eos=0),
    "target:a b": EvalSet(docs=[np.array([3, 4, 5])], n_bytes=np.array([4]), eos=0),
}


def stream(seed: int, n_docs: int = 60) -> TokenStream:
    rng = np.random.default_rng(seed)
    docs = [rng.integers(1, 40, size=int(rng.integers(1, 50))) for _ in range(n_docs)]
    return TokenStream.from_documents(docs, eos=0, name=f"stream {seed}")


def settings(**changes: Any) -> TrainSettings:
    given: dict[str, Any] = {
        "start": Fresh(shape=SHAPE),
        "branch_tokens": (320, 640),
        "batches": BatchTable.constant(n_rows=2, row_tokens=16),
        "schedule": ScheduleSpec(wsd=WsdSpec(warmup="3 steps")),
        "precision": "fp32",
        "device": "cpu",
    }
    return TrainSettings(**(given | changes))


def feed(source: TokenStream, seed: int, **changes: Any) -> StreamFeed:
    return StreamFeed(stream=source, row_tokens=16, seed=seed, **changes)


def runs(*seeds: int) -> list[Run]:
    return [Run(label=f"arm/{seed}", seed=seed, feed=feed(stream(seed), seed)) for seed in seeds]


def same(a: list[RunResult], b: list[RunResult]) -> bool:
    return all(
        x.curve == y.curve
        and all(
            p.n_tokens == q.n_tokens
            and all(np.array_equal(p.losses[name], q.losses[name]) for name in p.losses)
            for p, q in zip(x.branches, y.branches, strict=True)
        )
        for x, y in zip(a, b, strict=True)
    )


def test_branches_are_evaluated_at_the_planned_tokens() -> None:
    seen: list[StepInfo] = []
    (result,) = train(runs(1), settings(), eval_sets=EVALS, on_step=seen.append)
    assert [b.n_tokens for b in result.branches] == [320, 640]
    assert [b.planned_tokens for b in result.branches] == [320, 640]
    # trunk 0-8, branch 8-10, trunk 8-16, branch 16-20
    assert [(i.branch, i.step) for i in seen] == (
        [(None, s) for s in range(8)]
        + [(0, 8), (0, 9)]
        + [(None, s) for s in range(8, 16)]
        + [(1, s) for s in range(16, 20)]
    )
    assert [i.done for i in seen] == list(range(1, 23))
    assert [round(i.share_of_peak, 4) for i in seen[:4]] == [0.1667, 0.5, 0.8333, 1.0]
    assert [round(i.share_of_peak, 4) for i in seen[8:10]] == [0.75, 0.25]
    assert result.branches[0].losses["rest"].shape == (2,)


def test_a_stack_equals_runs_alone_to_rounding_and_order_only_permutes() -> None:
    stacked = train(runs(1, 2, 3), settings(), eval_sets=EVALS)
    turned = train(runs(3, 1, 2), settings(), eval_sets=EVALS)
    for seed, result in zip((1, 2, 3), stacked, strict=True):
        (alone,) = train(runs(seed), settings(), eval_sets=EVALS)
        for a, b in zip(alone.branches, result.branches, strict=True):
            np.testing.assert_allclose(a.losses["rest"], b.losses["rest"], rtol=1e-5)
    by_label = {r.label: r for r in turned}
    for result in stacked:
        np.testing.assert_allclose(
            by_label[result.label].branches[1].losses["rest"], result.branches[1].losses["rest"], rtol=1e-5
        )


def test_changing_one_runs_data_leaves_the_others_bit_identical() -> None:
    first = train(runs(1, 2), settings(), eval_sets=EVALS)
    other = [runs(1)[0], Run(label="arm/2", seed=2, feed=feed(stream(77), 2))]
    second = train(other, settings(), eval_sets=EVALS)
    assert same(first[:1], second[:1])
    assert not same(first[1:], second[1:])


class KilledError(Exception):
    """Stands in for a signal."""


@pytest.mark.parametrize("stop_after", [3, 9, 12, 21])
def test_killed_and_resumed_gives_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    whole = train(runs(1, 2), settings(), eval_sets=EVALS)

    def kill(info: StepInfo) -> None:
        if info.done == stop_after:
            raise KilledError

    every_step = settings(checkpoint_s=0.0)
    with pytest.raises(KilledError):
        train(runs(1, 2), every_step, eval_sets=EVALS, checkpoint_dir=tmp_path, on_step=kill)
    seen: list[StepInfo] = []
    resumed = train(runs(1, 2), settings(), eval_sets=EVALS, checkpoint_dir=tmp_path, on_step=seen.append)
    assert seen[0].resumed_from == stop_after - 1
    assert seen[0].done == stop_after
    assert same(whole, resumed)
    assert same(whole, train(runs(1, 2), settings(), eval_sets=EVALS, checkpoint_dir=tmp_path))


@pytest.mark.parametrize("damage", ["cut", "flip", "zero", "flip_header"])
def test_a_damaged_checkpoint_is_told_and_redone(tmp_path: Path, damage: str) -> None:
    whole = train(runs(1), settings(), eval_sets=EVALS, checkpoint_dir=tmp_path)
    file = tmp_path / "training.safetensors"
    content = bytearray(file.read_bytes())
    at = 60 if damage == "flip_header" else len(content) - 5
    content[at] ^= 1
    if damage == "cut":
        content = content[:-40]
    if damage == "zero":
        content = bytearray(len(content))
    file.write_bytes(content)
    seen: list[StepInfo] = []
    again = train(runs(1), settings(), eval_sets=EVALS, checkpoint_dir=tmp_path, on_step=seen.append)
    assert same(whole, again)
    assert seen[0].note is not None
    assert str(file) in seen[0].note


def test_a_checkpoint_of_other_runs_is_refused(tmp_path: Path) -> None:
    train(runs(1), settings(), checkpoint_dir=tmp_path)
    with pytest.raises(
        DataError, match=r"training\.safetensors: the checkpoint belongs to another.*runs differ"
    ):
        train(runs(2), settings(), checkpoint_dir=tmp_path)


def test_divergence_names_the_run_and_the_step() -> None:
    bad = [runs(1)[0], Run(label="arm/2", seed=2, feed=feed(stream(2), 2), peak_rate=1e30)]
    with pytest.raises(DataError, match=r"run 'arm/2': loss and gradient must be finite.*at step"):
        train(bad, settings())


def test_a_stream_below_one_batch_is_an_error() -> None:
    short = TokenStream.from_documents([np.arange(1, 20)], eos=0, name="stream 0")
    with pytest.raises(
        DataError, match=r"stream 0: a stream must hold at least one batch of 2 x 16 = 32 tokens"
    ):
        train([Run(label="x", seed=0, feed=feed(short, 0))], settings())


def test_ids_beyond_the_vocabulary_are_an_error() -> None:
    bad = TokenStream.from_documents([np.full(50, 40)], eos=0)
    with pytest.raises(DataError, match="below the vocabulary size 40, found 40"):
        train([Run(label="x", seed=0, feed=feed(bad, 0))], settings())


def test_labels_must_be_unique() -> None:
    with pytest.raises(RecipeError, match="'arm/1' twice"):
        train(runs(1, 1), settings())


def test_global_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(runs(1), settings(), eval_sets=EVALS)
    assert torch.equal(before, torch.get_rng_state())
    assert threads == torch.get_num_threads()
    assert torch.is_grad_enabled()


def test_a_known_language_is_learnt() -> None:
    # a cycle of 7 tokens: after a few hundred steps the next token is nearly certain
    cycle = np.tile(np.arange(1, 8), 5)
    data = TokenStream.from_documents([cycle] * 40, eos=0)
    plan = settings(
        branch_tokens=(9600,), peak_rate=5e-3, batches=BatchTable.constant(n_rows=4, row_tokens=16)
    )
    evals = {"cycle": EvalSet(docs=[cycle[:16]], n_bytes=np.array([16]), eos=0)}
    (result,) = train([Run(label="x", seed=0, feed=feed(data, 0))], plan, eval_sets=evals)
    assert result.branches[-1].losses["cycle"][0] / 16 < 0.25  # uniform would be ln 40 = 3.7
    assert result.branches[-1].n_epochs == pytest.approx(9600 / (36 * 40), rel=0.01)
