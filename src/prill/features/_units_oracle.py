"""Lines and paragraphs in plain Python: slow, and what the kernel must equal."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prill.features.units import Cut, Normal

__all__ = ["normal_form", "units"]


def units(text: str, cut: Cut) -> Iterator[tuple[int, int, str]]:
    """Start and stop in bytes, and content, of every line or paragraph, empty ones included."""
    at = 0
    for piece in _pieces(text, cut):
        stop = at + len(piece.encode())
        content = (
            re.sub(r"\n[^\S\n]*(\n[^\S\n]*)*\Z", "", piece)
            if cut == "paragraph"
            else piece.removesuffix("\n")
        )
        yield at, stop, "" if cut == "paragraph" and not piece.strip() else content
        at = stop


def _pieces(text: str, cut: Cut) -> list[str]:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    if cut == "line":
        return lines
    pieces: list[str] = []
    is_open = False
    for line in lines:
        if line.strip() == "":
            pieces[-1:] = [pieces[-1] + line] if pieces else [line]
            is_open = False
        elif is_open:
            pieces[-1] += line
        else:
            pieces.append(line)
            is_open = True
    return pieces


def normal_form(content: str, normal: Normal, *, ignore_case: bool) -> str:
    """What of a unit is compared."""
    if normal == "exact":
        return content if content.strip() else ""
    if normal == "words":
        content = re.sub(r"[^\w]+", " ", re.sub("[0-9]", "0", content))
    content = re.sub(r"\s+", " ", content).strip(" ")
    return "".join(map(_lower, content)) if ignore_case else content


def _lower(character: str) -> str:
    lowered = character.lower()
    return lowered if len(lowered) == 1 else character
