"""DSIR: data selection with importance resampling.

Documents are sampled in proportion to how much likelier their words are under the target than under the
pool, both modelled as bags of hashed word n-grams. Fitting counts buckets; scoring sums one log ratio an
n-gram, for all targets in one pass.

Source: Xie et al. 2023, arXiv:2302.03169, section 3 and algorithm 1.
Legend: D documents, K targets, B buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.errors import DataError
from prill.features.divergence import EPSILON
from prill.features.ngram_counts import NgramCounts, total_counts, unicode_version
from prill.features.ngrams import score_ngrams
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = ["DSIR", "REFERENCE_SETTINGS", "DSIRSettings", "log_ratios"]

REFERENCE_SETTINGS: dict[str, Any] = {
    "family": "reference",
    "length": "sum",
    "prior": "uniform",
    "prior_ngrams": 0.0,
    "min_length": 100,
}
"""The settings under which scores equal those of the published package."""


class DSIRSettings(BaseModel):
    """Settings of DSIR."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["fast", "reference"] = Field(
        "fast",
        description="Bucket rule: our own hash, or the published package's sha256, which is slower.",
    )
    n: int = Field(2, ge=1, le=8, description="Longest n-gram, tokens; all shorter ones are counted too.")
    n_buckets: int = Field(10_000, ge=2, le=1 << 24, description="Buckets that n-grams are hashed into.")
    length: Literal["mean", "sum"] = Field(
        "mean",
        description="mean: nats of `as_features` average n-grams, so that length does not decide; "
        "sum: nats of the whole document, as the paper has it for chunks of equal length.",
    )
    as_features: float = Field(
        256.0,
        gt=0,
        description="N-grams that a `mean` score is scaled to; fewer make sampling noise matter more.",
    )
    prior: Literal["pool", "uniform"] = Field(
        "pool",
        description="What a target with little text is smoothed to: the pool, or equal buckets (Laplace).",
    )
    prior_ngrams: float = Field(
        10_000.0,
        ge=0,
        description="Weight of that prior: how many n-grams it adds to each target; 0 is the reference.",
    )
    min_length: int = Field(
        0, ge=0, description="Tokens below which a document is not offered: its score is minus infinity."
    )


@method(
    name="dsir",
    called="DSIR",
    title="importance resampling on hashed n-grams",
    paper="2302.03169",
    feature="n-grams",
    cost="two passes over the text, each near the speed of reading it; 50 targets cost less than twice one",
    assumes="the target is recognised by its words, and the pool holds documents like it",
    formula="""score(x) = 256 / |x| * sum over n-grams g of x of ln(p_target[h(g)] / p_pool[h(g)])
|x| = number of 1..n-grams, h = bucket; p_pool[b] = c_pool[b] / N_pool
p_target[b] = (c_target[b] + a q[b]) / (N_target + a)
a = prior_ngrams, q = p_pool (prior: pool) or 1 / n_buckets (prior: uniform)""",
    differs="""Mean instead of sum over n-grams (length: sum restores it): the sum takes the longest or the
shortest documents. A prior of 10,000 n-grams, spread as in the pool (prior_ngrams: 0
restores the reference): buckets unseen in a small target otherwise cost 14 nats each. No 100-token gate
(min_length: 100). Own hash (family: reference). Fitted on the whole pool, not on a prefix of shards.""",
)
class DSIR(Method):
    """Hashed n-gram importance weights."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {
        "kind": "gumbel",
        "temperature": 1.0,
        "on_non_finite": "exclude",
    }
    operations_per_byte: ClassVar[float] = 32.0  # two passes of about five cycles, three instructions each
    Settings: ClassVar[type[BaseModel]] = DSIRSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The buckets of the pool."""
        return {"pool": NgramCounts.like(self.settings)}

    def fit(self, given: Given) -> State:
        """Log ratios of every target, with the Unicode version that tokens depend on.

        Raises:
            DataError: the pool or a target holds no token.
        """
        targets = {name: self.counts(text) for name, text in given.targets.items()}
        return self.state(total_counts(given.files("pool")), targets)

    def state(self, pool_B: NDArray[np.int64], targets: Mapping[str, NDArray[np.int64]]) -> State:
        """The state of counts of the pool and of the targets, int64, shape (B,) each."""
        _require_tokens(int(pool_B.sum()), "the pool")
        rows = []
        for name, target_B in targets.items():
            _require_tokens(int(target_B.sum()), f"target {name!r}")
            rows.append(
                log_ratios(
                    target_B, pool_B, prior=self.settings.prior, prior_ngrams=self.settings.prior_ngrams
                )
            )
        return {"log_ratio": np.stack(rows), "unicode": unicode_version()}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Scores in nats, float64, shape (D,) for each target."""
        parts = [self.score_text(state, batch.text) for batch in given.pool.batches(shard)]
        return dict(zip(given.targets, np.concatenate(parts, axis=1), strict=True))

    def score_text(self, state: State, text: pa.Array) -> NDArray[np.float64]:
        """Scores of D texts, float64, shape (K, D).

        Raises:
            DataError: the state was fitted under another Unicode version, where tokens differ.
        """
        if not np.array_equal(state["unicode"], unicode_version()):
            raise DataError(
                f"expected a state fitted with Unicode {_dotted(unicode_version())}, as this Python has it, "
                f"found {_dotted(state['unicode'])}",
                hint="fit and score with the same Python version",
            )
        sums_KD, n_features_D = score_ngrams(
            text, state["log_ratio"], n=self.settings.n, family=self.settings.family
        )
        return self._scaled(sums_KD, n_features_D, state["log_ratio"])

    def meaning(self) -> Meaning:
        whole = (
            "of the document"
            if self.settings.length == "sum"
            else f"of {self.settings.as_features:g} n-grams"
        )
        summary = f"DSIR log importance weight {whole}; minus infinity below min_length"
        return Meaning(unit="nats", summary=summary)

    def counts(self, text: pa.Array) -> NDArray[np.int64]:
        """How often each bucket occurs in the texts, int64, shape (B,)."""
        return NgramCounts.like(self.settings).of_text(text)

    def _scaled(
        self, sums_KD: NDArray[np.float64], n_features_D: NDArray[np.int64], log_ratio_KB: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if self.settings.length == "mean":
            lowest_K1 = log_ratio_KB.min(axis=1, keepdims=True)  # a document without tokens ranks last
            mean_KD = np.where(n_features_D > 0, sums_KD / np.maximum(n_features_D, 1), lowest_K1)
            scores_KD = self.settings.as_features * mean_KD
        else:
            scores_KD = sums_KD
        n = self.settings.n
        n_tokens_D = (n_features_D + n * (n - 1) // 2) // n  # the reference's rule
        return np.where(n_tokens_D >= self.settings.min_length, scores_KD, -np.inf)


def log_ratios(
    target_B: NDArray[np.int64],
    pool_B: NDArray[np.int64],
    *,
    prior: Literal["pool", "uniform"],
    prior_ngrams: float,
) -> NDArray[np.float64]:
    """ln(p_target + 1e-8) - ln(p_pool + 1e-8) for every bucket.

    The target's probabilities are the posterior mean under a Dirichlet prior that is worth `prior_ngrams`
    n-grams, spread as the pool's or evenly. 10,000 to 30,000 is what leave-one-document-out likelihood
    chooses on real targets of 10 to 200 documents, whatever the number of buckets (1,000 to 1,000,000).
    Evenly with c * B n-grams is the reference's Laplace smoothing by c.

    Args:
        target_B, pool_B: counts, int64, shape (B,), each with a positive sum.
    Source: arXiv:2302.03169, section 3; the prior: MacKay and Peto 1995, a hierarchical Dirichlet model.
    """
    p_pool_B = pool_B / pool_B.sum()
    base_B = p_pool_B if prior == "pool" else np.full(pool_B.shape[0], 1 / pool_B.shape[0])
    p_target_B = (target_B + prior_ngrams * base_B) / (target_B.sum() + prior_ngrams)
    return np.asarray(np.log(p_target_B + EPSILON) - np.log(p_pool_B + EPSILON), dtype=np.float64)


def _require_tokens(n_features: int, whose: str) -> None:
    if n_features == 0:
        raise DataError(
            f"expected at least one token in {whose}, found none",
            hint="give documents with words; empty and whitespace texts hold no tokens",
        )


def _dotted(version: NDArray[np.int64]) -> str:
    return ".".join(str(part) for part in version)
