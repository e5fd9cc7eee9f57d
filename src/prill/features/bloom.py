"""A Bloom filter: a set in fixed memory that never denies a member, and seldom claims a stranger.

For where membership is all that is asked and exact keys would not fit: units known from another corpus, a
list of hashes of a billion documents. Filters of equal size and seed can be united.

Source: Bloom 1970, CACM 13(7); sizes as in dolma (Soldaini et al. 2024, arXiv:2402.00159). Differs: the
places of a key follow from two hashes (Kirsch and Mitzenmacher 2008, "Less hashing, same performance"), not
from k independent ones; seeds come from the settings, not from chance.

Legend: K keys.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, InternalError, ResourceError
from prill.features.keyed import derive_seed
from prill.run.atomic import atomic_path, machine_errors

__all__ = ["BLOOM_VERSION", "Bloom", "BloomSize"]

BLOOM_VERSION = 1
"""Version of the places of a key; it changes whenever one of them changes."""

_SMALLEST_BYTES, _LARGEST_BYTES = 1 << 20, 1 << 40


@dataclass(frozen=True, kw_only=True)
class BloomSize:
    """Memory and hashes of a filter.

    Attributes:
        n_bytes: a power of two.
        n_hashes: places of a key.
    """

    n_bytes: int
    n_hashes: int

    @classmethod
    def of_bytes(cls, n_bytes: int, n_keys: int) -> BloomSize:
        """The best number of hashes, ceil(bits / keys * ln 2), for a filter of a given size.

        >>> BloomSize.of_bytes(1 << 20, 1_000_000).n_hashes
        6
        """
        return cls(n_bytes=n_bytes, n_hashes=math.ceil(8 * n_bytes / n_keys * math.log(2)))

    @classmethod
    def of_rate(cls, n_keys: int, false_positive_rate: float) -> BloomSize:
        """The smallest power of two from 1 MiB on whose rate is at most the one asked for.

        >>> BloomSize.of_rate(1_000_000, 1e-6)
        BloomSize(n_bytes=4194304, n_hashes=24)
        """
        if n_keys < 1 or not 0 < false_positive_rate < 1:
            raise InternalError(f"expected keys and a rate, found {n_keys}, {false_positive_rate}")
        n_bytes = _SMALLEST_BYTES
        while (size := cls.of_bytes(n_bytes, n_keys)).false_positive_rate(n_keys) > false_positive_rate:
            n_bytes *= 2
            if n_bytes > _LARGEST_BYTES:
                raise ResourceError(
                    f"a filter of {n_keys} keys with a false-positive rate of {false_positive_rate} needs "
                    f"more than {_LARGEST_BYTES} bytes",
                    hint="raise the rate",
                )
        return size

    def false_positive_rate(self, n_keys: int) -> float:
        """(1 - (1 - 1/bits)^(hashes * keys))^hashes once n_keys different keys are in."""
        is_set = -math.expm1(self.n_hashes * n_keys * math.log1p(-1 / (8 * self.n_bytes)))
        return float(is_set**self.n_hashes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bloom:
    """A filter. Made by `Bloom.empty` or `Bloom.load`.

    Keys are 128 bits, two words, as `hash_documents` gives them; a key of 64 bits is given as `low` alone,
    and then two different texts share a key with a chance of 2^-64, below which no rate can fall.

    Attributes:
        size: memory and hashes.
        seed: of the places.
        words: the bits, uint64.
    """

    size: BloomSize
    seed: int
    words: NDArray[np.uint64]

    @classmethod
    def empty(cls, size: BloomSize, *, seed: int = 0) -> Bloom:
        """A filter without keys; equal sizes and seeds give equal filters everywhere."""
        return cls(size=size, seed=seed, words=np.zeros(size.n_bytes // 8, np.uint64))

    def add(self, low: NDArray[np.uint64], high: NDArray[np.uint64] | None = None) -> NDArray[np.bool_]:
        """Put keys in, in order; which ones were there already (or seemed to be), bool, shape (K,).

        Not for several threads at once: give each a filter of its own and `unite` them.
        """
        from prill.features._bloom_kernel import add

        found = np.zeros(low.shape[0], np.bool_)
        add(self.words, self.size.n_hashes, self._salt, low if high is None else high, low, found)
        return found

    def contains(self, low: NDArray[np.uint64], high: NDArray[np.uint64] | None = None) -> NDArray[np.bool_]:
        """Which keys are in, bool, shape (K,): true for all that are, and for few others."""
        from prill.features._bloom_kernel import contains

        found = np.zeros(low.shape[0], np.bool_)
        contains(self.words, self.size.n_hashes, self._salt, low if high is None else high, low, found)
        return found

    def unite(self, other: Bloom) -> Bloom:
        """The filter of the keys of both."""
        if (self.size, self.seed) != (other.size, other.seed):
            found = f"{self.size, self.seed}, {other.size, other.seed}"
            raise InternalError(f"expected filters of one size and seed, found {found}")
        return Bloom(size=self.size, seed=self.seed, words=self.words | other.words)

    def save(self, path: Path) -> None:
        """Write the filter as safetensors, whole or not at all.

        Raises:
            ResourceError: the machine refuses to store the file.
        """
        from safetensors.numpy import save_file

        said = {"version": BLOOM_VERSION, "n_hashes": self.size.n_hashes, "seed": self.seed}
        with atomic_path(path) as temporary:
            save_file({"words": self.words}, temporary, metadata={_KEY: json.dumps(said, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> Bloom:
        """Read a filter.

        Raises:
            DataError: there is none, or it is damaged or of another version.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise DataError("expected a Bloom filter, found none", where=str(path))
        try:
            with machine_errors(path), safe_open(path, framework="np") as stored:
                said = json.loads((stored.metadata() or {}).get(_KEY, "{}"))
                words = stored.get_tensor("words")
        except (SafetensorError, ValueError) as error:
            raise DataError(f"expected a Bloom filter, found damage: {error}", where=str(path)) from error
        n_words = words.shape[0] if words.ndim == 1 else 0
        if said.get("version") != BLOOM_VERSION or words.dtype != np.uint64 or n_words.bit_count() != 1:
            raise DataError(
                f"expected a Bloom filter of version {BLOOM_VERSION}, found {said.get('version')}",
                where=str(path),
            )
        size = BloomSize(n_bytes=8 * n_words, n_hashes=int(said["n_hashes"]))
        return cls(size=size, seed=int(said["seed"]), words=words)

    @property
    def _salt(self) -> np.uint64:
        return np.uint64(derive_seed(self.seed, "features.bloom"))


_KEY = "prill.bloom"
