"""Language and script as a measure: what each document is written in, and which ones stay.

Source: Penedo et al. 2024 (FineWeb, arXiv:2406.17557, section 3): English at a probability of at least 0.65.
Differs: the model is py3langid's, not fastText's, so that it works offline as installed; probabilities of
the two models are not the same scale, so by default no probability is asked for.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.errors import RecipeError, near
from prill.features.language import (
    LANGUAGE_VERSION,
    UNDETERMINED,
    identify_languages,
    language_labels,
    model_state,
)
from prill.features.scripts import SCRIPT_VERSION, SCRIPTS, count_scripts
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits

__all__ = ["Language", "LanguageSpec"]

_SHOWN = 3


class LanguageSpec(BaseModel):
    """Which languages and scripts stay; with nothing named, all do and only columns are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: tuple[str, ...] = Field(
        (),
        description="Languages that stay, ISO 639 codes such as en; empty for all. und is text without any.",
    )
    min_probability: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Least probability of the language, 1; below it a document is dropped.",
    )
    scripts: tuple[str, ...] = Field(
        (),
        description="Scripts that stay, ISO 15924 names (Latn); empty for all. Text without letters stays.",
    )
    min_script_share: float = Field(
        0.0, ge=0.0, le=1.0, description="Least share of the commonest script among the letters, 1."
    )
    n_bytes: int = Field(1024, ge=16, le=1_000_000, description="Bytes that the language is decided by.")
    quick_bytes: int = Field(
        256,
        ge=0,
        le=1_000_000,
        description="Bytes that are looked at first, twice as fast; 0 for n_bytes at once.",
    )
    quick_probability: float = Field(
        0.9, ge=0.0, le=1.0, description="Probability at which the label of quick_bytes stands."
    )


@dataclass(frozen=True, kw_only=True)
class Language:
    """The measure `language`; made by `Language.of`."""

    spec: LanguageSpec
    model: str

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: LanguageSpec) -> Language:
        """The measure of a recipe.

        Raises:
            RecipeError: a language or script is unknown.
            ResourceError: the model is not installed.
        """
        if spec.keep:
            _check(spec.keep, (*language_labels(), UNDETERMINED), "language.keep", "a language of the model")
        _check(spec.scripts, SCRIPTS[1:], "language.scripts", "a script of ISO 15924")
        return cls(spec=spec, model=model_state())

    @property
    def settings(self) -> Mapping[str, Any]:
        seen = self.spec.model_dump(include={"n_bytes", "quick_bytes", "quick_probability"})
        return {**seen, "model": self.model, "kernel": LANGUAGE_VERSION, "scripts": SCRIPT_VERSION}

    @property
    def policy(self) -> Mapping[str, Any]:
        return self.spec.model_dump(
            mode="json", include={"keep", "min_probability", "scripts", "min_script_share"}
        )

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        def info(name: str, summary: str) -> ColumnInfo:
            span = f"first {self.spec.n_bytes} bytes"
            return ColumnInfo(
                name=name, span=span, state=self.model, version=LANGUAGE_VERSION, summary=summary
            )

        return [
            info("language", "ISO 639 code of the language; und for none"),
            info("language_probability", "probability of that language"),
            ColumnInfo(
                name="script",
                version=SCRIPT_VERSION,
                summary="ISO 15924 name of the commonest script, or null",
            ),
            ColumnInfo(
                name="script_share", version=SCRIPT_VERSION, summary="share of that script among the letters"
            ),
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        spec = self.spec
        labels, probability_D = identify_languages(
            batch.text,
            n_bytes=spec.n_bytes,
            quick_bytes=spec.quick_bytes,
            quick_probability=spec.quick_probability,
        )
        scripts = count_scripts(batch.text)
        names = pa.array([None, *SCRIPTS[1:]], pa.string())
        return {
            "language": labels,
            "language_probability": probability_D,
            "script": names.take(pa.array(scripts.first)),
            "script_share": scripts.share,
        }

    def drops(self, table: pa.Table) -> Drops:
        import pyarrow.compute as pc

        spec, found = self.spec, {}
        if spec.keep:
            wanted = pc.is_in(table["language"], value_set=pa.array(spec.keep, pa.string()))
            found[f"language: not one of {_listed(spec.keep)}"] = ~np.asarray(wanted)
        if spec.min_probability > 0:
            reason = f"language: probability below {spec.min_probability:g}"
            found[reason] = np.asarray(table["language_probability"]) < np.float32(spec.min_probability)
        has_letters = np.asarray(table["script"].is_valid())
        if spec.scripts:
            wanted = pc.is_in(table["script"], value_set=pa.array(spec.scripts, pa.string()))
            found[f"script: not one of {_listed(spec.scripts)}"] = ~np.asarray(wanted) & has_letters
        if spec.min_script_share > 0:
            too_mixed = np.asarray(table["script_share"]) < np.float32(spec.min_script_share)
            found[f"script: share below {spec.min_script_share:g}"] = too_mixed & has_letters
        return found

    def edits(self, table: pa.Table) -> Edits | None:
        return None


def _check(names: Sequence[str], known: Sequence[str], where: str, what: str) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(f"expected {what}, found {name!r}", where=where, hint=near(name, known))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
