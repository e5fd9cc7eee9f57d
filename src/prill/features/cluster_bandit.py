"""Clusters as the arms of a bandit: influence of a few sampled documents says what a cluster is worth.

Source: Zhang et al. 2024, arXiv:2409.16986 (Quad), section 4. Legend: C clusters, R targets, N documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.bandit import Arms, run_bandit, ucb
from prill.features.checkpoints import end_of_text
from prill.features.clusters import Clusters
from prill.features.feature import Feature, Given, WholeFeature
from prill.features.gradients import CurvatureOf, TargetGradient, model_of
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.picking import all_places, tokens_at
from prill.features.proxies import Proxy
from prill.run.atomic import atomic_write

if TYPE_CHECKING:
    import torch

    from prill.lm.gradients.chunks import Chunking
    from prill.lm.gradients.influence import Influences
    from prill.lm.gradients.products import Projection
    from prill.lm.model import StackedLlama

__all__ = ["BanditRule", "ClusterBandit", "order_in_cluster"]


@dataclass(frozen=True, kw_only=True)
class BanditRule:
    """Settings of `ClusterBandit`; shares stand in for the counts that the paper gives for 600 M documents.

    Attributes:
        n_arms: clusters pulled at an iteration, B.
        n_documents: sampled at a pull.
        most_samples: documents of a cluster that may be sampled at all; pulls beyond begin again.
        most_iterations: of the loop.
        accept_share: share of the pool's documents at which it stops.
        block_share: documents that a positive reward accepts, as a share of the mean cluster.
        tau: threshold of influence; None: the quantile `tau_quantile` of a pilot sample.
        tau_quantile: of the pilot.
        alpha: of the bonus; None: the pilot's deviation / sqrt(n_documents), the noise of a mean.
        radius: distance of centres below which rewards are shared; None: that of the nearest 2 % of pairs.
        n_pilot: documents of the pilot.
        damping: lambda as a share of each layer's mean eigenvalue.
        most_tokens, shortest: of a document that count; chunks shorter than this are dropped.
        is_normalised: chunk gradients have length 1.
        projection: width of a Kronecker projection of both sides; 0: exact products.
    """

    n_arms: int = 8
    n_documents: int = 10
    most_samples: int = 40
    most_iterations: int = 40
    accept_share: float = 0.1
    block_share: float = 1 / 3
    tau: float | None = None
    tau_quantile: float = 0.8
    alpha: float | None = None
    radius: float | None = None
    n_pilot: int = 200
    damping: float = 0.1
    most_tokens: int = 512
    shortest: int = 16
    is_normalised: bool = True
    projection: int = 0


@dataclass(frozen=True, kw_only=True)
class ClusterBandit(WholeFeature):
    """The bandit over clusters for each target; what a document's gradient says is computed once for all.

    Attributes:
        proxy, gradient, curvature: of the influence; without curvature, plain inner products.
        clusters: the arms.
        rule: as JSON-able pairs, so that it counts among the settings.
    """

    kind: ClassVar[str] = "bandit"
    is_apart: ClassVar[bool] = True
    proxy: Proxy
    gradient: TargetGradient
    curvature: CurvatureOf | None
    clusters: Clusters
    rule: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        return "influence of clusters by a bandit"

    @property
    def files(self) -> tuple[str, ...]:
        return ("bandit.safetensors",)

    @property
    def settings(self) -> dict[str, Any]:
        return {"rule": dict(self.rule), "is_preconditioned": self.curvature is not None}

    @property
    def needs(self) -> tuple[Feature, ...]:
        own = (self.proxy, self.gradient, self.clusters, self.clusters.centroids)
        return own if self.curvature is None else (*own, self.curvature)

    @cached_property
    def limits(self) -> BanditRule:
        """The rule."""
        return BanditRule(**dict(self.rule))

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import save

        judge = _Judge(given, self)
        arrays: dict[str, NDArray[Any]] = {}
        counts: dict[str, Any] = {}
        for number, name in enumerate(self.gradient.targets):
            arms, tau, alpha = judge.run(number)
            arrays |= {
                f"{name}/mean": arms.means,
                f"{name}/pulls": arms.pulls,
                f"{name}/ucb": ucb(arms, alpha=alpha),
                f"{name}/cut": judge.cuts(arms),
            }
            counts[name] = {
                "tau": tau,
                "alpha": alpha,
                "n_iterations": arms.n_iterations,
                "n_pulls": int(arms.pulls.sum()),
                "n_accepted_blocks": int(arms.blocks.sum()),
                "n_accepted_documents": judge.accepted(arms),
            }
        place, influence = judge.judged()
        arrays |= {"place": place, "influence": influence}
        atomic_write(paths[0], save({name: np.ascontiguousarray(a) for name, a in sorted(arrays.items())}))
        return {"targets": counts, "n_gradients": len(place), "flops": judge.flops}


def order_in_cluster(seed: int, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The place of documents within their clusters, uniform in (0, 1): the lowest come first."""
    return keyed_uniform(derive_seed(seed, "order within clusters"), keys)


class _Judge:
    """Documents by clusters, and their influence on all targets, computed when first asked for."""

    def __init__(self, given: Given, bandit: ClusterBandit) -> None:
        self.rule = bandit.limits
        self.given = given
        tree = bandit.clusters.centroids.read(given)
        self.centres = tree.levels[-1].reshape(tree.n_leaves, -1).astype(np.float64)
        place, keys, _ = all_places(given)
        cluster = np.empty(len(place), np.int64)
        for shard in range(given.pool.n_shards):
            here = place[:, 0] == shard
            cluster[here] = bandit.clusters.read(given, shard)[0][place[here, 1]]
        is_known = cluster >= 0
        place, keys, cluster = place[is_known], keys[is_known], cluster[is_known]
        if not len(place):
            raise DataError("expected documents with a cluster, found none that may be chosen")
        self.draw = order_in_cluster(given.seed, keys)
        by_cluster = np.lexsort((place[:, 1], place[:, 0], self.draw, cluster))
        self.ends = np.searchsorted(cluster[by_cluster], np.arange(tree.n_leaves + 1))
        self.place, self.draw, keys = place[by_cluster], self.draw[by_cluster], keys[by_cluster]
        self.sizes = np.diff(self.ends)
        self.block = max(1, round(self.rule.block_share * len(place) / max(1, (self.sizes > 0).sum())))
        self.engine = _Engine(given, bandit)
        self.values: dict[int, NDArray[np.float64]] = {}
        self.pilot, self.samples = self._candidates(keys)
        wanted = np.unique(np.concatenate([self.pilot, *self.samples]))
        docs = tokens_at(given, self.place[wanted], longest=self.rule.most_tokens)
        self.docs = dict(zip(wanted.tolist(), docs, strict=True))

    @property
    def flops(self) -> float:
        """Of all gradients so far."""
        return self.engine.flops

    def run(self, target: int) -> tuple[Arms, float, float]:
        """The bandit of one target, with the threshold and the bonus that it used."""
        rule = self.rule
        pilot = self.influence(self.pilot)[:, target]
        tau = float(np.quantile(pilot, rule.tau_quantile)) if rule.tau is None else rule.tau
        alpha = float(pilot.std()) / rule.n_documents**0.5 if rule.alpha is None else rule.alpha
        distances = self._distances()
        radius = rule.radius
        if radius is None:
            pairs = distances[np.triu_indices(len(distances), 1)]
            pairs = pairs[np.isfinite(pairs)]
            radius = float(np.quantile(pairs, 0.02)) if len(pairs) else 0.0

        n_pulled = np.zeros(len(self.sizes), np.int64)

        def means(chosen: NDArray[np.int64], iteration: int) -> NDArray[np.float64]:
            picked = []
            for cluster in chosen:
                own = self.samples[cluster]
                at = (n_pulled[cluster] * rule.n_documents + np.arange(rule.n_documents)) % len(own)
                picked.append(own[at[: len(own)]])
                n_pulled[cluster] += 1
            values = self.influence(np.concatenate(picked))[:, target]
            bounds = np.cumsum([len(part) for part in picked])[:-1]
            return np.array([part.mean() for part in np.split(values, bounds)])

        arms = run_bandit(
            -(-self.sizes // self.block),
            means,
            distances,
            tau=tau,
            alpha=alpha,
            radius=radius,
            n_arms=rule.n_arms,
            wanted_blocks=max(1, round(rule.accept_share * len(self.place) / self.block)),
            most_iterations=rule.most_iterations,
        )
        return arms, tau, alpha

    def influence(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Influence of documents on all targets, (N, R)."""
        new = [n for n in dict.fromkeys(numbers.tolist()) if n not in self.values]
        if new:
            found = self.engine([self.docs[n] for n in new])
            self.values |= dict(zip(new, found.values, strict=True))
        return np.stack([self.values[n] for n in numbers.tolist()])

    def cuts(self, arms: Arms) -> NDArray[np.float64]:
        """The draw up to which documents of each cluster are accepted, (C,); 0: none."""
        n_taken = np.minimum(arms.blocks * self.block, self.sizes)
        last = np.maximum(self.ends[:-1] + n_taken - 1, 0)
        return np.where(n_taken > 0, self.draw[np.minimum(last, len(self.draw) - 1)], 0.0)

    def accepted(self, arms: Arms) -> int:
        """Documents in accepted blocks."""
        return int(np.minimum(arms.blocks * self.block, self.sizes).sum())

    def judged(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(shard, row) and influence of every document that was computed, in the order of the corpus."""
        numbers = np.array(sorted(self.values), np.int64)
        place = self.place[numbers]
        order = np.lexsort((place[:, 1], place[:, 0]))
        return place[order], self.influence(numbers[order])

    def _candidates(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """The pilot, and the documents of each cluster that may be sampled, in keyed order."""
        seed = derive_seed(self.given.seed, "samples of clusters")
        draws = keyed_uniform(seed, keys)
        pilot = np.sort(np.argsort(draws, kind="stable")[: self.rule.n_pilot])
        samples = []
        for start, end in zip(self.ends[:-1], self.ends[1:], strict=True):
            order = np.argsort(draws[start:end], kind="stable")[: self.rule.most_samples]
            samples.append(start + order)
        return pilot, samples

    def _distances(self) -> NDArray[np.float64]:
        squares = (self.centres**2).sum(axis=1)
        found = squares[:, None] + squares[None, :] - 2 * self.centres @ self.centres.T
        np.fill_diagonal(found, 0.0)
        return np.asarray(np.sqrt(np.maximum(found, 0.0)))


class _Engine:
    """Influence of token sequences on all targets."""

    def __init__(self, given: Given, bandit: ClusterBandit) -> None:
        import torch

        from prill.lm.gradients.chunks import Chunking
        from prill.lm.gradients.curvature import Curvature
        from prill.lm.gradients.products import Projection
        from prill.lm.gradients.trace import layer_names
        from prill.lm.tensorfile import read_tensors

        rule = bandit.limits
        self.rule = rule
        self.model: StackedLlama = model_of(given, bandit.proxy)
        self.prefix = end_of_text(given)
        stored, _ = read_tensors(given.file(bandit.gradient))
        names, layers = bandit.gradient.targets, layer_names(self.model)
        wanted = {layer: torch.stack([stored[f"{name}/{layer}"] for name in names]) for layer in layers}
        if bandit.curvature is not None:
            curvature = Curvature.of_tensors(read_tensors(given.file(bandit.curvature))[0])
            wanted = curvature.solve(wanted, damping=rule.damping)
        self.wanted: Mapping[str, torch.Tensor] = wanted
        self.chunking: Chunking = Chunking(
            length=self.model.shape.seq_len, smallest=rule.shortest, most_tokens=rule.most_tokens
        )
        self.projection: Projection | None = None
        if rule.projection:
            seed = derive_seed(given.seed, "projection of gradients")
            self.projection = Projection(seed=seed, width=rule.projection)
        self.n_targets = len(names)
        self.n_tokens = 0

    def __call__(self, docs: Sequence[NDArray[Any]]) -> Influences:
        from prill.lm.gradients.influence import influences

        found = influences(
            self.model,
            docs,
            self.wanted,
            self.chunking,
            prefix=self.prefix,
            is_normalised=self.rule.is_normalised,
            projection=self.projection,
        )
        self.n_tokens += found.n_tokens
        return found

    @property
    def flops(self) -> float:
        """Forward and backward to the activations, one product a target, Gram matrices for norms."""
        from prill.lm.gradients.trace import layer_sizes
        from prill.lm.shape import flops_per_token

        shape = self.model.shape
        widths = sum(i + o for i, o in layer_sizes(self.model).values())
        norms = 2 * shape.seq_len * widths if self.rule.is_normalised else 0
        each = 2 * flops_per_token(shape, training=False) + 2 * self.n_targets * shape.n_params + norms
        return float(each * self.n_tokens)
