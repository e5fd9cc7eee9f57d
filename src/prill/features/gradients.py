"""Gradients as features: that of a target's loss, and the curvature of a proxy, over its linear layers.

Influence is to first order how far a small step on a document lowers the target's loss,
I(z) = g_target' (H + lambda)^-1 g_z; the arithmetic is in `prill.lm.gradients`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from prill.corpus.packed import open_packed
from prill.features.checkpoints import end_of_text
from prill.features.feature import Given, WholeFeature
from prill.features.keyed import derive_seed
from prill.features.picking import target_tokens
from prill.features.proxies import PoolSample, Proxy

if TYPE_CHECKING:
    import torch

    from prill.lm.model import StackedLlama

__all__ = ["CurvatureOf", "TargetGradient", "model_of"]


@dataclass(frozen=True, kw_only=True)
class TargetGradient(WholeFeature):
    """The gradient of the mean loss of a token of each target's fit items, by layer."""

    kind: ClassVar[str] = "target-gradient"
    is_apart: ClassVar[bool] = True
    proxy: Proxy
    targets: tuple[str, ...]
    n_tokens: int = 32_768

    @property
    def label(self) -> str:
        return f"gradients of {len(self.targets)} target{'s' * (len(self.targets) != 1)}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("gradients.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from prill.lm.gradients.chunks import Chunking
        from prill.lm.gradients.influence import target_gradient
        from prill.lm.shape import flops_per_token
        from prill.lm.tensorfile import write_tensors

        model = model_of(given, self.proxy)
        prefix, length = end_of_text(given), model.shape.seq_len
        tensors: dict[str, torch.Tensor] = {}
        n_tokens: dict[str, int] = {}
        for name in self.targets:
            docs = target_tokens(given, name, n_tokens=self.n_tokens, longest=self.n_tokens, use="gradient")
            found, n_tokens[name] = target_gradient(model, docs, Chunking(length=length), prefix=prefix)
            tensors |= {f"{name}/{layer}": gradient for layer, gradient in found.items()}
        write_tensors(paths[0], tensors, {})
        flops = float(flops_per_token(model.shape) * sum(n_tokens.values()))
        return {"n_tokens": n_tokens, "flops": flops}


@dataclass(frozen=True, kw_only=True)
class CurvatureOf(WholeFeature):
    """Kronecker-factored curvature of a proxy's linear layers, attention's among them.

    Attributes:
        sample: text whose tokens the expectations are over.
        labels: `model`: drawn from the model's own predictions, which makes it the Fisher matrix; `text`: the
            tokens that follow.
        is_corrected: eigenvalues are measured in the eigenbasis (EKFAC), by a second pass.
    """

    kind: ClassVar[str] = "curvature"
    is_apart: ClassVar[bool] = True
    proxy: Proxy
    sample: PoolSample
    labels: Literal["model", "text"] = "model"
    is_corrected: bool = True

    @property
    def label(self) -> str:
        return f"curvature of the {self.proxy.size} model"

    @property
    def files(self) -> tuple[str, ...]:
        return ("curvature.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        import torch

        from prill.lm.gradients.chunks import Chunking
        from prill.lm.gradients.curvature import Factors, corrected, factored
        from prill.lm.gradients.influence import traces
        from prill.lm.shape import flops_per_token
        from prill.lm.tensorfile import write_tensors

        model = model_of(given, self.proxy)
        packed = open_packed(given.file(self.sample))
        bounds = np.asarray(packed.doc_starts)
        docs = [np.asarray(packed.tokens[a : b - 1]) for a, b in itertools.pairwise(bounds)]
        chunking, prefix = Chunking(length=model.shape.seq_len), end_of_text(given)
        draw = None
        if self.labels == "model":
            draw = torch.Generator().manual_seed(derive_seed(given.seed, "curvature labels") >> 1)
        factors = Factors()
        for one in traces(model, docs, chunking, prefix=prefix, draw=draw):
            factors.add(one)
        curvature = factored(factors)
        if self.is_corrected:
            curvature = corrected(curvature, traces(model, docs, chunking, prefix=prefix, draw=draw))
        write_tensors(paths[0], curvature.tensors(), {})
        passes = 1 + self.is_corrected
        flops = float(passes * flops_per_token(model.shape) * factors.n_tokens)
        return {"n_tokens": factors.n_tokens, "flops": flops}


def model_of(given: Given, proxy: Proxy) -> StackedLlama:
    """The proxy, fp32."""
    from prill.lm.checkpoint import load_model

    return load_model(proxy.folder(given))[0]
