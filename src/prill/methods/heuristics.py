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

__all__ = ["RULES", "Heuristics", "HeuristicsSettings", "passed_rules"]

STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")

RULES: Final[dict[str, tuple[float, float]]] = {
    "gopher_n_words": (50, 100_000),
    "gopher_mean_word_length": (3, 10),
    "gopher_hash_ratio": (0, 0.1),
    "gopher_ellipsis_ratio": (0, 0.1),
    "gopher_bullet_line_share": (0, 0.9),
    "gopher_ellipsis_line_share": (0, 0.3),
    "gopher_alphabetic_word_share": (0.8, 1),
    "gopher_n_stop_words": (2, np.inf),
    "repeated_paragraph_share": (0, 0.30),
    "repeated_paragraph_character_share": (0, 0.20),
    "repeated_line_share": (0, 0.30),
    "repeated_line_character_share": (0, 0.20),
    "top_2_gram_share": (0, 0.20),
    "top_3_gram_share": (0, 0.18),
    "top_4_gram_share": (0, 0.16),
    "repeated_5_gram_share": (0, 0.15),
    "repeated_6_gram_share": (0, 0.14),
    "repeated_7_gram_share": (0, 0.13),
    "repeated_8_gram_share": (0, 0.12),
    "repeated_9_gram_share": (0, 0.11),
    "repeated_10_gram_share": (0, 0.10),
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

    version: ClassVar[int] = 2
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
    from prill.features.gopher import quality_measures, repetition_measures
    from prill.features.statistics import ClassedText, count_lines, count_words, split

    classed = ClassedText.of(text)
    counts = count_words(classed, split(classed, "words"), stop_words)
    lines = count_lines(classed)
    measured = quality_measures(counts, lines) | repetition_measures(classed.n_characters, counts, lines)
    return np.stack(
        [(low <= measured[name]) & (measured[name] <= high) for name, (low, high) in RULES.items()]
    )
