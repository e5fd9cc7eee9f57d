"""What every code point is when texts are compared word by word.

The table has the form of `_characters`, with four differences that make both sides of a comparison alike:
case is folded code point by code point (dotted capital I is `i`, final sigma is sigma), combining marks
belong to their word, invisible characters (format characters, variation selectors) are taken out, and in
scripts that write no spaces every character is a word: class bit 0x20. The underscore belongs to words.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

from prill.features._characters import character_table

__all__ = ["ALONE_RANGES", "DROPPED_RANGES", "matching_table"]

_ZERO_WIDTH_SPACE = 0x200B  # a format character by category, yet it parts words

ALONE_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),  # iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x9FFF),  # Han
    (0xA980, 0xA9DF),  # Javanese
    (0xA9E0, 0xA9FF),  # Myanmar extensions
    (0xAA60, 0xAADF),  # Myanmar extensions, Tai Viet
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9F),  # Katakana, half width
    (0x1AFF0, 0x1B16F),  # Kana extensions
    (0x20000, 0x3FFFF),  # Han, further planes
)
"""Code points, first and last, of scripts that part no words by spaces."""

_NAMED_RANGES = ((0, 0x3400), (0xA000, 0xAC00), (0xD7A4, 0x20000), (0xE0000, 0xE0200))
"""Code points, first and behind, among which marks and format characters are: no ideographs, no Hangul."""

DROPPED_RANGES = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
"""Variation selectors, which are dropped beside the format characters."""


@functools.cache
def matching_table() -> NDArray[np.uint64]:
    """UTF-8, length and class of every code point, uint64, shape (0x110000,); made in about 0.1 s."""
    table = character_table().copy()
    categories = np.full((table.shape[0], 2), ord("?"), np.uint8)
    for first, stop in _NAMED_RANGES:
        names = "".join(map(unicodedata.category, map(chr, range(first, stop)))).encode()
        categories[first:stop] = np.frombuffer(names, dtype=np.uint8).reshape(-1, 2)
    word, alone = np.uint64(0x80 << 40), np.uint64(0x20 << 40)
    table[categories[:, 0] == ord("M")] |= word
    table[0x130], table[0x3A3], table[0x3C2] = table[ord("i")], table[0x3C3], table[0x3C3]
    for first, last in ALONE_RANGES:
        part = table[first : last + 1]
        part[(part & word) != 0] |= alone
    dropped = (categories == np.frombuffer(b"Cf", dtype=np.uint8)).all(axis=1)
    dropped[_ZERO_WIDTH_SPACE] = False
    for first, last in DROPPED_RANGES:
        dropped[first : last + 1] = True
    table[dropped] = 0
    table.setflags(write=False)
    return table
