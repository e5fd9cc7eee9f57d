"""Prefixes, suffixes and infixes of English pieces, as sizes in bytes: parts of `_spacy_kernel`.

Each takes data[low:high], which is all that the rule may see. Bytes that no valid UTF-8 holds do no harm:
nothing is read beyond `high`, and every step is at least one byte.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined_bare
from prill.features._spacy_lookup import (
    BEFORE_PERIOD,
    CURRENCY,
    DIGIT,
    ICON,
    KINDS,
    LETTER,
    LOWER,
    PREFIX,
    QUOTE,
    SUFFIX,
    UNIT,
    UPPER,
    find_string,
)

__all__ = ["class_before", "code_at", "infix_size", "prefix_size", "size_at", "suffix_size"]

_A, _C, _S, _U, _s, _DOLLAR = (ord(sign) for sign in "ACSUs$")
_DOT, _PLUS, _MINUS, _STAR, _CARET, _COMMA = (ord(sign) for sign in ".+-*^,")
_COLON, _LESS, _MORE, _EQUAL, _SLASH, _TILDE = (ord(sign) for sign in ":<>=/~")
_APOSTROPHE = ord("'")
_QUOTE_MARK, _DEGREE, _ELLIPSIS, _EN_DASH, _EM_DASH = 0x2019, 0xB0, 0x2026, 0x2013, 0x2014
_MAX_UNIT = 16


@inlined_bare
def size_at(data: NDArray[np.uint8], at: int, stop: int) -> int:
    """Bytes of the character at `at`."""
    lead = data[at]
    if lead < 0xC0:
        return 1
    n = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    return n if n < stop - at else stop - at


@inlined_bare
def code_at(data: NDArray[np.uint8], at: int, stop: int) -> int:
    """Code point at `at`."""
    n = size_at(data, at, stop)
    if n == 1:
        return int(data[at])
    code = np.int64(data[at]) & (0x7F >> n)
    for i in range(at + 1, at + n):
        code = (code << 6) | np.int64(data[i] & 0x3F)
    return int(min(code, np.int64(0x10FFFF)))


@inlined_bare
def _last_at(data: NDArray[np.uint8], low: int, stop: int) -> int:
    """Where the last character of data[low:stop] begins; stop > low."""
    at = stop - 1
    while at > low and at > stop - 4 and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@inlined_bare
def class_before(data: NDArray[np.uint8], low: int, stop: int, classes: NDArray[np.uint32]) -> np.uint32:
    """Class of the last character of data[low:stop]; 0 when there is none."""
    if stop <= low:
        return np.uint32(0)
    found: np.uint32 = classes[code_at(data, _last_at(data, low, stop), stop)]
    return found


@inlined_bare
def _class_from(data: NDArray[np.uint8], at: int, high: int, classes: NDArray[np.uint32]) -> np.uint32:
    """Class of the character at `at`; 0 behind the end."""
    return classes[code_at(data, at, high)] if at < high else np.uint32(0)


@inlined_bare
def _run(data: NDArray[np.uint8], at: int, high: int, sign: int) -> int:
    """How often the byte `sign` stands from `at` on."""
    end = at
    while end < high and data[end] == sign:
        end += 1
    return end - at


@inlined_bare
def prefix_size(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> int:
    """Bytes of the prefix, 0 for none; high > low."""
    lead = data[low]
    if lead == _DOT:
        n = _run(data, low, high, _DOT)
        return n if n > 1 else 0
    if lead == _PLUS:
        return 0 if low + 1 < high and 0x30 <= data[low + 1] <= 0x39 else 1
    if lead == _U:
        return 3 if low + 2 < high and data[low + 1] == _S and data[low + 2] == _DOLLAR else 0
    if lead in (_C, _A):
        return 2 if low + 1 < high and data[low + 1] == _DOLLAR else 0
    is_prefix = classes[code_at(data, low, high)] & PREFIX != 0
    return size_at(data, low, high) if is_prefix else 0


@inlined_bare
def suffix_size(
    data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32], strings: NDArray[np.uint64]
) -> int:
    """Bytes of the longest suffix, 0 for none."""
    if high <= low:
        return 0
    at = _last_at(data, low, high)
    code = code_at(data, at, high)
    if code == _DOT:
        return _period_size(data, low, high, classes)
    found = classes[code]
    size = high - at if found & SUFFIX else 0
    if code == _ELLIPSIS:
        is_double = at - 3 >= low and code_at(data, at - 3, at) == _ELLIPSIS
        return 2 * size if is_double else size
    if code in (_s, _S) and at > low:
        mark = _last_at(data, low, at)
        if data[mark] == _APOSTROPHE or code_at(data, mark, at) == _QUOTE_MARK:
            return high - mark
    if code == _PLUS or found & CURRENCY:
        return max(size, _money_size(data, low, at, high))
    return max(size, _unit_size(data, low, high, classes, strings))


@inlined_bare
def _period_size(data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32]) -> int:
    """Bytes of a suffix that ends in a period: a run of periods, or one behind certain characters."""
    first = high - 1
    while first > low and data[first - 1] == _DOT:
        first -= 1
    if high - first > 1:
        return high - first
    if first == low:
        return 0
    previous = _last_at(data, low, first)
    code = code_at(data, previous, first)
    found = classes[code]
    if found & BEFORE_PERIOD:
        return 1
    if found & UPPER and class_before(data, low, previous, classes) & UPPER:
        return 1
    is_degree = code in (0x46, 0x43, 0x4B)
    if is_degree and previous > low and code_at(data, _last_at(data, low, previous), previous) == _DEGREE:
        return 1
    return 0


@inlined_bare
def _money_size(data: NDArray[np.uint8], low: int, at: int, high: int) -> int:
    """Bytes of a plus sign or a currency at `at` behind a digit: US$ rather than $."""
    first = at
    if data[at] == _DOLLAR and at > low:
        if data[at - 1] == _C or data[at - 1] == _A:
            first = at - 1
        elif data[at - 1] == _S and at - 1 > low and data[at - 2] == _U:
            first = at - 2
    is_behind_digit = first > low and 0x30 <= data[first - 1] <= 0x39
    return high - first if is_behind_digit else 0


@inlined_bare
def _unit_size(
    data: NDArray[np.uint8], low: int, high: int, classes: NDArray[np.uint32], strings: NDArray[np.uint64]
) -> int:
    """Bytes of a unit behind a digit."""
    first = high
    while first > low and high - first <= _MAX_UNIT and not 0x30 <= data[first - 1] <= 0x39:
        first -= 1
    if first in (low, high) or high - first > _MAX_UNIT:
        return 0
    string = find_string(data, first, high, strings)
    return high - first if string >= 0 and strings[string + KINDS] & UNIT else 0


@inlined_bare
def infix_size(
    data: NDArray[np.uint8],
    at: int,
    high: int,
    previous: np.uint32,
    found: np.uint32,
    classes: NDArray[np.uint32],
) -> int:
    """Bytes of the infix at `at`, 0 for none.

    Args:
        previous: class of the character before, 0 when there is none.
        found: class of the character at `at`.
    """
    lead = data[at]
    size = size_at(data, at, high)
    if lead == _DOT:
        n = _run(data, at, high, _DOT)
        if n > 1:
            return n
        is_end = previous & (LOWER | QUOTE) and _class_from(data, at + 1, high, classes) & (UPPER | QUOTE)
        return 1 if is_end else 0
    if found & ICON:
        return size
    if lead in (_PLUS, _MINUS, _STAR, _CARET):
        is_behind_digit = previous & DIGIT and at + 1 < high
        if is_behind_digit and (0x30 <= data[at + 1] <= 0x39 or data[at + 1] == _MINUS):
            return 1
    if lead == _COMMA:
        return 1 if previous & LETTER and _class_from(data, at + 1, high, classes) & LETTER else 0
    if lead in (_COLON, _LESS, _MORE, _EQUAL, _SLASH):
        is_between = previous & (LETTER | DIGIT) and _class_from(data, at + 1, high, classes) & LETTER
        return 1 if is_between else 0
    code = code_at(data, at, high)
    if code == _ELLIPSIS:
        return size
    n = _dash_size(data, at, high, code)
    joins = previous & (LETTER | DIGIT) and _class_from(data, at + n, high, classes) & LETTER
    return n if joins else 0


@inlined_bare
def _dash_size(data: NDArray[np.uint8], at: int, high: int, code: int) -> int:
    """Bytes of the hyphens or dashes from `at` on when they are as many as join words; 0 otherwise."""
    if code == _TILDE:
        return 1
    if code == _EN_DASH:
        return 3
    if code == _MINUS:
        n = _run(data, at, min(high, at + 4), _MINUS)
        return n if n <= 3 else 0
    if code == _EM_DASH:
        is_double = at + 6 <= high and code_at(data, at + 3, high) == _EM_DASH
        return 6 if is_double else 3
    return 0
