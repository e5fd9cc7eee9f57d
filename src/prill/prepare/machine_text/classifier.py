"""The classifier: features of each token's metrics, pooled by gates that see the hidden states.

Gates are a softmax over the sequence, one for every gate dimension, so that the document vector is a weighted
mean of the token features. Padding and dropped tokens have gate logits of minus infinity, hence gate 0.

Legend: B documents, T positions, d width of the backbone, F features, G gates.
Source: Miralles-Gonzalez et al. 2025 (PAWN), arXiv:2501.03940, section 3.2. Differs: none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prill.errors import DataError
from prill.lm.tensorfile import read_tensors, write_tensors
from prill.prepare.machine_text.metrics import METRICS

__all__ = ["Pawn", "PawnShape", "load_pawn", "pool", "save_pawn"]

_KIND = "pawn"


@dataclass(frozen=True, kw_only=True)
class PawnShape:
    """Sizes of a classifier.

    Attributes:
        d_model: width of the backbone's hidden states.
        width: of the hidden layers of the three networks.
        n_features, n_gates: F and G; G divides F.
        max_tokens: tokens of a document that are looked at.
    """

    d_model: int
    width: int = 256
    n_features: int = 256
    n_gates: int = 256
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1 or self.n_features % self.n_gates:
            raise DataError(
                f"expected positive sizes, and features a multiple of gates, found {asdict(self)}"
            )


def pool(features_BTF: torch.Tensor, gates_BTG: torch.Tensor, is_seen_BT: torch.Tensor) -> torch.Tensor:
    """Means of the features over the sequence, weighted by the softmax of the gate logits, (B, F).

    Each gate serves F / G features in a row. A document needs at least one position that is seen.
    """
    hidden_BTG = gates_BTG.masked_fill(~is_seen_BT[:, :, None], -torch.inf)
    weights_BTG = hidden_BTG.softmax(dim=1)
    n_each = features_BTF.shape[2] // gates_BTG.shape[2]
    return (weights_BTG.repeat_interleave(n_each, dim=2) * features_BTF).sum(dim=1)


class Pawn(nn.Module):
    """Metrics and hidden states to the logit that a machine wrote the document."""

    def __init__(self, shape: PawnShape) -> None:
        super().__init__()
        self.shape = shape
        self.features = _network(len(METRICS), shape.width, shape.n_features)
        self.gates = _network(2 * shape.d_model + 1, shape.width, shape.n_gates)
        self.head = _network(shape.n_features, shape.width, 1)

    def forward(
        self, states_BTd: torch.Tensor, metrics_BT5: torch.Tensor, is_seen_BT: torch.Tensor
    ) -> torch.Tensor:
        """Logits, (B,).

        Args:
            states_BTd: one state more than metrics a document, (B, T + 1, d).
            metrics_BT5: of position i, about token i + 1.
            is_seen_BT: false for padding and for tokens left out.
        """
        n = metrics_BT5.shape[1]
        place_T = torch.arange(n, device=states_BTd.device) / self.shape.max_tokens
        place_BT1 = place_T[None, :, None].expand(len(states_BTd), n, 1)
        seen = torch.cat([states_BTd[:, :-1], states_BTd[:, 1:], place_BT1], dim=2)
        pooled_BF = pool(self.features(metrics_BT5), self.gates(seen), is_seen_BT)
        logits: torch.Tensor = self.head(pooled_BF)[:, 0]
        return logits


def _network(n_in: int, width: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (n_in, width, width):
        layers += [nn.Linear(size, width), nn.LayerNorm(width), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(width, n_out))


def save_pawn(path: Path, model: Pawn, *, backbone: str) -> None:
    """Write a classifier as safetensors, with its shape and the id of its backbone.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    meta = {"kind": _KIND, "shape": asdict(model.shape), "backbone": backbone}
    write_tensors(path, model.state_dict(), meta)


def load_pawn(path: Path) -> tuple[Pawn, str]:
    """A classifier, ready to score, and the id of the backbone that it was trained with.

    Raises:
        DataError: missing, damaged, or no classifier.
    """
    tensors, meta = read_tensors(path)
    try:
        sizes: dict[str, Any] = meta["shape"]
        if meta["kind"] != _KIND:
            raise KeyError("kind")
        model = Pawn(PawnShape(**sizes))
        model.load_state_dict(tensors)
        backbone = str(meta["backbone"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            "expected a classifier of machine text, found another file", where=str(path)
        ) from error
    return model.eval(), backbone
