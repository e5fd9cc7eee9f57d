"""Cleaning programs: read with a grammar of their own, never run as code.

A program is a few calls, one after the other: `keep_doc()`, `drop_doc()`, `keep_all()`,
`remove_lines(line_start=3, line_end=5)`, `remove_lines(all=True)` and
`normalize(source_str="a", target_str="b")`. Arguments are quoted strings with escapes, integers, True and
False. Text that is no call is passed over, as the released executor does; a call that cannot be understood is
an error, counted and named.

Source: Zhou et al. 2024 (ProX), arXiv:2409.17115, section 3. Differs: strings may hold commas, brackets and
`=`; lengths and counts are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["MOST_CHARACTERS", "MOST_OPERATIONS", "Operation", "Program", "parse_program"]

MOST_CHARACTERS: Final = 65_536
MOST_OPERATIONS: Final = 1_000
_LONGEST_STRING: Final = 8_192
_MOST_ARGUMENTS: Final = 4
_LONGEST_NUMBER: Final = 9

Kind = Literal["keep_doc", "drop_doc", "keep_all", "remove_all", "remove_lines", "normalize"]
_Value = str | int | bool

_NAMES: Final = ("keep_doc", "drop_doc", "keep_all", "remove_lines", "normalize")
_CALL: Final = re.compile(rf"\b({'|'.join(_NAMES)})[ \t]*\(")
_KEY: Final = re.compile(r"([a-z_]+)[ \t]*=(?!=)[ \t]*")
_NUMBER: Final = re.compile(r"-?[0-9]+")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "\n": ""}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call: lines are counted from 0, both ends are meant."""

    kind: Kind
    start: int = 0
    end: int = 0
    source: str = ""
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a program asks for.

    Attributes:
        operations: in the order in which they stand.
        errors: what was wrong with each call that could not be understood, as users read it.
        refusal: why the whole program is not looked at; empty when it is.
    """

    operations: tuple[Operation, ...] = ()
    errors: tuple[str, ...] = ()
    refusal: str = ""


class _Misread(Exception):  # noqa: N818 - counted, never shown as an exception
    pass


def parse_program(text: str) -> Program:
    """Read a program; never raises, whatever the text is."""
    if len(text) > MOST_CHARACTERS:
        return Program(refusal=f"program longer than {MOST_CHARACTERS} characters")
    operations: list[Operation] = []
    errors: list[str] = []
    at = 0
    while (call := _CALL.search(text, at)) is not None:
        if len(operations) + len(errors) >= MOST_OPERATIONS:
            return Program(refusal=f"program of more than {MOST_OPERATIONS} operations")
        reader = _Reader(text=text, at=call.end())
        try:
            operations.append(_operation(call[1], list(reader.arguments())))
            at = reader.at
        except _Misread as misread:
            errors.append(str(misread))
            line_end = text.find("\n", call.end())
            at = len(text) if line_end < 0 else line_end
    return Program(operations=tuple(operations), errors=tuple(errors))


def _operation(name: str, arguments: list[tuple[str, _Value]]) -> Operation:
    given = dict(arguments)
    if len(given) != len(arguments):
        raise _Misread("an argument given twice")
    if name == "normalize":
        return _normalize(given)
    if name == "remove_lines":
        return _remove_lines(given)
    if given:
        raise _Misread(f"{name} takes no arguments")
    kinds: dict[str, Kind] = {"keep_doc": "keep_doc", "drop_doc": "drop_doc", "keep_all": "keep_all"}
    return Operation(kind=kinds[name])


def _remove_lines(given: dict[str, _Value]) -> Operation:
    if given == {"all": True}:
        return Operation(kind="remove_all")
    if set(given) != {"line_start", "line_end"}:
        raise _Misread("remove_lines takes line_start= and line_end=")
    start, end = given["line_start"], given["line_end"]
    if not isinstance(start, int) or not isinstance(end, int) or isinstance(start, bool | str):
        raise _Misread("a line number that is no integer")
    if isinstance(end, bool) or start < 0 or end < start:
        raise _Misread("line numbers that are negative or run backwards")
    return Operation(kind="remove_lines", start=start, end=end)


def _normalize(given: dict[str, _Value]) -> Operation:
    names = {"0": "source_str", "1": "target_str"}
    named = {names.get(key, key): value for key, value in given.items()}
    source, target = named.pop("source_str", None), named.pop("target_str", "")
    if named or not isinstance(source, str) or not isinstance(target, str):
        raise _Misread("normalize takes source_str= and target_str=, both strings")
    return Operation(kind="normalize", source=source, target=target)


@dataclass
class _Reader:
    text: str
    at: int

    def arguments(self) -> Iterator[tuple[str, _Value]]:
        """Names (or positions) and values up to the closing bracket."""
        for position in range(_MOST_ARGUMENTS + 1):
            self._skip_blanks()
            if self._take(")"):
                return
            if position and not self._take(","):
                raise _Misread("a missing comma or bracket")
            self._skip_blanks()
            if self._take(")"):
                return
            key = _KEY.match(self.text, self.at)
            self.at = key.end() if key else self.at
            yield (key[1] if key else str(position)), self._value()
        raise _Misread(f"more than {_MOST_ARGUMENTS} arguments")

    def _skip_blanks(self) -> None:
        while self.text[self.at : self.at + 1] in (" ", "\t", "\n", "\r"):
            self.at += 1

    def _take(self, sign: str) -> bool:
        found = self.text.startswith(sign, self.at)
        self.at += len(sign) if found else 0
        return found

    def _value(self) -> _Value:
        for word, value in (("True", True), ("False", False)):
            if self._take(word):
                return value
        if self.text[self.at : self.at + 1] in ("'", '"'):
            return self._string()
        number = _NUMBER.match(self.text, self.at)
        if number is None or len(number[0]) > _LONGEST_NUMBER:
            raise _Misread("an argument that is no string, integer, True or False")
        self.at = number.end()
        return int(number[0])

    def _string(self) -> str:
        quote = self.text[self.at]
        parts: list[str] = []
        self.at += 1
        while self.at < len(self.text) and len(parts) <= _LONGEST_STRING:
            sign = self.text[self.at]
            self.at += 1
            if sign == quote:
                return "".join(parts)
            if sign == "\\" and self.text[self.at : self.at + 1] in _ESCAPES:
                sign = _ESCAPES[self.text[self.at : self.at + 1]]
                self.at += 1
            parts.append(sign)
        raise _Misread("a string without its end, or too long")
