"""Sentences a line, counted over tokens as the rule-based splitter of spaCy 3 finds them.

A sentence begins at the first token that is no punctuation after a token that is one end mark alone. White
space beyond the one space that belongs to the token before it counts as a token of its own there.

Legend: D documents, T tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._classes_kernel import decode
from prill.features._jit import inlined, kernel

__all__ = ["count_sentences"]

_TERMINAL, _MARK, _NEWLINE = np.uint8(0x08), np.uint8(0x01), 10


@inlined
def _is_end_mark(
    data: NDArray[np.uint8], classes: NDArray[np.uint8], start: int, stop: int, late: NDArray[np.int64]
) -> bool:
    """Whether the token is one character that ends sentences and that the splitter knows."""
    if (classes[start] & _TERMINAL) == 0 or stop - start > 4:
        return False
    code, n = decode(data, start, stop)
    if n != stop - start:
        return False
    place = np.searchsorted(late, code)
    return not (place < late.shape[0] and late[place] == code)


@inlined
def _is_punctuation(classes: NDArray[np.uint8], start: int, stop: int) -> bool:
    at = start
    while at < stop and (classes[at] & _MARK) != 0:
        at += 1
    return at == stop


@inlined
def _find_newlines(data: NDArray[np.uint8], start: int, stop: int) -> tuple[int, int]:
    """Newlines in a part, and the first of them; `stop` when there is none."""
    n, first = 0, stop
    for i in range(start, stop):
        if data[i] == _NEWLINE:
            first = min(first, i)
            n += 1
    return n, first


@inlined
def _has_space_token(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether white space between two tokens is more than one space."""
    return stop > start and not (stop - start == 1 and data[start] == 0x20)


@kernel
def count_sentences(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    tokens_D1: NDArray[np.int64],
    starts_T: NDArray[np.uint32],
    ends_T: NDArray[np.uint32],
    late: NDArray[np.int64],
    sentences_D: NDArray[np.int64],
) -> None:
    """Sentences of every document, the sum over its lines, each of which holds at least one.

    Args:
        offsets_D1, data, classes, tokens_D1, starts_T, ends_T: as in `_statistics_kernel`.
        late: end marks that the splitter does not know, sorted code points.
        sentences_D: receives the numbers.
    """
    for d in range(offsets_D1.shape[0] - 1):
        base, before, ended = offsets_D1[d], offsets_D1[d], False
        n = int(offsets_D1[d + 1] > base)
        for t in range(tokens_D1[d], tokens_D1[d + 1]):
            start, stop = base + np.int64(starts_T[t]), base + np.int64(ends_T[t])
            n_newlines, first = _find_newlines(data, before, start)
            n += n_newlines  # a blank line is a sentence, too
            if ended and _has_space_token(data, before, first):
                n += 1
                ended = False
            ended &= n_newlines == 0
            is_end = _is_end_mark(data, classes, start, stop, late)
            if is_end:
                ended = True
            elif ended and not _is_punctuation(classes, start, stop):
                n += 1
                ended = False
            before = stop
        n_newlines, first = _find_newlines(data, before, offsets_D1[d + 1])
        sentences_D[d] = n + n_newlines + int(ended and _has_space_token(data, before, first))
