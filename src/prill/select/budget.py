"""How much may be chosen: a budget in tokens, documents, bytes, or a fraction of the eligible tokens.

A budget is written the way a person says it: `5%`, `2M tokens`, `800 documents`, `1.5 GB`, or as a mapping
with `amount` and `unit`. It is resolved to a whole number against what the pool really holds; amounts are
read as exact decimals, so 5% of 40 tokens is 2, never 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prill.errors import Problem, RecipeError, near, printable

__all__ = ["UNITS", "Budget", "Limit", "Unit"]

Unit = Literal["tokens", "documents", "bytes", "fraction"]
Limit = Literal["tokens", "documents", "bytes"]
UNITS: tuple[Unit, ...] = ("tokens", "documents", "bytes", "fraction")

_WRITTEN = re.compile(
    r"\s*([+-]?[0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-z%]*)\s*([A-Za-z]*)\s*"
)
_SCALES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_SCALES |= {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_NAMES: dict[str, Unit] = {
    "tokens": "tokens",
    "token": "tokens",
    "documents": "documents",
    "document": "documents",
}
_NAMES |= {"docs": "documents", "doc": "documents", "bytes": "bytes", "byte": "bytes", "fraction": "fraction"}
_HINT = "write for example 5%, 2M tokens, 800 documents, 1.5 GB, or {amount: 0.05, unit: fraction}"


class Budget(BaseModel):
    """How much may be chosen: `5%`, `2M tokens`, `800 documents`, `1.5 GB`, or an amount and a unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amount: float = Field(
        gt=0, allow_inf_nan=False, description="How much, in `unit`; a fraction is at most 1."
    )
    unit: Unit = Field(description="tokens, documents, bytes (UTF-8), or fraction of the eligible tokens.")

    @model_validator(mode="before")
    @classmethod
    def _read_words(cls, value: Any) -> Any:
        return _read(value) if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _check_amount(self) -> Budget:
        if self.unit == "fraction" and self.amount > 1:
            raise ValueError(f"a fraction of the pool is at most 1 (100%), found {self.amount:g}")
        if self.unit != "fraction" and self.amount < 1:
            raise ValueError(f"a budget is at least one of its unit, found {self.amount:g} {self.unit}")
        return self

    @classmethod
    def parse(cls, value: str | Mapping[str, object] | Budget, *, where: str = "budget") -> Budget:
        """Reads a budget as it is written in a recipe.

        Raises:
            RecipeError: it is zero, negative, more than 100%, without a unit, or not a budget at all.
        """
        if isinstance(value, Budget):
            return value
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problems = [Problem(message=_sentence(e, value), where=where, hint=_HINT) for e in error.errors()]
            raise RecipeError.of(problems) from None

    @property
    def limit_unit(self) -> Limit:
        """The unit that is counted: a fraction is counted in tokens."""
        return "tokens" if self.unit == "fraction" else self.unit

    def resolve(self, n_eligible: int) -> int:
        """The budget as a whole number of `limit_unit`, rounded down.

        Args:
            n_eligible: what the eligible pool holds, in `limit_unit`.
        """
        exact = Fraction(repr(self.amount))
        return math.floor(exact * n_eligible if self.unit == "fraction" else exact)

    def __str__(self) -> str:
        if self.unit == "fraction":
            return f"{100 * self.amount:.10g}% of the eligible tokens"
        return f"{math.floor(self.amount):,} {self.unit}"


def _read(value: str | float) -> dict[str, object]:
    """`2M tokens` as amount and unit; ValueError says what was expected."""
    match = _WRITTEN.fullmatch(str(value))
    if match is None:
        raise ValueError(f"expected an amount and a unit, found {printable(str(value), limit=60)!r}")
    number = Fraction(match[1].replace(",", "").replace("_", ""))
    scale, name = match[2], match[3]
    if scale == "%" and not name:
        return {"amount": float(number / 100), "unit": "fraction"}
    if name == "" and scale.lower() in _NAMES:
        scale, name = "", scale
    if name == "" and scale.lower() in _BYTES and scale.lower() != "b":
        return {"amount": float(number * _BYTES[scale.lower()]), "unit": "bytes"}
    if scale.lower() not in _SCALES:
        raise ValueError(
            f"expected a unit of {', '.join(UNITS)}, found {scale!r} ({near(scale, list(_NAMES))})"
        )
    if name == "":
        raise ValueError(f"expected a unit after the amount, found {str(value).strip()!r}")
    if name.lower() not in _NAMES:
        raise ValueError(
            f"expected a unit of {', '.join(UNITS)}, found {name!r} ({near(name, list(_NAMES))})"
        )
    return {"amount": float(number * _SCALES[scale.lower()]), "unit": _NAMES[name.lower()]}


def _sentence(error: Any, value: object) -> str:
    """One validation problem as a sentence with the value found."""
    text = str(error["msg"]).removeprefix("Value error, ")
    field = ".".join(str(part) for part in error["loc"])
    if field == "amount" and error["type"] == "greater_than":
        return f"a budget must be more than zero, found {printable(str(value), limit=60)!r}"
    return f"{field}: {text}, found {error['input']!r}" if field else text
