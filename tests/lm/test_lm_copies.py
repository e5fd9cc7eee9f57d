"""Copies of one checkpoint: each goes its own way, and nothing is lost in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prill.errors import DataError
from prill.lm.data import Rows, TokenStream, batch, stack_rows
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm import copies as copies_module  # noqa: E402
from prill.lm.copies import Copies, TrainingState  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=1, n_heads=2, d_ff=24, seq_len=16)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "resolve_precision", lambda name, device: "fp32")


def rows(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    docs = [rng.integers(1, 40, size=int(rng.integers(3, 20))) for _ in range(12)]
    return batch(TokenStream.from_documents(docs, eos=0), np.arange(2), seq_len=16)


def state() -> TrainingState:
    start = Copies(TrainingState.fresh(StackedLlama.init(SHAPE, [0]), rate=0.01), 1)
    for seed in range(3):
        start.step(stack_rows([rows(seed)]), 0.01)
    return start.state(0, rate=0.01)


def test_a_copy_learns_as_if_it_were_alone() -> None:
    own = state()
    together = Copies(own, 2)
    together.step(stack_rows([rows(7), rows(8)]), own.rate)
    for k, seed in enumerate((7, 8)):
        alone = Copies(own, 1)
        alone.step(stack_rows([rows(seed)]), own.rate)
        torch.testing.assert_close(together.model.flat[k], alone.model.flat[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together.model.flat[0], together.model.flat[1])
    assert together.flops > 0


def test_stepping_through_a_file_is_stepping_on(tmp_path: Path) -> None:
    own = state()
    own.save(tmp_path / "checkpoint.safetensors")
    read = TrainingState.load(tmp_path / "checkpoint.safetensors")
    assert (read.n_steps, read.rate, read.shape) == (3, 0.01, SHAPE)
    found = []
    for start in (own, read):
        copy = Copies(start, 1)
        copy.step(stack_rows([rows(9)]), start.rate)
        found.append(copy.model.flat)
    assert torch.equal(found[0], found[1])


def test_a_step_with_moments_is_another_than_a_fresh_optimisers() -> None:
    own = state()
    fresh = TrainingState.fresh(StackedLlama(SHAPE, own.flat[None].clone()), rate=own.rate)
    moves = []
    for start in (own, fresh):
        copy = Copies(start, 1)
        copy.step(stack_rows([rows(9)]), start.rate)
        moves.append(copy.model.flat[0] - own.flat)
    assert float(torch.cosine_similarity(moves[0], moves[1], dim=0)) < 0.9


def test_exams_are_weighted_means_and_rate_zero_changes_nothing() -> None:
    own, exam = state(), rows(5)
    weights = np.zeros(exam.inputs.shape, np.float32)
    weights[0, :4] = 1.0
    exam = Rows(
        inputs=exam.inputs[None],
        targets=exam.targets[None],
        positions=exam.positions[None],
        segments=exam.segments[None],
        weights=weights[None],
    )
    copies = Copies(own, 3)
    copies.step(stack_rows([rows(1), rows(2), rows(3)]), 0.0)
    found = copies.losses([exam])
    assert len(set(found[:, 0].tolist())) == 1
    model = StackedLlama(SHAPE, own.flat[None])
    losses = model.token_losses(model.pack(exam))[0, :4]
    assert found[0, 0] == pytest.approx(float(losses.mean()), rel=1e-6)


def test_a_diverged_checkpoint_is_refused(tmp_path: Path) -> None:
    own = state()
    own.flat[3] = float("nan")
    own.save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(DataError, match="must be finite"):
        TrainingState.load(tmp_path / "checkpoint.safetensors")
    with pytest.raises(DataError, match="finite losses"):
        Copies(own, 1).step(stack_rows([rows(1)]), 0.01)
