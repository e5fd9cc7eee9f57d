"""One pass over text that finds personal data and secrets: 64 bytes a step for beginnings, then a check.

What gives a candidate away: `@`, the first of a run of digits, two colons near each other, and three bytes
that begin a known key or the name of a secret. Everything else is never looked at byte by byte.

Legend: D documents, S spans.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._byte_mask_kernel import BLOCK, byte_mask, digit_mask, first_bits, upper_mask
from prill.features._jit import inlined, kernel, set_bits, trailing_zeros
from prill.features._pii_number_kernel import card_at, iban_at, ip4_at, is_digit, phone_at, ssn_at
from prill.features._pii_text_kernel import email_at, ip6_at, secret_at

__all__ = ["CARD", "EMAIL", "IBAN", "IP", "PADDING", "PHONE", "SECRET", "SSN", "drop_overlaps", "find_pii"]

EMAIL, IP, PHONE, CARD, IBAN, SECRET, SSN = range(7)

PADDING = 2 * BLOCK + 8
"""Bytes that must follow the last document in the buffer."""

_NUMBER_BYTES = 28
_FEWEST_DIGITS = 8
_NUMBERS = (1 << IP) | (1 << PHONE) | (1 << CARD) | (1 << IBAN) | (1 << SSN)
_EXACT = (
    b"AKI",
    b"ASI",
    b"AIz",
    b"git",
    b"glp",
    b"xox",
    b"sk-",
    b"sk_",
    b"hf_",
    b"npm",
    b"pyp",
    b"SG.",
    b"eyJ",
)
_EXACT_FOURTH = ((b"gh", b"_"), (b"--", b"-"))
_ANY_CASE = (b"key", b"ecr", b"oke", b"ssw", b"pwd")

_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, BLOCK)


def _secret_mask(typingctx: Any, data: Any, index: Any) -> Any:
    """Where in data[index:index + BLOCK] three bytes begin a key or a name of one; reads three bytes more."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0]).data
        texts, lows = [], []
        for k in range(4):
            pointer = builder.gep(array, [builder.add(args[1], _LONG(k))])
            texts.append(builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=1))
            lows.append(builder.or_(texts[-1], ir.Constant(_VECTOR, [0x20] * BLOCK)))
        known: dict[tuple[bool, int, int], Any] = {}

        def equal(k: int, byte: int, *, low: bool) -> Any:
            if (low, k, byte) not in known:
                text = lows[k] if low else texts[k]
                known[low, k, byte] = builder.icmp_unsigned("==", text, ir.Constant(_VECTOR, [byte] * BLOCK))
            return known[low, k, byte]

        def word(letters: bytes, places: tuple[int, ...], *, low: bool) -> Any:
            found = equal(places[0], letters[0], low=low)
            for place, byte in zip(places[1:], letters[1:], strict=True):
                found = builder.and_(found, equal(place, byte, low=low))
            return found

        found = [word(letters, (0, 1, 2), low=False) for letters in _EXACT]
        found += [word(first + last, (0, 1, 3), low=False) for first, last in _EXACT_FOURTH]
        found += [word(letters, (0, 1, 2), low=True) for letters in _ANY_CASE]
        total = found[0]
        for mask in found[1:]:
            total = builder.or_(total, mask)
        return builder.bitcast(total, _LONG)

    return types.uint64(data, types.intp), codegen


secret_mask: Any = intrinsic(_secret_mask)


@inlined
def _put(first: int, end: int, kind: int, d: int, start: int, n: int, spans_S4: NDArray[np.int64]) -> int:
    """Keep a span, relative to its document; the new number of spans, which may be above the room."""
    if end == 0:
        return n
    if n < spans_S4.shape[0]:
        spans_S4[n, 0], spans_S4[n, 1], spans_S4[n, 2], spans_S4[n, 3] = d, first - start, end - start, kind
    return n + 1


@inlined
def _long_number_at(
    data: NDArray[np.uint8], at: int, start: int, stop: int, wanted: int, countries: NDArray[np.uint8]
) -> tuple[int, int, int]:
    """The first kind, and span, for which the digits at `at`, eight or more near each other, qualify."""
    end_of_run = at + 1
    while end_of_run < stop and end_of_run - at < 20 and is_digit(data[end_of_run]):
        end_of_run += 1
    n = end_of_run - at
    if (n == 4 or n >= 13) and wanted & (1 << CARD):
        first, end = card_at(data, at, start, stop)
        if end > 0:
            return CARD, first, end
    if n == 3 and wanted & (1 << SSN):
        first, end = ssn_at(data, at, start, stop)
        if end > 0:
            return SSN, first, end
    if (n == 3 or n == 1 or (at > start and data[at - 1] == 0x2B)) and wanted & (1 << PHONE):
        first, end = phone_at(data, at, start, stop, countries)
        if end > 0:
            return PHONE, first, end
    return 0, 0, 0


@inlined
def _near_colons(colons: np.uint64) -> np.uint64:
    """Colons with another one at most five bytes further."""
    after = colons >> np.uint64(1)
    after |= (colons >> np.uint64(2)) | (colons >> np.uint64(3))
    return colons & (after | (colons >> np.uint64(4)) | (colons >> np.uint64(5)))


@inlined
def _has_context(data: NDArray[np.uint8], first: int, end: int, start: int, stop: int) -> bool:
    """Whether `isbn`, `doi` or `#` stands within 50 bytes of the span."""
    low, high = max(start, first - 50), min(stop, end + 50)
    for i in range(low, high):
        if first <= i < end:
            continue
        byte = data[i] | 0x20
        if data[i] == 0x23:
            return True
        if byte == 0x64 and i + 3 <= high and data[i + 1] | 0x20 == 0x6F and data[i + 2] | 0x20 == 0x69:
            return True
        is_is = byte == 0x69 and i + 4 <= high and data[i + 1] | 0x20 == 0x73
        if is_is and data[i + 2] | 0x20 == 0x62 and data[i + 3] | 0x20 == 0x6E:
            return True
    return False


@inlined
def _scan_numbers(
    data: NDArray[np.uint8],
    base: int,
    d: int,
    start: int,
    stop: int,
    digits: np.uint64,
    after: np.uint64,
    before: np.uint64,
    wanted: int,
    options: int,
    countries: NDArray[np.uint8],
    ibans: NDArray[np.uint8],
    n: int,
    spans_S4: NDArray[np.int64],
) -> int:
    """Check the runs of digits that begin in a block: `digits` are its digits, `after` the next block's,
    `before` 1 when a digit stands before."""
    public_only, context = options & 1, options & 2 != 0
    starts = digits & ~((digits << np.uint64(1)) | before)
    dots = byte_mask(data, base, np.uint8(0x2E))
    joined = dots & ((digits >> np.uint64(1)) | (np.uint64(1) << np.uint64(63)))
    found = (joined >> np.uint64(1)) | (joined >> np.uint64(2)) | (joined >> np.uint64(3))
    found = starts & (found | ~first_bits(BLOCK - 3)) if wanted & (1 << IP) else np.uint64(0)
    while found != 0:
        at = base + trailing_zeros(found)
        found &= found - np.uint64(1)
        first, end = ip4_at(data, at, start, stop, public_only)
        if end > 0 and not (context and _has_context(data, first, end, start, stop)):
            n = _put(first, end, IP, d, start, n, spans_S4)
    capitals = upper_mask(data, base)
    found = starts & (((capitals << np.uint64(1)) & (capitals << np.uint64(2))) | first_bits(2))
    found = found if wanted & (1 << IBAN) else np.uint64(0)
    while found != 0:
        at = base + trailing_zeros(found)
        found &= found - np.uint64(1)
        first, end = iban_at(data, at, start, stop, ibans)
        n = _put(first, end, IBAN, d, start, n, spans_S4)
    if set_bits(digits) + set_bits(after) < _FEWEST_DIGITS:
        return n
    while starts != 0:
        k = trailing_zeros(starts)
        starts &= starts - np.uint64(1)
        window = digits >> np.uint64(k)
        if k > 0:
            window |= after << np.uint64(64 - k)
        if set_bits(window & first_bits(_NUMBER_BYTES)) >= _FEWEST_DIGITS:
            kind, first, end = _long_number_at(data, base + k, start, stop, wanted, countries)
            if end > 0 and not (context and kind == PHONE and _has_context(data, first, end, start, stop)):
                n = _put(first, end, kind, d, start, n, spans_S4)
    return n


@inlined
def _scan_words(
    data: NDArray[np.uint8],
    base: int,
    d: int,
    start: int,
    stop: int,
    wanted: int,
    options: int,
    words: NDArray[np.uint8],
    rules: NDArray[np.int64],
    n: int,
    spans_S4: NDArray[np.int64],
) -> int:
    """Check what `@`, two colons, or the letters of a key give away in a block."""
    inside = first_bits(min(BLOCK, stop - base))
    public_only, context = options & 1, options & 2 != 0
    found = byte_mask(data, base, np.uint8(0x40)) & inside if wanted & (1 << EMAIL) else np.uint64(0)
    while found != 0:
        at = base + trailing_zeros(found)
        found &= found - np.uint64(1)
        first, end = email_at(data, at, start, stop)
        if end > 0 and not (context and _has_context(data, first, end, start, stop)):
            n = _put(first, end, EMAIL, d, start, n, spans_S4)
    colons = byte_mask(data, base, np.uint8(0x3A)) & inside if wanted & (1 << IP) else np.uint64(0)
    found = _near_colons(colons) | (colons & ~first_bits(BLOCK - 5))
    while found != 0:
        at = base + trailing_zeros(found)
        found &= found - np.uint64(1)
        first, end = ip6_at(data, at, start, stop, public_only)
        if end > 0 and not (context and _has_context(data, first, end, start, stop)):
            n = _put(first, end, IP, d, start, n, spans_S4)
    found = secret_mask(data, base) & inside if wanted & (1 << SECRET) else np.uint64(0)
    while found != 0:
        at = base + trailing_zeros(found)
        found &= found - np.uint64(1)
        first, end = secret_at(data, at, start, stop, words, rules)
        n = _put(first, end, SECRET, d, start, n, spans_S4)
    return n


@kernel
def find_pii(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    wanted: int,
    options: int,
    countries: NDArray[np.uint8],
    ibans: NDArray[np.uint8],
    words: NDArray[np.uint8],
    rules: NDArray[np.int64],
    spans_S4: NDArray[np.int64],
) -> int:
    """Write document, start, stop and kind of every span, not yet in order; the number found.

    Args:
        data: with PADDING bytes behind the last document.
        wanted: bit 1 << kind for every kind to look for.
        options: 1 public addresses only, 2 nothing near `isbn`, `doi` or `#`.
        countries: 1 for every country code of phones below 1000.
        ibans: length of an IBAN by the two letters of the country, 0 for none.
        words, rules: what known keys begin with and go on with (`pii`), one a row; then words of key blocks.
        spans_S4: when more are found than it has rows, those behind are only counted.
    """
    n = 0
    for d in range(offsets.shape[0] - 1):
        start, stop = offsets[d], offsets[d + 1]
        before = np.uint64(0)
        digits = digit_mask(data, start) & first_bits(min(BLOCK, stop - start))
        for base in range(start, stop, BLOCK):
            after = digit_mask(data, base + BLOCK) & first_bits(min(BLOCK, max(stop - base - BLOCK, 0)))
            if digits != 0 and wanted & _NUMBERS:
                n = _scan_numbers(
                    data,
                    base,
                    d,
                    start,
                    stop,
                    digits,
                    after,
                    before,
                    wanted,
                    options,
                    countries,
                    ibans,
                    n,
                    spans_S4,
                )
            n = _scan_words(data, base, d, start, stop, wanted, options, words, rules, n, spans_S4)
            before = digits >> np.uint64(63)
            digits = after
    return n


@kernel
def drop_overlaps(spans_S4: NDArray[np.int64], keep_S: NDArray[np.bool_]) -> None:
    """Keep of overlapping spans, sorted by document, start and falling stop, the first."""
    document, end = -1, 0
    for s in range(spans_S4.shape[0]):
        if spans_S4[s, 0] != document:
            document, end = spans_S4[s, 0], 0
        keep_S[s] = spans_S4[s, 1] >= end
        if keep_S[s]:
            end = spans_S4[s, 2]
