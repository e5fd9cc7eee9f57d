"""Hand-written derivatives against autograd of the plain formulas; the head's guard against overflow."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from prill.lm import layers  # noqa: E402
from prill.lm.head import head_backward  # noqa: E402
from prill.lm.layers import attend, gated, rms_norm, split_heads  # noqa: E402
from prill.lm.packed import attention_mask  # noqa: E402


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
