"""An annotator of quality: a logistic head on frozen vectors that tells a target's windows from the pool's.

Positives are a target's documents, negatives keyed random documents of the pool. In a small pool many of the
documents to be judged are negatives themselves, and a head would hold against them what it learnt from them.
So there are two heads, each fitted on the negatives of one half of the pool, and a document is judged by the
head that could not see it.

Source: Wei et al. 2024, arXiv:2409.02326, section 2.3. Differs: two heads; the paper's 300,000 negatives are
a vanishing part of its pool.

Legend: N documents of a sample, D documents, W windows, K dimensions, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.feature import Given, WholeFeature
from prill.features.heads import Head, fit_head, roc_auc
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.vectors import TargetVectors, Vectors, VectorSample
from prill.run.atomic import atomic_write

__all__ = ["PENALTIES", "Annotator", "Heads", "window_mean"]

PENALTIES: Final = (0.1, 1.0, 0.01)
"""What a penalty is chosen from; the first one where nothing can be held out, or where they are equal."""

_LEAST_TARGET = 5
_ENOUGH_TARGET = 100


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The heads, and which documents each judges.

    Attributes:
        heads: H of them.
        seed: of the draw that gives every document its head.
    """

    heads: tuple[Head, ...]
    seed: int

    def judge(self, vectors_DWK: NDArray[np.float32], key_D: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Mean probability over the windows of each document that have words, float64, NaN without."""
        head_D = _head_of(self.seed, key_D, len(self.heads))
        p_HDW = np.stack([_probabilities(head, vectors_DWK) for head in self.heads])
        return window_mean(p_HDW[head_D, np.arange(len(key_D))], vectors_DWK)


@dataclass(frozen=True, kw_only=True)
class Annotator(WholeFeature):
    """The heads of one target.

    Attributes:
        vectors: of the pool, with windows.
        target: of the target.
        n_negatives: documents of the pool.
        n_heads: 2, or 1 as in the paper.
        l2: of the penalty, as in `fit_head`; 0 chooses the one of `PENALTIES` that tells held-out documents
            apart best.
        held_out: share of the positives by which the annotator is measured before all are used.
    """

    kind: ClassVar[str] = "annotator"
    is_apart: ClassVar[bool] = True
    vectors: Vectors
    target: TargetVectors
    n_negatives: int = 3_000
    n_heads: int = 2
    l2: float = 0.0
    held_out: float = 0.2

    @property
    def label(self) -> str:
        return f"annotator of {self.target.targets[0]}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("heads.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import save

        positive = self._positives(given)
        negative = self.vectors.sample(given, n_documents=self.n_negatives, use=self._use)
        seed = derive_seed(given.seed, f"{self._use}.head")
        head_N = _head_of(seed, negative.key, self.n_heads)
        held_P = keyed_uniform(derive_seed(given.seed, f"{self._use}.held"), positive.key) < self.held_out
        penalties = (self.l2,) if self.l2 else PENALTIES
        measured = [self._measured(positive, negative, held_P, head_N, l2) for l2 in penalties]
        best = int(np.argmax([-1.0 if auc is None else auc for auc in measured]))
        l2 = penalties[best]
        heads = [
            self._fitted(positive, _part(negative, self._seen(head_N, h)), l2) for h in range(self.n_heads)
        ]
        arrays: dict[str, NDArray[Any]] = {f"weight_{h}": head.weight for h, head in enumerate(heads)}
        arrays |= {f"bias_{h}": head.bias for h, head in enumerate(heads)}
        atomic_write(paths[0], save(dict(sorted(arrays.items()))))
        n_examples = len(positive.key) + len(negative.key)
        return {
            "positives": len(positive.key),
            "negatives": len(negative.key),
            "held_out_auc": measured[best],
            "l2": l2,
            "flops": 8.0 * 100 * n_examples * self.vectors.n_windows * self.vectors.n_dimensions,
        }

    def read(self, given: Given) -> Heads:
        """The heads, from a run."""
        from safetensors.numpy import load_file

        stored = load_file(given.file(self))
        heads = [
            Head(kind="classes", weight=stored[f"weight_{h}"], bias=stored[f"bias_{h}"])
            for h in range(self.n_heads)
        ]
        return Heads(heads=tuple(heads), seed=derive_seed(given.seed, f"{self._use}.head"))

    @property
    def _use(self) -> str:
        return f"annotator.{self.target.targets[0]}"

    def _positives(self, given: Given) -> VectorSample:
        found = self.target.read(given)
        positive = _part(found, np.any(found.vectors[:, 0] != 0, axis=1))
        if len(positive.key) < _LEAST_TARGET:
            raise DataError(
                f"expected at least {_LEAST_TARGET} documents with words in target "
                f"{self.target.targets[0]!r}, found {len(positive.key)}",
                hint=f"an annotator needs examples; {_ENOUGH_TARGET} would do",
            )
        return positive

    def _seen(self, head_N: NDArray[np.int64], head: int) -> NDArray[np.bool_]:
        """The negatives that a head may be fitted on."""
        return np.ones(len(head_N), bool) if self.n_heads == 1 else head_N != head

    def _measured(
        self,
        positive: VectorSample,
        negative: VectorSample,
        held_P: NDArray[np.bool_],
        head_N: NDArray[np.int64],
        l2: float,
    ) -> float | None:
        """AUC of held-out positives against negatives that the head did not see; None without either."""
        unseen_N = head_N == 0 if self.n_heads > 1 else np.arange(len(head_N)) % 2 == 0
        if not held_P.any() or held_P.sum() > len(held_P) - 2 or not unseen_N.any() or unseen_N.all():
            return None
        head = self._fitted(_part(positive, ~held_P), _part(negative, ~unseen_N), l2)
        scores = [
            window_mean(_probabilities(head, part.vectors), part.vectors)
            for part in (_part(positive, held_P), _part(negative, unseen_N))
        ]
        return roc_auc(*scores)

    def _fitted(self, positive: VectorSample, negative: VectorSample, l2: float) -> Head:
        """Both classes weigh the same, and every document as much as any other of its class."""
        if len(negative.key) == 0:
            raise DataError(
                "expected documents of the pool as negatives, found none", hint="raise `negatives`"
            )
        rows, labels, weights = [], [], []
        for label, part in ((1, positive), (0, negative)):
            is_seen_NW = np.any(part.vectors != 0, axis=2)
            share_NW = is_seen_NW / is_seen_NW.sum(axis=1, keepdims=True) / len(part.key)
            rows.append(part.vectors[is_seen_NW])
            weights.append(share_NW[is_seen_NW])
            labels.append(np.full(int(is_seen_NW.sum()), label))
        return fit_head(
            np.concatenate(rows),
            np.concatenate(labels),
            "classes",
            l2=l2,
            weight_N=np.concatenate(weights),
        )


def window_mean(p_DW: NDArray[np.float64], vectors_DWK: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean over the windows that have words; NaN for a document without."""
    is_seen_DW = np.any(vectors_DWK != 0, axis=2)
    n_D = is_seen_DW.sum(axis=1)
    return np.where(n_D > 0, (p_DW * is_seen_DW).sum(axis=1) / np.maximum(n_D, 1), np.nan)


def _probabilities(head: Head, vectors_DWK: NDArray[np.float32]) -> NDArray[np.float64]:
    n_documents, n_windows, n_dimensions = vectors_DWK.shape
    p_DL = head.predict(vectors_DWK.reshape(-1, n_dimensions))
    return np.asarray(p_DL[:, 1].reshape(n_documents, n_windows))


def _head_of(seed: int, key_D: NDArray[np.uint64], n_heads: int) -> NDArray[np.int64]:
    return np.minimum((keyed_uniform(seed, key_D) * n_heads).astype(np.int64), n_heads - 1)


def _part(sample: VectorSample, chosen_N: NDArray[np.bool_]) -> VectorSample:
    return VectorSample(
        vectors=sample.vectors[chosen_N], n_windows=sample.n_windows[chosen_N], key=sample.key[chosen_N]
    )
