"""DataMan: 14 grades and a domain for every document; the best of every source and domain.

A rater grades 13 criteria and the overall worth from 1 to 5 and names one of 15 domains. The budget is
divided over sources and domains as the pool is, and the best documents of each part are taken.

Source: Peng et al. 2025, arXiv:2502.19363; released annotator and selector, db3bc94.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prill.errors import RecipeError
from prill.features.rater.spec import LabelsSpec, RaterSpec, RulesSpec, must_have
from prill.methods.registry import STRATUM, Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    import pyarrow as pa

    from prill.features.feature import Feature, Given

__all__ = ["DataMan", "DataManSettings", "measured"]

Criterion = Literal[
    "accuracy",
    "coherence",
    "language_consistency",
    "semantic_density",
    "knowledge_novelty",
    "topic_focus",
    "creativity",
    "professionalism",
    "style_consistency",
    "grammatical_diversity",
    "structural_standardization",
    "originality",
    "sensitivity",
    "overall_score",
]


class DataManSettings(BaseModel):
    """Settings of DataMan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rater: RaterSpec | None = Field(
        RulesSpec(),
        description="Who grades: endpoint, model, labels (a file; with `apply: distil`), or rules, which is "
        "a stand-in by counts of words that needs no model and is not the published annotator; null is "
        "refused.",
    )
    apply: Literal["rate", "distil"] = Field(
        "rate",
        description="rate: the rater grades every document, as published; distil: it grades `n_documents`, "
        "and heads on vectors learn the grades and the domain.",
    )
    n_documents: int = Field(1_000, ge=50, description="Documents that are rated for `distil`.")
    metric: Criterion | Literal["sum"] = Field(
        "overall_score", description="What documents are ranked by: a criterion, or the sum of all 14."
    )
    grades: Literal["integer", "expected"] = Field(
        "integer",
        description="integer: whole grades, so that chance decides among many equals; expected: as the rater "
        "or the student gives them, finer where these are expectations (our extension).",
    )
    target_scores: tuple[int, ...] = Field(
        (), description="Only documents whose metric, rounded, is one of these are offered; empty: all."
    )
    domains: tuple[str, ...] = Field(
        (), description="Only documents of these domains, by letter, are offered; empty: all."
    )
    cells: Literal["source x domain", "domain"] = Field(
        "source x domain", description="What the policy `strata: method` divides the budget over."
    )

    @field_validator("domains")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [letter for letter in value if len(letter) != 1 or not "A" <= letter <= "O"]
        if unknown:
            raise ValueError(f"expected letters from A to O, found {', '.join(unknown)}")
        return value


@method(
    name="dataman",
    called="DataMan",
    title="a rater's 14 grades and domain; the best of every source and domain",
    paper="2502.19363",
    feature="rater",
    cost="the rater reads up to 1,894 tokens of every document and writes 29; `distil`: a vector instead",
    assumes="the rater's grades tell what helps, whatever the target; weak domains keep their share. With "
    "`rater: rules`, the default, the rater is a stand-in and nothing published about the method holds",
    formula="""score(x) = the grade of `metric`, 1 to 5, or the sum of all 14
stratum(x) = source x domain; budget of a stratum = budget * its tokens / all tokens""",
    differs="""The rater: a fine-tuned Qwen2-1.5B in the paper (`rater: {kind: model, ...}`); here whoever the
recipe names, by default `rules`, a stand-in by counts of words (not an annotator). Wording of the rubric is
ours. Within a stratum the best documents are taken until the next one would not fit; the reference adds that
one, cuts the ranking beforehand, and then repeats chosen documents at random although others are left: ours
goes down the ranking, never repeats, and tells a shortfall. Equal grades are ordered by keyed hash, not by
argsort or a salted hash. Budgets count true tokens, not those of the cut text. `source` is read because the
method is defined by it. Scores do not depend on the target: all targets get the same column.""",
)
class DataMan(Method):
    """Grades by 14 criteria within sources and domains."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {
        "kind": "top_k",
        "strata": "method",
        "on_non_finite": "exclude",
        "on_short": "take_all",
    }
    Settings: ClassVar[type[BaseModel]] = DataManSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Grades and domain of every document.

        Raises:
            RecipeError: there is no rater, or its budget is too small or missing.
            DataError: a folder or file that is named is not there.
        """
        from prill.features.distilled import Distilled, DistilledGrades
        from prill.features.rated import rated_by, rates_all, rubric_of
        from prill.features.vectors import Vectors

        spec = must_have(self.settings.rater, "dataman")
        rubric = rubric_of("dataman", base)
        if self.settings.apply == "rate":
            return {"grades": rates_all(rubric, spec, base)}
        if isinstance(spec, LabelsSpec) and spec.label_field is None:
            raise RecipeError(
                "expected labels with a domain, found no field named",
                where="rater.label_field",
                hint="name the field with the letter of the domain",
            )
        ratings = rated_by(rubric, spec, base, n_documents=self.settings.n_documents)
        student = Distilled(
            ratings=ratings,
            vectors=Vectors.of("hashed"),
            scales=rubric.names,
            main="overall_score" if self.settings.metric == "sum" else self.settings.metric,
            with_label=True,
            threshold=4.0,
        )
        return {"grades": DistilledGrades.of(student)}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The metric for every target, (D,), and the stratum; NaN where there is no grade, or not offered."""
        from prill.features.rater.rubric_dataman import CRITERIA

        names = [name for name, _ in CRITERIA]
        table = given.columns("grades", shard, [*names, "label"])
        grades = {name: table[name].to_numpy() for name in names}
        score = measured(grades, self.settings.metric, is_integer=self.settings.grades == "integer")
        domain = np.array(table["label"].fill_null("").to_pylist(), dtype=object)
        is_offered = np.ones(len(score), np.bool_)
        if self.settings.target_scores:
            whole = measured(grades, self.settings.metric, is_integer=True)
            is_offered &= np.isin(whole, self.settings.target_scores)
        if self.settings.domains:
            is_offered &= np.isin(domain.astype(str), self.settings.domains)
        score = np.where(is_offered, score, np.nan)
        return {**dict.fromkeys(given.targets, score), STRATUM: self._strata(given, shard, domain)}

    def meaning(self) -> Meaning:
        from prill.features.rater.rubric_dataman import make

        spec = must_have(self.settings.rater, "dataman")
        summary = f"{self.settings.metric}, graded by {spec.called}"
        return Meaning(unit="grade", span=make().span.sentence, summary=summary)

    def strata(self) -> Meaning:
        return Meaning(unit="name", summary=self.settings.cells)

    def _strata(self, given: Given, shard: int, domain: NDArray[np.object_]) -> pa.Array:
        import pyarrow as pa

        if self.settings.cells == "domain" or "source" not in given.pool.corpus.fields:
            return pa.array(domain.tolist(), pa.string())
        sources = [
            source
            for batch in given.pool.batches(shard, ("text", "source"))
            for source in batch.columns["source"].to_pylist()
        ]
        cells = [f"{source or ''} / {letter}" for source, letter in zip(sources, domain, strict=True)]
        return pa.array(cells, pa.string())


def measured(
    grades: Mapping[str, NDArray[np.float64]], metric: str, *, is_integer: bool
) -> NDArray[np.float64]:
    """The metric of D documents, float64: one criterion's grade, or the sum of all.

    Args:
        is_integer: grades are rounded first, halves to the even one, within 1 to 5.
    """

    def whole(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.rint(np.clip(values, 1.0, 5.0)) if is_integer else values

    if metric == "sum":
        return np.asarray(np.sum([whole(values) for values in grades.values()], axis=0), np.float64)
    return whole(grades[metric])
