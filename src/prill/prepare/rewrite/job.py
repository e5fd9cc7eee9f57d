"""What a recipe says of a rewriting job: model, budget, genre of each source, words that may be used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field

from prill.errors import DataError
from prill.prepare.rewrite.prompts import GENRES, tinyhelen
from prill.prepare.rewrite.rewriter import Rewriter, RewriteSpec

__all__ = ["Genre", "RewriteJobSpec", "make_rewriter"]

Genre: TypeAlias = Literal["web", "book", "wiki", "textbook", "conversation", "code", "math", "instruction"]


class RewriteJobSpec(RewriteSpec):
    """Rewrite what is left in simple language (TinyHelen), through a model that answers at an address."""

    genre: Genre = Field("web", description="Genre of documents whose source is not named in `genres`.")
    genres: dict[str, Genre] = Field(
        default_factory=dict, description="Genre by source; each has its own prompt."
    )
    vocabulary: str | None = Field(
        None, description="Text file with the words that a rewrite may use, one a line; null: any."
    )


def make_rewriter(spec: RewriteJobSpec, folder: Path, base: Path) -> Rewriter:
    """The rewriter of a recipe; answers are kept in `folder`, so that none is paid for twice.

    Raises:
        DataError: the vocabulary is missing or empty, or kept answers are damaged.
    """
    return Rewriter.of(
        spec,
        folder,
        prompts={genre: tinyhelen(genre) for genre in GENRES},
        vocabulary=_words(base / spec.vocabulary) if spec.vocabulary is not None else frozenset(),
    )


def _words(path: Path) -> frozenset[str]:
    try:
        words = frozenset(path.read_text(encoding="utf-8").lower().split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("a list of words in UTF-8 expected, found none", where=str(path)) from error
    if not words:
        raise DataError("a list of words expected, found an empty file", where=str(path))
    return words
