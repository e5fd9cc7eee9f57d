"""`prill score`: the loss of every document of a corpus under a model, shard by shard.

The output is a run of its own: columns a shard in `scores/`, row for row with the corpus, a record with
everything that decided them, and the same guarantees as any run: kill it at any moment, call it again, and
it goes on after the last whole shard. Each worker process loads the model once and computes with one thread,
so a loss does not depend on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.failure import Retry
from prill.engine.local import LocalEngine
from prill.lm.backend import keep_freed_memory
from prill.lm.scoring.columns import Detail
from prill.lm.scoring.documents import Document, DocumentScorer
from prill.lm.scoring.stream import ScoreSettings
from prill.pipeline.inputs import available_cores
from prill.pipeline.walk import Done, ShardWalk
from prill.run.directory import RunDirectory
from prill.run.progress import choose_progress
from prill.run.signals import stop_on_signals

__all__ = ["ScoredCorpus", "score_corpus"]

CPU_SHARD_BYTES, GPU_SHARD_BYTES = 1 << 20, 64 << 20  # a few minutes of work
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ScoredCorpus:
    """A scored corpus.

    Attributes:
        folder: the run.
        parts: the columns of each shard, row for row with it.
        counts: `n_documents`, `n_tokens`, `n_empty`, `n_bad`, `n_truncated`, and of the documents that
            were scored whole `n_bytes_scored` and `nats`.
        model: whose losses these are.
    """

    folder: Path
    parts: tuple[Path, ...]
    counts: Mapping[str, Any]
    model: Path

    @property
    def summary(self) -> str:
        """The closing words."""
        counts = self.counts
        lines = [
            f"{counts['n_documents']:,} documents under {self.model}: {counts['n_tokens']:,} tokens scored",
        ]
        if counts["n_bytes_scored"]:
            rate = counts["nats"] / (np.log(2) * counts["n_bytes_scored"])
            lines.append(f"{rate:.4f} bits a byte over all documents that were scored whole")
        told = {
            "n_empty": "documents without text: no loss",
            "n_bad": "records that are no documents: set aside, no loss",
            "n_truncated": "documents of which only the first tokens were scored",
        }
        lines += [f"{counts[name]:,} {words}" for name, words in told.items() if counts[name]]
        lines.append(f"columns: {self.folder / 'scores'}, one file a shard")
        return "\n".join(lines)


def score_corpus(
    model: Path,
    corpus: CorpusSpec,
    *,
    output: Path,
    tokenizer: Path | None = None,
    detail: Detail = "documents",
    max_len: int | None = None,
    context: int = 1,
    row_tokens: int = 4096,
    max_tokens: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    device: str = "auto",
    n_workers: int | None = None,
    is_quiet: bool = False,
    accept_changes: bool = False,
) -> ScoredCorpus:
    """Score every document of a corpus, or go on with it.

    Args:
        model: a checkpoint of ours or a local `transformers` causal language model.
        corpus: the documents; paths are relative to the current folder.
        output: folder of the run.
        tokenizer: tokenizer.json of one of our checkpoints, if it is not in the folder.
        detail: numbers a document (`documents`), also log-probabilities a token (`tokens`), also moments and
            ranks (`moments`).
        max_len, context, row_tokens: layout, as in `ScoreSettings`; rounding depends on it, so keep it fixed
            where scores are compared.
        max_tokens: score only so many first tokens of a document; None: all.
        precision: of matrix products.
        device: `auto`, `cpu` or `cuda`.
        n_workers: processes on a CPU, one model each; all cores when not given.
    Raises:
        PrillError: the model, its tokenizer or the corpus is wrong, or memory does not suffice.
    """
    from prill.lm.backend import require_torch, resolve_device, resolve_precision

    require_torch()
    from prill.lm.scoring.models import open_model

    where = resolve_device(device)
    opened = open_model(model, tokenizer=tokenizer)
    scorer = DocumentScorer(
        model=opened,
        layout=ScoreSettings(
            prefix=opened.prefix,
            max_len=max_len or min(opened.context, row_tokens),
            context=context,
            row_tokens=row_tokens,
            is_whole=detail == "moments",
        ),
        detail=detail,
        max_tokens=max_tokens,
        precision=resolve_precision(precision, where),
        device=where.type,
    )
    work = ScoreShard(corpus=Corpus.open(_sized(corpus, where.type)), scorer=scorer)
    with stop_on_signals(), choose_progress(is_quiet=is_quiet) as progress:
        recipe = {"score": scorer.settings, "corpus": work.corpus.spec.model_dump(mode="json")}
        with RunDirectory.open(output, recipe, accept_changes) as run:

            def retried(retry: Retry) -> None:
                run.events.emit("retry", {"what": str(retry)})
                progress.note(str(retry))

            engine = LocalEngine(n_workers or available_cores(), on_retry=retried)
            walk = ShardWalk(run=run, engine=engine, progress=progress, corpus=work.corpus)
            done = work.over(walk)
    return ScoredCorpus(folder=output, parts=done.parts, counts=done.record.counts, model=model)


@dataclass(frozen=True, kw_only=True)
class ScoreShard:
    """Scores the documents of one shard; a worker process loads the model at its first."""

    corpus: Corpus
    scorer: DocumentScorer

    def over(self, walk: ShardWalk) -> Done:
        """The columns of every shard, in `scores/` of the run."""
        folder = walk.run.path / "scores"
        folder.mkdir(parents=True, exist_ok=True)
        return walk.over_shards(
            "score",
            version=VERSION,
            settings=self.scorer.settings,
            parents=[],
            inputs=self.corpus.identity(),
            work=lambda: self,
            kind="inline" if self.scorer.device == "cuda" else "processes",
            place=lambda index: folder / f"part-{index:05d}.parquet",
            counts=_counts,
            label="score the documents",
        )

    def __call__(self, item: tuple[int, Path]) -> None:
        if self.scorer.device == "cpu":  # then this is a worker process of its own
            keep_freed_memory()
        index, path = item
        has_id = "id" in self.corpus.fields
        documents = _Documents(self, index, ["text", "id"] if has_id else ["text"])
        table = pa.concat_tables(self.scorer.tables(documents, place=documents.place))
        table = table.append_column("bad", pa.array(documents.bad, pa.string()))
        infos = [
            *self.scorer.infos,
            ColumnInfo(name="bad", unit="reason", summary="why the record is no document; else null"),
        ]
        if has_id:
            table = table.append_column("id", pa.array(documents.ids, pa.string()))
            infos.append(ColumnInfo(name="id", unit="name", summary="the document's id"))
        write_columns(path, {name: table[name] for name in table.column_names}, infos)


class _Documents:
    """The documents of a shard on their way to the model; why rows are none, and ids, are noted."""

    def __init__(self, work: ScoreShard, shard: int, fields: Sequence[str]) -> None:
        self._work = work
        self._shard = work.corpus.shards[shard]
        self._fields = fields
        self.bad: list[str | None] = []
        self.ids: list[str | None] = []

    def __iter__(self) -> Iterator[Document]:
        work = self._work
        for batch in work.corpus.batches(self._shard, self._fields):
            reasons: dict[int, str] = {bad.row - batch.first_row: bad.message for bad in batch.bad}
            lengths = np.diff(batch.text_buffers()[0])
            if "id" in self._fields:
                self.ids += batch.columns["id"].cast(pa.string()).to_pylist()
            encoded = work.scorer.model.tokenizer.encode_batch(batch.text.to_pylist())
            for row, tokens in enumerate(encoded):
                self.bad.append(reasons.get(row))
                yield Document(tokens=tokens, n_bytes=int(lengths[row]), is_good=row not in reasons)

    def place(self, number: int) -> str:
        """Names a document in errors."""
        return f"shard {self._shard.index} ({self._shard.path}), row {number}"


def _sized(spec: CorpusSpec, device: str) -> CorpusSpec:
    """Shards of a few minutes of work, unless the user said how large they are."""
    if "shard_bytes" in spec.model_fields_set:
        return spec
    return spec.model_copy(update={"shard_bytes": GPU_SHARD_BYTES if device == "cuda" else CPU_SHARD_BYTES})


def _counts(parts: list[Path]) -> dict[str, Any]:
    """Totals, by shard in order; the bits a byte are over documents that were scored whole."""
    counts: dict[str, Any] = dict.fromkeys(
        ("n_documents", "n_tokens", "n_bytes_scored", "n_empty", "n_bad", "n_truncated"), 0
    )
    nats = 0.0
    for path in parts:
        table = read_columns(path, ["nats", "n_tokens", "n_bytes", "is_truncated", "bad"])
        is_bad = pc.is_valid(table["bad"]).to_numpy()
        n_tokens, n_bytes, is_truncated = (
            table[name].to_numpy() for name in ("n_tokens", "n_bytes", "is_truncated")
        )
        is_whole = (n_tokens > 0) & ~is_truncated & ~is_bad
        counts["n_documents"] += int((~is_bad).sum())
        counts["n_tokens"] += int(n_tokens.sum())
        counts["n_bytes_scored"] += int(n_bytes[is_whole].sum())
        counts["n_empty"] += int(((n_tokens == 0) & ~is_bad).sum())
        counts["n_bad"] += int(is_bad.sum())
        counts["n_truncated"] += int(is_truncated.sum())
        nats += float(table["nats"].to_numpy()[is_whole].sum())
    return {**counts, "nats": nats}
