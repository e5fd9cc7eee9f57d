"""The head and its cross-entropy in one, without ever holding all logits.

Logits exist for one chunk of tokens and are folded at once into the losses and, in training, into the
gradients of the hidden states and of the head, so memory does not grow with tokens x vocabulary and nothing
is computed twice. An accelerator takes all models of a stack at once; a CPU takes one after the other, so
that a chunk of logits stays in its cache.

Axes: K models, N tokens (n in a chunk), d width, V vocabulary.
Source: the idea of fusing, Wijmans et al. 2024, arXiv:2411.09009; the arithmetic here is plain.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from prill.lm.objectives.objective import Terms

if TYPE_CHECKING:
    from prill.lm.objectives.objective import At, Objective
    from prill.lm.packed import Packed, SoftLabels

__all__ = ["gather", "head_backward", "head_losses", "terms_of"]

PLAIN = Terms()

CHUNK_BYTES = 2 << 20  # of logits: half of them and a chunk of W fit a core's second-level cache
ACCELERATOR_CHUNK_BYTES = 256 << 20
SAFE_LOGIT = 60.0  # exp of it, summed over a vocabulary, is far from overflow
SUM_GROUP = 64
SMALLEST_FACTOR = 1e-12  # of a token's whole distribution where a teacher has a part in it


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


def terms_of(
    objective: Objective | None, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At | None
) -> Terms:
    """The terms of a step: the objective's, or plain ones; weights are the rows' where it sets none."""
    if objective is None:
        return PLAIN if batch.weights is None else Terms(weights=batch.weights)
    if at is None:
        raise ValueError("an objective needs to know where in training it is: pass `at`")
    terms = objective.terms(hidden, batch, extra, at)
    return terms if terms.weights is not None else dataclasses.replace(terms, weights=batch.weights)


def head_backward(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    into: torch.Tensor | None,
    *,
    terms: Terms = PLAIN,
    soft: SoftLabels | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each model and its gradients, for the head and for what lies below it.

    Args:
        hidden: (K, N, d), without gradient.
        head: (K, V, d).
        targets: (K, N).
        into: where the gradient for `head` goes, fp32, (K, V, d); None: the head is frozen.
        terms: what is minimised; extra and density terms are not the head's and are left to the caller.
        soft: the teacher's labels where `terms` asks for a teacher and gives no full distribution.
    Returns:
        Losses, nats, fp64, (K,): a mean over the tokens whose weight is not 0 (0 where there is none), plus
        the auxiliary loss; and their gradient for `hidden`.
    """
    n_models, n_tokens, _ = hidden.shape
    hidden_gradient = torch.empty_like(hidden)
    losses = torch.zeros(n_models, dtype=torch.float64, device=hidden.device)
    for k in _groups(hidden):
        weigher = _Weigher(terms, soft, k)
        head_part = None if into is None else into[k]
        losses[k] = _group_backward(hidden[k], head[k], targets[k], head_part, hidden_gradient[k], weigher)
    if terms.weights is None:
        losses /= n_tokens
        hidden_gradient.div_(n_tokens)
        if into is not None:
            into.div_(n_tokens)
    else:
        n_trained = (terms.weights != 0).sum(1).clamp_min_(1)
        losses /= n_trained
        hidden_gradient.div_(n_trained[:, None, None])
        if into is not None:
            into.div_(n_trained[:, None, None])
    if terms.auxiliary is not None:
        losses += terms.auxiliary
    if terms.hidden_gradient is not None:
        hidden_gradient += terms.hidden_gradient
    return losses, hidden_gradient


def _group_backward(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    into: torch.Tensor | None,
    below: torch.Tensor,
    weigher: _Weigher,
) -> torch.Tensor:
    """Summed loss of each model; its gradients go to `into` (head) and `below` (hidden).

    With w = exp(h W^T) and s its row sums, nll is log s - h W_t and the gradients are a (w W) / s - b W_t
    for h and w^T (a h / s) - onehot^T (b h) for W. Scaling the small factors by a / s instead of w saves
    two passes over the logits. A teacher's probabilities p are taken from w first, as c s / a x p.
    Where a logit could overflow, and always on an accelerator, the row's maximum is taken out first.
    """
    losses = torch.zeros(hidden.shape[0], dtype=torch.float64, device=hidden.device)
    longest = _longest(head)
    for number, part in enumerate(_chunks(hidden, head.shape[1])):
        here, wanted = hidden[:, part], targets[:, part]
        chunk = _Chunk(here, head, wanted, longest, weigher.teacher(part))
        factors = weigher.factors(chunk, part)
        losses += factors.losses.sum(1, dtype=torch.float64)
        weight, own, answer = chunk.weight, here.float(), chunk.answer
        if factors.on_target is not None:
            own, answer = own * factors.on_target, answer * factors.on_target
        if chunk.teacher is not None:
            assert factors.on_teacher is not None
            chunk.teacher.take_from(weight, factors.on_teacher)
        below[:, part] = (_product(weight, head) * factors.on_all).sub_(answer)
        if into is None:
            continue
        head_gradient = _product(weight.transpose(1, 2), (here * factors.on_all).to(here.dtype))
        into.add_(head_gradient) if number else into.copy_(head_gradient)
        for k, ids in enumerate(wanted):
            into[k].index_add_(0, ids, own[k], alpha=-1.0)
    return losses


class _Factors(NamedTuple):
    """What a chunk's tokens count: losses (k, n), and a / s, b and c s / a, each (k, n, 1)."""

    losses: torch.Tensor
    on_all: torch.Tensor
    on_target: torch.Tensor | None = None
    on_teacher: torch.Tensor | None = None


class _Weigher:
    """The terms of one group of models."""

    def __init__(self, terms: Terms, soft: SoftLabels | None, models: slice) -> None:
        self.terms = terms
        self.models = models
        self.weights = None if terms.weights is None else terms.weights[models]
        self.soft = soft
        if terms.teacher_share and terms.teacher is None and soft is None:
            raise ValueError("the objective asks for a teacher: the rows need soft labels, found none")

    def teacher(self, part: slice) -> _Teacher | None:
        """The teacher's probabilities for a slice of the tokens."""
        if not self.terms.teacher_share:
            return None
        if self.terms.teacher is not None:
            return _DenseTeacher(self.terms.teacher(self.models, part))
        assert self.soft is not None
        return _SparseTeacher(self.soft.ids[self.models, part], self.soft.shares[self.models, part])

    def factors(self, chunk: _Chunk, part: slice) -> _Factors:
        """Losses of the chunk's tokens and the factors of their gradient."""
        terms, inverse = self.terms, chunk.total.reciprocal()
        if self.weights is None and terms.token_loss is None and chunk.teacher is None:
            return _Factors(chunk.losses, inverse[:, :, None])
        loss, slope = chunk.losses, torch.ones_like(chunk.losses)
        if terms.token_loss is not None:
            loss, slope = terms.token_loss(chunk.losses, self.models, part)
        on_all, on_teacher = slope, None
        if chunk.teacher is not None:
            share = terms.teacher_share
            slope = slope * (1 - share)
            on_all = slope + share * chunk.teacher.mass
            loss = (1 - share) * loss + share * chunk.teacher_loss
            on_all = torch.where(on_all.abs() < SMALLEST_FACTOR, SMALLEST_FACTOR, on_all)
            on_teacher = (share * chunk.total / on_all)[:, :, None]
        return _Factors(
            self._weighted(loss, part),
            (self._weighted(on_all, part) * inverse)[:, :, None],
            self._weighted(slope, part)[:, :, None],
            on_teacher,
        )

    def _weighted(self, values: torch.Tensor, part: slice) -> torch.Tensor:
        """values x weight, and 0 where the weight is, whatever the value."""
        if self.weights is None:
            return values
        weight = self.weights[:, part]
        return torch.where(weight != 0, values * weight, 0.0)


class _Teacher(Protocol):
    """A teacher's probabilities for a chunk; `mass` is their sum, fp32, (k, n)."""

    mass: torch.Tensor

    def dot(self, logits: torch.Tensor) -> torch.Tensor:
        """Sum over the vocabulary of probability x logit, fp32, (k, n)."""
        ...

    def take_from(self, gradient: torch.Tensor, share: torch.Tensor) -> None:
        """gradient -= share x probability, in place, (k, n, V)."""
        ...


class _DenseTeacher:
    """All V probabilities of each token, (k, n, V)."""

    def __init__(self, shares: torch.Tensor) -> None:
        self.shares = shares
        self.mass = shares.sum(2, dtype=torch.float32)

    def dot(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits * self.shares.to(logits.dtype)).sum(2, dtype=torch.float32)

    def take_from(self, gradient: torch.Tensor, share: torch.Tensor) -> None:
        kind = gradient.dtype  # a mixed product would be made in fp32, whole
        gradient.addcmul_(self.shares.to(kind), share.to(kind), value=-1.0)


class _SparseTeacher:
    """The most likely tokens of each place and their probabilities, (k, n, labels)."""

    def __init__(self, ids: torch.Tensor, shares: torch.Tensor) -> None:
        self.ids = ids
        self.shares = shares
        self.mass = shares.sum(2)

    def dot(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits.gather(2, self.ids).float() * self.shares).sum(2)

    def take_from(self, gradient: torch.Tensor, share: torch.Tensor) -> None:
        gradient.scatter_add_(2, self.ids, (self.shares * -share).to(gradient.dtype))


class _Chunk:
    """The head over one chunk of n tokens.

    Attributes:
        weight: w = exp(h W^T - shift), (k, n, V).
        total: s, the sums of w over V, (k, n) fp32.
        answer: W_t, the head's row of each target, (k, n, d).
        losses: log s + shift - h W_t, (k, n) fp32.
        teacher_loss: cross-entropy against the teacher, (k, n) fp32; in bf16 from logits of 8 bits.
    """

    def __init__(
        self,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        longest: torch.Tensor,
        teacher: _Teacher | None = None,
    ) -> None:
        logits = _product(hidden, head.transpose(1, 2))
        if teacher is not None:
            expected = teacher.dot(logits)  # before the logits are overwritten
        self.weight, shift = _exponentials(logits, hidden, longest)
        self.total = _row_sums(self.weight)
        self.answer = gather(head, targets)
        log_total = self.total.log() + shift
        self.losses = log_total - (hidden.float() * self.answer).sum(2)
        self.teacher = teacher
        if teacher is not None:
            self.teacher_loss = teacher.mass * log_total - expected


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right for each model; a single one without the copies that a batch of one can cost."""
    if left.shape[0] == 1:
        return torch.mm(left[0], right[0])[None]
    return torch.bmm(left, right)


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
    logits: torch.Tensor, hidden: torch.Tensor, longest: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(logits - shift), in place, and the shift, (k, n), which is 0 unless |h| max|W_v| is large.

    An accelerator always takes the row's maximum out: asking whether any is large would make the host wait.
    """
    if guards_always(logits.device):
        highest = logits.amax(2, keepdim=True)
        return logits.sub_(highest).exp_(), highest[:, :, 0].float()
    bound = torch.linalg.vector_norm(hidden, dim=2, dtype=torch.float32) * longest[:, None]
    shift = torch.zeros_like(bound)
    if bool((bound > SAFE_LOGIT).any()):
        shift = torch.where(bound > SAFE_LOGIT, logits.amax(2).float(), shift)
        logits.sub_(shift[:, :, None])
    return logits.exp_(), shift


def guards_always(device: torch.device) -> bool:
    """Whether the largest logit is taken out unasked: everywhere but on a processor."""
    return device.type != "cpu"


def _row_sums(weight: torch.Tensor) -> torch.Tensor:
    """Sums of the last axis in fp32; in bf16 by groups as products with ones, then the groups in fp32."""
    n_models, n_rows, size = weight.shape
    if weight.dtype == torch.float32 or size % SUM_GROUP:
        return weight.sum(2, dtype=torch.float32)
    groups = weight.view(n_models, -1, SUM_GROUP)
    sums = torch.bmm(groups, weight.new_ones(n_models, SUM_GROUP, 1))
    return sums.view(n_models, n_rows, -1).sum(2, dtype=torch.float32)
