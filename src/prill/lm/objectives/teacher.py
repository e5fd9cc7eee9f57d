"""A frozen model that an objective asks: its hidden states and its probabilities for the rows of a step.

The teacher reads the very rows of the student, in the student's packing, so both see the same context; it has
no dropout, gets no gradient and is known by the hash of its weights. Its logits exist for one chunk at a
time.

Axes: K students, N tokens (n in a chunk), d width of the teacher, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prill.errors import RecipeError

if TYPE_CHECKING:
    import torch

    from prill.lm.data import Rows
    from prill.lm.model import Packed

__all__ = ["FrozenTeacher", "TeacherModel"]


class TeacherModel(Protocol):
    """What a model must offer to teach: `StackedLlama`, or any learner with these."""

    @property
    def flat(self) -> torch.Tensor: ...

    @property
    def n_models(self) -> int: ...

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (models, B, T) on the device."""
        ...

    def states(self, batch: Packed) -> torch.Tensor:
        """Last hidden states behind the final norm, (models, N, d)."""
        ...

    def head_matrix(self) -> torch.Tensor:
        """The head, (models, V, d)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenTeacher:
    """One model for all students, or one for each.

    Args:
        model: nobody trains it any more; pass a copy of one that is still in training.
    """

    model: TeacherModel

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return hashlib.sha256(self.model.flat.detach().cpu().contiguous().numpy().tobytes()).hexdigest()

    @functools.cached_property
    def head(self) -> torch.Tensor:
        """(models, V, d)."""
        return self.model.head_matrix()

    @property
    def vocab_size(self) -> int:
        """V: a student must have the same."""
        return int(self.head.shape[1])

    def require(self, *, vocab_size: int) -> None:
        """Check that a student of this vocabulary can learn from it.

        Raises:
            RecipeError: the vocabularies differ in size.
        """
        if vocab_size != self.vocab_size:
            raise RecipeError(
                f"teacher and student must share their tokens, found {self.vocab_size} and {vocab_size}",
                where="teacher",
                hint="train both with one tokenizer and the same added tags",
            )

    def states(self, batch: Packed) -> torch.Tensor:
        """The teacher's last hidden states for the rows of K students, (K, N, d).

        Raises:
            RecipeError: there are several teachers, but not one a student.
        """
        n_students, n_tokens = batch.inputs.shape
        batch = dataclasses.replace(batch, dtype=self.head.dtype)
        if self.model.n_models == n_students:
            return self.model.states(batch)
        if self.model.n_models != 1:
            raise RecipeError(
                f"expected one teacher, or one for each of {n_students} students, "
                f"found {self.model.n_models}",
                where="teacher",
            )
        rows = dataclasses.replace(
            batch,
            inputs=batch.inputs.reshape(1, -1),
            targets=batch.targets.reshape(1, -1),
            n_rows=batch.n_rows * n_students,
        )
        return self.model.states(rows).view(n_students, n_tokens, -1)

    def shares(
        self, states: torch.Tensor, models: slice, tokens: slice, *, temperature: float
    ) -> torch.Tensor:
        """softmax(logits / temperature) of a chunk, fp32, (k, n, V), from the `states` of the step."""
        here = states[models, tokens]
        head = self.head if len(self.head) > 1 else self.head.expand(len(states), -1, -1)
        logits = here.bmm(head[models].transpose(1, 2)).float()
        return logits.div_(temperature).softmax(2)
