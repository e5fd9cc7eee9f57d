"""Hand-written derivatives against autograd of the plain formulas; the head's guard against overflow."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from prill.lm.data import Rows, positions_of

torch = pytest.importorskip("torch")

from prill.lm import _fused as fused_module  # noqa: E402
from prill.lm import layers  # noqa: E402
from prill.lm.head import head_backward  # noqa: E402
from prill.lm.layers import add_norm, attend, attention, gated, rms_norm, split_heads  # noqa: E402
from prill.lm.packed import attention_mask, pack, pieces_of  # noqa: E402


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def agree(ours: torch.Tensor, plain: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    above = torch.randn(plain.shape, generator=torch.Generator().manual_seed(9))
    mine = torch.autograd.grad(ours, inputs, above, retain_graph=True)
    theirs = torch.autograd.grad(plain, inputs, above)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_rms_norm() -> None:
    stream, gain = values(3, 7, 8), values(3, 8, seed=1)
    plain = stream / (stream.square().mean(2, keepdim=True) + 1e-5).sqrt() * gain[:, None]
    agree(rms_norm(stream, gain, 1e-5), plain, [stream, gain])


def test_gated() -> None:
    both = values(2, 5, 12)
    gate, up = both.chunk(2, dim=2)
    agree(gated(both), gate * torch.sigmoid(gate) * up, [both])


def test_split_heads_rotates_pairs() -> None:
    mixed = values(2, 5, 3, 2, 4)
    angle = torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(2))
    cos, sin = angle.cos(), angle.sin()
    ours = torch.stack(split_heads(mixed, cos, sin))
    complex_heads = torch.complex(mixed[:, :, :2, :, :2], mixed[:, :, :2, :, 2:])
    turned = complex_heads * torch.polar(torch.ones_like(angle), angle)[:, :, None, None]
    rotated = torch.cat((turned.real, turned.imag), dim=-1)
    plain = torch.cat((rotated, mixed[:, :, 2:]), dim=2).permute(2, 0, 3, 1, 4)
    agree(ours, plain, [mixed])


@pytest.mark.parametrize("dense_up_to", [0, 256])
def test_both_ways_of_attention(dense_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "DENSE_ATTENTION_UP_TO", dense_up_to)
    query, key, value = (values(2, 3, 6, 4, seed=s) for s in range(3))
    segments = torch.tensor([[0, 0, 0, 1, 1, 1], [5, 6, 6, 6, 6, 7]])
    mask = attention_mask(segments, None, torch.float32)
    allowed = (segments[:, :, None] == segments[:, None]) & torch.ones(6, 6).tril().bool()
    assert torch.equal(mask[:, 0] == 0, allowed)
    scores = (query @ key.transpose(2, 3) / math.sqrt(4)).masked_fill(~allowed[:, None], -torch.inf)
    agree(attend(query, key, value, mask), torch.softmax(scores, 3) @ value, [query, key, value])


def plain_attention(mixed: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """(R, L, 3, H, e), angles = positions x (1, 0.1, ...) and a table of who sees whom -> (R, L, H e)."""
    half = mixed.shape[4] // 2
    angle = positions[:, :, None] * 0.1 ** torch.arange(half)
    pairs = torch.complex(mixed[:, :, :2, :, :half], mixed[:, :, :2, :, half:])
    turned = pairs * torch.polar(torch.ones_like(angle), angle)[:, :, None, None]
    query, key = torch.cat((turned.real, turned.imag), dim=-1).permute(2, 0, 3, 1, 4)
    scores = (query @ key.transpose(2, 3) / math.sqrt(2 * half)).masked_fill(~allowed[:, None], -torch.inf)
    return (torch.softmax(scores, 3) @ mixed[:, :, 2].transpose(1, 2)).transpose(1, 2).flatten(2)


SEGMENTS = [[0, 0, 0, 1, 1, 1], [5, 6, 6, 6, 6, -1]]
PREFIX = [[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]]
SCATTERED = [[0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0]]  # not one stretch


WAYS = [(visible, way) for visible in (None, PREFIX, SCATTERED) for way in ("compiled", "mask")]


@pytest.mark.parametrize(("visible", "way"), [*WAYS, (None, "pieces")])  # pieces take nothing visible
@pytest.mark.parametrize("portion", [1, 1 << 20])
def test_attention_within_documents(
    visible: list[list[int]] | None, portion: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_module, "SCORE_BYTES", portion)
    segments = np.array(SEGMENTS)
    seen = None if visible is None else np.array(visible, bool)
    rows = Rows(
        inputs=segments[None],
        targets=segments[None],
        positions=positions_of(segments)[None],
        segments=segments[None],
        visible=None if seen is None else seen[None],
    )
    packed = pack(rows, dtype=torch.float32, device=torch.device("cpu"))
    assert (packed.span is None) == (visible is SCATTERED)
    if way != "compiled":
        packed = replace(packed, span=None)
    if way == "pieces":  # an accelerator's
        packed = replace(packed, pieces=pieces_of(rows))
    causal = np.tril(np.ones((6, 6), bool))
    allowed = (segments[:, :, None] == segments[:, None]) & (
        causal if seen is None else causal | seen[:, None]
    )
    mixed = values(2, 6, 3, 2, 4)
    angle = packed.positions[:, :, None] * 0.1 ** torch.arange(2)
    ours = attention(mixed, (angle.cos(), angle.sin()), packed)
    agree(ours, plain_attention(mixed, packed.positions, torch.from_numpy(allowed)), [mixed])


def test_a_sum_and_its_norm() -> None:
    stream, delta, gain = values(3, 7, 8), values(3, 7, 8, seed=1), values(3, 8, seed=2)
    total, normed = add_norm(stream, delta, gain, 1e-5)
    plain = stream + delta
    plain_normed = plain / (plain.square().mean(2, keepdim=True) + 1e-5).sqrt() * gain[:, None]
    agree(torch.cat((total, normed)), torch.cat((plain, plain_normed)), [stream, delta, gain])


@pytest.mark.parametrize("name", ["add_norm", "gated", "attention"])
def test_the_compiled_parts_in_bf16(name: str) -> None:
    """Against the plain path in fp32 on the same rounded inputs: within what 8 bits hold."""
    rows = np.zeros((1, 2, 16), np.int64)
    packed = pack(
        Rows(inputs=rows, targets=rows, positions=positions_of(rows), segments=rows),
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )
    angle = packed.positions[:, :, None] * 0.1 ** torch.arange(4)
    turn = angle.cos(), angle.sin()
    draws = {
        "add_norm": (values(2, 16, 8), values(2, 16, 8, seed=1), values(2, 8, seed=2)),
        "gated": (values(2, 16, 24),),
        "attention": (values(2, 16, 3, 2, 8),),
    }[name]
    parts: dict[str, Any] = {
        "add_norm": lambda x, y, g: add_norm(x, y, g, 1e-5)[1],
        "gated": gated,
        "attention": lambda x: attention(x, turn, packed),
    }
    rough = [d.detach().bfloat16().requires_grad_() for d in draws]
    exact = [r.detach().double().requires_grad_() for r in rough]  # fp64 takes the plain path
    if name == "add_norm":
        rough[0] = rough[0].detach().float().requires_grad_()
    mine, plain = parts[name](*rough), parts[name](*exact)
    above = torch.randn(plain.shape, generator=torch.Generator().manual_seed(9)).bfloat16()
    pairs = zip(
        (mine, *torch.autograd.grad(mine, rough, above)),
        (plain, *torch.autograd.grad(plain, exact, above.double())),
        strict=True,
    )
    for ours, theirs in pairs:
        assert torch.linalg.vector_norm(ours.double() - theirs) <= 1e-2 * torch.linalg.vector_norm(theirs)


def test_nan_stays_nan_and_in_its_row() -> None:
    mixed = values(2, 6, 3, 2, 4).detach()
    mixed[1, 2] = torch.nan
    rows = np.zeros((1, 2, 6), np.int64)
    packed = pack(
        Rows(inputs=rows, targets=rows, positions=positions_of(rows), segments=rows),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    one = torch.ones(2, 6, 2)
    seen = attention(mixed, (one, 0 * one), packed)
    assert bool(seen[0].isfinite().all())
    assert bool(seen[1, 2:].isnan().all())
    both = values(2, 3, 8).detach()
    both[1, 1, 0] = torch.nan
    assert gated(both).isnan().nonzero().tolist() == [[1, 1, 0]]
    normed = add_norm(both, None, torch.ones(2, 8), 1e-5)[1]
    assert sorted(set(map(tuple, normed.isnan().nonzero()[:, :2].tolist()))) == [(1, 1)]


@pytest.mark.parametrize("scale", [1.0, 300.0])  # 300: logits far beyond what exp can hold
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_is_stable(scale: float, dtype: torch.dtype) -> None:
    hidden, head = (values(2, 5, 8) * scale).detach().to(dtype), values(2, 128, 8, seed=1).detach().to(dtype)
    targets = torch.tensor([[1, 2, 3, 4, 5], [127, 0, 7, 7, 9]])
    into = torch.empty(2, 128, 8)
    losses, below = head_backward(hidden, head, targets, into)
    plain_hidden, plain_head = hidden.float().requires_grad_(), head.float().requires_grad_()
    logits = plain_hidden @ plain_head.transpose(1, 2)
    plain = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)
    plain.sum().backward()
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2  # bf16 keeps 8 bits
    torch.testing.assert_close(losses.float(), plain.detach(), rtol=tolerance, atol=tolerance)
    for ours, theirs in ((below.float(), plain_hidden.grad), (into, plain_head.grad)):
        assert torch.linalg.vector_norm(ours - theirs) <= 3 * tolerance * torch.linalg.vector_norm(theirs)


def test_a_large_logit_of_one_model_leaves_the_others_bit_identical() -> None:
    head = values(2, 128, 8, seed=1).detach()
    targets = torch.tensor([[1, 2, 3, 4, 5], [127, 0, 7, 7, 9]])
    calm = values(2, 5, 8).detach()
    wild = calm.clone()
    wild[1] *= 300
    found = [head_backward(h, head, targets, torch.empty(2, 128, 8)) for h in (calm, wild)]
    assert found[0][0][0] == found[1][0][0]
    assert torch.equal(found[0][1][0], found[1][1][0])


def test_the_room_is_light_to_enter() -> None:
    code = "import sys, prill.lm.train, prill.lm.score, prill.lm.steplaw; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
