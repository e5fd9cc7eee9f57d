"""Pre-tokenisation as a table: a compiled pattern becomes a deterministic automaton over kinds of characters.

A state is the ordered list of places in the pattern that are still alive; their order is the order in which
a backtracking engine would try them, and places behind a match are dropped, so that the automaton finds the
very match that such an engine finds. A look ahead costs nothing: a step knows the next character when it
decides whether the pattern matches before it.

An entry of the table = offset of the next state (bits 0-23) and flags: `MATCH`, the pattern matches before
this character; `END`, the word ends here, and the next state has already taken the character as the first of
the next word; `BACK`, nothing is alive, and the word ends at the last match.

Source: Cox 2010, "Regular expression matching in the wild" (priority threads, one character of delay).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from prill.features._pretoken_classes import class_partition, members
from prill.features._pretoken_regex import Atom, Instruction, Refused, compile_pattern

__all__ = ["BACK", "END", "GPT2_PATTERN", "MATCH", "SplitTable", "split_table"]

MATCH: Final = 1 << 31
END: Final = 1 << 30
BACK: Final = 1 << 29
_MOST_STATES: Final = 4096

GPT2_PATTERN: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What `ByteLevel(use_regex=true)` splits by. Source: Radford et al. 2019, section 2.2."""

_REST: Final = r"[\D\d]"
"""Stands for the characters between matches, a set that is given and not measured."""


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """The automaton of one pattern.

    Attributes:
        entries: uint32, shape (states x (classes + 1),); the last class of a state is the end of the text.
        classes: class of each code point, uint8, shape (0x110000,).
        n_classes: classes and the end of the text.
        drops_gaps: text that the pattern does not match is left out, not a word of its own.
    """

    entries: NDArray[np.uint32]
    classes: NDArray[np.uint8]
    n_classes: int
    drops_gaps: bool = False


def split_table(
    pattern: str, *, sets: dict[Atom, NDArray[np.bool_]] | None = None, drops_gaps: bool = False
) -> SplitTable:
    """The automaton of `pattern`.

    Args:
        sets: characters of atoms that are not to be measured.
    Raises:
        Refused: the pattern is outside the grammar, or its automaton too large.
    """
    table = _table(pattern, dict(sets or {}), drops_gaps=drops_gaps)
    rest = _rest(table)
    if rest is None or drops_gaps or _REST in pattern:
        return table
    return _table(f"{pattern}|{_REST}+", {**(sets or {}), Atom(_REST): rest}, drops_gaps=False)


def _rest(table: SplitTable) -> NDArray[np.bool_] | None:
    """Characters between matches, when whether a match begins at a character depends on that character alone.

    Then a run of them can be a choice of the pattern; otherwise the kernel has to try every place.
    """
    entries = table.entries.reshape(-1, table.n_classes)
    first = entries[0, :-1]
    begins = first & BACK == 0
    states = (first[begins] & ((1 << 24) - 1)) // table.n_classes
    if begins.all() or (entries[states] & MATCH == 0).any():
        return None
    return np.isin(table.classes, np.flatnonzero(~begins))


def _table(pattern: str, sets: dict[Atom, NDArray[np.bool_]], *, drops_gaps: bool) -> SplitTable:
    program = compile_pattern(pattern)
    atoms = sorted({step.atom for step in program if step.atom}, key=lambda a: (a.source, a.ignore_case))
    known = [sets.get(atom) for atom in atoms]
    matching = [members(atom) if found is None else found for atom, found in zip(atoms, known, strict=True)]
    classes, in_atom = class_partition(atoms, matching)
    entries = _determinise(program, {atom: in_atom[:, k] for k, atom in enumerate(atoms)}, len(in_atom))
    return SplitTable(
        entries=entries.ravel(), classes=classes, n_classes=entries.shape[1], drops_gaps=drops_gaps
    )


def _determinise(
    program: list[Instruction], in_atom: dict[Atom, NDArray[np.bool_]], n_classes: int
) -> NDArray[np.uint32]:
    """The table of entries, shape (states, n_classes + 1)."""
    start = (len(program) - 1,)
    numbers: dict[tuple[int, ...], int] = {start: 0}
    waiting: list[tuple[int, ...]] = [start]
    rows = []
    closure = functools.partial(_closure, program, in_atom, n_classes)
    width = n_classes + 1
    while waiting:
        state, row = waiting.pop(0), []
        for c in range(width):
            alive, is_match = closure(state, c)
            flags = MATCH if is_match else 0
            after = _after(program, in_atom, alive, c, n_classes)
            if not after and is_match:
                again, _ = closure(start, c)
                after = _after(program, in_atom, again, c, n_classes)
                flags |= END if after or c == n_classes else BACK
                after = start if c == n_classes else after
            elif not after:
                flags |= BACK
            if after and after not in numbers:
                numbers[after] = len(numbers)
                waiting.append(after)
            row.append(flags | (numbers[after] * width if after else 0))
        rows.append(row)
        if len(numbers) > _MOST_STATES:
            raise Refused(f"a pattern of more than {_MOST_STATES} states")
    return np.array(rows, dtype=np.uint32)


def _closure(
    program: list[Instruction],
    in_atom: dict[Atom, NDArray[np.bool_]],
    n_classes: int,
    state: tuple[int, ...],
    c: int,
) -> tuple[list[int], bool]:
    """Places that wait for a character of class `c`, in order; and whether a match cuts them."""
    alive: list[int] = []
    seen: set[int] = set()
    stack = list(reversed(state))
    while stack:
        place = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        step = program[place]
        if step.kind == "match":
            return alive, True
        if step.kind == "take":
            alive.append(place)
        elif step.kind == "choose":
            stack += [step.second, step.first]
        elif step.atom is not None:
            holds = c < n_classes and bool(in_atom[step.atom][c])
            if holds != step.is_negative:
                stack.append(step.first)
    return alive, False


def _after(
    program: list[Instruction],
    in_atom: dict[Atom, NDArray[np.bool_]],
    alive: list[int],
    c: int,
    n_classes: int,
) -> tuple[int, ...]:
    """The places behind a character of class `c`, in order, each once."""
    if c == n_classes:
        return ()
    taken = [program[p].first for p in alive if (atom := program[p].atom) and in_atom[atom][c]]
    return tuple(dict.fromkeys(taken))
