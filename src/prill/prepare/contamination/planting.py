"""Benchmark items as they appear in real text: printed, lightly edited; and decoys that look like items.

Every function takes its randomness as a generator, so the same seed plants the same text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prill.features.item_index import Item

__all__ = ["DECOYS", "EDITS", "Lexicon", "planted", "rendered"]

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LINE = 70  # characters
_CONTENT_LETTERS = 4


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """What edits draw from, and how strong they are.

    Attributes:
        words: replacements, from all items.
        word_rate: share of an item's words that `words` replaces, rounded to whole words.
        cut_rate: share of an item's words that are cut off its end, rounded down.
    """

    words: Sequence[str]
    word_rate: float = 0.05
    cut_rate: float = 0.1


def rendered(item: Item) -> str:
    """Passage, question and right answer as running text."""
    prompt = f"{item.passage.strip()}\n{item.question.strip()}".strip()
    return f"{prompt} {item.answer.strip()}".strip()


def planted(text: str, piece: str, rng: np.random.Generator) -> str:
    """`text` with `piece` between two of its paragraphs, or of its lines."""
    for mark in ("\n\n", "\n", " "):
        parts = text.split(mark)
        if len(parts) > 2:
            break
    at = int(rng.integers(0, len(parts) + 1))
    return mark.join([*parts[:at], piece, *parts[at:]])


def _verbatim(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    return rendered(item)


def _as_form(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    """With its choices between question and answer, or with the words Question and Answer."""
    prompt = f"{item.passage.strip()}\n{item.question.strip()}".strip()
    if not item.choices:
        return f"Question: {prompt}\nAnswer: {item.answer.strip()}" if item.question else None
    letters = string.ascii_uppercase[: len(item.choices)]
    options = [f"({letter}) {choice}" for letter, choice in zip(letters, item.choices, strict=True)]
    right = letters[item.choices.index(item.answer)]
    return "\n".join([prompt, *options, f"Answer: ({right})"])


def _surface(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    """Another case, no punctuation, or other line ends."""
    text = rendered(item)
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return text.lower()
    if kind == 1:
        return text.upper()
    if kind == 2:
        return text.translate(_NO_PUNCTUATION)
    lines, width = [""], 0
    for word in text.split():
        if width + len(word) > _LINE:
            lines.append("")
            width = 0
        lines[-1] += f" {word}" if lines[-1] else word
        width += len(word) + 1
    return "\n".join(lines)


def _words(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    text = rendered(item)
    return _replaced(text, round(lexicon.word_rate * len(_WORD.findall(text))), lexicon, rng)


def _one_word(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    return _replaced(rendered(item), 1, lexicon, rng)


def _one_number(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    text = rendered(item)
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    match = found[int(rng.integers(0, len(found)))]
    return f"{text[: match.start()]}{int(match[0][:15]) + int(rng.integers(1, 50))}{text[match.end() :]}"


def _truncated(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    """The end cut off; the beginning of an item with a passage, which without its end is only a quotation."""
    text = rendered(item)
    found = list(_WORD.finditer(text))
    n_cut = int(lexicon.cut_rate * len(found))
    if item.passage:
        return text[found[n_cut].start() :] if n_cut else text
    return text[: found[len(found) - n_cut].start()].rstrip() if n_cut else text


def _shuffled(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    """The item's words in another order."""
    return " ".join(rng.permutation(rendered(item).split()).tolist())


def _reworded(item: Item, lexicon: Lexicon, rng: np.random.Generator) -> str | None:
    """Every word of four letters or more replaced: what is left is a frame that many texts share."""

    def swap(match: re.Match[str]) -> str:
        is_kept = len(match[0]) < _CONTENT_LETTERS
        return match[0] if is_kept else lexicon.words[int(rng.integers(0, len(lexicon.words)))]

    return _WORD.sub(swap, rendered(item))


def _replaced(text: str, n_words: int, lexicon: Lexicon, rng: np.random.Generator) -> str:
    found = list(_WORD.finditer(text))
    pieces, end = [], len(text)
    for k in sorted(rng.permutation(len(found))[:n_words].tolist(), reverse=True):
        word = lexicon.words[int(rng.integers(0, len(lexicon.words)))]
        pieces += [text[found[k].end() : end], word]
        end = found[k].start()
    return "".join([text[:end], *reversed(pieces)])


Edit = Callable[[Item, Lexicon, np.random.Generator], str | None]

EDITS: Mapping[str, Edit] = {
    "verbatim": _verbatim,
    "as a form": _as_form,
    "case, punctuation or lines": _surface,
    "words replaced": _words,
    "one number changed": _one_number,
    "words cut off": _truncated,
    "one word replaced": _one_word,
}
"""How an item is printed; None where an edit does not apply to it."""

DECOYS: Mapping[str, Edit] = {"words shuffled": _shuffled, "frame kept": _reworded}
"""Texts made from items that are not the items."""
