"""Lines and paragraphs of a text column: where they are, and a hash of each one's normal form.

Two units with equal normal forms have equal 64-bit hashes. The reverse is true but for chance: among n
different units about n^2 / 2^65 pairs collide (three in ten thousand million units).

Legend: D documents, U units.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import InternalError

__all__ = ["UNITS_VERSION", "Cut", "Normal", "Units", "hash_units"]

Cut: TypeAlias = Literal["line", "paragraph"]
"""line: between two newlines; paragraph: lines between blank lines."""

Normal: TypeAlias = Literal["exact", "spaces", "words"]
"""exact: the bytes, of which some must be no space; spaces: runs of spaces are one, none at the ends; words:
only characters of words stand, digits are 0, and whatever is between them is one space."""

UNITS_VERSION = 1
"""Version of the units and of their hash; it changes whenever one of them changes."""

_EMIT, _GAP = 1, 2
_MAX_DOCUMENT_BYTES = (1 << 31) - 1  # positions are int32


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """Units of D documents; document d has offsets[d]:offsets[d + 1].

    Attributes:
        offsets: int64, shape (D + 1,).
        hashes: of the normal forms, uint64, shape (U,).
        starts, stops: int32, shape (U,), bytes from the start of the document. A unit reaches to the start
            of the next line, or over the blank lines behind a paragraph, so that cutting it leaves no hole.
    """

    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]


def hash_units(
    text: pa.Array,
    *,
    cut: Cut = "line",
    normal: Normal = "spaces",
    ignore_case: bool = True,
    min_characters: int = 1,
) -> Units:
    """The units of every document whose normal form has at least `min_characters` characters.

    Args:
        text: large_string array without nulls, D documents, any slice.
        cut: what a unit is.
        normal: what of it is compared.
        ignore_case: compare the lower case, character by character; not with `exact`.
        min_characters: at least 1.
    """
    from prill.features._characters import character_table
    from prill.features._units_kernel import hash_units as run

    offsets, data = text_buffers(text)
    if offsets[-1] - offsets[0] > _MAX_DOCUMENT_BYTES and np.diff(offsets).max() > _MAX_DOCUMENT_BYTES:
        raise InternalError(f"a document must have at most {_MAX_DOCUMENT_BYTES} bytes")
    n_lines = int(np.count_nonzero(data[offsets[0] : offsets[-1]] == 10)) + len(text)
    counts_D = np.zeros(len(text), np.int64)
    hashes = np.empty(n_lines, np.uint64)
    starts, stops = np.empty(n_lines, np.int32), np.empty(n_lines, np.int32)
    actions, outputs = _bytes(normal, ignore_case=ignore_case)
    ways = (np.bool_(normal != "exact"), np.bool_(normal == "words"), np.bool_(ignore_case))
    blank = np.bool_(cut == "paragraph")
    table = character_table()
    n = run(
        offsets,
        data,
        table,
        actions,
        outputs,
        ways,
        blank,
        max(min_characters, 1),
        counts_D,
        hashes,
        starts,
        stops,
    )
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_D)])
    return Units(offsets=first, hashes=hashes[:n], starts=starts[:n], stops=stops[:n])


@functools.cache
def _bytes(normal: Normal, *, ignore_case: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What each byte does in the normal form, and what it becomes; beyond ASCII only for `exact`."""
    actions = np.full(256, _EMIT, np.uint8)
    outputs = np.arange(256, dtype=np.uint8)
    if normal == "exact":
        return actions, outputs
    for byte in range(128):
        character = chr(byte)
        is_word = character.isalnum() or character == "_"
        if character.isspace() or (normal == "words" and not is_word):
            actions[byte], outputs[byte] = _GAP, ord(" ")
        elif normal == "words" and character.isdigit():
            outputs[byte] = ord("0")
        elif ignore_case:
            outputs[byte] = ord(character.lower())
    return actions, outputs
