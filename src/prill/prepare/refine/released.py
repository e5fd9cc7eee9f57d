"""Programs read as the executor released with the paper reads them, its mistakes included.

One operation a line; what lies between the first bracket and the first `)` is split at every comma, and each
part at every `=`. Strings with commas, brackets or `=` are therefore misread in silence, which is why the
proper grammar (`program`) is the default.

Source: Zhou et al. 2024 (ProX), arXiv:2409.17115, released executor. Differs: lengths and counts are limited.
"""

from __future__ import annotations

from prill.prepare.refine.program import MOST_CHARACTERS, MOST_OPERATIONS, Operation, Program

__all__ = ["parse_released"]

_NO_BRACKET = "a missing bracket"


def parse_released(text: str) -> Program:
    """Read a program as the released executor does; never raises."""
    if len(text) > MOST_CHARACTERS:
        return Program(refusal=f"program longer than {MOST_CHARACTERS} characters")
    operations: list[Operation] = []
    errors: list[str] = []
    for line in text.strip(" ").split("\n"):
        if len(operations) + len(errors) >= MOST_OPERATIONS:
            return Program(refusal=f"program of more than {MOST_OPERATIONS} operations")
        if line.startswith("remove_lines") and "all=True" in line:
            operations.append(Operation(kind="remove_all"))
        elif line.startswith(("remove_lines", "normalize")):
            parts = _parts(line, errors)
            read = _removal if line.startswith("remove_lines") else _replacement
            operations += read(parts, errors) if parts is not None else []
    return Program(operations=tuple(operations), errors=tuple(errors))


def _parts(line: str, errors: list[str]) -> list[str] | None:
    start = line.find("(")
    if start < 0:
        errors.append(_NO_BRACKET)
        return None
    end = line.find(")")
    if end < 0:
        errors.append(_NO_BRACKET)
    return line[start + 1 : end].split(",")  # without a bracket the last character is lost, and the rest used


def _removal(parts: list[str], errors: list[str]) -> list[Operation]:
    try:
        start, end = (int(part.split("=")[1]) for part in parts[:2])
    except (ValueError, IndexError):
        errors.append("a line number that is no integer")
        return []
    return [Operation(kind="remove_lines", start=start, end=end)]


def _replacement(parts: list[str], errors: list[str]) -> list[Operation]:
    if len(parts) > 2:
        return []
    try:
        source, *target = (part.split("=")[1].strip('"') for part in parts)
    except IndexError:
        errors.append("normalize without `=`")
        return []
    if target and source == " ":
        return []
    return [Operation(kind="normalize", source=source, target="".join(target))]
