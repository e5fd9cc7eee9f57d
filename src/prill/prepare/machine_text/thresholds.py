"""Thresholds at a fixed budget of false positives, a source at a time, and the area under the curve.

Source: Miralles-Gonzalez et al. 2025 (PAWN), arXiv:2501.03940 (evaluation); a threshold a source is Prill's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError

__all__ = ["area_under_curve", "thresholds_by_source"]


def thresholds_by_source(
    scores: NDArray[np.float64], sources: Sequence[str], *, max_false_positive_share: float
) -> dict[str, float]:
    """The score above which text of a source is taken for a machine's, from text that people wrote.

    At most `max_false_positive_share` of each source's documents lie above its threshold; a source with too
    few documents for the budget gets its highest score.

    Args:
        scores: of documents known to be human, such as text from before 2020, finite, shape (D,).
        sources: of each document.
    Raises:
        DataError: lengths differ, or a score is not finite.
    """
    if len(scores) != len(sources) or not np.isfinite(scores).all():
        raise DataError(
            f"expected a finite score a document, found {len(scores)} scores of {len(sources)} documents"
        )
    names = np.asarray(sources, object)
    found: dict[str, float] = {}
    for source in sorted(set(sources)):
        ordered = np.sort(scores[names == source])[::-1]
        n_allowed = min(int(max_false_positive_share * len(ordered)), len(ordered) - 1)
        found[source] = float(ordered[n_allowed])
    return found


def area_under_curve(scores: NDArray[np.float64], is_machine: Sequence[bool]) -> float:
    """Chance that a machine's document scores above a human one, ties half: 0.5 for guessing.

    Raises:
        DataError: one of the kinds is missing.
    """
    labels = np.asarray(is_machine, bool)
    n_machine, n_human = int(labels.sum()), int((~labels).sum())
    if not n_machine or not n_human:
        raise DataError(
            f"expected documents of both kinds, found {n_machine} of machines and {n_human} human"
        )
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    above = np.cumsum(counts) - counts
    rank = above[place] + (counts[place] + 1) / 2
    total = float(rank[labels].sum()) - n_machine * (n_machine + 1) / 2
    return total / (n_machine * n_human) if len(values) else 0.5
