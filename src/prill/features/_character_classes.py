"""What quality rules ask of a code point, as one byte: word, space, letter, symbol, end mark, line break.

Words, spaces and letters are those of Python (`\\w`, `str.isspace`, `str.isalpha`), so they follow the
Unicode version of the interpreter. The symbols are fixed lists: the punctuation table of CCNet (Wenzek et al.
2020, arXiv:1911.00359) with control characters, and the code points of Unicode's property Sentence_Terminal,
as public filters read "symbol" and "terminal punctuation".
"""

from __future__ import annotations

import functools
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALPHA",
    "BREAK",
    "CONTINUED",
    "MARK",
    "SPACE",
    "SYMBOL",
    "TERMINAL",
    "WORD",
    "class_table",
    "late_terminals",
]

WORD, SPACE, ALPHA, SYMBOL, TERMINAL, BREAK, CONTINUED, MARK = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
"""Bits of a class byte. BREAK ends a line for `str.splitlines`, CONTINUED is not the first byte of its
character (set by kernels, never in the table), MARK is Unicode's punctuation (general category P)."""

_N_CODE_POINTS = 0x110000
_N_WITH_MARKS = 0x20000  # no punctuation lies beyond
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"

_SYMBOLS = (
    "0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001-3002 "
    "3008-300D 3010-3011 FF01 FF05 FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E"
)
_TERMINALS = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 "
    "17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F "
    "203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F "
    "A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 "
    "10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C "
    "112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C "
    "11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88"
)
_LATE_TERMINALS = (
    "61D-61E 837 839 83D-83E 17D4-17D6 17D9-17DA 1B7D-1B7E 2E53-2E54 10F55-10F59 10F86-10F89 11944 11946 "
    "11EF7-11EF8 11F43-11F44 16E98"
)


@functools.cache
def class_table() -> NDArray[np.uint8]:
    """The class byte of every code point, uint8, shape (0x110000,), in about 0.1 s."""
    table = np.zeros(_N_CODE_POINTS, dtype=np.uint8)
    everything = np.arange(_N_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, flag in ((r"\w+", WORD), (r"\s+", SPACE)):
        for match in re.finditer(pattern, everything):
            table[match.start() : match.end()] |= flag
    for match in re.finditer(r"[^\W\d_]+", everything):
        run = match.group()
        table[match.start() : match.end()] |= ALPHA if run.isalpha() else 0
        if not run.isalpha():
            table[[ord(c) for c in run if c.isalpha()]] |= ALPHA
    table[_code_points(_SYMBOLS)] |= SYMBOL
    table[_code_points(_TERMINALS)] |= SYMBOL | TERMINAL
    table[[ord(c) for c in _BREAKS]] |= BREAK
    marks = [i for i, c in enumerate(everything[:_N_WITH_MARKS]) if unicodedata.category(c)[0] == "P"]
    table[marks] |= MARK
    table.setflags(write=False)
    return table


def late_terminals() -> NDArray[np.int64]:
    """Ends of sentences that the sentence splitter of spaCy 3 does not know, sorted code points."""
    return np.array(_code_points(_LATE_TERMINALS), dtype=np.int64)


def _code_points(ranges: str) -> list[int]:
    """Code points of ranges of hexadecimal numbers."""
    found: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first, 16), int(last or first, 16) + 1)
    return found
