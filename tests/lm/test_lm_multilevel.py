"""Multi-level training: the maps against their matrices, what they preserve, and the cycle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import Rows, TokenStream
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.shape import Shape, flops_per_token
from prill.lm.steplaw import advise
from prill.lm.train import EvalSet, Run, TrainSettings, train
from prill.run.fingerprint import safe_name

torch = pytest.importorskip("torch")

from prill.lm.checkpoint import load_model  # noqa: E402
from prill.lm.efficiency.levels import (  # noqa: E402
    Levels,
    coalesced,
    copy_matrix,
    decoalesced,
    interpolated,
    merge_matrix,
)
from prill.lm.efficiency.multilevel import VCycle, v_cycle  # noqa: E402
from prill.lm.efficiency.stored_stack import Later, StoredStack  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402
from prill.lm.parameters import init_flat, views  # noqa: E402


def shape(**changes: Any) -> Shape:
    given: dict[str, Any] = {
        "vocab_size": 40,
        "d_model": 32,
        "n_layers": 4,
        "n_heads": 4,
        "d_ff": 48,
        "seq_len": 16,
    }
    return Shape(**(given | changes))


def feed(seed: int = 1) -> StreamFeed:
    rng = np.random.default_rng(seed)
    docs = [rng.zipf(1.5, size=int(rng.integers(5, 50))) % 39 + 1 for _ in range(200)]
    return StreamFeed(stream=TokenStream.from_documents(docs, eos=0), row_tokens=16, seed=seed)


def rows(n_models: int, first: int = 0) -> Rows:
    one = feed().rows(first, 4)
    names = ("inputs", "targets", "positions", "segments")
    return Rows(**{name: np.repeat(getattr(one, name)[None], n_models, axis=0) for name in names})


def logits(model: StackedLlama) -> torch.Tensor:
    return model.logits(model.pack(rows(model.n_models)))


def pair_gap(flat: torch.Tensor, levels: Levels) -> float:
    """The largest difference within the pairs of widened channels, units and heads, gains included."""
    worst = 0.0
    half, units = levels.large.d_model // 2, levels.large.d_ff // 2
    for name, w in views(flat, levels.large).items():
        kind = name.rpartition(".")[2]
        axes = {"embedding": (2,), "head": (2,), "down": (1, 2), "out": (1, 2)}.get(kind, (1,))
        for axis in axes:
            size = units if (kind, axis) == ("down", 1) else half
            a, b = w.split(size, dim=axis)
            worst = max(worst, float((a - b).abs().max()))
    return worst


def test_maps_of_pairs_by_hand() -> None:
    groups = torch.tensor([0, 1, 0, 1])
    f, t = merge_matrix(groups), copy_matrix(groups)
    assert f.tolist() == [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]]
    assert t.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert torch.equal(f @ t, torch.eye(2, dtype=torch.float64))


def test_groups_keep_heads_whole() -> None:
    levels = Levels(large=shape())
    # heads 0 and 2, 1 and 3, each of 8 channels; layers 0 and 1, 2 and 3
    assert levels.channel_groups.tolist() == [*range(16), *range(16)]
    assert levels.layer_groups == [0, 0, 1, 1]
    assert Levels(large=shape(), layers="halves").layer_groups == [0, 1, 0, 1]
    small = levels.small
    assert (small.d_model, small.n_heads, small.d_ff, small.n_layers) == (16, 2, 24, 2)
    assert small.head_dim == levels.large.head_dim
    f, t = merge_matrix(levels.channel_groups), copy_matrix(levels.channel_groups)
    assert torch.equal(f @ t, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_mapped_as_the_matrices_say(tied: bool) -> None:
    levels = Levels(large=shape(tied=tied), depth=1)
    large = init_flat(levels.large, [1])
    big, small = views(large, levels.large), views(coalesced(large, levels), levels.small)
    f, t = merge_matrix(levels.channel_groups), copy_matrix(levels.channel_groups)
    fu, tu = merge_matrix(levels.unit_groups), copy_matrix(levels.unit_groups)

    def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
        torch.testing.assert_close(found.double(), wanted, atol=1e-7, rtol=1e-6)

    close(small["embedding"][0], big["embedding"][0].double() @ f.T)
    if not tied:
        close(small["head"][0], big["head"][0].double() @ t)
    for found, wanted in zip(
        small["layers.1.qkv"][0].chunk(3, 1), big["layers.1.qkv"][0].chunk(3, 1), strict=True
    ):
        close(found.T, f @ wanted.double().T @ t)  # W_s = F_out W T_in, weights are stored transposed
    close(small["layers.2.out"][0].T, f @ big["layers.2.out"][0].double().T @ t)
    for found, wanted in zip(
        small["layers.0.gate_up"][0].chunk(2, 1), big["layers.0.gate_up"][0].chunk(2, 1), strict=True
    ):
        close(found.T, fu @ wanted.double().T @ t)
    close(small["layers.0.down"][0].T, f @ big["layers.0.down"][0].double().T @ tu)
    up = views(decoalesced(views_flat(small, levels.small), levels), levels.large)
    close(up["layers.2.out"][0].T, t @ small["layers.2.out"][0].double().T @ f)
    # a linear map: T (W x) = W_l (T x)
    x = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    close(up["layers.2.out"][0].double().T @ (t @ x), t @ (small["layers.2.out"][0].double().T @ x))


def views_flat(parts: dict[str, torch.Tensor], of: Shape) -> torch.Tensor:
    """Views back as one buffer."""
    flat = torch.empty(1, of.n_total)
    for name, view in views(flat, of).items():
        view.copy_(parts[name])
    return flat


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("width", "depth"), [(2, 2), (4, 1), (1, 4), (2, 4)])
@pytest.mark.parametrize("layers", ["adjacent", "halves"])
def test_there_and_back_returns_the_weights_exactly(tied: bool, width: int, depth: int, layers: Any) -> None:
    levels = Levels(large=shape(tied=tied), width=width, depth=depth, layers=layers)
    small = init_flat(levels.small, [1, 2])
    assert torch.equal(coalesced(decoalesced(small, levels), levels), small)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("heads", ["halves", "adjacent"])
def test_a_widened_model_computes_what_the_small_one_does(tied: bool, heads: Any) -> None:
    levels = Levels(large=shape(tied=tied), depth=1, heads=heads)
    small = StackedLlama(levels.small, init_flat(levels.small, [1, 2]))
    views(small.flat, levels.small)["final_norm"].mul_(1.3)
    large = StackedLlama(levels.large, decoalesced(small.flat, levels))
    torch.testing.assert_close(logits(large), logits(small), atol=2e-5, rtol=1e-4)


def test_a_deepened_model_does_not() -> None:
    levels = Levels(large=shape(), width=1)
    small = StackedLlama(levels.small, init_flat(levels.small, [1]))
    large = StackedLlama(levels.large, decoalesced(small.flat, levels))
    assert float((logits(large) - logits(small)).abs().mean()) > 0.01


def test_interpolation_breaks_the_symmetry_that_copies_keep() -> None:
    levels = Levels(large=shape(), depth=1)
    warm = init_flat(levels.large, [1])
    copied = decoalesced(coalesced(warm, levels), levels)
    assert torch.equal(interpolated(warm, copied, 0.0), warm)
    assert torch.equal(interpolated(warm, copied, 1.0), copied)
    assert pair_gap(copied, levels) == 0.0
    gaps = {}
    for alpha in (0.5, 1.0):
        model = StackedLlama(levels.large, interpolated(warm, copied, alpha))
        first, second = torch.zeros_like(model.flat), torch.zeros_like(model.flat)
        adam = StackedAdamW(AdamSettings(eps=1e-4), n_decayed=model.n_decayed, first=first, second=second)
        _, gradient = model.losses_and_gradient(model.pack(rows(1)))
        adam.step(model.flat, gradient, [0.01])
        gaps[alpha] = pair_gap(model.flat, levels)
    assert gaps[1.0] < 1e-5
    assert gaps[0.5] > 0.05


def test_change_grows_with_alpha() -> None:
    levels = Levels(large=shape())
    warm = init_flat(levels.large, [1])
    copied = decoalesced(coalesced(warm, levels), levels)
    before = logits(StackedLlama(levels.large, warm))
    changes = [
        float((logits(StackedLlama(levels.large, interpolated(warm, copied, alpha))) - before).abs().mean())
        for alpha in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert changes[0] == 0
    assert changes == sorted(changes)


def test_a_later_feed_reads_other_rows() -> None:
    whole = feed()
    later = Later(feed=whole, skipped=5)
    assert np.array_equal(later.rows(2, 3).inputs, whole.rows(7, 3).inputs)
    assert later.documents(0, 1) == whole.documents(5, 1)
    assert later.digest() != whole.digest()


def test_the_cycle_trains_counts_and_resumes(tmp_path: Path) -> None:
    levels = Levels(large=shape())
    evals = {"rest": EvalSet(docs=[np.arange(1, 30)], n_bytes=np.array([40]), eos=0)}
    plan = TrainSettings(
        start=Fresh(shape=levels.large),
        branch_tokens=(3200,),
        batches=BatchTable.constant(n_rows=2, row_tokens=16),
        precision="fp32",
        device="cpu",
    )
    cycle = VCycle(levels=levels, n_tokens=(320, 960, 640), peak_rates=(3e-3, 6e-3, None))
    runs = [Run(label=f"arm/{seed}", seed=seed, feed=feed(seed)) for seed in (1, 2)]
    found = v_cycle(runs, plan, cycle, folder=tmp_path, eval_sets=evals)
    assert [stage[0].branches[-1].n_tokens for stage in found.stages] == [320, 960, 640]
    costs = [flops_per_token(levels.large), flops_per_token(levels.small)]
    assert found.flops == (320 * costs[0], 960 * costs[1], 640 * costs[0])
    assert found.plain_flops == 1920 * costs[0] > sum(found.flops)
    losses = [stage[0].branches[-1].losses["rest"][0] for stage in found.stages]
    assert losses[2] < losses[0]
    # the last stage begins with the mean of the warm model and of the mapped small one
    name = safe_name("arm/1")
    warm = load_model(tmp_path / "0-large" / "trained" / f"{name}-320")[0].flat
    small = load_model(tmp_path / "1-small" / "trained" / f"{name}-960")[0].flat
    start = load_model(tmp_path / "2-large" / "start" / "0")[0].flat
    assert torch.equal(start, torch.lerp(warm, decoalesced(small, levels), 0.5))
    # its data is what follows the 40 rows of the stages before
    late = [Run(label="arm/1", seed=1, feed=Later(feed=feed(1), skipped=80))]
    plan = found_settings(plan, tmp_path, cycle)
    (alone,) = train(late, plan)
    assert alone.curve[0].loss_nats == pytest.approx(found.results[0].curve[0].loss_nats, rel=1e-5)
    seen: list[Any] = []
    again = v_cycle(runs, plan, cycle, folder=tmp_path, eval_sets=evals, on_step=seen.append)
    assert not seen
    assert again.results[0].curve == found.results[0].curve


def found_settings(plan: TrainSettings, folder: Path, cycle: VCycle) -> TrainSettings:
    """The last stage's settings, with the first run's model alone."""
    start = StoredStack(folders=(folder / "2-large" / "start" / "0",))
    return dataclasses.replace(
        plan,
        start=start,
        branch_tokens=(640,),
        schedule=cycle.schedules[2],
        peak_rate=advise(start.n_params, 640, 16).peak_rate,
    )


def test_sizes_that_do_not_group_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="groups of 3 must divide the 4 heads"):
        Levels(large=shape(), width=3)
    with pytest.raises(RecipeError, match="groups of 3 must divide the 4 layers"):
        Levels(large=shape(), depth=3)
    with pytest.raises(RecipeError, match=r"`alpha` must be from 0 to 1, found 1\.5"):
        VCycle(levels=Levels(large=shape()), n_tokens=(1, 1, 1), alpha=1.5)
