"""A stand-in for a rater: grades from counts of words, sentences and lines, by rules written down here.

It lets everything that rests on ratings run without a model or a network, with the same rubrics, caches and
distillation. It is not an annotator: it does not understand what it grades, and no claim of a published
method carries over. Every result that rests on it says so.

Each criterion is a mean of a few facts of the text, each of which runs from 0 to 1 between two stated values
and is 1 on the better side; the grade is that mean spread over the scale. The domain is the one with the
most of its words, if these are 1 in 100 or more.

Source: none; thresholds were chosen by hand and tuned to nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.features.rater.reading import NO_TEXT, Rating
from prill.features.rater.rubric import Rubric
from prill.features.rater.rules_words import (
    BOILERPLATE,
    CONNECTIVES,
    DOMAIN_WORDS,
    FUNCTION_WORDS,
    HARSH,
    TEACHING,
)
from prill.features.rater.shown import shown

__all__ = ["OPERATIONS_PER_CHARACTER", "RULES_VERSION", "Facts", "RulesRater", "facts_of"]

RULES_VERSION = 1
"""Version of the rules; it changes whenever a grade does."""

_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_LEAST_DOMAIN_SHARE: Final = 0.01

OPERATIONS_PER_CHARACTER: Final = 700.0
"""Of grading: about 80 ns of one core, measured with the long rubric; for the account of costs."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules know of a text; shares are of words, lines or characters, from 0 to 1.

    Attributes:
        n_words: runs of letters.
        letters: share of characters that are letters.
        latin: share of letters that are ASCII.
        function, teaching, connectives, boilerplate, harsh: share of words in these lists.
        distinct: different words among the first 500.
        long_words: share of words of 9 letters or more.
        sentence_words: mean words a sentence.
        repeated_lines: share of lines that occurred before.
        ended_lines: share of lines that end like a sentence.
        long_lines: share of lines of 60 characters or more.
        paragraphs: blank lines among all.
        questions: question and exclamation marks a sentence.
        domain: letter of the domain.
    """

    n_words: int
    letters: float
    latin: float
    function: float
    teaching: float
    connectives: float
    boilerplate: float
    harsh: float
    distinct: float
    long_words: float
    sentence_words: float
    repeated_lines: float
    ended_lines: float
    long_lines: float
    paragraphs: float
    questions: float
    domain: str


class RulesRater:
    """Grades documents by rules, for the rubrics `dataman` and `fineweb_edu`."""

    n_flops = 0.0

    def __init__(self, rubric: Rubric) -> None:
        """
        Raises:
            RecipeError: the rules do not know the rubric.
        """
        if rubric.name not in ("dataman", "fineweb_edu"):
            raise RecipeError(
                f"expected a rater that can read the rubric {rubric.name!r}, found rules, which know only "
                "dataman and fineweb_edu",
                where="rater",
                hint="give an endpoint, a local model, or a file of labels",
            )
        self._rubric = rubric

    @property
    def spent(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def rate(self, texts: Sequence[str]) -> list[Rating]:
        """A rating a document; a text without words has none."""
        return [self._rate(text) for text in texts]

    def _rate(self, text: str) -> Rating:
        span = self._rubric.span.model_copy(update={"max_tokens": None})
        seen = shown(text, span, _no_tokens)
        self.n_flops += OPERATIONS_PER_CHARACTER * len(seen)
        facts = facts_of(seen)
        if facts is None:
            return Rating(scores=None, why_not=NO_TEXT)
        if self._rubric.name == "fineweb_edu":
            return Rating(scores=(float(_educational(facts)),))
        shares = _criteria(facts)
        grades = [
            float(scale.low + math.floor(shares[scale.name] * (scale.high - scale.low) + 0.5))
            for scale in self._rubric.scales
        ]
        return Rating(scores=tuple(grades), label=facts.domain)


def facts_of(text: str) -> Facts | None:
    """What the rules know of a text; None for one without words."""
    words = _WORD.findall(text.lower())
    if not words:
        return None
    counts, n = Counter(words), len(words)
    lines = text.split("\n")
    filled = [line.strip() for line in lines if line.strip()]
    n_sentences = max(1, len(_SENTENCE_END.findall(text)))
    letters = "".join(words)
    return Facts(
        n_words=n,
        letters=len(letters) / len(text),
        latin=len(letters.encode("ascii", "ignore")) / len(letters),
        function=_share(counts, FUNCTION_WORDS, n),
        teaching=_share(counts, TEACHING, n),
        connectives=_share(counts, CONNECTIVES, n),
        boilerplate=_share(counts, BOILERPLATE, n),
        harsh=_share(counts, HARSH, n),
        distinct=len(set(words[:500])) / min(n, 500),
        long_words=sum(count for word, count in counts.items() if len(word) > 8) / n,
        sentence_words=n / n_sentences,
        repeated_lines=1 - len(set(filled)) / len(filled),
        ended_lines=sum(line.endswith((".", "!", "?", '"', "”", ":")) for line in filled) / len(filled),
        long_lines=sum(len(line) >= 60 for line in filled) / len(filled),
        paragraphs=(len(lines) - len(filled)) / len(lines),
        questions=(text.count("?") + text.count("!")) / n_sentences,
        domain=_domain(counts, n),
    )


def _criteria(f: Facts) -> Mapping[str, float]:
    """Every criterion of DataMan from 0 to 1."""
    prose = _between(f.function, 0.1, 0.35)
    sentences = _between(f.sentence_words, 3, 12) * _between(f.sentence_words, 120, 40)
    clean = _between(f.boilerplate, 0.03, 0.0)
    long = _between(math.log(f.n_words), math.log(30), math.log(800))
    varied = _between(f.distinct, 0.25, 0.6)
    expert = _between(f.long_words, 0.05, 0.25)
    joined = _between(f.connectives, 0.0, 0.02)
    even = _between(f.repeated_lines, 0.4, 0.0)
    ended = _between(f.ended_lines, 0.1, 0.7)
    texts = _between(f.letters, 0.5, 0.78)
    own = {
        "accuracy": (texts, clean, sentences),
        "coherence": (prose, sentences, joined),
        "language_consistency": (abs(2 * f.latin - 1), texts),
        "semantic_density": (varied, expert, clean),
        "knowledge_novelty": (expert, long, varied),
        "topic_focus": (clean, _between(f.distinct, 0.9, 0.5), long),
        "creativity": (varied, _between(f.questions, 0.0, 0.3), prose),
        "professionalism": (expert, clean, long),
        "style_consistency": (even, sentences, clean),
        "grammatical_diversity": (prose, sentences, varied),
        "structural_standardization": (ended, _between(f.paragraphs, 0.0, 0.2), even),
        "originality": (even, clean),
        "sensitivity": (_between(f.harsh, 0.01, 0.0),),
    }
    found = {name: sum(facts) / len(facts) for name, facts in own.items()}
    return found | {"overall_score": sum(found.values()) / len(found)}


def _educational(f: Facts) -> int:
    """Points from 0 to 5: one for each step of the rubric in turn, until one is not reached."""
    steps = (
        f.teaching > 0 or f.long_words > 0.1,
        f.n_words >= 80 and f.boilerplate < 0.03,
        f.function > 0.2 and f.teaching > 0.002 and f.letters > 0.65,
        f.teaching > 0.008 and f.sentence_words < 40 and f.ended_lines > 0.3,
        f.teaching > 0.015 and f.boilerplate < 0.005 and f.connectives > 0.003,
    )
    return next((points for points, is_reached in enumerate(steps) if not is_reached), len(steps))


def _domain(counts: Counter[str], n_words: int) -> str:
    shares = {letter: _share(counts, words, n_words) for letter, words in DOMAIN_WORDS.items()}
    best = max(shares, key=lambda letter: (shares[letter], letter))
    return best if shares[best] >= _LEAST_DOMAIN_SHARE else "O"


def _share(counts: Counter[str], words: frozenset[str], n: int) -> float:
    return sum(counts[word] for word in words if word in counts) / n


def _between(value: float, worst: float, best: float) -> float:
    """0 at `worst`, 1 at `best`, in a line between them."""
    return min(1.0, max(0.0, (value - worst) / (best - worst)))


def _no_tokens(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    raise AssertionError("rules read characters")
