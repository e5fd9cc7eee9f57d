"""Lengths as people write them: a share (`0.05`, `5%`), steps (`30`, `30 steps`) or tokens (`2M tokens`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = ["Length", "Span", "StepsFor", "whole_steps"]

StepsFor = Callable[[int], int]
"""How many whole steps a number of tokens pays for; not linear where the batch grows."""

_WRITTEN = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?|\.\d+)\s*([kmbgt]?)\s*(%|steps?|tokens?)?\s*", re.IGNORECASE)
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def whole_steps(tokens_per_step: int) -> StepsFor:
    """`StepsFor` of a batch that never changes."""
    return lambda n_tokens: n_tokens // tokens_per_step


@dataclass(frozen=True)
class Span:
    """An amount of training: a share of a whole, steps, or tokens."""

    amount: float
    unit: Literal["share", "steps", "tokens"]

    @classmethod
    def parse(cls, value: Any) -> Span:
        """A number below 1 is a share, a whole number is steps; text may name its unit.

        Raises:
            ValueError: it is none of these.

        >>> Span.parse(0.05), Span.parse("30 steps"), Span.parse("2M tokens"), Span.parse("5%")
        (Span(0.05, 'share'), Span(30.0, 'steps'), Span(2000000.0, 'tokens'), Span(0.05, 'share'))
        """
        if isinstance(value, Span):
            return value
        if isinstance(value, float) and value == 1:
            raise ValueError("100% or 1 step expected, found 1.0, which could be either")
        found = None if isinstance(value, bool) else _WRITTEN.fullmatch(str(value))
        if found is None:
            raise ValueError(f"a length such as 5%, 0.05, 30 steps or 2M tokens expected, found {value!r}")
        amount = float(re.sub("[_,]", "", found[1])) * _FACTORS[found[2].lower()]
        unit = (found[3] or "").lower().rstrip("s")
        if unit == "%":
            amount, unit = amount / 100, "share"
        elif not unit:
            unit = "share" if 0 < amount < 1 else "step"
        if unit == "share" and amount > 1:
            raise ValueError(f"a share of at most 100% expected, found {value!r}")
        if unit != "share" and amount != int(amount):
            raise ValueError(f"whole {unit}s expected, found {value!r}; a share is below 1 or ends with %")
        return cls(amount, "share" if unit == "share" else "tokens" if unit == "token" else "steps")

    def steps(self, whole: int, steps_for: StepsFor) -> int:
        """In steps, as a share of `whole` steps; shares are rounded, tokens are never exceeded."""
        if self.unit == "share":
            return round(self.amount * whole)
        return int(self.amount) if self.unit == "steps" else steps_for(int(self.amount))

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.amount * 100:.12g}%"
        return f"{int(self.amount)} {self.unit}"

    def __repr__(self) -> str:
        return f"Span({self.amount}, {self.unit!r})"


Length = Annotated[
    Span,
    BeforeValidator(Span.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
