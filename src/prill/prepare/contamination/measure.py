"""Contamination as a measure: which benchmark items a document holds, where, and how completely.

Columns hold every hit that any rule might count; which do, and whether the document is dropped, cut or only
tagged, is decided later from the columns (`policy`). Matching is described in `features.item_index`.

Legend: D documents, H hits.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import Batch, text_buffers
from prill.corpus.columns import ColumnInfo
from prill.errors import DataError, Problem
from prill.features.item_index import INDEX_VERSION, Found, Item, ItemIndex
from prill.prepare.contamination.items import read_items
from prill.prepare.contamination.policy import PASSAGE_SHARE, Hits, counting_hits, merged_cuts
from prill.prepare.contamination.spec import FEWEST_WORDS, ContaminationSpec
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits

__all__ = ["HITS", "Contamination"]

_SHARES: Final = ("coverage", "passage", "question", "answer", "exact", "exact_prompt")
_COUNTS: Final = ("longest", "longest_answer", "n_words", "n_answer")
_PLACES: Final = ("start", "stop", "cut_start", "cut_stop")

HITS = pa.list_(
    pa.struct(
        [(name, pa.string()) for name in ("task", "item", "part")]
        + [(name, pa.float32()) for name in _SHARES]
        + [(name, pa.int32()) for name in _COUNTS]
        + [(name, pa.int64()) for name in _PLACES]
    )
)
"""Arrow type of the column of hits."""

_KEPT_SHARE = 0.3  # of long items and of passages: below it no rule can count a hit
_KEPT_SHORT = 0.7  # of short items and of parts that count alone
_KEPT_RUN = min(FEWEST_WORDS.values())
_WHOLE, _PART, _LONG = 5, 8, 20  # words
_HITS: Final = "contamination_hits"


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """The measure `contamination`; made by `Contamination.of`."""

    spec: ContaminationSpec
    items: tuple[Item, ...]
    digest: str

    name: ClassVar[str] = "contamination"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: ContaminationSpec, base: Path | None = None) -> Contamination:
        """The measure of a recipe; paths start from `base`.

        Raises:
            DataError: a path names no file, a line is no item, or two items of a task have one id;
                all problems at once.
        """
        items: list[Item] = []
        problems: list[Problem] = []
        for task in spec.tasks:
            for pattern in task.paths:
                try:
                    for path in _files(pattern, base or Path()):
                        items += read_items(path, task=task.name, fields=task.fields, passage=task.passage)
                except DataError as error:
                    problems.extend(error.problems)
        labels = [(item.task, item.name) for item in items]
        doubled = [label for label, count in Counter(labels).items() if count > 1]
        if doubled:
            one, name = doubled[0]
            message = f"expected one item of each id, found {name!r} of task {one!r} more than once"
            hint = "give each item an `id` of its own, or each file a `name`"
            where = ", ".join(path for task in spec.tasks for path in task.paths)
            problems.append(Problem(message=message, where=where, hint=hint))
        if problems:
            raise DataError.of(problems)
        digest = hashlib.sha256(orjson.dumps([asdict(item) for item in items])).hexdigest()
        return cls(spec=spec, items=tuple(items), digest=digest)

    @functools.cached_property
    def index(self) -> ItemIndex:
        """The index of the items, built on first use."""
        return ItemIndex.build(self.items)

    @property
    def settings(self) -> Mapping[str, Any]:
        chosen = {field: self.spec.chosen(field) for field in ("n", "margin")}
        return {"items": self.digest, "index": INDEX_VERSION, **chosen}

    @property
    def policy(self) -> Mapping[str, Any]:
        names = set(ContaminationSpec.model_fields) - {"tasks", "n", "margin"}
        return {name: self.spec.chosen(name) for name in sorted(names)}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [
            ColumnInfo(
                name=name,
                unit=unit,
                direction=-1,
                state=self.digest[:16],
                version=self.version,
                summary=summary,
            )
            for name, unit, summary in _COLUMNS
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        """The columns of one batch."""
        keep = functools.partial(_worth_keeping, self.index)
        found = self.index.find(batch.text, n=self.spec.chosen("n"), keep=keep)
        coverage = np.zeros(batch.n_rows, np.float32)
        longest = np.zeros(batch.n_rows, np.int32)
        is_whole = self.index.n_words[found.item] >= _WHOLE
        np.maximum.at(coverage, found.document[is_whole], found.coverage[is_whole])
        np.maximum.at(longest, found.document, found.longest.astype(np.int32))
        offsets, _ = text_buffers(batch.text)
        return {
            _HITS: self._column(batch, found),
            "contamination_coverage": coverage,
            "contamination_longest": longest,
            "contamination_bytes": np.diff(offsets),
        }

    def _column(self, batch: Batch, found: Found) -> pa.Array:
        from prill.features._matching_kernel import widen

        cut_start, cut_stop = found.start.copy(), found.stop.copy()
        offsets, data = text_buffers(batch.text)
        widen(offsets, data, found.document, cut_start, cut_stop, self.spec.chosen("margin"))
        tasks, names = np.array(self.index.tasks, dtype=object), np.array(self.index.names, dtype=object)
        _, _, n_answer = self.index.part_words()
        values: dict[str, Any] = {
            name: getattr(found, name) for name in (*_SHARES, "longest", "longest_answer")
        }
        values |= {"n_words": self.index.n_words[found.item], "n_answer": n_answer[found.item]}
        values |= {"start": found.start, "stop": found.stop, "cut_start": cut_start, "cut_stop": cut_stop}
        values |= {"task": tasks[found.item], "item": names[found.item], "part": _parts(found)}
        fields = list(HITS.value_type)
        struct = pa.StructArray.from_arrays(
            [pa.array(values[field.name], field.type) for field in fields], fields=fields
        )
        bounds = np.searchsorted(found.document, np.arange(batch.n_rows + 1))
        return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), struct)

    def drops(self, table: pa.Table) -> Drops:
        """`contains an item of TASK` for every task, and too many cuts if cuts are made."""
        hits = Hits(table[_HITS])
        counts = counting_hits(self.spec, hits)
        if self.spec.chosen("action") == "drop":
            return self._drops_by_task(hits, counts)
        limit = self.spec.chosen("max_cuts")
        edits = self.edits(table)
        if edits is None or limit is None:
            return {}
        return {f"more than {limit} benchmark items cut": np.diff(edits.spans.offsets) > limit}

    def _drops_by_task(self, hits: Hits, counts: NDArray[np.bool_]) -> Drops:
        tasks = hits.field("task")
        drops: Drops = {}
        for task in dict.fromkeys(item.task for item in self.items):
            holds = np.zeros(hits.n_documents, dtype=np.bool_)
            holds[hits.document[counts & (tasks == task)]] = True
            drops[f"contains an item of {task}"] = holds
        return drops

    def edits(self, table: pa.Table) -> Edits | None:
        """Cuts, when the action is `cut`."""
        if self.spec.chosen("action") != "cut":
            return None
        hits = Hits(table[_HITS])
        n_bytes = np.asarray(table["contamination_bytes"], dtype=np.int64)
        return merged_cuts(self.spec, hits, counting_hits(self.spec, hits), n_bytes)


_COLUMNS: Final = (
    (_HITS, "1", "benchmark items that the document holds, how completely, and where (bytes)"),
    ("contamination_coverage", "1", "largest coverage of question and answer of an item of 5 words or more"),
    ("contamination_longest", "words", "longest run of words shared with an item, 0 when nothing was kept"),
    ("contamination_bytes", "bytes", "length of the text"),
)


def _files(pattern: str, base: Path) -> list[Path]:
    """The file, or the files of a glob in the order of their names."""
    path = base / pattern
    if path.is_file():
        return [path]
    found = sorted(match for match in _matches(path) if match.is_file())
    if not found:
        raise DataError("expected a JSONL file of items, found none", where=str(path))
    return found


def _matches(pattern: Path) -> Iterator[Path]:
    """The files and folders that a path with wildcards names."""
    steps = [k for k, part in enumerate(pattern.parts) if set(part) & set("*?[")]
    if not steps:
        return iter(())
    folder = Path(*pattern.parts[: steps[0]])
    return folder.glob(str(Path(*pattern.parts[steps[0] :])))


def _worth_keeping(index: ItemIndex, found: Found) -> NDArray[np.bool_]:
    """Hits that some rule could count, whatever its thresholds."""
    n_words = index.n_words[found.item]
    _, n_question, n_answer = (words[found.item] for words in index.part_words())
    share = np.maximum(found.coverage, np.maximum(found.exact, found.exact_prompt))
    return np.asarray(
        (found.longest >= _KEPT_RUN)
        | ((n_words >= _LONG) & (share >= _KEPT_SHARE))
        | ((n_words >= 4) & (share >= _KEPT_SHORT))
        | (found.passage >= _KEPT_SHARE)
        | ((n_question >= _PART) & (found.question >= _KEPT_SHORT))
        | ((n_answer >= _PART) & (found.answer >= _KEPT_SHORT))
    )


def _parts(found: Found) -> NDArray[np.object_]:
    """The parts of the item that are covered by half or more, joined by `+`; `piece` when none is."""
    labels = np.full(len(found.item), "", dtype=object)
    for name in ("passage", "question", "answer"):
        share: NDArray[np.float32] = getattr(found, name)
        labels[share >= PASSAGE_SHARE] += f"+{name}"
    labels = np.array([label[1:] or "piece" for label in labels.tolist()], dtype=object)
    return labels
