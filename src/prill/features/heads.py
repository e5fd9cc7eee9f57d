"""Heads on frozen vectors: ridge regression and logistic (softmax) classification, fitted exactly.

Both problems are convex with one minimum, which is found to many digits, so a head depends on its data and
not on a learning rate, an order of batches or a number of epochs. Fit in a process with one thread
(`is_apart`): sums over documents then always have the same order. Predictions are the same bits in any batch.

Vectors are centred and scaled by one number before the penalty acts, so that `l2` means the same for vectors
of any length and dimension; the stored weights are for vectors as they are.

Source: Hoerl and Kennard 1970 (ridge); Liu and Nocedal 1989 (L-BFGS, two-loop recursion).

Legend: N examples, D documents, K dimensions, L classes (1 for regression).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.run.atomic import atomic_write

__all__ = ["Head", "HeadKind", "fit_head", "roc_auc"]

HeadKind: TypeAlias = Literal["regression", "classes"]
_Point: TypeAlias = NDArray[np.float64]
_Objective: TypeAlias = Callable[[_Point], tuple[float, _Point]]

_MEMORY = 10
_TOLERANCE = 1e-9
_MAX_STEPS = 500
_ARMIJO = 1e-4


@dataclass(frozen=True, kw_only=True)
class Head:
    """A fitted head.

    Attributes:
        kind: what it predicts.
        weight: float32, shape (L, K).
        bias: float64, shape (L,).
    """

    kind: HeadKind
    weight: NDArray[np.float32]
    bias: NDArray[np.float64]

    def predict(self, vectors_DK: NDArray[np.float32]) -> NDArray[np.float64]:
        """Values, float64, shape (D,), of a regression; probabilities, shape (D, L), of classes."""
        logits_DL = self._products(vectors_DK) + self.bias
        if self.kind == "regression":
            return np.asarray(logits_DL[:, 0])
        return _softmax(logits_DL)

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        from safetensors.numpy import save

        kind = np.array([self.kind == "classes"], np.uint8)
        atomic_write(path, save({"bias": self.bias, "is_classes": kind, "weight": self.weight}))

    @staticmethod
    def load(path: Path) -> Head:
        """The head that `save` wrote."""
        from safetensors.numpy import load_file

        stored = load_file(path)
        kind: HeadKind = "classes" if stored["is_classes"][0] else "regression"
        return Head(kind=kind, weight=stored["weight"], bias=stored["bias"])

    def _products(self, vectors_DK: NDArray[np.float32]) -> NDArray[np.float32]:
        from prill.features._products_kernel import multiply, pack

        out_DL = np.empty((len(vectors_DK), len(self.weight)), np.float32)
        multiply(np.ascontiguousarray(vectors_DK, np.float32), pack(self.weight), out_DL)
        return out_DL


def fit_head(
    vectors_NK: NDArray[np.float32],
    y_N: NDArray[np.generic],
    kind: HeadKind,
    *,
    l2: float = 0.1,
    n_classes: int | None = None,
    weight_N: NDArray[np.float64] | None = None,
) -> Head:
    """The head with the smallest weighted mean loss + l2 / 2 |W|^2; the bias is not penalised.

    The loss is half the squared error of a regression, the cross-entropy of classes.

    Args:
        vectors_NK: finite.
        y_N: finite numbers, or classes 0, 1, ...
        l2: above 0, for vectors scaled to a mean square of 1 in each dimension.
        n_classes: L; the largest class and one more when not given.
        weight_N: of the examples, not negative; all alike when not given.
    Raises:
        DataError: fewer than two examples, values that are not finite, or only one class.
    """
    weight_N = np.ones(len(y_N)) if weight_N is None else weight_N
    _check(vectors_NK, y_N, kind)
    share_N = weight_N / weight_N.sum()
    mean_K = share_N @ vectors_NK.astype(np.float64)
    x_NK = vectors_NK - mean_K
    square = float((share_N @ (x_NK * x_NK)).mean())
    scale = 1 / np.sqrt(square) if square > 0 else 1.0
    x_NK *= scale
    if kind == "regression":
        weight_LK, bias_L = _ridge(x_NK, y_N.astype(np.float64), share_N, l2)
    else:
        n = n_classes or int(y_N.max()) + 1
        weight_LK, bias_L = _logistic(x_NK, y_N.astype(np.int64), share_N, l2, n)
    weight_LK = weight_LK * scale
    return Head(kind=kind, weight=weight_LK.astype(np.float32), bias=bias_L - weight_LK @ mean_K)


def roc_auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """How often a positive scores above a negative, ties counting half: the area under the ROC curve.

    Source: Mann and Whitney 1947.
    """
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    at_most = np.searchsorted(ordered, positive, side="right")
    return float((below + at_most).sum() / (2 * len(positive) * len(negative)))


def _check(vectors_NK: NDArray[np.float32], y_N: NDArray[np.generic], kind: HeadKind) -> None:
    if len(y_N) < 2:
        raise DataError(f"expected at least 2 examples to fit a head, found {len(y_N)}")
    if not (np.isfinite(vectors_NK).all() and np.isfinite(y_N.astype(np.float64)).all()):
        raise DataError("expected finite vectors and labels to fit a head, found others")
    if kind == "classes" and len(np.unique(y_N)) < 2:
        raise DataError(
            f"expected examples of at least 2 classes, found only class {y_N[0]}",
            hint="give positive and negative examples",
        )


def _ridge(x_NK: _Point, y_N: _Point, share_N: _Point, l2: float) -> tuple[_Point, _Point]:
    """Closed form; x has mean zero, so the bias is the mean of y."""
    mean = float(share_N @ y_N)
    gram_KK = (x_NK * share_N[:, None]).T @ x_NK
    gram_KK[np.diag_indices_from(gram_KK)] += l2
    weight_K = np.linalg.solve(gram_KK, x_NK.T @ (share_N * (y_N - mean)))
    return np.asarray(weight_K[None], np.float64), np.array([mean])


def _logistic(
    x_NK: _Point, y_N: NDArray[np.int64], share_N: _Point, l2: float, n_classes: int
) -> tuple[_Point, _Point]:
    wanted_NL = np.eye(n_classes)[y_N]
    n_k = x_NK.shape[1]

    def objective(point: _Point) -> tuple[float, _Point]:
        weight_LK, bias_L = point[: n_classes * n_k].reshape(n_classes, n_k), point[n_classes * n_k :]
        logits_NL = x_NK @ weight_LK.T + bias_L
        top_N1 = logits_NL.max(axis=1, keepdims=True)
        total_N1 = np.exp(logits_NL - top_N1).sum(axis=1, keepdims=True)
        log_p_NL = logits_NL - top_N1 - np.log(total_N1)
        loss = -float(share_N @ (wanted_NL * log_p_NL).sum(axis=1)) + l2 / 2 * float((weight_LK**2).sum())
        error_NL = (np.exp(log_p_NL) - wanted_NL) * share_N[:, None]
        gradient = np.concatenate([(error_NL.T @ x_NK + l2 * weight_LK).ravel(), error_NL.sum(axis=0)])
        return loss, gradient

    found = _minimise(objective, np.zeros(n_classes * (n_k + 1)))
    return found[: n_classes * n_k].reshape(n_classes, n_k), found[n_classes * n_k :]


def _minimise(objective: _Objective, point: _Point) -> _Point:
    """The minimum of a convex function by L-BFGS with a step that is halved until it is good enough."""
    loss, gradient = objective(point)
    steps: list[tuple[_Point, _Point, float]] = []
    for _ in range(_MAX_STEPS):
        if np.abs(gradient).max() < _TOLERANCE:
            break
        direction = _two_loops(gradient, steps)
        slope = float(gradient @ direction)
        size = 1.0
        while True:
            new_point = point + size * direction
            new_loss, new_gradient = objective(new_point)
            if new_loss <= loss + _ARMIJO * size * slope or size < 1e-10:
                break
            size /= 2
        if new_loss > loss:
            break  # rounding is all that is left
        moved, turned = new_point - point, new_gradient - gradient
        if float(moved @ turned) > 0:
            steps = [*steps[-(_MEMORY - 1) :], (moved, turned, 1 / float(moved @ turned))]
        point, loss, gradient = new_point, new_loss, new_gradient
    return point


def _two_loops(gradient: _Point, steps: list[tuple[_Point, _Point, float]]) -> _Point:
    """Minus the gradient times the inverse curvature that the last steps showed."""
    direction = -gradient
    kept = []
    for moved, turned, rho in reversed(steps):
        a = rho * float(moved @ direction)
        direction = direction - a * turned
        kept.append(a)
    if steps:
        moved, turned, rho = steps[-1]
        direction = direction / (rho * float(turned @ turned))
    for (moved, turned, rho), a in zip(steps, reversed(kept), strict=True):
        direction = direction + moved * (a - rho * float(turned @ direction))
    return direction


def _softmax(logits_DL: NDArray[np.float64]) -> NDArray[np.float64]:
    weight_DL = np.exp(logits_DL - logits_DL.max(axis=1, keepdims=True))
    return np.asarray(weight_DL / weight_DL.sum(axis=1, keepdims=True))
