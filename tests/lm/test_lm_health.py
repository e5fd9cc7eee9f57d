"""Spikes, divergence and numbers that are none: found, told with their documents, contained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.plan import StepInfo
from prill.lm.schedules.span import Span
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.tracking.health import Finding, Health, HealthPolicy
from prill.lm.tracking.incidents import suspects
from prill.lm.tracking.metrics import Metrics
from prill.lm.tracking.observation import INCIDENTS
from prill.lm.train import Run, RunResult, TrainSettings, train

torch = pytest.importorskip("torch")

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=1, n_heads=2, d_ff=24, seq_len=16)
GARBAGE = 70  # number of the planted document


def judged(losses: list[float], norms: list[float] | None = None, **policy: Any) -> list[tuple[int, Finding]]:
    health = Health(1, HealthPolicy(**policy))
    given = norms or [1.0] * len(losses)
    return [
        (step, finding)
        for step, (loss, norm) in enumerate(zip(losses, given, strict=True), 1)
        for finding in health.judge(step, [loss], [norm])
    ]


def noisy(n: int, *, level: float = 3.0, seed: int = 0) -> list[float]:
    return (level + 0.1 * np.random.default_rng(seed).standard_normal(n)).tolist()


def test_a_spike_is_one_finding_and_its_end_another() -> None:
    losses = [*noisy(50), 5.0, 5.5, 4.9, *noisy(20, seed=1)]
    found = judged(losses)
    assert [(step, f.kind, f.since) for step, f in found] == [(51, "loss spike", None), (54, "recovery", 51)]
    spike = found[0][1]
    assert spike.action == "warn"
    assert spike.value == 5.0
    assert spike.before == pytest.approx(3.0, abs=0.1)


def test_the_limits_by_hand() -> None:
    """2.8 to 3.2 by 0.1 in turn: median 3.0, median step 0.1, so the noise is 0.1048 and 8 of it 0.8387."""
    past = [2.8, 2.9, 3.0, 3.1, 3.2] * 4
    assert judged([*past, 3.83]) == []
    assert [f.kind for _, f in judged([*past, 3.85])] == ["loss spike"]
    assert [f.kind for _, f in judged([*past, 3.51], spike_deviations=1.0)] == ["loss spike"]
    assert judged([*past, 3.49], spike_deviations=1.0) == []  # less than `spike_rise`
    norms = [1.0, 1.1, 0.9, 1.0] * 5
    assert judged([3.0] * 21, [*norms, 9.9]) == []
    ((_, found),) = judged([3.0] * 21, [*norms, 10.1])  # 10 x the median counts; 8 deviations are less
    assert found.kind == "gradient spike"
    assert (round(found.before, 6), round(found.value, 6)) == (1.0, 10.1)


def test_a_loss_that_stays_up_diverges_once() -> None:
    rising = [3.0 + min(2.0, 0.02 * max(0, step - 100)) for step in range(300)]
    found = [(step, f.kind) for step, f in judged(rising)]
    # +1 at step 150, the median of 64 follows 32 steps later, and must stay for another 32
    assert len(found) == 1
    assert found[0][1] == "divergence"
    assert 205 <= found[0][0] <= 225


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), decades=st.floats(0.0, 1.0))
def test_healthy_curves_are_silent(seed: int, decades: float) -> None:
    """A power law with noise, warm-up included."""
    rng = np.random.default_rng(seed)
    steps = np.arange(1, 401)
    losses = 2.5 + 4.0 * steps**-0.4 + rng.standard_normal(400) * 0.1 * 10**-decades
    norms = np.exp(rng.standard_normal(400) * 0.2) * (1 + 20 / steps)
    assert judged(losses.tolist(), norms.tolist()) == []


def test_a_new_level_ends_the_episode_of_a_spike() -> None:
    losses = [*noisy(50), *noisy(200, level=4.5)]
    found = [(step, f.kind) for step, f in judged(losses)]
    assert found[0] == (51, "loss spike")
    assert [kind for _, kind in found[1:]] == ["divergence"]
    later = judged([*losses, 9.0])
    assert (later[-1][0], later[-1][1].kind) == (251, "loss spike")


def test_a_branch_is_judged_from_a_copy_and_the_trunk_goes_on_from_its_own() -> None:
    health = Health(1)
    for step in range(100):
        assert health.judge(step, [3.0], [1.0]) == []
    for step in range(100, 300):
        assert health.judge(step, [1.5], [1.0], branch=0) == []  # decayed, far lower
    for step in range(300, 500):
        assert health.judge(step, [3.0], [1.0]) == []


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), stop=st.integers(1, 149))
def test_a_restored_watch_finds_what_an_uninterrupted_one_finds(seed: int, stop: int) -> None:
    rng = np.random.default_rng(seed)
    losses = np.where(rng.random(150) < 0.03, 9.0, 3.0) + rng.standard_normal(150) * 0.1
    whole, resumed = Health(1), Health(1)
    for step in range(150):
        if step == stop:
            state = json.loads(json.dumps(resumed.state()))
            resumed = Health(1)
            resumed.restore(state)
        given = {"branch": 0 if 60 <= step < 90 else None}
        assert whole.judge(step, [losses[step]], [1.0], **given) == resumed.judge(
            step, [losses[step]], [1.0], **given
        )


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(RecipeError, match="window of at least 16 steps"):
        HealthPolicy(window=3)


def stream(seed: int, *, garbage: bool = False) -> TokenStream:
    """Each token follows from the last by a rule; the planted document breaks it with unknown tokens."""
    rng = np.random.default_rng(seed)
    documents = []
    for number in range(90):
        first = int(rng.integers(0, 19))
        tokens = 1 + (first + 3 * np.arange(31)) % 19
        if garbage and number == GARBAGE:
            tokens = rng.integers(20, 40, 31)
        documents.append(tokens)
    return TokenStream.from_documents(documents, eos=0, name=f"stream {seed}")


def trained(
    folder: Path, *, rates: tuple[float, ...], garbage: bool = False, health: HealthPolicy | None = None,
    notes: list[str] | None = None, **given: Any,
) -> list[RunResult]:  # fmt: skip
    """One model a rate; 85 steps of two rows of 16 tokens, each a document of 31 tokens and its end."""
    runs = [
        Run(
            label=f"arm/{k}",
            seed=k,
            feed=StreamFeed(
                stream=stream(k, garbage=garbage and k == 0), row_tokens=16, seed=k, shuffle="none"
            ),
            peak_rate=rate,
        )
        for k, rate in enumerate(rates)
    ]
    plan = TrainSettings(
        start=Fresh(shape=SHAPE), batches=BatchTable.constant(2, 16), branch_tokens=(85 * 32,),
        schedule=ScheduleSpec(wsd=WsdSpec(warmup=Span(4, "steps"), decay=Span(4, "steps"))),
        precision="fp32", device="cpu", health=health or HealthPolicy(),
    )  # fmt: skip
    told = notes if notes is not None else []
    return train(
        runs, plan, eval_sets={"e": EVALS}, metrics=Metrics(folder=folder, note=told.append), **given
    )


EVALS = EvalSet(docs=[1 + 3 * np.arange(15) % 19], n_bytes=np.array([15]), eos=0)


def incidents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / INCIDENTS).read_text().splitlines()]


def test_a_planted_document_is_named(tmp_path: Path) -> None:
    notes: list[str] = []
    trained(tmp_path, rates=(1e-2, 1e-2), garbage=True, notes=notes)
    found = incidents(tmp_path)
    spike = next(record for record in found if record["kind"] == "loss spike")
    assert (spike["run"], spike["step"], spike["action"]) == ("arm/0", GARBAGE + 1, "warn")
    assert spike["n_tokens"] == (GARBAGE + 1) * 32
    assert spike["loss"] > spike["before"] + 2
    assert spike["suspects"]["documents"] == [f"stream 0, document {GARBAGE}"]
    worst = spike["suspects"]["worst_rows"]
    assert [row["documents"] for row in worst] == [[f"stream 0, document {GARBAGE}"]] * 2
    assert worst[0]["loss"] >= worst[1]["loss"]
    assert all(record["run"] == "arm/0" for record in found)
    assert any(record["kind"] == "recovery" and record["since"] == GARBAGE + 1 for record in found)
    assert any("row of highest loss: stream 0, document 70" in note for note in notes)


def test_a_model_that_breaks_stops_the_training_with_its_record(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"(?s)run 'arm/1': loss and gradient must be finite.*incidents\.jsonl"
    ):
        trained(tmp_path, rates=(1e-2, 1e35))
    (record,) = incidents(tmp_path)
    assert (record["run"], record["kind"], record["action"]) == ("arm/1", "not finite", "stop")
    assert record["suspects"]["documents"]


def test_a_masked_model_leaves_the_others_bit_identical(tmp_path: Path) -> None:
    policy = HealthPolicy(not_finite="mask")
    healthy = trained(tmp_path / "healthy", rates=(1e-2, 1e-2))
    broken = trained(tmp_path / "broken", rates=(1e-2, 1e35), health=policy)
    assert np.array_equal(healthy[0].branches[0].losses["e"], broken[0].branches[0].losses["e"])
    assert [p.loss_nats for p in healthy[0].curve] == [p.loss_nats for p in broken[0].curve]
    (record,) = incidents(tmp_path / "broken")
    assert record["action"] == "mask"
    metrics = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["learning_rate/arm/1"] == 0
    assert metrics[-1]["learning_rate/arm/0"] > 0
    assert metrics[-1]["loss/arm/1"] == pytest.approx(math.log(40))  # emptied: every token is as likely
    assert [result.is_masked for result in broken] == [False, True]
    assert [result.branches[0].is_masked for result in broken] == [False, True]


class KilledError(Exception):
    """Stands in for a signal."""


def test_incidents_and_metrics_of_a_killed_training_end_up_the_same(tmp_path: Path) -> None:
    def kill(info: StepInfo) -> None:
        if info.done == GARBAGE + 2:  # within the episode
            raise KilledError

    trained(tmp_path / "whole", rates=(1e-2,), garbage=True)
    folder, state = tmp_path / "killed", tmp_path / "state"
    with pytest.raises(KilledError):
        trained(folder, rates=(1e-2,), garbage=True, checkpoint_dir=state, on_step=kill)
    trained(folder, rates=(1e-2,), garbage=True, checkpoint_dir=state)
    assert len(incidents(folder)) >= 2
    for name in ("metrics.jsonl", "incidents.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_suspects_without_losses_are_the_batch() -> None:
    feed = StreamFeed(stream=stream(0), row_tokens=16, seed=0, shuffle="none")
    found = suspects(feed, 4, 2)
    assert found.documents == ("stream 0, document 2",)
    assert found.worst_rows == ()
    nan = suspects(feed, 4, 2, np.repeat([1.0, math.nan], 16))
    assert [row.row for row in nan.worst_rows] == [5, 4]
