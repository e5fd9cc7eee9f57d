"""English words as spaCy finds them, for many documents at once.

datatrove's filters count words with spaCy's English tokenizer and leave out white space; verdicts agree with
theirs only when words do.

Source: spaCy 3.8 (`Tokenizer`, `lang/en`); datatrove 0.10 (`utils/word_tokenizers.py`).
Differs: a word that is exactly IS_ALPHA makes spaCy fail, and datatrove then splits the text without it; here
it is a word. What `\\w` and a decimal digit are follows the interpreter's Unicode version, as it does there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import kernel
from prill.features._spacy_kernel import split_document
from prill.features._spacy_lookup import word_tables

__all__ = ["VERSION", "split_english"]

VERSION = 1
"""Changes when some text may split otherwise than before."""

_PADDING = 72


def split_english(
    offsets_D1: NDArray[np.int64], data: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]:
    """Boundaries of the words of D documents.

    Args:
        offsets_D1: document d is data[offsets_D1[d]:offsets_D1[d + 1]], UTF-8.
        data: bytes of all documents.
    Returns:
        tokens_D1: document d has the words tokens_D1[d]:tokens_D1[d + 1], int64, (D + 1,).
        starts, ends: first byte and byte behind of each word, from the first byte of its document, uint32.
    Examples:
        >>> text = b"I can't (really)."
        >>> _, starts, ends = split_english(np.array([0, 17]), np.frombuffer(text, np.uint8))
        >>> [text[start:end].decode() for start, end in zip(starts, ends)]
        ['I', 'ca', "n't", '(', 'really', ')', '.']
    """
    room = int(offsets_D1[-1] - offsets_D1[0]) + _PADDING
    starts, ends = np.empty(room, np.uint32), np.empty(room, np.uint32)
    tokens_D1 = np.zeros(len(offsets_D1), np.int64)
    _split_batch(offsets_D1, data, *word_tables(), tokens_D1, starts, ends)
    n = int(tokens_D1[-1])
    return tokens_D1, starts[:n], ends[:n]


@kernel
def _split_batch(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    classes: NDArray[np.uint32],
    strings: NDArray[np.uint64],
    tokens_D1: NDArray[np.int64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
) -> None:
    n = int(tokens_D1[0])  # 0, but no constant: for a constant, numba would compile all parts once more
    for d in range(len(offsets_D1) - 1):
        n = split_document(data, offsets_D1[d], offsets_D1[d + 1], classes, strings, starts, ends, n)
        tokens_D1[d + 1] = n
