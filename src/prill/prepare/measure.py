"""What preparation is made of: measures of single documents, and groupings of documents by what they share.

Both write columns first and judge later. A measure sees the text of one batch and gives a value, or a list
of spans, a document; a grouping then sees such columns of all shards at once and says who is a copy of whom.
Thresholds and actions are the policy: `drops` and `edits` apply it to stored columns, so a new threshold
never reads text again.

Legend: D documents of a batch or shard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.corpus.corpus import Corpus
from prill.engine import Engine
from prill.prepare.spans import Edits

__all__ = ["Drops", "Grouping", "GroupingInputs", "Judge", "Measure"]

Drops: TypeAlias = dict[str, NDArray[np.bool_]]
"""By reason, as users read it, which documents it holds for, bool, shape (D,); in the order of the rules."""


class Judge(Protocol):
    """The late half of measures and groupings: from stored columns to verdicts."""

    @property
    def name(self) -> str:
        """Of the step and of its files: one short word."""

    @property
    def version(self) -> int:
        """Of the algorithm; changing what is stored changes it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the stored columns, JSON-able: parameters, digests of lists and indexes."""

    @property
    def policy(self) -> Mapping[str, Any]:
        """All that changes verdicts only, JSON-able: thresholds, actions, replacement texts."""

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        """What the stored columns mean."""

    def drops(self, table: pa.Table) -> Drops:
        """Which rules drop which documents, from this judge's columns of D documents.

        Only `table[name]`, `table.num_rows` and `table.column_names` may be used, here and in `edits`: a
        stored table reads only the columns that are asked for.
        """

    def edits(self, table: pa.Table) -> Edits | None:
        """What to cut out of the text or to replace; None when this judge never edits."""


class Measure(Judge, Protocol):
    """Something measured on each document by itself, in one pass over the text that all measures share."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the corpus that it reads, `text` first; one that the corpus lacks is not in the batch."""

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        """The columns of one batch, each as long as the batch. A bad record has the text ""."""


class Grouping(Judge, Protocol):
    """Something that only all documents together can tell: who copies whom."""

    @property
    def keys(self) -> Measure | None:
        """The measure whose columns it groups by; None when the read step's hashes are enough."""

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """Write this grouping's columns, one part a shard; returns counts for the record.

        The result must not depend on the number of workers; memory is bounded by `inputs.memory_bytes`.
        """

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files for so many documents and bytes of text."""

    def plan_lines(self) -> list[str]:
        """What `prill plan` says of it, a line each; empty when there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class GroupingInputs:
    """What a grouping is given.

    Attributes:
        corpus: to read again the text of those documents that need it.
        read_parts: columns of the read step, one file a shard: `hash_high`, `hash_low` (of the text),
            `n_bytes`, `source`, `bad`.
        key_parts: columns of the grouping's own measure, one file a shard; empty when it has none.
        is_kept: for a shard's index, which documents no earlier rule or grouping has dropped, bool, (D,).
        parts: the files to write with `write_columns`, one a shard.
        scratch: an empty folder for temporary files, removed afterwards.
        engine: `engine.map(task, items, kind="threads", name=...)` gives results in the order of items.
        memory_bytes: about how much memory the grouping may hold.
    """

    corpus: Corpus
    read_parts: Sequence[Path]
    key_parts: Sequence[Path]
    is_kept: Callable[[int], NDArray[np.bool_]]
    parts: Sequence[Path]
    scratch: Path
    engine: Engine
    memory_bytes: int
