"""The part of a document that a model sees: all of it, its head, or windows at its top, middle and bottom.

Source: Wei et al. 2024, arXiv:2409.02326, section 2.3 (three sections, scores averaged). Differs: the paper
does not say where its sections lie; here the middle one is centred, rounded to the left, and a document that
fits into one window has only that.

Legend: D documents.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers

__all__ = ["BYTES_PER_TOKEN", "WINDOW_NAMES", "Window", "byte_windows", "window_span", "windows"]

Window: TypeAlias = Literal["whole", "head", "three"]

WINDOW_NAMES = ("top", "middle", "bottom")
BYTES_PER_TOKEN = 4
"""What a token is taken for where nothing cuts the text into tokens."""


def windows(n: int, width: int) -> list[tuple[int, int]]:
    """Top, middle and bottom of n units; one window where they all fit into `width`.

    >>> windows(1300, 512)
    [(0, 512), (394, 906), (788, 1300)]
    """
    if n <= width:
        return [(0, n)]
    middle = (n - width) // 2
    return [(0, width), (middle, middle + width), (n - width, n)]


def window_span(window: Window, n_tokens: int, *, in_bytes: bool) -> str:
    """What the window sees, in words, for `ColumnInfo.span`."""
    if window == "whole":
        return "whole document"
    size = f"{n_tokens * BYTES_PER_TOKEN:,} bytes" if in_bytes else f"{n_tokens:,} tokens"
    return f"first {size}" if window == "head" else f"{size} each at top, middle and bottom"


def byte_windows(text: pa.Array, width: int, *, is_head: bool) -> tuple[list[pa.Array], NDArray[np.int8]]:
    """Windows of `width` bytes, moved inwards to whole characters.

    Args:
        text: large_string without nulls, D documents.
        is_head: only the first window.
    Returns:
        One array of D texts a window, empty where a document has none; and how many each document has.
    """
    offsets, data = text_buffers(text)
    start_D, n_D = offsets[:-1], np.diff(offsets)
    is_long_D = n_D > width
    cuts = [(np.zeros_like(n_D), np.minimum(n_D, width))]
    if not is_head:
        middle_D = np.where(is_long_D, (n_D - width) // 2, 0)
        cuts.append((middle_D, middle_D + np.where(is_long_D, width, 0)))
        cuts.append((np.where(is_long_D, n_D - width, 0), np.where(is_long_D, n_D, 0)))
    found = []
    for first_D, last_D in cuts:
        a_D = _inwards(data, start_D + first_D, start_D + n_D, step=1)
        b_D = np.maximum(a_D, _inwards(data, start_D + last_D, start_D + n_D, step=-1))
        pieces = [data[a:b].tobytes() for a, b in zip(a_D.tolist(), b_D.tolist(), strict=True)]
        found.append(pa.array(pieces, pa.large_binary()).cast(pa.large_string()))
    n_windows_D = np.where(n_D == 0, 0, np.where(is_long_D & (not is_head), 3, 1))
    return found, n_windows_D.astype(np.int8)


def _inwards(
    data: NDArray[np.uint8], place_D: NDArray[np.int64], end_D: NDArray[np.int64], *, step: int
) -> NDArray[np.int64]:
    """The nearest places in the direction of `step` that lie between characters of UTF-8."""
    place_D = place_D.copy()
    for _ in range(3):
        inside_D = place_D < end_D
        if len(data):
            inside_D &= (data[np.minimum(place_D, len(data) - 1)] & 0xC0) == 0x80
        place_D[inside_D] += step
    return place_D
