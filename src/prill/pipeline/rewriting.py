"""The prepared documents once more, in the words of a model: rewritten, checked, and written as a corpus.

Rewriting changes what a document says. Whether it helps is a question for a study on text that was not
rewritten: compare this corpus with the prepared one at equal tokens, and at equal source documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.corpus.writers import write_documents
from prill.pipeline.walk import Done, ManyItem, ShardStep, ShardWalk
from prill.prepare.rewrite.job import RewriteJobSpec, make_rewriter
from prill.prepare.rewrite.prompts import GENRES, tinyhelen
from prill.prepare.rewrite.rewriter import REWRITE_SCHEMA, Rewriter

__all__ = ["rewrite_prepared"]

REWRITE_VERSION = 1
_COLUMNS = tuple(
    ColumnInfo(name=name, version=REWRITE_VERSION, summary=f"{name.replace('_', ' ')} of the rewrite")
    for name in REWRITE_SCHEMA.names
    if name != "text_simple"
)


@dataclass(frozen=True, kw_only=True)
class _AskForShard:
    """Rewrites one file of prepared documents: what became of each, and the rewrites that are kept."""

    rewriter: Rewriter
    spec: RewriteJobSpec
    prepared: tuple[Path, ...]

    def __call__(self, item: ManyItem) -> None:
        index, (columns_path, texts_path) = item
        documents = pq.read_table(self.prepared[index])
        sources = [None] * documents.num_rows
        if "source" in documents.column_names:
            sources = documents["source"].to_pylist()
        genres = [self.spec.genres.get(source or "", self.spec.genre) for source in sources]
        found = self.rewriter(documents["text"].to_pylist(), genres)
        if columns_path is not None:
            write_columns(columns_path, {info.name: found[info.name] for info in _COLUMNS}, _COLUMNS)
        if texts_path is not None:
            is_kept = pa.array([bool(kept) for kept in found["kept"].to_pylist()], pa.bool_())
            at = documents.column_names.index("text")
            simple = documents.set_column(at, "text", found["text_simple"]).filter(is_kept)
            write_documents(texts_path, [simple])


def rewrite_prepared(walk: ShardWalk, prepared: Done, spec: RewriteJobSpec, base: Path) -> Done:
    """Rewrite the prepared documents into `rewritten/`; what broke a rule is left out and counted.

    Raises:
        PrillError: the endpoint refuses or stays silent; answers until then are kept for the next run.
    """
    folder = walk.run.path / "rewritten"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **spec.model_dump(mode="json", exclude={"endpoint", "n_parallel"}),
        "model": spec.endpoint.model,
        "address": spec.endpoint.base_url,
        "prompts": sorted(tinyhelen(genre).id for genre in GENRES),
    }
    step = partial(ShardStep, version=REWRITE_VERSION, settings=settings, parents=[prepared])
    _, texts = walk.together(
        [
            step(name="rewrites", counts=_counts),
            step(name="rewritten", place=lambda index: folder / prepared.parts[index].name),
        ],
        work=lambda: _AskForShard(
            rewriter=make_rewriter(spec, walk.run.path, base), spec=spec, prepared=prepared.parts
        ),
        kind="inline",
        label="rewrite the prepared documents",
    )
    return texts


def _counts(parts: list[Path]) -> Mapping[str, Any]:
    """What became of the documents, and what it cost."""
    reasons: Counter[str] = Counter()
    tokens = {"tokens_in": 0, "tokens_out": 0}
    for path in parts:
        table = read_columns(path)
        reasons.update(reason or "kept" for reason in table["why_not"].to_pylist())
        for name in tokens:
            tokens[name] += sum(value or 0 for value in table[name].to_pylist())
    return {"n_kept": reasons["kept"], "outcomes": dict(sorted(reasons.items())), **tokens}
