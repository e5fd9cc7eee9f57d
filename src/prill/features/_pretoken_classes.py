"""Which characters a class of a pattern matches, asked of the tokenizers library itself.

Libraries follow different versions of Unicode, so no table of our own could be exact: each class is
measured once a process, over every code point, by letting the library take its matches out of the text that
holds all of them (about 0.05 s a class). Python strings cannot carry surrogates into the library, nor can
UTF-8; their entries stay false.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from prill.features._pretoken_regex import Atom, Refused

__all__ = ["N_CODE_POINTS", "changed_by", "class_partition", "members", "probe_members"]

N_CODE_POINTS: Final = 0x110000
_BLOCK: Final = 4096
_LITERAL: Final = re.compile(r"\\x\{([0-9a-f]+)\}\Z")
_MOST_ATOMS: Final = 60
_MOST_CLASSES: Final = 200
_ASSIGNED_PLANES: Final = (0, 1, 2, 3, 14)


def members(atom: Atom) -> NDArray[np.bool_]:
    """Whether each code point matches: bool, shape (0x110000,).

    Raises:
        Refused: the library does not accept the class.
    """
    literal = _LITERAL.match(atom.source)
    if literal and not atom.ignore_case:
        found = np.zeros(N_CODE_POINTS, dtype=np.bool_)
        found[int(literal[1], 16)] = True
        return found
    if literal and chr(int(literal[1], 16)) in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        among = np.flatnonzero(_measured("(?i:[a-z])"))  # a few code points, instead of all of them
        found = np.zeros(N_CODE_POINTS, dtype=np.bool_)
        found[among] = _matches(f"(?i:{atom.source})", "".join(map(chr, among)))
        return found
    return _measured(f"(?i:{atom.source})" if atom.ignore_case else atom.source)


@functools.lru_cache(maxsize=64)
def _measured(source: str) -> NDArray[np.bool_]:
    found = np.zeros(N_CODE_POINTS, dtype=np.bool_)
    for first, block in _blocks():
        found[first : first + len(block)] = _matches(source, block)
    found.setflags(write=False)
    return found


def _matches(source: str, text: str) -> NDArray[np.bool_]:
    """Which of the characters of `text`, all distinct and in order, match."""
    from tokenizers import Regex, normalizers

    try:
        take_out = normalizers.Replace(Regex(f"(?:{source})+"), "")
    except Exception as error:  # the library raises nothing narrower
        raise Refused(f"a class that the library does not accept: {source}") from error
    codes, rest = _codes(text), _codes(take_out.normalize_str(text))
    return ~np.isin(codes, rest, assume_unique=True) if len(rest) else np.ones(len(codes), np.bool_)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _blocks() -> Iterator[tuple[int, str]]:
    """First code point and text of blocks of code points, without the surrogates."""
    for first in range(0, N_CODE_POINTS, _BLOCK):
        end = min(first + _BLOCK, 0xD800) if first < 0xE000 else first + _BLOCK
        if first < end:
            yield first, np.arange(first, end, dtype="<u4").tobytes().decode("utf-32-le")


def probe_members(pre_tokenizer: Any) -> NDArray[np.bool_]:
    """Characters that a pre-tokenizer without a pattern (`Digits`, `Punctuation`) sets apart.

    It must put neighbours of one kind into one piece; the letter before each block tells which kind comes
    first. Planes without assigned characters have neither digits nor punctuation.
    """
    found = np.zeros(N_CODE_POINTS, dtype=np.bool_)
    for first, block in _blocks():
        if first >> 16 in _ASSIGNED_PLANES:
            pieces = pre_tokenizer.pre_tokenize_str("a" + block)
            for _, (start, end) in pieces[1::2]:
                found[first + start - 1 : first + end - 1] = True
    return found


@functools.lru_cache(maxsize=8)
def changed_by(forms: tuple[str, ...]) -> NDArray[np.bool_]:
    """Characters that Unicode normal forms may change, alone or beside others: bool, shape (0x110000,).

    All others stay as they are in any text: they are normal by themselves, are no marks (which may be
    reordered), and are never the later part of a composed character.

    Args:
        forms: of `NFC`, `NFD`, `NFKC`, `NFKD`, applied one after the other.
    """
    from tokenizers import normalizers

    normalise = normalizers.Sequence([getattr(normalizers, form)() for form in forms])
    decompose = normalizers.NFD()
    found = _measured(r"\p{M}").copy()
    for first, block in _blocks():
        joined = "\n".join(block.replace("\n", " "))
        if (normal := normalise.normalize_str(joined)) != joined:
            for code, after in enumerate(normal.split("\n"), start=first):
                found[code] |= after != chr(code)
        if (apart := decompose.normalize_str(joined)) != joined:
            for parts in apart.split("\n"):
                found[[ord(part) for part in parts[1:]]] = True
    found[:128] = False
    found.setflags(write=False)
    return found


def class_partition(
    atoms: list[Atom], sets: list[NDArray[np.bool_]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Code points grouped by the atoms that match them.

    Returns:
        The class of each code point, uint8, shape (0x110000,), and whether a class is in an atom, shape
        (classes, atoms).
    Raises:
        Refused: too many atoms or classes.
    """
    if len(atoms) > _MOST_ATOMS:
        raise Refused(f"a pattern of more than {_MOST_ATOMS} classes")
    classes = np.zeros(N_CODE_POINTS, dtype=np.uint16)
    bits = np.zeros((1, 0), dtype=np.bool_)
    for matching in sets:
        fine = 2 * classes + matching
        fine[0xD800:0xE000] = fine[0xE000]  # surrogates are in no text; they need no class of their own
        used = np.flatnonzero(np.bincount(fine))
        if len(used) > _MOST_CLASSES:
            raise Refused(f"a pattern with more than {_MOST_CLASSES} kinds of characters")
        numbers = np.zeros(int(used[-1]) + 1, dtype=np.uint16)
        numbers[used] = np.arange(len(used))
        classes = numbers[fine]
        bits = np.column_stack([bits[used // 2], used % 2 == 1])
    return classes.astype(np.uint8), bits
