"""Cut documents into words by the tables of `_pretoken_table`, a table entry a character.

Most words end without a branch: the place is written for every character and the counter moves on only where
a word ends. Steps back (white space before a word gives up its last character) take a rare path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel, load64

__all__ = ["cut_at_phrases", "decode", "mark_changed", "mark_phrases", "split_text"]

_OTHER = np.uint32(255)
_MATCH = np.uint32(1 << 31)
_BACK = np.uint32(1 << 29)
_STATE = np.uint32((1 << 24) - 1)
_NOT_ASCII = np.uint64(0x8080808080808080)


@inlined
def decode(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and the place behind it; never reads at or beyond `stop`, whatever the bytes are."""
    lead = np.int64(data[at])
    if lead < 0x80:
        n, code = 1, lead
    elif lead < 0xE0:
        n, code = 2, lead & 0x1F
    elif lead < 0xF0:
        n, code = 3, lead & 0x0F
    else:
        n, code = 4, lead & 0x07
    end = min(at + n, stop)
    for i in range(at + 1, end):
        code = (code << 6) | np.int64(data[i] & np.uint8(0x3F))
    return min(code, 0x10FFFF), end


@inlined
def _match_end(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    entries: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    n_classes: int,
) -> int:
    """Where the match that begins at `start` ends; `start` when there is none."""
    state, at, last = np.uint32(0), start, start
    while True:
        after, c = at, np.uint32(n_classes - 1)
        if at < stop:
            code, after = decode(data, at, stop)
            c = np.uint32(classes[code])
        entry = entries[state + c]
        if entry & _MATCH:
            last = at
            if (entry >> np.uint32(30)) & np.uint32(1):
                return last
        if (entry & _BACK) or at >= stop:
            return last
        state, at = entry & _STATE, after


@inlined
def _behind_gap(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    entries: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    n_classes: int,
) -> int:
    """The first place behind `start` where a match begins, or `stop`."""
    at = start
    while at < stop:
        _, at = decode(data, at, stop)
        if at < stop and _match_end(data, at, stop, entries, classes, n_classes) > at:
            return at
    return stop


@inlined
def split_text(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    split: tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint8], int],
    ends: NDArray[np.int64],
    n_ends: int,
) -> tuple[int, int]:
    """Append the ends of the words of data[start:stop] to `ends` from n_ends on.

    Args:
        split: entries and classes of one `SplitTable`, the classes of the first 128 code points with 255 for
            other bytes, shape (256,), and its n_classes.
        ends: room for n_ends + (stop - start) + 1 places.
    Returns:
        The new number of ends, and the number of gaps: words made of what the pattern does not match.
    """
    entries, classes, ascii_classes, n_classes = split
    state, at, last, begin, n, n_gaps = np.uint32(0), start, start, start, n_ends, 0
    end_of_text = np.uint32(n_classes - 1)
    while begin < stop:
        after, c = at + 1, end_of_text
        if at < stop:
            c = np.uint32(ascii_classes[data[at]])
            if c == _OTHER:
                code, after = decode(data, at, stop)
                c = np.uint32(classes[code])
        entry = entries[state + c]
        last = at if entry & _MATCH else last
        ends[n] = at
        is_end = np.int64((entry >> np.uint32(30)) & np.uint32(1))
        n += is_end
        begin = at if is_end else begin
        if entry & _BACK:
            if last == begin:
                last = _behind_gap(data, begin, stop, entries, classes, n_classes)
                n_gaps += 1
            ends[n] = last
            n += 1
            begin, after, entry = last, last, np.uint32(0)
        state, at = entry & _STATE, after
    return n, n_gaps


@inlined
def _first_bytes(pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    begins = np.zeros(256, np.bool_)
    for first in range(256):
        for second in range(256):
            begins[first] |= pairs[first * 256 + second]
    return begins


@inlined
def _phrase_at(
    data: NDArray[np.uint8],
    at: int,
    stop: int,
    pairs: NDArray[np.bool_],
    phrases: NDArray[np.uint8],
    phrase_offsets: NDArray[np.int64],
) -> int:
    """The first phrase of the list that stands at `at`, or -1."""
    if at + 1 < stop and not pairs[np.int64(data[at]) * 256 + np.int64(data[at + 1])]:
        return -1
    for k in range(phrase_offsets.shape[0] - 1):
        first, n = phrase_offsets[k], phrase_offsets[k + 1] - phrase_offsets[k]
        same = 0
        while same < n and at + same < stop and data[at + same] == phrases[first + same]:
            same += 1
        if same == n:
            return k
    return -1


@kernel
def mark_phrases(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    pairs: NDArray[np.bool_],
    phrases: NDArray[np.uint8],
    phrase_offsets: NDArray[np.int64],
    found_D: NDArray[np.bool_],
) -> None:
    """Set found_D where a document holds one of the phrases.

    Args:
        pairs: whether some phrase begins with two bytes (first x 256 + second), shape (65536,); a phrase of
            one byte sets all that begin with it.
        phrases: the bytes of all phrases, phrase_offsets[k] to phrase_offsets[k + 1].
    """
    begins = _first_bytes(pairs)
    for d in range(found_D.shape[0]):
        at, stop = offsets[d], offsets[d + 1]
        while at < stop and not found_D[d]:
            if begins[data[at]]:
                found_D[d] = _phrase_at(data, at, stop, pairs, phrases, phrase_offsets) >= 0
            at += 1


@kernel
def cut_at_phrases(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    is_cut_D: NDArray[np.bool_],
    pairs: NDArray[np.bool_],
    phrases: NDArray[np.uint8],
    phrase_offsets: NDArray[np.int64],
    stops_S: NDArray[np.int64],
    kinds_S: NDArray[np.int64],
    owners_S: NDArray[np.int64],
) -> int:
    """Segments of all documents in order, phrases apart from the text between them; their number S.

    Args:
        is_cut_D: documents that are cut; all others are one segment.
        pairs, phrases, phrase_offsets: as in `mark_phrases`, the longest phrases first.
        stops_S, kinds_S, owners_S: become the end of each segment, its phrase or -1, and its document; empty
            ones only have the segments counted.
    """
    begins = _first_bytes(pairs)
    n, wants = 0, stops_S.shape[0] > 0
    for d in range(is_cut_D.shape[0]):
        at, stop, begin = offsets[d], offsets[d + 1], offsets[d]
        while is_cut_D[d] and at < stop:
            k = -1
            if begins[data[at]]:
                k = _phrase_at(data, at, stop, pairs, phrases, phrase_offsets)
            if k < 0:
                at += 1
                continue
            if at > begin:
                if wants:
                    stops_S[n], kinds_S[n], owners_S[n] = at, -1, d
                n += 1
            at += phrase_offsets[k + 1] - phrase_offsets[k]
            if wants:
                stops_S[n], kinds_S[n], owners_S[n] = at, k, d
            n += 1
            begin = at
        if begin < stop or offsets[d] == stop:
            if wants:
                stops_S[n], kinds_S[n], owners_S[n] = stop, -1, d
            n += 1
    return n


@kernel
def mark_changed(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    changes: NDArray[np.bool_],
    found_D: NDArray[np.bool_],
) -> None:
    """Set found_D where a document holds a character of `changes` (bool, shape (0x110000,)) beyond ASCII."""
    for d in range(found_D.shape[0]):
        at, stop = offsets[d], offsets[d + 1]
        while at < stop and not found_D[d]:
            if at + 8 <= stop and load64(data, at) & _NOT_ASCII == 0:
                at += 8
            elif data[at] < 0x80:
                at += 1
            else:
                code, at = decode(data, at, stop)
                found_D[d] |= changes[code]
