"""From what a recipe says of rubric and rater to the features that rate: one place for every method."""

from __future__ import annotations

from pathlib import Path

from prill.errors import RecipeError
from prill.features.feature import Feature
from prill.features.labelled import LabelledFile
from prill.features.rater.rubric import Rubric, get_rubric, read_rubric
from prill.features.rater.rules import RulesRater
from prill.features.rater.spec import EndpointRaterSpec, LabelsSpec, RaterSpec, RulesSpec
from prill.features.ratings import RatedSample, Ratings

__all__ = ["rated_by", "rates_all", "rubric_of"]


def rubric_of(name: str, base: Path) -> Rubric:
    """The rubric that a recipe names: one of Prill's, or the path of a YAML file.

    Raises:
        RecipeError: there is none of that name.
    """
    return get_rubric(name) or read_rubric(base / name)


def rated_by(
    rubric: Rubric,
    spec: RaterSpec,
    base: Path,
    *,
    n_documents: int,
    use: str = "rated",
    chosen: Feature | None = None,
) -> RatedSample | LabelledFile:
    """Ratings of some documents.

    Args:
        chosen: a feature that has chosen them; None: drawn by key.
    Raises:
        RecipeError: the rater cannot read the rubric, or its budget is below the number of documents.
        DataError: a folder or file is not there.
    """
    if isinstance(spec, LabelsSpec):
        return LabelledFile.of(rubric, spec, base)
    _check(rubric, spec, n_documents)
    return RatedSample.of(rubric, spec, base, n_documents=n_documents, use=use, chosen=chosen)


def rates_all(rubric: Rubric, spec: RaterSpec, base: Path) -> Ratings:
    """Ratings of every document.

    Raises:
        RecipeError: the rater cannot read the rubric, costs money and has no budget, or is a file.
        DataError: a folder is not there.
    """
    if isinstance(spec, LabelsSpec):
        raise RecipeError(
            "expected a rater that can grade every document, found a file of labels",
            where="rater",
            hint="learn from the labels: `apply: distil`",
        )
    _check(rubric, spec, 0)
    if spec.is_costly and isinstance(spec, EndpointRaterSpec) and not (spec.max_requests or spec.max_tokens):
        raise RecipeError(
            f"expected a budget for grading the whole pool by {spec.called}, found none",
            where="rater.max_requests",
            hint="set max_requests or max_tokens, or grade a sample and learn from it: `apply: distil`",
        )
    return Ratings.of(rubric, spec, base)


def _check(rubric: Rubric, spec: RaterSpec, n_documents: int) -> None:
    if isinstance(spec, RulesSpec):
        RulesRater(rubric)  # says whether it knows the rubric
    allowed = spec.max_requests if isinstance(spec, EndpointRaterSpec) else None
    if allowed is not None and n_documents > allowed:
        raise RecipeError(
            f"expected a budget of at least {n_documents:,} requests, one a document, found {allowed:,}",
            where="rater.max_requests",
            hint="raise max_requests, or lower n_documents",
        )
