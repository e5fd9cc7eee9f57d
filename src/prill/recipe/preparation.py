"""The recipe of a preparation alone: a corpus and what to do with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.spec import CorpusSpec
from prill.prepare.spec import PrepareSpec
from prill.targets.spec import TargetSpec

__all__ = ["PrepareRecipe"]


class PrepareRecipe(BaseModel):
    """What to read and how to prepare it. A whole recipe, with targets and a budget, is understood too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("a Prill preparation", max_length=200, description="Title of the report.")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Seed of everything that is drawn.")
    corpus: CorpusSpec = Field(description="The raw documents.")
    prepare: PrepareSpec = Field(default_factory=PrepareSpec, description="What is done with them.")
    targets: dict[Annotated[str, Field(min_length=1, max_length=100)], TargetSpec] = Field(
        default_factory=dict,
        description="What a model should become good at; the report tells how often its concepts occur.",
    )
    output: str = Field("prepared", description="Folder of the run.")
