"""Combinations of methods: means and products of ranks, intersections, one method within levels of others.

Scores of different methods have no common unit, so each is first turned into its rank: the share of the
pool's tokens in documents that score lower. What the members compute is shared with the arms that use them
alone; a combination may be a member itself. A document that a member cannot judge has no score.

Source: mean ranks: Borda 1781; products of ranks: Breitling et al.
2004, FEBS Letters 573:83.
Legend: D documents, M members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prill.errors import DataError, RecipeError
from prill.methods.registry import STRATUM, Meaning, Method, Scores, State, get_method, method
from prill.methods.scored import Scored, made, scored

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.stats.token_ranks import Ranks

__all__ = ["Combine", "CombineSettings", "Member"]


class Member(BaseModel):
    """One method of a combination."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = Field(description="Name of a method; `prill methods` lists them.")
    settings: dict[str, Any] = Field(default_factory=dict, description="The method's own settings.")
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Weight among the members; they need not add up to 1."
    )

    @model_validator(mode="after")
    def _check_method(self) -> Member:
        try:
            kind = get_method(self.method)
        except RecipeError as error:
            raise ValueError(str(error)) from None
        kind.Settings.model_validate(self.settings)
        return self


class CombineSettings(BaseModel):
    """Settings of a combination."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: tuple[Member, ...] = Field(
        min_length=1, description="The members: a method, its settings and its weight, each."
    )
    how: Literal["ranks", "product", "intersection", "stratified"] = Field(
        "ranks",
        description="ranks: weighted mean of the ranks; product: weighted mean of their logarithms, so that "
        "a low rank weighs more than a high one; intersection: the lowest rank, so that all members must "
        "agree; stratified: the rank by the first member, with levels of the others as strata.",
    )
    levels: int = Field(
        4, ge=2, le=64, description="Levels of quality that `stratified` tells, of equal width in rank."
    )

    @field_validator("of")
    @classmethod
    def _check_distinct(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
        told = [member.model_dump(exclude={"weight"}) for member in members]
        for i, member in enumerate(told):
            if member in told[:i]:
                raise ValueError(f"a member is named twice, found {members[i].method!r}: give it more weight")
        return members

    @model_validator(mode="after")
    def _check(self) -> CombineSettings:
        if self.how == "intersection" and {member.weight for member in self.of} != {1.0}:
            raise ValueError("an intersection has no weights, found other weights than 1")
        if self.how == "stratified" and len(self.of) < 2:
            raise ValueError("`stratified` needs a member that ranks and one that gives levels, found one")
        return self


@method(
    name="combine",
    called="combination",
    title="methods joined by their ranks",
    paper="none",
    feature="the scores of its members",
    cost="what its members cost; a few passes over their columns",
    assumes="the members' mistakes differ; a common mistake stays",
    formula="""q_m(x) = (tokens of documents that score lower under member m + half of those that score equal)
         / tokens of all documents that every member can judge
ranks         score(x) = sum_m w_m q_m(x) / sum_m w_m
product       score(x) = sum_m w_m ln q_m(x) / sum_m w_m
intersection  score(x) = min_m q_m(x)
stratified    score(x) = q_1(x); stratum = floor(levels * weighted mean of the other q_m(x))""",
    differs="""Ranks are exact to 2^-11 of the tokens in large pools, exact in small ones; distinct scores
keep their order. Strata are the same for all targets: levels of the mean rank over targets. Other
combinations pass on the strata of the first member that tells some. Choose within strata by
`policy: {strata: method}` or `source x method`.""",
)
class Combine(Method):
    """Several methods as one."""

    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 0.1
    needs_settings: ClassVar[bool] = True
    Settings: ClassVar[type[BaseModel]] = CombineSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The scores of every member."""
        return {
            _name(i): scored(member.method, member.settings, targets, base)
            for i, member in enumerate(self.settings.of)
        }

    def fit(self, given: Given) -> State:
        """The ranks of every member for every target, and how many documents a member left out.

        Raises:
            DataError: there is no document that all members can judge.
        """
        from prill.stats.token_ranks import token_ranks

        targets, names = list(given.targets), self._names()

        def columns(shard: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
            found = [_judged(_member_scores(given, names, target, shard)) for target in targets]
            return np.concatenate(found), _tokens(given, shard)

        missing = self._count_missing(given, targets)
        for target, counts in zip(targets, missing, strict=True):
            if counts[0] == counts[1]:
                raise DataError(
                    f"expected a document that all {len(names)} members can judge, found none of {counts[0]}",
                    where=f"combine, target {target!r}",
                    hint="leave out the member whose scores are not finite",
                )
        ranks = token_ranks(columns, given.pool.n_shards, len(targets) * len(names))
        state: State = {"missing": missing}
        for i, target in enumerate(targets):
            for j, name in enumerate(names):
                state |= ranks[i * len(names) + j].to_arrays(f"{target}.{name}")
        return state

    def account(self, state: State) -> Mapping[str, Any]:
        """Documents that some member could not judge, for each target in order."""
        return {
            "n_documents": [int(row[0]) for row in state["missing"]],
            "n_without_score": [int(row[1]) for row in state["missing"]],
            "n_without_score_of_member": [[int(n) for n in row[2:]] for row in state["missing"]],
        }

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The combined ranks, float64, shape (D,) for each target; NaN where a member has none."""
        names, targets = self._names(), list(given.targets)
        ranks = {target: self._ranks(state, given, target, shard) for target in targets}
        found: dict[str, Any] = {target: self.combined(ranks[target]) for target in targets}
        teller = self._teller(given)
        if self.settings.how == "stratified":
            found[STRATUM] = self._levels(np.mean([ranks[target][1:] for target in targets], axis=0))
        elif teller is not None:
            found[STRATUM] = given.columns(names[teller], shard, [STRATUM])[STRATUM]
        return found

    def combined(self, ranks_MD: NDArray[np.float64]) -> NDArray[np.float64]:
        """One score a document from its ranks under every member. Shape (D,)."""
        if self.settings.how == "stratified":
            return np.asarray(np.where(np.isnan(ranks_MD).any(axis=0), np.nan, ranks_MD[0]))
        if self.settings.how == "intersection":
            return np.asarray(ranks_MD.min(axis=0))
        weights = np.array([member.weight for member in self.settings.of])
        values_MD = np.log(ranks_MD) if self.settings.how == "product" else ranks_MD
        return np.asarray(weights @ values_MD / weights.sum())

    def meaning(self) -> Meaning:
        members = [made(m.method, m.settings) for m in self.settings.of]
        names = " and ".join(member.method for member in self.settings.of)
        return Meaning(
            unit="nats" if self.settings.how == "product" else "share of the tokens",
            span="; ".join(dict.fromkeys(member.meaning().span for member in members)),
            summary=f"{self.settings.how} of {names}",
        )

    def strata(self) -> Meaning | None:
        if self.settings.how == "stratified":
            return Meaning(unit="name", summary="level of quality, from the lowest, 1")
        told = (made(m.method, m.settings).strata() for m in self.settings.of)
        return next((one for one in told if one), None)

    def _names(self) -> list[str]:
        return [_name(i) for i in range(len(self.settings.of))]

    def _ranks(self, state: State, given: Given, target: str, shard: int) -> NDArray[np.float64]:
        """Ranks under every member, NaN for all where one has none. Shape (M, D)."""
        from prill.stats.token_ranks import Ranks

        names = self._names()
        scores_MD = _judged(_member_scores(given, names, target, shard))
        of: list[Ranks] = [Ranks.from_arrays(f"{target}.{name}", state) for name in names]
        return np.stack([ranks.of(scores_D) for ranks, scores_D in zip(of, scores_MD, strict=True)])

    def _levels(self, ranks_MD: NDArray[np.float64]) -> NDArray[Any]:
        """`1 of 4` for the lowest quarter; `unknown` where a member has no score. Shape (D,)."""
        weights, levels = np.array([m.weight for m in self.settings.of[1:]]), self.settings.levels
        mean_D = weights @ ranks_MD / weights.sum()
        level_D = np.clip(np.floor(np.nan_to_num(mean_D) * levels), 0, levels - 1).astype(np.int64)
        names = np.array([f"{i + 1} of {levels}" for i in range(levels)] + ["unknown"], dtype=object)
        return np.asarray(names[np.where(np.isnan(mean_D), levels, level_D)])

    def _teller(self, given: Given) -> int | None:
        """The first member that tells strata."""
        for i, name in enumerate(self._names()):
            member = given.named[name]
            assert isinstance(member, Scored)
            infos = member.fitted.made.columns(member.fitted.targets)
            if any(info.name == STRATUM for info in infos):
                return i
        return None

    def _count_missing(self, given: Given, targets: Sequence[str]) -> NDArray[np.int64]:
        """For each target: eligible documents, those without a score, those without one of each member."""
        names = self._names()
        counts = np.zeros((len(targets), 2 + len(names)), np.int64)
        for shard in range(given.pool.n_shards):
            is_eligible = given.pool.is_eligible(shard)
            for i, target in enumerate(targets):
                is_missing = ~np.isfinite(_member_scores(given, names, target, shard)) & is_eligible
                parts = (is_eligible.sum(), is_missing.any(axis=0).sum(), *is_missing.sum(axis=1))
                counts[i] += np.array(parts, np.int64)
        return counts


def _name(index: int) -> str:
    return f"member {index}"


def _member_scores(given: Given, names: Sequence[str], target: str, shard: int) -> NDArray[np.float64]:
    """The scores of all members, as they are. Shape (M, D)."""
    columns = [given.columns(name, shard, [target])[target].to_numpy() for name in names]
    return np.stack([np.asarray(column, np.float64) for column in columns])


def _judged(scores_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores, NaN for every member where one of them is not finite."""
    return np.where(np.isfinite(scores_MD).all(axis=0), scores_MD, np.nan)


def _tokens(given: Given, shard: int) -> NDArray[np.int64]:
    """Tokens of the documents that may be chosen, 0 for others."""
    return np.where(given.pool.is_eligible(shard), given.pool.n_tokens(shard), 0)
