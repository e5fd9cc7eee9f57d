"""The statistics of documents in plain Python, to be read and to test the kernels against. Slow."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence

from prill.features._character_classes import SYMBOL, TERMINAL, class_table
from prill.features.statistics import C4Reading, Splitter

__all__ = ["c4_lines", "line_counts", "word_counts", "words_of"]

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


def words_of(text: str, splitter: Splitter) -> list[str]:
    """The words of a document, for the splitters that are one expression."""
    return text.split() if splitter == "spaces" else re.findall(r"\w+|[^\w\s]+", text)


def word_counts(words: Sequence[str], stop_words: Sequence[str]) -> dict[str, int]:
    """As `statistics.count_words`."""
    real = [word for word in words if not all(_is(c, SYMBOL) for c in word)]
    stops = [word for word in words if word in stop_words]
    counts = {
        "n_words": len(words),
        "n_real_words": len(real),
        "real_word_characters": sum(map(len, real)),
        "n_alphabetic_words": sum(any(c.isalpha() for c in word) for word in words),
        "n_stop_words_distinct": len(set(stops)),
        "n_stop_words": len(stops),
        "n_symbol_words": sum("#" in word or "…" in word for word in words),
        "word_characters": sum(map(len, words)),
        "median_word_length_doubled": int(2 * statistics.median(map(len, words))) if words else 0,
    }
    for n in (2, 3, 4):
        top, count = (Counter(_ngrams(words, n)).most_common(1) or [((), 0)])[0]
        counts[f"top_{n}_gram_count"] = count
        counts[f"top_{n}_gram_characters"] = sum(map(len, top))
    for n in range(5, 11):
        found = Counter(_ngrams(words, n))
        counts[f"repeated_{n}_gram_characters"] = _repeated(words, n)
        counts[f"shared_{n}_gram_characters"] = sum(
            count * sum(map(len, ngram)) for ngram, count in found.items() if count > 1
        )
        counts[f"all_{n}_gram_characters"] = sum(
            count * sum(map(len, ngram)) for ngram, count in found.items()
        )
    return counts


def line_counts(text: str, short_characters: int) -> dict[str, int]:
    """As `statistics.count_lines`."""
    lines = text.splitlines()
    runs = re.split(r"\n+", text) if text else []
    paragraphs = re.split(r"\n{2,}", text.strip()) if text else []
    content = [line for line in text.split("\n") if line.strip()]
    often = {run: count for run, count in Counter(runs).items() if count > 1}
    lengths = sorted((len(line) for line in text.split("\n")), reverse=True)
    return {
        "n_hashes": text.count("#"),
        "n_ellipses": text.count("...") + text.count("…"),
        "n_newlines": text.count("\n"),
        "n_lines": len(lines),
        "n_bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines),
        "n_ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines),
        "n_runs": len(runs),
        "n_repeated_runs": len(_again(runs)),
        "repeated_run_characters": sum(map(len, _again(runs))),
        "n_shared_runs": sum(often.values()),
        "shared_run_characters": sum(len(run) * count for run, count in often.items()),
        "n_dash_runs": sum(run.startswith(("*", "-")) for run in runs),
        "n_dotted_runs": sum(run.endswith("…") for run in runs),
        "n_paragraphs": len(paragraphs),
        "n_repeated_paragraphs": len(_again(paragraphs)),
        "repeated_paragraph_characters": sum(map(len, _again(paragraphs))),
        "n_content_lines": len(content),
        "n_terminal_lines": sum(_is(line[-1], TERMINAL) for line in content),
        "n_short_lines": sum(len(line) <= short_characters for line in content),
        "repeated_line_characters": sum(map(len, _again(content))),
        "third_longest_line": lengths[2] if len(lengths) > 2 else 0,
    }


def c4_lines(text: str, reading: C4Reading) -> tuple[str, dict[str, int]]:
    """The text that C4's line rules leave, and the counts of `statistics.judge_c4_lines`."""
    counts: Counter[str] = Counter()
    kept = []
    for line in text.splitlines():
        reason, cleaned = _judge(line.strip(), reading, counts)
        if reason:
            counts[f"n_lines_{reason}"] += 1
        else:
            counts["n_kept_lines"] += 1
            kept.append(cleaned)
    counts["n_sentences"] = sum(_n_sentences(line) for line in kept)
    return "\n".join(kept), counts


def _judge(line: str, reading: C4Reading, counts: Counter[str]) -> tuple[str, str]:
    """Why a line goes, empty if it stays, and what is left of it."""
    words = line.split()
    if reading.cites_removed:
        line = _CITATION.sub("", line) if reading.is_published else _without_citations(line).strip()
    if not reading.is_published:
        words = line.split()
    if not words:
        return "blank_line", ""
    longest = reading.max_word_characters
    if longest is not None and any(len(word) > longest for word in words):
        return "word_too_long", ""
    if reading.ends_required and (not line.endswith(tuple(".?!\"'")) or line.endswith("...")):
        return "no_end_of_a_sentence", ""
    if len(words) < reading.min_words:
        return "too_few_words", ""
    low = line.lower()
    if "lorem ipsum" in low and "lorem ipsum" in reading.phrases:
        counts["has_lorem_ipsum"] = 1
    elif "javascript" in low and "javascript" in reading.phrases:
        return "javascript", ""
    elif "{" in low and "{" in reading.phrases:
        counts["has_curly_bracket"] = 1
    elif any(phrase in low for phrase in _POLICIES) and "policy" in reading.phrases:
        return "policy_notice", ""
    return "", line


def _without_citations(line: str) -> str:
    """The line without citations, and without those that appear when others are gone."""
    shorter = _CITATION.sub("", line, count=1)
    return line if shorter == line else _without_citations(shorter)


def _n_sentences(line: str) -> int:
    n, ended = 1, False
    for i, c in enumerate(line):
        if _is(c, TERMINAL):
            ended = True
        elif ended and c.isspace() and line[i:].strip():
            n, ended = n + 1, False
        elif ended and not _is_mark(c):
            ended = False
    return n


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _repeated(words: Sequence[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    n_characters = i = 0
    while i <= len(words) - n:
        ngram = tuple(words[i : i + n])
        if ngram in seen:
            n_characters += sum(map(len, ngram))
            i += n
        else:
            seen.add(ngram)
            i += 1
    return n_characters


def _again(pieces: Sequence[str]) -> list[str]:
    """Every piece from its second time on."""
    seen: set[str] = set()
    return [piece for piece in pieces if piece in seen or seen.add(piece)]  # type: ignore[func-returns-value]


def _is(character: str, flag: int) -> bool:
    return bool(class_table()[ord(character)] & flag)


def _is_mark(character: str) -> bool:
    import unicodedata

    return unicodedata.category(character)[0] == "P"
