"""Whether a piece looks like a URL, as spaCy's pattern for URLs decides, in one pass without going back.

The pattern allows a scheme and anything up to an `@` before the host; so the host may begin at the start,
behind the scheme, or behind any `@` but one at the very start. A host is an address of four numbers, or
labels that end in a period each and a last part of 2 to 63 lower-case letters; behind it a port, and then a
path or the end. No part can be read in two ways, as each ends at a character that it cannot hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined_bare
from prill.features._spacy_affix_kernel import code_at, size_at
from prill.features._spacy_lookup import DECIMAL, HOST, LOWER, WORD

__all__ = ["is_url"]

_DOT, _COLON, _SLASH, _AT = (ord(sign) for sign in ".:/@")
_HYPHEN, _PLUS, _UNDERSCORE, _QUESTION, _HASH = (ord(sign) for sign in "-+_?#")
_MAX_LABEL, _MAX_LAST = 64, 63


@inlined_bare
def is_url(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> bool:
    """Whether all of data[low:high] is a URL."""
    behind = _behind_scheme(data, low, high, classes)
    found = _is_host(data, low, high, classes) or (behind > low and _is_host(data, behind, high, classes))
    at = low + 1
    while not found and at < high:
        found = data[at] == _AT and _is_host(data, at + 1, high, classes)
        at += 1
    return found


@inlined_bare
def _behind_scheme(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> int:
    """The place behind `scheme://`; `low` when there is none."""
    at, n = low, 0
    while at < high:
        code = code_at(data, at, high)
        is_part = classes[code] & WORD != 0 or code in (_PLUS, _HYPHEN, _DOT)
        if not is_part:
            break
        at += size_at(data, at, high)
        n += 1
    if n < 2 or at + 3 >= high:
        return low
    is_scheme = data[at] == _COLON and data[at + 1] == _SLASH and data[at + 2] == _SLASH
    return at + 3 if is_scheme else low


@inlined_bare
def _is_host(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> bool:
    """Whether data[low:high] is a host, a port or none, and a path or none."""
    end = _names_end(data, low, high, classes)
    if end < 0:
        end = _address_end(data, low, high, classes)
    return end >= 0 and _is_rest(data, end, high, classes)


@inlined_bare
def _is_rest(data: NDArray[np.uint8], at: int, high: int, classes: NDArray[np.uint32]) -> bool:
    if at < high and data[at] == _COLON:
        at += 1
        n = 0
        while at < high and classes[code_at(data, at, high)] & DECIMAL:
            at += size_at(data, at, high)
            n += 1
        if n < 2 or n > 5:
            return False
    return at == high or data[at] == _SLASH or data[at] == _QUESTION or data[at] == _HASH


@inlined_bare
def _names_end(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> int:
    """The end of `label.label.last`, or -1."""
    at, n_labels = low, 0
    while True:
        n, is_label, is_last, edge = 0, True, True, False
        while at < high and data[at] != _DOT:
            code = code_at(data, at, high)
            found = classes[code]
            is_host = found & HOST != 0
            is_joint = code in (_HYPHEN, _UNDERSCORE)
            if not (is_host or is_joint or found & LOWER):
                break
            is_label &= is_host or (is_joint and n > 0)
            is_last &= found & LOWER != 0
            edge = is_host
            n += 1
            at += size_at(data, at, high)
        if at < high and data[at] == _DOT:
            if not (is_label and edge and n <= _MAX_LABEL):
                return -1
            n_labels += 1
            at += 1
        else:
            return at if n_labels > 0 and is_last and 2 <= n <= _MAX_LAST else -1


@inlined_bare
def _address_end(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> int:
    """The end of four numbers that are an address of the open network, or -1."""
    at = low
    first = 0
    for part in range(4):
        n, value, lead, second = 0, 0, -1, -1
        while at < high and n < 4:
            code = code_at(data, at, high)
            if classes[code] & DECIMAL == 0:
                break
            digit = code - 0x30 if code < 0x80 else 99  # a digit of another script fits `\\d` only
            lead, second = (digit, second) if n == 0 else (lead, digit if n == 1 else second)
            value = 10 * value + digit if digit < 10 and value >= 0 else -1
            n += 1
            at += size_at(data, at, high)
        if not _is_number(part, n, lead, second, value):
            return -1
        if part == 0:
            first = value
        elif part == 1 and _is_private(first, lead, n, value):
            return -1
        if part < 3:
            if at >= high or data[at] != _DOT:
                return -1
            at += 1
    return at


@inlined_bare
def _is_number(part: int, n: int, lead: int, second: int, value: int) -> bool:
    """Whether n digits may be part 0, 1, 2 or 3 of an address; value -1 with a digit of another script."""
    if n < 1 or n > 3:
        return False
    if part in (0, 3) and not 1 <= lead <= 9:
        return False
    if n < 3 or lead == 1:
        return True
    if lead != 2:
        return False
    if part == 0:
        return 0 <= second <= 1 or 220 <= value <= 223
    return 0 <= second <= 4 or 250 <= value <= (254 if part == 3 else 255)


@inlined_bare
def _is_private(first: int, lead: int, n: int, value: int) -> bool:
    """Whether the first two numbers are of a network that is not open."""
    if first == 10 or first == 127 or (first == 169 and value == 254) or (first == 192 and value == 168):
        return True
    return first == 172 and n == 2 and (lead == 2 or 16 <= value <= 19 or 30 <= value <= 31)
