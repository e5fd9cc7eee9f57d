"""From blocks of equal words to how much of which item a document holds, and where.

Legend: D documents, I items, G pairs of a document and an item, H places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import kernel

__all__ = ["NEAR", "summarise"]

NEAR = 64
"""Blocks with at most so many other words between them are one place."""


@kernel
def summarise(
    blocks: NDArray[np.int64],
    offsets: NDArray[np.int64],
    question: NDArray[np.int32],
    answer: NDArray[np.int32],
    n: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Covered words of every document and item, and the places.

    Args:
        blocks: of `find_blocks`, sorted by document, item and first word in the document.
        offsets, question, answer: of the index.
        n: words of an n-gram of the exact coverage.
    Returns:
        pairs, int64, shape (G, 10): document, item, covered words of passage, question, answer, those of them
        that lie in shared n-grams, longest run of equal words, and longest run that touches the answer;
        places, int64, shape (H, 3): pair, first and last word in the document.
    """
    pairs, places = np.empty((blocks.shape[0], 10), np.int64), np.empty((blocks.shape[0], 3), np.int64)
    n_pairs, n_places = 0, 0
    covered, exact = np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    k = 0
    while k < blocks.shape[0]:
        d, i = blocks[k, 0], blocks[k, 1]
        n_words = offsets[i + 1] - offsets[i]
        if covered.shape[0] < n_words:
            covered, exact = np.zeros(2 * n_words, np.bool_), np.zeros(2 * n_words, np.bool_)
        covered[:n_words] = False
        exact[:n_words] = False
        q, a = question[i], answer[i]
        longest, longest_answer, last = 0, 0, np.int64(-1)
        while k < blocks.shape[0] and blocks[k, 0] == d and blocks[k, 1] == i:
            p, t, m = blocks[k, 3], blocks[k, 4], blocks[k, 5]
            covered[p : p + m] = True
            if m >= min(n, n_words):
                exact[p : p + m] = True
            longest = max(longest, m)
            if p + m > a:
                longest_answer = max(longest_answer, m)
            if last < 0 or t > last + NEAR:
                places[n_places, 0], places[n_places, 1] = n_pairs, t
                n_places += 1
                last = t + m - 1
            last = max(last, t + m - 1)
            places[n_places - 1, 2] = last
            k += 1
        row = pairs[n_pairs]
        row[0], row[1] = d, i
        row[2], row[3], row[4] = covered[:q].sum(), covered[q:a].sum(), covered[a:n_words].sum()
        row[5], row[6], row[7] = exact[:q].sum(), exact[q:a].sum(), exact[a:n_words].sum()
        row[8], row[9] = longest, longest_answer
        n_pairs += 1
    return pairs[:n_pairs].copy(), places[:n_places].copy()
