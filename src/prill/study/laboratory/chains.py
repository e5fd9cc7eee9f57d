"""Chains of symbols: stationary shares, documents, and what a learner of their pairs would pay.

Axes: V symbols, n symbols of a document, D documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "add_half_excess",
    "context_regret",
    "corrupted_pairs",
    "pair_weights",
    "pairs_of",
    "sample_documents",
    "stationary",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def stationary(chain: Floats) -> Floats:
    """Shares of the symbols in the long run, (V,), for transition probabilities (V, V), all positive.

    Source: Grassmann, Taksar, Heyman 1985: elimination without subtraction, exact to rounding for any chain.
    """
    left = chain.copy()
    for last in range(len(chain) - 1, 0, -1):
        left[:last, last] /= left[last, :last].sum()
        left[:last, :last] += np.outer(left[:last, last], left[last, :last])
    shares = np.ones(len(chain))
    for symbol in range(1, len(chain)):
        shares[symbol] = shares[:symbol] @ left[:symbol, symbol]
    return np.asarray(shares / shares.sum())


def pairs_of(chain: Floats) -> Floats:
    """Probability of each pair of neighbours, (V, V)."""
    return np.asarray(stationary(chain)[:, None] * chain)


def corrupted_pairs(pairs: Floats, share: float) -> Floats:
    """Pairs of a chain of which a share of the symbols is replaced by any of the V, each as likely."""
    n = len(pairs)
    first, second = pairs.sum(1), pairs.sum(0)
    one = (first[:, None] + second[None, :]) / n
    return np.asarray((1 - share) ** 2 * pairs + share * (1 - share) * one + share**2 / n**2)


def sample_documents(chain: Floats, lengths: Ints, rng: np.random.Generator) -> list[Ints]:
    """Documents of these lengths, each begun in the stationary distribution and independent of the others."""
    n_symbols = len(chain)
    steps = np.cumsum(chain, axis=1)
    steps[:, -1] = 1.0
    edges = (steps + np.arange(n_symbols)[:, None]).ravel()
    longest = int(lengths.max(initial=0))
    symbols = np.empty((len(lengths), longest), np.int64)
    begins = np.cumsum(stationary(chain))
    symbols[:, 0] = np.minimum(np.searchsorted(begins, rng.random(len(lengths)), side="right"), n_symbols - 1)
    for place in range(1, longest):
        before = symbols[:, place - 1]
        drawn = np.searchsorted(edges, before + rng.random(len(lengths)), side="right") - before * n_symbols
        symbols[:, place] = np.clip(drawn, 0, n_symbols - 1)
    return [row[:length] for row, length in zip(symbols, lengths, strict=True)]


def pair_weights(target: Floats, pairs: Sequence[Floats], n_steps: int) -> Floats:
    """Shares of the sources whose mixed pairs are nearest to the target's, by expectation maximisation.

    Args:
        target: pairs of the target, (V, V).
        pairs: of each source.
        n_steps: from equal shares; it converges slowly where sources overlap.
    """
    table = np.stack([source.ravel() for source in pairs])
    shares = np.full(len(table), 1 / len(table))
    wanted = target.ravel()
    for _ in range(n_steps):
        shares = shares * (table @ (wanted / (shares @ table)))
    return np.asarray(shares)


def add_half_excess(chain: Floats, n_symbols: int, n_repeats: int, rng: np.random.Generator) -> Floats:
    """Nats a symbol that a learner pays beyond the entropy rate after so many symbols of the chain itself.

    It counts pairs and adds a half to each; about V (V - 1) / (2 N). One value a repeat, (n_repeats,).
    """
    n, pairs = len(chain), pairs_of(chain)
    found = []
    for document in sample_documents(chain, np.full(n_repeats, n_symbols + 1), rng):
        places = document[:-1] * n + document[1:]
        counts = np.bincount(places, minlength=n * n).reshape(n, n) + 0.5
        learnt = counts / counts.sum(1, keepdims=True)
        found.append(float((pairs * np.log(chain / learnt)).sum()))
    return np.array(found)


def context_regret(
    target: int,
    chains: Sequence[Floats],
    shares: Floats,
    *,
    n_symbols: int,
    n_documents: int,
    rng: np.random.Generator,
) -> float:
    """Nats a symbol that an ideal learner of the mixture pays on documents of source `target`.

    The learner infers the source from what it has read; it never pays more than ln(1 / share) in all, so
    long documents hardly care about the mixture.
    """
    lengths = np.full(n_documents, n_symbols + 1)
    documents = np.stack(sample_documents(chains[target], lengths, rng))
    logs = []
    for chain, share in zip(chains, shares, strict=True):
        begin = np.log(stationary(chain)[documents[:, 0]])
        steps = np.log(chain)[documents[:, :-1], documents[:, 1:]].sum(1)
        logs.append(np.log(share) + begin + steps)
    own = logs[target] - np.log(shares[target])
    return float((own - np.logaddexp.reduce(logs, axis=0)).mean() / n_symbols)
