"""Which column or key of a file holds which field of a document.

By default a field lies under its own name. A mapping in the recipe names another place, dotted for nested
objects; a name that contains dots itself is found as it is first. `text` must exist, and so must whatever
the recipe maps; other fields may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from prill.corpus.spec import FIELDS, CorpusSpec
from prill.errors import Problem, near, printable

__all__ = ["MISSING", "column_paths", "look_up", "missing_text", "place_of"]

MISSING: Final = object()
"""What `look_up` returns when a record has no such key (null is a value)."""

_USUAL_TEXT_NAMES: Final = (
    "content",
    "body",
    "document",
    "raw_content",
    "story",
    "passage",
    "markdown",
    "code",
)


def place_of(spec: CorpusSpec, field: str) -> str | None:
    """The column or key of a field, None when the recipe leaves the field out."""
    return spec.fields.get(field, field) or None


def look_up(record: Mapping[str, Any], place: str) -> Any:
    """The value at a key or a dotted path of keys, `MISSING` when there is none.

    >>> look_up({"meta": {"lang": "en"}}, "meta.lang")
    'en'
    """
    if place in record:
        return record[place]
    value: Any = record
    for key in place.split("."):
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def column_paths(
    schema: pa.Schema, spec: CorpusSpec, where: str
) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """The column path of every field that a Parquet schema has, and what is wrong with the mapping."""
    paths: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for field in FIELDS:
        place = place_of(spec, field)
        if place is None:
            continue
        if len(schema.get_all_field_indices(place)) > 1:
            message = f"expected one column {place!r}, found {len(schema.get_all_field_indices(place))}"
            problems.append(Problem(message=message, where=where))
            continue
        path = _column_path(schema, place)
        if path is not None:
            paths[field] = path
        elif field == "text":
            problems.append(missing_text(place, list(schema.names), where, kind="column"))
        elif field in spec.fields:
            message = f"`fields.{field}` names the column {printable(place)!r}, found no such column"
            problems.append(Problem(message=message, where=where, hint=near(place, list(schema.names))))
    return paths, problems


def missing_text(place: str, names: Sequence[str], where: str, *, kind: str) -> Problem:
    """The problem of a file without text, with the column or key that may be meant."""
    message = f"expected a {kind} {printable(place)!r} that holds the text, found none"
    shown = [printable(name, limit=60) for name in names[:30]]
    usual = next((name for name in shown if name.lower() in _USUAL_TEXT_NAMES), None)
    if usual is not None:
        hint = f"did you mean {usual!r}? Set `fields: {{text: {usual}}}`"
    elif shown:
        hint = f"{near(place, shown)} Set `fields: {{text: NAME}}`"
    else:
        hint = f"the file has no {kind}s"
    return Problem(message=message, where=where, hint=hint)


def _column_path(schema: pa.Schema, place: str) -> tuple[str, ...] | None:
    if schema.get_field_index(place) >= 0:
        return (place,)
    path = tuple(place.split("."))
    if schema.get_field_index(path[0]) < 0:
        return None
    kind = schema.field(path[0]).type
    for key in path[1:]:
        if not pa.types.is_struct(kind) or kind.get_field_index(key) < 0:
            return None
        kind = kind.field(key).type
    return path
