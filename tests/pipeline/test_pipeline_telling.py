"""Workers tell how far they are, what they reached and what went wrong; the display follows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from prill.lm.batches import BatchTable
from prill.lm.fresh import Fresh
from prill.lm.plan import EvaluationInfo, StepInfo, TrainSettings
from prill.lm.schedules.spec import ScheduleSpec
from prill.lm.shape import ladder_shape
from prill.pipeline.telling import Telling, counters, followed
from prill.run.plain import PlainProgress


@pytest.fixture
def settings() -> TrainSettings:
    return TrainSettings(
        start=Fresh(shape=ladder_shape("pico", vocab_size=256)),
        branch_tokens=(64_000,),
        batches=BatchTable.constant(4, 64),
        schedule=ScheduleSpec.model_validate("constant"),
    )


def step(done: int, *losses: float, resumed_from: int | None = None) -> StepInfo:
    return StepInfo(
        done=done,
        n_steps=250,
        step=done - 1,
        branch=None,
        n_tokens=256 * done,
        losses=losses,
        norms=losses,
        share_of_peak=1.0,
        resumed_from=resumed_from,
    )


def test_the_display_shows_tokens_loss_findings_and_notes(settings: TrainSettings) -> None:
    shown = io.StringIO()
    progress, noted = PlainProgress(shown, every_s=0.0), []
    with (
        counters(2) as paths,
        progress.step("train", 128_000, "tokens") as display,
        followed(display, paths, noted.append),
    ):
        one = Telling(paths[0], settings, [0, 1], {"code": 1000})
        one.step(step(1, 3.0, 5.0))
        one.step(step(2, 3.0, 5.0))
        nats = np.log(2) * np.array([[500.0, 1500.0], [300.0, 700.0]])
        one.evaluation(EvaluationInfo(n_tokens=512, losses={"code": nats}, masked=(False, False)))
        one.note("seed-1: a spike")
        two = Telling(paths[1], settings, [2], {"code": 1000})
        two.step(step(101, float("nan"), resumed_from=100))
    lines = shown.getvalue()
    assert "code 1.500 bits per byte after 512 tokens (seed 0, seed 1)" in lines
    assert noted == ["seed-1: a spike"]
    assert "26,880 of 128 k tokens" in lines  # 2 steps of two models and 101 of one, 256 tokens each
    assert "loss 4.000 (3.000 to 5.000)" in lines


def test_models_that_broke_are_not_in_the_finding(settings: TrainSettings) -> None:
    shown = io.StringIO()
    with counters(1) as paths, PlainProgress(shown).step("train", None, "tokens") as display:
        telling = Telling(paths[0], settings, [4, 7], {"code": 100})
        losses = {"code": np.log(2) * np.array([[9e9], [200.0]])}
        with followed(display, paths):
            telling.evaluation(EvaluationInfo(n_tokens=64, losses=losses, masked=(True, False)))
            telling.evaluation(EvaluationInfo(n_tokens=99, losses=losses, masked=(True, True)))
    assert "code 2.000 bits per byte after 64 tokens (seed 7)" in shown.getvalue()
    assert "after 99" not in shown.getvalue()


def test_a_worker_that_tells_tokens_alone_is_followed_too() -> None:
    shown = io.StringIO()
    with (
        counters(1) as paths,
        PlainProgress(shown, every_s=0.0).step("train", 1000, "tokens") as display,
        followed(display, paths),
    ):
        np.memmap(paths[0], np.int64, "r+", shape=(1,))[0] = 300
    assert "300/1,000 tokens" in shown.getvalue()
    assert "loss" not in shown.getvalue()


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    shown, noted = io.StringIO(), []
    with counters(1) as paths, PlainProgress(shown).step("train", None, "") as display:
        words = paths[0].with_suffix(".said")
        with followed(display, paths, noted.append):
            words.write_text('["note", "whole"]\n["note", "to', encoding="utf-8")
        assert noted == ["whole"]
