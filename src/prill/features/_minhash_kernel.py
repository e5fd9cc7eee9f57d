"""MinHash of word n-grams straight from an Arrow text column: similarity sketches, band keys, shingle sets.

Words come as hashes from `_matching_kernel`. A shingle is the exclusive-or of n word hashes, each rotated by
its place, so that order counts; one multiplication mixes it. The signature is a similarity sketch: in round r
every shingle falls into one of K bins with a value above r, each bin keeps the least, and rounds end when no
bin can change any more. Nearly all documents of more than K ln K shingles end after the first round, at one
multiplication a shingle instead of K.

A document is worked off in chunks. A chunk takes part in as many rounds as the fullest bin so far asks for,
which gives the same sketch as the whole document at once, in memory that its length does not change.

Source: Dahlgaard, Knudsen, Thorup 2017, "Fast similarity sketching", arXiv:1704.04370, section 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel
from prill.features._matching_kernel import ROOM, chunk_words, cut

__all__ = ["put_keys", "shingle_sets", "sign"]

_ROTATION = 11  # odd, so that 64 places have different rotations
_TABLE_BITS = 13
_MANY = 1024  # shingles of a chunk that are worth looking for repeats
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW = np.uint64(0xFFFFFFFF)
_SALT = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_MIX_C = np.uint64(0xD6E8FEB86659FD93)


@inlined
def _shingles(words: NDArray[np.uint64], n_words: int, n: int, out: NDArray[np.uint64]) -> int:
    """Hashes of the n-grams of words[:n_words], or of all words as one if there are fewer; their number."""
    n_used = min(n, n_words)
    n_out = n_words - n_used + 1
    for j in range(n_out):
        out[j] = words[j + n_used - 1]
    for k in range(1, n_used):
        left = np.uint64((_ROTATION * k) % 64)
        right = np.uint64(63) - left  # two steps to the right, for a shift by 64 is not defined
        for j in range(n_out):
            word = words[j + n_used - 1 - k]
            out[j] ^= (word << left) | ((word >> right) >> np.uint64(1))
    return n_out


@inlined
def _distinct(
    shingles: NDArray[np.uint64], n_shingles: int, table: NDArray[np.uint64], used: NDArray[np.int64]
) -> int:
    """Move one of each different shingle to the front; their number. `table` is empty before and after."""
    mask = np.uint64(table.shape[0] - 1)
    n_found = 0
    for j in range(n_shingles):
        x = shingles[j]
        slot = np.uint64(fold(x, _MIX_B)) & mask
        while table[slot] != _EMPTY and table[slot] != x:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] == _EMPTY and x != _EMPTY:
            table[slot] = x
            used[n_found] = np.int64(slot)
            shingles[n_found] = x
            n_found += 1
    for j in range(n_found):
        table[used[j]] = _EMPTY
    return n_found


@inlined
def _largest(sketch_K: NDArray[np.uint64]) -> np.uint64:
    largest = np.uint64(0)
    for k in range(sketch_K.shape[0]):
        largest = max(largest, sketch_K[k])
    return largest


@inlined
def _first_round(shingles: NDArray[np.uint64], n_shingles: int, sketch_K: NDArray[np.uint64]) -> None:
    n_bins = np.uint64(sketch_K.shape[0])
    for j in range(np.uint64(n_shingles)):
        y = np.uint64(fold(shingles[j] ^ _SALT, _MIX_A))
        k = ((y >> np.uint64(32)) * n_bins) >> np.uint64(32)
        sketch_K[k] = min(sketch_K[k], y & _LOW)


@inlined
def _later_rounds(
    shingles: NDArray[np.uint64], n_shingles: int, largest: np.uint64, sketch_K: NDArray[np.uint64]
) -> None:
    """Rounds 1..2K-1, as far as a bin can still change; from round K on all shingles go to bin r - K."""
    n_bins = sketch_K.shape[0]
    for r in range(1, 2 * n_bins):
        if (largest >> np.uint64(32)) < np.uint64(r):
            return
        salt = _SALT * np.uint64(2 * r + 1)
        above = np.uint64(r) << np.uint64(32)
        for j in range(n_shingles):
            y = np.uint64(fold(shingles[j] ^ salt, _MIX_A))
            k = ((y >> np.uint64(32)) * np.uint64(n_bins)) >> np.uint64(32)
            if r >= n_bins:
                k = np.uint64(r - n_bins)
            sketch_K[k] = min(sketch_K[k], above | (y & _LOW))
        largest = _largest(sketch_K)


@inlined
def _put_keys(sketch_K: NDArray[np.uint64], n_rows: int, keys_B: NDArray[np.uint64]) -> None:
    """A 64-bit key of each band's rows; the band's number is part of it, so keys of bands never mix."""
    for b in range(keys_B.shape[0]):
        h = (np.uint64(b) + np.uint64(1)) * _SALT
        for k in range(b * n_rows, (b + 1) * n_rows):
            h = np.uint64(fold(h ^ sketch_K[k], _MIX_B))
        keys_B[b] = h


@kernel
def put_keys(values_DK: NDArray[np.uint64], n_rows: int, keys_DB: NDArray[np.uint64]) -> None:
    """Band keys of signatures that were made elsewhere."""
    for d in range(values_DK.shape[0]):
        _put_keys(values_DK[d], n_rows, keys_DB[d])


@inlined
def _n_alone(classes: NDArray[np.uint8], n: int) -> int:
    """How many class bytes belong to characters that are words by themselves."""
    count = 0
    for i in range(n):
        count += int((classes[i] >> np.uint8(5)) & np.uint8(1))
    return count


@kernel
def sign(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    n: int,
    n_rows: int,
    keys_DB: NDArray[np.uint64],
    sketches_DK: NDArray[np.uint64],
    n_shingles_D: NDArray[np.int64],
    alone_bytes_D: NDArray[np.int64],
) -> None:
    """Band keys of documents data[offsets[d]:offsets[d + 1]].

    Args:
        characters: `_matching_characters`.
        n: words of a shingle.
        n_rows: rows of a band; K = B x n_rows.
        keys_DB: result; zeros for a document without words.
        sketches_DK: the sketches themselves, all ones for a document without words; no rows: not wanted.
        n_shingles_D: result: shingles, repeats counted; 0 only without words.
        alone_bytes_D: result: bytes of characters that are words by themselves.
    """
    low, classes = np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8)
    starts, ends = np.empty(ROOM, np.uint32), np.empty(ROOM, np.uint32)
    words, shingles = np.empty(n + ROOM, np.uint64), np.empty(n + ROOM, np.uint64)
    table, used = np.full(1 << _TABLE_BITS, _EMPTY, np.uint64), np.empty(1 << _TABLE_BITS, np.int64)
    sketch_K = np.empty(keys_DB.shape[1] * n_rows, np.uint64)
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        state = (0, np.uint64(0), np.uint64(0))
        sketch_K[:] = _EMPTY
        n_words, n_shingles, n_alone = 0, 0, 0
        while i < stop:
            end = cut(data, i, stop)
            n_words, state = chunk_words(
                data, i, end, stop, characters, low, classes, starts, ends, state, words, n_words
            )
            n_alone += _n_alone(classes, 2 * (end - i))
            i = end
            if n_words < n and (i < stop or n_shingles > 0 or n_words == 0):
                continue
            n_new = _shingles(words, n_words, n, shingles)
            n_shingles += n_new
            _first_round(shingles, n_new, sketch_K)
            largest = _largest(sketch_K)
            if largest > _LOW:
                if n_new > _MANY:
                    n_new = _distinct(shingles, n_new, table, used)
                _later_rounds(shingles, n_new, largest, sketch_K)
            if n_words >= n:
                for j in range(n - 1):
                    words[j] = words[n_words - n + 1 + j]
                n_words = n - 1
        n_shingles_D[d], alone_bytes_D[d] = n_shingles, n_alone
        if n_shingles > 0:
            _put_keys(sketch_K, n_rows, keys_DB[d])
        else:
            keys_DB[d, :] = np.uint64(0)
        if sketches_DK.shape[0] > 0:
            sketches_DK[d, :] = sketch_K


@inlined
def _sort(values: NDArray[np.uint32], n: int, spare: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
    """Sort values[:n] in place, eight bits a pass, lowest first."""
    if n < 48:
        for i in range(1, n):
            value, j = values[i], i
            while j > 0 and values[j - 1] > value:
                values[j] = values[j - 1]
                j -= 1
            values[j] = value
        return
    source, target = values, spare
    for byte in range(4):
        shift = np.uint32(8 * byte)
        counts[:] = 0
        for i in range(n):
            counts[(source[i] >> shift) & np.uint32(255)] += 1
        total = 0
        for c in range(256):
            total, counts[c] = total + counts[c], total
        for i in range(n):
            c = (source[i] >> shift) & np.uint32(255)
            target[counts[c]] = source[i]
            counts[c] += 1
        source, target = target, source


@inlined
def _unique(
    values: NDArray[np.uint32], n: int, limit: int, spare: NDArray[np.uint32], counts: NDArray[np.int64]
) -> int:
    """The `limit` smallest different values of values[:n], in order, at the front; their number."""
    _sort(values, n, spare, counts)
    n_found = 0
    for i in range(n):
        if n_found == 0 or values[i] != values[n_found - 1]:
            if n_found == limit:
                break
            values[n_found] = values[i]
            n_found += 1
    return n_found


@kernel
def shingle_sets(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    characters: NDArray[np.uint64],
    n: int,
    limit: int,
    lengths: NDArray[np.int64],
) -> NDArray[np.uint32]:
    """The `limit` smallest 32-bit hashes of each chosen document's different shingles, in ascending order.

    Args:
        rows: which documents.
        lengths: result: how many hashes each document has; the sets stand behind one another.
    """
    low, classes = np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8)
    starts, ends = np.empty(ROOM, np.uint32), np.empty(ROOM, np.uint32)
    words, shingles = np.empty(n + ROOM, np.uint64), np.empty(n + ROOM, np.uint64)
    capacity = 0  # two bytes of text give at most one word
    for p in range(rows.shape[0]):
        capacity += min(limit, (offsets[rows[p] + 1] - offsets[rows[p]]) // 2 + 2)
    out = np.empty(capacity, np.uint32)
    held = np.empty(2 * limit + n + ROOM, np.uint32)
    spare, counts = np.empty(held.shape[0], np.uint32), np.empty(256, np.int64)
    n_out = 0
    for p in range(rows.shape[0]):
        i, stop = offsets[rows[p]], offsets[rows[p] + 1]
        state = (0, np.uint64(0), np.uint64(0))
        n_words, n_held, is_first = 0, 0, True
        while i < stop:
            end = cut(data, i, stop)
            n_words, state = chunk_words(
                data, i, end, stop, characters, low, classes, starts, ends, state, words, n_words
            )
            i = end
            if n_words < n and (i < stop or not is_first or n_words == 0):
                continue
            n_new = _shingles(words, n_words, n, shingles)
            for j in range(n_new):
                held[n_held + j] = np.uint32(np.uint64(fold(shingles[j], _MIX_C)) >> np.uint64(32))
            n_held += n_new
            is_first = False
            if n_held > 2 * limit:
                n_held = _unique(held, n_held, limit, spare, counts)
            if n_words >= n:
                for j in range(n - 1):
                    words[j] = words[n_words - n + 1 + j]
                n_words = n - 1
        n_held = _unique(held, n_held, limit, spare, counts)
        for j in range(n_held):
            out[n_out + j] = held[j]
        n_out += n_held
        lengths[p] = n_held
    return out[:n_out].copy()
