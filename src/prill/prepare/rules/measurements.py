"""From counts to the measurements that rules are about: shares and means, with a value for the empty page.

Every division by nothing gives 0, and the empty page is dropped for being empty before any other rule looks.

Legend: D documents.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.features import statistics as stats
from prill.features.gopher import quality_measures, ratio, repetition_measures
from prill.features.statistics import C4Lines, ClassedText, Counts
from prill.prepare.rules.families import C4Spec
from prill.prepare.rules.spec import RulesSpec
from prill.prepare.spans import Spans

__all__ = ["C4_SPANS", "Columns", "measure"]

Columns: TypeAlias = dict[str, pa.Array | NDArray[Any]]

C4_SPANS = "c4_lines"
"""The column of the lines that C4 takes out."""


def measure(text: pa.Array, spec: RulesSpec) -> Columns:
    """All measurements that the families of a resolved spec need, and the sizes of every document."""
    classed = ClassedText.of(text)
    words = stats.split(classed, spec.words)
    counts = stats.count_words(classed, words, spec.gopher_quality.stop_words)
    columns: Columns = {"n_characters": classed.n_characters, "n_words": counts["n_words"]}
    lines = stats.count_lines(classed, short_characters=spec.fineweb.short_line_characters)
    columns["n_lines"] = lines["n_lines"]
    if "gopher_quality" in spec.families:
        columns |= quality_measures(counts, lines, counts_symbols=spec.words == "spacy")
    if "gopher_repetition" in spec.families:
        columns |= repetition_measures(classed.n_characters, counts, lines)
    c4 = _c4(classed, spec)
    if c4 is not None and "c4" in spec.families:
        columns |= _c4_columns(c4, spec)
    if "mc4" in spec.families:
        columns |= {
            "mc4_n_lines": lines["n_newlines"] + 1,
            "mc4_third_longest_line": lines["third_longest_line"],
        }
    if "fineweb" in spec.families:
        columns |= _fineweb(classed, counts["n_words"], lines, c4, spec)
    if "dolma" in spec.families:
        words = stats.split(classed, "spaces")
        columns |= _dolma(stats.count_words(classed, words, spec.dolma.required_words), lines)
    return columns


def _dolma(counts: Counts, lines: Counts) -> Columns:
    n_words, n_lines, n_characters = counts["n_words"], lines["n_runs"], counts["word_characters"]
    columns: Columns = {
        "dolma_n_words": n_words,
        "dolma_median_word_length": counts["median_word_length_doubled"] / 2,
        "dolma_symbol_word_share": ratio(counts["n_symbol_words"], n_words),
        "dolma_alphabetic_word_share": ratio(counts["n_alphabetic_words"], n_words),
        "dolma_n_required_words": counts["n_stop_words"],
        "dolma_bullet_line_share": ratio(lines["n_dash_runs"], n_lines),
        "dolma_ellipsis_line_share": ratio(lines["n_dotted_runs"], n_lines),
        "dolma_repeated_line_share": ratio(lines["n_shared_runs"], n_lines),
        "dolma_repeated_line_character_ratio": ratio(lines["shared_run_characters"], n_characters),
    }
    for n in (2, 3, 4):
        times, length = counts[f"top_{n}_gram_count"], counts[f"top_{n}_gram_characters"]
        columns[f"dolma_top_{n}_gram_share"] = ratio(times * length, n_characters)
    for n in range(5, 11):
        shared, every = counts[f"shared_{n}_gram_characters"], counts[f"all_{n}_gram_characters"]
        columns[f"dolma_repeated_{n}_gram_share"] = ratio(shared, every)
    return columns


def _c4(text: ClassedText, spec: RulesSpec) -> C4Lines | None:
    """What C4's line rules do, when C4 judges or FineWeb looks at what it leaves."""
    feeds = "fineweb" in spec.families and spec.fineweb.text == "after_c4"
    if not feeds and "c4" not in spec.families:
        return None
    needs_text = feeds or spec.words == "spacy"
    return stats.judge_c4_lines(text, _reading(spec.c4), keeps_text=needs_text)


def _reading(spec: C4Spec) -> stats.C4Reading:
    phrases = {
        "lorem ipsum": spec.drops_lorem_ipsum,
        "javascript": spec.javascript_removed,
        "{": spec.drops_curly_brackets,
        "policy": spec.policies_removed,
    }
    return stats.C4Reading(
        max_word_characters=spec.max_word_characters,
        cites_removed=spec.cites_removed,
        ends_required=spec.ends_required,
        min_words=spec.min_words_per_line,
        phrases=tuple(phrase for phrase, is_sought in phrases.items() if is_sought),
        is_published=spec.is_published,
    )


def _c4_columns(c4: C4Lines, spec: RulesSpec) -> Columns:
    columns: Columns = {f"c4_{name}": count for name, count in c4.counts.items()}
    if c4.left is not None and spec.words == "spacy":
        columns["c4_n_sentences"] = stats.count_sentences(c4.left, stats.split(c4.left, "spacy"))
    columns[C4_SPANS] = Spans(
        offsets=c4.offsets, starts=c4.starts, stops=c4.stops, kinds=c4.kinds, names=c4.names
    ).to_column()
    return columns


def _fineweb(
    text: ClassedText, n_words: NDArray[np.int64], lines: Counts, c4: C4Lines | None, spec: RulesSpec
) -> Columns:
    if spec.fineweb.text == "after_c4" and c4 is not None and c4.left is not None:
        text = c4.left
        n_words = np.diff(stats.split(text, spec.words).offsets)
        lines = stats.count_lines(text, short_characters=spec.fineweb.short_line_characters)
    n_lines = lines["n_content_lines"]
    return {
        "fineweb_terminal_line_share": ratio(lines["n_terminal_lines"], n_lines),
        "fineweb_short_line_share": ratio(lines["n_short_lines"], n_lines),
        "fineweb_repeated_line_character_share": ratio(
            lines["repeated_line_characters"], text.n_characters - lines["n_newlines"]
        ),
        "fineweb_newline_ratio": ratio(lines["n_newlines"], n_words),
    }
