"""RTS and C-RTS: tell for each token whether it was swapped, by a small head on its hidden state.

    loss = language loss + weight x mean over judged tokens of BCE(sigmoid(w . h + b), swapped)

The head has d + 1 parameters of each model's own. A head that says log(p / (1 - p)) everywhere has the loss
H(p), 0.4227 nats at 15 %: the first plateau. Always saying `original` is right for 85 % of the tokens, so
judge by the F1 of the swapped ones (`swap_report`).

Rows with labels come from `prill.lm.samples.swaps`. In a causal model a token is judged by its own hidden
state, which knows what is before it and not what follows. SLM, which recovers the tokens, needs no objective:
its rows carry targets and weights.

Axes: K models, N tokens, d width.
Source: Di Liello et al. 2022, arXiv:2210.13536, sections 3.1 and 3.2. Differs: one logit instead of two (the
same family); an auxiliary head beside the language loss unless rows or settings leave that out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prill.errors import RecipeError
from prill.lm.catalog import record
from prill.lm.data import stack_rows
from prill.lm.objectives.objective import At, Terms

if TYPE_CHECKING:
    import torch

    from prill.lm.model import Packed, StackedLlama
    from prill.lm.samples.swaps import SwapFeed
    from prill.lm.samples.token_clusters import ClusterCounts

__all__ = ["SwapDetection", "SwapReport", "counts_after", "swap_logits", "swap_report"]


@dataclass(frozen=True, kw_only=True)
class SwapDetection:
    """RTS: an auxiliary head tells which tokens were swapped.

    Raises:
        RecipeError: the weight is not positive.
    """

    weight: float = field(default=1.0, metadata={"description": "Of the detector's loss."})
    language: bool = field(
        default=True, metadata={"description": "Keep the language loss; off, only the detector trains."}
    )

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise RecipeError(f"`weight` must be above 0, found {self.weight}", where="swap detection")

    def n_extra(self, width: int) -> int:
        return width + 1

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The detector's loss as auxiliary loss.

        Raises:
            RecipeError: the rows carry no labels.
        """
        import torch

        if batch.scores is None:
            raise RecipeError(
                "expected rows with labels of swapped tokens, found none",
                where="swap detection",
                hint="wrap the feed in swaps with the task `detect`",
            )
        logits, judged = swap_logits(hidden, extra), batch.scores >= 0
        label = batch.scores.clamp_min(0)
        n_judged = judged.sum(1).clamp_min(1)
        loss = torch.nn.functional.softplus(logits) - label * logits
        slope = (logits.sigmoid() - label) * judged * (self.weight / n_judged)[:, None]
        return Terms(
            weights=None if self.language else torch.zeros_like(label),
            auxiliary=self.weight * (loss * judged).sum(1) / n_judged,
            hidden_gradient=(slope[:, :, None] * extra[:, None, :-1]).to(hidden.dtype),
            extra_gradient=torch.cat(
                [torch.bmm(slope[:, None], hidden.float())[:, 0], slope.sum(1, keepdim=True)], 1
            ),
        )

    def as_record(self) -> dict[str, Any]:
        return record(self, "swap_detection", 1)


def swap_logits(hidden: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
    """log-odds that each token was swapped, fp32, (K, N)."""
    import torch

    return torch.bmm(hidden.float(), extra[:, :-1, None])[:, :, 0] + extra[:, -1:]


class SwapReport(NamedTuple):
    """Of one model: mean loss, nats a judged token; precision, recall and F1 of the swapped tokens."""

    loss: float
    precision: float
    recall: float
    f1: float


def swap_report(logits: torch.Tensor, labels: torch.Tensor) -> SwapReport:
    """How well one model detects: logits and labels of its judged tokens, both (N,)."""
    import torch

    loss = torch.nn.functional.softplus(logits) - labels * logits
    said, true = logits > 0, labels > 0
    hits = float((said & true).sum())
    precision, recall = hits / max(float(said.sum()), 1.0), hits / max(float(true.sum()), 1.0)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return SwapReport(float(loss.mean()), precision, recall, f1)


def counts_after(
    model: StackedLlama,
    feed: SwapFeed,
    first: int,
    count: int,
    *,
    only_swapped: bool = False,
    at_once: int = 8,
) -> ClusterCounts:
    """The table of the next stage: what all models' detectors say of the base rows of this one.

    Args:
        model: with the detector's parameters as its `extra`.
        feed: the stage's, with clusters and the task `detect`.
        first, count: base rows; a sample of the stage's rows will do.
        only_swapped: positions that show their own token do not count.
        at_once: rows a forward pass; decides nothing.
    Raises:
        RecipeError: the swaps have no clusters.
    """
    table = feed.swaps.clusters
    if table is None or feed.swaps.task != "detect":
        raise RecipeError("expected swaps to detect within clusters, found none", where="swap detection")
    before, after, wrong = [], [], []
    for start in range(first, first + count, at_once):
        n_rows = min(at_once, first + count - start)
        plain, rows = feed.feed.rows(start, n_rows), feed.rows(start, n_rows)
        assert rows.scores is not None
        batch = model.pack(stack_rows([rows] * model.n_models))
        said = (swap_logits(model.states(batch), model.extra) > 0).cpu().numpy()
        judged = rows.scores.ravel() >= 0
        for of_model in said:
            before.append(plain.inputs.ravel()[judged])
            after.append(rows.inputs.ravel()[judged])
            wrong.append((of_model != (rows.scores.ravel() > 0))[judged])
    return table.counted(
        np.concatenate(before), np.concatenate(after), np.concatenate(wrong), only_swapped=only_swapped
    )
