"""Makes every string of a report harmless before anything else sees it.

Documents, ids and source names come from the open web. HTML escaping is the template's work; here the
characters that mislead a reader or break the file become visible: control characters show as their
control picture (␀), bidirectional overrides and zero-width characters as `⟨U+202E⟩`, a lone surrogate as
the replacement character. Overlong strings are cut at their field's limit, with an ellipsis.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar, cast

__all__ = ["NAME_LIMIT", "cut", "harmless", "visible"]

NAME_LIMIT = 160  # characters of a name, label, id or other string without a limit of its own

T = TypeVar("T")

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """`text` where every character that hides, reorders or breaks is shown as a plain sign instead."""
    return _UNSAFE.sub(_sign, text.replace("\r\n", "\n"))


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, the last of them an ellipsis when something was left out."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def harmless(value: T, *, text_limit: int) -> T:
    """A copy of `value` (report dataclasses, tuples, plain values) in which every string is visible and cut.

    A dataclass field says its limit in `metadata["limit"]`: a number of characters, or None for
    document text, which is cut at `text_limit`.
    """
    return cast(T, _clean(value, NAME_LIMIT, text_limit))


def _clean(value: Any, limit: int, text_limit: int) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, Enum) else cut(visible(value[: limit + 1]), limit)
    if isinstance(value, tuple):
        return tuple(_clean(item, limit, text_limit) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **_clean_fields(value, text_limit))
    return value


def _clean_fields(value: Any, text_limit: int) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for item in fields(value):
        limit = item.metadata.get("limit", NAME_LIMIT)
        old = getattr(value, item.name)
        new = _clean(old, text_limit if limit is None else limit, text_limit)
        if new != old or isinstance(old, tuple):
            changed[item.name] = new
    return changed


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF):
        return "\ufffd"
    if code == 0x2028:
        return "\n"
    return f"⟨U+{code:04X}⟩"
