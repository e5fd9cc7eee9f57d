"""The hash of a document's normal form: documents that differ only in case, spaces or encoding have one hash.

Legend: D documents.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.features.text_hash import hash_documents

__all__ = ["NORMAL_TEXT_VERSION", "UnicodeForm", "hash_normal_forms"]

UnicodeForm: TypeAlias = Literal["NFC", "NFKC", "none"]

NORMAL_TEXT_VERSION: Final = 1
"""Version of the normal form; it changes whenever a hash changes."""

_BLOCK: Final = 256
_N_CODE_POINTS: Final = 0x110000
_ENTRY_BYTES: Final = 4
_SPACE_CLASS: Final = 0x40
_BYTES_MASK: Final = ~np.uint64(0x7FFFFFFFF)


def hash_normal_forms(
    text: pa.Array, *, unicode: UnicodeForm = "NFC", fold_case: bool = True, collapse_spaces: bool = True
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The 128-bit hash of every document's normal form.

    Args:
        text: large_string array without nulls, D documents, any slice.
        unicode: Unicode normal form that characters are brought to first.
        fold_case: compare without case, as `str.casefold` does it, character by character.
        collapse_spaces: compare runs of white space as one space, and none at the ends.
    Returns:
        (high, low), each uint64, shape (D,).
    Differs: a fold of more than four bytes of UTF-8 (some Greek letters with two accents) is left out, so
        that such a letter only equals itself in the same case.
    """
    table = _table(unicode=unicode, fold_case=fold_case)
    high_D, low_D, unsettled_D = _hash(text, table, collapse_spaces=collapse_spaces)
    others = np.flatnonzero(unsettled_D)
    if len(others):
        normal = pc.utf8_normalize(text.take(pa.array(others)), form=unicode)
        high_D[others], low_D[others], _ = _hash(normal, table, collapse_spaces=collapse_spaces)
    return high_D, low_D


def _hash(
    text: pa.Array, table: NDArray[np.uint64], *, collapse_spaces: bool
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Both halves of the hashes, and which documents must be normalised first."""
    from prill.features._normal_text_kernel import normal_texts

    offsets, data = text_buffers(text)
    out = np.empty(2 * int(offsets[-1] - offsets[0]) + 8, np.uint8)
    out_offsets, unsettled_D = np.empty(len(text) + 1, np.int64), np.zeros(len(text), np.bool_)
    gaps = np.uint64(_SPACE_CLASS if collapse_spaces else 0)
    normal_texts(offsets, data, table, gaps, out_offsets, out, unsettled_D)
    buffers = [None, pa.py_buffer(out_offsets), pa.py_buffer(out)]
    normal = pa.Array.from_buffers(pa.large_string(), len(text), buffers, null_count=0)
    return *hash_documents(normal), unsettled_D


@functools.cache
def _table(*, unicode: UnicodeForm, fold_case: bool) -> NDArray[np.uint64]:
    """The character table with the case fold, or the character itself, in place of the lower case."""
    from prill.features._characters import character_table
    from prill.features._normal_text_kernel import UNSETTLED

    table = character_table().copy()
    for first in range(0, _N_CODE_POINTS, _BLOCK):
        block = "".join(map(chr, range(first, first + _BLOCK)))
        if (block.casefold() if fold_case else block) != block.lower():
            for code, character in enumerate(block, first):
                table[code] = (table[code] & _BYTES_MASK) | _entry(character, fold_case=fold_case)
    if unicode != "none":
        table[_unsettled(unicode)] |= np.uint64(UNSETTLED) << np.uint64(40)
    table.setflags(write=False)
    return table


def _entry(character: str, *, fold_case: bool) -> np.uint64:
    encoded = (character.casefold() if fold_case else character).encode("utf-8", "surrogatepass")
    if len(encoded) > _ENTRY_BYTES:
        encoded = character.encode("utf-8", "surrogatepass")
    return np.uint64(int.from_bytes(encoded, "little") | len(encoded) << 32)


def _unsettled(form: Literal["NFC", "NFKC"]) -> list[int]:
    """Code points that the normal form changes, reorders or may join with the one before."""
    found = {
        *range(0x1161, 0x1176),
        *range(0x11A8, 0x11C3),
    }  # Hangul vowels and finals join with what is before
    for code in range(0x80, _N_CODE_POINTS):
        character = chr(code)
        if unicodedata.combining(character) or not unicodedata.is_normalized(form, character):
            found.add(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(int(parts[1], 16))
    return sorted(found)
