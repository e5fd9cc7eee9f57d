"""What a recipe says of page rules: which families hold, in which order, with which thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from prill.prepare.rules.families import (
    C4Spec,
    DolmaSpec,
    FineWebSpec,
    GopherQualitySpec,
    GopherRepetitionSpec,
    Mc4Spec,
)

__all__ = ["ColumnRule", "Comparison", "Family", "Preset", "RulesSpec"]

Family: TypeAlias = Literal["gopher_quality", "gopher_repetition", "c4", "mc4", "fineweb", "dolma"]
Preset: TypeAlias = Literal[
    "gopher_quality", "gopher_repetition", "c4", "mc4", "fineweb", "dolma", "fineweb_datatrove"
]
Comparison: TypeAlias = Literal["<", "<=", ">", ">="]

Spec = TypeVar("Spec", bound=BaseModel)

_DATATROVE: tuple[Family, ...] = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


class ColumnRule(BaseModel):
    """A rule on a number that the corpus itself brings, such as a toxicity score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(min_length=1, description="Name of a field of the corpus that holds numbers.")
    drops: Comparison = Field(description="A page goes when its value is <, <=, > or >= the threshold.")
    threshold: float = Field(allow_inf_nan=False, description="What the value is compared with.")
    missing: Literal["keep", "drop"] = Field(
        "keep", description="What happens to a page whose value is missing or no finite number."
    )


class RulesSpec(BaseModel):
    """Page rules: drop a page, or cut lines of it, by statistics of its surface."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    presets: tuple[Preset, ...] = Field(
        ("gopher_repetition", "gopher_quality", "fineweb"),
        description="Families of rules, in the order in which they judge. `fineweb_datatrove` stands for "
        "gopher_repetition, gopher_quality, c4 without the rule on line ends, and fineweb on what C4 left, "
        "all in the exact readings of datatrove with spaCy's words.",
    )
    words: Literal["words", "spacy"] = Field(
        "words",
        description="What a word is for Gopher and FineWeb: runs of word characters and runs of symbols, or "
        "the English tokens of spaCy. Dolma's are what white space parts.",
    )
    gopher_quality: GopherQualitySpec = Field(
        default_factory=GopherQualitySpec, description="Thresholds of Gopher's quality rules."
    )
    gopher_repetition: GopherRepetitionSpec = Field(
        default_factory=GopherRepetitionSpec, description="Thresholds of Gopher's repetition rules."
    )
    c4: C4Spec = Field(default_factory=C4Spec, description="Settings of C4's rules.")
    mc4: Mc4Spec = Field(default_factory=Mc4Spec, description="Thresholds of mC4's paragraph rule.")
    fineweb: FineWebSpec = Field(
        default_factory=FineWebSpec, description="Thresholds of FineWeb's own rules."
    )
    dolma: DolmaSpec = Field(default_factory=DolmaSpec, description="Thresholds of Dolma's web rules.")
    columns: tuple[ColumnRule, ...] = Field((), description="Rules on numbers that the corpus brings.")

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that judge, in order, each once."""
        found: list[Family] = []
        for preset in self.presets:
            found += _DATATROVE if preset == "fineweb_datatrove" else (preset,)
        return tuple(dict.fromkeys(found))

    def resolved(self) -> RulesSpec:
        """The same with what `fineweb_datatrove` means, where the recipe does not say otherwise."""
        if "fineweb_datatrove" not in self.presets:
            return self
        c4 = {"ends_required": False, "is_published": True}
        return self.model_copy(
            update={
                "presets": self.families,
                "words": self.words if "words" in self.model_fields_set else "spacy",
                "c4": _filled(self.c4, c4),
                "fineweb": _filled(self.fineweb, {"text": "after_c4"}),
            }
        )


def _filled(spec: Spec, defaults: Mapping[str, object]) -> Spec:
    """The spec with other defaults for what was not given."""
    missing = {name: value for name, value in defaults.items() if name not in spec.model_fields_set}
    return spec.model_copy(update=missing)
