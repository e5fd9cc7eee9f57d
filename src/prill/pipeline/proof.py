"""From choices to trials: which documents a trial reads and in which order, as packed tokens on disk.

A trial's sample is the first documents of its choice in the order of a draw keyed by its seed, enough for
its tokens; the same draw is its training order. The control's sample is drawn from the whole pool, anew for
each seed, as are those of methods that draw anew for every round. Each document that any trial reads is
tokenised once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.corpus.packed import write_packed
from prill.corpus.tokenizer import TextTokenizer
from prill.corpus.writers import write_parquet
from prill.features.rounds import independent_blocks, pass_seed, served_blocks
from prill.features.token_counts import TokenCounter
from prill.lm.feed.in_training import Drawn
from prill.pipeline.choose import DrawTables, SubsetTables, draw
from prill.study.pieces import Pieces

__all__ = [
    "EncodeShard",
    "Sample",
    "documents_by_round",
    "read_samples",
    "sample_tables",
    "write_eval_set",
    "write_samples",
    "write_stream",
]

_DOCUMENT = ("round", "shard", "row", "n_tokens")
_ROW_BITS = 40
"""Of a document's number among all shards."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One trial's data plan: `arm` and `seed` name it, `n_tokens` is how much text its rows come from.

    Where the method draws anew for every round, `draws` says how, and `n_tokens` is that of one round. Where
    its choice is for the beginning alone, `later` and `n_later` are the second round's tables and tokens.
    """

    arm: str
    seed: int
    n_tokens: int
    tables: SubsetTables | DrawTables
    draws: Drawn | None = None
    later: SubsetTables | DrawTables | None = None
    n_later: int = 0


def write_samples(
    path: Path, samples: Sequence[Sample], *, n_shards: int, longest: int
) -> Mapping[str, object]:
    """Decide and write each sample's documents: arm, seed, round, shard, row, n_tokens, in training order.

    Args:
        longest: tokens of the longest eligible document; the draw asks for that much more than a trial
            needs, so that stopping before the document that no longer fits still leaves enough.
    """
    tables = [_documents(sample, n_shards, longest) for sample in samples]
    write_parquet(path, pa.concat_tables(tables))
    return {
        f"{s.arm}/{s.seed}": int(t["n_tokens"].to_numpy().sum()) for s, t in zip(samples, tables, strict=True)
    }


def _documents(sample: Sample, n_shards: int, longest: int) -> pa.Table:
    if sample.draws is None:
        found = _drawn(sample.tables, n_shards, sample.n_tokens + longest, sample.seed)
        found = _numbered(found, 0)
        if sample.later is not None:
            later = _drawn(sample.later, n_shards, sample.n_later + longest, sample.seed)
            found = pa.concat_tables([found, _numbered(later, 1)])
    else:
        found = _rounds(sample, sample.draws, n_shards, longest)
    arm = pa.array([sample.arm] * found.num_rows, pa.string())
    seed = np.full(found.num_rows, sample.seed, np.int64)
    return pa.table({"arm": arm, "seed": seed, **{name: found[name] for name in _DOCUMENT}})


def _numbered(table: pa.Table, number: int) -> pa.Table:
    return table.append_column("round", pa.array(np.full(table.num_rows, number, np.int64)))


def _drawn(tables: SubsetTables | DrawTables, n_shards: int, n_tokens: int, seed: int) -> pa.Table:
    """shard, row and n_tokens of the first documents in the order of the tables' draws."""
    decision = draw(tables, n_shards, n_tokens=n_tokens, seed=seed)
    parts = [decision.rows(tables(shard), shard) for shard in range(n_shards)]
    shard = np.repeat(np.arange(n_shards), [part.num_rows for part in parts])
    rows = pa.concat_tables(parts)
    order = np.lexsort((rows["row"].to_numpy(), shard, rows["key"].to_numpy(), -rows["score"].to_numpy()))
    return pa.table(
        {
            "shard": shard[order].astype(np.int64),
            "row": rows["row"].to_numpy()[order],
            "n_tokens": rows["n_tokens"].to_numpy()[order],
        }
    )


def _rounds(sample: Sample, draws: Drawn, n_shards: int, longest: int) -> pa.Table:
    """round, shard, row and n_tokens of every round's documents; each round holds `n_tokens` at least."""
    tables = sample.tables
    assert isinstance(tables, DrawTables)
    n_served = 1 if draws.replaces else draws.n_rounds  # blocks of one pass, each a document over at most
    n_tokens = n_served * (sample.n_tokens + longest) + longest
    lengths: dict[int, int] = {}

    def order(number: int) -> tuple[np.ndarray, np.ndarray]:
        turned = replace(tables, seed=pass_seed(tables.seed, number))
        found = _drawn(turned, n_shards, n_tokens, sample.seed)
        ids = (found["shard"].to_numpy() << _ROW_BITS) + found["row"].to_numpy()
        units = found["n_tokens"].to_numpy()
        lengths.update(zip(ids.tolist(), units.tolist(), strict=True))
        return ids, units

    if draws.replaces:
        blocks = independent_blocks(order, sample.n_tokens, draws.n_rounds)
    else:
        blocks = served_blocks(order, sample.n_tokens, draws.n_rounds, wrap=draws.wrap)
    ids = np.concatenate(blocks)
    return pa.table(
        {
            "round": np.repeat(np.arange(len(blocks)), [len(block) for block in blocks]),
            "shard": ids >> _ROW_BITS,
            "row": ids & ((1 << _ROW_BITS) - 1),
            "n_tokens": np.array([lengths[number] for number in ids.tolist()], np.int64),
        }
    )


def documents_by_round(samples: pa.Table) -> dict[tuple[str, int], tuple[int, ...]]:
    """How many documents each round of each (arm, seed) holds, in order."""
    counts = samples.group_by(["arm", "seed", "round"]).aggregate([("row", "count")]).to_pylist()
    found: dict[tuple[str, int], dict[int, int]] = {}
    for row in counts:
        found.setdefault((row["arm"], row["seed"]), {})[row["round"]] = row["row_count"]
    return {key: tuple(rounds[number] for number in sorted(rounds)) for key, rounds in found.items()}


def read_samples(path: Path) -> pa.Table:
    """The documents of every sample."""
    return read_columns(path)


@dataclass(frozen=True, kw_only=True)
class EncodeShard:
    """Tokenises the documents of one shard that any trial reads."""

    corpus: Corpus
    samples: Path
    tokenizer: bytes

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        samples = read_samples(self.samples)
        wanted = np.unique(samples["row"].to_numpy()[samples["shard"].to_numpy() == index])
        counter = TokenCounter.of(self.tokenizer)
        encoded: list[np.ndarray] = []
        for batch in self.corpus.batches(self.corpus.shards[index]) if len(wanted) else ():
            here = wanted[(wanted >= batch.first_row) & (wanted < batch.first_row + batch.n_rows)]
            encoded += counter.encode(batch.text.take(pa.array(here - batch.first_row))).documents()
        tokens = pa.array(encoded, pa.large_list(pa.uint32()))
        write_parquet(path, pa.table({"row": wanted.astype(np.int64), "tokens": tokens}))


def write_stream(
    path: Path, samples: pa.Table, arm: str, seed: int, encoded: Sequence[pa.Table], tokenizer: TextTokenizer
) -> int:
    """Write one trial's documents in order; returns their tokens, end-of-document tokens included."""
    is_ours = (samples["seed"].to_numpy() == seed) & (np.asarray(samples["arm"].to_pylist(), object) == arm)
    shard, row = samples["shard"].to_numpy()[is_ours], samples["row"].to_numpy()[is_ours]
    known = [part["row"].to_numpy() for part in encoded]
    documents = (
        ((int(s), int(r)), encoded[s]["tokens"][int(np.searchsorted(known[s], r))].values.to_numpy())
        for s, r in zip(shard, row, strict=True)
    )
    return _pack(path, documents, tokenizer)


def _pack(
    path: Path, documents: Iterable[tuple[tuple[int, int], np.ndarray]], tokenizer: TextTokenizer
) -> int:
    return write_packed(
        path,
        documents,
        eos=tokenizer.eos_id,
        vocab_size=tokenizer.vocab_size,
        tokenizer_sha256=tokenizer.sha256,
    )


def write_eval_set(
    tokens_path: Path, pieces_path: Path, pieces: Pieces, tokenizer: TextTokenizer
) -> dict[str, int]:
    """Write an evaluation set's pieces as packed tokens, and who owns each piece."""
    encoded = tokenizer.encode_batch(pieces.texts)
    _pack(tokens_path, (((0, number), tokens) for number, tokens in enumerate(encoded)), tokenizer)
    write_parquet(pieces_path, pa.table({"document": pieces.document, "n_bytes": pieces.n_bytes}))
    return {
        "n_documents": len(np.unique(pieces.document)),
        "n_pieces": len(pieces.texts),
        "n_tokens": sum(map(len, encoded)),
        "n_bytes": int(pieces.n_bytes.sum()),
    }


def sample_tables(
    parts: tuple[list[Path], list[Path], list[Path]], choice: list[Path] | None, seed: int
) -> SubsetTables | DrawTables:
    """What a sample is drawn from: a choice, or (for the control) the pool."""
    if choice is not None:
        return SubsetTables(choice_parts=choice, seed=seed)
    read, eligible, tokens = parts
    return DrawTables(read_parts=read, eligible_parts=eligible, token_parts=tokens, seed=seed)
