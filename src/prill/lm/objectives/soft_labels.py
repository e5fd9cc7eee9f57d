"""SALT: learn from a small model's probabilities early, and from the text alone later.

    loss = (1 - w) CE(truth, student) + w CE(softmax(teacher logits / tau), student)    while progress < until
         = CE(truth, student)                                                           from then on

The student is not tempered and the term is not scaled by tau^2. A weak teacher caps its student on hard
tokens, hence the switch. The teacher is asked as training goes, or its `top_k` labels were stored beside the
rows (`prill.lm.feed.soft`); what the top k leave to 1 then belongs to no token and pulls nowhere.

`share` 0.5, `temperature` 1 and `until` 1 is plain knowledge distillation.

Source: Rawat et al. 2024, arXiv:2410.18779, section 4 (SALT). Differs: the switch is a share of the training,
36,000 of 208,000 steps by default; share and temperature are the paper's as remembered, not verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prill.errors import Problem, RecipeError
from prill.lm.catalog import record
from prill.lm.data import Soft
from prill.lm.objectives.objective import At, Terms
from prill.lm.objectives.teacher import FrozenTeacher

if TYPE_CHECKING:
    import torch

    from prill.lm.model import Packed

__all__ = ["SoftLabels", "top_k"]


@dataclass(frozen=True, kw_only=True)
class SoftLabels:
    """SALT: a teacher's probabilities beside the text, for the first part of the training.

    Args:
        teacher: asked for all probabilities of each step; None: the rows carry soft labels, of whatever
            temperature they were stored with.
    Raises:
        RecipeError: a setting is out of bounds; tells all problems.
    """

    share: float = field(
        default=0.667, metadata={"description": "Share of the teacher's term, 0 to 1, before the switch."}
    )
    temperature: float = field(
        default=0.25, metadata={"description": "Divides the teacher's logits; below 1 sharpens them."}
    )
    until: float = field(
        default=36 / 208,
        metadata={"description": "Progress of the training, 0 to 1, from which only the text counts."},
    )
    ramp: float = field(
        default=0.0,
        metadata={"description": "Progress over which the share falls to 0 before `until`; 0: at once."},
    )
    teacher: FrozenTeacher | None = None

    def __post_init__(self) -> None:
        bounds = {
            "share": (0 <= self.share <= 1, "from 0 to 1"),
            "temperature": (0 < self.temperature < np.inf, "above 0"),
            "until": (0 <= self.until <= 1, "from 0 to 1"),
            "ramp": (0 <= self.ramp <= self.until, f"from 0 to `until`, {self.until}"),
        }
        problems = [
            Problem(message=f"`{name}` must be {text}, found {getattr(self, name)}", where="soft labels")
            for name, (is_fine, text) in bounds.items()
            if not is_fine
        ]
        if problems:
            raise RecipeError.of(problems)

    def share_at(self, progress: float) -> float:
        """The teacher's share at a progress below 1."""
        if progress >= self.until:
            return 0.0
        if not self.ramp:
            return self.share
        return self.share * min(1.0, (self.until - progress) / self.ramp)

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The teacher's share of this step; behind the switch the teacher is not asked.

        Raises:
            RecipeError: there is no teacher, and the rows carry no soft labels.
        """
        share, teacher = self.share_at(at.progress), self.teacher
        if not share:
            return Terms()
        if teacher is None:
            if batch.soft is None:
                raise RecipeError(
                    "expected a teacher, or rows with stored soft labels, found neither",
                    where="soft labels",
                    hint="name the folder of a trained model as the teacher",
                )
            return Terms(teacher_share=share)
        states = teacher.states(batch)

        def shares(models: slice, tokens: slice) -> torch.Tensor:
            return teacher.shares(states, models, tokens, temperature=self.temperature)

        return Terms(teacher_share=share, teacher=shares)

    def as_record(self) -> dict[str, Any]:
        teacher = "rows" if self.teacher is None else self.teacher.digest
        return record(self, "soft_labels", 1) | {"teacher": teacher}


def top_k(shares: torch.Tensor, k: int) -> Soft:
    """The k most likely tokens of each place, most likely first, equal ones by id.

    Args:
        shares: probabilities of all tokens, (..., V).
        k: at most V.
    Returns:
        Their true probabilities, not scaled up: the remainder belongs to no token.
    """
    order = shares.sort(dim=-1, descending=True, stable=True)
    return Soft(
        ids=order.indices[..., :k].cpu().numpy().astype(np.int64),
        shares=order.values[..., :k].float().cpu().numpy(),
    )
