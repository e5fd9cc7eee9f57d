"""What a recipe says of one target."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TargetSpec"]


class TargetSpec(BaseModel):
    """Where a target's sample is, and how much of it only the evaluation may see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: list[str] = Field(
        min_length=1,
        description="Files, folders or globs: sample documents (Parquet, JSONL, text) or task items (JSONL).",
    )
    kind: Literal["documents", "items"] = Field(
        "documents",
        description="`documents` hold a text; `items` are benchmark items: prompt and target, or context, "
        "choices and answer_index, read as the prompt followed by the right answer.",
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="Our field to the name it has in the files, for instance {text: content}.",
    )
    held_out: float = Field(
        0.5,
        gt=0.0,
        lt=1.0,
        description="Share of the sample's documents, between 0 and 1, that only the evaluation sees.",
    )
