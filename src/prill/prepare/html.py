"""HTML input: how pages become text, and which documents still are HTML when everything else is measured.

Text is extracted before anything is measured (`features.html`); what is too large or too deep for that, and
what a page holds as text, is found here.

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
from prill.features.html import HTML_VERSION, HtmlOptions, extractor_state, is_html
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
        """The measure of a recipe.

        Raises:
            ResourceError: the extra `html` is not installed.
        """
        extractor_state()
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

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        return {"is_html": is_html(batch.text)}

    def drops(self, table: pa.Table) -> Drops:
        return {"html: not text": np.asarray(table["is_html"])} if self.spec.action == "drop" else {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None
