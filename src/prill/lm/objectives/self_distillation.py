"""Self-distillation for further pretraining: a first pass teaches a second one that starts over.

1. From the weights theta0, train on the target corpus: the teacher.
2. From theta0 again, train on the same corpus with loss + weight |h_student - h_teacher|^2, where h are the
   last hidden states, behind the final norm, of the same text.

`two_pass` is this procedure over any training; it may be repeated with each student as the next teacher.
Compare with plain further pretraining for twice and for half the steps, with early stopping, and with the
average of theta0 and the teacher: the effect is a pull towards theta0. Cost: about 3.3 passes.

Axes: K models, N tokens, d width.
Source: Lee et al. 2023, arXiv:2210.02871, section 3. Differs: a causal model has no separate clean input and
no summary token, so h are the states of all positions of the rows in training, in the one forward pass that
the loss needs; the mean over positions and features (`sum` over features as in the paper's code depends on
the width). With corrupted rows (denoisers) h are of the corrupted rows too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from prill.errors import RecipeError
from prill.lm.catalog import record
from prill.lm.objectives.objective import At, Terms
from prill.lm.objectives.teacher import FrozenTeacher

if TYPE_CHECKING:
    import torch

    from prill.lm.learner import Learner
    from prill.lm.model import Packed

__all__ = ["SelfDistillation", "matched_weight", "two_pass"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SelfDistillation:
    """Self-distillation: hidden states stay near those of a teacher that came from the same weights.

    Args:
        teacher: None only where a recipe is checked; training needs one.
    Raises:
        RecipeError: the weight is negative, or the reduction unknown.
    """

    weight: float = field(
        default=1.0, metadata={"description": "Of the squared distance between the hidden states."}
    )
    reduce: Literal["mean", "sum"] = field(
        default="mean",
        metadata={"description": "Over features: their mean, or their sum as in the paper's code."},
    )
    teacher: FrozenTeacher | None = None

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise RecipeError(f"`weight` must be 0 or more, found {self.weight}", where="self-distillation")
        if self.reduce not in ("mean", "sum"):
            raise RecipeError(
                f"`reduce` must be mean or sum, found {self.reduce!r}", where="self-distillation"
            )

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The distance to the teacher as auxiliary loss.

        Raises:
            RecipeError: there is no teacher, or it has another width.
        """
        if not self.weight:
            return Terms()
        if self.teacher is None:
            raise RecipeError("expected a teacher, found none", where="self-distillation")
        wanted = self.teacher.states(batch)
        if wanted.shape != hidden.shape:
            raise RecipeError(
                f"student and teacher must start from the same weights, found widths {hidden.shape[2]} "
                f"and {wanted.shape[2]}",
                where="self-distillation",
            )
        gap = hidden.float() - wanted.float()
        count = gap.shape[1] * (gap.shape[2] if self.reduce == "mean" else 1)
        distance = gap.square().sum((1, 2), dtype=gap.dtype) / count
        return Terms(
            auxiliary=self.weight * distance,
            hidden_gradient=(gap * (2 * self.weight / count)).to(hidden.dtype),
        )

    def as_record(self) -> dict[str, Any]:
        return record(self, "self_distillation", 1) | {"teacher": self.teacher and self.teacher.digest}


def matched_weight(
    student: Learner, batch: Packed, objective: SelfDistillation, *, ratio: float = 0.3
) -> float:
    """The weight at which the distance's gradient is `ratio` times that of the cross-entropy.

    Measured on one batch before the student's first step, as norms over all weights of all models.

    Args:
        ratio: the causal port's range is 0.1 to 1.
    Raises:
        RecipeError: the student has the teacher's states already, so there is no gradient to match.
    """
    unit = SelfDistillation(weight=1.0, reduce=objective.reduce, teacher=objective.teacher)
    plain = student.losses_and_gradient(batch)[1]
    pulled = student.losses_and_gradient(batch, unit, At(step=0, progress=0.0))[1]
    own, distance = float(plain.norm()), float((pulled - plain).norm())
    if not distance > 1e-12 * own:
        raise RecipeError(
            "expected a teacher that differs from the student, found the same hidden states",
            where="self-distillation",
            hint="train the teacher first",
        )
    return ratio * own / distance


def two_pass(train: Callable[[T | None], T], *, rounds: int = 1) -> T:
    """Train a teacher, then students that each learn from the last.

    Args:
        train: trains from the *same* initial weights at every call, given the teacher (None: plainly), and
            returns what it trained.
        rounds: students in a row; 0: only the teacher.
    """
    trained = train(None)
    for _ in range(rounds):
        trained = train(trained)
    return trained
