"""Parts that a recipe chooses by name: `plain`, or `{metadata: {column: url}}`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

__all__ = ["Named"]


def _named(value: Any) -> Any:
    """`name` or `{name: {setting: value}}`."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, dict):
        if len(value) != 1:
            raise ValueError(f"one name with its settings expected, found {len(value)} names")
        return {key: {} if settings is None else settings for key, settings in value.items()}
    return value


Named = Annotated[
    dict[str, dict[str, Any]],
    BeforeValidator(_named),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]}
    ),
]
"""A part by name, with or without settings."""
