"""Text made on the spot: kinds of documents with words of their own, and noise that nothing can learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

WORDS = {
    "a": "river stone cloud meadow light winter garden silver hollow autumn bridge morning",
    "b": "kernel socket buffer thread packet return import vector matrix cursor object string",
}

KINDS = np.repeat(["a", "b", "noise", "other"], [60, 60, 20, 2])
"""Of the pool that tests of methods share (the fixture `kinds`)."""


def documents(
    n: int, *, seed: int = 0, kind: Literal["a", "b", "noise"] = "a", n_words: tuple[int, int] = (20, 60)
) -> list[str]:
    """Documents of one kind; in `a` and `b` a word is followed by one of three, noise is random letters."""
    rng = np.random.default_rng(seed)
    return [_document(rng, kind, int(rng.integers(*n_words))) for _ in range(n)]


def _document(rng: np.random.Generator, kind: str, n_words: int) -> str:
    if kind == "noise":
        letters = rng.integers(33, 127, size=5 * n_words).astype(np.uint8).tobytes().decode()
        return " ".join(letters[i : i + 5] for i in range(0, len(letters), 5))
    words, at, found = WORDS[kind].split(), int(rng.integers(12)), []
    for _ in range(n_words):
        found.append(words[at])
        at = (3 * at + int(rng.integers(3))) % 12
    return " ".join(found) + "."


def topics(topic: Sequence[int], *, seed: int = 0, n_words: int = 60) -> list[str]:
    """A document for each topic, of words drawn from the topic's own 40."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice([f"w{t}x{i}" for i in range(40)], n_words)) for t in topic]


def texts(documents: Sequence[str]) -> pa.Array:
    """Documents as the pool gives them."""
    return pa.array(documents, pa.large_string())
