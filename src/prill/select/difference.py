"""MiniPLM: keep what a large model finds much easier than a small one does.

    difference = loss of the small reference - loss of the large teacher, nats a token, higher is better

Text that both find easy, and noise that neither learns, have a difference near 0; what needs capacity stands
out. The best share is kept in the order of the corpus. The losses are two columns of one pass each over the
corpus, reusable for every student. The reference must not have trained on what is scored, and both must read
the same tokens; means of short sequences are noisy, so set a floor on their length before.

Legend: D sequences.
Source: Gu et al. 2024, arXiv:2410.17215, section 2.2, and the authors' code. Differs: ties go by index, where
the code leaves them to chance; losses must be finite. The authors' page prints a ratio of log-likelihoods;
this is the difference of mean losses that their code takes (the two rank differently).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError

__all__ = ["difference_sample", "difference_scores", "kept_in_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def difference_scores(reference_nats_D: Any, teacher_nats_D: Any) -> Floats:
    """reference - teacher, (D,).

    Args:
        reference_nats_D: mean loss of each sequence under the small model, nats a token.
        teacher_nats_D: the same under the large one.
    Raises:
        DataError: the columns differ in length, or a loss is not finite.
    """
    reference, teacher = np.asarray(reference_nats_D, np.float64), np.asarray(teacher_nats_D, np.float64)
    if reference.shape != teacher.shape:
        raise DataError(
            f"expected one loss of each model a sequence, found {len(reference)} and {len(teacher)}",
            where="difference",
        )
    scores = reference - teacher
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise DataError(
            f"losses must be finite, found {reference[bad[0]]} and {teacher[bad[0]]} ({len(bad)} such rows)",
            where=f"difference, row {bad[0]}",
            hint="leave empty sequences out",
        )
    return scores


def difference_sample(reference_nats_D: Any, teacher_nats_D: Any, *, ratio: float = 0.5) -> Ints:
    """Rows of the floor(ratio D) highest differences, in corpus order.

    Raises:
        RecipeError: the ratio is not above 0 and at most 1.
        DataError: as `difference_scores`.
    """
    if not 0 < ratio <= 1:
        raise RecipeError(f"`ratio` must be above 0 and at most 1, found {ratio}", where="difference")
    scores = difference_scores(reference_nats_D, teacher_nats_D)
    return kept_in_order(scores, math.floor(ratio * len(scores)))


def kept_in_order(scores_D: Floats, n: int) -> Ints:
    """Rows of the n highest scores, rising; equal scores go to the lower row."""
    return np.sort(np.argsort(-scores_D, kind="stable")[:n]).astype(np.int64)
