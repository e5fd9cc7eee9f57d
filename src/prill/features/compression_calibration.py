"""Calibration of the race for compression similarity on a sample of the pool.

One half of the sample is drawn from all eligible documents; the other from those predicted to lie near or
above the cut, where errors matter. Everything is drawn by hash, and at most 200,000 documents are looked at,
so the work is the same for any pool, whatever its shards.

Legend: D documents looked at, C calibration documents, N target texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.features.compression import first_bytes
from prill.features.compression_race import CUT_QUANTILE, TOP_WIDTH, Race, fit_race, stages_of
from prill.features.compression_similarity import CompressionSimilarity, Reference
from prill.features.feature import Given
from prill.features.keyed import derive_seed, keyed_uniform

__all__ = ["calibrated"]

N_ANYWHERE = 128
N_NEAR = 192
MOST_LOOKED_AT = 200_000


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Eligible documents that are not empty: where they are, and what is known of them."""

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    key: NDArray[np.uint64]
    alone: NDArray[np.int64]
    means: dict[str, NDArray[np.float64]]

    def drawn(self, among: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
        """At most n of them, sorted."""
        draws = keyed_uniform(seed, self.key[among])
        return np.sort(among[np.argsort(draws, kind="stable")[:n]])


def calibrated(
    given: Given, references: Mapping[str, Reference], *, shortlist: float, first: int, safety: float
) -> list[Race]:
    """The race of every target; a pool of few documents, or a target of few texts, is compared whole.

    Args:
        given: with `lengths` and `similarity`.
        shortlist: share of the documents whose order is wanted exactly.
    """
    candidates = _candidates(given)
    races = []
    for name, reference in references.items():
        n = len(candidates.row)
        if not stages_of(first, len(reference)) or n <= 4 * (N_ANYWHERE + N_NEAR):
            races.append(_everyone())
        else:
            races.append(_race(given, candidates, name, reference, shortlist, first, safety))
    return races


def _race(
    given: Given,
    candidates: _Candidates,
    name: str,
    reference: Reference,
    shortlist: float,
    first: int,
    safety: float,
) -> Race:
    seed = derive_seed(given.seed, "compression.calibration")
    n = len(candidates.row)
    anywhere = candidates.drawn(np.arange(n), N_ANYWHERE, seed)
    known = _compared(given, candidates, anywhere, reference)
    race = fit_race(reference, candidates.alone[anywhere], known, first=first, safety=safety)
    predicted_D = race.predicted(reference, candidates.alone, candidates.means[name], 0)
    n_top = min(n, int(np.ceil(TOP_WIDTH * shortlist * n)))
    top = np.argsort(-predicted_D, kind="stable")[:n_top]
    near = candidates.drawn(np.sort(top), N_NEAR, seed + 1)
    known_near = _compared(given, candidates, near, reference)
    if n_top == n:
        return _everyone()
    cut = float(np.quantile(known_near.mean(axis=1), CUT_QUANTILE))
    both = np.concatenate([anywhere, near])
    known = np.concatenate([known, known_near])
    return fit_race(reference, candidates.alone[both], known, first=first, safety=safety, cut=cut)


def _everyone() -> Race:
    return Race(stages=(), weights=np.zeros((0, 4)), margins=np.zeros(0), cut=-np.inf)


def _candidates(given: Given) -> _Candidates:
    feature = given.named["similarity"]
    assert isinstance(feature, CompressionSimilarity)
    share = given.pool.share_of(n_documents=MOST_LOOKED_AT)
    seed = derive_seed(given.seed, "compression.candidates")
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]] = []
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in feature.targets}
    for shard in range(given.pool.n_shards):
        rows = np.flatnonzero(
            given.pool.is_sampled(shard, share=share, seed=seed) & (given.pool.document_bytes(shard) > 0)
        )
        alone = feature.alone(given, shard)[rows]
        parts.append((np.full(len(rows), shard), rows, given.pool.keys(shard)[rows], alone))
        columns = given.columns(feature, shard)
        for name, found in means.items():
            found.append(np.asarray(columns[name].to_numpy())[rows])
    shard_D, row_D, key_D, alone_D = (np.concatenate(p) for p in zip(*parts, strict=True))
    return _Candidates(
        shard=shard_D,
        row=row_D,
        key=key_D,
        alone=alone_D,
        means={name: np.concatenate(found) for name, found in means.items()},
    )


def _compared(
    given: Given, candidates: _Candidates, chosen: NDArray[np.int64], reference: Reference
) -> NDArray[np.float64]:
    """Similarity of chosen documents with all texts, float64, shape (C, N)."""
    feature = given.named["similarity"]
    assert isinstance(feature, CompressionSimilarity)
    found = np.empty((len(chosen), len(reference)))
    for shard in np.unique(candidates.shard[chosen]).tolist():
        of_shard = np.flatnonzero(candidates.shard[chosen] == shard)
        rows = candidates.row[chosen[of_shard]]
        for batch in given.pool.batches(shard):
            inside = np.flatnonzero((rows >= batch.first_row) & (rows < batch.first_row + batch.n_rows))
            if not len(inside):
                continue
            text = first_bytes(
                batch.text.take(pa.array(rows[inside] - batch.first_row)), feature.lengths.max_bytes
            )
            alone = candidates.alone[chosen[of_shard[inside]]]
            every = np.arange(len(inside))
            found[of_shard[inside]] = reference.similarity(text, alone, every, 0, len(reference))
    return found
