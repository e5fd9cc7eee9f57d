"""The head and its cross-entropy in one, without ever holding all logits.

Logits exist for one chunk of tokens and are folded at once into the losses and, in training, into the
gradients of the hidden states and of the head, so memory does not grow with tokens x vocabulary and nothing
is computed twice. An accelerator takes all models of a stack at once; a CPU takes one after the other, so
that a chunk of logits stays in its cache.

Axes: K models, N tokens (n in a chunk), d width, V vocabulary.
Source: the idea of fusing, Wijmans et al. 2024, arXiv:2411.09009; the arithmetic here is plain.
"""

from __future__ import annotations

import torch

__all__ = ["gather", "head_backward", "head_losses"]

CHUNK_BYTES = 2 << 20  # of logits: half of them and a chunk of W fit a core's second-level cache
ACCELERATOR_CHUNK_BYTES = 256 << 20
SAFE_LOGIT = 60.0  # exp of it, summed over a vocabulary, is far from overflow
SUM_GROUP = 64


def gather(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Row `ids[k, n]` of each model's table (K, V, d): (K, N, d)."""
    return torch.stack([rows.index_select(0, here) for rows, here in zip(table, ids, strict=True)])


def head_losses(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every token, nats, fp32, (K, N), for hidden (K, N, d) and head (K, V, d)."""
    losses = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
    for k in _groups(hidden):
        longest = _longest(head[k])
        for part in _chunks(hidden[k], head.shape[1]):
            losses[k, part] = _Chunk(hidden[k, part], head[k], targets[k, part], longest).losses
    return losses


def head_backward(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, into: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of each model (K,), its gradient for `hidden` and, written to `into`, for `head`."""
    n_models, n_tokens, _ = hidden.shape
    hidden_gradient = torch.empty_like(hidden)
    losses = torch.zeros(n_models, dtype=torch.float64, device=hidden.device)
    for k in _groups(hidden):
        losses[k] = _group_backward(hidden[k], head[k], targets[k], into[k], hidden_gradient[k])
    into.div_(n_tokens)
    return losses / n_tokens, hidden_gradient.div_(n_tokens)


def _group_backward(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, into: torch.Tensor, below: torch.Tensor
) -> torch.Tensor:
    """Summed cross-entropy of each model; its gradients go to `into` (head) and `below` (hidden).

    With w = exp(h W^T) and s its row sums, the loss is log s - h W_t and its gradients are (w W) / s - W_t
    for h and w^T (h / s) - onehot^T h for W. Dividing the small factors by s instead of w saves two
    passes over the logits. Where a logit could overflow, the row's maximum is taken out first.
    """
    losses = torch.zeros(hidden.shape[0], dtype=torch.float64, device=hidden.device)
    longest = _longest(head)
    for number, part in enumerate(_chunks(hidden, head.shape[1])):
        here, wanted = hidden[:, part], targets[:, part]
        chunk = _Chunk(here, head, wanted, longest)
        weight, total = chunk.weight, chunk.total[:, :, None]
        losses += chunk.losses.sum(1, dtype=torch.float64)
        below[:, part] = (torch.bmm(weight, head) / total).sub_(chunk.answer)
        scaled = (here / total).to(here.dtype)
        head_gradient = torch.bmm(weight.transpose(1, 2), scaled)
        into.add_(head_gradient) if number else into.copy_(head_gradient)
        for k, ids in enumerate(wanted):
            into[k].index_add_(0, ids, here[k].float(), alpha=-1.0)
    return losses


class _Chunk:
    """The head over one chunk of n tokens.

    Attributes:
        weight: w = exp(h W^T - shift), (K, n, V).
        total: s, the sums of w over V, (K, n) fp32.
        answer: W_t, the head's row of each target, (K, n, d).
        losses: log s + shift - h W_t, (K, n) fp32.
    """

    def __init__(
        self, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, longest: torch.Tensor
    ) -> None:
        self.weight, shift = _exponentials(hidden, head, longest)
        self.total = _row_sums(self.weight)
        self.answer = gather(head, targets)
        self.losses = self.total.log() + shift - (hidden.float() * self.answer).sum(2)


def _groups(hidden: torch.Tensor) -> list[slice]:
    """Models whose head is computed together: all on an accelerator, one on a CPU."""
    n_models = hidden.shape[0]
    size = 1 if hidden.device.type == "cpu" else n_models
    return [slice(first, first + size) for first in range(0, n_models, size)]


def _longest(head: torch.Tensor) -> torch.Tensor:
    """The largest norm of a row of each model's head, fp32, (K,)."""
    norms: torch.Tensor = torch.linalg.vector_norm(head, dim=2, dtype=torch.float32)
    return norms.amax(1)


def _chunks(hidden: torch.Tensor, vocab_size: int) -> list[slice]:
    """Slices of the token axis whose logits take about `CHUNK_BYTES`."""
    n_models, n_tokens, _ = hidden.shape
    room = CHUNK_BYTES if hidden.device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
    size = max(16, room // (n_models * vocab_size * hidden.element_size()))
    return [slice(start, min(n_tokens, start + size)) for start in range(0, n_tokens, size)]


def _exponentials(
    hidden: torch.Tensor, head: torch.Tensor, longest: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(h W^T - shift), (K, n, V), and the shift, (K, n), which is 0 unless |h| max|W_v| is large."""
    logits = torch.bmm(hidden, head.transpose(1, 2))
    bound = torch.linalg.vector_norm(hidden, dim=2, dtype=torch.float32) * longest[:, None]
    shift = torch.zeros_like(bound)
    if bool((bound > SAFE_LOGIT).any()):
        shift = torch.where(bound > SAFE_LOGIT, logits.amax(2).float(), shift)
        logits.sub_(shift[:, :, None])
    return logits.exp_(), shift


def _row_sums(weight: torch.Tensor) -> torch.Tensor:
    """Sums of the last axis in fp32; in bf16 by groups as products with ones, then the groups in fp32."""
    n_models, n_rows, size = weight.shape
    if weight.dtype == torch.float32 or size % SUM_GROUP:
        return weight.sum(2, dtype=torch.float32)
    groups = weight.view(n_models, -1, SUM_GROUP)
    sums = torch.bmm(groups, weight.new_ones(n_models, SUM_GROUP, 1))
    return sums.view(n_models, n_rows, -1).sum(2, dtype=torch.float32)
