"""HTML input: a measure that says which documents are HTML, and extraction of their text in bulk.

Text must be extracted before anything else is measured, so `Html.texts` belongs to reading; the measure is
for corpora that should hold none, and for seeing how much there is.

Source: Li et al. 2024 (DCLM, arXiv:2406.11794, section 4.2): resiliparse. Differs: limits of size and depth.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.features.html import HTML_VERSION, HtmlOptions, HtmlStatus, extract_texts, extractor_state, is_html
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits

__all__ = ["Html", "HtmlSpec"]


class HtmlSpec(HtmlOptions):
    """How HTML documents become text, and what happens to those that are still HTML when measured."""

    action: Literal["drop", "tag"] = Field(
        "tag", description="drop: documents that are HTML go; tag: only the column is written."
    )


@dataclass(frozen=True, kw_only=True)
class Html:
    """The measure `html`; made by `Html.of`."""

    spec: HtmlSpec

    name: ClassVar[str] = "html"
    version: ClassVar[int] = HTML_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: HtmlSpec) -> Html:
        """The measure of a recipe."""
        return cls(spec=spec)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [ColumnInfo(name="is_html", version=HTML_VERSION, summary="whether the document is HTML")]

    def texts(self, text: pa.Array) -> tuple[pa.Array, list[HtmlStatus]]:
        """A column with the text of HTML documents in their place, and how each went.

        Raises:
            ResourceError: there is HTML and the extra `html` is not installed.
        """
        return extract_texts(text, self.spec)

    def extraction(self) -> Mapping[str, Any]:
        """All that changes extracted texts, for the record of the step that calls `texts`.

        Raises:
            ResourceError: the extra `html` is not installed.
        """
        return {**self.spec.model_dump(exclude={"action"}), "extractor": extractor_state()}

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        return {"is_html": is_html(batch.text)}

    def drops(self, table: pa.Table) -> Drops:
        return {"html: not text": np.asarray(table["is_html"])} if self.spec.action == "drop" else {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None
