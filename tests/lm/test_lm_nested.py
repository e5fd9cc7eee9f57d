"""Nested sizes: prefixes of one buffer, their gradients, training, extraction, and what nesting costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prill.errors import DataError, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.checkpoint import load_model
from prill.lm.data import Rows, TokenStream, positions_of
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.nested.sizes import Nested, size_name
from prill.lm.nested.tax import NestingTax, losses_by_size
from prill.lm.objectives.objective import At, Terms
from prill.lm.plan import StepInfo
from prill.lm.schedules.span import Span
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet, score_documents
from prill.lm.shape import Shape, flops_per_token, ladder_shape
from prill.lm.train import Run, RunResult, TrainSettings, train

torch = pytest.importorskip("torch")

from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.nested.chain import chain_linear, chain_weights  # noqa: E402
from prill.lm.nested.learner import NestedLearner  # noqa: E402
from prill.lm.parameters import layout, views  # noqa: E402

SHAPE = Shape(vocab_size=23, d_model=16, n_layers=2, n_heads=4, d_ff=24, seq_len=8)
LATE = At(step=3, progress=0.9)


def rows(n_models: int, *, seed: int = 0, n_rows: int = 3) -> Rows:
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.integers(0, 2, (n_models, n_rows, 8)), axis=2)
    tokens = rng.integers(0, 23, (n_models, n_rows, 9))
    weights = rng.choice([0.0, 1.0, 2.0], (n_models, n_rows, 8)).astype(np.float32)
    return Rows(
        inputs=tokens[:, :, :-1], targets=tokens[:, :, 1:], positions=positions_of(segments),
        segments=segments, weights=weights,
    )  # fmt: skip


def learner(nested: Nested, seeds: tuple[int, ...] = (1, 2), **given: Any) -> NestedLearner:
    """With gains that differ from each other, so that a wrong one shows."""
    made = NestedLearner.init(nested, seeds, **given)
    generator = torch.Generator().manual_seed(5)
    made.flat[:, made.n_decayed :] += 0.2 * torch.randn(
        made.flat[:, made.n_decayed :].shape, generator=generator
    )
    return made


def places(nested: Nested, size: Shape) -> Any:
    """Column of the buffer that each weight of the sub-model comes from, by extracting the numbers."""
    model = NestedLearner.init(nested, [0])
    model.flat = torch.arange(model.flat.shape[1], dtype=torch.float32)[None]
    found = model.extract(size).flat[0].double()
    found[-size.d_model :] /= nested.shape.d_model / size.d_model  # the final gain holds the factor
    return found.round().long()


def masked_forward(model: NestedLearner, size: Shape, batch: Rows, k: int) -> tuple[Any, Any]:
    """Logits of the full network, all but the sub-model masked, in fp64, and the buffer they come from.

    Nothing is cut: the residual stream, the heads, the feed-forward units and the depth are masked.
    """
    full = model.shape
    flat = model.flat[k : k + 1, : full.n_total].double().requires_grad_()
    weights = {name: view[0] for name, view in views(flat, full).items()}
    columns = places(model.nested, size)
    gains = {spec.name: model.flat[k, columns[spec.start : spec.stop]].double() for spec in layout(size)}
    channel = torch.arange(full.d_model) < size.d_model
    unit = torch.arange(full.d_ff) < size.d_ff
    inputs, positions = torch.tensor(batch.inputs[k]), torch.tensor(batch.positions[k])
    segments = torch.tensor(batch.segments[k])
    length, n_heads, head_dim = inputs.shape[1], full.n_heads, full.head_dim

    def norm(x: Any, gain: Any) -> Any:
        unit_x = x * torch.rsqrt((x * x).sum(-1, keepdim=True) / size.d_model + full.norm_eps)
        padded = torch.zeros(full.d_model, dtype=torch.float64)
        padded[: size.d_model] = gain
        return unit_x * padded

    half = head_dim // 2
    angle = positions[..., None] * full.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]

    def turn(x: Any) -> Any:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    allowed = (segments[:, :, None] == segments[:, None, :]) & torch.ones(length, length).tril().bool()
    x = weights["embedding"][inputs] * channel
    for i in range(size.n_layers):
        mixed = norm(x, gains[f"layers.{i}.attention_norm"]) @ weights[f"layers.{i}.qkv"]
        query, key, value = (part.unflatten(-1, (n_heads, head_dim)) for part in mixed.chunk(3, -1))
        scores = torch.einsum("bqhe,bkhe->bhqk", turn(query), turn(key)) / head_dim**0.5
        seen = scores.masked_fill(~allowed[:, None], -torch.inf).softmax(-1)
        out = torch.einsum("bhqk,bkhe->bqhe", seen, value).flatten(2) * channel
        x = x + (out @ weights[f"layers.{i}.out"]) * channel
        gate, up = (norm(x, gains[f"layers.{i}.ffn_norm"]) @ weights[f"layers.{i}.gate_up"]).chunk(2, -1)
        x = x + ((torch.nn.functional.silu(gate) * up * unit) @ weights[f"layers.{i}.down"]) * channel
    logits = norm(x, gains["final_norm"]) @ weights["embedding"].T * (full.d_model / size.d_model)
    return logits.flatten(0, 1), flat


def test_the_grid_holds_whole_heads_and_layers_at_most_six_sizes() -> None:
    sizes = Nested(shape=ladder_shape("micro", vocab_size=4096)).sizes
    assert [(s.d_model, s.n_heads, s.d_ff, s.n_layers) for s in sizes] == [
        (256, 4, 672, 4), (256, 4, 672, 2), (128, 2, 336, 4), (128, 2, 336, 2),
        (64, 1, 168, 4), (64, 1, 168, 2),
    ]  # fmt: skip
    assert {s.head_dim for s in sizes} == {64}
    assert len(Nested(shape=ladder_shape("nano", vocab_size=4096)).sizes) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (0.3, 1.0)}, r"`widths` must rise to 1 in shares of 4.*\n.*1/4, 2/4, 3/4, 4/4"),
        ({"depths": (0.5,)}, "`depths` must rise to 1"),
        ({"widths": (1.0, 0.5)}, "must rise"),
        ({"widths": (0.25, 0.5, 0.75, 1.0)}, "2 to 6 sizes, found 8"),
        ({"widths": (1.0,), "depths": (1.0,)}, "2 to 6 sizes, found 1"),
        ({"full_only": 1.2}, "shares from 0 to 1"),
    ],
)
def test_impossible_grids_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Nested(shape=SHAPE, **changes)


def test_draws_are_full_first_then_full_smallest_and_one_between_by_seed_and_step() -> None:
    nested = Nested(shape=SHAPE)
    assert nested.drawn(7, 0.29) == (SHAPE,)
    drawn = [nested.drawn(step, 0.3) for step in range(400)]
    assert all(len(d) == 3 and d[0] == SHAPE and d[2] == nested.sizes[-1] for d in drawn)
    counts = [sum(d[1] == size for d in drawn) for size in nested.sizes[1:-1]]
    assert sum(counts) == 400
    assert min(counts) > 60  # of 100 expected; 5 deviations of 8.7
    assert drawn == [nested.drawn(step, 0.8) for step in range(400)]
    assert drawn != [dataclasses.replace(nested, seed=1).drawn(step, 0.3) for step in range(400)]
    full, *others = (flops_per_token(size) for size in nested.sizes)
    teacher = 2 * 2 * 23 * 16
    mean = full + 0.7 * (others[-1] + sum(others[:-1]) / 4 + teacher)
    assert nested.flops_per_token == pytest.approx(mean, abs=2)


def test_extracting_the_full_size_is_bit_identical() -> None:
    model = learner(Nested(shape=SHAPE), n_extra=3)
    full = model.extract(SHAPE)
    assert torch.equal(full.flat, model.flat[:, : SHAPE.n_total])
    batch = rows(2)
    assert torch.equal(model.token_losses(model.pack(batch)), full.token_losses(full.pack(batch)))


def test_an_extracted_model_equals_the_masked_full_network() -> None:
    model, batch = learner(Nested(shape=SHAPE)), rows(2)
    for size in model.nested.sizes:
        plain = model.extract(size)
        logits = plain.logits(plain.pack(batch))
        for k in range(2):
            expected, _ = masked_forward(model, size, batch, k)
            largest = float((logits[k] - expected.detach()).abs().max() / expected.detach().abs().max())
            assert largest < 1e-6, size_name(size)


def test_the_gradient_is_the_mean_of_single_gradients_padded_with_zeros() -> None:
    nested = Nested(shape=SHAPE, distilled=0.0)
    model, batch = learner(nested), rows(2)
    losses, gradient = model.losses_and_gradient(model.pack(batch), None, LATE)
    expected = torch.zeros_like(model.flat)
    drawn = nested.drawn(LATE.step, LATE.progress)
    for size in drawn:
        plain = model.extract(size)
        alone, found = plain.losses_and_gradient(plain.pack(batch))
        found[:, -size.d_model :] *= SHAPE.d_model / size.d_model  # d (factor x gain) / d gain
        expected[:, places(nested, size)] += found / 3
        if size == SHAPE:
            torch.testing.assert_close(losses, alone)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    outside = torch.ones(model.flat.shape[1], dtype=torch.bool)
    for size in drawn:
        outside[places(nested, size)] = False
    assert outside.any()
    assert not gradient[:, outside].any()


def test_smaller_models_learn_half_from_the_full_ones_distribution() -> None:
    """Against autograd through the masked network, weights of the tokens included."""
    nested = Nested(shape=SHAPE, widths=(0.5, 1.0), depths=(1.0,))
    model, batch = learner(nested), rows(2)
    _, gradient = model.losses_and_gradient(model.pack(batch), None, LATE)
    small = nested.sizes[1]
    columns = places(nested, small)[: small.n_total - 5 * small.d_model]  # the gains are leaves of their own
    for k in range(2):
        teacher, whole = masked_forward(model, SHAPE, batch, k)
        targets, weights = torch.tensor(batch.targets[k]).flatten(), torch.tensor(batch.weights[k]).flatten()
        n_trained = (weights != 0).sum()

        def mean(values: Any, weights: Any = weights, n: Any = n_trained) -> Any:
            return (values * weights.double()).sum() / n

        nll = torch.nn.functional.cross_entropy
        (of_full,) = torch.autograd.grad(mean(nll(teacher, targets, reduction="none")), whole)
        logits, flat = masked_forward(model, small, batch, k)
        kl = (teacher.softmax(1).detach() * (teacher.detach().log_softmax(1) - logits.log_softmax(1))).sum(1)
        loss = mean(0.5 * nll(logits, targets, reduction="none") + 0.5 * kl)
        (of_small,) = torch.autograd.grad(loss, flat)
        expected = ((of_full + of_small) / 2)[0, columns].float()
        torch.testing.assert_close(gradient[k, columns], expected, rtol=1e-4, atol=1e-6)


class Counting:
    """An objective with two parameters of its own and half the weight on every token."""

    def n_extra(self, width: int) -> int:
        return 2

    def terms(self, hidden: Any, batch: Any, extra: Any, at: At) -> Terms:
        assert hidden.shape[2] == SHAPE.d_model
        return Terms(
            weights=batch.weights * 0.5,
            auxiliary=torch.full((2,), 7.0),
            extra_gradient=torch.ones_like(extra),
        )

    def as_record(self) -> dict[str, Any]:
        return {}


def test_an_objective_acts_on_the_full_model_and_its_token_weights_on_all() -> None:
    model, batch = learner(Nested(shape=SHAPE), n_extra=2), rows(2)
    plain_losses, plain = model.losses_and_gradient(model.pack(batch), None, LATE)
    losses, gradient = model.losses_and_gradient(model.pack(batch), Counting(), LATE)
    torch.testing.assert_close(losses, plain_losses / 2 + 7)
    torch.testing.assert_close(gradient[:, :-2], plain[:, :-2] / 2, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient[:, -2:], torch.full((2, 2), 1 / 3))


def stream(seed: int) -> TokenStream:
    """A language with a rule: the next token is mostly 3 x + 1 modulo 19."""
    rng = np.random.default_rng(seed)
    documents = []
    for _ in range(60):
        tokens = [int(rng.integers(1, 20))]
        while len(tokens) < 24:
            tokens.append((3 * tokens[-1] + 1) % 19 + 1 if rng.random() < 0.9 else int(rng.integers(1, 20)))
        documents.append(np.array(tokens))
    return TokenStream.from_documents(documents, eos=0, name=f"stream {seed}")


EVALS = EvalSet(
    docs=[stream(99).tokens[i * 25 : i * 25 + 24] for i in range(20)], n_bytes=np.full(20, 24), eos=0
)


def trained(start: Any, seeds: tuple[int, ...] = (1, 2), steps: int = 60, **given: Any) -> list[RunResult]:
    runs = [
        Run(label=f"arm/{seed}", seed=seed, feed=StreamFeed(stream=stream(seed), row_tokens=8, seed=seed))
        for seed in seeds
    ]
    settings = TrainSettings(
        start=start, batches=BatchTable.constant(4, 8), branch_tokens=(steps * 32,),
        schedule=ScheduleSpec(wsd=WsdSpec(warmup=Span(5, "steps"))), peak_rate=1e-2, precision="fp32",
        device="cpu",
    )  # fmt: skip
    return train(runs, settings, eval_sets={"held out": EVALS}, **given)


def test_a_training_of_the_full_model_alone_equals_a_plain_one() -> None:
    """To rounding: the gradient's norm is summed over a longer row, which holds zeros."""
    plain = trained(Fresh(shape=SHAPE), steps=20)
    nested = trained(Nested(shape=SHAPE, full_only=1.0), steps=20)
    for a, b in zip(plain, nested, strict=True):
        assert a.curve[0].loss_nats == b.curve[0].loss_nats
        np.testing.assert_allclose(
            a.branches[0].losses["held out"], b.branches[0].losses["held out"], rtol=1e-5
        )


def test_one_training_teaches_every_size_and_writes_plain_models(tmp_path: Path) -> None:
    nested = Nested(shape=SHAPE)
    results = trained(nested, steps=80, models_dir=tmp_path)
    for result, place in zip(results, sorted(tmp_path.glob("*-2560")), strict=True):
        branch = result.branches[0]
        found = {size_name(SHAPE): branch.losses, **branch.sizes}
        for size in nested.sizes:
            name = size_name(size)
            model, meta = load_model(place if size == SHAPE else place / "sizes" / name)
            assert model.shape == size
            assert meta["nested"] == name
            losses = found[name]["held out"]
            assert losses.sum() / (20 * 24) < 0.85 * np.log(23), name
            np.testing.assert_allclose(score_documents(model, EVALS)[0], losses, rtol=1e-5)


def test_a_stack_of_nested_models_equals_each_alone() -> None:
    both = trained(Nested(shape=SHAPE), steps=20)
    for seed, result in zip((1, 2), both, strict=True):
        (alone,) = trained(Nested(shape=SHAPE), (seed,), steps=20)
        np.testing.assert_allclose(
            alone.branches[0].losses["held out"], result.branches[0].losses["held out"], rtol=1e-4
        )


class KilledError(Exception):
    """Stands in for a signal."""


def test_a_killed_nested_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = trained(Nested(shape=SHAPE), steps=20)

    def kill(info: StepInfo) -> None:
        if info.done == 15:
            raise KilledError

    def told(info: StepInfo) -> None:
        return None

    with pytest.raises(KilledError):
        trained(Nested(shape=SHAPE), steps=20, checkpoint_dir=tmp_path, on_step=kill)
    resumed = trained(Nested(shape=SHAPE), steps=20, checkpoint_dir=tmp_path, on_step=told)
    for a, b in zip(whole, resumed, strict=True):
        assert np.array_equal(a.branches[0].losses["held out"], b.branches[0].losses["held out"])
        assert len(a.branches[0].sizes) == 5
        for size, losses in a.branches[0].sizes.items():
            assert np.array_equal(losses["held out"], b.branches[0].sizes[size]["held out"])


def test_losses_by_size_are_those_of_the_extracted_models() -> None:
    model = learner(Nested(shape=SHAPE))
    found = losses_by_size(model, EVALS)
    assert list(found) == ["d16-l2", "d16-l1", "d8-l2", "d8-l1", "d4-l2", "d4-l1"]
    assert found["d8-l1"].shape == (2, 20)
    assert isinstance(model.extract(model.nested.sizes[3]), StackedLlama)


def test_the_nesting_tax_by_hand() -> None:
    tax = NestingTax(
        nested={"small": [3.10, 3.24], "large": [2.50, 2.60]},
        alone={"small": [3.0, 3.12], "large": [2.48, 2.58]},
    )
    assert tax.tax["small"] == pytest.approx((0.10, 0.12))
    assert tax.spread == pytest.approx(0.01)  # half of 0.12 - 0.10
    assert tax.n_agreements == (2, 2)
    worse = dataclasses.replace(tax, alone={"small": [3.0, 2.9], "large": [2.48, 2.58]})
    assert worse.n_agreements == (1, 2)
    assert not worse.can_rank
    assert dataclasses.replace(tax, tolerance=0.02).can_rank
    with pytest.raises(DataError, match="same two or more arms"):
        NestingTax(nested={"small": [1.0]}, alone={"small": [1.0]})


def test_a_prefix_of_chains_is_exactly_a_smaller_layer() -> None:
    widths = [2, 2, 4]
    assert chain_weights(widths, widths) == 44  # of 64: 2 x 2 + 4 x 2 + 8 x 4
    for n, share in ((1, 1.0), (2, 0.75), (4, 0.625), (8, 0.5625)):
        assert chain_weights([8 // n] * n, [8 // n] * n) == share * 64
    generator = torch.Generator().manual_seed(0)
    x, flat = torch.randn(2, 5, 8, generator=generator), torch.randn(2, 44, generator=generator)
    whole = chain_linear(x, flat, widths, widths)
    for n in (1, 2, 3):
        smaller = chain_linear(x[:, :, : sum(widths[:n])], flat, widths[:n], widths[:n])
        assert torch.equal(whole[:, :, : sum(widths[:n])], smaller)
    dense = torch.zeros(8, 8)
    for start, block in (
        (0, flat[0, :4].view(2, 2)),
        (2, flat[0, 4:12].view(4, 2)),
        (4, flat[0, 12:].view(8, 4)),
    ):
        dense[: block.shape[0], start : start + block.shape[1]] = block
    torch.testing.assert_close(whole[0], x[0] @ dense)
    with pytest.raises(RecipeError, match="as many output as input chains"):
        chain_weights([2], [2, 2])
