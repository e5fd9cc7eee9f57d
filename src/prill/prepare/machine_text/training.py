"""Training the classifier on labelled documents whose states and metrics are known.

Legend: B documents of a batch, T positions, d width of the backbone.
Source: Miralles-Gonzalez et al. 2025 (PAWN), arXiv:2501.03940, section 4. Differs: the weight of machine
documents is the ratio of the two classes unless given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prill.errors import DataError
from prill.prepare.machine_text.classifier import Pawn, PawnShape

__all__ = ["PawnTraining", "Traits", "predict", "train_pawn"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Traits:
    """What the backbone makes of one document of T + 1 tokens.

    Attributes:
        states: hidden states, (T + 1, d); half precision is enough.
        metrics: `token_metrics` without the variance, (T, 5), fp32.
    """

    states: torch.Tensor
    metrics: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class PawnTraining:
    """How the classifier is trained.

    Attributes:
        batch: documents a step.
        learning_rate, weight_decay: of AdamW.
        clip: largest norm of the gradient.
        label_smoothing: share of the label that is split evenly.
        machine_weight: weight of machine documents in the loss; None: human / machine documents.
        drop_share: share of the tokens that are left out at random.
    """

    n_epochs: int = 5
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    label_smoothing: float = 0.2
    machine_weight: float | None = None
    drop_share: float = 0.15


def train_pawn(
    shape: PawnShape,
    documents: Sequence[Traits],
    is_machine: Sequence[bool],
    *,
    settings: PawnTraining | None = None,
    seed: int = 0,
) -> Pawn:
    """A classifier fitted to labelled documents; the same documents, settings and seed give the same one.

    Raises:
        DataError: labels and documents differ in number, or one class is missing.
    """
    settings = settings or PawnTraining()
    n_machine = sum(is_machine)
    if len(documents) != len(is_machine) or not 0 < n_machine < len(is_machine):
        raise DataError(
            f"expected documents of both kinds with a label each, found {len(documents)} documents, "
            f"{len(is_machine)} labels, {n_machine} of machines"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Pawn(shape)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    ratio = (len(is_machine) - n_machine) / n_machine
    weight = torch.tensor(ratio if settings.machine_weight is None else settings.machine_weight)
    labels = torch.tensor(is_machine, dtype=torch.float32)
    smooth = labels * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=weight)
    for _ in range(settings.n_epochs):
        order = torch.randperm(len(documents), generator=generator)
        for first in range(0, len(order), settings.batch):
            rows = order[first : first + settings.batch]
            batch = _padded([documents[int(row)] for row in rows])
            is_seen = _with_dropped(batch[2], settings.drop_share, generator)
            optimizer.zero_grad()
            loss(model(batch[0], batch[1], is_seen), smooth[rows]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
    return model.eval()


@torch.no_grad()
def predict(model: Pawn, documents: Sequence[Traits], *, batch: int = 32) -> NDArray[np.float64]:
    """Probability that a machine wrote each document, 0 to 1, shape (D,)."""
    found = [
        torch.sigmoid(model(*_padded(documents[first : first + batch])).double())
        for first in range(0, len(documents), batch)
    ]
    return torch.cat(found).numpy() if found else np.empty(0)


def _padded(documents: Sequence[Traits]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States (B, T + 1, d), metrics (B, T, 5) and which positions are there (B, T), zeros behind the text."""
    lengths = torch.tensor([len(document.metrics) for document in documents])
    states = torch.nn.utils.rnn.pad_sequence([d.states.float() for d in documents], batch_first=True)
    metrics = torch.nn.utils.rnn.pad_sequence([d.metrics for d in documents], batch_first=True)
    return states, metrics, torch.arange(metrics.shape[1])[None, :] < lengths[:, None]


def _with_dropped(is_seen_BT: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Leave out a share of the positions, never all of a document's."""
    is_kept = is_seen_BT & (torch.rand(is_seen_BT.shape, generator=generator) >= share)
    return torch.where(is_kept.any(1, keepdim=True), is_kept, is_seen_BT)
