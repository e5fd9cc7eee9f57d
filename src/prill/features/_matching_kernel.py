"""Text to a stream of hashed words, for comparing texts: lower-case, no punctuation, all scripts.

A chunk of a few kilobytes is lowered and classified as in `_text_kernel`, with the table of
`_matching_characters`; 64 bytes at a time give a mask of word bytes and a mask of bytes of characters that
are words by themselves. What remains of a word at the end of a chunk is carried into the next, so chunk
borders change nothing. Of a word longer than `WORD_BYTES` only so many bytes count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel, load64
from prill.features._text_kernel import PADDING, normalise
from prill.features._vector_kernel import STEP, put_positions, word_flags, word_mask

__all__ = ["CHUNK_BYTES", "ROOM", "WORD_BYTES", "chunk_words", "cut", "hash_texts", "locate", "widen"]

CHUNK_BYTES = 4096
WORD_BYTES = 256
"""Bytes of a word that its hash covers."""

ROOM = WORD_BYTES + 2 * CHUNK_BYTES + 2 * PADDING
"""Bytes of the buffers for one lowered chunk and its classes, and places for its words."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ALONE = np.uint64(0x2020202020202020)
_TOPS = np.uint64(0x8080808080808080)
_GATHER = np.uint64(0x0102040810204080)
_SEED = np.uint64(0x8CB92BA72F3D8DD7)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@inlined
def _hash_word(low: NDArray[np.uint8], start: np.int64, end: np.int64) -> np.uint64:
    """64-bit hash of low[start:end], eight bytes a step, the last step padded with zeros."""
    n = min(int(end - start), WORD_BYTES)
    h = _SEED ^ (np.uint64(n) * _LENGTH)
    while n > 8:
        h = np.uint64(fold(h ^ load64(low, start), _MIX))
        start += np.int64(8)
        n -= 8
    return np.uint64(fold(h ^ (load64(low, start) & (_ALL >> np.uint64(64 - 8 * n))), _MIX))


@inlined
def _alone_masks(
    low: NDArray[np.uint8], at: int, classes: NDArray[np.uint8], base: int
) -> tuple[np.uint64, np.uint64]:
    """Of 64 bytes: which belong to characters that are words by themselves, and which of these begin one."""
    alone, leads = np.uint64(0), np.uint64(0)
    for k in range(8):
        flags = load64(classes, base + 8 * k) & _ALONE
        if flags != 0:
            text = load64(low, at + 8 * k)
            begins = ~text | (text << np.uint64(1))  # top bit: not a continuation byte, 10xxxxxx
            first = (flags << np.uint64(2)) & begins & _TOPS
            place = np.uint64(8 * k)
            alone |= (((flags >> np.uint64(5)) * _GATHER) >> np.uint64(56)) << place
            leads |= (((first >> np.uint64(7)) * _GATHER) >> np.uint64(56)) << place
    return alone, leads


@inlined
def _find_words(
    low: NDArray[np.uint8],
    n_new: int,
    n_held: int,
    classes: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    last_word: np.uint64,
    last_alone: np.uint64,
) -> tuple[int, np.uint64, np.uint64]:
    """Bounds of the words in low[:n_held + n_new]; their number, and the classes of the last byte.

    Bytes below n_held are an unfinished word, whose start is in starts[0]; the last word may be unfinished.
    """
    n_starts, n_ends = min(n_held, 1), 0
    word_before, alone_before = last_word, last_alone
    for base in range(0, n_new + 1, STEP):
        words = word_mask(low, n_held + base) | word_flags(classes, base)
        alone, leads = _alone_masks(low, n_held + base, classes, base)
        before = (words << np.uint64(1)) | word_before
        after_alone = (alone << np.uint64(1)) | alone_before
        begin = (words & ~before) | leads | (words & ~alone & after_alone)
        finish = before & (~words | begin)
        word_before, alone_before = words >> np.uint64(63), alone >> np.uint64(63)
        at = np.uint32(n_held + base)
        n_starts += put_positions(begin, starts, n_starts, at)
        n_ends += put_positions(finish, ends, n_ends, at)
        if base < n_new <= base + STEP:
            place = np.uint64(n_new - 1 - base)
            last_word, last_alone = (words >> place) & np.uint64(1), (alone >> place) & np.uint64(1)
    return n_ends, last_word, last_alone


@inlined
def cut(data: NDArray[np.uint8], start: int, stop: int) -> int:
    """End of the chunk that begins at `start`: between two code points, at most CHUNK_BYTES on."""
    end = min(start + CHUNK_BYTES, stop)
    while end < stop and end > start + 4 and (data[end] & 0xC0) == 0x80:
        end -= 1
    return end


@inlined
def chunk_words(
    data: NDArray[np.uint8],
    start: int,
    end: int,
    stop: int,
    characters: NDArray[np.uint64],
    low: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    state: tuple[int, np.uint64, np.uint64],
    words: NDArray[np.uint64],
    n_words: int,
) -> tuple[int, tuple[int, np.uint64, np.uint64]]:
    """Append the hashes of the words that data[start:end] ends, of a document that ends at `stop`.

    Args:
        low, classes, starts, ends: scratch, ROOM long each.
        state: bytes of an unfinished word in `low`, class bits of the byte before; zeros at the start.
        words: hashes, of which n_words are there; room for CHUNK_BYTES + 1 more.
    Returns:
        The number of words, and the state for the next chunk.
    """
    n_held, last_word, last_alone = state
    n_new = normalise(data, start, end, characters, low, n_held, classes)
    if n_held > 0:
        starts[0] = np.uint32(0)
    n_found, last_word, last_alone = _find_words(
        low, n_new, n_held, classes, starts, ends, last_word, last_alone
    )
    is_open = end < stop and last_word != 0
    n_whole = n_found - 1 if is_open else n_found
    for i in range(n_whole):
        words[n_words + i] = _hash_word(low, np.int64(starts[i]), np.int64(ends[i]))
    n_held = 0
    if is_open:
        first = np.int64(starts[n_whole])
        n_held = min(int(np.int64(ends[n_whole]) - first), WORD_BYTES)
        for i in range(n_held):
            low[i] = low[first + i]
    return n_words + n_whole, (n_held, last_word, last_alone)


@kernel
def hash_texts(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], characters: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Word hashes of short texts: the bounds of each text's words, int64, (D + 1,), and the words, uint64."""
    low, classes = np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8)
    starts, ends = np.empty(ROOM, np.uint32), np.empty(ROOM, np.uint32)
    n_documents = offsets.shape[0] - 1
    bounds = np.zeros(n_documents + 1, np.int64)
    words = np.empty((offsets[n_documents] - offsets[0]) + CHUNK_BYTES + 1, np.uint64)
    n_words = 0
    for d in range(n_documents):
        i, stop = offsets[d], offsets[d + 1]
        state = (0, np.uint64(0), np.uint64(0))
        while i < stop:
            end = cut(data, i, stop)
            n_words, state = chunk_words(
                data, i, end, stop, characters, low, classes, starts, ends, state, words, n_words
            )
            i = end
        bounds[d + 1] = n_words
    return bounds, words[:n_words].copy()


@inlined
def _decode(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and the next position."""
    lead = int(data[at])
    n = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    code = lead if n == 1 else lead & (0x7F >> n)
    end = min(at + n, stop)
    for i in range(at + 1, end):
        code = (code << 6) | int(data[i] & 0x3F)
    return min(code, 0x10FFFF), end


@kernel
def locate(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    documents: NDArray[np.int64],
    ordinals: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> None:
    """Bytes, from the start of its document, of the word that is number ordinals[k] in documents[k].

    Args:
        documents, ordinals: in ascending order.
        starts, stops: become first byte and byte behind of each.
    """
    k, n = 0, documents.shape[0]
    while k < n:
        d = documents[k]
        first, stop = offsets[d], offsets[d + 1]
        at, ordinal = first, -1  # of the word that is open, or was last
        in_word, after_alone, word_stop = False, False, first
        while at < stop and k < n and documents[k] == d:
            code, after = _decode(data, at, stop)
            entry = characters[code]
            n_low = (entry >> np.uint64(32)) & np.uint64(7)
            if n_low == 0:  # invisible: part of nothing
                at = after
                continue
            flags = (entry >> np.uint64(40)) & np.uint64(0xFF)
            is_word, alone = (flags & np.uint64(0x80)) != 0, (flags & np.uint64(0x20)) != 0
            if in_word and (not is_word or alone or after_alone):
                in_word = False
                while k < n and documents[k] == d and ordinals[k] == ordinal:
                    stops[k] = word_stop - first
                    k += 1
            if is_word and not in_word:
                ordinal += 1
                in_word = True
                j = k
                while j < n and documents[j] == d and ordinals[j] == ordinal:
                    starts[j] = at - first
                    j += 1
            after_alone = alone
            word_stop = after
            at = after
        while k < n and documents[k] == d:
            stops[k] = word_stop - first
            k += 1


@kernel
def widen(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    n_characters: int,
) -> None:
    """Move bounds outwards by so many characters, at most to the ends of their documents."""
    for k in range(documents.shape[0]):
        first, stop = offsets[documents[k]], offsets[documents[k] + 1]
        a, b = first + starts[k], first + stops[k]
        left, right = n_characters, n_characters
        while left > 0 and a > first:
            a -= 1
            left -= 1 if (data[a] & 0xC0) != 0x80 else 0
        while right > 0 and b < stop:
            b += 1
            right -= 1 if b >= stop or (data[b] & 0xC0) != 0x80 else 0
        starts[k], stops[k] = a - first, b - first
