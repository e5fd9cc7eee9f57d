"""Reading a rater's answer: exactly what the rubric asks for, or nothing.

An answer that lacks a number, has one too many, contradicts itself or leaves the scale is not mended; it is
counted and set aside.

Source: arXiv:2502.19363 for `lines` (exactly 14 scores, or 28 whose halves agree; a single domain; no N/A;
numbers between two grades go down below 3, else up); arXiv:2406.17557 for `total` (whole numbers, clipped
to 0..5). Differs: text that is neither a number nor a label is passed over, as long as it does not say N/A.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from prill.errors import printable
from prill.features.rater.rubric import Rubric, Scale

__all__ = ["LONGEST_RAW", "NO_TEXT", "Rating", "fit_to_scale", "read_answer"]

LONGEST_RAW = 2_000
"""Characters of an answer that could not be read that are kept."""

_LONGEST_READ = 20_000
_NUMBER = r"[-+]?\d{1,6}(?:\.\d{1,6})?"
_VALUE = re.compile(rf"({_NUMBER})\s*(?:(?:/|out of|of)\s*\d+)?\s*\.?")
_NUMBERED = re.compile(r"(?:\[\d{1,2}\]|\d{1,2}[.)](?=\s*[A-Za-z]))\s*")
_NOT_AVAILABLE = re.compile(r"\bN\s*/\s*A\b|\bnot (?:applicable|available)\b", re.I)
_TOTAL = re.compile(rf"\bscore\b\W{{0,8}}?({_NUMBER})", re.I)
_LETTER = re.compile(r"\W{0,3}([A-Z])\b\W{0,4}(.*)")


NO_TEXT: Final = "no text"
"""Why a document was not shown to a rater: nothing of it is left to show."""


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What a rater said of one document.

    Attributes:
        scores: a number for every scale; None where there is no rating.
        label: letter of its class; "" where the rubric has none.
        why_not: why there is no rating; "" where there is one.
        raw: the beginning of an answer that could not be read, with control characters escaped.
    """

    scores: tuple[float, ...] | None
    label: str = ""
    why_not: str = ""
    raw: str = ""


def read_answer(rubric: Rubric, answer: str, *, is_expected: bool = False) -> Rating:
    """The rating in an answer, or why there is none.

    Args:
        is_expected: numbers are expectations over the scale: they are not rounded.
    """
    text = answer[:_LONGEST_READ]
    try:
        if rubric.layout == "lines":
            numbers, label = _lines(rubric, text)
        elif rubric.layout == "total":
            numbers, label = _total(text), ""
        else:
            numbers, label = _named(rubric, text), ""
        rounding = "none" if is_expected else rubric.rounding
        scores = [fit_to_scale(n, scale, rounding) for n, scale in zip(numbers, rubric.scales, strict=True)]
    except _Nonsense as found:
        return Rating(scores=None, why_not=str(found), raw=printable(answer, limit=LONGEST_RAW))
    return Rating(scores=tuple(scores), label=label)


def fit_to_scale(number: float, scale: Scale, rounding: str) -> float:
    """A grade of the scale; see `Rubric.rounding`. Below and above it there is none, unless clipped."""
    if rounding == "truncate":
        return float(min(max(math.trunc(number), scale.low), scale.high))
    if rounding == "halves" and number != math.floor(number):
        number = math.floor(number) if number < 3 else math.ceil(number)
    if not scale.low <= number <= scale.high:
        raise _Nonsense(f"{scale.name} outside {scale.low} to {scale.high}")
    return float(number)


class _Nonsense(Exception):  # noqa: N818 - not an error: the answer is set aside
    """Why an answer is no rating."""


def _lines(rubric: Rubric, text: str) -> tuple[list[float], str]:
    if _NOT_AVAILABLE.search(text):
        raise _Nonsense("it says N/A")
    letters: set[str] = set()
    numbers: list[float] = []
    known = {label.letter: label.name.lower() for label in rubric.labels}
    names = {name: letter for letter, name in known.items()}
    for line in text.splitlines():
        value = _behind_name(line)
        if (number := _VALUE.fullmatch(value)) is not None:
            numbers.append(float(number[1]))
        elif value.lower() in names:
            letters.add(names[value.lower()])
        elif (letter := _LETTER.fullmatch(value)) is not None and letter[1] in known:
            is_alone = letter[2].lower() in ("", known[letter[1]])  # not the article of a sentence
            letters.update({letter[1]} if is_alone else ())
    n = len(rubric.scales)
    if len(numbers) == 2 * n and numbers[:n] == numbers[n:]:
        numbers = numbers[:n]
    if len(numbers) != n:
        raise _Nonsense(f"{len(numbers)} numbers instead of {n}")
    if known and len(letters) != 1:
        raise _Nonsense(f"{len(letters)} labels instead of 1")
    return numbers, letters.pop() if known else ""


def _total(text: str) -> list[float]:
    found = _TOTAL.findall(text)
    if not found:
        raise _Nonsense("no score")
    return [float(found[-1])]


def _named(rubric: Rubric, text: str) -> list[float]:
    said: dict[str, float] = {}
    for line in text.splitlines():
        name, colon, _ = line.partition(":")
        name = name.strip(" \t*-_[]0123456789.)").lower().replace(" ", "_")
        number = _VALUE.fullmatch(_behind_name(line))
        if not colon or name not in rubric.names or number is None:
            continue
        if said.setdefault(name, float(number[1])) != float(number[1]):
            raise _Nonsense(f"two numbers for {name}")
    missing = [name for name in rubric.names if name not in said]
    if missing:
        raise _Nonsense(f"no number for {missing[0]}")
    return [said[name] for name in rubric.names]


def _behind_name(line: str) -> str:
    """What a line says behind its number and name: `4/5` of `[2] Coherence: 4/5`."""
    line = _NUMBERED.sub("", line.strip(" \t*_`#-"), count=1)
    return line.rpartition(":")[2].strip(" \t*_`\"'[]")
