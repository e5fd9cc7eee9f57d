"""Numbers that name a person or a machine: addresses of IP version 4, phones, cards, IBANs, US SSNs.

Each check looks at a digit that begins a run of digits and returns the span around it, (0, 0) for none. It
reads at most some 60 bytes, whatever the text is, so that the whole scan takes linear time. The plain
grammars are in `_pii_oracle`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined

__all__ = ["card_at", "iban_at", "ip4_at", "is_alnum", "is_digit", "is_word", "phone_at", "ssn_at"]

_DOT, _DASH, _SPACE, _PLUS, _OPEN, _CLOSE, _SLASH = 46, 45, 32, 43, 40, 41, 47


@inlined
def is_digit(byte: np.uint8) -> bool:
    return bool(0x30 <= byte <= 0x39)


@inlined
def is_alnum(byte: np.uint8) -> bool:
    return bool(0x30 <= byte <= 0x39 or 0x61 <= byte | 0x20 <= 0x7A)


@inlined
def is_word(byte: np.uint8) -> bool:
    """ASCII letter, digit or underscore; letters of other scripts may touch a number."""
    return bool(is_alnum(byte) or byte == 0x5F)


@inlined
def _number(data: NDArray[np.uint8], start: int, stop: int) -> int:
    value = 0
    for i in range(start, stop):
        value = 10 * value + int(data[i]) - 0x30
    return value


@inlined
def _digits_end(data: NDArray[np.uint8], at: int, stop: int, limit: int) -> int:
    """End of the run of digits at `at`, at most limit + 1 of them."""
    end = at
    while end < stop and end - at <= limit and is_digit(data[end]):
        end += 1
    return end


@inlined
def _is_public4(address: int) -> bool:
    a, b, c = address >> 24, (address >> 16) & 0xFF, (address >> 8) & 0xFF
    if a in (0, 10, 127) or a >= 224 or (a == 100 and 64 <= b < 128) or (a == 169 and b == 254):
        return False
    if (a == 172 and 16 <= b < 32) or (a == 192 and b == 168) or (a == 198 and b in (18, 19)):
        return False
    if a == 192 and b == 0 and c in (0, 2):
        return False
    return not ((a == 198 and b == 51 and c == 100) or (a == 203 and b == 0 and c == 113))


@inlined
def ip4_at(data: NDArray[np.uint8], at: int, start: int, stop: int, public_only: int) -> tuple[int, int]:
    """Four numbers up to 255 without leading zeros, joined by dots, not part of a longer name or number."""
    if at > start and (is_word(data[at - 1]) or data[at - 1] in (_DOT, _DASH)):
        return 0, 0
    i, address = at, 0
    for part in range(4):
        end = _digits_end(data, i, stop, 3)
        n = end - i
        value = _number(data, i, min(end, i + 3))
        if n == 0 or n > 3 or value > 255 or (n > 1 and data[i] == 0x30):
            return 0, 0
        address = (address << 8) | value
        i = end
        if part < 3:
            if i >= stop or data[i] != _DOT:
                return 0, 0
            i += 1
    if i < stop and (is_word(data[i]) or data[i] == _DASH):
        return 0, 0
    if i + 1 < stop and data[i] == _DOT and is_digit(data[i + 1]):
        return 0, 0
    if public_only != 0 and not _is_public4(address):
        return 0, 0
    return at, i


@inlined
def _is_free_before(data: NDArray[np.uint8], at: int, start: int) -> bool:
    """Whether a number may begin at `at`: nothing before it that makes it part of something longer."""
    if at <= start:
        return True
    byte = data[at - 1]
    return not (is_word(byte) or byte in (_DOT, _DASH, _PLUS, _SLASH, 0x23, 0x25, 0x26, 0x3D, 0x24))


@inlined
def _is_free_after(data: NDArray[np.uint8], at: int, stop: int) -> bool:
    """Whether a number may end before `at`."""
    if at >= stop:
        return True
    if is_word(data[at]) or data[at] == 0x25:
        return False
    joins = data[at] in (_DOT, _DASH, _SLASH)
    return not (joins and at + 1 < stop and is_digit(data[at + 1]))


@inlined
def _us_phone_at(data: NDArray[np.uint8], at: int, first: int, start: int, stop: int) -> tuple[int, int]:
    """3-3-4 digits from `at`, which is behind `first`, the beginning of the whole number."""
    i, closed = at, False
    if i >= stop or not _is_free_before(data, first, start):
        return 0, 0
    if data[i] == _OPEN:
        i += 1
        closed = True
    if _digits_end(data, i, stop, 3) - i != 3 or data[i] < 0x32:
        return 0, 0
    i += 3
    if closed:
        if i >= stop or data[i] != _CLOSE:
            return 0, 0
        i += 1
        if i < stop and data[i] in (_SPACE, _DASH):
            i += 1
        separator = np.uint8(_CLOSE)
    else:
        if i >= stop or data[i] not in (_DOT, _DASH, _SPACE):
            return 0, 0
        separator = data[i]
        i += 1
    if _digits_end(data, i, stop, 3) - i != 3 or data[i] < 0x32:
        return 0, 0
    i += 3
    if i >= stop or data[i] not in (_DOT, _DASH, _SPACE):
        return 0, 0
    second = data[i]
    if separator == _CLOSE:
        good = second != _DOT
    elif separator == _SPACE:
        good = second == _DASH or first < at
    else:
        good = second == separator
    i += 1
    if not good or _digits_end(data, i, stop, 4) - i != 4 or not _is_free_after(data, i + 4, stop):
        return 0, 0
    return first, i + 4


@inlined
def _after_separator(data: NDArray[np.uint8], at: int, stop: int) -> int:
    """Where the digits behind ` `, `.`, `-`, `/`, `(`, `)` or `(0)` at `at` begin; `at` where none do."""
    i = at
    if data[i] == _CLOSE:
        i += 2 if i + 1 < stop and data[i + 1] == _SPACE else 1
    else:
        k = i + 1 if data[i] == _SPACE and i + 1 < stop else i
        if data[k] == _OPEN:
            i = k + 1
            if k + 2 < stop and data[k + 1] == 0x30 and data[k + 2] == _CLOSE:
                i = k + 4 if k + 3 < stop and data[k + 3] == _SPACE else k + 3
        elif data[i] in (_SPACE, _DOT, _DASH, _SLASH):
            i += 1
    return i if i < stop and is_digit(data[i]) else at


@inlined
def _world_phone_at(
    data: NDArray[np.uint8], plus: int, start: int, stop: int, countries: NDArray[np.uint8]
) -> tuple[int, int]:
    """`+`, a country code and 8 to 15 digits in all, with single separators or `(0)` between them."""
    if plus > start and (is_word(data[plus - 1]) or data[plus - 1] in (_PLUS, _DASH, _SLASH, 0x3D, _DOT)):
        return 0, 0
    i, n, prefix = plus + 1, 0, 0
    while n <= 15 and i < stop:
        if is_digit(data[i]):
            prefix = 10 * prefix + int(data[i]) - 0x30 if n < 3 else prefix
            n += 1
            i += 1
        else:
            after = _after_separator(data, i, stop)
            if after == i:
                break
            i = after
    if n < 8 or n > 15 or not _is_free_after(data, i, stop):
        return 0, 0
    if countries[prefix // 100]:
        code = prefix // 100
    elif countries[prefix // 10]:
        code = prefix // 10
    else:
        code = prefix
    if not countries[code] or (code in (1, 7) and n != 11):
        return 0, 0
    return plus, i


@inlined
def phone_at(
    data: NDArray[np.uint8], at: int, start: int, stop: int, countries: NDArray[np.uint8]
) -> tuple[int, int]:
    """A phone whose first digits are at `at`: international behind `+`, else of the US form."""
    before = data[at - 1] if at > start else np.uint8(0)
    if before == _PLUS:
        first, end = _world_phone_at(data, at - 1, start, stop, countries)
        return first, end
    if data[at] == 0x31:
        if at + 1 < stop and data[at + 1] in (_SPACE, _DASH, _DOT):
            return _us_phone_at(data, at + 2, at, start, stop)
        return 0, 0
    if before == _OPEN:
        return _us_phone_at(data, at - 1, at - 1, start, stop)
    return _us_phone_at(data, at, at, start, stop)


@inlined
def _is_card_number(digits: NDArray[np.int64], n: int) -> bool:
    """Luhn's checksum, and a first number and length that issuers use."""
    total = 0
    for k in range(n):
        digit = digits[n - 1 - k]
        if k % 2 == 1:
            digit *= 2
            if digit > 9:
                digit -= 9
        total += digit
    if total % 10 != 0:
        return False
    two = 10 * digits[0] + digits[1]
    four = 100 * two + 10 * digits[2] + digits[3]
    if digits[0] == 4:
        return n in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return n == 16
    if two in (34, 37):
        return n == 15
    if two in (36, 38) or 3000 <= four <= 3059:
        return 14 <= n <= 19
    return bool(16 <= n <= 19 and (four == 6011 or two in (35, 62, 64, 65)))


@inlined
def card_at(data: NDArray[np.uint8], at: int, start: int, stop: int) -> tuple[int, int]:
    """13 to 19 digits in one run, or in runs of 3 to 7 joined by one kind of separator, the first of 4."""
    if not _is_free_before(data, at, start):
        return 0, 0
    if at - 2 >= start and data[at - 1] == _SPACE and is_digit(data[at - 2]):
        return 0, 0
    digits = np.empty(20, np.int64)
    i, n, run, separator = at, 0, 0, np.uint8(0)
    while i < stop:
        if is_digit(data[i]):
            if n == 19:
                return 0, 0
            digits[n] = int(data[i]) - 0x30
            n += 1
            run += 1
            i += 1
        elif data[i] in (_SPACE, _DASH) and i + 1 < stop and is_digit(data[i + 1]):
            first = separator == 0
            separator = data[i] if first else separator
            if data[i] != separator or run > 7 or run < 3 or (first and run != 4):
                return 0, 0
            run = 0
            i += 1
        else:
            break
    if n < 13 or (separator != 0 and not 3 <= run <= 7) or not _is_free_after(data, i, stop):
        return 0, 0
    return (at, i) if _is_card_number(digits, n) else (0, 0)


@inlined
def iban_at(
    data: NDArray[np.uint8], at: int, start: int, stop: int, lengths: NDArray[np.uint8]
) -> tuple[int, int]:
    """Two capitals before `at` that are a country, as many letters and digits as it uses, and remainder 1."""
    first = at - 2
    if first < start:
        return 0, 0
    a, b = int(data[first]) - 0x41, int(data[first + 1]) - 0x41
    if not (0 <= a < 26 and 0 <= b < 26) or (first > start and is_word(data[first - 1])):
        return 0, 0
    length = int(lengths[26 * a + b])
    if length == 0 or at + 1 >= stop or not is_digit(data[at + 1]):
        return 0, 0
    spaced = at + 2 < stop and data[at + 2] == _SPACE
    i, n, rest = at + 2, 4, 0
    while n < length:
        if spaced and n % 4 == 0:
            if i >= stop or data[i] != _SPACE:
                return 0, 0
            i += 1
        if i >= stop:
            return 0, 0
        byte = int(data[i])
        if is_digit(data[i]):
            rest = (10 * rest + byte - 0x30) % 97
        elif 0x41 <= byte <= 0x5A:
            rest = (100 * rest + byte - 0x41 + 10) % 97
        else:
            return 0, 0
        i += 1
        n += 1
    rest = (100 * rest + a + 10) % 97
    rest = (100 * rest + b + 10) % 97
    rest = (100 * rest + _number(data, at, at + 2)) % 97
    if rest != 1 or (i < stop and is_word(data[i])):
        return 0, 0
    return first, i


@inlined
def ssn_at(data: NDArray[np.uint8], at: int, start: int, stop: int) -> tuple[int, int]:
    """US social security number: 3-2-4 digits with dashes, in the ranges that are issued."""
    if at + 11 > stop or not _is_free_before(data, at, start) or not _is_free_after(data, at + 11, stop):
        return 0, 0
    for k in range(11):
        if k == 3 or k == 6:
            if data[at + k] != _DASH:
                return 0, 0
        elif not is_digit(data[at + k]):
            return 0, 0
    area = _number(data, at, at + 3)
    if area in (0, 666) or area >= 900:
        return 0, 0
    if _number(data, at + 4, at + 6) == 0 or _number(data, at + 7, at + 11) == 0:
        return 0, 0
    return at, at + 11
