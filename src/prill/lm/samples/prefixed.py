"""Evaluation documents after a prefix that is read and not scored: a host, a source, a tag.

A conditioned model is evaluated both ways. The loss counts the same tokens with and without the prefix, so
the two differ by what the prefix tells.

Source: Gao et al. 2025, arXiv:2501.01956 (conditional inference); Korbak et al. 2023, arXiv:2302.08582
(generation after the tag of good text).
Differs: tags keep their share of probability; they are not banned and what is left not scaled up.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.data import TokenStream
from prill.lm.score import EvalSet

__all__ = ["prefixed", "prefixed_like"]


def prefixed(evals: EvalSet, prefix: NDArray[Any]) -> EvalSet:
    """The set with one prefix, token ids (P,), before every document; an empty one changes nothing."""
    if not len(prefix):
        return evals
    given = len(prefix) + (0 if evals.n_given is None else evals.n_given)
    before = np.asarray(prefix, np.int64)
    return replace(
        evals,
        docs=[np.concatenate([before, np.asarray(doc, np.int64)]) for doc in evals.docs],
        n_given=np.broadcast_to(np.asarray(given, np.int64), len(evals.docs)),
    )


def prefixed_like(evals: EvalSet, samples: TokenStream) -> EvalSet:
    """The set with the prefixes that a transform gave its documents.

    Args:
        evals: documents in the order of the samples, without prefixes.
        samples: one sample a document: what a conditioning transform made of the stream of the same
            documents. Tokens before a document's own, and those only, are its prefix.
    Raises:
        DataError: the samples do not end with the documents of the set.
    """
    starts = samples.doc_starts
    if samples.n_documents != len(evals.docs):
        raise DataError(
            f"expected one sample a document, found {samples.n_documents} for {len(evals.docs)} documents",
            where=evals.name,
        )
    docs = [np.asarray(samples.tokens[a : b - 1], np.int64) for a, b in itertools.pairwise(starts)]
    n_given = np.array([len(d) - len(e) for d, e in zip(docs, evals.docs, strict=True)], np.int64)
    for number, (doc, plain) in enumerate(zip(docs, evals.docs, strict=True)):
        if n_given[number] < 0 or not np.array_equal(doc[n_given[number] :], plain):
            raise DataError(
                "expected a sample that ends with the document's own tokens, found others",
                where=f"{evals.name}, document {number}",
                hint="use the transform that puts a prefix before documents, without cutting them",
            )
    return replace(evals, docs=docs, n_given=n_given)
