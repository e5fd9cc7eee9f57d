"""What an accelerator needs and a processor can show: nothing waits for a value, and the GPU bench runs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from prill.lm.data import Rows, TokenStream, batch, stack_rows
from prill.lm.shape import Shape

torch = pytest.importorskip("torch")

from prill.lm.cuda_graph import GraphedStack  # noqa: E402
from prill.lm.head import head_backward, head_losses  # noqa: E402
from prill.lm.model import StackedLlama  # noqa: E402

SHAPE = Shape(vocab_size=64, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
BENCH = Path(__file__).parents[2] / "bench" / "gpu.py"


def rows() -> Rows:
    docs = [np.random.default_rng(n).integers(1, 64, size=9) for n in range(20)]
    stream = TokenStream.from_documents(docs, eos=0)
    return stack_rows([batch(stream, np.arange(n, n + 4), seq_len=16) for n in range(2)])


def test_a_step_never_waits_for_a_value() -> None:
    # tensors on the device `meta` have sizes and no values: to ask for one is an error
    model = StackedLlama.init(SHAPE, [0, 1], device="meta")
    with pytest.raises(RuntimeError):
        bool((model.flat > 0).any())
    losses, gradient = model.losses_and_gradient(model.pack(rows()))
    assert (losses.shape, gradient.shape) == ((2,), model.flat.shape)


def test_an_accelerators_logits_cannot_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(size, generator=generator) * 5 for size in ((2, 8, 16), (2, 64, 16)))
    targets = torch.randint(64, (2, 8), generator=generator)

    def found() -> tuple[torch.Tensor, ...]:
        into = torch.empty_like(head)
        return head_losses(hidden, head, targets), *head_backward(hidden, head, targets, into), into

    plain = found()
    monkeypatch.setattr("prill.lm.head.guards_always", lambda _: True)
    for mine, theirs in zip(found(), plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)


def test_without_cuda_nothing_is_recorded() -> None:
    model = StackedLlama.init(SHAPE, [0, 1])
    packed = model.pack(rows())
    for is_on in (True, False):
        again = GraphedStack(model, is_on=is_on)
        assert not again.is_on
        for mine, theirs in zip(
            again.losses_and_gradient(packed), model.losses_and_gradient(packed), strict=True
        ):
            assert torch.equal(mine, theirs)


def test_the_gpu_bench_runs_small_on_a_processor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--rounds", "1", "--graphs"])
    runpy.run_path(str(BENCH), run_name="__main__")
    table = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert [name.rpartition(", ")[2] for name in table[2:]] == [
        "in turn",
        "stacked",
        "recorded",
        "blocks kept",
        "blocks computed again",
        "scoring with 0.1068 M",
    ]
