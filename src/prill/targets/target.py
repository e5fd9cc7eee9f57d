"""A target: what a model should become good at, split so that no method sees what judges it.

The sample's exact copies are removed, then its documents are ordered by the keyed hash of their text and
cut: the first share is held out for evaluation, the rest is the fit part that methods may see. The split
depends on the texts and the seed alone, not on their order or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from prill.corpus.batch import text_buffers
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.errors import DataError
from prill.features.keyed import keyed_uniform
from prill.features.text_hash import hash_documents
from prill.targets.items import read_items
from prill.targets.spec import TargetSpec

__all__ = ["SPLIT_VERSION", "Target", "read_target", "split"]

SPLIT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target's sample in its two parts.

    Args:
        fit: texts that methods see, large_string, at least one.
        held_out: texts that only the evaluation sees, large_string, at least one.
        keys: 128-bit hash of every sample document as two uint64 columns (high, low), shape (D, 2).
        n_copies: exact copies inside the sample that were removed.
    """

    name: str
    fit: pa.Array
    held_out: pa.Array
    keys: np.ndarray
    n_copies: int

    def digest(self) -> str:
        """SHA-256 over the sample's document hashes: what identifies the target in a fingerprint."""
        import hashlib

        return hashlib.sha256(np.unique(self.keys, axis=0).astype("<u8").tobytes()).hexdigest()


def read_target(name: str, spec: TargetSpec, *, seed: int, base: Path) -> Target:
    """Read and split one target.

    Raises:
        DataError: a file is missing or broken, or fewer than two different documents were found.
    """
    texts = _read_items(name, spec, base) if spec.kind == "items" else _read_documents(spec, base)
    return split(name, texts, held_out=spec.held_out, seed=seed)


def split(name: str, texts: pa.Array, *, held_out: float, seed: int) -> Target:
    """Split `texts` (large_string) of a target; `held_out` is the share of documents put aside."""
    high, low = hash_documents(texts)
    _, first = np.unique(np.stack([high, low], axis=1), axis=0, return_index=True)
    first = first[np.diff(text_buffers(texts)[0])[first] > 0]
    if len(first) < 2:
        raise DataError(
            f"at least 2 different documents with text expected, found {len(first)} among {len(texts)}",
            where=f"target `{name}`",
            hint="one part fits the methods, the other judges them; give a larger sample",
        )
    order = first[np.lexsort((low[first], keyed_uniform(seed, low[first])))]
    n_held_out = min(len(order) - 1, max(1, round(held_out * len(order))))
    return Target(
        name=name,
        fit=texts.take(pa.array(np.sort(order[n_held_out:]))),
        held_out=texts.take(pa.array(np.sort(order[:n_held_out]))),
        keys=np.stack([high, low], axis=1)[np.sort(first)],
        n_copies=len(texts) - len(first),
    )


def _read_documents(spec: TargetSpec, base: Path) -> pa.Array:
    corpus = Corpus.open(CorpusSpec(paths=spec.paths, fields=spec.fields), base)
    chunks = [batch.text for shard in corpus.shards for batch in corpus.batches(shard)]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())


def _read_items(name: str, spec: TargetSpec, base: Path) -> pa.Array:
    files = [found for pattern in spec.paths for found in _find(base, pattern)]
    if not files:
        raise DataError(
            f"no file found at {', '.join(spec.paths)}", where=f"target `{name}`", hint="check the path"
        )
    return pa.array([text for path in files for text in read_items(path)], pa.large_string())


def _find(base: Path, pattern: str) -> list[Path]:
    path = Path(pattern)
    anchor = Path(path.anchor) if path.is_absolute() else base
    return sorted(anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
