"""Laboratory B, chains: documents of known sources, and the exact loss of any mixture of them.

A learner that has read a mixture w without end predicts P_w(v | u), the mixed pairs given the first symbol.
Its loss on the target is exact, so a choice is judged by the shares of its sources, without training.

The scaled-up configuration has sources in families, a target that is a mixture of some of them, and decoys:
noise, a right source written many times over, and the target itself with a tenth of its symbols corrupted.

Source: none, derived here. Axes: V symbols, S sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.study.laboratory.chains import corrupted_pairs, pairs_of, sample_documents

__all__ = ["TARGETS", "BigramLab", "Kind", "LabSource", "card_lab", "lab_targets", "scaled_lab"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TARGETS = ("blend", "single")
Kind = Literal["right", "wrong", "noise", "copies", "corrupted"]

RIGHT_SHARES = (0.4, 0.25, 0.2, 0.15)
OWN_SHARE = 0.7
CONCENTRATION = 0.1
N_COPIES = 20
CORRUPTION = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class LabSource:
    """A source of documents.

    Attributes:
        name: for people, never shown to methods.
        kind: part of the target (`right`), not (`wrong`), or which decoy.
        chain: transition probabilities, (V, V).
        corruption: share of the symbols that are replaced by any.
        n_copies: how often each document is written.
    """

    name: str
    kind: Kind
    chain: Floats
    corruption: float = 0.0
    n_copies: int = 1

    @property
    def is_decoy(self) -> bool:
        """Looks useful to some method and is not."""
        return self.kind in ("noise", "copies", "corrupted")

    @cached_property
    def pairs(self) -> Floats:
        """Probability of each pair of neighbours in its documents, (V, V)."""
        clean = pairs_of(self.chain)
        return corrupted_pairs(clean, self.corruption) if self.corruption else clean

    def documents(self, lengths: Ints, rng: np.random.Generator) -> list[Ints]:
        """Documents of these lengths, without copies."""
        found = sample_documents(self.chain, lengths, rng)
        if not self.corruption:
            return found
        n_symbols = len(self.chain)
        return [
            np.where(rng.random(len(d)) < self.corruption, rng.integers(0, n_symbols, len(d)), d)
            for d in found
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class BigramLab:
    """Sources, and the target as shares of them.

    Args:
        sources: S of them.
        right: w*, the shares that make the target, (S,).
    """

    sources: tuple[LabSource, ...]
    right: Floats

    @property
    def n_symbols(self) -> int:
        """V."""
        return len(self.sources[0].chain)

    @cached_property
    def target_pairs(self) -> Floats:
        """Pairs of the target, (V, V)."""
        return self._mixed(self.right)

    @cached_property
    def target_chain(self) -> Floats:
        """The target as one chain: its stationary pairs are those of the mixture."""
        return np.asarray(self.target_pairs / self.target_pairs.sum(1, keepdims=True))

    def learner(self, shares: Floats) -> Floats:
        """P_w(v | u) of a learner that has read a mixture without end, (V, V)."""
        mixed = self._mixed(shares)
        return np.asarray(mixed / mixed.sum(1, keepdims=True))

    def loss(self, shares: Floats) -> float:
        """L(w): nats a symbol of the target under that learner."""
        return float(-(self.target_pairs * np.log(self.learner(shares))).sum())

    def regret(self, shares: Floats) -> float:
        """L(w) - L(w*), never below 0 but for rounding."""
        return self.loss(shares) - self.loss(self.right)

    def distance(self, shares: Floats) -> float:
        """Total variation between w and w*."""
        return float(abs(shares - self.right).sum() / 2)

    def _mixed(self, shares: Floats) -> Floats:
        table = np.stack([source.pairs for source in self.sources])
        return np.asarray(np.tensordot(np.asarray(shares, np.float64), table, axes=1))


def card_lab() -> BigramLab:
    """Four symbols and three sources: one that stays, one that goes round, one uniform; 0.6, 0.4, 0."""
    quiet = np.full((4, 4), 0.1)
    stays = quiet + 0.6 * np.eye(4)
    turns = quiet + 0.6 * np.roll(np.eye(4), 1, axis=1)
    sources = (
        LabSource(name="stays", kind="right", chain=stays),
        LabSource(name="turns", kind="right", chain=turns),
        LabSource(name="uniform", kind="noise", chain=np.full((4, 4), 0.25)),
    )
    return BigramLab(sources=sources, right=np.array([0.6, 0.4, 0.0]))


def scaled_lab(seed: int, *, n_symbols: int = 64, n_families: int = 4, n_members: int = 3) -> BigramLab:
    """Families of chains, a target that is a mixture of four of them, and three decoys.

    Rows are Dirichlet(0.1); a member's row is 0.7 its own and 0.3 its family's. The target takes 0.4 and 0.25
    from two members of the first family, 0.2 from the second family and 0.15 from the third, none from the
    others.

    Raises:
        RecipeError: fewer than three families or two members.
    """
    if n_families < 3 or n_members < 2:
        raise RecipeError(
            f"expected three families or more of two members or more, found {n_families} of {n_members}",
            where="laboratory",
        )
    rng = np.random.default_rng(seed)
    alpha = np.full(n_symbols, CONCENTRATION)
    chains = []
    for _ in range(n_families):
        family = rng.dirichlet(alpha, n_symbols)
        own = rng.dirichlet(alpha, (n_members, n_symbols))
        chains += list(OWN_SHARE * own + (1 - OWN_SHARE) * family)
    members = (0, 1, n_members, 2 * n_members)
    right = np.zeros(len(chains) + 3)
    right[list(members)] = RIGHT_SHARES
    kinds: list[Kind] = ["right" if share else "wrong" for share in right[: len(chains)]]
    sources = [
        LabSource(name=f"family {number // n_members}, member {number % n_members}", kind=kind, chain=chain)
        for number, (kind, chain) in enumerate(zip(kinds, chains, strict=True))
    ]
    plain = BigramLab(sources=tuple(sources), right=right[: len(chains)])
    sources += [
        LabSource(name="noise", kind="noise", chain=np.full((n_symbols, n_symbols), 1 / n_symbols)),
        LabSource(name="copies", kind="copies", chain=chains[0], n_copies=N_COPIES),
        LabSource(name="corrupted", kind="corrupted", chain=plain.target_chain, corruption=CORRUPTION),
    ]
    return BigramLab(sources=tuple(sources), right=right)


def lab_targets(lab: BigramLab) -> dict[str, BigramLab]:
    """The targets of a scaled-up laboratory: its blend, and a single source that the blend leaves out.

    A selector that ranks documents can find a single source; only one that keeps proportions finds a blend.
    """
    wrong = [number for number, source in enumerate(lab.sources) if source.kind == "wrong"]
    single = np.zeros(len(lab.sources))
    single[wrong[-1]] = 1.0
    return dict(zip(TARGETS, (lab, replace(lab, right=single)), strict=True))
