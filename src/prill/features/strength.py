"""Predictive strength: on which documents do several models' losses rank as the models do on a benchmark?

The models, weakest first, are ordered by their own loss on the fit part of a target. A document on which
every stronger model has the lower loss predicts that order (strength 1); one on which every model does worse
than a weaker one denies it (0). The two ends of a seed sample train a linear classifier, which then reads the
whole pool.

Source: Shum et al. 2025, arXiv:2503.00808, section 2 and appendix A.
Legend: D documents, N models from weak to strong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.errors import DataError
from prill.features.feature import Given, WholeFeature
from prill.features.keyed import derive_seed
from prill.features.losses import SampleLoss, TargetLoss, mean_losses

__all__ = ["StrengthClassifier", "character_threshold", "predictive_strength", "strength_labels"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StrengthClassifier(WholeFeature):
    """A linear model that tells documents that predict the benchmark (label 1) from those that deny it (0).

    Attributes:
        samples: losses of one seed sample under each model.
        benchmarks: losses of one target under the same models, in the same order.
        min_tokens: scored tokens below which a document of the seed is left out.
        epochs, lr, word_ngrams, n_buckets: of the classifier, as in `train_linear`.
        is_end_dropped: the weight of the `</s>` that ends every document is set to 0.
    """

    kind: ClassVar[str] = "strength"
    is_apart: ClassVar[bool] = True
    samples: tuple[SampleLoss, ...]
    benchmarks: tuple[TargetLoss, ...]
    min_tokens: int = 16
    epochs: int = 5
    lr: float = 0.1
    word_ngrams: int = 2
    n_buckets: int = 1 << 18
    is_end_dropped: bool = True

    @property
    def label(self) -> str:
        return f"classifier of predictive strength for {self.benchmarks[0].targets[0]}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("classifier.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from prill.features.classifier import train_linear

        benchmark_N = np.array([_total_rate(read_columns(given.file(loss))) for loss in self.benchmarks])
        order = np.argsort(-benchmark_N, kind="stable")  # weakest first: the highest loss
        losses_DN = np.stack([self._losses(given, self.samples[i]) for i in order], axis=1)
        strength_D = predictive_strength(losses_DN, -benchmark_N[order])
        sample = self.samples[0].sample(given)
        labels_D = strength_labels(strength_D, sample.key)
        chosen = np.flatnonzero(labels_D >= 0)
        self._check(strength_D, labels_D)
        model, counts = train_linear(
            sample.text.take(chosen),
            labels_D[chosen],
            n_labels=2,
            epochs=self.epochs,
            lr=self.lr,
            word_ngrams=self.word_ngrams,
            n_buckets=self.n_buckets,
            seed=derive_seed(given.seed, "preselect"),
        )
        (model.without_end() if self.is_end_dropped else model).save(paths[0])
        told = strength_D[np.isfinite(strength_D)]
        levels, sizes = np.unique(told.round(6), return_counts=True)
        return {
            "models": [self.benchmarks[i].label for i in order.tolist()],
            "benchmark_bits_per_byte": [round(float(benchmark_N[i]), 6) for i in order],
            "levels": {f"{level:g}": int(n) for level, n in zip(levels, sizes, strict=True)},
            "n_positive": int((labels_D == 1).sum()),
            "n_negative": int((labels_D == 0).sum()),
            "n_skipped": int((~np.isfinite(strength_D)).sum()),
            "flops": counts.flops,
        }

    def _losses(self, given: Given, loss: SampleLoss) -> Floats:
        table = read_columns(given.file(loss))
        return mean_losses(table, fewest=self.min_tokens, per="byte")

    def _check(self, strength_D: Floats, labels_D: NDArray[np.int64]) -> None:
        if (labels_D == 1).any():
            return
        told = strength_D[np.isfinite(strength_D)]
        found = (
            f"all of strength {told[0]:g}" if len(told) and (told == told[0]).all() else "none of strength 1"
        )
        raise DataError(
            f"expected documents that predict the order of the models and others that deny it, found "
            f"{len(told)} documents, {found if len(told) else 'none of them told'}",
            where=self.label,
            hint="use models whose strength differs more, or a larger seed sample",
        )


def predictive_strength(losses_DN: Floats, benchmark_N: Floats | None = None) -> Floats:
    """Share of the pairs of models whose losses rank as their benchmark, (D,), from 0 to 1.

    The inequality is strict: equal losses count as 0, and pairs of equal benchmark add nothing.

    Args:
        losses_DN: under each model, from weak to strong; a document that lacks one has no strength, NaN.
        benchmark_N: rising; higher is stronger. None: all differ.
    Raises:
        DataError: fewer than 2 models, or the benchmark falls.
    """
    losses = np.asarray(losses_DN, dtype=np.float64)
    n_models = losses.shape[1]
    marks = np.arange(n_models) if benchmark_N is None else np.asarray(benchmark_N)
    if n_models < 2 or np.any(np.diff(marks) < 0):
        raise DataError(
            f"expected at least 2 models in order of rising strength, found {n_models} with {marks.tolist()}",
            where="predictive strength",
        )
    weak, strong = np.triu_indices(n_models, k=1)
    with np.errstate(invalid="ignore"):
        agrees = (losses[:, weak] > losses[:, strong]) & (marks[weak] < marks[strong])
    return np.where(np.isfinite(losses).all(axis=1), agrees.mean(axis=1), np.nan)


def strength_labels(strength_D: Floats, key_D: NDArray[np.uint64]) -> NDArray[np.int64]:
    """1 for documents of strength 1, 0 for as many of the lowest, -1 for the others, (D,).

    Negatives are taken by rising strength, equal ones by their keys, and never have strength 1; where there
    are fewer of them than positives, as many positives are kept, by their keys.
    """
    order = np.lexsort((key_D, strength_D))
    order = order[np.isfinite(strength_D[order])]
    positive = order[strength_D[order] == 1]
    others = order[strength_D[order] < 1]
    n = min(len(positive), len(others))
    labels = np.full(len(strength_D), -1, dtype=np.int64)
    labels[others[:n]] = 0
    labels[positive[:n]] = 1
    return labels


def character_threshold(scores_D: Floats, n_characters_D: NDArray[np.int64], *, share: float) -> float:
    """The score from which documents are kept: the first at which the best exceed the share of characters.

    Scores fall, characters add up until they are strictly more than the share, so the kept ones overshoot it.

    Raises:
        DataError: there is no document, or the share is not above 0 and below 1.
    """
    if not len(scores_D) or not 0 < share < 1:
        raise DataError(
            f"expected documents and a share above 0 and below 1, found {len(scores_D)} and {share}",
            where="character threshold",
        )
    order = np.argsort(-scores_D, kind="stable")
    total = np.cumsum(n_characters_D[order])
    place = int(np.searchsorted(total, share * total[-1], side="right"))
    return float(scores_D[order[place]])


def _total_rate(table: Any) -> float:
    """Bits a byte over all documents: sums before dividing."""
    nats, n_bytes = (np.asarray(table[name].to_numpy(), np.float64) for name in ("nats", "n_bytes_scored"))
    told = np.isfinite(nats) & np.isfinite(n_bytes) & (n_bytes > 0)
    if not told.any():
        raise DataError(
            "expected losses of the target, with the bytes of what was scored, found none",
            hint="score whole documents (`max_tokens: null`) where a tokenizer's tokens are not bytes",
        )
    return float(nats[told].sum() / (np.log(2) * n_bytes[told].sum()))
