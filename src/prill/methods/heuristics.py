"""Heuristics: the control of classic page rules, as the share of rules that a document passes.

The rules of Gopher with their published thresholds: eight of quality, thirteen of repetition. They know no
target. Many documents pass all of them: the tie rule of the policy decides among those.

Source: Rae et al. 2021, arXiv:2112.11446, table A1 and section A.1.1.

Legend: D documents of a batch or shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Given
    from prill.features.statistics import Counts

__all__ = ["RULES", "Heuristics", "HeuristicsSettings", "passed_rules"]

STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")

RULES: Final[dict[str, tuple[float, float]]] = {
    "words": (50, 100_000),
    "mean_word_length": (3, 10),
    "hashes_a_word": (0, 0.1),
    "ellipses_a_word": (0, 0.1),
    "bullet_lines": (0, 0.9),
    "ellipsis_lines": (0, 0.3),
    "alphabetic_words": (0.8, 1),
    "stop_words": (2, np.inf),
    "repeated_paragraphs": (0, 0.30),
    "repeated_paragraph_characters": (0, 0.20),
    "repeated_lines": (0, 0.30),
    "repeated_line_characters": (0, 0.20),
    "top_2_gram": (0, 0.20),
    "top_3_gram": (0, 0.18),
    "top_4_gram": (0, 0.16),
    "repeated_5_gram": (0, 0.15),
    "repeated_6_gram": (0, 0.14),
    "repeated_7_gram": (0, 0.13),
    "repeated_8_gram": (0, 0.12),
    "repeated_9_gram": (0, 0.11),
    "repeated_10_gram": (0, 0.10),
}
"""Lowest and highest value that passes, both included."""


class HeuristicsSettings(BaseModel):
    """Settings of the control of page rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stop_words: tuple[str, ...] = Field(
        STOP_WORDS, max_length=10_000, description="Of these words two different ones must occur."
    )


@method(
    name="heuristics",
    called="heuristics",
    title="the share of Gopher's page rules that a document passes",
    paper="2112.11446",
    feature="text statistics",
    cost="one pass over the text, about 10 ns a byte",
    assumes="English prose; it knows no target and is the control of classic quality rules",
    formula="""score(x) = rules passed / 21
8 of quality: words 50 to 100,000, mean word length 3 to 10, "#" and ellipses a word at most 0.1, bullet lines
at most 0.9, lines ending in an ellipsis at most 0.3, words with a letter at least 0.8, 2 different stop words
13 of repetition: paragraphs and lines 0.30, their characters 0.20; top 2 to 4-gram 0.20, 0.18, 0.16;
repeated 5 to 10-grams 0.15 to 0.10""",
    differs="""A filter turned into a score: Gopher drops a page that fails any rule. Words are runs of word
characters, as in Prill's preparation; repetition is read as in datatrove. The same score for every target.
Empty documents get NaN; documents beyond 16 MiB are judged by their first 16 MiB.""",
)
class Heuristics(Method):
    """Share of rules passed, the same for every target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 30.0
    Settings: ClassVar[type[BaseModel]] = HeuristicsSettings

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Scores, float64, shape (D,), the same for each target; NaN for empty documents."""
        parts = [
            passed_rules(batch.text, self.settings.stop_words).sum(axis=0) / len(RULES)
            for batch in given.pool.batches(shard)
        ]
        scores = np.where(given.pool.document_bytes(shard) > 0, np.concatenate(parts), np.nan)
        return dict.fromkeys(given.targets, scores)

    def meaning(self) -> Meaning:
        return Meaning(unit="1", span="first 16 MiB", summary=f"share of {len(RULES)} page rules passed")


def passed_rules(text: pa.Array, stop_words: Sequence[str] = STOP_WORDS) -> NDArray[np.bool_]:
    """Which documents pass which of `RULES`, in order, shape (rules, D)."""
    from prill.features.statistics import ClassedText, count_lines, count_words, split

    classed = ClassedText.of(text)
    counts = count_words(classed, split(classed, "words"), stop_words)
    measured = _measured(classed.n_characters, counts, count_lines(classed))
    return np.stack(
        [(low <= measured[name]) & (measured[name] <= high) for name, (low, high) in RULES.items()]
    )


def _measured(n_characters: NDArray[np.int64], words: Counts, lines: Counts) -> dict[str, NDArray[Any]]:
    n_words = words["n_real_words"]
    measured = {
        "words": n_words,
        "mean_word_length": _ratio(words["real_word_characters"], n_words),
        "hashes_a_word": _ratio(lines["n_hashes"], n_words),
        "ellipses_a_word": _ratio(lines["n_ellipses"], n_words),
        "bullet_lines": _ratio(lines["n_bullet_lines"], lines["n_lines"]),
        "ellipsis_lines": _ratio(lines["n_ellipsis_lines"], lines["n_lines"]),
        "alphabetic_words": _ratio(words["n_alphabetic_words"], n_words),
        "stop_words": words["n_stop_words_distinct"],
        "repeated_paragraphs": _ratio(lines["n_repeated_paragraphs"], lines["n_paragraphs"]),
        "repeated_paragraph_characters": _ratio(lines["repeated_paragraph_characters"], n_characters),
        "repeated_lines": _ratio(lines["n_repeated_runs"], lines["n_runs"]),
        "repeated_line_characters": _ratio(lines["repeated_run_characters"], n_characters),
    }
    for n in (2, 3, 4):
        times, length = words[f"top_{n}_gram_count"], words[f"top_{n}_gram_characters"]
        measured[f"top_{n}_gram"] = _ratio(times * (length + n - 1), n_characters)
    for n in range(5, 11):
        measured[f"repeated_{n}_gram"] = _ratio(words[f"repeated_{n}_gram_characters"], n_characters)
    return measured


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole; 0 for 0 / 0."""
    return np.asarray(part / np.maximum(whole, 1), np.float64)
