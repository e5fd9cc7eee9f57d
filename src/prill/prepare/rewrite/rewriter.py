"""Rewriting many documents: from the cache where possible, from the endpoint within the budget, then checked.

A document whose rewrite breaks a rule is not kept; one for which the budget did not suffice has a null
answer, and a later run with the same folder goes on from there.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from prill.features.asking.answers import BudgetSpent
from prill.features.asking.asker import Asker
from prill.features.asking.endpoint import Answer, EndpointSpec
from prill.prepare.rewrite.checks import format_problem, names_are_consistent, out_of_vocabulary_rate
from prill.prepare.rewrite.prompts import NAMES, Prompt

__all__ = ["REWRITE_SCHEMA", "RewriteSpec", "Rewriter"]

BUDGET_SPENT: Final = "the budget is spent"

REWRITE_SCHEMA: Final = pa.schema(
    [
        ("text_simple", pa.large_string()),
        ("rewriter", pa.string()),
        ("prompt_id", pa.string()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("oov_rate", pa.float64()),
        ("kept", pa.bool_()),
        ("why_not", pa.string()),
    ]
)


class RewriteSpec(BaseModel):
    """Which model rewrites, how much it may cost, and which rewrites stay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: EndpointSpec = Field(description="Where the model answers.")
    max_requests: int | None = Field(None, ge=0, description="Most requests of a run; null for no limit.")
    max_tokens: int | None = Field(
        None, ge=0, description="Most tokens of a run, both ways; null for no limit."
    )
    max_characters: int = Field(16_000, ge=1, description="A longer document is not sent.")
    max_oov_rate: float = Field(
        0.02, ge=0.0, le=1.0, description="Largest share of words outside the vocabulary, if one is given."
    )
    n_parallel: int = Field(4, ge=1, le=256, description="Requests at a time.")


@dataclass(frozen=True, kw_only=True)
class Rewriter:
    """Rewrites documents.

    Args:
        prompts: by genre.
        vocabulary: lower-case words that a rewrite may use; empty: any.
    """

    spec: RewriteSpec
    ask: Asker
    prompts: Mapping[str, Prompt]
    vocabulary: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        spec: RewriteSpec,
        folder: Path,
        *,
        prompts: Mapping[str, Prompt],
        vocabulary: frozenset[str] = frozenset(),
    ) -> Rewriter:
        """A rewriter that keeps its answers in `folder`.

        Raises:
            DataError: kept answers are damaged.
        """
        return cls(
            spec=spec,
            ask=Asker.of(spec.endpoint, folder, max_requests=spec.max_requests, max_tokens=spec.max_tokens),
            prompts=prompts,
            vocabulary=vocabulary,
        )

    def __call__(self, texts: Sequence[str], genres: Sequence[str]) -> pa.Table:
        """A row a document, `REWRITE_SCHEMA`, in order; failures of the endpoint are raised.

        Raises:
            PrillError: as `Endpoint.ask` does; answers until then are kept.
        """
        with ThreadPoolExecutor(self.spec.n_parallel) as pool:
            rows = list(pool.map(self._row, texts, genres))
        return pa.Table.from_pylist(rows, REWRITE_SCHEMA)

    def _row(self, text: str, genre: str) -> dict[str, object]:
        prompt = self.prompts[genre]
        row: dict[str, object] = {"rewriter": self.spec.endpoint.model, "prompt_id": prompt.id, "kept": False}
        if len(text) > self.spec.max_characters:
            return row | {"why_not": f"longer than {self.spec.max_characters} characters"}
        try:
            answer = self.ask(prompt.message(text), prompt_id=prompt.id, system=prompt.system)
        except BudgetSpent:
            return row | {"kept": None, "why_not": BUDGET_SPENT}
        names = frozenset(NAMES)
        rate = out_of_vocabulary_rate(answer.text, self.vocabulary, names=names) if self.vocabulary else None
        problem = self._problem(text, genre, answer, rate)
        return row | {
            "text_simple": answer.text,
            "tokens_in": answer.tokens_in,
            "tokens_out": answer.tokens_out,
            "oov_rate": rate,
            "kept": problem is None,
            "why_not": problem,
        }

    def _problem(self, text: str, genre: str, answer: Answer, rate: float | None) -> str | None:
        if not answer.is_whole:
            return "the answer was cut off"
        if rate is not None and rate > self.spec.max_oov_rate:
            return "too many words outside the vocabulary"
        if not names_are_consistent(text, answer.text, frozenset(NAMES)):
            return "names with other first letters"
        return format_problem(genre, text, answer.text)
