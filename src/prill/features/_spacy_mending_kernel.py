"""Put broken exceptions together again, as spaCy's last pass over the words of a document does.

Runs of neighbouring words that an exception would fall into are matched, also over a single blank; longer
runs win over shorter ones that they overlap, then those further left. A run within one piece becomes the
words of the exception; a run over a blank stays as it is, but has shut out the runs that it overlaps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, inlined_bare, set_bits
from prill.features._spacy_lookup import (
    BREAKS,
    BROKEN,
    CUTS,
    KINDS,
    MAX_STRING,
    N_LONGEST,
    broken_words,
    find_string,
)

__all__ = ["has_broken", "mend"]


@inlined_bare
def has_broken(
    data: NDArray[np.uint8],
    base: int,
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    stop: int,
) -> bool:
    """Whether some run of the words first..stop of one piece is an exception with other words."""
    for i in range(first, stop - 1):
        begin = int(base + np.int64(starts[i]))
        n_longest = broken_words(strings, data[begin])
        breaks = np.uint64(1)
        for j in range(i + 1, min(stop, i + n_longest)):
            size = int(base + np.int64(ends[j]) - begin)
            if size > MAX_STRING:
                break
            breaks |= np.uint64(1) << np.uint64(base + np.int64(starts[j]) - begin)
            string = find_string(data, begin, begin + size, strings)
            is_broken = string >= 0 and strings[string + KINDS] & BROKEN
            if is_broken and strings[string + BREAKS] == breaks and strings[string + CUTS] != breaks:
                return True
    return False


@inlined
def mend(
    data: NDArray[np.uint8],
    base: int,
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    stop: int,
) -> int:
    """Mend the words first..stop of a document in their places; the new `stop`."""
    n_words = stop - first
    runs = np.zeros(n_words, np.uint32)
    text = np.zeros(MAX_STRING + 8, np.uint8)
    for i in range(n_words):
        if broken_words(strings, data[base + np.int64(starts[first + i])]) > 0:
            runs[i] = _runs_at(data, base, strings, starts, ends, first + i, stop, text)
    chosen = _choose(runs, N_LONGEST)
    n_new = 0
    for i in range(n_words):
        if chosen[i] > 0 and not _is_whole(starts, ends, first + i, chosen[i]):
            chosen[i] = 0
        if chosen[i] > 0:
            begin = int(base + np.int64(starts[first + i]))
            end = int(base + np.int64(ends[first + i + chosen[i] - 1]))
            n_new += set_bits(strings[find_string(data, begin, end, strings) + CUTS]) - chosen[i]
    room = max(n_new, 0)
    for i in range(n_words - 1, -1, -1):
        starts[first + room + i], ends[first + room + i] = starts[first + i], ends[first + i]
    return _rewrite(data, base, strings, starts, ends, first, first + room, chosen)


@inlined_bare
def _runs_at(
    data: NDArray[np.uint8],
    base: int,
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    at: int,
    stop: int,
    text: NDArray[np.uint8],
) -> np.uint32:
    """Bit k: the k words from `at` on are what an exception falls into; `text` is scratch."""
    found, size, breaks = np.uint32(0), 0, np.uint64(0)
    for j in range(at, min(stop, at + N_LONGEST)):
        gap = np.int64(starts[j]) - np.int64(ends[j - 1]) if j > at else 0
        n = int(np.int64(ends[j]) - np.int64(starts[j]))
        if gap > 1 or (gap == 1 and data[base + np.int64(ends[j - 1])] != 32) or size + n > MAX_STRING:
            break
        breaks |= np.uint64(1) << np.uint64(size)
        for k in range(n):
            text[size + k] = data[base + np.int64(starts[j]) + k]
        size += n
        string = find_string(text, 0, size, strings)
        if string >= 0 and strings[string + KINDS] & BROKEN and strings[string + BREAKS] == breaks:
            found |= np.uint32(1) << np.uint32(j - at + 1)
    return found


@inlined
def _choose(runs: NDArray[np.uint32], n_longest: int) -> NDArray[np.int64]:
    """How many words the run chosen at each word has, 0 for none."""
    n_words = len(runs)
    chosen, is_seen = np.zeros(n_words, np.int64), np.zeros(n_words, np.bool_)
    for size in range(n_longest, 0, -1):
        for i in range(n_words - size + 1):
            if (runs[i] >> np.uint32(size)) & np.uint32(1):
                if not is_seen[i] and not is_seen[i + size - 1]:
                    chosen[i] = size
                is_seen[i : i + size] = True
    return chosen


@inlined_bare
def _is_whole(starts: NDArray[np.uint32], ends: NDArray[np.uint32], at: int, size: int) -> bool:
    """Whether no blank lies between `size` words from `at` on."""
    is_whole = True
    for j in range(at + 1, at + size):
        is_whole &= starts[j] == ends[j - 1]
    return is_whole


@inlined_bare
def _rewrite(
    data: NDArray[np.uint8],
    base: int,
    strings: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    source: int,
    chosen: NDArray[np.int64],
) -> int:
    """Write the words that now lie from `source` on to `first` on, chosen runs mended; the end."""
    n, i = first, 0
    while i < len(chosen):
        begin = int(np.int64(starts[source + i]))
        end = int(np.int64(ends[source + i + max(chosen[i], 1) - 1]))
        cuts = np.uint64(1)
        if chosen[i] > 0:
            cuts = strings[find_string(data, base + begin, base + end, strings) + CUTS]
        at = begin
        for byte in range(begin + 1, end + 1):
            if byte == end or (chosen[i] > 0 and (cuts >> np.uint64(byte - begin)) & np.uint64(1)):
                starts[n], ends[n] = np.uint32(at), np.uint32(byte)
                n, at = n + 1, byte
        i += max(chosen[i], 1)
    return n
