"""From a raw corpus to a prepared one: measure, judge, group, judge again, cut, write.

All columns lie in the run's steps, row for row with the raw corpus; thresholds are applied to them, so that
a changed threshold reads no text. Only the last step reads the text once more, to write what is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.columns import StoredColumns, read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.corpus.writers import write_documents
from prill.pipeline.measuring import ReadDocuments, engine_kind, measure_all
from prill.pipeline.texts import texts_spec
from prill.pipeline.walk import Done, ShardWalk
from prill.prepare.edit import edited, edited_lengths
from prill.prepare.measure import Drops, Grouping, GroupingInputs, Judge, Measure
from prill.prepare.spans import Edits
from prill.prepare.verdict import VERDICT_COLUMNS, ReasonCount, account, joined, verdict_columns

__all__ = ["NOTHING_LEFT", "Judged", "Preparation", "judge_edits", "prepare", "prepared_spec"]

VERDICT_VERSION = 1
PREPARED_VERSION = 1

NOTHING_LEFT = "nothing left after cuts"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judge with its stored columns, one file a shard."""

    judge: Judge
    parts: tuple[Path, ...]

    def table(self, shard: int) -> pa.Table:
        """The judge's columns of one shard."""
        return read_columns(self.parts[shard])

    def reasons(self, shard: int) -> Drops:
        """What the judge drops in one shard."""
        return self.judge.drops(StoredColumns(self.parts[shard]))

    def edits(self, shard: int) -> Edits | None:
        """What the judge cuts or replaces in one shard."""
        return self.judge.edits(StoredColumns(self.parts[shard]))

    def nothing(self) -> pa.Table:
        """The judge's columns without a row, from the schema alone."""
        with pq.ParquetFile(self.parts[0]) as file:
            return file.schema_arrow.empty_table()


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A finished preparation.

    Attributes:
        read: the read step.
        judged: every judge in the order of verdicts, `read` first.
        verdict: the verdict columns of every document.
        prepared: the documents that are left, one file a shard.
        grouped: records' counts of the groupings, by name.
    """

    read: Done
    judged: tuple[Judged, ...]
    verdict: Done
    prepared: Done
    grouped: Mapping[str, Mapping[str, Any]]

    def account(self) -> list[ReasonCount]:
        """What every reason did, those that never fired too."""
        names = joined([judged.judge.drops(judged.nothing()) for judged in self.judged])
        tables = [
            (read_columns(verdict), read_columns(read, ["n_bytes"])["n_bytes"].to_numpy())
            for verdict, read in zip(self.verdict.parts, self.read.parts, strict=True)
        ]
        seen = {reason: None for table, _ in tables for reason in _reasons_in(table)}
        return account(list({**dict.fromkeys(names), **seen}), tables)


def _reasons_in(table: pa.Table) -> list[str]:
    return list(pc.unique(table["reasons"].combine_chunks().flatten()).to_pylist())


def prepare(
    walk: ShardWalk, measures: Sequence[Measure], groupings: Sequence[Grouping], *, memory_bytes: int
) -> Preparation:
    """Prepare the walk's corpus.

    Args:
        measures: in the order of their verdicts, after reading's own.
        groupings: in order; each sees only documents that nothing before it drops.
        memory_bytes: about how much a grouping may hold.
    """
    is_rewritten = walk.corpus.spec.paths == texts_spec(walk.run.path, walk.corpus.spec).paths
    first: list[Measure] = [ReadDocuments(spec=walk.corpus.spec, is_rewritten=is_rewritten), *measures]
    keys = [grouping.keys for grouping in groupings if grouping.keys is not None]
    dones = measure_all(walk, [*first, *keys], label="measure every document")
    judged = [
        Judged(judge=measure, parts=done.parts)
        for measure, done in zip(first, dones[: len(first)], strict=True)
    ]
    key_parts = {key.name: done for key, done in zip(keys, dones[len(first) :], strict=True)}
    read, parents = dones[0], list(dones[: len(first)])
    grouped = {}
    kept = _Kept(walk=walk, judged=list(judged))
    for grouping in groupings:
        mine = [key_parts[grouping.keys.name]] if grouping.keys is not None else []
        done = _group(
            walk,
            grouping,
            judged=judged,
            kept=kept,
            keys=mine,
            parents=parents,
            memory_bytes=memory_bytes,
        )
        judged.append(Judged(judge=grouping, parts=done.parts))
        kept.also(judged[-1])
        parents.append(done)
        grouped[grouping.name] = done.record.counts
    verdict = walk.over_shards(
        "verdict",
        version=VERDICT_VERSION,
        settings=_policies(judged),
        parents=parents,
        work=lambda: WriteVerdict(judged=tuple(judged), dropped=tuple(kept.dropped())),
        label="judge every document",
    )
    return Preparation(
        read=read,
        judged=tuple(judged),
        verdict=verdict,
        prepared=_materialise(walk, judged, read=read, verdict=verdict),
        grouped=grouped,
    )


def prepared_spec(folder: Path, raw: CorpusSpec) -> CorpusSpec:
    """The documents that the preparation in `folder` made of the raw corpus, as a corpus."""
    return CorpusSpec(paths=[str(folder.resolve() / "prepared")], shard_bytes=raw.shard_bytes)


def _policies(judged: Sequence[Judged]) -> dict[str, Any]:
    return {one.judge.name: dict(one.judge.policy) for one in judged}


def _group(
    walk: ShardWalk,
    grouping: Grouping,
    *,
    judged: Sequence[Judged],
    kept: _Kept,
    keys: Sequence[Done],
    parents: Sequence[Done],
    memory_bytes: int,
) -> Done:
    """One grouping over all documents that nothing before it drops."""
    settings = {"before": _policies(judged), **grouping.settings}
    step = walk.run.step(
        grouping.name,
        version=grouping.version,
        settings=settings,
        parents=[done.record for done in {d.record.fingerprint: d for d in (*parents, *keys)}.values()],
    )
    parts = tuple(step.part(shard.index) for shard in walk.corpus.shards)
    label = f"find {grouping.name} copies"
    if step.record is not None:
        walk.progress.reused(label)
        return Done(record=step.record, parts=parts)
    scratch = step.folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    inputs = GroupingInputs(
        corpus=walk.corpus,
        read_parts=judged[0].parts,
        key_parts=keys[0].parts if keys else (),
        is_kept=kept.of_all().__getitem__,
        parts=parts,
        scratch=scratch,
        engine=walk.engine,
        memory_bytes=memory_bytes,
    )
    with walk.progress.step(label, None, "") as display:
        counts = grouping.group(inputs)
        display.advance(1)
    shutil.rmtree(scratch)
    return Done(record=step.finish(parts, counts), parts=parts)


_Packed: TypeAlias = Mapping[str, NDArray[np.uint8]]
"""Drops, a bit a document."""


@dataclass(kw_only=True)
class _Kept:
    """Which documents no judge so far drops, and why the others: asked once of every judge, when needed.

    Held are a byte a document, and a bit a document and reason.
    """

    walk: ShardWalk
    judged: list[Judged]
    found: list[tuple[NDArray[np.bool_], _Packed]] = field(default_factory=list)

    def also(self, judged: Judged) -> None:
        """One judge more, from now on."""
        self.judged.append(judged)

    def of_all(self) -> list[NDArray[np.bool_]]:
        """By shard, which documents are kept, bool, shape (D,)."""
        self._ask()
        return [kept for kept, _ in self.found]

    def dropped(self) -> list[_Packed]:
        """By shard, every reason of every judge, and for which documents it holds."""
        self._ask()
        return [packed for _, packed in self.found]

    def _ask(self) -> None:
        waiting, self.judged = self.judged, []
        if waiting:
            shards = list(range(len(self.walk.corpus.shards)))
            ask = partial(_asked, waiting, self.found)
            self.found = self.walk.engine.map(ask, shards, kind="threads", name="judge")


def _asked(
    judged: Sequence[Judged], before: Sequence[tuple[NDArray[np.bool_], _Packed]], shard: int
) -> tuple[NDArray[np.bool_], _Packed]:
    """What is kept and dropped in a shard after some judges more."""
    n_documents = pq.read_metadata(judged[0].parts[shard]).num_rows
    kept, packed = before[shard] if before else (np.ones(n_documents, bool), {})
    found: dict[str, NDArray[np.uint8]] = dict(packed)
    for reason, holds in joined([one.reasons(shard) for one in judged]).items():
        kept = kept & ~holds
        bits = np.packbits(holds)
        found[reason] = found[reason] | bits if reason in found else bits
    return kept, found


def judge_edits(judged: Sequence[Judged], shard: int) -> list[Edits]:
    """What all judges cut or replace in the documents of a shard."""
    found = (one.edits(shard) for one in judged)
    return [edits for edits in found if edits is not None]


@dataclass(frozen=True, kw_only=True)
class WriteVerdict:
    """Writes, for each document of a shard, the reasons to drop it and how long it is after all cuts."""

    judged: tuple[Judged, ...]
    dropped: tuple[_Packed, ...]

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        n_bytes = read_columns(self.judged[0].parts[index], ["n_bytes"])["n_bytes"].to_numpy()
        drops = {
            reason: np.unpackbits(bits, count=len(n_bytes)).view(np.bool_)
            for reason, bits in self.dropped[index].items()
        }
        after, cut = edited_lengths(n_bytes, judge_edits(self.judged, index))
        drops[NOTHING_LEFT] = (after == 0) & (n_bytes > 0)
        write_columns(path, verdict_columns(drops, after, cut), VERDICT_COLUMNS)


def _materialise(walk: ShardWalk, judged: Sequence[Judged], *, read: Done, verdict: Done) -> Done:
    folder = walk.run.path / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    return walk.over_shards(
        "prepared",
        version=PREPARED_VERSION,
        settings={},
        parents=[verdict],
        work=lambda: WritePrepared(corpus=walk.corpus, judged=tuple(judged), verdict_parts=verdict.parts),
        kind=engine_kind(walk.corpus),
        place=lambda index: folder / f"part-{index:05d}.parquet",
        counts=partial(_prepared_counts, verdict=verdict, read=read),
        label="write the prepared documents",
    )


@dataclass(frozen=True, kw_only=True)
class WritePrepared:
    """Writes the kept documents of one shard, in corpus order, with every field, their text cut.

    Added columns: `prill_shard` and `prill_row`, the document's place in the raw corpus.
    """

    corpus: Corpus
    judged: tuple[Judged, ...]
    verdict_parts: tuple[Path, ...]

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        reasons = read_columns(self.verdict_parts[index], ["drop_reason"])["drop_reason"]
        kept = pc.is_null(reasons).to_numpy()
        edits = judge_edits(self.judged, index)
        pieces = [self._piece(index, None, kept, edits)]
        for batch in self.corpus.batches(self.corpus.shards[index], self.corpus.fields) if kept.any() else ():
            pieces.append(self._piece(index, batch, kept, edits))
        write_documents(path, pieces)

    def _piece(self, index: int, batch: Any, kept: NDArray[np.bool_], edits: Sequence[Edits]) -> pa.Table:
        """The kept documents of a batch; none without a batch, so that there is always a schema."""
        start, stop = (batch.first_row, batch.first_row + batch.n_rows) if batch is not None else (0, 0)
        rows = start + np.flatnonzero(kept[start:stop])
        nothing = pa.array([], pa.large_string())
        columns = {
            name: batch.columns[name].take(pa.array(rows - start)) if batch is not None else nothing
            for name in self.corpus.fields
        }
        here = [replace(edit, spans=edit.spans.of_rows(rows)) for edit in edits]
        columns["text"] = edited(columns["text"], here)
        place = {"prill_shard": np.full(len(rows), index, np.int64), "prill_row": rows.astype(np.int64)}
        return pa.table({**columns, **place})


def _prepared_counts(parts: list[Path], *, verdict: Done, read: Done) -> dict[str, Any]:
    counts = dict.fromkeys(("n_documents", "n_edited", "n_bytes", "n_bytes_cut", "n_bytes_put"), 0)
    for path, reading in zip(verdict.parts, read.parts, strict=True):
        table = read_columns(path, ["drop_reason", "n_bytes_after", "n_bytes_cut"])
        kept = pc.is_null(table["drop_reason"]).to_numpy()
        before = read_columns(reading, ["n_bytes"])["n_bytes"].to_numpy()[kept]
        after, cut = (table[name].to_numpy()[kept] for name in ("n_bytes_after", "n_bytes_cut"))
        put = after - before + cut
        counts["n_documents"] += int(kept.sum())
        counts["n_edited"] += int(((cut > 0) | (put > 0)).sum())
        for name, values in (("n_bytes", after), ("n_bytes_cut", cut), ("n_bytes_put", put)):
            counts[name] += int(values.sum())
    return counts
