"""Linear layers over chains of channels: a prefix of the chains is exactly a smaller layer.

The channels are cut into chains. Output chain i reads the input chains up to i, so the weights are block
lower triangular, and what a smaller model computes does not change when chains are added or trained. With n
equal chains a layer has (n + 1) / (2 n) of the dense weights. Prefixes of a dense layer
(`prill.lm.nested.learner`) share more weights but interfere; chains pay with capacity for exactness.

A model of chains also needs norms, heads and feed-forward units by chain; the layer is what decides cost and
exactness, and it is all there is here.

K models, N tokens.
Source: Chain-of-Model, 2025, arXiv:2505.11820 (abstract). Differs: blocks are stored one after the other
without the zeros between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from prill.errors import RecipeError

__all__ = ["chain_linear", "chain_weights"]


def chain_weights(inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """Weights of a layer from chains of these input widths to chains of these output widths.

    Raises:
        RecipeError: there are not as many output as input chains, or one is empty.
    """
    if len(inputs) != len(outputs) or not inputs or min(*inputs, *outputs) < 1:
        raise RecipeError(
            f"a chain layer needs as many output as input chains, none empty, found {list(inputs)} "
            f"and {list(outputs)}",
            where="chains",
        )
    return sum(read * own for read, own in zip(accumulate(inputs), outputs, strict=True))


def chain_linear(
    x: torch.Tensor, flat: torch.Tensor, inputs: Sequence[int], outputs: Sequence[int]
) -> torch.Tensor:
    """The layer of K models, (K, N, sum of inputs) -> (K, N, sum of outputs); differentiable.

    Args:
        x: the first chains of the stream, at least those of `inputs`.
        flat: weights of the layer, block after block, (K, at least `chain_weights`): the layer of a prefix of
            the chains reads a prefix of them.
        inputs, outputs: widths of the chains.
    """
    assert flat.shape[1] >= chain_weights(inputs, outputs)
    found, start = [], 0
    for read, own in zip(accumulate(inputs), outputs, strict=True):
        block = flat[:, start : start + read * own].view(-1, read, own)
        found.append(torch.bmm(x[:, :, :read], block))
        start += read * own
    return torch.cat(found, 2)
