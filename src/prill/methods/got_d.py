"""GOT-D: gradients of optimal transport for data selection.

Which documents would bring the pool, as a distribution, nearer to the target if there were more of them? Not
those most like the target, but those that the target has and the pool lacks: documents near target texts that
are far from the rest of the pool. The gradient of the transport's cost answers, document by document.

Source: Kang et al. 2024, arXiv:2405.02774, sections 2 and 3. The authors' code was not available.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from prill.methods._embedding import EmbeddingSettings
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.features.transport import Potential
    from prill.features.vectors import Vectors

__all__ = ["GOTD", "GOTDSettings"]


class GOTDSettings(EmbeddingSettings):
    """Settings of GOT-D."""

    candidates: int = Field(
        10_000,
        ge=2,
        description="Documents of the pool that stand for it in the transport; the paper has 2 million of "
        "the two domains nearest to the target.",
    )
    target_documents: int = Field(
        2_000, ge=1, description="Documents of a target that are used at most, the first ones."
    )
    epsilon: float = Field(
        0.02,
        gt=0,
        description="Entropy of the transport in median costs: small is near exact transport and slow, large "
        "makes all gradients alike; costs between random vectors of 256 dimensions vary by 3% of their "
        "median. The paper does not tell its own.",
    )
    cost: Literal["euclidean", "squared"] = Field(
        "euclidean", description="How far two vectors are apart: a metric, as the theory asks, or its square."
    )
    is_centred: bool = Field(
        True,
        description="Take the pool's mean off all vectors first, which all of them share and which hides the "
        "rest.",
    )
    avoid: bool = Field(
        False, description="The target is what the model shall not learn: its opposite is preferred."
    )
    iterations: int = Field(1_000, ge=1, description="Of Sinkhorn, at most.")


@method(
    name="got_d",
    called="GOT-D",
    title="gradients of optimal transport from the pool to the target",
    paper="2405.02774",
    feature="vectors",
    cost="one embedding pass, shared by all targets; a target costs a transport on a sample (seconds) and "
    "one product with its documents' vectors for each document of the pool",
    assumes="the model was trained on something like the pool and is tuned briefly on the choice: the method "
    "says what more of a document would do, at first order, and picks much of the same region",
    formula="""score(x) = -g(x), g(x) = (f(x) - mean f) n / (n - 1)
f(x) = -eps ln sum_j b_j exp((v_j - c(x, y_j)) / eps); v = the target's potential under entropic transport
y_j = the target's documents, b_j = 1 / m, c = distance of vectors, eps = epsilon * median c""",
    differs="""Whole documents instead of segments of 500 or 1,000 characters. Hashed words by default, where
the paper has DistilBERT tuned on the task (embedding: encoder). Candidates are a sample of the whole pool,
without the paper's choice of two domains. Vectors are centred (is_centred: false). epsilon and the cost are
not told in the paper. Every document is scored from the potential, in the sample or not.""",
)
class GOTD(Method):
    """Calibrated gradients of the cost of transport."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[EmbeddingSettings]] = GOTDSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Vectors of the pool, and the transport to each target.

        Raises:
            PrillError: there is no model where the settings say.
        """
        from prill.features.transport import Potential
        from prill.features.vectors import TargetVectors

        vectors = self.settings.vectors(base)
        transports = {
            f"transport:{name}": Potential(
                vectors=vectors,
                target=TargetVectors(of_pool=vectors, targets=(name,)),
                n_candidates=self.settings.candidates,
                n_targets=self.settings.target_documents,
                epsilon=self.settings.epsilon,
                cost=self.settings.cost,
                is_centred=self.settings.is_centred,
                max_iterations=self.settings.iterations,
            )
            for name in targets
        }
        return {"vectors": vectors, **transports}

    def fit(self, given: Given) -> State:
        """The transports' costs, and how far they were solved, float64, shape (targets,)."""
        counts = [given.counts[given.named[f"transport:{name}"]] for name in given.targets]
        names = ("cost", "median_cost", "marginal_error", "iterations")
        return {name: np.array([float(found[name]) for found in counts]) for name in names}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """-g, in units of the cost; NaN without words, float64, shape (D,)."""
        vectors: Vectors = given.named["vectors"]  # type: ignore[assignment]
        sign = 1.0 if self.settings.avoid else -1.0
        judges = {}
        for name in given.targets:
            potential: Potential = given.named[f"transport:{name}"]  # type: ignore[assignment]
            judges[name] = potential.gradients(given)
        parts: dict[str, list[Any]] = {name: [] for name in judges}
        for rows in vectors.stored(given, shard):
            for name, gradients in judges.items():
                parts[name].append(sign * gradients(rows.vectors[:, 0]))
        return {name: np.concatenate(found) for name, found in parts.items()}

    def meaning(self) -> Meaning:
        what = "rises" if self.settings.avoid else "falls"
        span = "whole document" if self.settings.embedding == "hashed" else "what the model reads of it"
        return Meaning(
            unit="cost",
            span=span,
            summary=f"GOT-D: how fast the transport's cost {what} as the document's share rises",
        )
