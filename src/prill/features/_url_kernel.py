"""URLs as bytes: the normal form of plain ones, the parts of all, and the words in them.

`normalise_plain` handles URLs of printable ASCII with a plain host, nearly all there are, and flags every
other one for Python (`urls.normalise_url`, which also defines what the normal form is).

Legend: D URLs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel

__all__ = ["FNV_PRIME", "FNV_START", "count_words", "find_parts", "normalise_plain", "url_counts"]

FNV_START = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)

_SLASH, _QUESTION, _HASH, _COLON, _DOT = 47, 63, 35, 58, 46
_AND, _EQUALS, _PERCENT = 38, 61, 37


@inlined
def _lower(byte: np.uint8) -> np.uint8:
    return np.uint8(byte | 0x20) if 0x41 <= byte <= 0x5A else byte


@inlined
def _is_digit(byte: np.uint8) -> bool:
    return bool(0x30 <= byte <= 0x39)


@inlined
def _is_plain(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether all bytes are printable ASCII other than backslash."""
    plain = True
    for i in range(start, stop):
        plain &= 0x21 <= data[i] <= 0x7E and data[i] != 0x5C
    return bool(plain)


@inlined
def _after_scheme(data: NDArray[np.uint8], start: int, stop: int) -> int:
    """Where the authority of an http or https URL begins; -1 for other URLs."""
    if stop - start < 8:
        return -1
    word = np.uint64(0)
    for i in range(start, start + 4):
        word = (word << np.uint64(8)) | np.uint64(_lower(data[i]))
    if word != np.uint64(0x68747470):  # http
        return -1
    i = start + 4
    if data[i] | 0x20 == 0x73:
        i += 1
    if i + 3 <= stop and data[i] == _COLON and data[i + 1] == _SLASH and data[i + 2] == _SLASH:
        return i + 3
    return -1


@inlined
def _is_plain_host(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether the host is made of letters, digits, `-`, `_` and single dots, without a label in punycode."""
    if stop == start or data[start] == _DOT or data[stop - 1] == _DOT:
        return False
    for i in range(start, stop):
        byte = _lower(data[i])
        letter = 0x61 <= byte <= 0x7A or _is_digit(byte) or byte == 0x5F
        if not (letter or byte == 0x2D or (byte == _DOT and data[i - 1] != _DOT)):
            return False
        if byte == 0x2D and i + 1 < stop and data[i + 1] == 0x2D:  # xn-- and the like
            return False
    return True


@inlined
def _key_hash(data: NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    h = FNV_START
    for i in range(start, stop):
        h = (h ^ np.uint64(_lower(data[i]))) * FNV_PRIME
    return h


@inlined
def _is_tracking(data: NDArray[np.uint8], start: int, stop: int, tracking: NDArray[np.uint64]) -> bool:
    """Whether the parameter data[start:stop] has a tracking key: `utm_...` or one of the hashed ones."""
    end = start
    while end < stop and data[end] != _EQUALS:
        end += 1
    if end - start >= 4:
        word = np.uint64(0)
        for i in range(start, start + 4):
            word = (word << np.uint64(8)) | np.uint64(_lower(data[i]))
        if word == np.uint64(0x75746D5F):  # utm_
            return True
    h = _key_hash(data, start, end)
    found = False
    for k in range(tracking.shape[0]):
        found |= tracking[k] == h
    return bool(found)


@inlined
def _put_query(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    out: NDArray[np.uint8],
    at: int,
    tracking: NDArray[np.uint64],
) -> int:
    """Write `?` and the parameters that stay; the next free place."""
    separator = np.uint8(_QUESTION)
    i = start
    while i < stop:
        end = i
        while end < stop and data[end] != _AND:
            end += 1
        if end > i and not _is_tracking(data, i, end, tracking):
            out[at] = separator
            separator = np.uint8(_AND)
            at += 1
            for j in range(i, end):
                out[at] = data[j]
                at += 1
        i = end + 1
    return at


@inlined
def _put_url(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    out: NDArray[np.uint8],
    at: int,
    tracking: NDArray[np.uint64],
) -> int:
    """Write the normal form of data[start:stop]; the next free place, or -1 when it is not plain."""
    host = _after_scheme(data, start, stop)
    if host < 0 or not _is_plain(data, start, stop):
        return -1
    end = host
    while end < stop and data[end] not in (_SLASH, _QUESTION, _HASH, _COLON):
        end += 1
    if not _is_plain_host(data, host, end):
        return -1
    for i in range(start, end):
        out[at] = _lower(data[i])
        at += 1
    path, port = end, 0
    if end < stop and data[end] == _COLON:
        path += 1
        while path < stop and data[path] not in (_SLASH, _QUESTION, _HASH):
            if not _is_digit(data[path]) or port > 65_535:
                return -1
            port = 10 * port + int(data[path]) - 0x30
            path += 1
        default = 443 if host - start == 8 else 80
        if port != default and path > end + 1:
            for i in range(end, path):
                out[at] = data[i]
                at += 1
    if path == stop or data[path] != _SLASH:
        out[at] = _SLASH
        at += 1
    while path < stop and data[path] != _QUESTION and data[path] != _HASH:
        out[at] = data[path]
        at += 1
        path += 1
    if path < stop and data[path] == _QUESTION:
        query = path + 1
        while path < stop and data[path] != _HASH:
            path += 1
        at = _put_query(data, query, path, out, at, tracking)
    return at


@kernel
def normalise_plain(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    tracking: NDArray[np.uint64],
    out_offsets: NDArray[np.int64],
    out: NDArray[np.uint8],
    is_other_D: NDArray[np.bool_],
) -> None:
    """Write the normal forms of plain URLs; an empty text and a flag for all others.

    Args:
        tracking: FNV-1a of the lower-case tracking keys.
        out: room for the input and one byte more a URL.
    """
    at = 0
    out_offsets[0] = 0
    for d in range(offsets.shape[0] - 1):
        end = _put_url(data, offsets[d], offsets[d + 1], out, at, tracking)
        is_other_D[d] = end < 0
        if end >= 0:
            at = end
        out_offsets[d + 1] = at


@kernel
def find_parts(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    host_D2: NDArray[np.int64],
    path_D2: NDArray[np.int64],
    extension_D2: NDArray[np.int64],
    port_D: NDArray[np.int32],
) -> None:
    """Where host, path and file extension of normalised URLs stand in `data`; start = stop where none.

    The extension is behind the last dot of the last path segment, one to five letters and digits with a
    letter among them.
    """
    for d in range(offsets.shape[0] - 1):
        start, stop = offsets[d], offsets[d + 1]
        for spans in (host_D2, path_D2, extension_D2):
            spans[d, 0] = spans[d, 1] = start
        port_D[d] = -1
        i = start
        while i + 2 < stop and not (data[i] == _COLON and data[i + 1] == _SLASH and data[i + 2] == _SLASH):
            if data[i] in (_SLASH, _QUESTION, _HASH):
                i = stop
            i += 1
        if i + 2 >= stop:
            continue
        host = i + 3
        end = host
        while end < stop and data[end] != _SLASH and data[end] != _QUESTION:
            end += 1
        colon = end
        while colon > host and _is_digit(data[colon - 1]):
            colon -= 1
        host_stop = end
        if colon > host and data[colon - 1] == _COLON and end - colon in (1, 2, 3, 4, 5):
            host_stop = colon - 1
            port = 0
            for k in range(colon, end):
                port = 10 * port + int(data[k]) - 0x30
            port_D[d] = port
        host_D2[d, 0], host_D2[d, 1] = host, host_stop
        path_stop = end
        while path_stop < stop and data[path_stop] != _QUESTION:
            path_stop += 1
        path_D2[d, 0], path_D2[d, 1] = end, path_stop
        dot = path_stop - 1
        letters = 0
        while dot > end and path_stop - dot <= 6 and data[dot] != _DOT and data[dot] != _SLASH:
            byte = _lower(data[dot])
            if not (_is_digit(byte) or 0x61 <= byte <= 0x7A):
                break
            letters += 1 if byte >= 0x61 else 0
            dot -= 1
        if dot > end and data[dot] == _DOT and letters > 0 and 1 < path_stop - dot <= 6:
            extension_D2[d, 0], extension_D2[d, 1] = dot + 1, path_stop


@kernel
def url_counts(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    host_D2: NDArray[np.int64],
    path_D2: NDArray[np.int64],
    information: NDArray[np.float64],
    host_depth_D: NDArray[np.int16],
    path_depth_D: NDArray[np.int16],
    n_escapes_D: NDArray[np.int16],
    n_keys_D: NDArray[np.int16],
    digit_share_D: NDArray[np.float32],
    entropy_D: NDArray[np.float32],
) -> None:
    """The countable features of normalised URLs; `information` holds n * log2(n), n up to a limit."""
    limit = information.shape[0] - 1
    seen = np.zeros(256, np.int32)
    for d in range(offsets.shape[0] - 1):
        start, stop = offsets[d], min(offsets[d + 1], offsets[d] + limit)
        seen[:] = 0
        for i in range(start, stop):
            seen[data[i]] += 1
        total, n = 0.0, max(stop - start, 1)
        for byte in range(256):
            total += information[seen[byte]]
        entropy_D[d] = (information[n] - total) / n
        digits = 0
        for byte in range(0x30, 0x3A):
            digits += int(seen[byte])
        digit_share_D[d] = digits / n
        n_escapes_D[d] = min(seen[_PERCENT], 32767)
        labels = 1 if host_D2[d, 1] > host_D2[d, 0] else 0
        for i in range(host_D2[d, 0], host_D2[d, 1]):
            labels += data[i] == _DOT
        host_depth_D[d] = min(labels, 32767)
        segments = 0
        for i in range(path_D2[d, 0], path_D2[d, 1]):
            segments += data[i] == _SLASH and i + 1 < path_D2[d, 1] and data[i + 1] != _SLASH
        path_depth_D[d] = min(segments, 32767)
        query = path_D2[d, 1]
        keys = 1 if query < offsets[d + 1] and path_D2[d, 1] > path_D2[d, 0] else 0
        for i in range(query, offsets[d + 1]):
            keys += data[i] == _AND
        n_keys_D[d] = min(keys, 32767)


@kernel
def count_words(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    words: NDArray[np.uint64],
    n_found_D: NDArray[np.int16],
) -> None:
    """How many different listed words stand in each URL; a word is a run of ASCII letters and digits.

    Args:
        words: FNV-1a of the lower-case words, sorted.
    """
    found = np.zeros(64, np.int64)
    for d in range(offsets.shape[0] - 1):
        n_found, i, stop = 0, offsets[d], offsets[d + 1]
        while i < stop:
            h, start = FNV_START, i
            while i < stop:
                byte = _lower(data[i])
                if not (_is_digit(byte) or 0x61 <= byte <= 0x7A):
                    break
                h = (h ^ np.uint64(byte)) * FNV_PRIME
                i += 1
            if i > start:
                k = np.searchsorted(words, h)
                if k < words.shape[0] and words[k] == h and n_found < 64:
                    known = False
                    for j in range(n_found):
                        known |= found[j] == k
                    if not known:
                        found[n_found] = k
                        n_found += 1
            i += 1
        n_found_D[d] = n_found
