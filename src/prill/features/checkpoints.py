"""Checkpoints in the middle of training: a proxy with live moments of its optimiser, and exams for models.

What is probed or taught must take the step that training would take next, so weights alone do not do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prill.corpus.packed import open_packed
from prill.features.feature import Given, WholeFeature
from prill.features.picking import target_tokens
from prill.features.proxies import PoolSample, Proxy

if TYPE_CHECKING:
    from prill.lm.copies import TrainingState
    from prill.lm.data import Rows, TokenStream

__all__ = ["Warmed", "end_of_text", "exam_of", "train_on"]

WARMUP_STEPS = 10
"""Steps in which the rate rises again, while the moments are filled."""


@dataclass(frozen=True, kw_only=True)
class Warmed(WholeFeature):
    """A proxy in the middle of training: some recorded steps at its full rate, with AdamW's moments.

    Proxies are stored without moments, and a probe with empty ones would take quite another step. With
    beta2 = 0.95, `n_steps` = 64 steps leave 4 % of the empty start, for which Adam corrects.

    Attributes:
        proxy: where the weights come from.
        sample: text of the steps.
        n_steps: of them.
        n_rows: rows of the proxy's length in each.
    """

    kind: ClassVar[str] = "checkpoint"
    is_apart: ClassVar[bool] = True
    proxy: Proxy
    sample: PoolSample
    n_steps: int = 64
    n_rows: int = 4

    @classmethod
    def of(cls, proxy: Proxy, *, n_steps: int = 64, n_rows: int = 4) -> Warmed:
        """Of a proxy, on a sample of the pool of its own."""
        n_tokens = n_steps * n_rows * 256
        return cls(
            proxy=proxy,
            sample=PoolSample(n_tokens=n_tokens, use="optimiser"),
            n_steps=n_steps,
            n_rows=n_rows,
        )

    @property
    def label(self) -> str:
        return f"optimiser moments of the {self.proxy.size} model ({self.proxy.use})"

    @property
    def files(self) -> tuple[str, ...]:
        return ("checkpoint.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from prill.lm.checkpoint import load_model
        from prill.lm.copies import TrainingState
        from prill.lm.data import TokenStream

        model, _ = load_model(self.proxy.folder(given))
        rate = float(given.counts[self.proxy]["peak_rate"])
        stream = TokenStream.of(open_packed(given.file(self.sample)), name="text of the optimiser's steps")
        state = TrainingState.fresh(model, rate=rate)
        state, counts = train_on(state, stream, n_steps=self.n_steps, n_rows=self.n_rows, warmup=WARMUP_STEPS)
        state.save(paths[0])
        return counts


def exam_of(given: Given, target: str, n_tokens: int, length: int) -> Rows:
    """Items of a target as packed rows of one model, (1, B, T), each item alone and from its beginning."""
    from prill.lm.gradients.chunks import Chunking, cut

    docs = target_tokens(given, target, n_tokens=n_tokens, longest=length, use="exam")
    chunks = Chunking(length=length).chunks([len(doc) for doc in docs])
    (rows,) = cut(docs, chunks, length=length, prefix=end_of_text(given), n_rows=len(chunks))
    return rows.rows


def train_on(
    state: TrainingState, stream: TokenStream, *, n_steps: int, n_rows: int, warmup: int = 0
) -> tuple[TrainingState, dict[str, Any]]:
    """Steps at the state's rate over a stream, its rows in keyed order."""
    from prill.lm.copies import Copies
    from prill.lm.data import stack_rows
    from prill.lm.feed.stream import StreamFeed

    copies = Copies(state, 1)
    feed = StreamFeed(stream=stream, row_tokens=state.shape.seq_len, seed=0)
    losses = []
    for step in range(n_steps):
        rate = state.rate * min(1.0, (step + 1) / (warmup + 1))
        losses.append(copies.step(stack_rows([feed.rows(step * n_rows, n_rows)]), rate)[0])
    counts = {
        "n_steps": n_steps,
        "n_tokens": copies.n_tokens,
        "loss_nats": round(float(np.mean(losses[-16:])), 6),
        "rate": state.rate,
        "flops": copies.flops,
    }
    return copies.state(0, rate=state.rate), counts


def end_of_text(given: Given) -> int:
    from prill.features.token_counts import TokenCounter

    return TokenCounter.of(given.pool.tokenizer.read_bytes()).library.eos_id
