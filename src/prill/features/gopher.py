"""The measurements behind Gopher's page rules, from counts of words and lines.

Every division by nothing gives 0.

Source: Rae et al. 2021, arXiv:2112.11446, table A1 and section A.1.1; repetition is read as datatrove does.

Legend: D documents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.features.statistics import Counts

__all__ = ["quality_measures", "ratio", "repetition_measures"]


def quality_measures(
    counts: Counts, lines: Counts, *, counts_symbols: bool = False
) -> dict[str, NDArray[Any]]:
    """The eight of quality, each of shape (D,).

    Args:
        counts, lines: of `count_words` and `count_lines`.
        counts_symbols: datatrove divides by symbols too: to spaCy a comma is a word.
    """
    n_words = counts["n_words"] if counts_symbols else counts["n_real_words"]
    n_lines = lines["n_lines"]
    return {
        "gopher_n_words": counts["n_real_words"],
        "gopher_mean_word_length": ratio(counts["real_word_characters"], counts["n_real_words"]),
        "gopher_hash_ratio": ratio(lines["n_hashes"], n_words),
        "gopher_ellipsis_ratio": ratio(lines["n_ellipses"], n_words),
        "gopher_bullet_line_share": ratio(lines["n_bullet_lines"], n_lines),
        "gopher_ellipsis_line_share": ratio(lines["n_ellipsis_lines"], n_lines),
        "gopher_alphabetic_word_share": ratio(counts["n_alphabetic_words"], n_words),
        "gopher_n_stop_words": counts["n_stop_words_distinct"],
    }


def repetition_measures(
    n_characters: NDArray[np.int64], counts: Counts, lines: Counts
) -> dict[str, NDArray[Any]]:
    """The thirteen of repetition, each of shape (D,)."""
    columns: dict[str, NDArray[Any]] = {
        "repeated_paragraph_share": ratio(lines["n_repeated_paragraphs"], lines["n_paragraphs"]),
        "repeated_paragraph_character_share": ratio(lines["repeated_paragraph_characters"], n_characters),
        "repeated_line_share": ratio(lines["n_repeated_runs"], lines["n_runs"]),
        "repeated_line_character_share": ratio(lines["repeated_run_characters"], n_characters),
    }
    for n in (2, 3, 4):
        times, length = counts[f"top_{n}_gram_count"], counts[f"top_{n}_gram_characters"]
        columns[f"top_{n}_gram_share"] = ratio(times * (length + n - 1), n_characters)
    for n in range(5, 11):
        columns[f"repeated_{n}_gram_share"] = ratio(counts[f"repeated_{n}_gram_characters"], n_characters)
    return columns


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, shape (D,), and 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(len(part), dtype=np.float64), where=whole > 0)
