"""Lists of patterns as files: UTF-8, one pattern a line; `#` begins a comment, `\\#` a pattern with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from prill.errors import DataError, Problem, printable
from prill.features.patterns import (
    MAX_BYTES,
    MAX_PATTERN_BYTES,
    MAX_PATTERNS,
    Mode,
    Patterns,
    n_tokens,
    normal_form,
)
from prill.run.atomic import machine_errors

__all__ = ["read_patterns"]

_MAX_FILE_BYTES = 4 * MAX_BYTES
_SHOWN = 5


def read_patterns(paths: Sequence[Path], *, mode: Mode, ignore_case: bool) -> Patterns:
    """The list that some files hold together.

    Raises:
        DataError: a file is missing or no UTF-8, a line can never match or is too long, or nothing is listed.
    """
    patterns: list[str] = []
    problems: list[Problem] = []
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            pattern = _pattern(line)
            if pattern is None:
                continue
            wrong = _wrong(pattern, mode, ignore_case=ignore_case)
            if wrong is not None:
                problems.append(Problem(message=wrong[0], where=f"{path}:{number}", hint=wrong[1]))
            patterns.append(pattern)
    named = ", ".join(map(str, paths))
    if problems:
        raise DataError.of(problems[:_SHOWN])
    if not patterns:
        raise DataError("expected at least one pattern, found none", where=named, hint="one pattern a line")
    if len(patterns) > MAX_PATTERNS or sum(map(len, patterns)) > MAX_BYTES:
        message = f"expected at most {MAX_PATTERNS} patterns of {MAX_BYTES} characters, found {len(patterns)}"
        raise DataError(message, where=named, hint="split the list")
    return Patterns.of(patterns, mode=mode, ignore_case=ignore_case)


def _lines(path: Path) -> Iterator[str]:
    with machine_errors(path):
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise DataError(f"expected a list of at most {_MAX_FILE_BYTES} bytes", where=str(path))
            text = path.read_bytes().decode("utf-8-sig")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise DataError("expected a file with one pattern a line, found none", where=str(path)) from error
        except UnicodeDecodeError as error:
            message = f"expected UTF-8, found other bytes at {error.start}"
            raise DataError(message, where=str(path), hint="save the list as UTF-8") from error
    return iter(text.split("\n"))


def _pattern(line: str) -> str | None:
    """The pattern of a line, without the spaces around it; None for an empty line or a comment."""
    pattern = line.strip()
    if not pattern or pattern.startswith("#"):
        return None
    return pattern.removeprefix("\\") if pattern.startswith("\\#") else pattern


def _wrong(pattern: str, mode: Mode, *, ignore_case: bool) -> tuple[str, str] | None:
    """Why a pattern can never match, and what to do."""
    form = normal_form(pattern, mode, ignore_case=ignore_case)
    shown = printable(pattern, limit=40)
    if len(form.encode()) > MAX_PATTERN_BYTES:
        return f"expected a pattern of at most {MAX_PATTERN_BYTES} bytes, found {shown!r}", "shorten it"
    if "\0" in form:
        return f"expected text, found a NUL character in {shown!r}", "remove it"
    if mode == "token" and n_tokens(form) != 1:
        return f"expected one word, found {n_tokens(form)} in {shown!r}", "set `mode: phrase`"
    return None
