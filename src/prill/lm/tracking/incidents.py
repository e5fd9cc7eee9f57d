"""What went wrong, where, and in which documents: one record a finding, readable by people and programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import printable
from prill.lm.tracking.health import Finding
from prill.run.redact import redact

if TYPE_CHECKING:
    from prill.lm.feed.feed import Feed
    from prill.lm.feed.watched import Watching

__all__ = ["Incident", "RowLoss", "Suspects", "suspects"]

MAX_DOCUMENTS = 64  # of one incident
MAX_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class RowLoss:
    """Mean loss of one row, nats a token, and what the row holds."""

    row: int
    loss: float
    documents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """The documents of a batch, and its rows of highest loss, highest first (none where not known)."""

    documents: tuple[str, ...] = ()
    n_documents: int = 0
    worst_rows: tuple[RowLoss, ...] = ()


def suspects(
    feed: Feed | Watching, first: int, count: int, token_losses: NDArray[np.floating[Any]] | None = None
) -> Suspects:
    """What the base rows `first` to `first + count` of a feed hold.

    Args:
        feed: of the model.
        first, count: the base rows of the step.
        token_losses: of every target of these rows, nats, (N,), in row order; None: not known.
    """
    names = [printable(redact(name)) for name in feed.documents(first, count)]
    worst: list[RowLoss] = []
    if token_losses is not None and token_losses.size and token_losses.size % count == 0:
        losses = token_losses.astype(np.float64).reshape(count, -1).mean(1)
        order = np.argsort(-np.nan_to_num(losses, nan=np.inf), kind="stable")[:MAX_ROWS]
        for row in (int(row) for row in order):
            held = tuple(printable(redact(name)) for name in feed.documents(first + row, 1))
            worst.append(RowLoss(row=first + row, loss=float(losses[row]), documents=held[:MAX_DOCUMENTS]))
    return Suspects(documents=tuple(names[:MAX_DOCUMENTS]), n_documents=len(names), worst_rows=tuple(worst))


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A finding with all that a person needs to judge it.

    Attributes:
        run: label of the model.
        step: steps done of the whole plan, this one included.
        branch: number of the decay branch; None on the trunk.
        n_tokens: tokens the model has seen on this path.
        finding: what.
        loss, gradient_norm, learning_rate: of this step and model.
        suspects: what the batch holds.
    """

    run: str
    step: int
    branch: int | None
    n_tokens: int
    finding: Finding
    loss: float
    gradient_norm: float
    learning_rate: float
    suspects: Suspects

    @property
    def text(self) -> str:
        """One sentence, with the most suspicious documents."""
        finding = self.finding
        where = f"run {self.run!r}, step {self.step} ({self.n_tokens} tokens)"
        if finding.kind == "recovery":
            return f"{where}: back to {finding.value:.4g} after the finding of step {finding.since}"
        if finding.kind == "not finite":
            what = f"loss {self.loss:.4g}, gradient norm {self.gradient_norm:.4g}"
        elif finding.kind == "gradient spike":
            what = f"gradient norm {finding.value:.4g}, median before {finding.before:.4g}"
        elif finding.kind == "divergence":
            what = f"median loss {finding.value:.4g}, lowest before {finding.before:.4g}"
        else:
            what = f"loss {finding.value:.4g}, median before {finding.before:.4g}"
        return f"{where}: {finding.kind}: {what}, learning rate {self.learning_rate:.3g}{self._in()}"

    def as_record(self) -> dict[str, Any]:
        """JSON-able but for non-finite numbers."""
        record = {**asdict(self), **record_of(self.finding), "text": self.text}
        del record["finding"], record["model"]
        return record

    def _in(self) -> str:
        rows = self.suspects.worst_rows
        names: Sequence[str] = rows[0].documents if rows else self.suspects.documents
        if not names:
            return ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"; {'row of highest loss' if rows else 'batch'}: {', '.join(names[:3])}{more}"


def record_of(finding: Finding) -> dict[str, Any]:
    """The finding's fields; a median that does not exist is null."""
    record = asdict(finding)
    record["before"] = None if math.isnan(finding.before) else finding.before
    return record
