"""How many documents, bytes and tokens have each value of a column: exact while the values are few.

When there are more values than places, as with hosts of web pages, the least frequent make room: all weights
are lowered by the same amount until enough of them are used up. Counts of the values that stay are then never
too high, and at most `n_missed` documents too low, which is at most all documents / (places + 1).

Source: Misra, Gries 1982; Agarwal et al. 2012, "Mergeable summaries". Differs: beside its weight, a value
keeps what was counted since it came, which is nearer to the truth and has the same bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["Categories", "Category"]

_NAME_CHARACTERS = 256
_UNITS = ("weight", "n_documents", "n_bytes", "n_tokens")


@dataclass(frozen=True, kw_only=True)
class Category:
    """One value; None: not stated."""

    name: str | None
    n_documents: int
    n_bytes: int
    n_tokens: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Categories:
    """Counts by value.

    Attributes:
        table: `name` (string) and int64 columns weight, n_documents, n_bytes, n_tokens; sorted by name.
        n_places: most values that are kept.
        n_missed: documents by which a count may be too low; 0: all counts are exact.
    """

    table: pa.Table
    n_places: int
    n_missed: int = 0

    @classmethod
    def empty(cls, n_places: int) -> Categories:
        names = pa.array([], pa.string())
        nothing = pa.array([], pa.int64())
        return cls(table=pa.table({"name": names} | dict.fromkeys(_UNITS, nothing)), n_places=n_places)

    @classmethod
    def of(
        cls,
        names: pa.Array | pa.ChunkedArray,
        n_bytes_D: NDArray[np.int64],
        n_tokens_D: NDArray[np.int64],
        *,
        n_places: int,
    ) -> Categories:
        """Counts of one table's documents. Names beyond 256 characters are cut."""
        column = pc.utf8_slice_codeunits(names.cast(pa.string()), 0, _NAME_CHARACTERS)
        ones = np.ones(len(column), np.int64)
        units = dict(zip(_UNITS, (ones, ones, n_bytes_D, n_tokens_D), strict=True))
        return _grouped(pa.table({"name": column, **units}), n_places, 0)

    def merge(self, other: Categories) -> Categories:
        """Counts of both sets of documents; exact counts do not depend on the order of merging."""
        both = pa.concat_tables([self.table, other.table])
        return _grouped(both, self.n_places, self.n_missed + other.n_missed)

    def rows(self, n_most: int | None = None) -> tuple[Category, ...]:
        """The values with most documents first."""
        order = [("n_documents", "descending"), ("n_bytes", "descending"), ("name", "ascending")]
        chosen = self.table.sort_by(order).slice(0, n_most)
        return tuple(
            Category(**{key: row[key] for key in ("name", *_UNITS[1:])}) for row in chosen.to_pylist()
        )

    @property
    def n_values(self) -> int:
        """Values that are counted; all there are while `n_missed` is 0."""
        return int(self.table.num_rows)


def _grouped(table: pa.Table, n_places: int, n_missed: int) -> Categories:
    sums = table.group_by("name", use_threads=False).aggregate([(unit, "sum") for unit in _UNITS])
    table = pa.table({"name": sums["name"]} | {unit: sums[f"{unit}_sum"] for unit in _UNITS})
    table = table.sort_by("name")
    if table.num_rows > n_places:
        weight = table["weight"].to_numpy()
        lowered = int(np.partition(weight, len(weight) - n_places - 1)[len(weight) - n_places - 1])
        table = table.set_column(1, "weight", pa.array(weight - lowered))
        table = table.filter(pa.array(weight > lowered))
        n_missed += lowered
    return Categories(table=table.combine_chunks(), n_places=n_places, n_missed=n_missed)
