"""Heads that predict the grades of a rubric, and its labels, from vectors.

Legend: N examples, D documents, S scales, L labels, W windows, K dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from prill.features.heads import Head, fit_head
from prill.run.atomic import atomic_write

__all__ = ["PENALTIES", "GradeHeads", "fit_regression"]

PENALTIES: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Ridge penalties tried, for vectors scaled to a mean square of 1 in each dimension."""


@dataclass(frozen=True, kw_only=True)
class GradeHeads:
    """A regression a scale, and perhaps a softmax over labels.

    Attributes:
        scales: S regressions.
        labels: the softmax; None: labels were not learnt.
    """

    scales: tuple[Head, ...]
    labels: Head | None = None

    @classmethod
    def fit(
        cls,
        vectors_NK: NDArray[np.float32],
        grades: Sequence[NDArray[np.float64]],
        *,
        is_validation: NDArray[np.bool_],
    ) -> GradeHeads:
        """Regressions of the grades of each scale, (N,), as `fit_regression`."""
        heads = [fit_regression(vectors_NK, values, is_validation=is_validation) for values in grades]
        return cls(scales=tuple(heads))

    def with_classes(
        self, vectors_NK: NDArray[np.float32], classes_N: NDArray[np.int64], n_classes: int
    ) -> GradeHeads:
        """And a softmax over labels; where only one is known, it is predicted always."""
        if len(np.unique(classes_N)) > 1:
            return replace(self, labels=fit_head(vectors_NK, classes_N, "classes", n_classes=n_classes))
        weight = np.zeros((n_classes, vectors_NK.shape[1]), np.float32)
        return replace(self, labels=Head(kind="classes", weight=weight, bias=np.eye(n_classes)[classes_N[0]]))

    def grades(
        self, vectors_DWK: NDArray[np.float32], n_windows_D: NDArray[np.integer[Any]]
    ) -> list[NDArray[np.float64]]:
        """Of each scale, (D,): the mean over a document's windows, not rounded; NaN where it has none."""
        return [_over_windows(head, vectors_DWK, n_windows_D)[:, 0] for head in self.scales]

    def classes(
        self, vectors_DWK: NDArray[np.float32], n_windows_D: NDArray[np.integer[Any]]
    ) -> NDArray[np.int64]:
        """The likeliest label, (D,); -1 where a document has no window."""
        assert self.labels is not None
        probabilities_DL = _over_windows(self.labels, vectors_DWK, n_windows_D)
        best = np.nan_to_num(probabilities_DL).argmax(axis=1)
        return np.where(n_windows_D > 0, best, -1)

    def flops_of(self, n: int) -> float:
        """Of fitting the regressions to n examples."""
        k = self.scales[0].weight.shape[1]
        return float(len(self.scales) * (len(PENALTIES) + 1) * (2 * n * k * k + k**3))

    def save(self, path: Path) -> None:
        """Write them as safetensors."""
        from safetensors.numpy import save

        stored = {
            "bias": np.concatenate([head.bias for head in self.scales]),
            "weight": np.concatenate([head.weight for head in self.scales]),
        }
        if self.labels is not None:
            stored |= {"label_bias": self.labels.bias, "label_weight": self.labels.weight}
        atomic_write(path, save(dict(sorted(stored.items()))))

    @classmethod
    def load(cls, path: Path) -> GradeHeads:
        """What `save` wrote."""
        from safetensors.numpy import load_file

        stored = load_file(path)
        scales = tuple(
            Head(kind="regression", weight=stored["weight"][i : i + 1], bias=stored["bias"][i : i + 1])
            for i in range(len(stored["bias"]))
        )
        if "label_bias" not in stored:
            return cls(scales=scales)
        labels = Head(kind="classes", weight=stored["label_weight"], bias=stored["label_bias"])
        return cls(scales=scales, labels=labels)


def fit_regression(
    vectors_NK: NDArray[np.float32], grades_N: NDArray[np.float64], *, is_validation: NDArray[np.bool_]
) -> Head:
    """A ridge regression whose penalty predicts the validation part best (the largest of equals).

    The head is then fitted to everything. Rows of zeros, in which nothing was seen, count like others.
    """
    train = ~is_validation
    best = (np.inf, PENALTIES[-1])
    for l2 in reversed(PENALTIES):
        head = fit_head(vectors_NK[train], grades_N[train], "regression", l2=l2)
        error = float(((head.predict(vectors_NK[is_validation]) - grades_N[is_validation]) ** 2).sum())
        best = min(best, (error, l2), key=lambda found: found[0])
    return fit_head(vectors_NK, grades_N, "regression", l2=best[1])


def _over_windows(
    head: Head, vectors_DWK: NDArray[np.float32], n_windows_D: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Mean of the predictions for each document's windows, (D, L); NaN without any."""
    total_DL = np.zeros((len(n_windows_D), len(head.weight)))
    for w in range(vectors_DWK.shape[1]):
        found = head.predict(vectors_DWK[:, w]).reshape(len(n_windows_D), -1)
        total_DL += np.where((n_windows_D > w)[:, None], found, 0.0)
    return np.asarray(total_DL / np.where(n_windows_D > 0, n_windows_D, np.nan)[:, None], np.float64)
