"""Words for comparing texts, and n-gram coverage, in plain Python, to test kernels against. Slow."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from prill.features._matching_characters import ALONE_RANGES, DROPPED_RANGES

__all__ = ["covered_words", "spans_of_words", "words_of"]


def words_of(text: str) -> list[str]:
    """The words of a text: folded, without punctuation and invisible characters."""
    return [word for word, _, _ in _scan(text)]


def spans_of_words(text: str) -> list[tuple[int, int]]:
    """First byte and byte behind of each word."""
    return [(start, stop) for _, start, stop in _scan(text)]


def covered_words(item: Sequence[str], document: Sequence[str], n: int) -> list[bool]:
    """Which words of an item lie in at least one n-gram that the document has too."""
    known = {tuple(document[i : i + n]) for i in range(len(document) - n + 1)}
    covered = [False] * len(item)
    for i in range(len(item) - n + 1):
        if tuple(item[i : i + n]) in known:
            covered[i : i + n] = [True] * n
    return covered


def _scan(text: str) -> Iterator[tuple[str, int, int]]:
    word, start, at, end, was_alone = "", 0, 0, 0, False
    for character in text:
        size = len(character.encode())
        if not _is_dropped(character):
            is_word, alone = _is_word(character), _is_alone(character)
            if word and (not is_word or alone or was_alone):
                yield word, start, end
                word = ""
            if is_word:
                start = at if not word else start
                word += _folded(character)
                end = at + size
            was_alone = alone
        at += size
    if word:
        yield word, start, end


def _folded(character: str) -> str:
    if character == "\u0130":
        return "i"
    lower = character.lower()
    return "\u03c3" if lower == "\u03c2" else lower


def _is_word(character: str) -> bool:
    is_mark = unicodedata.category(character).startswith("M")
    return _folded(character).isalnum() or character == "_" or is_mark


def _is_alone(character: str) -> bool:
    if ord(character) < ALONE_RANGES[0][0]:
        return False
    return _is_word(character) and any(a <= ord(character) <= b for a, b in ALONE_RANGES)


def _is_dropped(character: str) -> bool:
    if character == "\u200b":
        return False
    is_selector = any(a <= ord(character) <= b for a, b in DROPPED_RANGES)
    return unicodedata.category(character) == "Cf" or is_selector
