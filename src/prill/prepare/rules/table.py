"""The table of rules: for each its reason, the column it looks at, the comparison, the threshold, the source.

Verdicts, reports and documentation all read this one table, so none of them can say another thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from prill.prepare.rules.spec import Comparison, Family, RulesSpec

__all__ = ["EMPTY", "Rule", "rule_table"]

EMPTY: Final = "empty"
"""The reason of a page without a word."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: a page goes when its value in `column` stands to `threshold` as `comparison` says.

    Attributes:
        reason: as users read it; the key of the verdicts.
        family: of rules, or `columns` for one that the recipe made.
        source: the paper.
        drops_missing: whether a page without a value goes.
    """

    reason: str
    family: str
    column: str
    comparison: Comparison
    threshold: float
    source: str
    drops_missing: bool = False


Line = tuple[str, str, Comparison, str]
"""Field of the family's spec, column, comparison, reason with {} for the threshold."""

_GOPHER_QUALITY: tuple[Line, ...] = (
    ("min_words", "gopher_n_words", "<", "gopher: fewer than {} words"),
    ("max_words", "gopher_n_words", ">", "gopher: more than {} words"),
    ("min_mean_word_length", "gopher_mean_word_length", "<", "gopher: mean word length below {}"),
    ("max_mean_word_length", "gopher_mean_word_length", ">", "gopher: mean word length above {}"),
    ("max_hash_ratio", "gopher_hash_ratio", ">", 'gopher: more than {} "#" a word'),
    ("max_ellipsis_ratio", "gopher_ellipsis_ratio", ">", "gopher: more than {} ellipses a word"),
    ("max_bullet_lines", "gopher_bullet_line_share", ">", "gopher: bullet lines above {}"),
    ("max_ellipsis_lines", "gopher_ellipsis_line_share", ">", "gopher: lines ending in an ellipsis above {}"),
    ("min_alphabetic_words", "gopher_alphabetic_word_share", "<", "gopher: words with a letter below {}"),
    ("min_stop_words", "gopher_n_stop_words", "<", "gopher: fewer than {} different stop words"),
)
_GOPHER_REPETITION: tuple[Line, ...] = (
    ("max_repeated_paragraphs", "repeated_paragraph_share", ">", "gopher: repeated paragraphs above {}"),
    (
        "max_repeated_paragraph_characters",
        "repeated_paragraph_character_share",
        ">",
        "gopher: characters in repeated paragraphs above {}",
    ),
    ("max_repeated_lines", "repeated_line_share", ">", "gopher: repeated lines above {}"),
    (
        "max_repeated_line_characters",
        "repeated_line_character_share",
        ">",
        "gopher: characters in repeated lines above {}",
    ),
    *(
        (f"max_top_{n}_gram", f"top_{n}_gram_share", ">", f"gopher: top {n}-gram above {{}}")
        for n in (2, 3, 4)
    ),
    *(
        (f"max_repeated_{n}_gram", f"repeated_{n}_gram_share", ">", f"gopher: repeated {n}-grams above {{}}")
        for n in range(5, 11)
    ),
)
_C4: tuple[Line, ...] = (
    ("drops_lorem_ipsum", "c4_has_lorem_ipsum", ">=", "c4: lorem ipsum"),
    ("drops_curly_brackets", "c4_has_curly_bracket", ">=", "c4: curly bracket"),
    ("min_sentences", "c4_n_sentences", "<", "c4: fewer than {} sentences"),
)
_MC4: tuple[Line, ...] = (
    ("min_lines", "mc4_n_lines", "<", "mc4: fewer than {} lines"),
    (
        "min_third_longest_line",
        "mc4_third_longest_line",
        "<",
        "mc4: third longest line below {} characters",
    ),
)
_FINEWEB: tuple[Line, ...] = (
    ("min_terminal_lines", "fineweb_terminal_line_share", "<", "fineweb: lines with an end mark below {}"),
    ("max_short_lines", "fineweb_short_line_share", ">", "fineweb: short lines above {}"),
    (
        "max_repeated_line_characters",
        "fineweb_repeated_line_character_share",
        ">",
        "fineweb: characters in repeated lines above {}",
    ),
    ("max_newlines_per_word", "fineweb_newline_ratio", ">", "fineweb: newlines a word above {}"),
)
_DOLMA: tuple[Line, ...] = (
    ("min_words", "dolma_n_words", "<", "dolma: fewer than {} words"),
    ("max_words", "dolma_n_words", ">", "dolma: more than {} words"),
    ("min_median_word_length", "dolma_median_word_length", "<", "dolma: median word length below {}"),
    ("max_median_word_length", "dolma_median_word_length", ">", "dolma: median word length above {}"),
    ("max_symbol_words", "dolma_symbol_word_share", ">", "dolma: words with a symbol above {}"),
    ("min_alphabetic_words", "dolma_alphabetic_word_share", "<", "dolma: words with a letter below {}"),
    ("min_required_words", "dolma_n_required_words", "<", "dolma: fewer than {} required words"),
    ("max_bullet_lines", "dolma_bullet_line_share", ">", "dolma: bullet lines above {}"),
    ("max_ellipsis_lines", "dolma_ellipsis_line_share", ">", "dolma: lines ending in an ellipsis above {}"),
    ("max_repeated_lines", "dolma_repeated_line_share", ">", "dolma: repeated lines above {}"),
    (
        "max_repeated_line_characters",
        "dolma_repeated_line_character_ratio",
        ">",
        "dolma: characters in repeated lines above {}",
    ),
    *(
        (f"max_top_{n}_gram", f"dolma_top_{n}_gram_share", ">", f"dolma: top {n}-gram above {{}}")
        for n in (2, 3, 4)
    ),
    *(
        (
            f"max_repeated_{n}_gram",
            f"dolma_repeated_{n}_gram_share",
            ">",
            f"dolma: repeated {n}-grams above {{}}",
        )
        for n in range(5, 11)
    ),
)

_FAMILIES: dict[Family, tuple[Callable[[RulesSpec], BaseModel], tuple[Line, ...]]] = {
    "gopher_quality": (lambda spec: spec.gopher_quality, _GOPHER_QUALITY),
    "gopher_repetition": (lambda spec: spec.gopher_repetition, _GOPHER_REPETITION),
    "c4": (lambda spec: spec.c4, _C4),
    "mc4": (lambda spec: spec.mc4, _MC4),
    "fineweb": (lambda spec: spec.fineweb, _FINEWEB),
    "dolma": (lambda spec: spec.dolma, _DOLMA),
}


def rule_table(spec: RulesSpec) -> tuple[Rule, ...]:
    """The rules of a resolved spec in the order in which they judge; those switched off are left out."""
    rules = [Rule(reason=EMPTY, family="all", column="n_words", comparison="<", threshold=1, source="")]
    for family in spec.families:
        settings_of, lines = _FAMILIES[family]
        settings = settings_of(spec)
        for field, column, comparison, reason in lines:
            threshold = getattr(settings, field)
            if threshold is None or threshold is False:
                continue
            rules.append(
                Rule(
                    reason=reason.format(f"{threshold:,}"),
                    family=family,
                    column=column,
                    comparison=comparison,
                    threshold=float(threshold),
                    source=type(settings).source,  # type: ignore[attr-defined]
                )
            )
    return (*rules, *_column_rules(spec))


def _column_rules(spec: RulesSpec) -> list[Rule]:
    words = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}
    return [
        Rule(
            reason=f"{rule.field} {words[rule.drops]} {rule.threshold:,g}",
            family="columns",
            column=f"field_{rule.field}",
            comparison=rule.drops,
            threshold=rule.threshold,
            source="the recipe",
            drops_missing=rule.missing == "drop",
        )
        for rule in spec.columns
    ]
