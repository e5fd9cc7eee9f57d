"""Amounts as people write them, where the unit is known: `500k`, `2M tokens`, `20 MB`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from prill.select.budget import Budget, Unit

__all__ = ["Bytes", "Tokens", "parse_amount"]


def parse_amount(value: Any, *, unit: Unit) -> int:
    """`value` as a whole number of `unit`: an integer, or text such as `500k`, `2M tokens`, `20 MB`.

    Raises:
        ValueError: it is neither, of another unit, or not a whole number.

    >>> parse_amount("500k", unit="tokens"), parse_amount("1.5 MB", unit="bytes")
    (500000, 1500000)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"an amount of {unit} such as 500k or 2M expected, found {value!r}")
    written = str(value)
    if re.fullmatch(r"\s*[-+\d.,_]+(e\d+)?\s*[kmbgt]?\s*", written, re.IGNORECASE):
        written += f" {unit}"
    budget = Budget.model_validate(written)
    if budget.unit != unit or budget.amount != int(budget.amount):
        raise ValueError(f"a whole number of {unit} expected, found {value!r}")
    return int(budget.amount)


def _amount(unit: Unit) -> Any:
    return BeforeValidator(lambda value: parse_amount(value, unit=unit))


_SCHEMA = WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]})

Tokens = Annotated[int, _amount("tokens"), Field(gt=0), _SCHEMA]
Bytes = Annotated[int, _amount("bytes"), Field(gt=0), _SCHEMA]
