"""A model's training does not depend on what it is stacked with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import PrillError
from prill.lm.data import Rows, TokenStream, batch, stack_rows
from prill.lm.shape import Shape
from prill.pipeline.train_model import start_of
from prill.recipe.training import TrainRecipe

torch = pytest.importorskip("torch")

from prill.lm import model as model_module  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402

SHAPE = Shape(vocab_size=64, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)


def text(seed: int) -> TokenStream:
    rng = np.random.default_rng(seed)
    docs = [rng.integers(1, 64, size=int(rng.integers(1, 30))) for _ in range(60)]
    return TokenStream.from_documents(docs, eos=0)


def trained(
    seeds: Sequence[int],
    texts: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    broken: int | None = None,
    n_extra: int = 0,
) -> torch.Tensor:
    """Weights after three steps of four rows, one model a seed; the model `broken` starts with NaN."""
    stack = StackedLlama.init(SHAPE, seeds, dtype=dtype, n_extra=n_extra)
    if broken is not None:
        stack.flat[broken, 100] = torch.nan
    moments = {"first": torch.zeros_like(stack.flat), "second": torch.zeros_like(stack.flat)}
    optimizer = StackedAdamW(AdamSettings(clip_norm=0.5), n_decayed=stack.n_decayed, **moments)
    streams = [text(t) for t in texts]
    for step in range(3):
        rows: list[Rows] = [batch(s, np.arange(4 * step, 4 * step + 4), seq_len=16) for s in streams]
        _, gradient = stack.losses_and_gradient(stack.pack(stack_rows(rows)))
        optimizer.step(stack.flat, gradient, [1e-2 * (1 + seed) for seed in seeds])
    return stack.flat


@pytest.fixture(params=[1, 1 << 30], ids=["one at a time", "all at once"])
def grouping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "NEAR_VALUES", request.param)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.mark.usefixtures("grouping")
@DTYPES
def test_a_stack_equals_its_models_alone(dtype: torch.dtype) -> None:
    stack = trained([0, 1, 2], [5, 6, 7], dtype=dtype)
    for k in range(3):
        alone = trained([k], [5 + k], dtype=dtype)[0]
        apart = torch.linalg.vector_norm(stack[k] - alone) / torch.linalg.vector_norm(alone)
        assert apart <= (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.usefixtures("grouping")
@DTYPES
def test_permuted_models_are_permuted_results(dtype: torch.dtype) -> None:
    stack = trained([0, 1, 2], [5, 6, 7], dtype=dtype)
    other = trained([2, 0, 1], [7, 5, 6], dtype=dtype)
    assert torch.equal(stack[[2, 0, 1]], other)


@pytest.mark.usefixtures("grouping")
@DTYPES
def test_one_models_data_leave_the_others_bit_identical(dtype: torch.dtype) -> None:
    stack = trained([0, 1, 2], [5, 6, 7], dtype=dtype)
    other = trained([0, 1, 2], [5, 9, 7], dtype=dtype)
    assert torch.equal(stack[[0, 2]], other[[0, 2]])
    assert not torch.equal(stack[1], other[1])


@pytest.mark.usefixtures("grouping")
@DTYPES
def test_nan_stays_in_its_model(dtype: torch.dtype) -> None:
    stack = trained([0, 1, 2], [5, 6, 7], dtype=dtype)
    other = trained([0, 1, 2], [5, 6, 7], dtype=dtype, broken=1)
    assert torch.equal(stack[[0, 2]], other[[0, 2]])
    assert bool(other[1].isnan().any())


@pytest.mark.usefixtures("grouping")
def test_how_many_go_at_a_time_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    here = trained([0, 1, 2, 3], [5, 6, 7, 8])
    monkeypatch.setattr(model_module, "NEAR_VALUES", 64 * (2 * 24 + 6 * 16) * 3)  # two, then two
    torch.testing.assert_close(trained([0, 1, 2, 3], [5, 6, 7, 8]), here, rtol=1e-4, atol=1e-6)


def test_room_for_an_objective_changes_nothing() -> None:
    plain, wide = trained([0, 1], [5, 6]), trained([0, 1], [5, 6], n_extra=3)
    torch.testing.assert_close(wide[:, :-3], plain, rtol=1e-5, atol=1e-7)
    assert not wide[:, -3:].any()


@DTYPES
def test_blocks_computed_again_give_the_same_gradient(dtype: torch.dtype) -> None:
    kept = StackedLlama.init(SHAPE, [0, 1], dtype=dtype)
    again = StackedLlama(SHAPE, kept.flat, dtype=dtype, checkpoint_blocks=True).copy()
    assert again.checkpoint_blocks
    packed = kept.pack(stack_rows([batch(text(t), np.arange(4), seq_len=16) for t in (5, 6)]))
    for mine, theirs in zip(again.losses_and_gradient(packed), kept.losses_and_gradient(packed), strict=True):
        assert torch.equal(mine, theirs)


def start(folder: Path, **model: Any) -> Any:
    given = {"sources": {"a": {"corpus": {"paths": ["a.jsonl"]}}}, "tokens": 1000, "model": model}
    return start_of(TrainRecipe.model_validate(given), folder, vocab_size=64, n_tags=0, n_row=16)


def test_a_recipe_asks_for_blocks_to_be_computed_again(tmp_path: Path) -> None:
    plain, again = start(tmp_path, size="pico"), start(tmp_path, size="pico", recompute=True)
    settings = {"n_extra": 0, "dtype": torch.float32, "device": torch.device("cpu")}
    assert again.learner([0], **settings).checkpoint_blocks
    assert not plain.learner([0], **settings).checkpoint_blocks
    assert again.as_record() == plain.as_record()  # the same bits
    sparse = start(tmp_path, size="pico", sparsity=0.5, recompute=True)
    assert sparse.start == again
    (tmp_path / "config.json").write_text("{}")
    assert start(tmp_path, base=".", recompute=True).is_checkpointed
    with pytest.raises(ValueError, match="`recompute` does not go with `nested`"):
        start(tmp_path, size="pico", nested={}, recompute=True)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(PrillError, match="gradient checkpointing need"):
        start(tmp_path, base=".", recompute=True)
