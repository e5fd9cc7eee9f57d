"""Phrases in text: tokens are hashed as they pass, and a hash table tells which chains of them are listed.

A token is a run of characters of words, or one other character that is no space; a phrase is a chain of
tokens, with or without a space between them. The table holds every listed phrase and every beginning of one,
so a chain is followed only while it can still become one. A hit is compared byte by byte before it counts.
The work a byte is bounded: a chain for each token of the longest phrase, and no backtracking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._code_point_kernel import FLAGS, decode, decode_word, lowered_bytes
from prill.features._jit import copy_block, fold, inlined, kernel, load64, store64, trailing_zeros
from prill.features._vector_kernel import STEP, put_block, space_mask, word_mask

__all__ = [
    "IS_PHRASE",
    "IS_START",
    "OTHER",
    "SPACE",
    "SYMBOL",
    "WORD",
    "chain_hashes",
    "fill",
    "find_phrases",
]

SPACE, WORD, SYMBOL, OTHER = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3)
"""What a byte is: space, part of a word, another ASCII character, or part of a character beyond ASCII."""

IS_PHRASE, IS_START = np.uint8(1), np.uint8(2)
"""What a chain of tokens is: a listed phrase, the beginning of a longer one, or both."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW_7 = np.uint64(0x7F7F7F7F7F7F7F7F)
_HIGH = np.uint64(0x8080808080808080)
_FROM_A = np.uint64(0x3F3F3F3F3F3F3F3F)  # 0x80 - "A" in every byte
_AFTER_Z = np.uint64(0x2525252525252525)  # 0x7F - "Z" in every byte
_SEED = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_JOINED, _APART = np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB)


@inlined
def _lower(word: np.uint64) -> np.uint64:
    """Lower case of eight ASCII bytes; others stay."""
    low = word & _LOW_7
    upper = ((low + _FROM_A) ^ (low + _AFTER_Z)) & ~word & _HIGH
    return np.uint64(word | (upper >> np.uint64(2)))


@inlined
def _hash(data: NDArray[np.uint8], at: int, n: int, lowers: np.bool_) -> np.uint64:
    """Hash of data[at:at + n], n > 0; eight bytes from the start of the last step must be readable."""
    h = _SEED ^ (np.uint64(n) * _LENGTH)
    while n > 8:
        word = load64(data, at)
        h = fold(h ^ (_lower(word) if lowers else word), _MIX_A)
        at += 8
        n -= 8
    word = load64(data, at) & (_ALL >> np.uint64(64 - 8 * n))
    return np.uint64(fold(h ^ (_lower(word) if lowers else word), _MIX_B))


@inlined
def _put(
    data: NDArray[np.uint8],
    at: int,
    after: int,
    entry: np.uint64,
    lowers: np.bool_,
    held: NDArray[np.uint8],
    n_held: int,
) -> int:
    """Put one character's normal form into `held`; the new number of bytes there."""
    if lowers:
        store64(held, n_held, entry)
        return n_held + lowered_bytes(entry)
    for k in range(at, after):
        held[n_held + k - at] = data[k]
    return n_held + after - at


@inlined
def _other_token(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    characters: NDArray[np.uint64],
    lowers: np.bool_,
    held: NDArray[np.uint8],
    longest: int,
) -> tuple[np.uint64, int]:
    """Hash (0 if longer than any listed one) and end of the token at `at`, character by character."""
    n_held, is_first = 0, True
    i = at
    while i < end:
        code, after = decode(data, i, end)
        entry = characters[code]
        is_word = (entry >> FLAGS) & np.uint64(0x80) != 0
        if not is_first and not is_word:
            break
        if n_held <= longest:
            n_held = _put(data, i, after, entry, lowers, held, n_held)
        i, is_first = after, False
        if not is_word:
            break
    return (_hash(held, 0, n_held, np.bool_(n_held < 0)) if n_held <= longest else np.uint64(0)), i


@inlined
def _next_token(
    data: NDArray[np.uint8],
    i: int,
    end: int,
    kinds: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    lowers: np.bool_,
    held: NDArray[np.uint8],
    longest: int,
) -> tuple[np.uint64, int, int]:
    """Hash, start and end of the next token from i on; the start is `end` when there is none."""
    while i < end:
        kind = kinds[data[i]]
        if kind == WORD:
            stop = i + 1
            while stop < end and kinds[data[stop]] == WORD:
                stop += 1
            if stop < end and kinds[data[stop]] == OTHER:
                h, stop = _other_token(data, i, end, characters, lowers, held, longest)
                return h, i, stop
            if stop - i > longest:
                return np.uint64(0), i, stop
            if stop + 8 <= data.shape[0]:
                return _hash(data, i, stop - i, lowers), i, stop
            h, stop = _other_token(data, i, end, characters, lowers, held, longest)
            return h, i, stop
        if kind != SPACE:
            code, after = decode(data, i, end)
            if (characters[code] >> FLAGS) & np.uint64(0x40) == 0:
                h, stop = _other_token(data, i, end, characters, lowers, held, longest)
                return h, i, stop
            i = after
        else:
            i += 1
    return np.uint64(0), end, end


@inlined
def _chain(before: np.uint64, token: np.uint64, is_joined: bool) -> np.uint64:  # noqa: FBT001
    return np.uint64(fold(before ^ (_JOINED if is_joined else _APART), token ^ _MIX_B))


@kernel
def chain_hashes(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    lowers: np.bool_,
    counts_P: NDArray[np.int64],
    chains: NDArray[np.uint64],
) -> int:
    """Hashes of the chains of 1, 2, ... tokens that each phrase begins with; their number.

    Args:
        counts_P: tokens of each phrase, filled.
        chains: room for one a byte.
    """
    longest = 0
    for p in range(offsets.shape[0] - 1):
        longest = max(longest, 2 * (offsets[p + 1] - offsets[p]))
    held = np.empty(longest + 16, np.uint8)
    n = 0
    for p in range(offsets.shape[0] - 1):
        i, end, first = offsets[p], offsets[p + 1], n
        chain = _SEED
        while True:
            token, start, stop = _next_token(data, i, end, kinds, characters, lowers, held, longest)
            if start >= end:
                break
            chain = _chain(chain, token, n > first and start == i)
            chains[n] = chain
            n += 1
            i = stop
        counts_P[p] = n - first
    return n


@kernel
def fill(
    hashes: NDArray[np.uint64],
    flags: NDArray[np.uint8],
    phrases: NDArray[np.int32],
    keys: NDArray[np.uint64],
    places: NDArray[np.int32],
    sieve: NDArray[np.uint64],
) -> None:
    """Fill the table: `places` is zero where free, else one more than the index of the chain.

    Args:
        hashes: different ones.
        flags, phrases: of the chains; used by `find_phrases` through `places`.
        keys, places: a power of two of places, at least twice as many as chains.
        sieve: a power of two of words; the bit of each hash is set.
    """
    mask = np.uint64(keys.shape[0] - 1)
    for c in range(hashes.shape[0]):
        h = hashes[c]
        at = h & mask
        while places[at] != 0:
            at = (at + np.uint64(1)) & mask
        keys[at], places[at] = h, np.int32(c + 1)
        bit = h >> np.uint64(32)
        sieve[(bit >> np.uint64(6)) & np.uint64(sieve.shape[0] - 1)] |= np.uint64(1) << (bit & np.uint64(63))


@inlined
def _look_up(
    h: np.uint64, keys: NDArray[np.uint64], places: NDArray[np.int32], sieve: NDArray[np.uint64]
) -> int:
    """The index of the chain with this hash, or -1."""
    bit = h >> np.uint64(32)
    word = sieve[(bit >> np.uint64(6)) & np.uint64(sieve.shape[0] - 1)]
    if (word >> (bit & np.uint64(63))) & np.uint64(1) == 0:
        return -1
    mask = np.uint64(keys.shape[0] - 1)
    at = h & mask
    while places[at] != 0:
        if keys[at] == h:
            return int(places[at]) - 1
        at = (at + np.uint64(1)) & mask
    return -1


@inlined
def _is_equal(
    data: NDArray[np.uint8],
    i: int,
    stop: int,
    characters: NDArray[np.uint64],
    lowers: np.bool_,
    form: NDArray[np.uint8],
    held: NDArray[np.uint8],
) -> bool:
    """Whether data[i:stop] has the normal form `form`: lowered, and one space for any run of them."""
    at, in_gap = 0, False
    while i < stop:
        code, after = decode(data, i, stop)
        entry = characters[code]
        if (entry >> FLAGS) & np.uint64(0x40) != 0:
            n = 0 if in_gap else 1
            held[0], in_gap = np.uint8(32), True
        else:
            n = _put(data, i, after, entry, lowers, held, 0)
            in_gap = False
        if at + n > form.shape[0]:
            return False
        for k in range(n):
            if held[k] != form[at + k]:
                return False
        at += n
        i = after
    return bool(at == form.shape[0])


@inlined
def _grown(array: NDArray[np.int64]) -> NDArray[np.int64]:
    grown = np.empty(2 * array.shape[0], np.int64)
    grown[: array.shape[0]] = array
    return grown


@kernel
def find_phrases(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    lowers: np.bool_,
    table: tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.uint64]],
    flags: NDArray[np.uint8],
    phrases: NDArray[np.int32],
    form_offsets: NDArray[np.int64],
    forms: NDArray[np.uint8],
    most_tokens: int,
    longest: int,
    counts_D: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and stops of the union of all phrases in each document, bytes from its start.

    Args:
        kinds: what each byte is.
        characters: lower case and class of every code point.
        table: keys, places and sieve, as `fill` left them.
        flags, phrases: what each chain is; the phrase that it is.
        form_offsets, forms: the normal forms of the phrases.
        most_tokens: of any phrase.
        longest: bytes of the longest listed token.
        counts_D: spans of each document, filled.
    """
    keys, places, sieve = table
    held = np.empty(longest + 24, np.uint8)
    chains, begins = np.empty(most_tokens + 1, np.uint64), np.empty(most_tokens + 1, np.int64)
    starts, stops = np.empty(1024, np.int64), np.empty(1024, np.int64)
    low = np.empty(2 * STEP, np.uint8)
    sieve_mask = np.uint64(sieve.shape[0] - 1)
    n = 0
    for d in range(offsets.shape[0] - 1):
        first, end, n_before = offsets[d], offsets[d + 1], n
        last_block = min(end, data.shape[0] - STEP)  # where a block may begin; 8 bytes more for a character
        i, before, n_open = first, first, 0
        base, words, spaces, others = first - STEP, np.uint64(0), np.uint64(0), np.uint64(0)
        while i < end:
            token, start = np.uint64(0), end
            # The usual tokens, without a call that takes an array: those cost more than all the work here.
            while i < last_block:
                at = np.uint64(i - base)
                if at >= np.uint64(STEP):
                    base, at = i, np.uint64(0)
                    others = put_block(data, base, low, 0)
                    words, spaces = word_mask(low, 0), space_mask(low, 0)
                    if end - base < STEP:
                        outside = _ALL << np.uint64(end - base)
                        words, others, spaces = words & ~outside, others & ~outside, spaces | outside
                    if not lowers:
                        copy_block(data, base, low, 0)
                rest = ~spaces >> at
                if rest == 0:
                    i = base + STEP
                    continue
                i += trailing_zeros(rest)
                at = np.uint64(i - base)
                size = 1
                is_other = (others >> at) & np.uint64(1) != 0
                if (words >> at) & np.uint64(1) != 0:
                    size = trailing_zeros(~(words >> at))
                    if np.int64(at) + size >= STEP:
                        if at != 0:
                            base = i - STEP  # the token may go on: begin a block with it
                            continue
                        start = i  # longer than a block
                        break
                    is_other = (others >> (at + np.uint64(size))) & np.uint64(1) != 0
                if is_other:
                    n_held, j, is_word = 0, i, True
                    while is_word and j < last_block:
                        word = load64(data, j)
                        code, n_bytes = decode_word(word)
                        entry = characters[code]
                        is_word = (entry >> FLAGS) & np.uint64(0x80) != 0
                        if is_word or j == i:
                            if n_held <= longest:
                                store64(held, n_held, entry if lowers else word)
                                n_held += lowered_bytes(entry) if lowers else n_bytes
                            j += n_bytes
                    if j == i or (is_word and j < end):
                        start = i  # it goes on beyond the last block
                        break
                    code, n_bytes = decode_word(load64(data, i))
                    if (characters[code] >> FLAGS) & np.uint64(0x40) != 0:
                        i += n_bytes
                        continue
                    if n_held > longest:
                        i, n_open, token = j, 0, np.uint64(0)
                        continue
                    token = _SEED ^ (np.uint64(n_held) * _LENGTH)
                    k = 0
                    while n_held > 8:
                        token = fold(token ^ load64(held, k), _MIX_A)
                        k += 8
                        n_held -= 8
                    token = fold(token ^ (load64(held, k) & (_ALL >> np.uint64(64 - 8 * n_held))), _MIX_B)
                    start, i = i, j
                else:
                    start = i
                    i += size
                    token = _SEED ^ (np.uint64(size) * _LENGTH)
                    k = int(np.int64(at))
                    while size > 8:
                        token = fold(token ^ load64(low, k), _MIX_A)
                        k += 8
                        size -= 8
                    token = fold(token ^ (load64(low, k) & (_ALL >> np.uint64(64 - 8 * size))), _MIX_B)
                if n_open > 0:
                    break
                h = fold(_SEED ^ _APART, token ^ _MIX_B)
                bit = h >> np.uint64(32)
                if (sieve[(bit >> np.uint64(6)) & sieve_mask] >> (bit & np.uint64(63))) & np.uint64(1) != 0:
                    break
                before, token, start = i, np.uint64(0), end
            if token == 0:
                token, start, i = _next_token(data, i, end, kinds, characters, lowers, held, longest)
                if start >= end:
                    break
            is_joined = start == before
            before = i
            if token == 0:
                n_open = 0
                continue
            chains[n_open], begins[n_open] = _SEED, start
            n_kept = 0
            for k in range(n_open + 1):
                h = _chain(chains[k], token, is_joined and k < n_open)
                chain = _look_up(h, keys, places, sieve)
                if chain < 0:
                    continue
                begin = begins[k]
                if flags[chain] & IS_PHRASE:
                    p = phrases[chain]
                    form = forms[form_offsets[p] : form_offsets[p + 1]]
                    if _is_equal(data, begin, i, characters, lowers, form, held):
                        union = begin - first
                        while n > n_before and union < stops[n - 1]:
                            n -= 1
                            union = min(union, starts[n])
                        if n == starts.shape[0]:
                            starts, stops = _grown(starts), _grown(stops)
                        starts[n], stops[n] = union, i - first
                        n += 1
                if flags[chain] & IS_START:
                    chains[n_kept], begins[n_kept] = h, begin
                    n_kept += 1
            n_open = n_kept
        counts_D[d] = n - n_before
    return starts[:n], stops[:n]
