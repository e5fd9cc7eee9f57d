"""The text itself, before anything is measured: extracted from HTML, and its Unicode repaired.

This is the one stretch that works in Python a document. It writes a corpus of its own in the run's folder,
with every field, in the order of the raw one; everything after it reads that corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.batch import Batch
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.corpus.writers import write_documents
from prill.features.html import HTML_VERSION, HtmlOptions, extract_texts, extractor_state
from prill.features.repair import REPAIR_VERSION, RepairOptions, repair_texts
from prill.pipeline.measuring import BAD_PREFIX, bad_columns
from prill.pipeline.walk import ShardWalk

__all__ = ["RewriteTexts", "texts_spec", "with_texts"]

_STATUS = "prill_html"


@dataclass(frozen=True, kw_only=True)
class RewriteTexts:
    """Writes one shard with its texts extracted and repaired.

    A bad record stays one, as a null text; why it is one, where and its bytes stand in columns beside it.
    """

    corpus: Corpus
    html: HtmlOptions | None
    repair: RepairOptions | None

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        empty = Batch(
            shard=index,
            first_row=0,
            columns={name: pa.array([], pa.large_string()) for name in self.corpus.fields},
        )
        pieces = [self._piece(empty)]
        for batch in self.corpus.batches(self.corpus.shards[index], self.corpus.fields):
            pieces.append(self._piece(batch))
        write_documents(path, pieces)

    def _piece(self, batch: Batch) -> pa.Table:
        text = batch.text
        status = pa.nulls(batch.n_rows, pa.string())
        if self.html is not None:
            text, found = extract_texts(text, self.html)
            status = pa.array(found, pa.string())
        if self.repair is not None:
            text = repair_texts(text, self.repair)
        if batch.bad:
            is_bad = ~batch.good_rows()
            text = pa.array(np.where(is_bad, None, text.to_numpy(zero_copy_only=False)), pa.large_string())
        told = {f"{BAD_PREFIX}{name}": column for name, column in bad_columns(batch).items()}
        return pa.table({**batch.columns, "text": text, _STATUS: status, **told})


def with_texts(walk: ShardWalk, html: HtmlOptions | None, repair: RepairOptions | None) -> ShardWalk:
    """The walk over the corpus with its texts extracted and repaired; the same walk when neither is asked."""
    if html is None and repair is None:
        return walk
    folder = walk.run.path / "texts"
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"on_bad": walk.corpus.spec.on_bad, "fields": walk.corpus.spec.fields}
    if html is not None:
        options = html.model_dump(include=set(HtmlOptions.model_fields))
        settings["html"] = {**options, "extractor": extractor_state(), "version": HTML_VERSION}
    if repair is not None:
        settings["repair"] = {**repair.model_dump(), "version": REPAIR_VERSION}
    walk.over_shards(
        "texts",
        version=2,
        settings=settings,
        parents=[],
        inputs=walk.corpus.identity(),
        work=lambda: RewriteTexts(corpus=walk.corpus, html=html, repair=repair),
        kind="processes",
        place=lambda index: folder / f"part-{index:05d}.parquet",
        counts=_counts,
        label="extract and repair the texts",
    )
    return replace(walk, corpus=Corpus.open(texts_spec(walk.run.path, walk.corpus.spec)))


def texts_spec(run_folder: Path, raw: CorpusSpec) -> CorpusSpec:
    """The rewritten texts of the raw corpus, as a corpus."""
    folder = run_folder.resolve() / "texts"
    return CorpusSpec(paths=[str(folder)], on_bad=raw.on_bad, shard_bytes=raw.shard_bytes)


def _counts(parts: list[Path]) -> Mapping[str, Any]:
    """Documents by what became of their HTML."""
    found: Counter[str] = Counter()
    for path in parts:
        for status in pq.read_table(path, columns=[_STATUS])[_STATUS].to_pylist():
            found[status or "not looked at"] += 1
    return {"n_documents": found.total(), "html": dict(sorted(found.items()))}
