"""Which items were found in how many documents: a report that is summed over parts.

Legend: D documents, I items, H hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.errors import InternalError
from prill.prepare.contamination.measure import Contamination
from prill.prepare.contamination.policy import Hits, counting_hits
from prill.run.atomic import atomic_path, atomic_write

__all__ = ["ItemsReport", "TaskSummary", "merged_reports"]


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """What was found of one task.

    Attributes:
        task: its name.
        n_items: items given.
        n_short: items with too few words to be acted upon.
        n_dirty: items that the rule found in at least one document.
        dirty_share: n_dirty / n_items.
        n_documents: pairs of a document and an item that it holds.
        n_passages: items of which some document holds the passage but no more.
    """

    task: str
    n_items: int
    n_short: int
    n_dirty: int
    dirty_share: float
    n_documents: int
    n_passages: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemsReport:
    """For every item, how many documents hold it and how completely; arrays of shape (I,).

    Attributes:
        tasks, names: of the items.
        n_words: words of passage, question and answer.
        is_short: the rule never acts upon it.
        documents: documents that hold it by the rule.
        quoting: documents that hold half of its passage or more, and not the item.
        coverage, exact: largest coverage and exact coverage in one document.
        longest: longest run of shared words.
    """

    tasks: tuple[str, ...]
    names: tuple[str, ...]
    n_words: NDArray[np.int64]
    is_short: NDArray[np.bool_]
    documents: NDArray[np.int64]
    quoting: NDArray[np.int64]
    coverage: NDArray[np.float32]
    exact: NDArray[np.float32]
    longest: NDArray[np.int64]

    @classmethod
    def of(cls, made: Contamination, table: pa.Table) -> ItemsReport:
        """The report of one part of the measure's columns."""
        hits = Hits(table["contamination_hits"])
        place = {(item.task, item.name): i for i, item in enumerate(made.items)}
        pairs = zip(hits.field("task").tolist(), hits.field("item").tolist(), strict=True)
        item = np.array([place[pair] for pair in pairs], dtype=np.int64)
        counts = counting_hits(made.spec, hits)
        n_items = len(made.items)
        coverage, exact = np.zeros(n_items, np.float32), np.zeros(n_items, np.float32)
        longest = np.zeros(n_items, np.int64)
        np.maximum.at(coverage, item, hits.field("coverage"))
        np.maximum.at(exact, item, hits.field("exact"))
        np.maximum.at(longest, item, hits.field("longest").astype(np.int64))
        quotes = ~counts & (hits.field("passage") >= 0.5)
        passage, question, answer = made.index.part_words()
        is_cloze = (passage > 0) & (question == 0)
        return cls(
            tasks=made.index.tasks,
            names=made.index.names,
            n_words=passage + question + answer,
            is_short=(made.index.n_words < made.spec.chosen("min_words")) & ~is_cloze,
            documents=_documents_of(hits, item, counts, n_items),
            quoting=_documents_of(hits, item, quotes, n_items),
            coverage=coverage,
            exact=exact,
            longest=longest,
        )

    def merged(self, other: ItemsReport) -> ItemsReport:
        """The report of both parts; the order does not matter."""
        if (self.tasks, self.names) != (other.tasks, other.names):
            raise InternalError("reports of the same items expected, found others")
        return ItemsReport(
            tasks=self.tasks,
            names=self.names,
            n_words=self.n_words,
            is_short=self.is_short,
            documents=self.documents + other.documents,
            quoting=self.quoting + other.quoting,
            coverage=np.maximum(self.coverage, other.coverage),
            exact=np.maximum(self.exact, other.exact),
            longest=np.maximum(self.longest, other.longest),
        )

    def by_task(self) -> list[TaskSummary]:
        """One summary a task, in the order of the tasks."""
        tasks = np.array(self.tasks, dtype=object)
        summaries = []
        for task in dict.fromkeys(self.tasks):
            own = tasks == task
            n_dirty = int((self.documents[own] > 0).sum())
            summary = TaskSummary(
                task=task,
                n_items=int(own.sum()),
                n_short=int(self.is_short[own].sum()),
                n_dirty=n_dirty,
                dirty_share=n_dirty / int(own.sum()),
                n_documents=int(self.documents[own].sum()),
                n_passages=int((self.quoting[own] > 0).sum()),
            )
            summaries.append(summary)
        return summaries

    def common(self, *, more_than: int) -> tuple[str, ...]:
        """Items, as task/id, found in more documents than that: text that is everywhere rather than leaked.

        Meant for `ContaminationSpec.ignore`, from a report of the whole corpus or of a sample of it.
        """
        return tuple(
            f"{task}/{name}"
            for task, name, n in zip(self.tasks, self.names, self.documents.tolist(), strict=True)
            if n > more_than
        )

    def to_table(self) -> pa.Table:
        """One row an item."""
        return pa.table(
            {
                "task": pa.array(self.tasks, pa.string()),
                "item": pa.array(self.names, pa.string()),
                "n_words": self.n_words,
                "is_short": self.is_short,
                "documents": self.documents,
                "quoting": self.quoting,
                "coverage": self.coverage,
                "exact": self.exact,
                "longest": self.longest,
            }
        )

    def write(self, parquet: Path, json: Path) -> None:
        """The items as Parquet, and the summaries of the tasks as JSON."""
        with atomic_path(parquet) as temporary:
            pq.write_table(self.to_table(), temporary, compression="zstd", write_page_checksum=True)
        summaries = [asdict(summary) for summary in self.by_task()]
        atomic_write(json, orjson.dumps({"tasks": summaries}, option=orjson.OPT_INDENT_2))


def merged_reports(reports: Sequence[ItemsReport]) -> ItemsReport:
    """The report of all parts, at least one."""
    report = reports[0]
    for other in reports[1:]:
        report = report.merged(other)
    return report


def _documents_of(
    hits: Hits, item: NDArray[np.int64], kept: NDArray[np.bool_], n_items: int
) -> NDArray[np.int64]:
    """How many documents have a kept hit of each item, int64, shape (I,)."""
    pairs = np.unique(np.stack([hits.document[kept], item[kept]], axis=1), axis=0)
    return np.bincount(pairs[:, 1], minlength=n_items).astype(np.int64)
