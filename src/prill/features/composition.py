"""What kernels must know of code points to leave good text alone: composition, case, what is invisible.

Made from Python's own `unicodedata`, whose Unicode version it follows.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["INVISIBLE", "composition_table"]

INVISIBLE: Final = "\u00ad\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\ufff9\ufffa\ufffb"
"""Characters without width or meaning: soft hyphen, zero-width space, word joiner, invisible operators, byte
order mark, annotation anchors. Joiners (U+200C, U+200D) and marks of direction mean something and stay."""

_LAST: Final = 0x32400
_BLOCK: Final = 0x80
_PREPENDED_JAMO: Final = (slice(0x1161, 0x1176), slice(0x11A8, 0x11C3))


@functools.cache
def composition_table() -> NDArray[np.uint16]:
    """Combining class or UNSTABLE, and flags (`_composition_kernel`): uint16, shape (0x110000,).

    A character is unstable when its composed form differs, or when it may join the one before it; any text
    that has no unstable character, and no two marks out of order, is in normal form C.
    Source: Unicode Standard Annex 15, section 9 (quick check). Differs: the property is derived, not read.
    """
    from prill.features import _composition_kernel as bits

    table = np.zeros(0x110000, np.uint16)
    order = np.zeros(0x110000, np.uint16)
    for code in _remarkable_codes():
        character = chr(code)
        decomposed = unicodedata.decomposition(character)
        order[code] = max(order[code], unicodedata.combining(character))
        if decomposed:
            table[code] |= bits.IS_VARIANT if unicodedata.normalize("NFKC", character) != character else 0
            if not decomposed.startswith("<"):
                _mark_unstable(order, character, decomposed)
        if character.isupper():
            table[code] |= bits.IS_UPPER
        elif character.islower() or character.istitle():
            table[code] |= bits.IS_LOWER
    for jamo in _PREPENDED_JAMO:
        order[jamo] = bits.UNSTABLE
    table |= order
    table[[ord(character) for character in INVISIBLE]] |= bits.IS_INVISIBLE
    table[0x80:0xA0] |= bits.IS_CONTROL
    table[[0x85, 0x2028, 0x2029]] |= bits.IS_LINE_END
    trail = bytes(range(0x80, 0xC0)).decode("cp1252", "ignore") + "".join(map(chr, range(0x80, 0xC0)))
    table[[ord(character) for character in trail]] |= bits.IS_TRAIL
    table[0xC2:0xF5] |= bits.IS_LEAD
    table.setflags(write=False)
    return table


def _remarkable_codes() -> Iterator[int]:
    """Code points beyond ASCII, without those blocks in which none has case, class or another form."""
    for first in range(0x80, _LAST, _BLOCK):
        block = "".join(map(chr, range(first, first + _BLOCK)))
        told = (unicodedata.combining, str.isupper, str.islower, str.istitle)
        if unicodedata.normalize("NFKD", block) != block or any(any(map(of, block)) for of in told):
            yield from range(first, first + _BLOCK)


def _mark_unstable(order: NDArray[np.uint16], character: str, decomposed: str) -> None:
    """Mark a character that its composed form replaces, or else the second half that may join others."""
    from prill.features._composition_kernel import UNSTABLE

    if unicodedata.normalize("NFC", character) != character:
        order[ord(character)] = UNSTABLE
    elif " " in decomposed:
        order[int(decomposed.split()[1], 16)] = UNSTABLE
