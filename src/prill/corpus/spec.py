"""What a user says about a corpus: where its files are and which of their fields mean what.

The description is part of the recipe and of every record of a run, so it may not hold a secret: a URL with
a user name, a password or a signature in it is refused before anything else happens, and the message does
not repeat it. Storage options come from the environment only.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from prill.corpus._url import has_credentials, shown
from prill.errors import RecipeError, near

__all__ = ["FIELDS", "CorpusSpec"]

FIELDS: Final = ("text", "id", "source", "url", "timestamp", "license", "meta")
"""The fields of a document. `text` is required; the others may be absent, and null in any document."""

_DEFAULT_SHARD_BYTES: Final = 64 * 1024 * 1024


class CorpusSpec(BaseModel):
    """A corpus: files of documents and how to read them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    paths: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1,
        description="Files, folders, globs or URLs (s3://, gs://, hf://), relative to the recipe.",
    )
    format: Literal["auto", "parquet", "jsonl", "text"] = Field(
        default="auto", description="How the files are read; auto goes by their names and first bytes."
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Where each field of a document is: a column, or a key (dotted for nested objects). "
            "Default: its own name. An empty string leaves the field out."
        ),
    )
    source: str | None = Field(
        default=None, min_length=1, description="Source of the documents whose data names none."
    )
    on_bad: Literal["stop", "quarantine"] = Field(
        default="stop",
        description="At a bad record: stop with its place, or set it aside, count it and go on.",
    )
    shard_bytes: int = Field(
        default=_DEFAULT_SHARD_BYTES,
        ge=1,
        description="Bytes of work in one shard; large files are split into about this much.",
    )
    identity: Literal["content", "size"] = Field(
        default="content",
        description="What says that inputs are unchanged: the hash of their content, or only their size.",
    )

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("paths")
    @classmethod
    def _no_secrets(cls, paths: list[str]) -> list[str]:
        for path in paths:
            if "\0" in path:
                raise ValueError("a path must not contain a NUL character")
            if has_credentials(path):
                raise RecipeError(
                    "a URL in `paths` must not hold credentials (user, password, key, token or signature)",
                    where=shown(path),
                    hint="set them in the environment of the storage, for example AWS_ACCESS_KEY_ID",
                )
        return paths

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, fields: dict[str, str]) -> dict[str, str]:
        for name in fields:
            if name not in FIELDS:
                raise ValueError(f"{name!r} is not a field of a document; {near(name, FIELDS)}")
        if fields.get("text") == "":
            raise ValueError("`text` cannot be left out")
        return fields
