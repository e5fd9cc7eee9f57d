"""Quad: quality by influence, diversity by a bandit over clusters.

Documents are clustered; each cluster is an arm. Pulling it samples a few documents, whose mean influence on
the target says whether the cluster's next block of documents is accepted, and what its neighbours are worth.

Source: Zhang et al. 2024, arXiv:2409.16986; released code c2f0b39. Legend: D documents, C clusters, R
targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.features.cluster_bandit import ClusterBandit, order_in_cluster
from prill.features.clusters import Centroids, Clusters
from prill.features.gradients import CurvatureOf, TargetGradient
from prill.features.proxies import PoolSample, Proxy
from prill.features.vectors import Vectors
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = ["Quad", "QuadSettings", "block_scores"]


class QuadSettings(BaseModel):
    """Settings of Quad."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: str = Field(
        "pico", description="Size of the model whose gradients count, of the ladder of proxies."
    )
    n_tokens: int = Field(400_000, ge=1, description="Tokens it learns from.")
    clusters: tuple[int, ...] = Field(
        (128,), description="Children of a node at each level of the clusters; the paper: 10,000 in one."
    )
    n_arms: int = Field(8, ge=1, description="Clusters pulled at an iteration; the code: 50.")
    n_documents: int = Field(10, ge=1, description="Documents sampled at a pull.")
    most_samples: int = Field(40, ge=1, description="Documents of a cluster that may ever be sampled.")
    most_iterations: int = Field(40, ge=1, description="Iterations of the bandit; the code: 200.")
    accept_share: float = Field(0.1, gt=0, le=1, description="Share of documents at which the bandit stops.")
    block_share: float = Field(
        1 / 3, gt=0, description="Documents that a positive reward accepts, as a share of the mean cluster."
    )
    tau: float | None = Field(
        None,
        description="Influence a pull must exceed; the code: 0.0020; null: a quantile of a pilot sample.",
    )
    tau_quantile: float = Field(0.8, ge=0, le=1, description="That quantile.")
    alpha: float | None = Field(
        None,
        ge=0,
        description="Weight of the bonus; the code: 0.0001; null: the noise of a pull's mean.",
    )
    radius: float | None = Field(
        None,
        ge=0,
        description="Distance of centres below which rewards are shared; the code: 0.2 (bge vectors); null: "
        "the distance that 2 % of pairs are below.",
    )
    n_pilot: int = Field(200, ge=10, description="Documents of the pilot sample.")
    curvature: Literal["ekfac", "kfac", "none"] = Field(
        "ekfac",
        description="Preconditioning: Kronecker factors with measured or multiplied eigenvalues, or none.",
    )
    labels: Literal["model", "text"] = Field(
        "model", description="Labels of the curvature: drawn from the model (Fisher), or the text's."
    )
    damping: float = Field(0.1, gt=0, description="lambda, as a share of each layer's mean eigenvalue.")
    curvature_tokens: int = Field(65_536, ge=1024, description="Tokens of the pool that the factors are of.")
    target_tokens: int = Field(32_768, ge=64, description="Tokens of each target that its gradient is of.")
    most_tokens: int = Field(512, ge=16, description="Tokens of a document that count; the code: 20,480.")
    shortest: int = Field(
        16, ge=1, description="Chunks shorter than this are dropped; the code: half a chunk."
    )
    normalise: bool = Field(True, description="Chunk gradients have length 1, as in the code.")
    projection: int = Field(
        0, ge=0, description="Width of a random Kronecker projection of gradients; 0: exact inner products."
    )
    order: Literal["score", "shuffled"] = Field(
        "score", description="Accepted documents: best clusters first, or shuffled as in the code."
    )


@method(
    name="quad",
    called="Quad",
    title="influence of clusters, found by a bandit",
    paper="2409.16986",
    feature="clusters, gradients of a proxy",
    cost="a gradient for each sampled document, at most most_iterations x n_arms x n_documents a target",
    assumes="documents of a cluster are alike in what they teach, and a proxy's gradients know it",
    formula="""I(z) = g_target' (H + lambda)^-1 g_z / |g_z|, mean over the chunks of z; H: Kronecker factors
iterate: pull the n_arms clusters of highest ucb; r = mean I of n_documents - tau
r > 0: the cluster's next block is accepted; near clusters c: score_c += r (1 - d/radius), pulls_c += 1
ucb = score / pulls + alpha sqrt(2 ln(total pulls) / (pulls + 1))
score(x) = [x in an accepted block] + (rank of its cluster's mean reward + u(x)) / C, u keyed uniform""",
    differs="""Sign: influence is how far the target's loss falls, as the code's dot product; the paper's
formula has a minus. Exact inner products over all linear layers of the blocks, attention included (the
release leaves wqkv and wo out), instead of a projection to 8192 (projection gives one); embedding and head
are not among them. tau, alpha and radius come from a pilot sample: the published values belong to one model's
scale. Clusters, arms and blocks are scaled to small pools. Chunks of the proxy's context instead of 1,024
tokens; short documents are kept. Blocks are taken in keyed order, not file order. Hashed words, not bge.""",
)
class Quad(Method):
    """Cluster influence by UCB."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 4.0
    Settings: ClassVar[type[BaseModel]] = QuadSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The clusters, and what the bandit found about them."""
        settings = self.settings
        proxy = Proxy.of_pool(size=settings.size, n_tokens=settings.n_tokens)
        vectors = Vectors.of("hashed")
        clusters = Clusters(centroids=Centroids(vectors=vectors, k=settings.clusters))
        gradient = TargetGradient(proxy=proxy, targets=tuple(targets), n_tokens=settings.target_tokens)
        curvature = None
        if settings.curvature != "none":
            curvature = CurvatureOf(
                proxy=proxy,
                sample=PoolSample(n_tokens=settings.curvature_tokens, use="curvature"),
                labels=settings.labels,
                is_corrected=settings.curvature == "ekfac",
            )
        bandit = ClusterBandit(
            proxy=proxy,
            gradient=gradient,
            curvature=curvature,
            clusters=clusters,
            rule=tuple(sorted(self._rule().items())),
        )
        return {"clusters": clusters, "bandit": bandit}

    def fit(self, given: Given) -> State:
        """Ranks of clusters, what is accepted of them, pulls and bounds, (R, C) each."""
        from safetensors.numpy import load_file

        stored = load_file(given.file("bandit"))
        parts = ("mean", "cut", "pulls", "ucb")
        return {part: np.stack([stored[f"{name}/{part}"] for name in given.targets]) for part in parts}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Accepted documents above all others; NaN for documents without a cluster."""
        clusters = given.named["clusters"]
        assert isinstance(clusters, Clusters)
        cluster = clusters.read(given, shard)[0].astype(np.int64)
        draw = order_in_cluster(given.seed, given.pool.keys(shard))
        return {
            name: block_scores(cluster, draw, mean, cut, is_shuffled=self.settings.order == "shuffled")
            for name, mean, cut in zip(given.targets, state["mean"], state["cut"], strict=True)
        }

    def meaning(self) -> Meaning:
        summary = "1 for an accepted document, plus the rank of its cluster's reward between 0 and 1"
        return Meaning(
            unit="1",
            span="clusters: whole document; influence: sampled documents, first "
            f"{self.settings.most_tokens:,} tokens",
            summary=summary,
        )

    def _rule(self) -> dict[str, Any]:
        settings = self.settings
        names = (
            *("n_arms", "n_documents", "most_samples", "most_iterations", "accept_share", "block_share"),
            *("tau", "tau_quantile", "alpha", "radius", "n_pilot", "damping", "most_tokens", "shortest"),
            "projection",
        )
        return {name: getattr(settings, name) for name in names} | {"is_normalised": settings.normalise}


def block_scores(
    cluster: NDArray[np.int64],
    draw: NDArray[np.float64],
    mean: NDArray[np.float64],
    cut: NDArray[np.float64],
    *,
    is_shuffled: bool = False,
) -> NDArray[np.float64]:
    """Scores of documents from what is known of their clusters, (D,); NaN without a cluster.

    Args:
        cluster: of each document, -1: none.
        draw: the document's place in its cluster, uniform in (0, 1).
        mean: reward of each cluster, (C,); equal rewards have one rank.
        cut: draw up to which its documents are accepted, (C,); 0: none.
        is_shuffled: accepted documents in keyed order whatever their cluster.
    """
    _, rank = np.unique(mean, return_inverse=True)
    known = np.maximum(cluster, 0)
    is_accepted = draw <= cut[known]
    within = (rank[known] + 1 - draw) / len(mean)
    if is_shuffled:
        within = np.where(is_accepted, 1 - draw, within)
    return np.where(cluster < 0, np.nan, is_accepted + within)
