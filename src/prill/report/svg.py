"""Writes SVG by hand: escaped attributes, short numbers, nothing else.

Colours never appear here. Shapes carry class names, and the style sheet gives those a colour for light,
dark and paper. No `style` attribute is ever written: the page's security policy forbids it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

__all__ = ["Attribute", "element", "join", "line_path", "place", "text"]

Attribute = str | float | int | None


def element(name: str, attributes: Mapping[str, Attribute], *children: Markup | str) -> Markup:
    """`<name a="b">children</name>`; plain strings are escaped, None attributes left out."""
    parts = [f' {key}="{_shown(value)}"' for key, value in attributes.items() if value is not None]
    inner = "".join(escape(child) for child in children)
    closed = f"<{name}{''.join(parts)}>{inner}</{name}>" if inner else f"<{name}{''.join(parts)}/>"
    return Markup(closed)  # attributes and children are escaped above


def text(x: Attribute, y: Attribute, content: str, *, css: str, anchor: str | None = None) -> Markup:
    """A text element; `anchor` is start (the default), middle or end."""
    return element("text", {"x": x, "y": y, "class": css, "text-anchor": anchor}, content)


def join(parts: Iterable[Markup]) -> Markup:
    """Markup after markup."""
    return Markup("").join(parts)


def line_path(points: Sequence[tuple[float, float]], *, closed: bool = False) -> str:
    """Path data through the points."""
    steps = "L".join(f"{place(x)} {place(y)}" for x, y in points)
    return f"M{steps}Z" if closed else f"M{steps}"


def place(value: float) -> str:
    """A coordinate with one decimal at most."""
    if not math.isfinite(value):
        raise ValueError(f"expected a finite place, found {value}")
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _shown(value: Attribute) -> str:
    return (
        str(escape(value))
        if isinstance(value, str)
        else place(value)
        if isinstance(value, float)
        else str(value)
    )
