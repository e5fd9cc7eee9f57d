"""E-mail addresses, addresses of IP version 6, keys and secrets, checked around a byte that gives them away.

Every check returns the span, (0, 0) for none, and reads a bounded number of bytes, or bytes that no other
check of its kind reads again. The plain grammars are in `_pii_oracle`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined
from prill.features._pii_number_kernel import is_alnum, is_digit, is_word

__all__ = ["CAPITALS", "MIXED", "email_at", "ip6_at", "secret_at"]

_DOT, _DASH, _COLON, _SPACE, _UNDERSCORE = 46, 45, 58, 32, 95
MIXED, CAPITALS = 1, 2
"""What a known key may ask for besides its length."""

_DASHES, _UNDERSCORES = 1, 2
_BOTH = _DASHES | _UNDERSCORES
_MOST_KEY_BYTES = 16_384
_MOST_TOKEN_BYTES = 8_192


@inlined
def _latin_before(data: NDArray[np.uint8], at: int, start: int) -> int:
    """Bytes, 1, 2 or 0, of the ASCII or Latin letter or digit that ends before `at`."""
    if at <= start:
        return 0
    if is_alnum(data[at - 1]):
        return 1
    return 2 if at - 2 >= start and data[at - 1] & 0xC0 == 0x80 and 0xC3 <= data[at - 2] <= 0xC9 else 0


@inlined
def _latin_after(data: NDArray[np.uint8], at: int, stop: int) -> int:
    """Bytes, 1, 2 or 0, of the ASCII or Latin letter or digit at `at`."""
    if at >= stop:
        return 0
    if is_alnum(data[at]):
        return 1
    return 2 if at + 2 <= stop and 0xC3 <= data[at] <= 0xC9 else 0


@inlined
def _is_picture(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether a last label is `png`, `jpg`, `jpeg`, `gif`, `svg` or `webp`, as in `logo@2x.png`."""
    word = np.uint64(0)
    if stop - start > 4:
        return False
    for i in range(start, stop):
        word = (word << np.uint64(8)) | np.uint64(data[i] | 0x20)
    return bool(
        word == np.uint64(0x706E67)
        or word == np.uint64(0x6A7067)
        or word == np.uint64(0x6A706567)
        or word == np.uint64(0x676966)
        or word == np.uint64(0x737667)
        or word == np.uint64(0x77656270)
    )


@inlined
def email_at(data: NDArray[np.uint8], at: int, start: int, stop: int) -> tuple[int, int]:
    """The address around the `@` at `at`: up to 64 characters, then a domain whose last label is letters."""
    first, n_local = at, 0
    while first > start and n_local <= 64:
        n = _latin_before(data, first, start)
        if n == 0:
            byte = data[first - 1]
            n = 1 if byte in (_DOT, _DASH, _UNDERSCORE, 0x25, 0x2B) else 0
        if n == 0:
            break
        first -= n
        n_local += 1
    if n_local > 64:
        return 0, 0
    while first < at and data[first] in (_DOT, _DASH):
        first += 1
    if first == at:
        return 0, 0
    end, n_labels, i = 0, 0, at + 1
    limit = min(stop, at + 254)
    while True:
        label, only_letters, n_letters, last = i, True, 0, np.uint8(0)
        while i < limit:
            n = _latin_after(data, i, limit)
            if n == 0 and not (data[i] == _DASH and i > label):
                break
            n = max(n, 1)
            last = data[i]
            only_letters &= n == 2 or not (is_digit(data[i]) or data[i] == _DASH)
            n_letters += 1
            i += n
        if i == label or last == _DASH:
            break
        n_labels += 1
        if n_labels > 1 and only_letters and 2 <= n_letters <= 24 and not _is_picture(data, label, i):
            end = i
        if i >= limit or data[i] != _DOT:
            break
        i += 1
    return (first, end) if end > 0 else (0, 0)


@inlined
def _hex(byte: np.uint8) -> int:
    """Value of a hexadecimal digit; -1 for another byte."""
    if 0x30 <= byte <= 0x39:
        return int(byte) - 0x30
    low = int(byte | 0x20)
    return low - 0x57 if 0x61 <= low <= 0x66 else -1


@inlined
def ip6_at(data: NDArray[np.uint8], at: int, start: int, stop: int, public_only: int) -> tuple[int, int]:
    """The run of hexadecimal digits and colons whose first colon is at `at`, where it is an address."""
    first = at
    while first > start and at - first <= 4 and _hex(data[first - 1]) >= 0:
        first -= 1
    if at - first > 4 or (first > start and (is_word(data[first - 1]) or data[first - 1] in (_COLON, _DOT))):
        return 0, 0
    i, n_groups, gap, lead, second = first, 0, False, 0, 0
    end = first
    while i < stop and i - first < 48:
        value, n = 0, 0
        while i < stop and n <= 4 and _hex(data[i]) >= 0:
            value = 16 * value + _hex(data[i])
            n += 1
            i += 1
        if n > 4 or (n == 0 and n_groups > 0 and not gap):
            return 0, 0
        if n > 0:
            lead = value if n_groups == 0 and not gap else lead
            second = value if n_groups == 1 and not gap else second
            n_groups += 1
            end = i
        if i >= stop or data[i] != _COLON:
            break
        if i + 1 < stop and data[i + 1] == _COLON:
            if gap:
                return 0, 0
            gap = True
            i += 2
            end = i
            if i >= stop or _hex(data[i]) < 0:
                break
        elif i + 1 < stop and _hex(data[i + 1]) >= 0:
            i += 1
        else:
            break
    if i < stop and (is_word(data[i]) or (data[i] == _DOT and i + 1 < stop and is_digit(data[i + 1]))):
        return 0, 0
    if end < stop and data[end] == _COLON and end + 1 < stop and data[end + 1] == _COLON:
        return 0, 0
    if n_groups > 8 or (n_groups < 8 and not gap) or (gap and n_groups > 7) or n_groups < 2:
        return 0, 0
    if public_only != 0:
        documentation = (lead == 0x2001 and second == 0x0DB8) or (lead == 0x3FFF and second < 0x1000)
        if not 0x2000 <= lead <= 0x3FFF or documentation:
            return 0, 0
    elif n_groups < 3:
        return 0, 0
    return first, end


@inlined
def _run_end(data: NDArray[np.uint8], at: int, stop: int, others: int, most: int) -> int:
    """End of the run of letters, digits and `others` at `at`, at most `most` + 1 bytes."""
    i = at
    while i < stop and i - at <= most:
        byte = data[i]
        is_other = (byte == _DASH and others & _DASHES) or (byte == _UNDERSCORE and others & _UNDERSCORES)
        if not (is_alnum(byte) or is_other):
            break
        i += 1
    return i


@inlined
def _has(data: NDArray[np.uint8], at: int, stop: int, word: NDArray[np.uint8]) -> bool:
    """Whether data[at:stop] begins with `word`."""
    if at + word.shape[0] > stop:
        return False
    same = True
    for k in range(word.shape[0]):
        same &= data[at + k] == word[k]
    return bool(same)


@inlined
def _is_mixed(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether digits, capitals and small letters all occur."""
    digit = upper = lower = False
    for i in range(start, stop):
        digit |= is_digit(data[i])
        upper |= 0x41 <= data[i] <= 0x5A
        lower |= 0x61 <= data[i] <= 0x7A
    return bool(digit and upper and lower)


@inlined
def _sized(first: int, at: int, end: int, least: int, most: int) -> tuple[int, int]:
    """The span first:end when least to most bytes lie behind `at`."""
    return (first, end) if least <= end - at <= most else (0, 0)


@inlined
def _web_token(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Three parts joined by dots, the first two of them JSON in base64: `eyJ...`."""
    i = _run_end(data, at, stop, _BOTH, _MOST_TOKEN_BYTES)
    if i - at < 13 or i - at > _MOST_TOKEN_BYTES or i + 4 > stop or data[i] != _DOT:
        return 0, 0
    second = i + 1
    if not (data[second] == 0x65 and data[second + 1] == 0x79 and data[second + 2] == 0x4A):
        return 0, 0
    i = _run_end(data, second, stop, _BOTH, _MOST_TOKEN_BYTES)
    if i - second < 13 or i - second > _MOST_TOKEN_BYTES or i >= stop or data[i] != _DOT:
        return 0, 0
    third = i + 1
    i = _run_end(data, third, stop, _BOTH, _MOST_TOKEN_BYTES)
    return _sized(at, third, i, 10, _MOST_TOKEN_BYTES)


@inlined
def _capitals_end(data: NDArray[np.uint8], at: int, stop: int) -> int:
    """Behind capitals, digits and spaces, at most 55, and five dashes; 0 where that is not what follows."""
    i = at
    while i < stop and i - at < 55 and (is_digit(data[i]) or 0x41 <= data[i] <= 0x5A or data[i] == _SPACE):
        i += 1
    if i + 5 > stop:
        return 0
    for k in range(i, i + 5):
        if data[k] != _DASH:
            return 0
    return i + 5


@inlined
def _private_key(data: NDArray[np.uint8], at: int, stop: int, words: NDArray[np.uint8]) -> tuple[int, int]:
    """From `-----BEGIN ... PRIVATE KEY-----` to the block's end; that line alone where it has none."""
    begin, end_word, private = words[-3, :11], words[-2, :9], words[-1, :11]
    if not _has(data, at, stop, begin):
        return 0, 0
    line, found = _capitals_end(data, at + 11, stop), False
    for i in range(at + 11, line - 15):
        found |= _has(data, i, line, private)
    if not found:
        return 0, 0
    for i in range(line, min(stop, line + _MOST_KEY_BYTES)):
        if data[i] == _DASH:
            if _has(data, i, stop, begin):
                break
            end = _capitals_end(data, i + 9, stop) if _has(data, i, stop, end_word) else 0
            if end > 0:
                return at, end
    return at, line


@inlined
def _mail_token(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """`SG.`, 22 bytes, a dot and 43 bytes."""
    middle = _run_end(data, at + 3, stop, _BOTH, 32)
    if middle - at != 25 or middle >= stop or data[middle] != _DOT:
        return 0, 0
    return _sized(at, middle + 1, _run_end(data, middle + 1, stop, _BOTH, 64), 43, 43)


@inlined
def _known_token(
    data: NDArray[np.uint8], at: int, stop: int, words: NDArray[np.uint8], rules: NDArray[np.int64]
) -> tuple[int, int]:
    """A key that its first letters name, by the table of `pii`; nothing of a word stands before `at`."""
    if data[at] == 0x65:  # eyJ
        return _web_token(data, at, stop)
    if data[at] == 0x53:  # SG.
        return _mail_token(data, at, stop)
    for k in range(rules.shape[0]):
        n, others, least, most, special = rules[k]
        if data[at] == words[k, 0] and _has(data, at, stop, words[k, :n]):
            end = _run_end(data, at + n, stop, others, most)
            first, end = _sized(at, at + n, end, least, most)
            if special == MIXED and not _is_mixed(data, at + n, end):
                return 0, 0
            for i in range(at, end):
                if special == CAPITALS and not (is_digit(data[i]) or 0x41 <= data[i] <= 0x5A):
                    return 0, 0
            return first, end
    return 0, 0


@inlined
def _is_high(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether letters and digits occur and the bytes have at least 3.5 bits of entropy each."""
    digit = letter = False
    seen = np.zeros(128, np.int64)
    for i in range(start, stop):
        digit |= is_digit(data[i])
        letter |= is_alnum(data[i]) and not is_digit(data[i])
        seen[data[i] & 0x7F] += 1
    if not (digit and letter):
        return False
    total, n = 0.0, float(stop - start)
    for k in range(128):
        if seen[k] > 0:
            total -= seen[k] * np.log2(seen[k] / n)
    return total >= 3.5 * n


@inlined
def _is_name(data: NDArray[np.uint8], at: int, start: int, stop: int) -> bool:
    """Whether `key`, `secret`, `token`, `password` or `pwd` is named around the three letters at `at`."""
    one, two = data[at] | 0x20, data[at + 1] | 0x20
    if one == 0x6B and two == 0x65:  # key, behind api, access, secret, private or auth
        before = at - 1 if at > start and data[at - 1] in (_UNDERSCORE, _DASH) else at
        if before - 3 < start:
            return False
        word = np.uint64(0)
        for i in range(before - 3, before):
            word = (word << np.uint64(8)) | np.uint64(data[i] | 0x20)
        return bool(
            word == np.uint64(0x617069)
            or word == np.uint64(0x657373)
            or word == np.uint64(0x726574)
            or word == np.uint64(0x617465)
            or word == np.uint64(0x757468)
        )
    if one == 0x65 and two == 0x63:  # secret
        return (
            at - 1 >= start
            and at + 5 <= stop
            and data[at - 1] | 0x20 == 0x73
            and data[at + 3] | 0x20 == 0x65
            and data[at + 4] | 0x20 == 0x74
        )
    if one == 0x6F and two == 0x6B:  # token
        return (
            at - 1 >= start and at + 4 <= stop and data[at - 1] | 0x20 == 0x74 and data[at + 3] | 0x20 == 0x6E
        )
    if one == 0x73 and two == 0x73:  # password, passwd
        return at - 2 >= start and data[at - 2] | 0x20 == 0x70 and data[at - 1] | 0x20 == 0x61
    return bool(one == 0x70 and two == 0x77)  # pwd


@inlined
def _assigned(data: NDArray[np.uint8], at: int, start: int, stop: int) -> tuple[int, int]:
    """The quoted value behind a name of a secret, `=` or `:`, where it looks drawn at random."""
    if not _is_name(data, at, start, stop):
        return 0, 0
    i = _run_end(data, at, stop, _BOTH, 32)
    if i < stop and data[i] in (0x22, 0x27):
        i += 1
    for _ in range(3):
        i += 1 if i < stop and data[i] == _SPACE else 0
    if i >= stop or data[i] not in (0x3D, _COLON):
        return 0, 0
    i += 2 if i + 1 < stop and data[i] == _COLON and data[i + 1] == 0x3D else 1
    for _ in range(3):
        i += 1 if i < stop and data[i] == _SPACE else 0
    if i >= stop or data[i] not in (0x22, 0x27):
        return 0, 0
    quote, first = data[i], i + 1
    end = first
    while (
        end < stop
        and end - first <= 128
        and 0x21 <= data[end] <= 0x7E
        and data[end] not in (0x22, 0x27, 0x5C)
    ):
        end += 1
    if end >= stop or data[end] != quote or not 16 <= end - first <= 128:
        return 0, 0
    return (first, end) if _is_high(data, first, end) else (0, 0)


@inlined
def secret_at(
    data: NDArray[np.uint8],
    at: int,
    start: int,
    stop: int,
    words: NDArray[np.uint8],
    rules: NDArray[np.int64],
) -> tuple[int, int]:
    """The key or secret that the three bytes at `at` announce."""
    if at + 3 > stop:
        return 0, 0
    if data[at] == _DASH:
        return _private_key(data, at, stop, words)
    if at == start or not (is_word(data[at - 1]) or data[at - 1] == _DASH):
        first, end = _known_token(data, at, stop, words, rules)
        if end > 0:
            return first, end
    return _assigned(data, at, start, stop)
