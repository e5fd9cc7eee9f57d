"""CRISP: clustered importance sampling. Every cluster of the pool is drawn as often as the target has it.

The pool is clustered once; a target is a histogram over the clusters. A document weighs what its cluster has
in the target against what it has in the pool, and documents are sampled in proportion. A target of a few
hundred documents misses clusters by chance, so its histogram is shrunk towards the pool's, as much as
predicts each of its documents best from the others.

Source: Grangier, Fan, Seto and Ablin 2024, arXiv:2410.03735.
Legend: D documents, C clusters, N documents of a target, L leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from prill.errors import DataError
from prill.methods._embedding import EmbeddingSettings
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.clusters import Centroids, Clusters
    from prill.features.feature import Feature, Given
    from prill.features.vectors import TargetVectors

__all__ = ["CRISP", "CRISPSettings", "capped", "leave_one_out", "report", "shrunk"]

STRENGTHS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Documents that the pool's histogram may count for in a target's."""

_PER_CLUSTER = 5  # documents of a target for each cluster it occupies, at a level that is fine enough
_Shares = NDArray[np.float64]


class CRISPSettings(EmbeddingSettings):
    """Settings of CRISP."""

    clusters: tuple[int, ...] = Field(
        (16, 16, 16),
        min_length=1,
        max_length=4,
        description="Children of a node for each level of the tree of clusters, coarsest first; the paper "
        "has 64 a level: [64, 64] is 4,096 clusters, [64, 64, 64] 262,144.",
    )
    sample: int = Field(
        65_536, ge=1_000, description="Documents of the pool that the clusters are fitted to."
    )
    level: int | None = Field(
        None,
        ge=0,
        description="Level of the tree that is used, 0 the coarsest; null: the finest at which the target "
        "has 5 documents for each cluster it occupies.",
    )
    shrinkage: float | Literal["leave one out"] = Field(
        "leave one out",
        description="Documents that the pool's histogram counts for in the target's; 0 is the paper.",
    )
    general: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of what is sampled that follows the pool as it is; 0 is the paper.",
    )
    budget_tokens: int | None = Field(
        None, ge=1, description="Tokens that will be trained on, for the cap on epochs; null caps nothing."
    )
    max_epochs: float = Field(
        4.0,
        gt=0,
        description="How often a cluster may be repeated under `budget_tokens`; the rest of its "
        "share goes to the other clusters.",
    )


@method(
    name="crisp",
    called="CRISP",
    title="clusters of the pool sampled as often as the target has them",
    paper="2410.03735",
    feature="vectors, clusters",
    cost="one embedding pass and 48 distances a document, shared by all targets; a new target costs its own "
    "embedding and a histogram",
    assumes="within a cluster, target and pool are alike; the embedding separates what matters to the target",
    formula="""score(x) = ln w(c(x)), w(c) = p(c) / p_g(c); sampling by gumbel at temperature 1 draws
documents in proportion to w. p_g = shares of tokens of the pool's clusters
p = (1 - general) (n_c + m p_g) / (n + m) + general p_g; n_c = the target's tokens in c, in mean documents""",
    differs="""The histogram is shrunk to the pool's by m documents, chosen by leave-one-document-out
likelihood (shrinkage: 0 restores the paper), because an unshrunk one never samples clusters that a small
target missed. A tenth is sampled from the pool as it is (general: 0). The level of the tree follows the
size of the target (level: 2). 16 children a node instead of 64, so that targets of a hundred documents
find a level. Shares of tokens, not of documents. Hashed words by default, where the paper has a sentence
encoder (embedding: encoder). Documents are drawn once: what the paper would repeat goes to the other
clusters. Every target has its own sample, where the paper also averages the histograms of several.""",
)
class CRISP(Method):
    """Importance sampling over clusters."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {
        "kind": "gumbel",
        "temperature": 1.0,
        "on_non_finite": "exclude",
    }
    operations_per_byte: ClassVar[float] = 0.01
    Settings: ClassVar[type[EmbeddingSettings]] = CRISPSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Clusters of the pool, and vectors of the targets.

        Raises:
            PrillError: there is no model where the settings say.
        """
        from prill.features.clusters import Centroids, Clusters
        from prill.features.vectors import TargetVectors

        vectors = self.settings.vectors(base)
        centroids = Centroids(vectors=vectors, k=self.settings.clusters, n_documents=self.settings.sample)
        of_targets = {f"target:{name}": TargetVectors(of_pool=vectors, targets=(name,)) for name in targets}
        return {"centroids": centroids, "clusters": Clusters(centroids=centroids), **of_targets}

    def fit(self, given: Given) -> State:
        """ln w of every leaf and target, float64, shape (targets, L), and the report's numbers by target.

        Raises:
            DataError: a target has fewer than 2 documents with words.
        """
        from prill.features.clusters import Centroids

        centroids = given.named["centroids"]
        assert isinstance(centroids, Centroids)
        tree = centroids.read(given)
        pool_L = self._pool(given, tree.n_leaves)
        log_weights, numbers = [], []
        for name, text in given.targets.items():
            leaf_N, tokens_N = self._target(given, name, text)
            level = self._level(tree.at_level, len(tree.levels), leaf_N)
            n_below = tree.n_leaves // tree.n_clusters(level)
            pool_C = pool_L.reshape(-1, n_below).sum(axis=1)
            cluster_N = tree.at_level(leaf_N, level)
            weight_C, found = self._weights(cluster_N, tokens_N, pool_C)
            with np.errstate(divide="ignore"):
                log_weights.append(np.repeat(np.log(weight_C), n_below))
            numbers.append({"level": float(level), **found})
        stacked = {key: np.array([found[key] for found in numbers]) for key in numbers[0]}
        return {"log_weight": np.stack(log_weights), **stacked}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """ln w of each document's cluster, NaN without words, float64, shape (D,)."""
        clusters: Clusters = given.named["clusters"]  # type: ignore[assignment]
        cluster_D, _ = clusters.read(given, shard)
        has_words_D = cluster_D >= 0
        rows = zip(given.targets, state["log_weight"], strict=True)
        return {
            name: np.where(has_words_D, log_weight_L[np.maximum(cluster_D, 0)], np.nan)
            for name, log_weight_L in rows
        }

    def meaning(self) -> Meaning:
        summary = "CRISP: log of the cluster's share in the target over its share in the pool"
        span = "whole document" if self.settings.embedding == "hashed" else "what the model reads of it"
        return Meaning(unit="nats", span=span, summary=summary)

    def _pool(self, given: Given, n_leaves: int) -> _Shares:
        """Tokens of the documents that may be chosen, by leaf, float64, shape (L,)."""
        clusters: Clusters = given.named["clusters"]  # type: ignore[assignment]
        total_L = np.zeros(n_leaves, np.int64)
        for shard in range(given.pool.n_shards):
            cluster_D, _ = clusters.read(given, shard)
            used_D = given.pool.is_eligible(shard) & (cluster_D >= 0)
            np.add.at(total_L, cluster_D[used_D], given.pool.n_tokens(shard)[used_D])
        return total_L.astype(np.float64)

    def _target(
        self, given: Given, name: str, text: pa.Array
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Leaf and tokens of the target's documents with words."""
        from prill.features.token_counts import TokenCounter

        of_target: TargetVectors = given.named[f"target:{name}"]  # type: ignore[assignment]
        centroids: Centroids = given.named["centroids"]  # type: ignore[assignment]
        leaf_N, _ = centroids.read(given).assign(of_target.read(given).vectors[:, 0])
        counts_N, _ = TokenCounter.of(given.pool.tokenizer.read_bytes()).count(text)
        has_words_N = leaf_N >= 0
        n = int(has_words_N.sum())
        if n < 2:
            raise DataError(
                f"expected at least 2 documents with words in target {name!r}, found {n}",
                hint=f"{_PER_CLUSTER} documents for each kind of text in the target would do",
            )
        return leaf_N[has_words_N], counts_N[has_words_N].astype(np.float64) + 1

    def _level(self, at_level: Any, n_levels: int, leaf_N: NDArray[np.int32]) -> int:
        if self.settings.level is not None:
            return min(int(self.settings.level), n_levels - 1)
        for level in range(n_levels - 1, 0, -1):
            if len(leaf_N) >= _PER_CLUSTER * len(np.unique(at_level(leaf_N, level))):
                return level
        return 0

    def _weights(
        self, cluster_N: NDArray[np.int32], tokens_N: _Shares, pool_C: _Shares
    ) -> tuple[_Shares, dict[str, float]]:
        """w of every cluster, and the report."""
        p_g = pool_C / pool_C.sum()
        is_there_N = p_g[cluster_N] > 0
        if not is_there_N.any():
            raise DataError("expected the pool to have documents where the target has, found none")
        mean = float(tokens_N[is_there_N].mean())
        n_N, own = tokens_N[is_there_N] / mean, cluster_N[is_there_N]
        n_C = np.bincount(own, weights=n_N, minlength=len(p_g)).astype(np.float64)
        m = self._strength(own, n_N, n_C, p_g)
        p = (1 - self.settings.general) * shrunk(n_C, p_g, m) + self.settings.general * p_g
        n_tokens, budget = float(pool_C.sum()), self.settings.budget_tokens
        if budget is not None:
            p = capped(p, p_g, repeats=self.settings.max_epochs * n_tokens / budget)
        found = report(p, p_g, epochs=(budget or n_tokens) / n_tokens)
        n_single = int((np.bincount(cluster_N) == 1).sum())
        found |= {
            "p_unseen": n_single / len(cluster_N),
            "p_not_in_pool": 1 - float(tokens_N[is_there_N].sum() / tokens_N.sum()),
            "shrinkage": m,
        }
        return _ratio(p, p_g), found

    def _strength(self, own: NDArray[np.int32], n_N: _Shares, n_C: _Shares, p_g: _Shares) -> float:
        if not isinstance(self.settings.shrinkage, str):
            return float(self.settings.shrinkage)
        likelihood = [leave_one_out(own, n_N, n_C, p_g, m) for m in STRENGTHS]
        return STRENGTHS[int(np.argmax(likelihood))]


def shrunk(n_C: _Shares, p_g: _Shares, m: float) -> _Shares:
    """(n_c + m p_g(c)) / (n + m): the posterior mean under a Dirichlet prior worth m documents."""
    return np.asarray((n_C + m * p_g) / (n_C.sum() + m))


def leave_one_out(
    cluster_N: NDArray[np.integer[Any]], n_N: _Shares, n_C: _Shares, p_g: _Shares, m: float
) -> float:
    """Log likelihood of every document of the target under the others, each weighing as much as it is long.

    Args:
        cluster_N: of the documents.
        n_N: their lengths in mean documents; all 1 gives sum_c n_c ln((n_c - 1 + m p_g) / (n - 1 + m)).
        n_C: their sums by cluster.
    """
    others = np.maximum(n_C[cluster_N] - n_N, 0) + m * p_g[cluster_N]
    return float((n_N * np.log(others / (n_C.sum() - n_N + m))).sum())


def capped(p: _Shares, p_g: _Shares, *, repeats: float) -> _Shares:
    """No share above `repeats` times the pool's; what is cut off goes to the others in proportion.

    Args:
        repeats: R N / T: epochs allowed, times tokens of the pool, over tokens of the training.
    Raises:
        DataError: even all clusters at the cap do not fill the training.
    """
    limit = repeats * p_g
    if limit.sum() < 1 - 1e-9:
        raise DataError(
            f"expected a cap that fills the budget, found one that fills {limit.sum():.3g} of it",
            hint="raise max_epochs or lower budget_tokens",
        )
    is_full, p = np.zeros(len(p), bool), p.copy()
    while np.any(over := ~is_full & (p > limit * (1 + 1e-12))):
        is_full |= over
        free = ~is_full & (p > 0)
        if not free.any():  # all that had a share is full: the rest takes what is left, as the pool has it
            free = ~is_full
            p = np.where(free, p_g, p)
        room = 1 - float(limit[is_full].sum())
        p = np.where(is_full, limit, np.where(free, p / p[free].sum() * room, 0.0))
    return p


def report(p: _Shares, p_g: _Shares, *, epochs: float) -> dict[str, float]:
    """How far the sampled shares are from the pool's.

    Args:
        epochs: tokens of the training over tokens of the pool.
    Returns:
        ess: effective share of the pool under plain weights, 1 / (1 + chi2); tv: total variation; chi2; kl,
        nats; epochs_max: how often the most used cluster would be repeated by sampling with repetition.
    """
    w = _ratio(p, p_g)
    square = float((p_g * w * w).sum())
    is_used = p > 0
    return {
        "chi2": square - 1,
        "epochs_max": float(w.max()) * epochs,
        "ess": 1 / square,
        "kl": float((p[is_used] * np.log(w[is_used])).sum()),
        "tv": float(np.abs(p - p_g).sum() / 2),
    }


def _ratio(p: _Shares, p_g: _Shares) -> _Shares:
    """w = p / p_g; 0 where the pool has nothing."""
    return np.divide(p, p_g, out=np.zeros_like(p), where=p_g > 0)
