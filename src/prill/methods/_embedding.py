"""Settings of methods that compare documents by their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from prill.features.vectors import Vectors
    from prill.features.windows import Window

__all__ = ["EmbeddingSettings"]


class EmbeddingSettings(BaseModel):
    """What gives the vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: Literal["hashed", "static", "encoder"] = Field(
        "hashed",
        description="What gives the vectors: hashed words, which need no model and know no meanings; a table "
        "of token vectors; an encoder, as in the papers.",
    )
    embedding_folder: str | None = Field(
        None, description="Folder of the model for static and encoder; relative to the recipe."
    )
    pooling: Literal["mean", "first"] | None = Field(
        None, description="Of an encoder's last states; null: as its folder says, else the mean."
    )
    dimensions: int = Field(256, ge=16, le=8192, description="Of hashed vectors, a power of two.")

    @model_validator(mode="after")
    def _fits(self) -> EmbeddingSettings:
        if (self.embedding == "hashed") != (self.embedding_folder is None):
            raise ValueError("`embedding_folder` belongs to static and encoder, and these need it")
        if self.dimensions & (self.dimensions - 1):
            raise ValueError(f"`dimensions` is a power of two, found {self.dimensions}")
        return self

    def vectors(self, base: Path, *, window: Window = "whole", n_tokens: int = 512) -> Vectors:
        """The feature; a relative folder starts from `base`.

        Raises:
            DataError: no model lies in the folder, or one that needs code of its own.
            ResourceError: the packages of an encoder are missing.
        """
        from prill.features.vectors import Vectors

        folder = self.embedding_folder
        return Vectors.of(
            self.embedding,
            n_dimensions=self.dimensions,
            window=window,
            n_tokens=n_tokens,
            pooling=self.pooling,
            folder=None if folder is None else base / folder,
        )
