"""Random tokens in place of some: rows for RTS, C-RTS and SLM.

    detect   RTS    which tokens were swapped? Labels for `prill.lm.objectives.swaps`; a swap is uniform over
                    the other tokens of the vocabulary
             C-RTS  the same with swaps that were found confusing: give `clusters`
    recover  SLM    what was there? The targets are the tokens themselves, and only swapped positions count;
                    the input never holds a mask symbol

A label belongs to an input, not to a target, and swaps are drawn anew whenever a row comes again, so this
wraps a feed instead of changing documents. Draws are keyed by (seed, row number).

The papers train encoders. `sees: all` makes one of our models an encoder: attention is full within a
document, and there is no language loss, whose targets would be visible. With `sees: left` a token must be
judged by itself and what is before it; targets stay those of the text, so the language loss goes on, over
inputs that are partly wrong. Use the task as an auxiliary head then, at a small rate. Never rank data by its
loss: random swaps soon become easy.

Legend: B rows, T tokens a row.
Source: Di Liello et al. 2022, arXiv:2210.13536, sections 3.1 to 3.3. Differs: a swap never shows the token
that was there (the code's may, and calls it swapped; in a cluster of one token nothing can be swapped and the
label says so); single tokens, never whole words.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import Problem, RecipeError
from prill.lm.data import Rows
from prill.lm.feed.feed import Feed
from prill.lm.samples.keyed_bits import Bits, below, keyed, nth, uniform
from prill.lm.samples.token_clusters import ClusterCounts

__all__ = ["NOT_JUDGED", "SwapFeed", "Swaps"]

Ints = NDArray[np.int64]

NOT_JUDGED = -1.0
"""Label of special tokens, beside 1 (swapped) and 0 (not)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Swaps:
    """How tokens are swapped.

    Args:
        vocab_size: V; ids from here on are special.
        specials: further ids that are never swapped, nor shown in place of others: end-of-text, tags.
        rate: share of the other tokens that are swapped.
        task: what is learnt of it.
        sees: what a token is judged by.
        clusters: draw what is shown from confusing clusters; None: uniformly.
    Raises:
        RecipeError: the rate is no share, fewer than two tokens may be shown, or a token has no cluster.
    """

    vocab_size: int
    specials: tuple[int, ...]
    rate: float = 0.15
    task: Literal["detect", "recover"] = "detect"
    sees: Literal["left", "all"] = "left"
    clusters: ClusterCounts | None = None

    def __post_init__(self) -> None:
        n_clustered = self.vocab_size if self.clusters is None else len(self.clusters.cluster_of)
        checks = (
            (0 <= self.rate <= 1, f"`rate` must be from 0 to 1, found {self.rate}"),
            (len(self._regular) >= 2, f"swaps need two tokens at least, found {len(self._regular)}"),
            (n_clustered == self.vocab_size, f"{self.vocab_size} tokens need clusters, found {n_clustered}"),
        )
        problems = [Problem(message=text, where="swaps") for is_fine, text in checks if not is_fine]
        if problems:
            raise RecipeError.of(problems)

    def __call__(self, rows: Rows, numbers: Ints, *, seed: int) -> Rows:
        """The rows with swaps.

        Args:
            rows: (B, T), of the text.
            numbers: what each row is known by, (B,).
        """
        after, judged = self._swapped(rows.inputs, numbers, seed)
        swapped = after != rows.inputs
        changes: dict[str, NDArray[np.generic]] = {"inputs": after}
        if self.task == "recover":
            changes |= {"targets": rows.inputs, "weights": swapped.astype(np.float32)}
        else:
            changes["scores"] = np.where(judged, swapped, NOT_JUDGED).astype(np.float32)
        if self.sees == "all":
            changes["visible"] = np.ones(after.shape, np.bool_)
            if self.task == "detect":
                changes["weights"] = np.zeros(after.shape, np.float32)
        return dataclasses.replace(rows, **changes)  # type: ignore[arg-type]

    def digest(self) -> str:
        """Hash of everything that decides a swap."""
        clusters = None if self.clusters is None else self.clusters.digest
        parts = (self.vocab_size, sorted(self.specials), self.rate, self.task, self.sees, clusters)
        return hashlib.sha256(f"swaps-1|{parts}".encode()).hexdigest()

    @functools.cached_property
    def _regular(self) -> Ints:
        """Tokens that may be swapped and shown, rising."""
        return np.setdiff1d(np.arange(self.vocab_size), np.array(self.specials, np.int64))

    def _swapped(self, inputs: Ints, numbers: Ints, seed: int) -> tuple[Ints, NDArray[np.bool_]]:
        """What is shown, and which places are judged."""
        bits = nth(keyed(numbers, seed=seed, use="swaps")[:, None], np.arange(inputs.shape[1]))
        judged = np.isin(inputs, self._regular)
        chosen = judged & (uniform(bits) < self.rate)
        after = inputs.copy()
        after[chosen] = self._others(inputs[chosen], nth(bits[chosen], 0))
        return after, judged

    def _others(self, tokens: Ints, bits: Bits) -> Ints:
        """A token in place of each, never itself, but for one that is alone in the cluster that was drawn."""
        if self.clusters is None:
            return _not_itself(tokens, self._regular, np.zeros_like(tokens), len(self._regular), bits)
        cluster_of = self.clusters.cluster_of
        members = self._regular[np.argsort(cluster_of[self._regular], kind="stable")]
        sizes = np.bincount(cluster_of[self._regular], minlength=len(self.clusters.counts))
        shares = self.clusters.shares() * (sizes > 0)
        edges = np.cumsum(shares, 1) / shares.sum(1, keepdims=True)
        drawn = (edges[cluster_of[tokens]] <= uniform(nth(bits, 1))[:, None]).sum(1)
        starts = np.cumsum(sizes) - sizes
        return _not_itself(tokens, members, starts[drawn], sizes[drawn], bits)


def _not_itself(tokens: Ints, members: Ints, start: Ints, size: Ints | int, bits: Bits) -> Ints:
    """One of `members[start : start + size]` for each token: another than itself if there is one."""
    place_of = np.full(int(members.max()) + 1, -1, np.int64)
    place_of[members] = np.arange(len(members))
    own = place_of[tokens] - start
    is_among = (own >= 0) & (own < size)
    drawn = below(bits, np.maximum(size - is_among, 1))
    drawn += is_among & (drawn >= own) & (np.asarray(size) > 1)
    return np.asarray(members[start + drawn])


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapFeed:
    """A feed whose rows have swaps; a `Feed`.

    Args:
        feed: rows of text.
        swaps: how.
        seed: of the draws.
    """

    feed: Feed
    swaps: Swaps
    seed: int

    @property
    def name(self) -> str:
        return self.feed.name

    @property
    def n_tokens(self) -> int:
        return self.feed.n_tokens

    @property
    def highest_id(self) -> int:
        return max(self.feed.highest_id, self.swaps.vocab_size - 1)

    def rows(self, first: int, count: int) -> Rows:
        """Base rows with swaps; a row's swaps are its own, whatever portion it is read in."""
        return self.swaps(self.feed.rows(first, count), np.arange(first, first + count), seed=self.seed)

    def documents(self, first: int, count: int) -> list[str]:
        return self.feed.documents(first, count)

    def digest(self) -> str:
        return hashlib.sha256(f"{self.feed.digest()}|{self.swaps.digest()}|{self.seed}".encode()).hexdigest()
