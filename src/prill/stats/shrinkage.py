"""Predicted scores shrink towards their mean: how much, whether it matters, and how to undo it.

A model trained on squared error predicts the mean of the label given the text. Differences between groups of
predictions are smaller than those of the labels, by the slope of predictions on labels. Two repairs need no
new labels: the linear one (LCC) inverts that line, Tweedie's moves each prediction down the slope of the
log-density of predictions.

Correct where the score is an outcome: the mean quality of a selection, a difference between selections. Do
not correct where the score explains something else (a loss regressed on a score has the right slope as it
is), and do not put thresholds on single corrected scores: their spread is too wide, their tails too full.
With fresh labels from the very set, prefer `prediction_powered_mean`: it needs no assumption.

Legend: N predictions, n calibration items that the annotator was not trained on.
Source: Pettersson, Jerzak, Daoud 2025, arXiv:2508.01341 (LCC and Tweedie's correction); Angelopoulos et al.
2023, arXiv:2301.09633 (prediction-powered mean).
Differs: of the first paper the abstract was read; the scale of Tweedie's correction is derived: for Gaussian
labels the residual variance Var(label - prediction) restores slope 1 exactly. Corrections are clipped to two
residual standard deviations; the density is binned for more than 4,096 predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.stats.intervals import Interval

__all__ = [
    "LEAST_LABELS",
    "LEAST_SLOPE",
    "Shrinkage",
    "corrected_mean",
    "density_score",
    "fit_shrinkage",
    "lcc",
    "prediction_powered_mean",
    "silverman_bandwidth",
    "tweedie",
]

LEAST_LABELS = 200
"""Calibration labels below which no shrinkage is told."""

LEAST_SLOPE = 0.3
"""Slope below which a correction multiplies noise: nothing is corrected then."""

_Floats = NDArray[np.float64]
_EXACT = 4096
_GRID = 2048
_CELLS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Shrinkage:
    """The line of predictions on labels: prediction = intercept + slope * label.

    Attributes:
        slope, intercept: by least squares.
        residual_variance: Var(label - prediction), what Tweedie's correction needs.
        low, high: bounds of the slope from resampled calibration items.
        n: calibration items.
        verdict: `as it is` when the bounds include 1; `abstain` when the slope is too small to invert;
            else `correct`.
    """

    slope: float
    intercept: float
    residual_variance: float
    low: float
    high: float
    n: int
    verdict: Literal["as it is", "correct", "abstain"]


def fit_shrinkage(
    labels_n: _Floats,
    predictions_n: _Floats,
    *,
    generator: np.random.Generator,
    n_resamples: int = 1_000,
    confidence: float = 0.95,
    least_labels: int = LEAST_LABELS,
) -> Shrinkage:
    """How much the predictions of an annotator shrink. Look at it for each source: it may differ.

    Args:
        labels_n, predictions_n: of items that the annotator was not trained on; on its own training items
            shrinkage looks smaller than it is.
        generator: the only randomness.
    Raises:
        DataError: there are too few labels, all are equal, or a value is not finite.
    """
    y, yhat = _pairs(labels_n, predictions_n, least=max(3, least_labels))
    if np.ptp(y) == 0:
        raise DataError(
            f"expected labels that differ, found {y[0]} for all {len(y)}",
            where="shrinkage",
            hint="label items over the whole scale: rare grades too",
        )
    slope, intercept = _line(y, yhat)
    slopes = _resampled_slopes(y, yhat, generator, n_resamples)
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(slopes, [tail, 1 - tail]))
    is_one = low <= 1 <= high or math.isclose(slope, 1, abs_tol=1e-12)
    return Shrinkage(
        slope=slope,
        intercept=intercept,
        residual_variance=float(np.var(y - yhat, ddof=1)),
        low=low,
        high=high,
        n=len(y),
        verdict="as it is" if is_one else "abstain" if slope < LEAST_SLOPE else "correct",
    )


def lcc(predictions_N: _Floats, fit: Shrinkage) -> _Floats:
    """The linear correction, (prediction - intercept) / slope; unchanged unless the verdict is `correct`.

    Right for grades too. (N,).
    """
    yhat = np.asarray(predictions_N, np.float64)
    return (yhat - fit.intercept) / fit.slope if fit.verdict == "correct" else yhat.copy()


def tweedie(
    predictions_N: _Floats,
    residual_variance: float,
    *,
    population: _Floats | None = None,
    bandwidth: float | None = None,
) -> _Floats:
    """Tweedie's correction: prediction - variance * d/dprediction ln p(prediction). Shape (N,).

    Local: it also undoes shrinkage that differs in the tails.

    Args:
        residual_variance: as in `Shrinkage`.
        population: predictions whose density is p: those of the calibration population or of all groups
            that are compared. None: the predictions themselves, whose mean then cannot move.
        bandwidth: of the Gaussian kernel; None: 1.5 times Silverman's.
    Raises:
        DataError: the density rests on a few grades, where it has no slope: use `lcc`.
    """
    yhat = np.asarray(predictions_N, np.float64)
    base = yhat if population is None else np.asarray(population, np.float64)
    n_values = len(np.unique(base))
    if n_values <= 10 and len(base) > 5 * n_values:
        raise DataError(
            f"expected predictions on a continuous scale, found {n_values} values in {len(base)} of them",
            where="tweedie",
            hint="grades are corrected by lcc only",
        )
    width = 1.5 * silverman_bandwidth(base) if bandwidth is None else bandwidth
    most = 2 * math.sqrt(residual_variance)
    shift = np.clip(residual_variance * density_score(yhat, base, width), -most, most)
    return np.asarray(yhat - shift, np.float64)


def density_score(at_N: _Floats, population: _Floats, bandwidth: float) -> _Floats:
    """d/dx ln p(x) of the Gaussian kernel density of a population. Shape (N,)."""
    x, base = np.asarray(at_N, np.float64), np.asarray(population, np.float64)
    if not bandwidth > 0:
        raise DataError(f"a bandwidth is above 0, found {bandwidth}", where="density")
    if len(base) <= _EXACT:
        return _kernel_score(x, base, np.ones(len(base)), bandwidth)
    low, high = float(base.min()), float(base.max())
    place = (base - low) / (high - low) * (_GRID - 1)
    left = np.minimum(place.astype(np.int64), _GRID - 2)
    weight = np.bincount(left, 1.0 - (place - left), _GRID).astype(np.float64)
    weight += np.bincount(left + 1, place - left, _GRID)
    grid = np.linspace(low, high, _GRID)
    return np.asarray(np.interp(x, grid, _kernel_score(grid, grid, weight, bandwidth)), np.float64)


def silverman_bandwidth(values: _Floats) -> float:
    """0.9 min(sd, IQR / 1.34) n^(-1/5). Source: Silverman 1986, equation 3.31."""
    spread = float(np.std(values, ddof=1))
    quartiles = np.quantile(values, [0.25, 0.75])
    middle = float(quartiles[1] - quartiles[0]) / 1.34
    return float(0.9 * min(spread, middle or spread) * len(values) ** -0.2)


def corrected_mean(
    predictions_N: _Floats,
    labels_n: _Floats,
    predictions_n: _Floats,
    *,
    generator: np.random.Generator,
    n_resamples: int = 1_000,
    confidence: float = 0.95,
    least_labels: int = LEAST_LABELS,
) -> tuple[Interval, Shrinkage]:
    """The mean label of a set, such as a selection, from predictions alone, corrected linearly.

    Set and calibration items are resampled together, so that the interval knows how sure the slope is. It
    assumes that the slope is the same in the set. Without a correction (see `Shrinkage.verdict`) it is the
    mean prediction.

    Args:
        predictions_N: of the set.
        labels_n, predictions_n: calibration items, as for `fit_shrinkage`.
    """
    fit = fit_shrinkage(
        labels_n,
        predictions_n,
        generator=generator,
        n_resamples=n_resamples,
        confidence=confidence,
        least_labels=least_labels,
    )
    yhat = np.asarray(predictions_N, np.float64)
    y, calibration = _pairs(labels_n, predictions_n, least=3)
    means = np.empty(n_resamples)
    for r in range(n_resamples):
        mean = yhat[generator.integers(0, len(yhat), len(yhat))].mean()
        rows = generator.integers(0, len(y), len(y))
        if fit.verdict == "correct" and np.ptp(y[rows]) > 0:
            slope, intercept = _line(y[rows], calibration[rows])
            mean = (mean - intercept) / slope
        means[r] = mean
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(means, [tail, 1 - tail]))
    interval = Interval(
        estimate=float(lcc(yhat, fit).mean()),
        low=low,
        high=high,
        confidence=confidence,
        n=len(yhat),
        standard_error=float(means.std(ddof=1)),
        noise=((1.0, min(len(y), len(yhat)) - 1.0),),
    )
    return interval, fit


def prediction_powered_mean(
    predictions_N: _Floats,
    labels_n: _Floats,
    predictions_n: _Floats,
    *,
    weights_n: _Floats | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean prediction plus the mean error on labelled items of the same set: unbiased however bad the model.

    Args:
        predictions_N: of the whole set.
        labels_n, predictions_n: of items drawn from it.
        weights_n: 1 / probability of being drawn; None: all alike.
    Source: Angelopoulos et al. 2023, arXiv:2301.09633, section 2.1.
    """
    from statistics import NormalDist

    yhat = np.asarray(predictions_N, np.float64)
    y, labelled = _pairs(labels_n, predictions_n, least=2)
    weight = np.ones(len(y)) if weights_n is None else np.asarray(weights_n, np.float64)
    error = y - labelled
    correction = float(np.average(error, weights=weight))
    spread = np.square(weight * (error - correction)).sum() / weight.sum() ** 2 * len(y) / (len(y) - 1)
    of_predictions = float(np.var(yhat, ddof=1)) / len(yhat) if len(yhat) > 1 else 0.0
    standard_error = math.sqrt(of_predictions + float(spread))
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * standard_error
    estimate = float(yhat.mean()) + correction
    return Interval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        confidence=confidence,
        n=len(y),
        standard_error=standard_error,
        noise=((1.0, len(y) - 1.0),),
    )


def _line(y: _Floats, yhat: _Floats) -> tuple[float, float]:
    """Slope and intercept of predictions on labels."""
    centred = y - y.mean()
    slope = float((centred * (yhat - yhat.mean())).sum() / np.square(centred).sum())
    return slope, float(yhat.mean() - slope * y.mean())


def _resampled_slopes(y: _Floats, yhat: _Floats, generator: np.random.Generator, n_resamples: int) -> _Floats:
    """Slopes of resamples, in blocks of bounded memory; resamples of equal labels are left out."""
    found = []
    block = max(1, _CELLS // len(y))
    for first in range(0, n_resamples, block):
        rows = generator.integers(0, len(y), size=(min(block, n_resamples - first), len(y)))
        centred = y[rows] - y[rows].mean(axis=1, keepdims=True)
        square = np.square(centred).sum(axis=1)
        product = (centred * yhat[rows]).sum(axis=1)
        found.append(product[square > 0] / square[square > 0])
    return np.concatenate(found)


def _kernel_score(x: _Floats, base: _Floats, weight: _Floats, bandwidth: float) -> _Floats:
    """sum_i k_i (base_i - x) / h^2 / sum_i k_i, in blocks; the nearest point decides far from all."""
    found = np.empty(len(x))
    block = max(1, _CELLS // len(base))
    for first in range(0, len(x), block):
        offset = (base - x[first : first + block, None]) / bandwidth
        power = -np.square(offset) / 2 + np.log(np.maximum(weight, 1e-300))
        kernel = np.exp(power - power.max(axis=1, keepdims=True))
        found[first : first + block] = (kernel * offset).sum(axis=1) / kernel.sum(axis=1) / bandwidth
    return found


def _pairs(labels: _Floats, predictions: _Floats, *, least: int) -> tuple[_Floats, _Floats]:
    y, yhat = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    if y.shape != yhat.shape or y.ndim != 1:
        raise DataError(
            f"expected a prediction for each label, found shapes {y.shape} and {yhat.shape}",
            where="shrinkage",
        )
    if len(y) < least:
        raise DataError(
            f"expected at least {least} labelled items, found {len(y)}",
            where="shrinkage",
            hint=f"label {least - len(y)} more that the annotator is not trained on",
        )
    if not (np.isfinite(y).all() and np.isfinite(yhat).all()):
        raise DataError("labels and predictions must be finite numbers", where="shrinkage")
    return y, yhat
