"""From the sources of a training to packed streams of samples: read, draw, tokenise, transform, pack.

Each source's documents are drawn by a hash of their text, so copies of one text are never both trained on
and held out, and which documents are read does not depend on files or order. A source much larger than its
part of the budget is read once and tokenised only as far as it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.corpus.packed import CHANNELS, PackedChunk, write_packed_chunks
from prill.corpus.tokenizer import TextTokenizer, load_tokenizer
from prill.corpus.writers import write_parquet
from prill.errors import DataError
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.token_counts import TokenCounter
from prill.lm.data import TokenStream
from prill.lm.samples.chain import columns_needed, make_samples, when_asked
from prill.lm.samples.subset import NothingKeptError
from prill.lm.samples.token_ends import token_ends
from prill.lm.samples.transform import Documents, SampleTransform
from prill.pipeline.measuring import ReadDocuments, engine_kind, measure_all
from prill.pipeline.quarantine import set_aside
from prill.pipeline.walk import Done, ShardWalk
from prill.run.fingerprint import safe_name

__all__ = [
    "ASKED",
    "HELD_OUT",
    "REST",
    "TRAIN",
    "Share",
    "SourceStreams",
    "read_source",
    "sample_of",
    "stream_source",
]

MOST_HELD_OUT = 0.1
SPARE = 1.25
"""Drawn text beyond what a source's part of the budget needs, as bytes a token are only estimated."""

FEWEST_DOCUMENTS = 400
"""A draw aims at no fewer documents than this, so that a short training does not read a handful."""

TRAIN, REST, HELD_OUT, ASKED = 0, 1, 2, 3
PARTS = {TRAIN: "train", REST: "cooldown", HELD_OUT: "held_out", ASKED: "asked"}
"""Files of a source: trained on; trained on in the cooldown; never trained on; the same documents as a model
that learnt from the transforms is asked (`prill.lm.samples.chain.when_asked`)."""

ENCODE_VERSION = 1
STREAM_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of a source a document belongs to, by its keyed draws.

    Attributes:
        train: documents drawn below it are trained on, the cooldown's included.
        cooldown: share of those that are kept for the cooldown.
        held_out: documents drawn above 1 minus this are held out.
    """

    train: float
    cooldown: float
    held_out: float
    seed: int

    def part(self, keys: NDArray[np.uint64]) -> NDArray[np.int8]:
        """The part of each document, int8, (D,); -1: of none."""
        drawn = keyed_uniform(self.seed, keys)
        later = keyed_uniform(derive_seed(self.seed, "cooldown"), keys) < self.cooldown
        part = np.where(drawn < self.train, np.where(later, REST, TRAIN), -1)
        return np.where(drawn >= 1 - self.held_out, HELD_OUT, part).astype(np.int8)

    @classmethod
    def of(
        cls,
        *,
        n_documents: int,
        n_bytes: int,
        needed_bytes: float,
        held_out_bytes: int,
        cooldown: float,
        seed: int,
    ) -> Share:
        """The shares of a source of `n_bytes` that must give `needed_bytes` of training text."""
        held_out = min(MOST_HELD_OUT, held_out_bytes / max(1, n_bytes))
        needed = max(SPARE * needed_bytes / max(1, n_bytes), FEWEST_DOCUMENTS / max(1, n_documents))
        return cls(
            train=min(1 - held_out, needed),
            cooldown=cooldown,
            held_out=held_out,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class SourceStreams:
    """The packed files of one source, and how many tokens each part has."""

    name: str
    done: Done
    samples: tuple[SampleTransform, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """Documents and tokens of each part."""
        return self.done.record.counts

    def path(self, part: int) -> Path:
        """The packed file of a part."""
        return self.done.parts[part]


def read_source(walk: ShardWalk, name: str) -> Done:
    """Hash and account every document of a source; bad records are set aside under its name."""
    short = safe_name(name)
    measure = ReadDocuments(spec=walk.corpus.spec, name=f"read-{short}")
    (done,) = measure_all(walk, [measure], label=f"read {name}")
    if done.record.counts["n_bad"]:
        set_aside(walk, done, name=f"quarantine-{short}")
    if not done.record.counts["n_bytes"]:
        raise DataError("a source needs text, found none", where=f"source {name!r}")
    return done


def sample_of(walk: ShardWalk, read: Done, *, n_bytes: int, seed: int) -> Iterator[str]:
    """Texts of about `n_bytes` in all, chosen by keyed hash, in corpus order."""
    share = n_bytes / max(1, int(read.record.counts["n_bytes"]))
    for shard, part in zip(walk.corpus.shards, read.parts, strict=True):
        table = read_columns(part, ["hash_low", "bad"])
        chosen = pc.is_null(table["bad"]).to_numpy()
        chosen &= keyed_uniform(seed, table["hash_low"].to_numpy()) < share
        for batch in walk.corpus.batches(shard) if chosen.any() else ():
            rows = np.flatnonzero(chosen[batch.first_row : batch.first_row + batch.n_rows])
            yield from batch.text.take(pa.array(rows)).to_pylist()


@dataclass(frozen=True, kw_only=True)
class EncodeSource:
    """Tokenises the documents of a shard that belong to any part, with the columns transforms need."""

    corpus: Corpus
    read_parts: tuple[Path, ...]
    tokenizer: bytes
    share: Share
    needs: tuple[str, ...]

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        table = read_columns(self.read_parts[index], ["hash_low", "n_bytes", "bad"])
        keys, n_bytes = table["hash_low"].to_numpy(), table["n_bytes"].to_numpy()
        parts = self.share.part(keys)
        parts[~pc.is_null(table["bad"]).to_numpy() | (n_bytes == 0)] = -1
        wanted = np.flatnonzero(parts >= 0)
        counter = TokenCounter.of(self.tokenizer)
        tokens: list[NDArray[np.uint32]] = []
        columns: dict[str, list[pa.Array]] = {name: [] for name in self.needs}
        shard, fields = self.corpus.shards[index], [f for f in self.corpus.fields if f in self.needs]
        for batch in self.corpus.batches(shard, sorted({"text", *fields})) if len(wanted) else ():
            here = wanted[(wanted >= batch.first_row) & (wanted < batch.first_row + batch.n_rows)]
            rows = pa.array(here - batch.first_row)
            tokens += counter.encode(batch.text.take(rows)).documents()
            for name in self.needs:
                columns[name].append(_column(batch.columns, name, rows))
        write_parquet(
            path,
            pa.table(
                {
                    "row": wanted.astype(np.int64),
                    "part": parts[wanted],
                    "key": keys[wanted],
                    "n_bytes": n_bytes[wanted],
                    "tokens": pa.array(tokens, pa.large_list(pa.uint32())),
                    **{f"field_{name}": _joined(found) for name, found in columns.items()},
                }
            ),
        )


def _column(columns: Mapping[str, pa.Array], name: str, rows: pa.Array) -> pa.Array:
    if name not in columns:
        return pa.nulls(len(rows), pa.large_string())
    return columns[name].take(rows)


def _joined(found: Sequence[pa.Array]) -> pa.Array:
    return pa.concat_arrays(found) if found else pa.array([], pa.large_string())


def stream_source(
    walk: ShardWalk,
    name: str,
    *,
    read: Done,
    tokenizer: Done,
    share: Share,
    samples: Sequence[SampleTransform],
    first_tag: int,
    vocab_size: int,
    seed: int,
) -> SourceStreams:
    """Tokenise and pack a source.

    Args:
        walk: over the source's corpus.
        name: of the source.
        read, tokenizer: finished steps.
        share: which documents belong to which part.
        samples: transforms in order.
        first_tag: first id of their tags.
        vocab_size: ids of the tokenizer and of all tags of all sources.
        seed: of what transforms draw.
    """
    short = safe_name(name)
    content = tokenizer.path.read_bytes()
    needs = columns_needed(samples)
    encoded = walk.over_shards(
        f"encode-{short}",
        version=ENCODE_VERSION,
        settings={"share": asdict(share), "needs": list(needs)},
        parents=[read, tokenizer],
        work=lambda: EncodeSource(
            corpus=walk.corpus, read_parts=read.parts, tokenizer=content, share=share, needs=needs
        ),
        kind=engine_kind(walk.corpus),
        label=f"tokenise {name}",
    )
    text_tokenizer = load_tokenizer(content, eos=str(tokenizer.record.counts["eos"]))
    packer = _Packer(
        name=name,
        samples=tuple(samples),
        tokenizer=text_tokenizer,
        first_tag=first_tag,
        vocab_size=vocab_size,
        seed=seed,
    )
    done = walk.at_once(
        f"stream-{short}",
        version=STREAM_VERSION,
        settings={
            "samples": [transform.as_record() for transform in samples],
            "first_tag": first_tag if samples else None,
            "vocab_size": vocab_size,
            "seed": seed if samples else None,
        },
        parents=[encoded],
        files=[*(f"{name}.tokens" for name in PARTS.values()), "held_out.parquet"],
        build=lambda paths: packer.write(paths, encoded.parts),
        label=f"pack {name}",
    )
    return SourceStreams(name=name, done=done, samples=tuple(samples))


@dataclass(frozen=True, kw_only=True)
class _Packer:
    """Writes the three packed files of a source, shard by shard."""

    name: str
    samples: tuple[SampleTransform, ...]
    tokenizer: TextTokenizer
    first_tag: int
    vocab_size: int
    seed: int

    def write(self, paths: list[Path], encoded: Sequence[Path]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for part, path in zip(PARTS, paths, strict=False):
            n_docs = 0
            empty: NothingKeptError | None = None

            def chunks(part: int = part) -> Iterator[PackedChunk]:
                nonlocal n_docs, empty
                for shard, file in enumerate(encoded):
                    table = read_columns(file)
                    table = table.filter(pc.equal(table["part"], HELD_OUT if part == ASKED else part))
                    if table.num_rows:
                        try:
                            chunk = self._chunk(table, shard, part)
                        except NothingKeptError as error:
                            empty = error
                            continue
                        if chunk is None:
                            break
                        n_docs += len(chunk.lengths)
                        yield chunk
                if empty is not None and not n_docs:
                    raise empty

            n_tokens = write_packed_chunks(
                path,
                chunks(),
                eos=self.tokenizer.eos_id,
                vocab_size=self.vocab_size,
                tokenizer_sha256=self.tokenizer.sha256,
            )
            label = PARTS[part]
            counts |= {f"n_{label}": n_docs, f"n_{label}_tokens": n_tokens}
        held = [read_columns(file, ["part", "n_bytes"]) for file in encoded]
        sizes = [table.filter(pc.equal(table["part"], HELD_OUT))["n_bytes"].to_numpy() for table in held]
        write_parquet(paths[-1], pa.table({"n_bytes": np.concatenate(sizes).astype(np.int64)}))
        return counts

    def _chunk(self, table: pa.Table, shard: int, part: int) -> PackedChunk | None:
        """A shard's documents of a part; None where nothing can be asked in another way."""
        stream = self._stream(table)
        rows = table["row"].to_numpy()
        if part == ASKED:
            asked = when_asked(self.samples, self._documents(table, stream), seed=self.seed)
            if asked is None:
                return None
            stream = asked
        elif part == TRAIN:
            stream = make_samples(self.samples, self._documents(table, stream), seed=self.seed)
            rows = rows if stream.origins is None else rows[stream.origins]
        channels = {name: getattr(stream, name) for name in CHANNELS if getattr(stream, name) is not None}
        return PackedChunk(
            tokens=stream.tokens,
            lengths=np.diff(stream.doc_starts).tolist(),
            keys=[(shard, int(row)) for row in rows],
            channels=channels,
        )

    def _stream(self, table: pa.Table) -> TokenStream:
        documents = table["tokens"].combine_chunks()
        values = documents.flatten().to_numpy(zero_copy_only=False)
        lengths = pc.list_value_length(documents).to_numpy(zero_copy_only=False)
        starts = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int64)
        tokens = np.full(int(starts[-1]), self.tokenizer.eos_id, np.uint32)
        is_text = np.ones(len(tokens), bool)
        is_text[starts[1:] - 1] = False
        tokens[is_text] = values
        return TokenStream(tokens=tokens, doc_starts=starts, name=self.name)

    def _documents(self, table: pa.Table, stream: TokenStream) -> Documents:
        """What transforms get."""
        fields = {
            name.removeprefix("field_"): table[name].combine_chunks()
            for name in table.column_names
            if name.startswith("field_")
        }
        texts = fields.pop("text", None)
        return Documents(
            stream=stream,
            hashes=table["key"].to_numpy(),
            encode=lambda words: list(self.tokenizer.encode_batch(list(words))),
            vocab_size=self.first_tag,
            fields=fields,
            texts=texts,
            ends=None if texts is None else token_ends(self.tokenizer, stream, texts),
        )
