"""The thresholds of the published page rules, one model a family, with the defaults of the papers and ports.

A threshold that is null switches its rule off. What changes a measurement itself (stop words, the length of a
short line, which lines C4 takes out) is marked "measured": changing it measures again, while a threshold only
judges again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "STOP_WORDS",
    "C4Spec",
    "DolmaSpec",
    "FineWebSpec",
    "GopherQualitySpec",
    "GopherRepetitionSpec",
    "Mc4Spec",
]

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_SHARE: dict[str, Any] = {"ge": 0.0, "le": 1.0}
_COUNT: dict[str, Any] = {"ge": 0}


class _Family(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: ClassVar[str]


class GopherQualitySpec(_Family):
    """Gopher's quality rules; words made of symbols alone are no words, lengths are in characters."""

    source: ClassVar[str] = "Rae et al. 2021, arXiv:2112.11446, table A1"

    min_words: int | None = Field(50, **_COUNT, description="A page with fewer words goes.")
    max_words: int | None = Field(100_000, **_COUNT, description="A page with more words goes.")
    min_mean_word_length: float | None = Field(
        3, ge=0, description="A page with shorter words on average goes, characters."
    )
    max_mean_word_length: float | None = Field(
        10, ge=0, description="A page with longer words on average goes, characters."
    )
    max_hash_ratio: float | None = Field(0.1, ge=0, description='Most "#" a word.')
    max_ellipsis_ratio: float | None = Field(0.1, ge=0, description="Most ellipses a word.")
    max_bullet_lines: float | None = Field(
        0.9, **_SHARE, description="Largest share of lines that begin with a bullet or a dash."
    )
    max_ellipsis_lines: float | None = Field(
        0.3, **_SHARE, description="Largest share of lines that end with an ellipsis."
    )
    min_alphabetic_words: float | None = Field(
        0.8,
        **_SHARE,
        description="Smallest share of words with a letter; with `words: spacy` of words and "
        "punctuation, as datatrove counts, which is far stricter.",
    )
    min_stop_words: int | None = Field(
        2, **_COUNT, description="A page with fewer different stop words goes."
    )
    stop_words: tuple[str, ...] = Field(
        STOP_WORDS, max_length=10_000, description="The stop words, as they stand in text (measured)."
    )


class GopherRepetitionSpec(_Family):
    """Gopher's repetition rules: largest shares of lines, paragraphs and characters that are repetition.

    Read as in datatrove: a repeated element counts from its second time on, and characters are shares of the
    whole text. Dolma counts every member and only the characters of words, so thresholds are not portable.
    """

    source: ClassVar[str] = "Rae et al. 2021, arXiv:2112.11446, table A1"

    max_repeated_paragraphs: float | None = Field(
        0.30, **_SHARE, description="Largest share of paragraphs that stood before."
    )
    max_repeated_paragraph_characters: float | None = Field(
        0.20, **_SHARE, description="Largest share of characters in such paragraphs."
    )
    max_repeated_lines: float | None = Field(
        0.30, **_SHARE, description="Largest share of lines that stood before."
    )
    max_repeated_line_characters: float | None = Field(
        0.20, **_SHARE, description="Largest share of characters in such lines."
    )
    max_top_2_gram: float | None = Field(
        0.20, ge=0, description="Largest share of characters in the most frequent pair of words."
    )
    max_top_3_gram: float | None = Field(0.18, ge=0, description="The same of three words.")
    max_top_4_gram: float | None = Field(0.16, ge=0, description="The same of four words.")
    max_repeated_5_gram: float | None = Field(
        0.15, **_SHARE, description="Largest share of characters in runs of five words that stood before."
    )
    max_repeated_6_gram: float | None = Field(0.14, **_SHARE, description="The same of six words.")
    max_repeated_7_gram: float | None = Field(0.13, **_SHARE, description="The same of seven words.")
    max_repeated_8_gram: float | None = Field(0.12, **_SHARE, description="The same of eight words.")
    max_repeated_9_gram: float | None = Field(0.11, **_SHARE, description="The same of nine words.")
    max_repeated_10_gram: float | None = Field(0.10, **_SHARE, description="The same of ten words.")


class C4Spec(_Family):
    """C4's line rules, which cut lines, and its page rules, which look at the lines left."""

    source: ClassVar[str] = "Raffel et al. 2020, arXiv:1910.10683, section 2.2"

    max_word_characters: int | None = Field(
        1000, ge=1, description="A line with a longer word goes, characters (measured)."
    )
    cites_removed: bool = Field(
        True, description="Whether [1], [edit] and [citation needed] are cut out (measured)."
    )
    ends_required: bool = Field(
        True, description="Whether a line that does not end with . ? ! or a straight quote goes (measured)."
    )
    min_words_per_line: int = Field(3, ge=1, description="A line with fewer words goes (measured).")
    javascript_removed: bool = Field(
        True, description='Whether a line that says "javascript" goes (measured).'
    )
    policies_removed: bool = Field(
        True,
        description="Whether a line goes that speaks of terms of use, cookies or privacy (measured).",
    )
    drops_lorem_ipsum: bool = Field(
        True, description='Whether a page goes of which a line left says "lorem ipsum".'
    )
    drops_curly_brackets: bool = Field(
        True, description='Whether a page goes of which a line left holds "{".'
    )
    min_sentences: int | None = Field(
        5, **_COUNT, description="A page with fewer sentences in the lines left goes."
    )
    is_published: bool = Field(
        False,
        description="Whether words are counted before citations go and nothing is stripped afterwards, as in "
        "public filters; else running twice is running once (measured).",
    )
    cuts: bool = Field(True, description="Whether the lines are cut out of the text, or only marked.")


class Mc4Spec(_Family):
    """The paragraph rule of mC4."""

    source: ClassVar[str] = "Xue et al. 2021, arXiv:2010.11934, section 3.1"

    min_lines: int | None = Field(3, **_COUNT, description="A page with fewer lines goes.")
    min_third_longest_line: int | None = Field(
        200, **_COUNT, description="A page goes whose third longest line is shorter, characters."
    )


class FineWebSpec(_Family):
    """FineWeb's own rules, on lines that are not blank."""

    source: ClassVar[str] = "Penedo et al. 2024, arXiv:2406.17557, section 3.5"

    min_terminal_lines: float | None = Field(
        0.12, **_SHARE, description="Smallest share of lines that end with an end mark of any script."
    )
    max_short_lines: float | None = Field(0.67, **_SHARE, description="Largest share of short lines.")
    short_line_characters: int = Field(
        30, ge=0, description="A line of at most so many characters is short (measured)."
    )
    max_repeated_line_characters: float | None = Field(
        0.01,
        **_SHARE,
        description="Largest share of characters in lines that stood before; the public code has 0.01, the "
        "paper and FineWeb-2 0.1.",
    )
    max_newlines_per_word: float | None = Field(0.3, ge=0, description="Most newlines a word.")
    text: Literal["original", "after_c4"] = Field(
        "original",
        description="Whether lines are looked at as they are, or as C4's line rules leave them (measured).",
    )


class DolmaSpec(_Family):
    """The web rules of Dolma 1.5: white space parts words, every member of a repetition counts.

    Dolma's published configuration names three attributes that its tagger does not write, so that the rules
    on the most frequent 2-, 3- and 4-gram never fired there; here they do.
    """

    source: ClassVar[str] = "Soldaini et al. 2024, arXiv:2402.00159"

    min_words: int | None = Field(50, **_COUNT, description="A page with fewer words goes.")
    max_words: int | None = Field(100_000, **_COUNT, description="A page with more words goes.")
    min_median_word_length: float | None = Field(
        3, ge=0, description="A page with a smaller median word length goes, characters."
    )
    max_median_word_length: float | None = Field(
        10, ge=0, description="A page with a larger median word length goes, characters."
    )
    max_symbol_words: float | None = Field(
        0.1, **_SHARE, description='Largest share of words that hold "#" or the character of three dots.'
    )
    min_alphabetic_words: float | None = Field(
        0.8, **_SHARE, description="Smallest share of words with a letter."
    )
    min_required_words: int | None = Field(
        2, **_COUNT, description="A page goes in which the required words occur fewer times in all."
    )
    required_words: tuple[str, ...] = Field(
        STOP_WORDS, max_length=10_000, description="The required words, as they stand in text (measured)."
    )
    max_bullet_lines: float | None = Field(
        0.9, **_SHARE, description="Largest share of lines that begin with an asterisk or a dash."
    )
    max_ellipsis_lines: float | None = Field(
        0.3, **_SHARE, description="Largest share of lines that end with the character of three dots."
    )
    max_repeated_lines: float | None = Field(
        0.30, **_SHARE, description="Largest share of lines that have their like."
    )
    max_repeated_line_characters: float | None = Field(
        0.30, ge=0, description="Most characters in such lines, a character of a word."
    )
    max_top_2_gram: float | None = Field(
        0.20, ge=0, description="Largest share of the words' characters in the most frequent pair of words."
    )
    max_top_3_gram: float | None = Field(0.18, ge=0, description="The same of three words.")
    max_top_4_gram: float | None = Field(0.16, ge=0, description="The same of four words.")
    max_repeated_5_gram: float | None = Field(
        0.15,
        **_SHARE,
        description="Largest share of all five-word runs' characters in those with a like.",
    )
    max_repeated_6_gram: float | None = Field(0.14, **_SHARE, description="The same of six words.")
    max_repeated_7_gram: float | None = Field(0.13, **_SHARE, description="The same of seven words.")
    max_repeated_8_gram: float | None = Field(0.12, **_SHARE, description="The same of eight words.")
    max_repeated_9_gram: float | None = Field(0.11, **_SHARE, description="The same of nine words.")
    max_repeated_10_gram: float | None = Field(0.10, **_SHARE, description="The same of ten words.")
