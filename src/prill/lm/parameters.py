"""The parameters of K models of one shape as one matrix: a row a model, a slice a parameter.

One flat fp32 buffer holds every weight, so that casting, clipping, the optimiser and a checkpoint are each
one operation on contiguous memory, whatever the number of layers. Matrices come first (they decay), gains
last. `views` gives each parameter its shape with the leading model axis.

Initialisation: every parameter of every model has its own generator, keyed by (seed, name), so the model of a
seed starts the same in any stack. All are normal around 0: matrices with deviation 1 / sqrt(d_in), the two
that write to the residual stream with a further 1 / sqrt(2 n_layers), embeddings with 1 / sqrt(d_model), so
that the logits of a tied head begin with variance 1. Gains are 1.

Source: GPT-2 (Radford et al. 2019, section 2.3) for the residual scaling. Differs: the usual 0.02 suits a
width of 2,500; at the widths of proxies it costs hundreds of steps (nano, 0.25 M tokens of one target: 2.71
bits a byte against 2.59, one seed). K models, P parameters.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prill.lm.shape import Shape

__all__ = ["ParameterSpec", "init_flat", "layout", "n_decayed", "views"]


@dataclass(frozen=True, kw_only=True)
class ParameterSpec:
    """One parameter: where it lies in a model's row, its shape, its initial deviation (None: ones)."""

    name: str
    shape: tuple[int, ...]
    start: int
    std: float | None

    @property
    def stop(self) -> int:
        """End of its slice."""
        return self.start + math.prod(self.shape)


def layout(shape: Shape) -> tuple[ParameterSpec, ...]:
    """Every parameter of a shape in storage order. Linear weights are (d_in, d_out)."""
    d, f = shape.d_model, shape.d_ff
    std, narrow = d**-0.5, 1 / math.sqrt(2 * shape.n_layers)
    found: list[tuple[str, tuple[int, ...], float | None]] = [("embedding", (shape.vocab_size, d), std)]
    if not shape.tied:
        found.append(("head", (shape.vocab_size, d), std))
    for i in range(shape.n_layers):
        found.append((f"layers.{i}.qkv", (d, 3 * d), std))
        found.append((f"layers.{i}.out", (d, d), std * narrow))
        found.append((f"layers.{i}.gate_up", (d, 2 * f), std))
        found.append((f"layers.{i}.down", (f, d), f**-0.5 * narrow))
    for i in range(shape.n_layers):
        found.append((f"layers.{i}.attention_norm", (d,), None))
        found.append((f"layers.{i}.ffn_norm", (d,), None))
    found.append(("final_norm", (d,), None))
    specs: list[ParameterSpec] = []
    for name, size, std in found:
        specs.append(ParameterSpec(name=name, shape=size, start=specs[-1].stop if specs else 0, std=std))
    return tuple(specs)


def n_decayed(shape: Shape) -> int:
    """Length of the part of a model's row that weight decay acts on: embeddings and matrices."""
    return min(spec.start for spec in layout(shape) if spec.std is None)


def views(flat_KP: torch.Tensor, shape: Shape) -> dict[str, torch.Tensor]:
    """Each parameter as a view of the flat buffer, shape (K, ...); columns beyond P belong to none."""
    return {spec.name: flat_KP[:, spec.start : spec.stop].view(-1, *spec.shape) for spec in layout(shape)}


def init_flat(shape: Shape, seeds: Sequence[int], *, n_extra: int = 0) -> torch.Tensor:
    """Initial weights of one model a seed, then `n_extra` zeros: fp32, shape (K, P + n_extra), on the CPU."""
    flat = torch.zeros(len(seeds), shape.n_total + n_extra, dtype=torch.float32)
    for row, seed in zip(flat, seeds, strict=True):
        for spec in layout(shape):
            part = row[spec.start : spec.stop]
            if spec.std is None:
                part.fill_(1.0)
            else:
                part.normal_(0.0, spec.std, generator=_generator(seed, spec.name))
    return flat


def _generator(seed: int, name: str) -> torch.Generator:
    """A generator keyed by (seed, parameter name)."""
    key = hashlib.sha256(f"prill-init-2:{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))
