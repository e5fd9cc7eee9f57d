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
from prill.lm.attention import segment_attention
from prill.lm.data import Rows
from prill.lm.head import gather
from prill.lm.layers import gated, rms_norm, split_heads
from prill.lm.model import StackedLlama, rotary_tables
from prill.lm.parameters import views
from prill.lm.scoring.token_values import Head, TokenValues, token_values

if TYPE_CHECKING:
    from prill.lm.bases.skeleton import Skeleton
    from prill.lm.learner import Learner
    from prill.lm.scoring.rows import ScoringRow

__all__ = ["BaseScorer", "LearnerScorer", "StackedScorer", "TokenScorer", "context_of", "scorer_of"]

UNKNOWN_CONTEXT = 2048  # tokens, for classes without a limit of their own


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

    def score(self, row: ScoringRow, *, is_whole: bool) -> Sequence[TokenValues]:
        """Values of every place of a row, one a model.

        Args:
            row: packed windows.
            is_whole: moments and ranks too.
        """
        ...


class StackedScorer:
    """Proxies of one shape; weights are cast once, when this is made."""

    row_tokens = None
    opening_id = None
    gives_moments = True

    def __init__(self, model: StackedLlama) -> None:
        self.shape = model.shape
        self._device = model.flat.device
        self._weights = views(model.flat.detach().to(model.dtype), model.shape)
        self._cos, self._sin = rotary_tables(model.shape, dtype=model.dtype, device=self._device)
        table = self._weights["embedding" if model.shape.tied else "head"]
        self._heads = [Head.of(weight) for weight in table]

    @property
    def n_models(self) -> int:
        return len(self._heads)

    @property
    def vocab_size(self) -> int:
        return self.shape.vocab_size

    @property
    def context(self) -> int:
        return self.shape.seq_len

    @torch.inference_mode()
    def score(self, row: ScoringRow, *, is_whole: bool) -> list[TokenValues]:
        targets = torch.from_numpy(row.targets).to(self._device)
        hidden = self._hidden(row)
        return [
            token_values(states, head, targets, is_whole=is_whole)
            for states, head in zip(hidden, self._heads, strict=True)
        ]

    def _hidden(self, row: ScoringRow) -> torch.Tensor:
        """Last hidden states behind the final norm, (K, N, d)."""
        weights, eps = self._weights, self.shape.norm_eps
        inputs = torch.from_numpy(row.inputs).to(self._device).expand(self.n_models, -1)
        positions = torch.from_numpy(row.positions).to(self._device)
        turn = [table[positions].expand(self.n_models, -1, -1) for table in (self._cos, self._sin)]
        stream = gather(weights["embedding"], inputs).float()
        for i in range(self.shape.n_layers):
            at = f"layers.{i}."
            mixed = torch.bmm(rms_norm(stream, weights[at + "attention_norm"], eps), weights[at + "qkv"])
            mixed = mixed.view(self.n_models, row.n_tokens, 3, self.shape.n_heads, -1)
            seen = segment_attention(*split_heads(mixed, turn[0], turn[1]), row.segments)
            stream += torch.bmm(seen.view(self.n_models, row.n_tokens, -1), weights[at + "out"])
            inner = torch.bmm(rms_norm(stream, weights[at + "ffn_norm"], eps), weights[at + "gate_up"])
            stream += torch.bmm(gated(inner), weights[at + "down"])
        return rms_norm(stream, weights["final_norm"], eps)


class BaseScorer:
    """A `transformers` causal language model."""

    row_tokens = None
    gives_moments = True
    n_models = 1

    def __init__(self, skeleton: Skeleton) -> None:
        self.context = context_of(skeleton.model.config)
        self.opening_id = skeleton.opening_id
        self._skeleton = skeleton
        rule = skeleton.rule
        self._head = Head.of(skeleton.head()[0], scale=rule.scale, cap=rule.cap)

    @property
    def vocab_size(self) -> int:
        return len(self._head.weight)

    @torch.inference_mode()
    def score(self, row: ScoringRow, *, is_whole: bool) -> list[TokenValues]:
        from prill.lm.bases.attention import Division

        device = self._head.weight.device
        inputs, targets, positions = (
            torch.from_numpy(x).to(device) for x in (row.inputs, row.targets, row.positions)
        )
        division = Division(segments=row.segments, mask=None, n_rows=1)
        hidden = self._skeleton.hidden(inputs[None], positions[None], division)[0]
        return [token_values(hidden, self._head, targets, is_whole=is_whole)]


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
    def score(self, row: ScoringRow, *, is_whole: bool) -> list[TokenValues]:
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


def context_of(config: Any) -> int:
    """The longest window of a `transformers` model, tokens."""
    return int(getattr(config, "max_position_embeddings", None) or UNKNOWN_CONTEXT)
