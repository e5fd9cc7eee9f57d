"""Lists of up to a million words, phrases or substrings, found in a text column in one pass.

What is reported is the union of all matches: overlapping matches are one span, so the result does not
depend on the order of a list, and a list can hold a word and longer phrases with it. Nothing in a list is
an expression; every character stands for itself.

Legend: D documents, S spans.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import InternalError

__all__ = ["MAX_BYTES", "MAX_PATTERNS", "MAX_PATTERN_BYTES", "PATTERNS_VERSION", "Found", "Mode", "Patterns"]

Mode: TypeAlias = Literal["token", "phrase", "substring"]
"""token: whole words; phrase: chains of whole words; substring: anywhere, also inside words."""

PATTERNS_VERSION = 1
"""Version of what matches; it changes whenever a span changes."""

MAX_PATTERNS, MAX_BYTES, MAX_PATTERN_BYTES = 1_000_000, 64 << 20, 256
"""Most patterns of a list, and their bytes in all and each."""

_ROWS = 2048  # automaton states with a row of their own, 2 MiB: what stays in a core's second-level cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Spans of D documents; document d has offsets[d]:offsets[d + 1].

    Attributes:
        offsets: int64, shape (D + 1,).
        starts, stops: bytes from the start of the document, ascending, disjoint; int64, shape (S,).
    """

    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """A list ready to be searched for. Picklable; its tables are built at the first search.

    Attributes:
        forms: the normal forms, sorted, without doubles (`Patterns.of`).
        mode: what a match is.
        ignore_case: compare lower case, character by character.
    """

    forms: tuple[str, ...]
    mode: Mode
    ignore_case: bool

    @classmethod
    def of(cls, patterns: Iterable[str], *, mode: Mode, ignore_case: bool = True) -> Patterns:
        """From patterns as they are written. Runs of spaces in words and phrases are one space.

        Raises:
            InternalError: none, too many, or too long; whoever reads a list checks that first.
        """
        forms = {
            form for pattern in patterns if (form := normal_form(pattern, mode, ignore_case=ignore_case))
        }
        sizes = [len(form.encode()) for form in forms]
        if not forms or len(forms) > MAX_PATTERNS or sum(sizes) > MAX_BYTES or max(sizes) > MAX_PATTERN_BYTES:
            raise InternalError(f"a list of {len(forms)} patterns cannot be searched for")
        return cls(forms=tuple(sorted(forms)), mode=mode, ignore_case=ignore_case)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of all that decides what matches, without the order and the doubles of the list."""
        digest = hashlib.sha256(f"{PATTERNS_VERSION} {self.mode} {self.ignore_case}".encode())
        for form in self.forms:
            digest.update(b"\0" + form.encode())
        return digest.hexdigest()

    def find(self, text: pa.Array) -> Found:
        """The union of all matches in every document.

        Args:
            text: large_string array without nulls, D documents, any slice.
        """
        offsets, data = text_buffers(text)
        counts_D = np.zeros(len(text), np.int64)
        lowers = np.bool_(self.ignore_case)
        if self.mode == "substring":
            from prill.features._substring_kernel import find_substrings

            lowered = lower_bytes() if self.ignore_case else np.arange(256, dtype=np.uint8)
            of_list: tuple[Any, ...] = (lowered, word_table(), lowers, *self._automaton)
            run: Any = find_substrings
        else:
            from prill.features._phrase_kernel import find_phrases

            of_list = (byte_kinds(), word_table(), lowers, *self._chains)
            run = find_phrases
        starts, stops = run(offsets, data, *of_list, counts_D)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_D)])
        return Found(offsets=ends, starts=starts, stops=stops)

    @functools.cached_property
    def _chains(self) -> tuple[Any, ...]:
        """Tables of `find_phrases`."""
        from prill.features._phrase_kernel import IS_PHRASE, IS_START, chain_hashes, fill

        offsets, data = text_buffers(pa.array(self.forms, pa.large_string()))
        counts_P = np.zeros(len(self.forms), np.int64)
        chains = np.empty(data.shape[0], np.uint64)
        n = chain_hashes(
            offsets, data, byte_kinds(), word_table(), np.bool_(self.ignore_case), counts_P, chains
        )
        ends = np.cumsum(counts_P) - 1
        is_end = np.zeros(n, np.bool_)
        is_end[ends] = True
        hashes, group = np.unique(chains[:n], return_inverse=True)
        flags = np.zeros(hashes.shape[0], np.uint8)
        flags[group[~is_end]] |= IS_START
        flags[group[is_end]] |= IS_PHRASE
        phrases = np.zeros(hashes.shape[0], np.int32)
        phrases[group[ends]] = np.arange(len(self.forms), dtype=np.int32)
        size = 1 << max(4, int(2 * hashes.shape[0] - 1).bit_length())
        keys, places = np.zeros(size, np.uint64), np.zeros(size, np.int32)
        sieve = np.zeros(max(64, size // 8), np.uint64)
        fill(hashes, flags, phrases, keys, places, sieve)
        longest = int(np.diff(offsets).max())
        table = (keys, places, sieve)
        return table, flags, phrases, offsets, data, int(counts_P.max()), longest

    @functools.cached_property
    def _automaton(self) -> tuple[NDArray[Any], ...]:
        """Tables of `find_substrings`: the trie level by level, then its links."""
        from prill.features._substring_kernel import link

        encoded = sorted(form.encode() for form in self.forms)
        offsets, data = text_buffers(pa.array(encoded, pa.large_binary()))
        sizes = np.diff(offsets)
        states = np.zeros(len(encoded), np.int64)
        labels, parents = [np.zeros(1, np.uint8)], [np.zeros(1, np.int64)]
        ends: list[tuple[NDArray[np.int64], int]] = []
        n_states = 1
        for depth in range(int(sizes.max())):
            alive = np.flatnonzero(sizes > depth)
            byte = data[offsets[alive] + depth]
            is_new = np.ones(alive.shape[0], np.bool_)
            is_new[1:] = (states[alive][1:] != states[alive][:-1]) | (byte[1:] != byte[:-1])
            labels.append(byte[is_new])
            parents.append(states[alive][is_new])
            states[alive] = n_states + np.cumsum(is_new) - 1
            n_states += int(is_new.sum())
            ends.append((states[alive[sizes[alive] == depth + 1]], depth + 1))
        parent = np.concatenate(parents)
        lengths = np.zeros(n_states, np.int32)
        for at, length in ends:
            lengths[at] = length
        firsts = np.searchsorted(parent[1:], np.arange(n_states + 1), side="left").astype(np.int32) + 1
        label = np.concatenate(labels)
        failures = np.zeros(n_states, np.int32)
        rows = np.zeros((min(_ROWS, n_states), 256), np.int32)
        folds = np.bool_(self.ignore_case)
        link(firsts, label, parent.astype(np.int32), lengths, failures, rows, folds)
        return firsts, label, lengths, failures, rows


def normal_form(pattern: str, mode: Mode, *, ignore_case: bool) -> str:
    """What of a pattern, and of the text, is compared: lower case, character by character; one space."""
    form = pattern if mode == "substring" else " ".join(pattern.split())
    if not ignore_case:
        return form
    if form.isascii():
        return form.lower()
    return "".join(low if len(low := character.lower()) == 1 else character for character in form)


def n_tokens(form: str) -> int:
    """Tokens of a pattern: runs of characters of words, and each other character that is no space."""
    table = word_table()
    flags = [(int(table[ord(c)]) >> 40) & 0xC0 for c in form]
    runs = [(key, len(list(group))) for key, group in itertools.groupby(flags)]
    return sum(1 if key & 0x80 else n for key, n in runs if not key & 0x40)


@functools.cache
def word_table() -> NDArray[np.uint64]:
    """The character table, with marks and joiners as characters of words, which they never end or begin."""
    from prill.features._characters import character_table

    table = character_table().copy()
    everything = map(chr, range(table.shape[0]))
    marks = [ord(c) for c in everything if unicodedata.category(c) in _MARKS]
    table[[*marks, 0x200C, 0x200D]] |= np.uint64(0x80 << 40)
    table.setflags(write=False)
    return table


_MARKS: Sequence[str] = ("Mn", "Mc", "Me")


@functools.cache
def byte_kinds() -> NDArray[np.uint8]:
    """What each byte is: space, word, symbol, or part of a character beyond ASCII (`_phrase_kernel`)."""
    from prill.features._phrase_kernel import OTHER, SPACE, SYMBOL, WORD

    kinds = np.full(256, OTHER, np.uint8)
    for byte in range(128):
        character = chr(byte)
        is_word = character.isalnum() or character == "_"
        kinds[byte] = SPACE if character.isspace() else WORD if is_word else SYMBOL
    return kinds


@functools.cache
def lower_bytes() -> NDArray[np.uint8]:
    """The lower case of each ASCII byte; others are themselves."""
    lowered = np.arange(256, dtype=np.uint8)
    lowered[ord("A") : ord("Z") + 1] += 32
    return lowered
