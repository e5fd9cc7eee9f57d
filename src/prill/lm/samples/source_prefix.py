"""Prefix conditioning by source: each document after a tag, or words, that name where it comes from.

A model told the source need not guess it, and can be asked for one source's kind of text. A share of
documents goes without its prefix, so that the model also works unprompted.

Source: Keskar et al. 2019, arXiv:1909.05858 (control codes at the start of a sequence, one a domain); the
released code of Korbak et al. 2023, arXiv:2302.08582, for a share without. Differs: the prefix is not trained
on unless `weight` says so; control codes were.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from prill.errors import DataError, RecipeError, near
from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.columns import base_column, column_words
from prill.lm.samples.insertion import prefix_documents
from prill.lm.samples.keyed_bits import keyed, uniform
from prill.lm.samples.transform import Documents, SampleTransform

__all__ = ["SourcePrefix", "Style"]

Style: TypeAlias = Literal["tag", "words"]


@dataclass(frozen=True, kw_only=True)
class SourcePrefix:
    """Prefix conditioning: each document after a tag or words that name its source.

    Raises:
        RecipeError: a setting is out of bounds, tags are asked for without the sources' names, or one is
            named twice.
    """

    column: str = field(
        default="source", metadata={"description": "Column of the corpus that names the source."}
    )
    style: Style = field(
        default="words",
        metadata={"description": "words: the line, in the tokenizer's own tokens; tag: one new token each."},
    )
    sources: tuple[str, ...] = field(
        default=(),
        metadata={
            "description": "Sources that get a prefix, in the order of their tags. Words need none named: "
            "then every source gets its own; else documents of others stay plain."
        },
    )
    line: str = field(
        default="{value}: ", metadata={"description": "The words; {value} stands for the source."}
    )
    drop: float = field(
        default=0.0, metadata={"description": "Probability that a document goes without its prefix."}
    )
    weight: float = field(
        default=0.0, metadata={"description": "Weight of predicting the prefix itself; 0 masks it."}
    )
    strict: bool = field(
        default=False,
        metadata={"description": "Stop at documents without a prefix of their own instead of leaving them."},
    )

    def __post_init__(self) -> None:
        if not 0 <= self.drop <= 1 or not 0 <= self.weight < float("inf"):
            raise RecipeError(
                f"expected 0 <= drop <= 1 and a finite weight >= 0, found {self.drop} and {self.weight}",
                where="source_prefix",
            )
        if (self.style == "tag" and not self.sources) or len(set(self.sources)) < len(self.sources):
            raise RecipeError(
                f"`sources` must name each source once, and tags need their names, found {self.sources}",
                where="source_prefix",
            )

    @property
    def n_added(self) -> int:
        return len(self.sources) if self.style == "tag" else 0

    @property
    def needs(self) -> tuple[str, ...]:
        return (base_column(self.column),)

    def when_asked(self) -> SampleTransform:
        """The prefix before every evaluation document, never dropped."""
        return replace(self, drop=0.0, weight=0.0)

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The documents, each after its prefix unless its draw drops it."""
        known = column_words(documents, self.column).dictionary_encode()
        found = [str(name) for name in known.dictionary.to_pylist()]
        names = list(self.sources) or found
        number = {name: place for place, name in enumerate(names)}
        of_found = np.array([*(number.get(name, -1) for name in found), -1], np.int64)
        which = of_found[np.asarray(known.indices.fill_null(len(found)), np.int64)]
        if self.strict and (which < 0).any():
            self._refuse(documents, int(np.argmax(which < 0)))
        draws = uniform(keyed(documents.hashes, seed=seed, use="source_prefix"))
        which = np.where(draws < self.drop, -1, which)
        return prefix_documents(documents.stream, self._prefixes(documents, names), which, weight=self.weight)

    def as_record(self) -> dict[str, Any]:
        return record(self, "source_prefix", 1)

    def _prefixes(self, documents: Documents, names: list[str]) -> list[Any]:
        if self.style == "tag":
            return [np.array([documents.vocab_size + place]) for place in range(len(names))]
        return documents.encode([self.line.replace("{value}", name) for name in names])

    def _refuse(self, documents: Documents, document: int) -> None:
        value = column_words(documents, self.column)[document].as_py()
        raise DataError(
            f"expected one of {len(self.sources)} named sources in {self.column!r}, found {value!r}",
            where=f"{documents.stream.name}, document {document}",
            hint=near(value or "", self.sources) if self.sources else "leave out `strict`",
        )
