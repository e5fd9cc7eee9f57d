"""Documents for reading: those just above and just below each line, and random ones.

Places are found over numbers alone, a few a shard; then the text of the places found is read in one pass
over the shards that hold any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.features.keyed import keyed_uniform
from prill.pipeline.choose import read_choice
from prill.pipeline.steps import Choice
from prill.report.model import SampleDocument, SampleGroup

__all__ = ["browse"]

PER_GROUP = 8
EXCERPT = 1_500

Kind = Literal["above", "below", "random"]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One document to show: where it is and what was decided."""

    shard: int
    row: int
    score: float
    n_tokens: int
    is_kept: bool
    order: float


def browse(
    corpus: Corpus, choices: Sequence[Choice], read_parts: Sequence[Path], *, seed: int
) -> dict[tuple[str, str], tuple[SampleGroup, ...]]:
    """The sample groups of every choice, by (target, arm)."""
    found = {(c.target, c.arm.label): _find(c, len(corpus.shards), seed) for c in choices}
    places = {(f.shard, f.row) for groups in found.values() for group in groups.values() for f in group}
    texts = _read(corpus, places)
    sources = {
        s: read_columns(read_parts[s], ["source"])["source"] for s in sorted({shard for shard, _ in places})
    }
    return {
        key: tuple(
            SampleGroup(
                kind=kind,
                arm=key[1],
                documents=tuple(
                    _document(corpus, f, texts, sources[f.shard][f.row].as_py(), kind) for f in group
                ),
            )
            for kind, group in groups.items()
        )
        for key, groups in found.items()
    }


def _find(choice: Choice, n_shards: int, seed: int) -> dict[Kind, list[_Found]]:
    best: dict[Kind, list[_Found]] = {"above": [], "below": [], "random": []}
    for shard in range(n_shards):
        table = choice.tables(shard)
        eligible, score = table["eligible"].to_numpy(), table["score"].to_numpy()
        kept = np.zeros(table.num_rows, bool)
        kept[read_choice(choice.parts[shard])["row"].to_numpy()] = True
        draws = keyed_uniform(seed, table["key"].to_numpy())
        wanted: dict[Kind, tuple[np.ndarray, np.ndarray]] = {
            "above": (kept, score),
            "below": (eligible & ~kept, -score),
            "random": (eligible, draws),
        }
        tokens = table["n_tokens"].to_numpy()
        for kind, (mask, order) in wanted.items():
            rows = np.flatnonzero(mask & np.isfinite(score))
            rows = rows[np.argsort(order[rows], kind="stable")[:PER_GROUP]]
            best[kind] += [
                _Found(
                    shard=shard,
                    row=int(row),
                    score=float(score[row]),
                    n_tokens=int(tokens[row]),
                    is_kept=bool(kept[row]),
                    order=float(order[row]),
                )
                for row in rows
            ]
    return {
        kind: sorted(found, key=lambda f: (f.order, f.shard, f.row))[:PER_GROUP]
        for kind, found in best.items()
    }


def _read(corpus: Corpus, places: set[tuple[int, int]]) -> Mapping[tuple[int, int], tuple[str, str | None]]:
    """Text and id of each place."""
    fields = ("text", "id") if "id" in corpus.fields else ("text",)
    read: dict[tuple[int, int], tuple[str, str | None]] = {}
    for shard in sorted({shard for shard, _ in places}):
        rows = np.array(sorted(row for s, row in places if s == shard))
        for batch in corpus.batches(corpus.shards[shard], fields):
            here = rows[(rows >= batch.first_row) & (rows < batch.first_row + batch.n_rows)]
            ids = batch.columns.get("id", pa.nulls(batch.n_rows, pa.large_string()))
            for row in here.tolist():
                place = row - batch.first_row
                read[shard, row] = (batch.text[place].as_py(), ids[place].as_py())
    return read


def _document(
    corpus: Corpus,
    found: _Found,
    texts: Mapping[tuple[int, int], tuple[str, str | None]],
    source: str | None,
    kind: Kind,
) -> SampleDocument:
    text, name = texts[found.shard, found.row]
    line = {"above": "just above the line", "below": "just below the line", "random": "drawn from the pool"}[
        kind
    ]
    return SampleDocument(
        shard=Path(corpus.shards[found.shard].path).name,
        row=found.row,
        id=name,
        source=source,
        score=found.score,
        n_tokens=found.n_tokens,
        n_chars=len(text),
        text=text[:EXCERPT],
        is_kept=found.is_kept,
        reason=f"{'kept' if found.is_kept else 'not kept'}: {line}",
    )
