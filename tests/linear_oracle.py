"""Plain Python of fastText's features and prediction, and a writer of its `.bin` files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPACES = " \n\r\t\v\f\0"


def fnv(word: str) -> int:
    """fastText's hash of a word, signed 32 bits: FNV-1a over bytes that are sign-extended."""
    h = 2166136261
    for byte in word.encode():
        h = ((h ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
    return h - (1 << 32) if h >= 1 << 31 else h


def one_line(document: str) -> str:
    """The transform of DCLM."""
    return " ".join(document.strip().splitlines())


def words(document: str) -> list[str]:
    """The words of a document that is one line, `</s>` behind the last."""
    line = one_line(document)
    for space in SPACES:
        line = line.replace(space, " ")
    found = []
    for word in [word for word in line.split(" ") if word] + ["</s>"]:
        if not word.startswith("__label__"):
            found.append(word)
        if word == "</s>":
            break
    return found


def buckets(tokens: Sequence[str], n: int, n_buckets: int) -> list[int]:
    """Buckets of all 2..n-grams."""
    hashes = [fnv(word) for word in tokens]
    found = []
    for i in range(len(hashes)):
        h = hashes[i] & 0xFFFFFFFFFFFFFFFF
        for j in range(i + 1, min(i + n, len(hashes))):
            h = (h * 116049371 + hashes[j]) & 0xFFFFFFFFFFFFFFFF
            found.append(h % n_buckets)
    return found


def probabilities(
    document: str,
    vocabulary: Sequence[str],
    rows: NDArray[np.float32],
    outputs: NDArray[np.float32],
    *,
    n: int,
) -> NDArray[np.float64]:
    """P(label) as fastText has it, without its 1e-5."""
    place = {word: i for i, word in enumerate(vocabulary)}
    tokens = words(document)
    ids = [place[word] for word in tokens if word in place]
    n_buckets = len(rows) - len(vocabulary)
    if n_buckets:
        ids += [len(vocabulary) + bucket for bucket in buckets(tokens, n, n_buckets)]
    if not ids:
        return np.full(len(outputs), np.nan)
    scores = outputs.astype(np.float64) @ rows[ids].astype(np.float64).mean(axis=0)
    raised = np.exp(scores - scores.max())
    return np.asarray(raised / raised.sum())


def write_bin(
    path: Path,
    vocabulary: Sequence[str],
    labels: Sequence[str],
    rows: NDArray[np.float32],
    outputs: NDArray[np.float32],
    *,
    n: int = 2,
    **changed: Any,
) -> bytes:
    """A `.bin` file as fastText 0.9.2 writes it; `changed` replaces a number of the header."""
    header = {"magic": 793712314, "version": 12, "dim": rows.shape[1], "ws": 5, "epoch": 5, "min_count": 1}
    header |= {"neg": 5, "ngrams": n, "loss": 3, "model": 3, "bucket": len(rows) - len(vocabulary)}
    header |= {"minn": 0, "maxn": 0, "rate": 100}
    sizes = {"size": len(vocabulary) + len(labels), "n_words": len(vocabulary), "n_labels": len(labels)}
    longs = {"n_tokens": 100, "pruned": -1}
    matrix = {"quantised": False, "m": len(rows), "k": rows.shape[1]}
    for part in (header, sizes, longs, matrix):
        part.update({name: value for name, value in changed.items() if name in part})
    entries = [(word, 0) for word in vocabulary] + [("__label__" + label, 1) for label in labels]
    content = struct.pack("<14id", *header.values(), 1e-4)
    content += struct.pack("<3i2q", *sizes.values(), *longs.values())
    content += b"".join(word.encode() + b"\0" + struct.pack("<qb", 3, kind) for word, kind in entries)
    content += struct.pack("<?qq", *matrix.values()) + rows.astype("<f4").tobytes()
    content += struct.pack("<?qq", False, *outputs.shape) + outputs.astype("<f4").tobytes()
    path.write_bytes(content)
    return content
