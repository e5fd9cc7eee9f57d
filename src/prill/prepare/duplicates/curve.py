"""What bands and rows will find, and what finding it will take: printed before a run.

Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

from prill.features.minhash import collision_probability, half_way
from prill.prepare.duplicates._records import RECORD_BYTES

__all__ = ["SIMILARITIES", "curve_lines", "scratch_bytes"]

SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Jaccard similarities that the curve is told for."""

_SET_BYTES = 4
_BYTES_PER_SHINGLE = 6  # of text, about a word and a space


def curve_lines(*, bands: int, rows: int, threshold: float | None) -> list[str]:
    """The S-curve in words, a line each.

    Args:
        threshold: least similarity of a pair that counts; None when pairs are not compared.
    """
    found = ", ".join(
        f"{collision_probability(s, bands=bands, rows=rows):.4f} at {s:g}" for s in SIMILARITIES
    )
    lines = [
        f"near copies: {bands} bands of {rows} rows find a pair with probability {found}",
        f"a pair is found as often as not at similarity {half_way(bands=bands, rows=rows):.3f}",
    ]
    if threshold is None:
        return [*lines, "pairs that are found count without being compared"]
    chance = collision_probability(threshold, bands=bands, rows=rows)
    last = f"pairs are compared and count from similarity {threshold:g}, where {chance:.0%} are found"
    return [*lines, last]


def scratch_bytes(n_documents: int, *, bands: int, n_bytes: int = 0, copied_share: float = 0.3) -> int:
    """Most bytes of temporary files, when nothing fits into memory.

    Keys take 16 bytes a band and document. The sets of candidates take about four bytes a word of their
    text, of which `copied_share` of all text is taken to be; a corpus with more copies takes more.

    Args:
        n_documents: of the corpus.
        bands: of the signature.
        n_bytes: of all text; 0 when pairs are not compared.
    """
    keys = RECORD_BYTES * bands * n_documents
    return keys + int(copied_share * n_bytes / _BYTES_PER_SHINGLE * _SET_BYTES)
