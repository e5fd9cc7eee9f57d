"""OptCS: which documents may be called good with few mistakes, under the best of several methods' scores.

Labelled documents calibrate: a document's p-value is the share of them that are not good and score as high.
For each document of a test block drawn from the pool, the method that would allow the most selections is
chosen in a way that keeps the false discovery rate (FDR) at q although the same labels choose and calibrate.
The method chosen most often then scores the whole pool, so that 0 is where the p-values stop being small
enough.

With `labels`, a random sample of pool documents labelled by a person or a rater, the guarantee holds for
documents as that rater would label them. Without, random documents of the pool stand for "not good". That is
an assumption, and a wrong one where the pool holds good documents: then p-values are too large, the guarantee
holds, and nothing can be found, since the pool is compared with itself. So what the pool must hold of good
documents is taken off again, in proportion to the scores of the target's own documents; that needs the share
of good documents, and is no guarantee any more.

Source: Bai and Jin 2024, arXiv:2411.17983; Jin and Candes 2023, arXiv:2210.01408; taking off known positives:
Elkan and Noto 2008, learning classifiers from only positive and unlabelled data.
Legend: D documents, n labelled, m test documents, K members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prill.errors import DataError
from prill.features.keyed import derive_seed, keyed_uniform
from prill.methods._calibration import Block, choice, nulls_at
from prill.methods.combine import Member
from prill.methods.registry import Meaning, Method, Scores, State, method
from prill.methods.scored import made, scored

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = ["OptCS", "OptCSSettings"]

_Floats = NDArray[np.float64]
_LEAST_NULLS = 30
_LEAST_TESTED = 10
_FACTS = ("n", "n_nulls", "n_test", "n_selected", "fdr", "p_value", "prevalence", "n_unmatched", "chosen")


class OptCSSettings(BaseModel):
    """Settings of OptCS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: tuple[Member, ...] = Field(
        default_factory=lambda: (Member(method="dsir"), Member(method="dclm")),
        min_length=1,
        max_length=32,
        description="Methods whose scores are candidates, all of weight 1; not given: dsir and dclm.",
    )
    q: float = Field(
        0.1, gt=0, lt=1, description="False discovery rate that is allowed; 0.2 for a shortlist."
    )
    labels: str | None = Field(
        None,
        description="JSONL of `text`, `label` and perhaps `target`: a random sample of the pool's documents, "
        "labelled; null calibrates with the targets' texts and random documents of the pool.",
    )
    good_above: float = Field(
        0.5, allow_inf_nan=False, description="Labels above this are good; fix it before looking."
    )
    n_calibration: int = Field(
        2_000, ge=30, description="Documents of the pool that calibrate when there are no labels."
    )
    n_test: int = Field(2_000, ge=10, description="Documents of the pool that the choice is tested on.")
    prevalence: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of good documents in the pool, when there are no labels: too small a share finds "
        "less, too large a share breaks q. null takes the largest that the scores allow, which is small "
        "where members know their target's texts by heart; 0 takes every document of the pool for not good.",
    )
    pruning: Literal["none", "homogeneous", "heterogeneous"] = Field(
        "none",
        description="Divide the e-values by one random draw, or by one for each document: more is found, "
        "but it depends on the recipe's seed.",
    )
    e_share: float = Field(
        1.0, gt=0, le=1, description="Level within the e-values as a share of q; the authors' code has 0.9."
    )

    @field_validator("of")
    @classmethod
    def _check_weights(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
        if any(member.weight != 1 for member in members):
            raise ValueError("candidates have no weights, found other weights than 1")
        return members


@method(
    name="optcs",
    called="OptCS",
    title="a threshold with a false-discovery guarantee on the best of several scores",
    paper="2411.17983",
    feature="the scores of its members; with no labels, also of the targets' own texts",
    cost="what its members cost; sorting of the labelled and the test documents",
    assumes="labels are a random sample of the pool; without labels: the target's documents score like the "
    "good documents of the pool, and the share of good documents is known",
    formula="""score(x) = ln(p* / p(x)) + rank(x) / (n + 1);  p(x) = (1 + N(x)) / (n + 1)
N(x) = labelled documents that are not good and score at least as high as x under the chosen method
without labels: N(x) = pool documents that score as high - prevalence n (share of target texts that do)
p* = largest p-value selected at FDR q in the test block: score >= 0 is the selection at q
OptCS: R_jk = size of BH at q if test document j were labelled, method k; k(j) = argmax_k R_jk
       e_j = m / (q R_j) if p_j <= q R_j / m, else 0; selected: BH at q on 1 / e_j
use `policy: {kind: threshold, threshold: 0}` to stop at q; the default fills the budget, best first""",
    differs="""Nulls that tie with a document count against it: the authors' strict comparison lets constant
scores pass. Ties between methods go to the first. The pool is scored by the method chosen most often: the
guarantee is for the test block, the pool follows its threshold. Members are fitted on the same target
texts that they are corrected by, without labels. No leave-one-out variant; weighted p-values are in
prill.stats.conformal. The FDR is an average: one realised set can be worse.""",
)
class OptCS(Method):
    """Conformal selection with a choice of the score."""

    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 0.1
    Settings: ClassVar[type[BaseModel]] = OptCSSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The scores of every member, and labels or the members' scores of the targets' texts.

        Raises:
            RecipeError: there is no such file of labels.
        """
        from prill.features.applied import AppliedToTargets
        from prill.features.labels import Labels

        members = [scored(member.method, member.settings, targets, base) for member in self.settings.of]
        found: dict[str, Feature] = {_name(i): member for i, member in enumerate(members)}
        if self.settings.labels is not None:
            return {**found, "labels": Labels.of(base / self.settings.labels)}
        applied = [AppliedToTargets(feature=member, targets=tuple(targets)) for member in members]
        return {**found, **{f"targets of {_name(i)}": feature for i, feature in enumerate(applied)}}

    def fit(self, given: Given) -> State:
        """For each target: the chosen member, its nulls, the threshold, and how it went.

        Raises:
            DataError: there are too few labels, or too few of documents that are not good; with the numbers
                that would do.
        """
        from prill.stats.token_ranks import token_ranks

        state: State = {}
        facts, votes = [], []
        for index, target in enumerate(given.targets):
            block, n_unmatched = self._block(given, target, index)
            kept = self.settings.model_dump(include={"q", "prevalence", "pruning", "e_share"})
            found = choice(block, seed=derive_seed(given.seed, "optcs.pruning"), **kept)
            state |= {f"{target}.scores": found.steps[0], f"{target}.n_nulls": found.steps[1]}
            told = {
                "n": len(block.is_good),
                "n_nulls": int((~block.is_good).sum()),
                "n_test": block.test.shape[1],
                "n_selected": found.n_selected,
                "fdr": found.fdr,
                "p_value": found.p_value,
                "prevalence": found.prevalence,
                "n_unmatched": n_unmatched,
                "chosen": found.score,
            }
            facts.append([float(told[name]) for name in _FACTS])
            votes.append(found.votes)
        state |= {"facts": np.array(facts), "votes": np.array(votes)}
        chosen = [_name(int(row[_FACTS.index("chosen")])) for row in facts]

        def columns(shard: int) -> tuple[_Floats, NDArray[np.int64]]:
            rows = [_column(given, name, t, shard) for name, t in zip(chosen, given.targets, strict=True)]
            is_eligible = given.pool.is_eligible(shard)
            return np.stack(rows), np.where(is_eligible, given.pool.n_tokens(shard), 0)

        ranks = token_ranks(columns, given.pool.n_shards, len(chosen))
        for target, of_target in zip(given.targets, ranks, strict=True):
            state |= of_target.to_arrays(target)
        return state

    def account(self, state: State) -> Mapping[str, Any]:
        """What was found for each target, in order: the numbers that a threshold must come with."""
        facts = {name: state["facts"][:, i].tolist() for i, name in enumerate(_FACTS)}
        whole = {name: [int(n) for n in values] for name, values in facts.items() if name[0] == "n"}
        members = [member.method for member in self.settings.of]
        promise = "FDR <= q for the labels' rater, on average" if self.settings.labels else "none: estimated"
        return {
            "q": self.settings.q,
            "guarantee": promise,
            "threshold": 0.0,
            **whole,
            "fdr_estimate": facts["fdr"],
            "p_value_at_threshold": facts["p_value"],
            "prevalence": facts["prevalence"],
            "chosen": [members[int(i)] for i in facts["chosen"]],
            "chosen_for_documents": [
                {f"{i}: {name}": int(n) for i, (name, n) in enumerate(zip(members, row, strict=True))}
                for row in state["votes"]
            ],
            "pruning": self.settings.pruning,
        }

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """ln(p* / p) and the rank, float64, shape (D,) for each target; NaN where the member has no score."""
        from prill.stats.token_ranks import Ranks

        found = {}
        for row, target in zip(state["facts"], given.targets, strict=True):
            facts = dict(zip(_FACTS, row.tolist(), strict=True))
            raw = _column(given, _name(int(facts["chosen"])), target, shard)
            raw = np.where(np.isfinite(raw), raw, np.nan)
            p = (1 + nulls_at(state[f"{target}.scores"], state[f"{target}.n_nulls"], raw)) / (facts["n"] + 1)
            rank = Ranks.from_arrays(target, state).of(raw)
            found[target] = np.log(facts["p_value"] / p) + rank / (facts["n"] + 1)
        return found

    def meaning(self) -> Meaning:
        members = [made(m.method, m.settings) for m in self.settings.of]
        spans = "; ".join(dict.fromkeys(member.meaning().span for member in members))
        summary = f"log p-value below the threshold at FDR {self.settings.q:g}, which is 0"
        return Meaning(unit="nats", span=spans, summary=summary)

    def _block(self, given: Given, target: str, index: int) -> tuple[Block, int]:
        """The labelled and the test documents of one target, as far as all members can judge them; and how
        many labels belong to no such document."""
        from prill.features.labels import Labels

        labelled = None
        if self.settings.labels is not None:
            labelled = Labels.read(given.file("labels"), target)
        rows = self._drawn(given, target, labelled)
        _require(rows["test"].shape[1], "documents of the pool to test on", target)
        if labelled is not None:
            good = labelled[1][np.searchsorted(labelled[0], rows["key"])] > self.settings.good_above
            n_unmatched = len(labelled[0]) - len(rows["key"])
            self._require_labels(good, n_unmatched, target)
            block = Block(labelled=rows["labelled"], is_good=good, test=rows["test"], own=None)
            return block, n_unmatched
        own = np.stack([self._own_scores(given, i, target, index) for i in range(len(self.settings.of))])
        own = own[:, np.isfinite(own).all(axis=0)]
        n = rows["labelled"].shape[1]
        _require(n, "documents of the pool to calibrate on", target)
        _require(own.shape[1], "texts of the target that all members can judge", target)
        none_good = np.zeros(n, np.bool_)
        return Block(labelled=rows["labelled"], is_good=none_good, test=rows["test"], own=own), 0

    def _own_scores(self, given: Given, member: int, target: str, index: int) -> _Floats:
        from prill.corpus.columns import read_columns

        part = given.files(f"targets of {_name(member)}")[index]
        return np.asarray(read_columns(part, [target])[target].to_numpy(), np.float64)

    def _drawn(self, given: Given, target: str, labelled: tuple[Any, Any] | None) -> dict[str, Any]:
        """Scores of labelled and of test documents, (K, n) and (K, m), and keys of the labelled ones."""
        names, settings = [_name(i) for i in range(len(self.settings.of))], self.settings
        seed = derive_seed(given.seed, "optcs.block")
        wanted = settings.n_test + (settings.n_calibration if labelled is None else 0)
        share = given.pool.share_of(n_documents=wanted)
        first = share * (settings.n_calibration / wanted) if labelled is None else 0.0
        parts: dict[str, list[Any]] = {"labelled": [], "test": [], "key": [], "test key": []}
        for shard in range(given.pool.n_shards):
            key = given.pool.keys(shard)
            scores_KD = np.stack([_column(given, name, target, shard) for name in names])
            judged = given.pool.is_eligible(shard) & np.isfinite(scores_KD).all(axis=0)
            draw = keyed_uniform(seed, key)
            is_labelled = draw < first if labelled is None else np.isin(key, labelled[0])
            parts["labelled"].append(scores_KD[:, judged & is_labelled])
            parts["key"].append(key[judged & is_labelled])
            is_test = judged & ~is_labelled & (draw < share)
            parts["test"].append(scores_KD[:, is_test])
            parts["test key"].append(key[is_test])
        found = {name: np.concatenate(rows, axis=-1) for name, rows in parts.items()}
        # Draws of pruning go by place: by the order of keys, they do not depend on the shards.
        found["test"] = found["test"][:, np.argsort(found["test key"], kind="stable")]
        if labelled is not None:  # of exact copies in the pool one counts
            found["key"], one = np.unique(found["key"], return_index=True)
            found["labelled"] = found["labelled"][:, one]
        return found

    def _require_labels(self, is_good: NDArray[np.bool_], n_unmatched: int, target: str) -> None:
        n, n_null, least = len(is_good), int((~is_good).sum()), int(np.ceil(10 / self.settings.q))
        if n < least or n_null < _LEAST_NULLS or n_null == n:
            raise DataError(
                f"expected at least {least} labelled documents of the pool, {_LEAST_NULLS} of them at most "
                f"{self.settings.good_above:g} and some above, found {n}, {n_null} and {n - n_null}",
                where=f"optcs, target {target!r}",
                hint=f"label more; {n_unmatched} labels belong to no document that may be chosen and judged",
            )


def _require(n_found: int, what: str, target: str) -> None:
    if n_found < _LEAST_TESTED:
        raise DataError(
            f"expected at least {_LEAST_TESTED} {what}, found {n_found}",
            where=f"optcs, target {target!r}",
            hint="give more documents, or members that can judge them",
        )


def _name(index: int) -> str:
    return f"member {index}"


def _column(given: Given, name: str, target: str, shard: int) -> _Floats:
    return np.asarray(given.columns(name, shard, [target])[target].to_numpy(), np.float64)
