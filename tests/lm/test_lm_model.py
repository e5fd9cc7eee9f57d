"""The stacked model: gradients against autograd, packing against single documents, initialisation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from prill.lm.data import Rows, TokenStream, batch, positions_of, stack_rows
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm import head as head_module  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402
from prill.lm.optimizer import AdamSettings, StackedAdamW  # noqa: E402
from prill.lm.parameters import layout, n_decayed, views  # noqa: E402

TIED = Shape(vocab_size=50, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=12)
UNTIED = Shape(vocab_size=50, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=12, tied=False)


def rows(n_models: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_models):
        docs = [rng.integers(1, 50, size=int(rng.integers(1, 20))) for _ in range(20)]
        found.append(batch(TokenStream.from_documents(docs, eos=0), np.arange(3, 6), seq_len=12))
    return stack_rows(found)


@pytest.mark.parametrize("shape", [TIED, UNTIED])
@pytest.mark.parametrize("n_models", [1, 3])
def test_the_gradient_equals_autograd_through_all_logits(
    shape: Shape, n_models: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 1)  # chunks of 16 tokens: 36 tokens need three
    stack = StackedLlama.init(shape, range(n_models))
    stack.flat += 0.05 * torch.randn(stack.flat.shape, generator=torch.Generator().manual_seed(1))
    packed = stack.pack(rows(n_models))
    losses, gradient = stack.losses_and_gradient(packed)

    leaf = stack.flat.clone().requires_grad_()
    weights = views(leaf, shape)
    stream = torch.stack([table[ids] for table, ids in zip(weights["embedding"], packed.inputs, strict=True)])
    hidden = stack._blocks(weights, stream, packed)
    logits = torch.bmm(hidden, weights["embedding" if shape.tied else "head"].transpose(1, 2))
    expected = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), packed.targets, reduction="none"
    ).mean(1)
    expected.sum().backward()
    torch.testing.assert_close(losses.float(), expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(stack.token_losses(packed).mean(1), expected.detach(), rtol=1e-5, atol=1e-6)


def test_bf16_gradients_point_the_same_way() -> None:
    exact = StackedLlama.init(TIED, [3])
    rough = StackedLlama(TIED, exact.flat, dtype=torch.bfloat16)
    losses, gradient = exact.losses_and_gradient(exact.pack(rows(1)))
    losses16, gradient16 = rough.losses_and_gradient(rough.pack(rows(1)))
    assert losses16.item() == pytest.approx(losses.item(), rel=5e-3)
    assert torch.cosine_similarity(gradient, gradient16).item() > 0.999


def test_packing_hides_every_other_document() -> None:
    stack = StackedLlama.init(TIED, [0])
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 50, size=n) for n in (5, 1, 6)]
    segments = np.repeat([0, 1, 2], [5, 1, 6])[None]
    tokens = np.concatenate(parts)[None]
    together = Rows(inputs=tokens, targets=tokens, positions=positions_of(segments), segments=segments)
    packed = stack.logits(stack.pack(stack_rows([together])))[0]
    at = 0
    for part in parts:
        one = part[None]
        alone = Rows(
            inputs=one,
            targets=one,
            positions=np.arange(len(part))[None],
            segments=np.zeros_like(one, dtype=np.int64),
        )
        torch.testing.assert_close(
            stack.logits(stack.pack(stack_rows([alone])))[0],
            packed[at : at + len(part)],
            rtol=1e-4,
            atol=1e-5,
        )
        at += len(part)


def test_a_seed_starts_the_same_in_any_stack() -> None:
    alone = StackedLlama.init(TIED, [7]).flat
    stack = StackedLlama.init(TIED, [1, 7, 3]).flat
    assert torch.equal(alone[0], stack[1])
    assert not torch.equal(stack[0], stack[1])


def test_initial_deviations() -> None:
    wide = Shape(vocab_size=500, d_model=64, n_layers=2, n_heads=2, d_ff=64, seq_len=8)
    parts = views(StackedLlama.init(wide, [0]).flat, wide)
    assert parts["embedding"].std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert parts["layers.1.down"].std().item() == pytest.approx(64**-0.5 / 2, rel=0.04)
    assert parts["final_norm"].unique().tolist() == [1.0]


def test_the_layout_covers_every_parameter_once() -> None:
    for shape in (TIED, UNTIED):
        specs = layout(shape)
        assert specs[0].start == 0
        assert all(a.stop == b.start for a, b in itertools.pairwise(specs))
        assert specs[-1].stop == shape.n_total
        assert n_decayed(shape) == shape.n_total - (2 * shape.n_layers + 1) * shape.d_model


def test_the_optimiser_equals_adamw_a_model_with_its_own_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(3, 20, generator=generator)
    settings = AdamSettings(clip_norm=1.5)
    ours = StackedAdamW(settings, n_decayed=12, first=torch.zeros(3, 20), second=torch.zeros(3, 20))
    reference = []
    for k in range(3):
        matrix, gain = flat[k, :12].clone().requires_grad_(), flat[k, 12:].clone().requires_grad_()
        groups = [{"params": [matrix], "weight_decay": 0.1}, {"params": [gain], "weight_decay": 0.0}]
        adam = torch.optim.AdamW(groups, lr=0.01 * (k + 1), betas=(0.9, 0.95), eps=1e-8)
        reference.append((matrix, gain, adam))
    mine = flat.clone()
    for _ in range(4):
        gradient = torch.randn(3, 20, generator=generator)
        for k, (matrix, gain, adam) in enumerate(reference):
            matrix.grad, gain.grad = gradient[k, :12].clone(), gradient[k, 12:].clone()
            torch.nn.utils.clip_grad_norm_([matrix, gain], 1.5)
            adam.step()
        ours.step(mine, gradient, [0.01, 0.02, 0.03])
    for k, (matrix, gain, _) in enumerate(reference):
        torch.testing.assert_close(mine[k], torch.cat([matrix, gain]).detach(), rtol=1e-4, atol=1e-6)
