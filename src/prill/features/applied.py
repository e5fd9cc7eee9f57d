"""A feature's columns for other texts than the pool's: the fit parts of the targets.

Models, clusters and fitted states stay those of the pool; what is computed document by document is computed
once more, for the texts of each target as if they were a pool of one shard. So any method can say how it
scores its targets, which calibration needs.

Legend: D texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import Batch, text_buffers
from prill.features.feature import Feature, Given, ShardFeature, WholeFeature
from prill.features.pool import PoolView
from prill.features.text_hash import hash_documents
from prill.features.token_counts import TokenCounter
from prill.run.atomic import atomic_write

__all__ = ["AppliedToTargets", "TextPool"]

_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class TextPool(PoolView):
    """Some texts in the place of the pool: one shard, every text eligible, none in any sample.

    Attributes:
        text: large_string without nulls, shape (D,).
    """

    text: pa.Array

    @staticmethod
    def of(pool: PoolView, text: pa.Array) -> TextPool:
        """The texts, with the tokenizer and the fields of a pool."""
        return TextPool(**{name: getattr(pool, name) for name in PoolView.__dataclass_fields__}, text=text)

    @property
    def n_shards(self) -> int:
        return 1

    @property
    def n_bytes(self) -> int:
        return int(self.document_bytes(0).sum())

    def batches(self, shard: int, names: Sequence[str] = ("text",)) -> Iterator[Batch]:
        """The texts; other fields are null."""
        others = [name for name in self.corpus.fields if name in names and name != "text"]
        for first in range(0, len(self.text), _BATCH):
            text = pa.concat_arrays([self.text.slice(first, _BATCH)])
            columns = {name: pa.nulls(len(text), pa.large_string()) for name in others}
            yield Batch(shard=0, first_row=first, columns={"text": text, **columns})

    def keys(self, shard: int) -> NDArray[np.uint64]:
        return hash_documents(self.text)[1]

    def is_eligible(self, shard: int) -> NDArray[np.bool_]:
        return np.ones(len(self.text), np.bool_)

    def n_tokens(self, shard: int) -> NDArray[np.int64]:
        return TokenCounter.of(self.tokenizer.read_bytes()).count_batch(self.text) + 1

    def document_bytes(self, shard: int) -> NDArray[np.int64]:
        offsets, _ = text_buffers(self.text)
        return np.asarray(offsets[1:] - offsets[:-1], np.int64)

    def is_sampled(self, shard: int, *, share: float, seed: int) -> NDArray[np.bool_]:
        """None: samples are the pool's."""
        return np.zeros(len(self.text), np.bool_)


@dataclass(frozen=True, kw_only=True)
class AppliedToTargets(WholeFeature):
    """The columns of a feature for the fit texts of every target: one file a target, rows as the texts.

    Attributes:
        feature: of the pool.
        targets: their names.
    """

    kind: ClassVar[str] = "applied"
    is_apart: ClassVar[bool] = True
    feature: ShardFeature = field()
    targets: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.feature.label}: the targets' own texts"

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"target-{index}.parquet" for index in range(len(self.targets)))

    @property
    def settings(self) -> dict[str, Any]:
        return {"feature": self.feature.digest}

    @property
    def needs(self) -> tuple[Feature, ...]:
        """What is the pool's: everything on the way that is no part of a shard."""
        return tuple(f for f in _on_the_way(self.feature) if not isinstance(f, ShardFeature))

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        for name, path in zip(self.targets, paths, strict=True):
            pool = TextPool.of(given.pool, given.targets[name])
            with tempfile.TemporaryDirectory() as folder:
                atomic_write(path, self._applied(given, pool, Path(folder)).read_bytes())
        return {"n_documents": {name: len(given.targets[name]) for name in self.targets}}

    def _applied(self, given: Given, pool: TextPool, folder: Path) -> Path:
        parts = dict(given.parts)
        for index, feature in enumerate(_on_the_way(self.feature)):
            if isinstance(feature, ShardFeature):
                path = folder / f"{index}.parquet"
                feature.write(_given_to(feature, given, pool, parts), 0, path)
                parts[feature] = (path,)
        return parts[self.feature][0]


def _on_the_way(feature: Feature) -> list[Feature]:
    """The feature and what it reads, needs first; what features of the whole pool read is left out."""
    found: dict[Feature, None] = {}

    def visit(one: Feature) -> None:
        if one in found:
            return
        if isinstance(one, ShardFeature):
            for need in one.needs:
                visit(need)
        found[one] = None

    visit(feature)
    return list(found)


def _given_to(
    feature: Feature, given: Given, pool: TextPool, parts: Mapping[Feature, tuple[Path, ...]]
) -> Given:
    return Given(
        pool=pool,
        targets={name: given.targets[name] for name in feature.reads_targets},
        seed=given.seed,
        parts={need: parts[need] for need in feature.needs},
        counts={need: given.counts.get(need, {}) for need in feature.needs},
        named=feature.names,
    )
