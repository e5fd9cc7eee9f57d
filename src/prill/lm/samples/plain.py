"""Documents as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.transform import Documents

__all__ = ["Plain"]


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Documents as they are, each followed by end-of-text."""

    @property
    def n_added(self) -> int:
        return 0

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The stream itself."""
        return documents.stream

    def as_record(self) -> dict[str, Any]:
        return record(self, "plain", 1)
