"""Whether a rewrite kept to its rules: vocabulary, names, and the form of its genre.

Each check is a pure function of texts; none runs or compiles what it looks at.

Source: Yang et al. 2025 (TinyHelen), arXiv:2501.00522, section 2. Differs: code is checked for balanced
brackets and strings, since its language is not known.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

__all__ = ["format_problem", "is_balanced", "names_are_consistent", "out_of_vocabulary_rate"]

_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_INSIDE_NAME: Final = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+")
_TURN: Final = re.compile(r"^[^\W\d_][\w .'-]{0,40}:", re.MULTILINE)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_CLOSING: Final = {")": "(", "]": "[", "}": "{"}
_SMALLEST_SHARE, _LARGEST_SHARE = 0.1, 4.0


def out_of_vocabulary_rate(
    text: str, allowed: frozenset[str], *, names: frozenset[str] = frozenset()
) -> float:
    """Share of words that are not allowed, by tokens; 0 for a text without words.

    Args:
        allowed: lower-case words.
        names: words that count as allowed as they are written.
    """
    words = _WORD.findall(text)
    n_outside = sum(word not in names and word.lower() not in allowed for word in words)
    return n_outside / len(words) if words else 0.0


def names_are_consistent(source: str, rewritten: str, names: frozenset[str]) -> bool:
    """Whether every new name has the first letter of some name of the source, and no more of them than there.

    Names of the source are capitalised words inside sentences, and listed names anywhere.
    """
    before = {word for word in _WORD.findall(source) if word in names} | set(_INSIDE_NAME.findall(source))
    after = {word for word in _WORD.findall(rewritten) if word in names}
    letters, new_letters = (Counter(name[0] for name in found) for found in (before, after))
    return all(letters[letter] >= n for letter, n in new_letters.items())


def format_problem(genre: str, source: str, rewritten: str) -> str | None:
    """What a rewrite lost of the form of its genre, as users read it; None when nothing."""
    if not rewritten.strip():
        return "empty"
    if not _SMALLEST_SHARE <= len(rewritten) / max(1, len(source)) <= _LARGEST_SHARE:
        return "far shorter or longer than the source"
    if genre == "code" and is_balanced(source) and not is_balanced(rewritten):
        return "brackets or strings out of balance"
    if genre == "conversation" and len(_TURN.findall(source)) != len(_TURN.findall(rewritten)):
        return "another number of turns"
    if genre == "math" and Counter(_NUMBER.findall(source)) - Counter(_NUMBER.findall(rewritten)):
        return "a number is lost"
    return None


def is_balanced(code: str) -> bool:
    """Whether brackets close in order, outside of strings and of comments that begin with `#` or `//`.

    >>> is_balanced("f(a[1], ')')"), is_balanced("f(]")
    (True, False)
    """
    open_brackets: list[str] = []
    quote, at = "", 0
    while at < len(code):
        sign = code[at]
        if quote:
            at += 1 if sign == "\\" else 0
            quote = "" if sign in (quote, "\n") else quote
        elif sign in "\"'`":
            quote = sign
        elif sign == "#" or code.startswith("//", at):
            at = code.find("\n", at) if "\n" in code[at:] else len(code)
        elif sign in "([{":
            open_brackets.append(sign)
        elif sign in _CLOSING and (not open_brackets or open_brackets.pop() != _CLOSING[sign]):
            return False
        at += 1
    return not open_brackets
