"""Documents to read in a corpus report: for every reason and every kind of edit a few, chosen by keyed hash.

Places are found over columns alone; then the text of the places found is read, shard by shard.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.features.keyed import derive_seed, keyed_uniform
from prill.pipeline.preparation import Judged, Preparation
from prill.prepare.pii import Pii, without_secrets
from prill.report.corpus_model import Example
from prill.report.spans import TextSpan, edit_spans

__all__ = ["Chosen", "EditCount", "choose_examples", "file_names", "read_examples", "read_texts"]

PER_REASON = 3

Place = tuple[int, int]


@dataclass(kw_only=True)
class EditCount:
    """What one kind of edit of one judge did to kept documents, and a few of them."""

    n_documents: int = 0
    n_spans: int = 0
    n_bytes: int = 0
    replacement: str | None = None
    places: list[tuple[float, Place]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Places to show: by reason, and by judge and kind of edit; and what the edits did."""

    reasons: Mapping[str, list[Place]]
    edits: Mapping[tuple[str, str], EditCount]

    def places(self) -> set[Place]:
        """All of them."""
        found = {place for places in self.reasons.values() for place in places}
        return found | {place for count in self.edits.values() for _, place in count.places}


def choose_examples(done: Preparation, *, seed: int) -> Chosen:
    """Look through the columns of all shards; the result does not depend on how the corpus is sharded,
    except for the places themselves."""
    reasons: dict[str, list[tuple[float, Place]]] = {}
    edits: dict[tuple[str, str], EditCount] = {}
    for shard, (verdict_part, read_part) in enumerate(zip(done.verdict.parts, done.read.parts, strict=True)):
        verdict = read_columns(verdict_part, ["drop_reason", "reasons"])
        keys = read_columns(read_part, ["hash_low"])["hash_low"].to_numpy()
        _add_reasons(reasons, verdict["reasons"].combine_chunks(), keys, shard, seed)
        kept = pc.is_null(verdict["drop_reason"]).to_numpy()
        for judged in done.judged:
            _add_edits(edits, judged, kept, keys, shard, seed)
    return Chosen(
        reasons={name: [place for _, place in found] for name, found in reasons.items()},
        edits=dict(sorted(edits.items())),
    )


def _add_reasons(
    found: dict[str, list[tuple[float, Place]]],
    reasons: pa.ListArray,
    keys: NDArray[np.uint64],
    shard: int,
    seed: int,
) -> None:
    rows = np.repeat(np.arange(len(reasons)), np.asarray(pc.list_value_length(reasons), np.int64))
    encoded = reasons.flatten().dictionary_encode()
    numbers = np.asarray(encoded.indices)
    for number, name in enumerate(encoded.dictionary.to_pylist()):
        mine = rows[numbers == number]
        draws = keyed_uniform(derive_seed(seed, name), keys[mine])
        found[name] = _smallest(found.get(name, []), draws, mine, shard)


def _smallest(
    best: list[tuple[float, Place]], draws: NDArray[np.float64], rows: NDArray[np.int64], shard: int
) -> list[tuple[float, Place]]:
    few = np.argsort(draws, kind="stable")[:PER_REASON]
    more = [(float(draws[i]), (shard, int(rows[i]))) for i in few]
    return heapq.nsmallest(PER_REASON, [*best, *more])


def _add_edits(
    found: dict[tuple[str, str], EditCount],
    judged: Judged,
    kept: NDArray[np.bool_],
    keys: NDArray[np.uint64],
    shard: int,
    seed: int,
) -> None:
    if judged.judge.edits(judged.nothing()) is None:
        return
    edits = judged.judge.edits(judged.table(shard))
    assert edits is not None
    spans = edits.spans
    rows = np.repeat(np.arange(len(kept)), np.diff(spans.offsets))
    for number, name in enumerate(spans.names):
        which = (spans.kinds == number) & kept[rows]
        documents = np.unique(rows[which])
        count = found.setdefault((judged.judge.name, name), EditCount())
        count.n_documents += len(documents)
        count.n_spans += int(which.sum())
        count.n_bytes += int((spans.stops[which] - spans.starts[which]).sum())
        count.replacement = edits.replacements.get(name)
        draws = keyed_uniform(derive_seed(seed, f"{judged.judge.name} {name}"), keys[documents])
        count.places = _smallest(count.places, draws, documents, shard)


def read_texts(
    corpus: Corpus, done: Preparation, places: Iterable[Place]
) -> dict[Place, tuple[str, str | None, str | None]]:
    """Text, id and source of documents by their places; secrets that were found are dots."""
    pii = [one for one in done.judged if isinstance(one.judge, Pii)]
    wanted: dict[int, list[int]] = {}
    for shard, row in places:
        wanted.setdefault(shard, []).append(row)
    fields = [name for name in ("text", "id", "source") if name in corpus.fields]
    found: dict[Place, tuple[str, str | None, str | None]] = {}
    for shard, rows in sorted(wanted.items()):
        tables = [one.table(shard) for one in pii]
        for batch in corpus.batches(corpus.shards[shard], fields):
            for row in rows:
                at = row - batch.first_row
                if 0 <= at < batch.n_rows:
                    values = {name: batch.columns[name][at].as_py() for name in fields}
                    text = values["text"]
                    for table in tables:
                        text = without_secrets(text, table.slice(row, 1))
                    found[shard, row] = (text, values.get("id"), values.get("source"))
    return found


def read_examples(corpus: Corpus, done: Preparation, places: Iterable[Place]) -> dict[Place, Example]:
    """The documents at these places, with everything that is cut out of them."""
    places = sorted(set(places))
    texts = read_texts(corpus, done, places)
    return {place: _example(corpus, done, place, texts[place]) for place in places}


def file_names(corpus: Corpus, done: Preparation) -> dict[int, str]:
    """How a report calls the file of each shard: those that the run itself wrote by their path inside it."""
    run = f"{done.prepared.parts[0].parent.parent.resolve()}/" if done.prepared.parts else ""
    return {shard.index: shard.path.removeprefix(run) for shard in corpus.shards}


def _example(
    corpus: Corpus, done: Preparation, place: Place, read: tuple[str, str | None, str | None]
) -> Example:
    shard, row = place
    text, name, source = read
    verdict = read_columns(done.verdict.parts[shard]).slice(row, 1).to_pylist()[0]
    spans = _spans(done.judged, shard, row)
    reasons = verdict["reasons"]
    fate = f"dropped: {'; '.join(reasons)}" if reasons else _kept(len(spans), verdict["n_bytes_cut"])
    return Example(
        shard=file_names(corpus, done)[shard],
        row=row,
        text=text,
        fate=fate,
        is_kept=not reasons,
        spans=tuple(spans),
        id=name,
        source=source,
    )


def _kept(n_spans: int, n_bytes_cut: int) -> str:
    return (
        f"kept, {n_spans:,} span{'s' * (n_spans != 1)} taken out ({n_bytes_cut:,} bytes)"
        if n_spans
        else "kept"
    )


def _spans(judged: Sequence[Judged], shard: int, row: int) -> list[TextSpan]:
    found: list[TextSpan] = []
    for one in judged:
        edits = one.judge.edits(one.table(shard).slice(row, 1))
        found += edit_spans(edits, 0) if edits is not None else []
    return found
