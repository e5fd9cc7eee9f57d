"""From stored hits to verdicts: which hits count, which documents go, which bytes are cut.

A hit is a row of the column `contamination_hits`. Everything here works on the rows of all documents at once.

Legend: D documents, H hits, S spans.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.prepare.contamination.spec import ContaminationSpec
from prill.prepare.spans import Edits, Spans

__all__ = ["PASSAGE_SHARE", "Hits", "counting_hits", "merged_cuts"]

PASSAGE_SHARE = 0.5
"""Share of a passage from which it counts as quoted."""


class Hits:
    """The flat rows of a column of hits, with the document of each.

    Attributes:
        document: row of the document, int64, shape (H,).
        n_documents: D.
    """

    def __init__(self, column: pa.Array | pa.ChunkedArray) -> None:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        self.n_documents = len(array)
        self.document = np.repeat(np.arange(len(array)), np.asarray(array.value_lengths().fill_null(0)))
        self._values = array.flatten()

    def field(self, name: str) -> NDArray[Any]:
        """One field of all hits, shape (H,)."""
        return np.asarray(self._values.field(name))

    def labels(self) -> NDArray[np.object_]:
        """`task/id` of each hit's item."""
        tasks, items = self._values.field("task").to_pylist(), self._values.field("item").to_pylist()
        return np.array([f"{task}/{item}" for task, item in zip(tasks, items, strict=True)], dtype=object)


def counting_hits(spec: ContaminationSpec, hits: Hits) -> NDArray[np.bool_]:
    """Which hits the rule of `spec` counts, bool, shape (H,)."""
    by, at_least, short = (spec.chosen(field) for field in ("by", "at_least", "short"))
    n_words, value = hits.field("n_words"), hits.field(by)
    passage = hits.field("passage")
    if by in ("longest", "longest_answer"):
        counts = value >= at_least
    else:
        slack = 1e-6  # shares are stored as float32
        counts = value >= np.where(n_words >= spec.chosen("long_words"), at_least, short) - slack
        counts &= n_words >= spec.chosen("min_words")
        if by == "coverage":
            counts |= _part_counts(spec, hits, short - slack)
            counts |= (passage >= PASSAGE_SHARE) & (value >= PASSAGE_SHARE)  # the question after its passage
    if spec.chosen("passages") == "same":
        counts |= (by not in ("longest", "longest_answer", "exact_prompt")) & (passage >= at_least)
    else:
        counts &= hits.field("coverage") > 0
    if spec.ignore:
        counts &= ~np.isin(hits.labels(), np.array(spec.ignore, dtype=object))
    return np.asarray(counts, dtype=np.bool_)


def _part_counts(spec: ContaminationSpec, hits: Hits, short: float) -> NDArray[np.bool_]:
    """Whether the question alone, or the answer alone, is long enough and covered."""
    n_answer = hits.field("n_answer")
    n_question = hits.field("n_words") - n_answer
    long = spec.chosen("part_words")
    question = (n_question >= long) & (hits.field("question") >= short)
    return np.asarray(question | ((n_answer >= long) & (hits.field("answer") >= short)))


def merged_cuts(
    spec: ContaminationSpec, hits: Hits, counts: NDArray[np.bool_], n_bytes: NDArray[np.int64]
) -> Edits:
    """Spans to cut: of counting hits, with their margins; touching ones are joined, small pieces go too.

    Args:
        n_bytes: of the documents' texts, int64, shape (D,).
    """
    min_piece = spec.chosen("min_piece")
    document, start, stop = (
        hits.document[counts],
        hits.field("cut_start")[counts],
        hits.field("cut_stop")[counts],
    )
    order = np.lexsort((stop, start, document))
    rows: list[tuple[int, int, int]] = []
    for d, a, b in zip(document[order].tolist(), start[order].tolist(), stop[order].tolist(), strict=True):
        before = rows[-1] if rows and rows[-1][0] == d else None
        if before is None:
            rows.append((d, 0 if a < min_piece else a, b))
        elif a - before[2] < max(min_piece, 1):
            rows[-1] = (d, before[1], max(before[2], b))
        else:
            rows.append((d, a, b))
    ends = n_bytes.tolist()
    rows = [(d, a, ends[d] if ends[d] - b < min_piece else b) for d, a, b in rows]
    documents = np.array([row[0] for row in rows], dtype=np.int64)
    offsets = np.searchsorted(documents, np.arange(hits.n_documents + 1)).astype(np.int64)
    spans = Spans(
        offsets=offsets,
        starts=np.array([row[1] for row in rows], dtype=np.int64),
        stops=np.array([row[2] for row in rows], dtype=np.int64),
        kinds=np.zeros(len(rows), np.int32),
        names=("benchmark item",),
    )
    return Edits(spans=spans, replacements={})
