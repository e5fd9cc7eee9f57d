"""Averages of checkpoints: weights, the schedule identity, files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.schedules.spec import ScheduleSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.train import Run, TrainSettings, train

torch = pytest.importorskip("torch")

from prill.lm.checkpoint import load_model, save_model  # noqa: E402
from prill.lm.efficiency.averaging import (  # noqa: E402
    average_models,
    decay_weights,
    ema_weights,
    uniform_weights,
    weights_of_multipliers,
)
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.score import score_documents  # noqa: E402
from prill.lm.tensorfile import read_tensors, write_tensors  # noqa: E402

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)


def saved(folder: Path, flat: torch.Tensor, **meta: Any) -> Path:
    save_model(folder, StackedLlama(SHAPE, flat), 0, meta)
    return folder


def constant(value: float) -> torch.Tensor:
    return torch.full((1, SHAPE.n_total), value)


def test_uniform_mean_by_hand(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(v), constant(v)) for v in (1.0, 2.0, 4.0)]
    average_models(folders, uniform_weights(3), tmp_path / "mean")
    model, meta = load_model(tmp_path / "mean")
    assert float(model.flat[0, 0]) == pytest.approx(7 / 3)
    assert [part["weight"] for part in meta["averaged"]] == pytest.approx([1 / 3] * 3)


def test_weights_of_a_decay_by_hand() -> None:
    weights = weights_of_multipliers([1, 0.5, 0.25])
    assert weights == [0.5, 0.25, 0.25]
    # updates 1, 1, 2 from 0: snapshots 1, 2, 4
    assert np.dot(weights, [1, 2, 4]) == 1 * 1 + 0.5 * 1 + 0.25 * 2 == 2.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.data())
def test_a_mean_is_the_decayed_sum_of_updates(drops: list[float], data: st.DataObject) -> None:
    multipliers = sorted(drops, reverse=True)
    updates = data.draw(st.lists(st.floats(-3, 3), min_size=len(drops), max_size=len(drops)))
    weights = weights_of_multipliers(multipliers)
    snapshots = np.cumsum(updates)
    decayed = math.fsum(d * g for d, g in zip(multipliers, updates, strict=True))
    assert float(np.dot(weights, snapshots)) == pytest.approx(decayed, abs=1e-9)
    assert math.fsum(weights) == pytest.approx(multipliers[0])


def test_equal_weights_are_a_linear_decay_to_nothing() -> None:
    # ten equal intervals; the middles of a linear decay are 0.95, 0.85, ..., 0.05
    found = decay_weights(range(0, 1001, 100))
    assert found == pytest.approx([0.05] + [0.1] * 9 + [0.05])
    uneven = decay_weights([0, 100, 400])  # middles 50 and 250 of 400: 0.875 and 0.375
    assert uneven == pytest.approx([0.125, 0.5, 0.375])


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=10, unique=True).map(sorted),
    st.sampled_from(["linear", "cosine", "one_minus_sqrt"]),
    st.floats(0, 1),
)
def test_decay_weights_are_a_mean(steps: list[int], curve: Any, floor: float) -> None:
    found = decay_weights(steps, curve=curve, floor=floor)
    assert len(found) == len(steps)
    assert math.fsum(found) == pytest.approx(1)
    assert min(found) >= -1e-12


def test_ema_weights() -> None:
    assert ema_weights(4, beta=0.0) == [0, 0, 0, 1]
    # m = beta m + (1 - beta) theta from 0, corrected by 1 - beta^K
    beta, theta, mean = 0.7, [3.0, -1.0, 2.0, 5.0], 0.0
    for value in theta:
        mean = beta * mean + (1 - beta) * value
    assert np.dot(ema_weights(4, beta=beta), theta) == pytest.approx(mean / (1 - beta**4))
    assert uniform_weights(4, last=1) == ema_weights(4, beta=0.0)


def test_averaging_a_noisy_quadratic_divides_its_variance() -> None:
    rng = np.random.default_rng(0)
    eta, n_steps, n_runs = 0.5, 60, 4000
    theta = np.zeros(n_runs)
    path = []
    for step in range(n_steps + 40):
        theta = theta - eta * (theta + rng.normal(size=n_runs))
        if step >= 40:
            path.append(theta)
    assert np.var(theta) == pytest.approx(eta / (2 - eta), rel=0.1)
    mean = np.tensordot(uniform_weights(n_steps), np.array(path), 1)
    assert np.var(mean) == pytest.approx(1 / n_steps, rel=0.15)


def test_the_mean_of_equal_snapshots_is_bit_exact(tmp_path: Path) -> None:
    flat = torch.randn(1, SHAPE.n_total, generator=torch.Generator().manual_seed(1))
    folders = [saved(tmp_path / str(k), flat) for k in range(3)]
    for weights in (uniform_weights(3), ema_weights(3, beta=0.9), decay_weights([0, 7, 11])):
        average_models(folders, weights, tmp_path / "mean")
        assert torch.equal(load_model(tmp_path / "mean")[0].flat, flat)


def test_the_same_average_is_the_same_bytes(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(v), constant(v)) for v in (1.0, 2.0)]
    for number in range(8):
        average_models(folders, [0.5, 0.5], tmp_path / f"mean{number}")
    found = {(tmp_path / f"mean{n}" / "model.safetensors").read_bytes() for n in range(8)}
    assert len(found) == 1


def test_a_window_does_not_read_what_has_no_weight(tmp_path: Path) -> None:
    folders = [tmp_path / "absent", *(saved(tmp_path / str(v), constant(v)) for v in (2.0, 4.0))]
    average_models(folders, uniform_weights(3, last=2), tmp_path / "mean")
    assert float(load_model(tmp_path / "mean")[0].flat[0, 0]) == 3.0


def test_sharded_transformers_folders_keep_types_and_files(tmp_path: Path) -> None:
    folders = []
    for number, value in enumerate((1.0, 2.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        one = {"a.weight": torch.full((3, 2), value, dtype=torch.bfloat16)}
        two = {"b.weight": torch.full((2,), 4 * value), "b.steps": torch.tensor([7])}
        write_tensors(folder / "model-00001-of-00002.safetensors", one, {})
        write_tensors(folder / "model-00002-of-00002.safetensors", two, {})
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "of": number}))
        folders.append(folder)
    written = average_models(folders, [0.25, 0.75], tmp_path / "mean")
    assert [path.name for path in written][-1] == "config.json"
    assert json.loads((tmp_path / "mean" / "config.json").read_text())["of"] == 1
    a = read_tensors(tmp_path / "mean" / "model-00001-of-00002.safetensors")[0]["a.weight"]
    b = read_tensors(tmp_path / "mean" / "model-00002-of-00002.safetensors")[0]
    assert (a.dtype, float(a[0, 0]), float(b["b.weight"][0]), int(b["b.steps"])) == (
        torch.bfloat16,
        1.75,
        7.0,
        7,
    )


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    one, two = (
        saved(tmp_path / "1", constant(1), stage="web"),
        saved(tmp_path / "2", constant(2), stage="code"),
    )
    with pytest.raises(RecipeError, match=r"sum to 1, found 2 snapshots and 2 weights that sum to 1\.5"):
        average_models([one, two], [0.5, 1.0], tmp_path / "mean")
    with pytest.raises(DataError, match="one stage of the data, 'code', found 'web'"):
        average_models([one, two], [0.5, 0.5], tmp_path / "mean")
    with pytest.raises(DataError, match="expected a model in safetensors, found none"):
        average_models([tmp_path / "none"], [1.0], tmp_path / "mean")
    (two / "model.safetensors").write_bytes((two / "model.safetensors").read_bytes()[:-3])
    with pytest.raises(DataError, match="damaged"):
        average_models([two], [1.0], tmp_path / "mean")
    broken = saved(tmp_path / "3", constant(math.nan))
    with pytest.raises(DataError, match="weights must be finite, found nan in embedding"):
        average_models([broken], [1.0], tmp_path / "mean")
    with pytest.raises(RecipeError, match="must fall from at most 1"):
        weights_of_multipliers([0.5, 0.75])
    with pytest.raises(RecipeError, match="two or more rising snapshots, found \\[5, 5\\]"):
        decay_weights([5, 5])
    with pytest.raises(RecipeError, match="1 to 3 snapshots, found 4"):
        uniform_weights(3, last=4)


def test_the_mean_of_a_constant_run_does_the_work_of_a_decay(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table = rng.dirichlet(np.full(39, 0.1), size=40)  # a language of one word after another

    def documents(n: int) -> list[np.ndarray]:
        found = []
        for _ in range(n):
            words = [int(rng.integers(1, 40))]
            while len(words) < 40:
                words.append(int(rng.choice(39, p=table[words[-1]])) + 1)
            found.append(np.array(words))
        return found

    stream = TokenStream.from_documents(documents(120), eos=0)
    held = documents(20)
    evals = EvalSet(docs=held, n_bytes=np.full(20, 40), eos=0)
    counts = tuple(range(2400, 4001, 160))
    plan = TrainSettings(
        start=Fresh(shape=SHAPE),
        branch_tokens=counts,
        batches=BatchTable.constant(n_rows=1, row_tokens=16),
        schedule=ScheduleSpec.model_validate({"constant": {"warmup": "20 steps"}}),
        peak_rate=3e-2,
        precision="fp32",
        device="cpu",
    )
    feed = StreamFeed(stream=stream, row_tokens=16, seed=1)
    (result,) = train(
        [Run(label="a", seed=1, feed=feed)], plan, eval_sets={"held": evals}, models_dir=tmp_path / "runs"
    )
    folders = [tmp_path / "runs" / f"a-{count}" for count in counts]
    average_models(folders, decay_weights(counts), tmp_path / "mean")
    mean = float(score_documents(load_model(tmp_path / "mean")[0], evals).sum())
    singles = [float(branch.losses["held"].sum()) for branch in result.branches]
    assert mean < min(singles)
    assert mean < 0.96 * sum(singles) / len(singles)
