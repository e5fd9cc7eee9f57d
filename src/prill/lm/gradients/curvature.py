"""Kronecker-factored curvature of linear layers, and the inverse of it times a gradient.

For a layer y = x W the Fisher matrix is E[(x x') kron (d d')], taken as E[x x'] kron E[d d'] (K-FAC). In the
eigenbases U, V of the two factors it is diagonal, so

    (H + lambda I)^-1 G = U [ (U' G V) / (L + lambda) ] V'      L_ij = a_i s_j

With the eigenvalue correction L_ij = E[(U' x)_i^2 (V' d)_j^2], which is the best diagonal in that basis.
Attention is covered like the rest: q/k/v as one layer, the output projection as another.

Axes: I inputs and O outputs of a layer.
Source: Martens & Grosse 2015, arXiv:1503.05671; George et al. 2018, arXiv:1806.03884 (correction); Grosse et
al. 2023, arXiv:2308.03296, section 3 (language models, damping). Differs: expectations are over tokens, not
over whole sequences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from prill.errors import DataError
from prill.lm.gradients.trace import Trace

__all__ = ["Curvature", "Factors", "LayerCurvature", "corrected", "factored"]


@dataclass(kw_only=True)
class Factors:
    """Sums of x x' and d d' over tokens, by layer, fp64."""

    n_tokens: int = 0
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    above: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, trace: Trace) -> None:
        """Count in one pass; tokens of no chunk do not count."""
        kept = trace.owner >= 0
        self.n_tokens += int(kept.sum())
        for name, layer in trace.layers.items():
            for total, values in ((self.inputs, layer.inputs), (self.above, layer.above)):
                here = values[kept]
                part = (here.T @ here).double()
                total[name] = total[name] + part if name in total else part


@dataclass(frozen=True, kw_only=True)
class LayerCurvature:
    """One layer's curvature: eigenbases of its factors, and the eigenvalues L, (I, O); all fp64."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    values: torch.Tensor

    def solve(self, gradient: torch.Tensor, *, damping: float, relative: bool = True) -> torch.Tensor:
        """(H + lambda I)^-1 G for G (..., I, O).

        Args:
            gradient: of the layer.
            damping: lambda; as a share of the mean eigenvalue where `relative`.
        """
        level = damping * float(self.values.mean()) if relative else damping
        turned = self.inputs.T @ gradient.double() @ self.outputs
        return self.inputs @ (turned / (self.values + level)) @ self.outputs.T


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """The curvature of all linear layers, layers independent of each other."""

    layers: Mapping[str, LayerCurvature]

    def solve(self, gradients: Mapping[str, torch.Tensor], *, damping: float) -> dict[str, torch.Tensor]:
        """(H + lambda I)^-1 G by layer; lambda is `damping` times each layer's mean eigenvalue.

        Raises:
            DataError: a layer's curvature is 0, so nothing it says can be weighed.
        """
        for name, layer in self.layers.items():
            if not float(layer.values.mean()) > 0:
                raise DataError(
                    f"expected a curvature above 0, found {float(layer.values.mean())}", where=name
                )
        return {name: self.layers[name].solve(g, damping=damping) for name, g in gradients.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """For a file."""
        parts = ("inputs", "outputs", "values")
        return {f"{name}/{part}": getattr(own, part) for name, own in self.layers.items() for part in parts}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Curvature:
        """From a file."""
        names = dict.fromkeys(key.rpartition("/")[0] for key in tensors)
        parts = ("inputs", "outputs", "values")
        return cls(
            layers={
                name: LayerCurvature(**{part: tensors[f"{name}/{part}"] for part in parts}) for name in names
            }
        )


def factored(factors: Factors) -> Curvature:
    """K-FAC: eigenvalues are products of the factors' own."""
    layers = {}
    for name in factors.inputs:
        a, inputs = torch.linalg.eigh(factors.inputs[name] / factors.n_tokens)
        s, outputs = torch.linalg.eigh(factors.above[name] / factors.n_tokens)
        values = a.clamp_min(0)[:, None] * s.clamp_min(0)[None, :]
        layers[name] = LayerCurvature(inputs=inputs, outputs=outputs, values=values)
    return Curvature(layers=layers)


def corrected(curvature: Curvature, traces: Iterable[Trace]) -> Curvature:
    """Eigenvalues measured in the eigenbasis over the tokens of `traces` instead of multiplied."""
    totals = {name: torch.zeros_like(own.values) for name, own in curvature.layers.items()}
    n_tokens = 0
    for trace in traces:
        kept = trace.owner >= 0
        n_tokens += int(kept.sum())
        for name, own in curvature.layers.items():
            x = trace.layers[name].inputs[kept].double() @ own.inputs
            d = trace.layers[name].above[kept].double() @ own.outputs
            totals[name] += x.square().T @ d.square()
    layers = {
        name: dataclasses.replace(own, values=totals[name] / max(1, n_tokens))
        for name, own in curvature.layers.items()
    }
    return Curvature(layers=layers)
