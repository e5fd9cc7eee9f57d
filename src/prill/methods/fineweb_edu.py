"""FineWeb-Edu: a rater's educational value, learnt by a small head on frozen embeddings.

A rater grades some documents from 0 to 5; a regression on the vectors of their first 512 tokens learns the
grades and predicts them for all. With another rubric it is the same method for any quality that a rater can
judge. Which rater it was decides what the score means: it stands in the description of every column.

Source: Penedo et al. 2024, arXiv:2406.17557, section on FineWeb-Edu; the released classifier's code.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prill.errors import RecipeError
from prill.features.rater.spec import AnyRater, RaterSpec, RulesSpec, must_have
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.features.labelled import LabelledFile
    from prill.features.rated_rounds import RatedRounds
    from prill.features.rater.rubric import Rubric, Scale
    from prill.features.ratings import RatedSample
    from prill.features.vectors import Vectors

__all__ = ["FineWebEdu", "FineWebEduSettings"]


class FineWebEduSettings(BaseModel):
    """Settings of FineWeb-Edu."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rater: RaterSpec | None = Field(
        RulesSpec(),
        description="Who grades the sample: endpoint, model, labels (a file), or rules, which is a stand-in "
        "by counts of words that needs no model and is not the published annotator; null is refused.",
    )
    rubric: str = Field(
        "fineweb_edu",
        min_length=1,
        description="What is asked: fineweb_edu, dataman, or the path of a YAML file with a rubric.",
    )
    scale: str | None = Field(
        None, description="Which of the rubric's scales is learnt; null: the last, or its only one."
    )
    n_documents: int = Field(1_000, ge=50, description="Documents that are rated; the paper: 450,000.")
    picker: Literal["random", "balanced"] = Field(
        "random",
        description="random: all of them are drawn; balanced: in rounds, the first drawn, then those whose "
        "grade the student is least sure of, the same number of each predicted grade, a fifth still drawn.",
    )
    n_rounds: int = Field(4, ge=2, le=20, description="Rounds of the balanced picker.")
    student: Literal["head", "linear"] = Field(
        "head", description="head: regression on vectors; linear: the classifier of words and n-grams."
    )
    embedding: Literal["hashed", "static", "encoder"] = Field(
        "hashed",
        description="What gives the vectors: hashed words, token vectors, or an encoder as in the paper.",
    )
    embedding_folder: str | None = Field(None, description="Folder of the model for static and encoder.")
    pooling: Literal["mean", "first"] | None = Field(
        None, description="Of an encoder's states; null: as its folder says. The paper's head sees the first."
    )
    window: Literal["head", "three"] = Field(
        "head",
        description="head: the first tokens alone, as published; three: top, middle and bottom, the mean of "
        "the predictions, for long documents.",
    )
    window_tokens: int = Field(512, ge=16, description="Tokens of a window.")
    grades: Literal["raw", "integer"] = Field(
        "raw", description="raw: the prediction; integer: clipped to the scale and rounded, halves to even."
    )
    threshold: float = Field(
        3.0, description="Grade from which a document counts as good, when the student is measured."
    )
    held_out: float = Field(0.1, gt=0, lt=0.9, description="Share of the rated documents kept back.")

    @model_validator(mode="after")
    def _fits(self) -> FineWebEduSettings:
        if (self.embedding == "hashed") != (self.embedding_folder is None):
            raise ValueError("`embedding_folder` belongs to static and encoder, and these need it")
        return self


@method(
    name="fineweb_edu",
    called="FineWeb-Edu",
    title="a rater's grades, learnt by a head on frozen embeddings",
    paper="2406.17557",
    feature="rater, vectors",
    cost="ratings of a sample; one embedding of the first 512 tokens of a document, shared by all rubrics",
    assumes="what the rater calls good is good for the target; the start of a document speaks for it. With "
    "`rater: rules`, the default, the rater is a stand-in and nothing published about the method holds",
    formula="""score(x) = w . v(x) + b, the predicted grade; integer: round(clip(score, 0, 5)), halves to even
v = vector of the first 512 tokens; w, b = ridge regression of the rater's grades on v
the published choice, grade 3 or more, is `grades: integer`, policy threshold 3 (raw: above 2.5)""",
    differs="""The rater: Llama-3-70B-Instruct in the paper; here whoever the recipe names, by default
`rules`, a stand-in by counts of words (not an annotator). Wording of the rubric is ours. Closed-form
ridge regression, its penalty chosen by squared error on a fifth of the fitting part, instead of 20
epochs with a trained pooling layer. Hashed words by default where the paper has Snowflake-arctic-embed-m
(`embedding: encoder`). Rated documents: 1,000 instead of 450,000; kept back: a tenth of each grade, by
keyed draw. The rater sees the first 2,000 characters, about what the head sees. Float32 instead of
bfloat16. Scores do not depend on the target: all targets get the same column.""",
)
class FineWebEdu(Method):
    """Predicted grades of a rubric."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = FineWebEduSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Predicted grades of the pool.

        Raises:
            RecipeError: there is no rater, no such rubric or scale, or the budget is too small.
            DataError: a folder or file that is named is not there.
        """
        from prill.features.distilled import Distilled, DistilledGrades
        from prill.features.rated import rubric_of

        spec = must_have(self.settings.rater, "fineweb_edu")
        rubric = rubric_of(self.settings.rubric, base)
        scale = self._scale(rubric).name
        vectors = self._vectors(base) if self.settings.student == "head" else None
        student = Distilled(
            ratings=self._ratings(rubric, spec, base, scale, vectors),
            vectors=vectors,
            scales=(scale,),
            main=scale,
            threshold=self.settings.threshold,
            held_out=self.settings.held_out,
        )
        return {"grades": DistilledGrades.of(student)}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The predicted grade for every target, (D,); NaN for a document without text."""
        from prill.features.agreement import rounded_grade

        scale = self._learnt(given)
        found = given.columns("grades", shard, [scale.name])[scale.name].to_numpy()
        if self.settings.grades == "integer":
            found = rounded_grade(found, scale)
        return dict.fromkeys(given.targets, found)

    def meaning(self) -> Meaning:
        spec = must_have(self.settings.rater, "fineweb_edu")
        span = "whole document"
        if self.settings.student == "head":
            span = f"{'first' if self.settings.window == 'head' else 'top, middle and bottom'} "
            span += f"{self.settings.window_tokens} tokens"
        summary = f"grade by the rubric {self.settings.rubric}, learnt from {spec.called}"
        return Meaning(unit="grade", span=span, summary=summary)

    def _ratings(
        self, rubric: Rubric, spec: AnyRater, base: Path, scale: str, vectors: Vectors | None
    ) -> RatedSample | RatedRounds | LabelledFile:
        from prill.features.rated import rated_by
        from prill.features.rating_rounds import rated_in_rounds
        from prill.features.ratings import RatedSample

        settings = self.settings
        ratings = rated_by(rubric, spec, base, n_documents=settings.n_documents)
        if settings.picker == "random" or not isinstance(ratings, RatedSample):
            return ratings
        n_first = settings.n_documents // settings.n_rounds
        return rated_in_rounds(
            rubric,
            spec,
            RatedSample.of(rubric, spec, base, n_documents=n_first),
            n_documents=settings.n_documents,
            n_rounds=settings.n_rounds,
            scale=scale,
            vectors=vectors,
            threshold=settings.threshold,
            held_out=settings.held_out,
        )

    def _learnt(self, given: Given) -> Scale:
        """The scale that is predicted."""
        from prill.features.distilled import DistilledGrades

        grades = given.named["grades"]
        assert isinstance(grades, DistilledGrades)
        return next(s for s in grades.model.ratings.asked.scales if s.name == grades.model.main)

    def _scale(self, rubric: Rubric) -> Scale:
        from prill.errors import near

        name = self.settings.scale or rubric.names[-1]
        for scale in rubric.scales:
            if scale.name == name:
                return scale
        raise RecipeError(
            f"expected a scale of the rubric {rubric.name!r}, found {name!r}",
            where="scale",
            hint=near(name, rubric.names),
        )

    def _vectors(self, base: Path) -> Vectors:
        from prill.features.vectors import Vectors

        folder = self.settings.embedding_folder
        return Vectors.of(
            self.settings.embedding,
            window=self.settings.window,
            n_tokens=self.settings.window_tokens,
            pooling=self.settings.pooling,
            folder=None if folder is None else base / folder,
        )
