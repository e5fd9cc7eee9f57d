"""What is wrong, where, and what to do about it.

Every failure that a user can cause or cure is a `PrillError`. It carries one or more problems, each with
a place, a sentence that says what was expected and what was found, and a hint. The class says who must
act and fixes the exit code of the command line:

    PrillError
    ├── RecipeError    2   the recipe or the command
    ├── DataError      3   the input
    ├── ResourceError  4   disk, memory, processes, a missing package, a held lock
    └── InternalError  5   Prill itself: please report
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

__all__ = [
    "DataError",
    "InternalError",
    "PrillError",
    "Problem",
    "RecipeError",
    "ResourceError",
    "near",
    "printable",
    "told_of",
]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: `where: message`, then what to do."""

    message: str
    where: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\nhint: {self.hint}" if self.hint else text


class PrillError(Exception):
    """Base of every error meant for a user.

    Args:
        message: what was expected and what was found, with the value, in one sentence without a full stop.
        where: file and row or line, recipe path, or the name of the thing.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 5
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.problems: tuple[Problem, ...] = (Problem(message=message, where=where, hint=hint),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> PrillError:
        """One error that tells all problems at once. `problems` must not be empty."""
        listed = tuple(problems)
        error = cls(listed[0].message, where=listed[0].where, hint=listed[0].hint)
        error.problems = listed
        return error

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def __reduce__(self) -> tuple[object, ...]:  # crosses process boundaries whole
        return (_rebuild, (type(self), self.problems))


class RecipeError(PrillError):
    """The recipe or the command asks for something that cannot be."""

    exit_code = 2
    code = "recipe"


class DataError(PrillError):
    """An input file or a stored file is not what it must be."""

    exit_code = 3
    code = "data"


class ResourceError(PrillError):
    """The machine or its installation lacks something: disk, memory, a package, a free lock."""

    exit_code = 4
    code = "resource"


class InternalError(PrillError):
    """Prill broke one of its own invariants."""

    exit_code = 5
    code = "internal"


@contextmanager
def told_of(whose: str) -> Iterator[None]:
    """Errors in the data that are raised within also say whose they are."""
    try:
        yield
    except DataError as error:
        problems = [replace(p, where=f"{whose}, {p.where}" if p.where else whose) for p in error.problems]
        raise DataError.of(problems) from None


def near(name: str, known: Sequence[str]) -> str:
    """A hint that names the nearest known name: `did you mean 'dsir'?`, else all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known))


def printable(text: str, *, limit: int = 200) -> str:
    """`text` with control characters escaped and cut to `limit`, safe for a terminal or a log."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else _escaped(c) for c in shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def _rebuild(cls: type[PrillError], problems: tuple[Problem, ...]) -> PrillError:
    return cls.of(problems)
