"""The rules of `_spacy_tables` as arrays that kernels read: classes of characters, and a table of strings.

`classes` holds bits for each code point. The strings (exceptions and units) lie in one pool; `find_string`
tells which of them a run of bytes is, by a hash of its first and last eight bytes and its length. Of an
exception two masks are kept, in which bit i says that a word begins at byte i: `cuts`, its own words, and
`breaks`, the words that it would fall into without being an exception.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prill.features import _spacy_oracle as oracle
from prill.features import _spacy_tables as tables
from prill.features._characters import character_table
from prill.features._jit import inlined_bare, load64

__all__ = [
    "BROKEN",
    "EXCEPTION",
    "MAX_STRING",
    "N_LONGEST",
    "UNIT",
    "WordTables",
    "broken_words",
    "find_string",
    "word_tables",
]

SPACE, PREFIX, SUFFIX, ICON = 1, 2, 4, 8
LETTER, LOWER, UPPER, DIGIT = 16, 32, 64, 128
QUOTE, CURRENCY, BEFORE_PERIOD, ACTIVE = 256, 512, 1024, 2048
WORD, DECIMAL, HOST, DOT = 4096, 8192, 16384, 32768
OTHER, ENDING = 65536, 131072
"""Bits of `classes`. ACTIVE: some rule for affixes or infixes may begin here; WORD, DECIMAL: `\\w`, `\\d`;
HOST: may stand in the name of a host; OTHER: not a digit; ENDING: one of the commonest suffixes."""

EXCEPTION, UNIT, BROKEN = 1, 2, 4
"""Bits of `kinds`: has words of its own; is a unit; is an exception that would fall apart."""

MAX_STRING = 32
"""No string is longer, bytes."""

_FIRST, _LAST = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


SIZE, KINDS, CUTS, BREAKS, FIRST, LAST, MIDDLE = range(7)
"""An entry: bytes, what it is, words (bit i: one begins at byte i) and those that it would fall into, its
first and its last eight bytes, and bytes 8 to 16 and 16 to 24."""

N_LONGEST = 11
"""The most words that an exception falls into."""

_GROUPS, _SLOTS, _ENTRY = 1024, 8192, 8
_LEADS_AT = _GROUPS
_SLOTS_AT = _LEADS_AT + 256
_STRINGS_AT = _SLOTS_AT + _SLOTS // 4


class WordTables(NamedTuple):
    """Arrays for the kernel.

    Attributes:
        classes: bits of each code point, uint32, (0x110000,).
        strings: uint64; by first, second and last byte, which sizes strings have (bit n: n bytes); for each
            byte, into how many words exceptions fall that begin so; the numbers of the strings by hash, four
            in a word; the entries.
    """

    classes: NDArray[np.uint32]
    strings: NDArray[np.uint64]


@functools.cache
def word_tables() -> WordTables:
    """The tables, built once a process in about 1 s."""
    known = oracle.rules()
    kinds = dict.fromkeys(known.exceptions, EXCEPTION)
    for unit in tables.UNITS:
        kinds[unit] = kinds.get(unit, 0) | UNIT
    breaks = {exception: words for words, exception in known.broken.items()}
    for exception in breaks:
        kinds[exception] |= BROKEN
    assert max(map(len, breaks.values())) == N_LONGEST
    strings = np.zeros(_STRINGS_AT + _ENTRY * len(kinds), np.uint64)
    slots = np.zeros(_SLOTS, np.uint64)
    for n, string in enumerate(sorted(kinds)):
        text = string.encode()
        first, last = _ends(text)
        slot = _slot(first, last, len(text))
        while slots[slot]:
            slot = (slot + 1) % _SLOTS
        slots[slot] = n + 1
        group = (text[0] + 16 * text[min(1, len(text) - 1)] + 83 * text[-1]) % _GROUPS
        strings[group] |= np.uint64(1 << len(text))
        n_words = np.uint64(len(breaks.get(string, ())))
        strings[_LEADS_AT + text[0]] = max(strings[_LEADS_AT + text[0]], n_words)
        words = [known.exceptions.get(string, ()), breaks.get(string, ())]
        middle = [int.from_bytes(text[at : at + 8], "little") for at in (8, 16)]
        entry = [len(text), kinds[string], *map(_mask, words), first, last, *middle]
        strings[_STRINGS_AT + _ENTRY * n :][:_ENTRY] = entry
    for i in range(4):
        strings[_SLOTS_AT:_STRINGS_AT] |= slots[i::4] << np.uint64(16 * i)
    strings.setflags(write=False)
    return WordTables(classes=_classes(), strings=strings)


@inlined_bare
def broken_words(strings: NDArray[np.uint64], lead: np.uint8) -> int:
    """The most words that an exception falls into which begins with this byte; 0 when none falls apart."""
    return int(np.int64(strings[_LEADS_AT + lead]))


@inlined_bare
def find_string(data: NDArray[np.uint8], start: int, stop: int, strings: NDArray[np.uint64]) -> int:
    """Place of the entry of the string that data[start:stop] is, or -1; stop > start."""
    size = stop - start
    if size > MAX_STRING:
        return -1
    group = _group(data[start], data[min(start + 1, stop - 1)], data[stop - 1])
    if (strings[group] >> np.uint64(size)) & np.uint64(1) == 0:
        return -1
    first = _eight(data, start, min(size, 8))
    last = _eight(data, stop - 8, 8) if size > 8 else np.uint64(0)
    mixed = (first * _FIRST) ^ ((last + np.uint64(size)) * _LAST)
    slot = int(np.int64(((mixed ^ (mixed >> np.uint64(31))) * _FIRST) >> np.uint64(51)))
    while True:
        four = strings[_SLOTS_AT + (slot >> 2)]
        n = int(np.int64((four >> np.uint64(16 * (slot & 3))) & np.uint64(0xFFFF)))
        if n == 0:
            return -1
        at = _STRINGS_AT + _ENTRY * (n - 1)
        is_same = strings[at + FIRST] == first and strings[at + LAST] == last and strings[at + SIZE] == size
        if is_same and (size <= 16 or _has_middle(data, start, size, strings, at)):
            return at
        slot = (slot + 1) & (_SLOTS - 1)


@inlined_bare
def _has_middle(data: NDArray[np.uint8], start: int, size: int, strings: NDArray[np.uint64], at: int) -> bool:
    """Whether bytes 8 to 24 are those of the entry, too; 16 < size <= MAX_STRING."""
    if _eight(data, start + 8, 8) != strings[at + MIDDLE]:
        return False
    return bool(_eight(data, start + 16, min(8, size - 16)) == strings[at + MIDDLE + 1])


@inlined_bare
def _group(first: np.uint8, second: np.uint8, last: np.uint8) -> int:
    """Where the bits of possible sizes are, for strings with such bytes."""
    return int((np.int64(first) + 16 * np.int64(second) + 83 * np.int64(last)) & (_GROUPS - 1))


@inlined_bare
def _eight(data: NDArray[np.uint8], at: int, n: int) -> np.uint64:
    """The n <= 8 bytes from `at` as one word, the first lowest."""
    if at + 8 <= data.shape[0]:
        return np.uint64(load64(data, at) & (~np.uint64(0) >> np.uint64(64 - 8 * n)))
    word = np.uint64(0)
    for i in range(n):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


def _ends(text: bytes) -> tuple[int, int]:
    """What `find_string` takes as the first and the last eight bytes."""
    last = int.from_bytes(text[-8:], "little") if len(text) > 8 else 0
    return int.from_bytes(text[:8], "little"), last


def _slot(first: int, last: int, size: int) -> int:
    """The slot in which `find_string` begins to look."""
    mixed = ((first * int(_FIRST)) ^ ((last + size) * int(_LAST))) % 2**64
    return ((mixed ^ (mixed >> 31)) * int(_FIRST)) % 2**64 >> 51


def _mask(words: Iterable[str]) -> int:
    """Bit i: a word begins at byte i."""
    mask, at = 0, 0
    for word in words:
        mask |= 1 << at
        at += len(word.encode())
    return mask


def _classes() -> NDArray[np.uint32]:
    """Bits of every code point."""
    python = character_table() >> np.uint64(40)
    classes = np.full(len(python), OTHER, np.int64)
    classes[(python & np.uint64(0x80)) != 0] |= WORD
    classes[(python & np.uint64(0x40)) != 0] |= SPACE
    digits = [code for code in range(len(classes)) if unicodedata.category(chr(code)) == "Nd"]
    for bits, codes in ((DECIMAL, digits), *_members()):
        classes[list(codes)] |= bits
    classes[ord("0") : ord("9") + 1] &= ~OTHER
    result = classes.astype(np.uint32)
    result.setflags(write=False)
    return result


def _members() -> Iterator[tuple[int, Collection[int]]]:
    """Bits, and the code points that they hold for."""

    def signs(text: str) -> list[int]:
        return [ord(sign) for sign in text]

    letters, lower, upper = tables.letters()
    icons = tables.code_points(tables.ICONS)
    both = tables.PUNCTUATION + tables.QUOTES + "—–"
    yield from ((LETTER, letters), (LOWER, lower), (UPPER, upper), (DIGIT, range(ord("0"), ord("9") + 1)))
    yield from ((PREFIX | SUFFIX | ICON | ACTIVE, icons), (PREFIX | SUFFIX | ACTIVE, signs(both)))
    yield from ((PREFIX | ACTIVE, signs("§%=")), (QUOTE, signs(tables.QUOTES)), (DOT | ACTIVE, signs(".")))
    currencies = [sign for sign in tables.CURRENCIES if len(sign) == 1]
    yield PREFIX | CURRENCY | ACTIVE, signs("".join(currencies))
    yield ACTIVE, signs("+-*^~:<>=/,$.")
    yield BEFORE_PERIOD, [*lower, *signs("0123456789%²-+|" + tables.PUNCTUATION + tables.QUOTES)]
    alphanumeric = [code for code in range(128) if chr(code).isalnum()]
    yield HOST, [*alphanumeric, *range(0xA1, 0x10000)]
    yield ENDING, signs(",.;:!?)")
