"""What each column of the page rules means, in one sentence."""

from __future__ import annotations

from typing import Final, Literal

from prill.corpus.columns import ColumnInfo
from prill.features.statistics import MEASURED_BYTES, STATISTICS_VERSION
from prill.prepare.rules.measurements import C4_SPANS
from prill.prepare.rules.spec import Family, RulesSpec

__all__ = ["describe"]

_SPAN: Final = f"first {MEASURED_BYTES >> 20} MiB"
_ALWAYS: Final = {
    "n_characters": ("characters", 0, "Unicode code points of the text"),
    "n_words": ("words", 0, "words, those of symbols alone among them"),
    "n_lines": ("lines", 0, "lines of the text"),
}
Meaning = tuple[str, int, str]
_MEANINGS: Final[dict[Family, dict[str, Meaning]]] = {
    "gopher_quality": {
        "gopher_n_words": ("words", 0, "words that are not symbols alone"),
        "gopher_mean_word_length": ("characters", 0, "mean length of those words"),
        "gopher_hash_ratio": ("1", -1, 'number of "#" a word'),
        "gopher_ellipsis_ratio": ("1", -1, "number of ellipses a word"),
        "gopher_bullet_line_share": ("1", -1, "share of lines that begin with a bullet or a dash"),
        "gopher_ellipsis_line_share": ("1", -1, "share of lines that end with an ellipsis"),
        "gopher_alphabetic_word_share": (
            "1",
            1,
            "share of words (with spaCy: and symbols) with a letter",
        ),
        "gopher_n_stop_words": ("words", 1, "different stop words"),
    },
    "gopher_repetition": {
        "repeated_paragraph_share": ("1", -1, "share of paragraphs that stood before"),
        "repeated_paragraph_character_share": ("1", -1, "share of characters in such paragraphs"),
        "repeated_line_share": ("1", -1, "share of lines that stood before"),
        "repeated_line_character_share": ("1", -1, "share of characters in such lines"),
        **{
            f"top_{n}_gram_share": ("1", -1, f"share of characters in the most frequent {n}-gram of words")
            for n in (2, 3, 4)
        },
        **{
            f"repeated_{n}_gram_share": ("1", -1, f"share of characters in {n}-grams that stood before")
            for n in range(5, 11)
        },
    },
    "c4": {
        "c4_n_sentences": ("sentences", 1, "sentences in the lines that C4 leaves"),
        "c4_has_lorem_ipsum": ("flag", -1, 'whether a line left says "lorem ipsum"'),
        "c4_has_curly_bracket": ("flag", -1, 'whether a line left holds "{"'),
        "c4_n_kept_lines": ("lines", 1, "lines left"),
        "c4_n_lines_word_too_long": ("lines", -1, "lines gone for a very long word"),
        "c4_n_lines_no_end_of_a_sentence": ("lines", -1, "lines gone for not ending a sentence"),
        "c4_n_lines_too_few_words": ("lines", -1, "lines gone for too few words"),
        "c4_n_lines_javascript": ("lines", -1, 'lines gone for "javascript"'),
        "c4_n_lines_policy_notice": ("lines", -1, "lines gone for speaking of policies or cookies"),
        C4_SPANS: ("spans", 0, "lines and parts of lines that go, and why"),
    },
    "mc4": {
        "mc4_n_lines": ("lines", 0, "pieces between newlines"),
        "mc4_third_longest_line": ("characters", 1, "length of the third longest of them"),
    },
    "fineweb": {
        "fineweb_terminal_line_share": ("1", 1, "share of lines that end with an end mark"),
        "fineweb_short_line_share": ("1", -1, "share of short lines"),
        "fineweb_repeated_line_character_share": ("1", -1, "share of characters in lines that stood before"),
        "fineweb_newline_ratio": ("1", -1, "newlines a word"),
    },
    "dolma": {
        "dolma_n_words": ("words", 0, "what white space parts"),
        "dolma_median_word_length": ("characters", 0, "median length of those words"),
        "dolma_symbol_word_share": ("1", -1, 'share of words with "#" or the character of three dots'),
        "dolma_alphabetic_word_share": ("1", 1, "share of words with a letter"),
        "dolma_n_required_words": ("words", 1, "how often the required words occur in all"),
        "dolma_bullet_line_share": ("1", -1, "share of lines that begin with an asterisk or a dash"),
        "dolma_ellipsis_line_share": ("1", -1, "share of lines that end with the character of three dots"),
        "dolma_repeated_line_share": ("1", -1, "share of lines that have their like"),
        "dolma_repeated_line_character_ratio": ("1", -1, "characters in such lines, a character of a word"),
        **{
            f"dolma_top_{n}_gram_share": ("1", -1, f"share of the words' characters in the top {n}-gram")
            for n in (2, 3, 4)
        },
        **{
            f"dolma_repeated_{n}_gram_share": ("1", -1, f"share of {n}-gram characters in those with a like")
            for n in range(5, 11)
        },
    },
}


def describe(spec: RulesSpec) -> list[ColumnInfo]:
    """The columns of a resolved spec, in the order in which they are measured."""
    meanings: dict[str, Meaning] = dict(_ALWAYS)
    for family in _MEANINGS:
        meanings |= _MEANINGS[family] if family in spec.families else {}
    for rule in spec.columns:
        meanings[f"field_{rule.field}"] = ("1", 0, f"the field {rule.field} as a number")
    return [
        ColumnInfo(
            name=name,
            unit=unit,
            direction=_direction(sign),
            span=_SPAN,
            version=STATISTICS_VERSION,
            summary=summary,
        )
        for name, (unit, sign, summary) in meanings.items()
    ]


def _direction(sign: int) -> Literal[-1, 0, 1]:
    return 1 if sign > 0 else -1 if sign < 0 else 0
