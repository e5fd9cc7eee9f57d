"""Patterns that split text into words: parsed, and compiled to a small program of characters and choices.

The grammar is what published tokenizers use: literals, `\\p{..}`, `\\s`, brackets, groups, `(?i:..)`, `|`,
greedy `? * + {m,n}` and a look at one character ahead, `(?!\\S)`. A bracket is not interpreted here: its text
becomes an `Atom`, and the library itself is asked which characters it matches. Whatever else a pattern may
hold (lazy or possessive repetition, anchors, back references) is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["Atom", "Instruction", "Refused", "compile_pattern"]

_MOST_INSTRUCTIONS: Final = 4096
_CLASS_ESCAPES: Final = frozenset("sSdDwW")
_CONTROL_ESCAPES: Final = {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "v": "\v"}


class Refused(Exception):  # noqa: N818 - not an error: the library takes over
    """The tokenizer has a part that only the library itself can follow; the message names it."""


@dataclass(frozen=True)
class Atom:
    """A set of characters as the pattern writes it.

    Attributes:
        source: pattern text that matches one character.
        ignore_case: whether it stands inside `(?i:..)`.
    """

    source: str
    ignore_case: bool = False


@dataclass
class Instruction:
    """One step of a compiled pattern: take a character, choose, look ahead, or report a match."""

    kind: Literal["take", "choose", "look", "match"]
    atom: Atom | None = None
    is_negative: bool = False
    first: int = -1
    second: int = -1


@dataclass(frozen=True)
class _Node:
    kind: Literal["take", "all", "any", "star", "maybe", "look"]
    atom: Atom | None = None
    parts: tuple[_Node, ...] = ()
    is_negative: bool = False

    @property
    def is_nullable(self) -> bool:
        if self.kind == "all":
            return all(part.is_nullable for part in self.parts)
        return any(part.is_nullable for part in self.parts) if self.kind == "any" else self.kind != "take"


def compile_pattern(pattern: str) -> list[Instruction]:
    """The program of a pattern; it starts at the last instruction, and instruction 0 is the match.

    Raises:
        Refused: the pattern has a part that is not in the grammar, or can match nothing.
    """
    parser = _Parser(text=pattern)
    node = parser.alternatives(ignore_case=False)
    if parser.at != len(pattern):
        raise Refused(f"an unbalanced `)` in the pattern at character {parser.at}")
    if node.is_nullable:
        raise Refused("a pattern that can match nothing")
    program = [Instruction("match")]
    entry = _emit(node, 0, program)
    program.append(Instruction("choose", first=entry, second=entry))
    return program


@dataclass
class _Parser:
    text: str
    at: int = 0
    depth: int = field(default=0)

    def alternatives(self, *, ignore_case: bool) -> _Node:
        self.depth += 1
        if self.depth > 50:
            raise Refused("a pattern nested more than 50 deep")
        branches = [self._sequence(ignore_case=ignore_case)]
        while self._peek() == "|":
            self.at += 1
            branches.append(self._sequence(ignore_case=ignore_case))
        self.depth -= 1
        return branches[0] if len(branches) == 1 else _Node("any", parts=tuple(branches))

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _sequence(self, *, ignore_case: bool) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._primary(ignore_case=ignore_case)))
        return parts[0] if len(parts) == 1 else _Node("all", parts=tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        sign = self._peek()
        if not sign or sign not in "?*+{":
            return node
        if node.kind == "look":
            raise Refused("a repeated look ahead in the pattern")
        low, high = self._counts()
        if self._peek() in ("?", "*", "+", "{"):
            raise Refused("a lazy, possessive or doubled repetition in the pattern")
        if node.is_nullable:
            raise Refused("a repetition of nothing in the pattern")
        tail = (_Node("star", parts=(node,)),) if high is None else ()
        for _ in range(0 if high is None else high - low):
            tail = (_Node("maybe", parts=(_Node("all", parts=(node, *tail)),)),)
        return _Node("all", parts=(*(node,) * low, *tail))

    def _counts(self) -> tuple[int, int | None]:
        sign = self._peek()
        self.at += 1
        if sign != "{":
            return {"?": (0, 1), "*": (0, None), "+": (1, None)}[sign]
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at : max(end, self.at)].partition(",")
        is_plain = low.isascii() and low.isdecimal() and (not high or (high.isascii() and high.isdecimal()))
        if end < 0 or not is_plain or len(low) > 3 or len(high) > 3:
            raise Refused("a repetition count in the pattern that is not {m}, {m,} or {m,n}")
        self.at = end + 1
        most = int(low) if not comma else (int(high) if high else None)
        if most is not None and (most < int(low) or most == 0):
            raise Refused("a repetition count in the pattern that runs backwards")
        return int(low), most

    def _primary(self, *, ignore_case: bool) -> _Node:
        sign = self._peek()
        if sign == "(":
            return self._group(ignore_case=ignore_case)
        if sign == "[":
            return _Node("take", Atom(self._bracket(), ignore_case))
        if sign == "\\":
            return _Node("take", Atom(self._escape(), ignore_case))
        if sign in ".^$?*+{":
            raise Refused(f"`{sign}` in the pattern at character {self.at}")
        self.at += 1
        return _Node("take", Atom(_literal(sign), ignore_case))

    def _group(self, *, ignore_case: bool) -> _Node:
        for opening in ("(?:", "(?i:", "(?!", "(?="):
            if self.text.startswith(opening, self.at):
                break
        else:
            opening = "("
            if self.text.startswith("(?", self.at):
                raise Refused(f"a group `{self.text[self.at : self.at + 4]}` in the pattern")
        self.at += len(opening)
        node = self.alternatives(ignore_case=ignore_case or opening == "(?i:")
        if self._peek() != ")":
            raise Refused("a group without its end in the pattern")
        self.at += 1
        if opening not in ("(?!", "(?="):
            return node
        if node.kind != "take":
            raise Refused("a look ahead at more than one character in the pattern")
        return _Node("look", node.atom, is_negative=opening == "(?!")

    def _escape(self) -> str:
        name = self.text[self.at + 1 : self.at + 2]
        if name in ("p", "P"):
            end = self.text.find("}", self.at)
            if self.text[self.at + 2 : self.at + 3] != "{" or end < 0:
                raise Refused("a class in the pattern that is not written \\p{Name}")
            source = self.text[self.at : end + 1]
            self.at = end + 1
            return source
        self.at += 2
        if name in _CLASS_ESCAPES:
            return "\\" + name
        if name in _CONTROL_ESCAPES:
            return _literal(_CONTROL_ESCAPES[name])
        if not name or name.isalnum() or not name.isascii():
            raise Refused(f"`\\{name}` in the pattern")
        return _literal(name)

    def _bracket(self) -> str:
        start, depth = self.at, 0
        while self.at < len(self.text):
            sign = self.text[self.at]
            self.at += 2 if sign == "\\" else 1
            depth += (sign == "[") - (sign == "]")
            if depth == 0:
                source = self.text[start : self.at]
                if source.startswith(("[]", "[^]")):
                    raise Refused("a bracket that opens with `]` in the pattern")
                return source
        raise Refused("a bracket without its end in the pattern")


def _literal(character: str) -> str:
    return f"\\x{{{ord(character):x}}}"


def _emit(node: _Node, after: int, program: list[Instruction]) -> int:
    """Append the instructions of a node that goes on at `after`; the instruction it starts at."""
    if len(program) > _MOST_INSTRUCTIONS:
        raise Refused(f"a pattern of more than {_MOST_INSTRUCTIONS} steps")
    if node.kind == "all":
        for part in reversed(node.parts):
            after = _emit(part, after, program)
        return after
    if node.kind in ("take", "look"):
        kind: Literal["take", "look"] = "take" if node.kind == "take" else "look"
        program.append(Instruction(kind, node.atom, node.is_negative, first=after))
        return len(program) - 1
    if node.kind == "any":
        entry = _emit(node.parts[-1], after, program)
        for part in reversed(node.parts[:-1]):
            first = _emit(part, after, program)
            program.append(Instruction("choose", first=first, second=entry))
            entry = len(program) - 1
        return entry
    choice = Instruction("choose", second=after)
    if node.kind == "star":
        program.append(choice)
        at = len(program) - 1
        choice.first = _emit(node.parts[0], at, program)
        return at
    choice.first = _emit(node.parts[0], after, program)
    program.append(choice)
    return len(program) - 1
