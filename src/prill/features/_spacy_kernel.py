"""English words as spaCy splits them, as a kernel over UTF-8: no regular expression and no cache of words.

A piece between white space of letters alone, or of digits alone, is a word or an exception: one look into a
small table. Any other piece loses affixes one by one from both ends and is then cut at infixes, each decided
from the classes of two or three characters. When a line holds words that together spell a broken-up
exception (`x:)`), a second pass over its words mends them.

`_spacy_oracle` says the same in plain Python; its docstring tells the rules.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, inlined_bare
from prill.features._spacy_affix_kernel import code_at, infix_size, prefix_size, size_at, suffix_size
from prill.features._spacy_lookup import (
    ACTIVE,
    CUTS,
    DIGIT,
    DOT,
    ENDING,
    EXCEPTION,
    KINDS,
    OTHER,
    SPACE,
    find_string,
)
from prill.features._spacy_mending_kernel import has_broken, mend
from prill.features._spacy_url_kernel import is_url

__all__ = ["split_document"]

_BLANK = 32


@inlined
def split_document(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    classes: NDArray[np.uint32],
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n_held: int,
) -> int:
    """Write the words of data[start:stop], counted from `start`, from place n_held on.

    Args:
        classes, strings: `word_tables`.
        starts, ends: first byte and byte behind of each word; room for stop - start more.
    Returns:
        The place behind the last word.
    """
    n, at = n_held, start
    while at < stop:
        n, at, line = _split(data, start, stop, at, classes, strings, starts, ends, n, n_held)
        if line >= 0:
            n = mend(data, start, strings, starts, ends, line, n)
    return n


@inlined_bare
def _split(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    at: int,
    classes: NDArray[np.uint32],
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n: int,
    n_held: int,
) -> tuple[int, int, int]:
    """Split from `at` on, up to the end of the first line in which there is something to mend.

    A line ends at any white space but one blank, as what is to be mended may reach over one blank only.

    Returns:
        The place behind the last word, the byte to go on from, and the first word of the line to mend, or -1.
    """
    line, is_broken = n, False
    while at < stop:
        bits, earlier, last, begin = 0, 0, np.uint32(0), at
        while at < stop:
            lead = data[at]
            found = classes[lead] if lead < 0x80 else classes[code_at(data, at, stop)]
            if found & SPACE:
                break
            at += 1 if lead < 0x80 else size_at(data, at, stop)
            earlier, last = bits, found
            bits |= found
        if at > begin:
            if _is_plain(bits):
                n = _put_known(data, begin, at, start, strings, starts, ends, n)
            elif last & ENDING and _is_plain(earlier) and _has_ending(data, begin, at, classes, strings):
                n = _put(starts, ends, n, begin - start, at - 1 - start)
                n = _put(starts, ends, n, at - 1 - start, at - start)
            else:
                first, room = n, n_held + (at - start)
                n = _put_piece(data, begin, at, start, bits & DOT, classes, strings, starts, ends, n, room)
                is_broken |= has_broken(data, start, strings, starts, ends, first, n)
        if at < stop:
            if begin == at or data[at] != _BLANK:
                if is_broken:
                    return n, at, line
                line = n
            at += size_at(data, at, stop)
    return n, at, line if is_broken else -1


@inlined_bare
def _is_plain(bits: int) -> bool:
    """Whether no rule but that of exceptions looks at characters with these bits: no sign, no unit."""
    return bits & ACTIVE == 0 and bits & (DIGIT | OTHER) != DIGIT | OTHER


@inlined_bare
def _has_ending(
    data: NDArray[np.uint8], begin: int, end: int, classes: NDArray[np.uint32], strings: NDArray[np.uint64]
) -> bool:
    """Whether a plain piece with a sign behind it is two words: no exception, nor is its plain part."""
    if begin + 1 == end or suffix_size(data, begin, end, classes, strings) != 1:
        return False
    return find_string(data, begin, end, strings) < 0 and find_string(data, begin, end - 1, strings) < 0


@inlined_bare
def _put(starts: NDArray[np.uint32], ends: NDArray[np.uint32], n: int, begin: int, end: int) -> int:
    starts[n] = np.uint32(begin)
    ends[n] = np.uint32(end)
    return n + 1


@inlined_bare
def _put_known(
    data: NDArray[np.uint8],
    begin: int,
    end: int,
    base: int,
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n: int,
) -> int:
    """Write data[begin:end] as one word, or as the words of the exception that it is."""
    string = find_string(data, begin, end, strings)
    if string < 0 or strings[string + KINDS] & EXCEPTION == 0:
        return _put(starts, ends, n, begin - base, end - base)
    return _put_cut(strings[string + CUTS], begin - base, end - base, starts, ends, n)


@inlined_bare
def _put_cut(
    cuts: np.uint64, begin: int, end: int, starts: NDArray[np.uint32], ends: NDArray[np.uint32], n: int
) -> int:
    """Write [begin, end) as words that begin where `cuts` has a bit."""
    at = begin
    for i in range(begin + 1, end):
        if (cuts >> np.uint64(i - begin)) & np.uint64(1):
            n = _put(starts, ends, n, at, i)
            at = i
    return _put(starts, ends, n, at, end)


@inlined_bare
def _is_exception(data: NDArray[np.uint8], begin: int, end: int, strings: NDArray[np.uint64]) -> bool:
    string = find_string(data, begin, end, strings)
    return string >= 0 and strings[string + KINDS] & EXCEPTION != 0


@inlined_bare
def _put_piece(
    data: NDArray[np.uint8],
    begin: int,
    end: int,
    base: int,
    dots: int,
    classes: NDArray[np.uint32],
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n: int,
    room: int,
) -> int:
    """Write the words of a piece; suffixes wait at the end of the room, before place `room`."""
    low, high, top = begin, end, room
    while low < high and not _is_exception(data, low, high, strings):
        before = prefix_size(data, low, high, classes)
        if 0 < before < high - low and _is_exception(data, low + before, high, strings):
            n = _put(starts, ends, n, low - base, low + before - base)
            low += before
            break
        behind = suffix_size(data, low + before, high, classes, strings)
        if 0 < behind < high - low and _is_exception(data, low, high - behind, strings):
            top -= 1
            _put(starts, ends, top, high - behind - base, high - base)
            high -= behind
            break
        if before == 0 and behind == 0:
            break
        if before > 0:
            n = _put(starts, ends, n, low - base, low + before - base)
            low += before
        if behind > 0:
            top -= 1
            _put(starts, ends, top, high - behind - base, high - base)
            high -= behind
    if low < high:
        if _is_exception(data, low, high, strings):
            n = _put_known(data, low, high, base, strings, starts, ends, n)
        elif dots and is_url(data, low, high, classes):
            n = _put(starts, ends, n, low - base, high - base)
        else:
            n = _put_infixes(data, low, high, base, classes, strings, starts, ends, n)
    for i in range(top, room):
        n = _put(starts, ends, n, starts[i], ends[i])
    return n


@inlined_bare
def _put_infixes(
    data: NDArray[np.uint8],
    low: int,
    high: int,
    base: int,
    classes: NDArray[np.uint32],
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n: int,
) -> int:
    """Write data[low:high] cut at infixes; an infix at its very start stays with what follows."""
    at, word, previous = low, low, np.uint32(0)
    while at < high:
        lead = data[at]
        found = classes[lead] if lead < 0x80 else classes[code_at(data, at, high)]
        size = size_at(data, at, high)
        if found & ACTIVE:
            infix = infix_size(data, at, high, previous, found, classes)
            if infix > 0 and at > low:
                if at > word:
                    n = _put(starts, ends, n, word - base, at - base)
                n = _put(starts, ends, n, at - base, at + infix - base)
                word = at + infix
            size = max(size, infix)  # its characters are all alike, so `found` holds for the last too
        previous = found
        at += size
    if word < high:
        n = _put(starts, ends, n, word - base, high - base)
    return n
