"""The contract of sample transforms: documents in, a token stream with channels out.

A transform decides what a document looks like to the model: which tokens are added, masked, weighted,
reordered or shown in full. It never decides which documents are read, nor how often. What it draws is keyed
by (seed, hash of the document's text), so a sample is the same wherever its document lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.lm.data import TokenStream

__all__ = ["Documents", "SampleTransform"]


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents as a transform gets them; D documents, N tokens.

    Attributes:
        stream: token ids, each document closed by end-of-text; channels of an earlier transform are kept.
        hashes: hash of each document's text, uint64, (D,): the key of everything random.
        encode: token ids of short texts (a host name, a tag), without end-of-text.
        vocab_size: ids from here on are free for tags; a transform that adds n of them makes the vocabulary
            n larger.
        fields: the corpus's other columns (url, source, a score), each (D,).
        texts: the documents, where a transform needs more than tokens; None: not read.
        ends: where each token ends in its document's text, bytes of UTF-8, int64, (N,), which transforms need
            that read `text` (see `prill.lm.samples.token_ends`); None: not read.
    """

    stream: TokenStream
    hashes: NDArray[np.uint64]
    encode: Callable[[Sequence[str]], list[NDArray[Any]]]
    vocab_size: int
    fields: Mapping[str, pa.Array] = field(default_factory=dict)
    texts: pa.Array | None = None
    ends: NDArray[np.int64] | None = None

    @property
    def eos(self) -> int:
        """End-of-text, which closes every document and opens the next."""
        return int(self.stream.tokens[-1])


class SampleTransform(Protocol):
    """Tokens with weights out of documents.

    Attributes:
        n_added: tags it adds to the vocabulary: ids `vocab_size` to `vocab_size + n_added`.
        needs: columns of the corpus it reads; `text` stands for texts and token ends.
    """

    @property
    def n_added(self) -> int: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """One sample a document, in order (a sample may be empty but for its end-of-text).

        A transform that makes several samples of a long document, or none of some, says which in the
        stream's `origins`.

        Raises:
            DataError: a document lacks what the transform needs.
        """
        ...

    def as_record(self) -> dict[str, Any]:
        """Name, version and settings: what decides the samples. JSON-able."""
        ...
