"""Rubrics as data: what a rater is asked of a document, how its answer is read, how much of the text it sees.

Three layouts of an answer. `lines`: a line with the letter of a label, then one with a number for every
scale, in order. `total`: a grade behind `score:` at the end of a few words of reasoning. `named`: a line
`name: number` for every scale.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prill.errors import DataError, Problem, RecipeError
from prill.features.rater.yaml_file import read_plain_yaml
from prill.run.atomic import machine_errors
from prill.run.fingerprint import canonical_json

__all__ = ["Label", "Rubric", "Scale", "Slot", "Span", "get_rubric", "read_rubric"]

_NAME = r"^[a-z][a-z0-9_]{0,63}$"


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Plain):
    """One thing that gets a number. Higher is better."""

    name: str = Field(pattern=_NAME, description="Lower case; becomes the name of a column.")
    meaning: str = Field("", max_length=2_000, description="What the rater is told of it.")
    low: int = Field(1, ge=-1_000, le=1_000, description="Lowest number.")
    high: int = Field(5, ge=-1_000, le=1_000, description="Highest number.")

    @model_validator(mode="after")
    def _is_a_scale(self) -> Scale:
        if not 1 <= self.high - self.low <= 9:
            raise ValueError(
                f"expected 2 to 10 numbers from `low` to `high`, found {self.low} to {self.high}"
            )
        return self


class Label(_Plain):
    """One of the classes of which a document is given one."""

    letter: str = Field(pattern=r"^[A-Z]$", description="By which the rater names it.")
    name: str = Field(min_length=1, max_length=100, description="What it is.")


class Span(_Plain):
    """How much of a document the rater sees: all of it, or its two ends with `...` between them."""

    max_characters: int = Field(
        20_000, ge=100, le=1_000_000, description="A longer text is cut to its first and last halves."
    )
    max_tokens: int | None = Field(
        1_894, ge=8, description="Then a longer one, in tokens, to first half, `...`, last half; null: not."
    )
    is_head: bool = Field(False, description="Keep the beginning alone instead of both ends.")

    @property
    def sentence(self) -> str:
        """For people: `first 2,000 characters`."""
        if self.is_head:
            return f"first {self.max_characters:,} characters"
        tokens = "" if self.max_tokens is None else f", {self.max_tokens:,} tokens"
        return f"first and last halves of at most {self.max_characters:,} characters{tokens}"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place of an answer that has a few possible contents.

    Attributes:
        name: of the scale; "" for the label.
        prefix: the text of the answer between the slot before and this one.
        options: what may stand there, in order.
    """

    name: str
    prefix: str
    options: tuple[str, ...]


class Rubric(_Plain):
    """What a rater is asked."""

    name: str = Field(pattern=_NAME, description="Of the rubric.")
    system: str = Field(min_length=1, max_length=20_000, description="The instructions.")
    prompt: str = Field(
        "<text>\n{text}\n</text>",
        max_length=20_000,
        description="The message; {text} stands for the document.",
    )
    scales: tuple[Scale, ...] = Field(min_length=1, max_length=64, description="What gets a number.")
    labels: tuple[Label, ...] = Field((), max_length=26, description="Classes, of which it names one.")
    layout: Literal["lines", "total", "named"] = Field("named", description="How the answer is written.")
    span: Span = Field(Span(), description="How much of a document is shown.")
    rounding: Literal["halves", "truncate", "none"] = Field(
        "none",
        description="Of numbers that are none of the scale: halves: down below 3, else up; truncate: towards "
        "zero, clipped to the scale; none: kept as they are.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Rubric:
        if self.prompt.count("{text}") != 1:
            raise ValueError("`prompt` must say {text} once")
        names = [scale.name for scale in self.scales]
        if len(set(names)) < len(names) or "label" in names:
            raise ValueError("every scale needs a name of its own, other than `label`")
        if len({label.letter for label in self.labels}) < len(self.labels):
            raise ValueError("every label needs a letter of its own")
        if self.layout == "total" and (len(self.scales) != 1 or self.labels):
            raise ValueError("layout `total` has one scale and no labels")
        if self.layout == "named" and self.labels:
            raise ValueError("labels need the layout `lines`")
        return self

    @property
    def id(self) -> str:
        """Name and hash of every word: changes whenever the question does."""
        return f"{self.name}-{hashlib.sha256(canonical_json(self.model_dump(mode='json'))).hexdigest()[:12]}"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scales, in order."""
        return tuple(scale.name for scale in self.scales)

    def message(self, text: str) -> str:
        """The message for a document; nothing in the document is taken for a place to fill."""
        return self.prompt.replace("{text}", text)

    def slots(self) -> tuple[Slot, ...]:
        """The answer as a form: what stands where, for raters that only choose between the possible ones."""
        if self.layout == "total":
            return (_slot(self.scales[0], "Score:"),)
        if self.layout == "named":
            return tuple(
                _slot(scale, f"{chr(10) * (i > 0)}{scale.name}:") for i, scale in enumerate(self.scales)
            )
        letters = tuple(label.letter for label in self.labels)
        first = (Slot(name="", prefix="", options=letters),) if letters else ()
        rest = (
            Slot(
                name=scale.name,
                prefix="\n" if first or i else "",
                options=tuple(str(n) for n in range(scale.low, scale.high + 1)),
            )
            for i, scale in enumerate(self.scales)
        )
        return (*first, *rest)


def get_rubric(name: str) -> Rubric | None:
    """The rubric of that name that Prill brings, `dataman` or `fineweb_edu`; None: there is none."""
    from prill.features.rater import rubric_dataman, rubric_fineweb_edu

    known = {"dataman": rubric_dataman.make, "fineweb_edu": rubric_fineweb_edu.make}
    return known[name]() if name in known else None


def read_rubric(path: Path) -> Rubric:
    """A user's rubric from a YAML file with the fields of `Rubric`.

    Raises:
        RecipeError: there is no such file, it is no plain YAML, or not a rubric; all problems are told.
    """
    with machine_errors(path):
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError):
            raise RecipeError(
                "expected a YAML file with a rubric, found none",
                where=str(path),
                hint="or name one that Prill brings: dataman, fineweb_edu",
            ) from None
        except UnicodeDecodeError as error:
            raise DataError("expected UTF-8, found other bytes", where=str(path)) from error
    found = read_plain_yaml(text, name=str(path))
    try:
        return Rubric.model_validate(found)
    except ValidationError as error:
        problems = [
            Problem(
                message=f"{'.'.join(map(str, item['loc'])) or 'rubric'}: {item['msg']}",
                where=str(path),
                hint="docs: a rubric has name, system, prompt, scales, labels, layout, span, rounding",
            )
            for item in error.errors()
        ]
        raise RecipeError.of(problems) from None


def _slot(scale: Scale, prefix: str) -> Slot:
    options = tuple(f" {n}" for n in range(scale.low, scale.high + 1))
    return Slot(name=scale.name, prefix=prefix, options=options)
