"""SPDF: exact masks, weights that stay zero, and the dense training that follows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import Rows, TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.schedules.spec import ScheduleSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape, ladder_shape
from prill.lm.train import Run, TrainSettings, train

torch = pytest.importorskip("torch")

from prill.lm.bases.stored import open_base  # noqa: E402
from prill.lm.checkpoint import load_model  # noqa: E402
from prill.lm.efficiency.sparse import Sparse, SparseLearner, forward_flops, kept_weights, masks  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402
from prill.lm.parameters import layout, views  # noqa: E402

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
CPU = torch.device("cpu")


def feed(seed: int) -> StreamFeed:
    rng = np.random.default_rng(seed)
    docs = [rng.zipf(1.5, size=int(rng.integers(5, 50))) % 39 + 1 for _ in range(60)]
    return StreamFeed(stream=TokenStream.from_documents(docs, eos=0), row_tokens=16, seed=seed)


def learner(sparsity: float, *seeds: int, n_extra: int = 0) -> SparseLearner:
    start = Sparse(start=Fresh(shape=SHAPE), sparsity=sparsity)
    return start.learner(seeds, n_extra=n_extra, dtype=torch.float32, device=CPU)


def stepped(model: Any, n_steps: int = 3) -> StackedAdamW:
    """A few steps of AdamW with weight decay and clipping."""
    adam = AdamSettings(weight_decay=0.5, clip_norm=0.1)
    first, second = torch.zeros_like(model.flat), torch.zeros_like(model.flat)
    optimizer = StackedAdamW(adam, n_decayed=model.n_decayed, first=first, second=second)
    for step in range(n_steps):
        _, gradient = model.losses_and_gradient(model.pack(stacked(model, step)))
        optimizer.step(model.flat, gradient, [0.01] * model.n_models)
    return optimizer


def stacked(model: Any, step: int) -> Rows:
    one = feed(1).rows(2 * step, 2)
    copies = {
        name: np.repeat(getattr(one, name)[None], model.n_models, axis=0)
        for name in ("inputs", "targets", "positions", "segments")
    }
    return Rows(**copies)


def test_flops_ratios_of_the_paper() -> None:
    xl = {"n_layers": 24, "d_model": 2048, "seq_len": 2048, "vocab_size": 50_257}
    small = {"n_layers": 12, "d_model": 768, "seq_len": 2048, "vocab_size": 50_257}
    ratios = [forward_flops(**c) / forward_flops(**c, sparsity=s) for c in (xl, small) for s in (0.5, 0.75)]
    assert ratios == pytest.approx([1.665, 2.494, 1.357, 1.653], abs=5e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.99), st.integers(0, 2**31))
def test_every_matrix_has_its_exact_density(sparsity: float, seed: int) -> None:
    keep = masks(SHAPE, sparsity=sparsity, seed=seed)
    n_kept = 0
    for spec in layout(SHAPE):
        part = keep[spec.start : spec.stop].view(spec.shape)
        kind = spec.name.rpartition(".")[2]
        if kind in ("qkv", "gate_up", "out", "down"):
            for matrix in part.chunk({"qkv": 3, "gate_up": 2}.get(kind, 1), dim=1):
                assert int(matrix.sum()) == kept_weights(matrix.numel(), sparsity)
        else:
            assert bool(part.all())
        n_kept += 0 if kind in ("embedding", "head") else int(part.sum())
    assert Sparse(start=Fresh(shape=SHAPE), sparsity=sparsity).n_params == n_kept


def test_masks_are_keyed_by_seed_and_matrix() -> None:
    one, same, other = (masks(SHAPE, sparsity=0.5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    parts = views(one[None], SHAPE)
    assert not torch.equal(parts["layers.0.out"], parts["layers.1.out"])


def test_masked_weights_and_moments_stay_zero() -> None:
    model = learner(0.75, 1, 2, n_extra=2)
    optimizer = stepped(model)
    off = ~model.keep
    for buffer in (model.flat, optimizer.first, optimizer.second):
        assert not buffer[:, : len(off)][:, off].any()
    assert bool((optimizer.second[:, : len(off)][:, model.keep] > 0).float().mean() > 0.9)


def test_norms_are_those_of_the_weights_that_train() -> None:
    model = learner(0.75, 1)
    batch = model.pack(stacked(model, 0))
    _, gradient = model.losses_and_gradient(batch)
    _, dense = model.inner.losses_and_gradient(batch)
    kept = dense[0, model.keep.nonzero()[:, 0]]
    assert gradient.norm() == pytest.approx(float(kept.norm()), rel=1e-6)
    assert float(gradient.norm()) < float(dense.norm())


def test_no_sparsity_is_the_dense_training() -> None:
    sparse = learner(0.0, 1)
    dense = Fresh(shape=SHAPE).learner([1], n_extra=0, dtype=torch.float32, device=CPU)
    stepped(sparse)
    stepped(dense)
    assert torch.equal(sparse.flat, dense.flat)


def test_released_weights_start_at_zero_and_move(tmp_path: Path) -> None:
    sparse = learner(0.75, 1)
    stepped(sparse)
    sparse.save(tmp_path, 0, {"label": "a"})
    stored, meta = load_model(tmp_path)
    assert (meta["sparse"]["sparsity"], meta["label"]) == (0.75, "a")
    dense = open_base(tmp_path).learner([1], n_extra=0, dtype=torch.float32, device=CPU)
    batch = sparse.pack(stacked(sparse, 5))
    assert torch.equal(dense.token_losses(batch), sparse.token_losses(batch))
    _, gradient = dense.losses_and_gradient(dense.pack(stacked(dense, 0)))
    off = ~sparse.keep
    assert not stored.flat[:, off].any()
    stepped(dense, 1)
    assert torch.equal(dense.flat[:, off] != 0, gradient[:, off] != 0)
    assert float((gradient[:, off] != 0).float().mean()) > 0.9


def test_sparse_then_dense_trains_end_to_end(tmp_path: Path) -> None:
    evals = {"rest": EvalSet(docs=[np.arange(1, 30)], n_bytes=np.array([40]), eos=0)}
    plan = TrainSettings(
        start=Sparse(start=Fresh(shape=SHAPE), sparsity=0.5, seed=4),
        branch_tokens=(3200,),
        batches=BatchTable.constant(n_rows=2, row_tokens=16),
        schedule=ScheduleSpec.model_validate({"wsd": {"warmup": "5 steps"}}),
        peak_rate=1e-2,
        precision="fp32",
        device="cpu",
    )
    runs = [Run(label="a", seed=1, feed=feed(1))]
    (sparse,) = train(runs, plan, eval_sets=evals, models_dir=tmp_path)
    weights = load_model(tmp_path / "a-3200")[0].flat
    assert not weights[:, ~masks(SHAPE, sparsity=0.5, seed=4)].any()
    assert sparse.curve[-1].loss_nats < sparse.curve[0].loss_nats - 0.5
    plan = dataclasses.replace(plan, start=open_base(tmp_path / "a-3200"))
    (dense,) = train(runs, plan, eval_sets=evals)
    assert dense.curve[0].loss_nats < sparse.curve[0].loss_nats - 0.5


def test_costs_are_simulated_beside_what_is_computed() -> None:
    shape = ladder_shape("nano", vocab_size=4096)
    start = Sparse(start=Fresh(shape=shape), sparsity=0.5)
    assert start.flops_per_token == Fresh(shape=shape).flops_per_token
    # nano: two layers of 4 x 128^2 + 3 x 128 x 256 = 163,840 weights, half of them masked
    assert start.flops_per_token - start.simulated_flops_per_token == 6 * 163_840
    assert shape.n_params - start.n_params == 163_840


def test_what_cannot_be_masked_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"must be a share of at least 0 and below 1, found 1\.0"):
        Sparse(start=Fresh(shape=SHAPE), sparsity=1.0)

    class Other:
        """Stands for a start without a shape."""

    with pytest.raises(RecipeError, match="need Prill's own proxies, found Other"):
        Sparse(start=Other(), sparsity=0.5)  # type: ignore[arg-type]
