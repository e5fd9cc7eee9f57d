"""What can be scored: models that give hidden states for a packed row, or losses of rows.

`TokenScorer` is all that scoring knows about a model. Proxies (K at once) and `transformers` models fit it
through their hidden states; any other `Learner` fits it through its token losses, in rows as training has
them. Axes: K models, N tokens of a row, d width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from prill.errors import InternalError
from prill.lm.bases.base import TransformersBase
from prill.lm.data import Rows
from prill.lm.model import StackedLlama
from prill.lm.scoring.stacked import StackedScorer
from prill.lm.scoring.token_values import Head, TokenValues, token_values

if TYPE_CHECKING:
    from prill.lm.bases.skeleton import Skeleton
    from prill.lm.learner import Learner
    from prill.lm.scoring.rows import ScoringRow

__all__ = ["BaseScorer", "LearnerScorer", "TokenScorer", "scorer_of"]


class TokenScorer(Protocol):
    """K models that can be scored.

    Attributes:
        n_models: K.
        vocab_size: token ids must be below it.
        context: the longest window, tokens.
        row_tokens: the longest row it takes, tokens; None: any.
        opening_id: the token from which it predicts the first of a text; None: end-of-text.
        gives_moments: whether moments and ranks can be had.
    """

    @property
    def n_models(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def row_tokens(self) -> int | None: ...

    @property
    def opening_id(self) -> int | None: ...

    @property
    def gives_moments(self) -> bool: ...

    def score(self, row: ScoringRow, *, is_whole: bool, top: int = 0) -> Sequence[TokenValues]:
        """Values of every place of a row, one a model.

        Args:
            row: packed windows.
            is_whole: moments and ranks too.
            top: k of what is told of the k likeliest tokens; 0: nothing.
        """
        ...


class BaseScorer:
    """A `transformers` causal language model."""

    row_tokens = None
    gives_moments = True
    n_models = 1

    def __init__(self, skeleton: Skeleton) -> None:
        base = TransformersBase(folder=skeleton.folder, trust_remote_code=skeleton.trust_remote_code)
        self.context = base.context
        self.opening_id = skeleton.opening_id
        self._skeleton = skeleton
        rule = skeleton.rule
        self._head = Head.of(skeleton.head()[0], scale=rule.scale, cap=rule.cap)

    @property
    def vocab_size(self) -> int:
        return len(self._head.weight)

    @torch.inference_mode()
    def score(self, row: ScoringRow, *, is_whole: bool, top: int = 0) -> list[TokenValues]:
        from prill.lm.bases.attention import Division

        device = self._head.weight.device
        inputs, targets, positions = (
            torch.from_numpy(x).to(device) for x in (row.inputs, row.targets, row.positions)
        )
        division = Division(segments=row.segments, mask=None, n_rows=1)
        hidden = self._skeleton.hidden(inputs[None], positions[None], division)[0]
        return [token_values(hidden, self._head, targets, is_whole=is_whole, top=top)]


class LearnerScorer:
    """Any learner, through its own losses; a row is as long as its longest training row."""

    opening_id = None
    gives_moments = False

    def __init__(self, learner: Learner, *, vocab_size: int, context: int) -> None:
        self.vocab_size = vocab_size
        self.context = context
        self.row_tokens = context
        self._learner = learner

    @property
    def n_models(self) -> int:
        return self._learner.n_models

    @torch.no_grad()
    def score(self, row: ScoringRow, *, is_whole: bool, top: int = 0) -> list[TokenValues]:
        division = np.repeat(np.arange(len(row.lengths)), row.lengths)

        def wide(values: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
            return np.repeat(values[None, None], self.n_models, axis=0)

        rows = Rows(
            inputs=wide(row.inputs),
            targets=wide(row.targets),
            positions=wide(row.positions),
            segments=wide(division),
        )
        losses = self._learner.token_losses(self._learner.pack(rows))
        return [TokenValues(-one) for one in losses]


def scorer_of(learner: Learner) -> TokenScorer:
    """How a learner is scored, with its weights as they are now.

    Raises:
        InternalError: nothing is known of its vocabulary.
    """
    from prill.lm.nested.learner import NestedLearner

    if isinstance(learner, NestedLearner):
        return StackedScorer(learner.extract(learner.shape))
    if isinstance(learner, StackedLlama):
        return StackedScorer(learner)
    skeleton = getattr(learner, "skeleton", None)
    if skeleton is not None:
        skeleton.flat.load(learner.flat)
        return BaseScorer(skeleton)
    shape = getattr(learner, "shape", None)
    if shape is None:
        raise InternalError(f"expected a learner with a shape, found {type(learner).__name__}")
    return LearnerScorer(learner, vocab_size=shape.vocab_size, context=shape.seq_len)
