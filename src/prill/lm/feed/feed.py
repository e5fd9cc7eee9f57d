"""The contract between data and training: rows by number, nothing remembered.

A feed hands out *base rows* of T tokens, T the longest row of the training. Row r of a feed is the same
whenever and in whatever portion it is asked for, so a run may stop, resume and branch anywhere, and reading
ahead changes nothing. A step takes the next few base rows; shorter rows (`prill.lm.batches`) are made by
cutting base rows, never by reading others.
"""

from __future__ import annotations

from typing import Protocol

from prill.lm.data import Rows

__all__ = ["Feed"]


class Feed(Protocol):
    """Training rows of one model.

    Attributes:
        name: named in errors.
        n_tokens: tokens of one pass over everything, for the count of passes.
    """

    @property
    def name(self) -> str: ...

    @property
    def n_tokens(self) -> int: ...

    @property
    def highest_id(self) -> int:
        """The largest token id that a row may hold, targets and soft targets included."""
        ...

    def rows(self, first: int, count: int) -> Rows:
        """Base rows `first` to `first + count`, each (count, T).

        Raises:
            DataError: there are not so many, or the data cannot fill one.
        """
        ...

    def documents(self, first: int, count: int) -> list[str]:
        """What these base rows hold, one readable name a document: told when a loss breaks."""
        ...

    def digest(self) -> str:
        """Hexadecimal hash of everything that decides the rows."""
        ...
