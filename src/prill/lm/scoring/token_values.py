"""From hidden states to what is known of every token, without ever holding all logits.

The loss alone needs only the sum over the vocabulary of exp(logit): logits live in tiles of a few hundred
tokens by a thousand entries, which stay in a core's cache and are large enough for full speed of the matrix
unit. Where no logit can be large (a bound by norms tells) no maximum has to be taken out; elsewhere a running
one is. Moments, ranks and the likeliest tokens need a token's whole distribution: there, a chunk of tokens
has all its logits at a time.

Everything after the products is fp32, whatever the compute type; a target's own logit is a dot product
in fp32. Axes: N tokens (n in a tile), d width, V vocabulary (v in a tile).
Source: the idea of not keeping logits, Wijmans et al. 2024, arXiv:2411.09009; the running maximum, Milakov
and Gimelshein 2018, arXiv:1805.02867. Differs: plain torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

__all__ = ["Head", "Quantity", "TokenValues", "token_values"]

Quantity = Literal["log_prob", "mean_log_prob", "var_log_prob", "rank", "is_top", "top_mass", "top_logit"]

SAFE_LOGIT = 60.0  # exp of it, summed over a vocabulary, is far from overflow


class _Tile(NamedTuple):
    """Tokens by entries of the vocabulary, and bytes of logits where whole distributions are needed."""

    tokens: int
    entries: int
    whole_bytes: int


_CPU_TILE, _ACCELERATOR_TILE = _Tile(512, 1024, 4 << 20), _Tile(8192, 16384, 512 << 20)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What makes logits of hidden states: cap tanh(scale h W^T / cap); without a cap, scale h W^T.

    Attributes:
        weight: W, in the compute type, (V, d).
        longest: the largest norm of a row of W.
    """

    weight: torch.Tensor
    longest: torch.Tensor
    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, weight: torch.Tensor, *, scale: float = 1.0, cap: float | None = None) -> Head:
        """The head with this matrix."""
        longest = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).amax()
        return cls(weight=weight, longest=longest, scale=scale, cap=cap)

    def logits(self, states: torch.Tensor, part: slice, space: _Space | None = None) -> torch.Tensor:
        """Logits of some entries, fp32, (n, v), for scaled states (n, d); in `space`, where it is given."""
        matrix = self.weight[part].t()
        if space is None:
            return self.bent(torch.mm(states, matrix).float())
        here = space.products[: len(states), : matrix.shape[1]]
        torch.mm(states, matrix, out=here)
        if space.logits is None:
            return self.bent(here)
        return self.bent(space.logits[: len(states), : matrix.shape[1]].copy_(here))

    def bent(self, logits: torch.Tensor) -> torch.Tensor:
        """The cap put on logits, in place."""
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


class _Space(NamedTuple):
    """Memory of one tile: products in the compute type, and in fp32 where that is another."""

    products: torch.Tensor
    logits: torch.Tensor | None

    @classmethod
    def of(cls, tile: _Tile, like: torch.Tensor) -> _Space:
        """Memory for tiles of products of this type, on its device."""
        size = (min(tile.tokens, len(like)), tile.entries)
        is_fp32 = like.dtype == torch.float32
        return cls(like.new_empty(size), None if is_fp32 else like.new_empty(size, dtype=torch.float32))


class TokenValues(NamedTuple):
    """Of every token, fp32, (N,).

    Attributes:
        log_prob: log-probability of the target, nats.
        mean_log_prob: mean over the model's own distribution of the log-probability; minus the entropy.
        var_log_prob: variance of the same, nats^2.
        rank: tokens that the model holds for more likely than the target; 0 is the most likely.
        is_top: 1 where fewer than k tokens are more likely than the target, else 0.
        top_mass: probability of the k most likely tokens together.
        top_logit: mean of their logits.
    """

    log_prob: torch.Tensor
    mean_log_prob: torch.Tensor | None = None
    var_log_prob: torch.Tensor | None = None
    rank: torch.Tensor | None = None
    is_top: torch.Tensor | None = None
    top_mass: torch.Tensor | None = None
    top_logit: torch.Tensor | None = None


def token_values(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, *, is_whole: bool, top: int = 0
) -> TokenValues:
    """What is known of every target.

    Args:
        hidden: last hidden states behind the final norm, in the compute type, (N, d).
        head: of the model.
        targets: int64, (N,).
        is_whole: also moments and ranks, at about three times the cost of the head.
        top: k of the likeliest tokens, at about twice the cost of the head; 0: nothing of them.
    """
    tile = _CPU_TILE if hidden.device.type == "cpu" else _ACCELERATOR_TILE
    states = hidden if head.scale == 1.0 else hidden * head.scale
    if is_whole or top:
        size = max(16, tile.whole_bytes // (4 * len(head.weight)))
        parts = [
            _from_all(states[part], head, targets[part], is_whole=is_whole, top=top)
            for part in _parts(len(states), size)
        ]
        return _joined(parts)
    found = torch.empty(len(states), dtype=torch.float32, device=hidden.device)
    space = _Space.of(tile, states)
    for part in _parts(len(states), tile.tokens):
        answers = _answers(states[part], head, targets[part])
        found[part] = answers.sub_(_log_sum_exp(states[part], head, space))
    return TokenValues(found)


def _joined(parts: Sequence[TokenValues]) -> TokenValues:
    """What is known of the tokens of all parts."""
    names = [name for name in TokenValues._fields if getattr(parts[0], name) is not None]
    return TokenValues(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _answers(states: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    """Each target's own logit, fp32, (n,)."""
    own = head.weight.index_select(0, targets).float()
    return head.bent(own.mul_(states).sum(1))


def _log_sum_exp(states: torch.Tensor, head: Head, space: _Space) -> torch.Tensor:
    """log of the sum over the vocabulary of exp(logit), fp32, (n,)."""
    parts = list(_parts(len(head.weight), space.products.shape[1]))
    norms = torch.linalg.vector_norm(states, dim=1, dtype=torch.float32)
    total = torch.zeros_like(norms)
    if bool(norms.amax() * head.longest <= SAFE_LOGIT):
        for part in parts:
            total += head.logits(states, part, space).exp_().sum(1)
        return total.log_()
    top = torch.full_like(norms, -torch.inf)
    for part in parts:
        logits = head.logits(states, part, space)
        higher = torch.maximum(top, logits.amax(1))
        total = total * (top - higher).exp_() + logits.sub_(higher[:, None]).exp_().sum(1)
        top = higher
    return total.log_() + top


def _from_all(
    states: torch.Tensor, head: Head, targets: torch.Tensor, *, is_whole: bool, top: int
) -> TokenValues:
    """From all logits of a few tokens."""
    logits = head.logits(states, slice(None))
    own = logits.gather(1, targets[:, None])
    highest = _top(logits, own, top) if top else (None, None, None)
    if not is_whole:
        total = torch.logsumexp(logits, dim=1)
        return TokenValues(own[:, 0] - total, None, None, None, *highest)
    rank = (logits > own).sum(1).float()
    logs = torch.log_softmax(logits, dim=1)
    shares = logs.exp()
    mean = (shares * logs).sum(1)
    variance = (logs - mean[:, None]).square_().mul_(shares).sum(1)
    return TokenValues(logs.gather(1, targets[:, None])[:, 0], mean, variance, rank, *highest)


def _top(logits: torch.Tensor, own: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether the target is among the k likeliest (equal logits count for it), their mass and mean logit."""
    found = torch.topk(logits, k, dim=1, sorted=False).values
    is_top = (own[:, 0] >= found.amin(1)).float()
    shares = (found - torch.logsumexp(logits, dim=1, keepdim=True)).exp_()
    return is_top, shares.sum(1), found.mean(1)


def _parts(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))
