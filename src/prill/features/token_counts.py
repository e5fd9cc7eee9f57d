"""Exact token counts and ids of any byte-level BPE tokenizer, straight from Arrow text, without the GIL.

`TokenCounter.of` reads a `tokenizer.json` into tables (`_token_program`): an automaton that cuts text into
words, the merges, and a memo of words met before. What the tables cannot follow goes through the tokenizers
library instead: a whole tokenizer (`refusal` names the part) or single documents (an added token in the
text with conditions of its own). Counts and ids are those of `corpus.tokenizer.TextTokenizer` in every case.

Source: Sennrich et al. 2016, arXiv:1508.07909 (BPE); Radford et al. 2019 (bytes as the alphabet).
Differs: nothing in the result.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.corpus.tokenizer import PIECE_CHARACTERS, TextTokenizer, load_tokenizer, text_pieces
from prill.features._bpe_kernel import INLINE_IDS, LONG_BYTES, count_tokens
from prill.features._pretoken_classes import changed_by
from prill.features._pretoken_kernel import cut_at_phrases, mark_changed, mark_phrases
from prill.features._pretoken_regex import Refused
from prill.features._token_program import Phrases, TokenProgram, read_program

__all__ = ["TokenCounter", "Tokens"]

_MEMO_SETS: Final = 1 << 16
_LONG_ROWS: Final = 1 << 13


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token ids of many documents.

    Attributes:
        ids: uint32; document d has ids[offsets[d]:offsets[d + 1]].
        offsets: int64, shape (D + 1,).
        n_by_library: documents that went through the library.
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    n_by_library: int

    def documents(self) -> list[NDArray[np.uint32]]:
        """The ids of each document."""
        return [self.ids[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]


class TokenCounter:
    """Counts and encodes documents; may be called from many threads at once.

    Attributes:
        library: the same tokenizer in the tokenizers library.
        refusal: why every document goes through the library; empty when the tables do the work.
    """

    def __init__(self, library: TextTokenizer, program: TokenProgram | None, refusal: str) -> None:
        self.library = library
        self.refusal = refusal
        self._program = program
        self._threads = threading.local()

    @staticmethod
    def of(content: bytes) -> TokenCounter:
        """The counter of a `tokenizer.json`; made once a process.

        Raises:
            DataError: not a tokenizer, as `load_tokenizer` says.
        """
        return _counter(content)

    @staticmethod
    def around(library: TextTokenizer) -> TokenCounter:
        """The counter of a tokenizer that is loaded, whatever its end-of-document token; made anew."""
        return _made(library)

    def __reduce__(self) -> tuple[object, ...]:
        return (TokenCounter.of, (self.library.content,))

    def count(self, texts: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.int64], int]:
        """Tokens of each document, shape (D,), and how many documents went through the library.

        Args:
            texts: strings of any Arrow string type; null counts as empty.
        """
        counts, _, n_by_library = self._run(_plain(texts), wants_ids=False)
        return counts, n_by_library

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> Tokens:
        """Token ids of each document, without the end-of-document token."""
        counts, ids, n_by_library = self._run(_plain(texts), wants_ids=True)
        return Tokens(ids=ids, offsets=_offsets_of(counts), n_by_library=n_by_library)

    def count_batch(self, texts: pa.Array) -> NDArray[np.int64]:
        """As `TextTokenizer.count_batch`."""
        return self.count(texts)[0]

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """As `TextTokenizer.encode_batch`."""
        return self.encode(pa.array(texts, pa.large_string())).documents()

    def _run(
        self, texts: pa.LargeStringArray, *, wants_ids: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], int]:
        """Counts, ids one document after the other (empty if not wanted), and documents of the library."""
        pieces, owners = _cut_long(texts)
        counts, ids, by_library = self._pieces(pieces, wants_ids=wants_ids)
        if owners is None:
            return counts, ids, int(by_library.sum())
        totals = np.zeros(len(texts), np.int64)
        np.add.at(totals, owners, counts)
        return totals, ids, len(np.unique(owners[by_library]))

    def _pieces(
        self, texts: pa.LargeStringArray, *, wants_ids: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.bool_]]:
        program, by_library = self._program, np.ones(len(texts), np.bool_)
        counts, ids = np.zeros(len(texts), np.int64), np.empty(0, np.uint32)
        if program is not None:
            changes = _changed(program, texts)
            by_library = _with(program.phrases, texts)
            is_cut = by_library & ~changes if _can_cut(program) else np.zeros(len(texts), np.bool_)
            is_cut &= ~_with(program.special, texts) if is_cut.any() else True
            by_library &= ~is_cut
            ready = self._normalised(program, texts, changes, by_library)
            ready = _with_spaces(ready) if program.adds_space else ready
            offsets, data = _buffers(ready)
            ids = np.empty(int(offsets[-1] - offsets[0]) + INLINE_IDS if wants_ids else 0, np.uint32)
            if is_cut.any():
                counts, ids = self._segments(program, offsets, data, is_cut, by_library, ids)
            else:
                self._kernel(program, offsets, data, by_library, counts, ids)
                ids = ids[: int(counts.sum())].copy() if wants_ids else ids  # the room is a token a byte
        if by_library.any():
            counts, ids = self._by_library(texts, by_library, counts, ids, wants_ids=wants_ids)
        return counts, ids, by_library

    def _segments(
        self,
        program: TokenProgram,
        offsets: NDArray[np.int64],
        data: NDArray[np.uint8],
        is_cut: NDArray[np.bool_],
        by_library: NDArray[np.bool_],
        ids: NDArray[np.uint32],
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Counts and ids of documents with added tokens: each is one token, the text between them its own."""
        stops, kinds, owners = _cut(program, offsets, data, is_cut)
        skip = by_library[owners] | (kinds >= 0)
        counts = np.zeros(len(owners), np.int64)
        bounds = np.concatenate([offsets[:1], stops])
        bounds.setflags(write=False)  # as the offsets of texts are: one type, one compilation
        self._kernel(program, bounds, data, skip, counts, ids)
        is_phrase = kinds >= 0
        if len(ids) and program.phrases is not None:
            places = np.cumsum(counts)[is_phrase]
            ids = np.insert(ids[: int(counts.sum())], places, program.phrases.ids[kinds[is_phrase]])
        counts[is_phrase] = 1
        totals = np.zeros(len(is_cut), np.int64)
        np.add.at(totals, owners, counts)
        return totals, ids

    def _kernel(
        self,
        program: TokenProgram,
        offsets: NDArray[np.int64],
        data: NDArray[np.uint8],
        by_library: NDArray[np.bool_],
        counts: NDArray[np.int64],
        ids: NDArray[np.uint32],
    ) -> None:
        memo, memo_ids, long_memo, long_sizes, long_ids = self._memo(wants_ids=len(ids) > 0)
        count_tokens(
            offsets,
            data,
            by_library,
            program.stages,
            program.entries,
            program.classes,
            program.ascii_classes,
            program.byte_ids,
            program.merges,
            program.word_slots,
            program.word_offsets,
            program.words,
            memo,
            memo_ids,
            long_memo,
            long_sizes,
            long_ids,
            counts,
            ids,
        )

    def _memo(self, *, wants_ids: bool) -> tuple[NDArray[Any], ...]:
        """This thread's memo, 5 MiB to count and 9 MiB to encode."""
        name = "encoding" if wants_ids else "counting"
        found: tuple[NDArray[Any], ...] | None = getattr(self._threads, name, None)
        if found is None:
            words = np.zeros(_MEMO_SETS * 8 + 8, np.uint64)
            first = -(words.ctypes.data // 8) % 8  # sets begin at cache lines
            found = (
                words[first : first + _MEMO_SETS * 8],
                np.zeros(_MEMO_SETS * 4 * INLINE_IDS if wants_ids else 0, np.uint32),
                np.zeros((_LONG_ROWS, LONG_BYTES), np.uint8),
                np.zeros(_LONG_ROWS, np.uint16),
                np.zeros(_LONG_ROWS * INLINE_IDS if wants_ids else 0, np.uint32),
            )
            setattr(self._threads, name, found)
        return found

    def _normalised(
        self,
        program: TokenProgram,
        texts: pa.LargeStringArray,
        changes: NDArray[np.bool_],
        by_library: NDArray[np.bool_],
    ) -> pa.LargeStringArray:
        """The texts as the library's normaliser leaves them; marks those in which an added token appears."""
        rows = np.flatnonzero(changes)
        if not len(rows):
            return texts
        after = [self.library.normalise(text) for text in texts.take(pa.array(rows)).to_pylist()]
        new = pa.array(after, pa.large_string())
        by_library[rows] |= _with(program.phrases, new)
        places = np.arange(len(texts))
        places[rows] = len(texts) + np.arange(len(rows))
        return pa.concat_arrays([texts, new]).take(pa.array(places))

    def _by_library(
        self,
        texts: pa.LargeStringArray,
        by_library: NDArray[np.bool_],
        counts: NDArray[np.int64],
        ids: NDArray[np.uint32],
        *,
        wants_ids: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        chosen = texts.filter(pa.array(by_library))
        if not wants_ids:
            counts[by_library] = self.library.count_batch(chosen)
            return counts, ids
        encoded = iter(self.library.encode_batch(chosen.to_pylist()))
        offsets = _offsets_of(counts)
        parts = [
            next(encoded) if is_library else ids[offsets[d] : offsets[d + 1]]
            for d, is_library in enumerate(by_library)
        ]
        return np.array([len(part) for part in parts], np.int64), np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def _counter(content: bytes) -> TokenCounter:
    return _made(load_tokenizer(content))


def _made(library: TextTokenizer) -> TokenCounter:
    try:
        return TokenCounter(library, read_program(library.settings(), library.normalise), "")
    except Refused as refused:
        return TokenCounter(library, None, str(refused))


def _plain(texts: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts = texts.cast(pa.large_string())
    return pc.fill_null(texts, "") if texts.null_count else texts


def _buffers(texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and bytes, both read-only whoever made them: one type, so that kernels compile once."""
    found = text_buffers(texts)
    offsets, data = found[0].view(), found[1].view()
    offsets.setflags(write=False)
    data.setflags(write=False)
    return offsets, data


def _with_spaces(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """A space before every text that is not empty and does not begin with one."""
    space, nothing = (pa.scalar(text, pa.large_string()) for text in (" ", ""))
    is_bare = pc.and_(pc.greater(pc.binary_length(texts), 0), pc.invert(pc.starts_with(texts, " ")))
    return pc.if_else(is_bare, pc.binary_join_element_wise(space, texts, nothing), texts)


def _offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _cut_long(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, NDArray[np.int64] | None]:
    """The texts, long ones in the pieces that the library's wrapper cuts, and the document of each piece."""
    is_long = np.diff(text_buffers(texts)[0]) > PIECE_CHARACTERS
    if not is_long.any():
        return texts, None
    parts, owners, done = [], [], 0
    for row in np.flatnonzero(is_long):
        pieces = list(text_pieces(texts[int(row)].as_py()))
        parts += [texts.slice(done, row - done), pa.array(pieces, pa.large_string())]
        owners += [np.arange(done, row), np.full(len(pieces), row)]
        done = int(row) + 1
    parts.append(texts.slice(done))
    owners.append(np.arange(done, len(texts)))
    return pa.concat_arrays(parts), np.concatenate(owners)


def _changed(program: TokenProgram, texts: pa.LargeStringArray) -> NDArray[np.bool_]:
    """Documents that the normaliser may change."""
    found = np.zeros(len(texts), np.bool_)
    if program.forms is None:
        found[:] = True
    elif program.forms:
        mark_changed(*_buffers(texts), changed_by(program.forms), found)
    return found


def _with(phrases: Phrases | None, texts: pa.LargeStringArray) -> NDArray[np.bool_]:
    """Documents that hold one of the added tokens."""
    found = np.zeros(len(texts), np.bool_)
    if phrases is not None:
        mark_phrases(*_buffers(texts), phrases.pairs, phrases.data, phrases.offsets, found)
    return found


def _can_cut(program: TokenProgram) -> bool:
    return program.phrases is not None and len(program.phrases.ids) > 0


def _cut(
    program: TokenProgram, offsets: NDArray[np.int64], data: NDArray[np.uint8], is_cut: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Ends of all segments, their added token or -1, and their documents."""
    phrases = program.phrases
    assert phrases is not None
    given = (offsets, data, is_cut, phrases.pairs, phrases.data, phrases.offsets)
    n = cut_at_phrases(*given, *(np.empty(0, np.int64) for _ in range(3)))
    stops, kinds, owners = (np.empty(n, np.int64) for _ in range(3))
    cut_at_phrases(*given, stops, kinds, owners)
    return stops, kinds, owners
