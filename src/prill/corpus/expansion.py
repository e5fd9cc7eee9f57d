"""A bound on how much a compressed file may grow: the answer to decompression bombs.

Reading is streamed, so a bomb costs time, not memory. The guard ends it early: beyond a free allowance,
data that grows by more than `MAX_EXPANSION` times is refused. Text rarely grows 20 times, and a ratio of
300 is still read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prill.errors import DataError

__all__ = ["FREE_BYTES", "MAX_EXPANSION", "ExpansionGuard"]

MAX_EXPANSION: Final = 500
FREE_BYTES: Final = 32 * 1024 * 1024


@dataclass(kw_only=True)
class ExpansionGuard:
    """Counts what went in and what came out of one file."""

    path: str
    n_in: int = 0
    n_out: int = 0

    def expect(self, n_in: int, n_announced: int) -> None:
        """Allow for `n_in` more stored bytes that announce a size, which is refused right away if absurd."""
        self.n_in += n_in
        self._check(n_announced)

    def add(self, n_out: int) -> None:
        """Count decoded bytes.

        Raises:
            DataError: the data grew more than any text does.
        """
        self.n_out += n_out
        self._check(self.n_out)

    def _check(self, n_out: int) -> None:
        if n_out > FREE_BYTES and n_out > MAX_EXPANSION * max(1, self.n_in):
            raise DataError(
                f"expected data that grows at most {MAX_EXPANSION} times, found {self.n_in} stored bytes "
                f"that hold more than {n_out} bytes",
                where=self.path,
                hint="this looks like a decompression bomb; write the documents to a new file if it is not",
            )
