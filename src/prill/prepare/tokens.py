"""Exact token counts of every document under a given tokenizer, as a column."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.corpus.tokenizer import load_tokenizer
from prill.features.token_counts import TokenCounter
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits

__all__ = ["TokenCounts", "TokensSpec"]


class TokensSpec(BaseModel):
    """Which tokenizer counts, and how long documents may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="A `tokenizer.json`, relative to the recipe.")
    least: int = Field(0, ge=0, description="Documents with fewer tokens are dropped.")
    most: int | None = Field(None, ge=1, description="Documents with more tokens are dropped; null: none.")


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """The measure `token_counts`; made by `TokenCounts.of`."""

    spec: TokensSpec
    tokenizer: bytes

    name: ClassVar[str] = "token_counts"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: TokensSpec, base: Path) -> TokenCounts:
        """The measure of a recipe in the folder `base`.

        Raises:
            DataError: the file is missing, or no tokenizer.
        """
        return cls(spec=spec, tokenizer=load_tokenizer(base / spec.path).content)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"tokenizer": hashlib.sha256(self.tokenizer).hexdigest()}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"least": self.spec.least, "most": self.spec.most}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        state = str(self.settings["tokenizer"])[:16]
        return [ColumnInfo(name="n_tokens", unit="tokens", state=state, summary="tokens of the text alone")]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        return {"n_tokens": TokenCounter.of(self.tokenizer).count_batch(batch.text)}

    def drops(self, table: pa.Table) -> Drops:
        """Documents that are too short or too long in tokens."""
        n_tokens, spec = table["n_tokens"].to_numpy(), self.spec
        drops: Drops = {}
        if spec.least:
            drops[f"fewer than {spec.least:,} tokens"] = n_tokens < spec.least
        if spec.most is not None:
            drops[f"more than {spec.most:,} tokens"] = n_tokens > spec.most
        return drops

    def edits(self, table: pa.Table) -> Edits | None:
        return None
