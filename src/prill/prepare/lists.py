"""Lists of the user as a measure: words, phrases or substrings, what share they have, and what to do then.

No list is shipped: what is unwanted in one corpus is the subject of another. A list is searched in one pass;
what stood on it is a column, so that a list can be a tag today and a rule tomorrow.

Source: Raffel et al. 2020, arXiv:1910.10683, section 2.2 (a page with a listed word is dropped); the keep
share as in the C4 pipeline of datatrove. Differs: the draw that keeps a page is keyed by its text, not by
chance; lists of languages without spaces are given as `substring` by the user, not guessed.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.errors import RecipeError
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.patterns import PATTERNS_VERSION, Mode, Patterns
from prill.features.text_hash import hash_documents
from prill.prepare._pattern_files import read_patterns
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits, Spans

__all__ = ["ListSpec", "Lists", "ListsSpec"]


class ListSpec(BaseModel):
    """One list of words, phrases or substrings, and what a document with them means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$", description="What reasons and columns call the list.")
    paths: tuple[str, ...] = Field(
        min_length=1,
        description="Text files, one pattern a line; empty lines and lines that begin with # do not count. "
        "Every character stands for itself: there are no expressions.",
    )
    mode: Mode = Field(
        "phrase",
        description="token: single whole words; phrase: whole words, one or several in a row; substring: "
        "anywhere, also inside words, as languages without spaces need.",
    )
    ignore_case: bool = Field(True, description="Compare lower case, character by character, in all scripts.")
    action: Literal["drop", "cut", "replace", "tag"] = Field(
        "tag",
        description="drop: the document goes; cut: what is listed goes; replace: by `replacement`; "
        "tag: only the columns are written.",
    )
    replacement: str = Field("", description="What stands for a listed pattern with `action: replace`.")
    at_least: int = Field(
        1, ge=1, description="Patterns found in a document from which on the action is taken."
    )
    at_share: float = Field(
        0.0, ge=0, le=1, description="Share of the document's bytes from which on the action is taken."
    )
    keep_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the documents to be dropped that stay, drawn by the hash of the text, so that "
        "a model still sees some of them.",
    )

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class ListsSpec(BaseModel):
    """Lists of patterns, judged in this order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lists: tuple[ListSpec, ...] = Field(min_length=1, description="The lists.")


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The measure `lists`; made by `Lists.of`."""

    spec: ListsSpec
    patterns: tuple[Patterns, ...]

    name: ClassVar[str] = "lists"
    version: ClassVar[int] = PATTERNS_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: ListsSpec, base: Path | None = None) -> Lists:
        """The measure of a recipe; paths of lists start from `base`.

        Raises:
            RecipeError: two lists have one name, or a replacement is not used.
            DataError: a list cannot be read, is empty, too large, or has a pattern that can never match.
        """
        names = [item.name for item in spec.lists]
        for item in spec.lists:
            if names.count(item.name) > 1:
                raise RecipeError(f"expected one list a name, found {item.name!r} twice", where="lists")
            if item.replacement and item.action != "replace":
                message = f"expected `action: replace` with a replacement, found {item.action!r}"
                raise RecipeError(message, where=f"lists.{item.name}")
        folder = base or Path()
        read = [
            read_patterns(
                [folder / path for path in item.paths], mode=item.mode, ignore_case=item.ignore_case
            )
            for item in spec.lists
        ]
        return cls(spec=spec, patterns=tuple(read))

    @property
    def settings(self) -> Mapping[str, Any]:
        pairs = zip(self.spec.lists, self.patterns, strict=True)
        return {"lists": [{"name": item.name, "digest": patterns.digest} for item, patterns in pairs]}

    @property
    def policy(self) -> Mapping[str, Any]:
        shown = {"action", "replacement", "at_least", "at_share", "keep_share"}
        return {item.name: item.model_dump(include=shown) for item in self.spec.lists}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        infos = [
            ColumnInfo(
                name="list_draw", version=self.version, summary="uniform draw of the text, for `keep_share`"
            )
        ]
        for item, patterns in zip(self.spec.lists, self.patterns, strict=True):
            for suffix, unit, said in _COLUMNS:
                infos.append(
                    ColumnInfo(
                        name=f"list_{item.name}_{suffix}",
                        unit=unit,
                        direction=-1 if suffix != "spans" else 0,
                        state=patterns.digest[:16],
                        version=self.version,
                        summary=f"{said} the list {item.name}",
                    )
                )
        return infos

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        """The columns of one batch: draw, and of each list number of spans, their share, and spans."""
        offsets, _ = batch.text_buffers()
        n_bytes_D = np.diff(offsets)
        _, low_D = hash_documents(batch.text)
        found: dict[str, pa.Array | NDArray[Any]] = {"list_draw": keyed_uniform(_SEED, low_D)}
        for item, patterns in zip(self.spec.lists, self.patterns, strict=True):
            hits = patterns.find(batch.text)
            listed = np.concatenate([np.zeros(1, np.int64), np.cumsum(hits.stops - hits.starts)])
            listed_D = np.diff(listed[hits.offsets])
            spans = Spans(
                offsets=hits.offsets,
                starts=hits.starts,
                stops=hits.stops,
                kinds=np.zeros(hits.starts.shape[0], np.int32),
                names=(_kind(item),),
            )
            found[f"list_{item.name}_hits"] = np.diff(hits.offsets).astype(np.int32)
            found[f"list_{item.name}_share"] = (listed_D / np.maximum(n_bytes_D, 1)).astype(np.float32)
            found[f"list_{item.name}_spans"] = spans.to_column()
        return found

    def drops(self, table: pa.Table) -> Drops:
        """Documents with enough of a list, but for those that the draw keeps."""
        draw_D = np.asarray(table["list_draw"].combine_chunks())
        return {
            f"words on the list {item.name}": self._is_met(item, table) & (draw_D >= item.keep_share)
            for item in self.spec.lists
            if item.action == "drop"
        }

    def edits(self, table: pa.Table) -> Edits | None:
        """The spans of all lists that cut or replace, of documents with enough of the list."""
        edited = [item for item in self.spec.lists if item.action in ("cut", "replace")]
        if not edited:
            return None
        parts = []
        for item in edited:
            spans = Spans.of_column(table[f"list_{item.name}_spans"])
            rows = np.repeat(np.arange(table.num_rows), np.diff(spans.offsets))
            is_met = self._is_met(item, table)[rows]
            parts.append((rows[is_met], spans.starts[is_met], spans.stops[is_met]))
        rows, starts, stops = (np.concatenate(column) for column in zip(*parts, strict=True))
        kinds = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part[0]) for part in parts])
        order = np.lexsort((kinds, stops, starts, rows))
        counts_D = np.bincount(rows, minlength=table.num_rows)
        spans = Spans(
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_D)]),
            starts=starts[order],
            stops=stops[order],
            kinds=kinds[order],
            names=tuple(map(_kind, edited)),
        )
        replacements = {_kind(item): item.replacement for item in edited if item.action == "replace"}
        return Edits(spans=spans, replacements=replacements)

    @staticmethod
    def _is_met(item: ListSpec, table: pa.Table) -> NDArray[np.bool_]:
        hits_D = np.asarray(table[f"list_{item.name}_hits"].combine_chunks())
        share_D = np.asarray(table[f"list_{item.name}_share"].combine_chunks())
        return (hits_D >= item.at_least) & (share_D >= np.float32(item.at_share))


_SEED = derive_seed(0, "prepare.lists")
_COLUMNS = (
    ("hits", "patterns", "stretches of the text that are on"),
    ("share", "1", "share of the bytes that are on"),
    ("spans", "bytes", "what is on"),
)


def _kind(item: ListSpec) -> str:
    return f"on the list {item.name}"
