"""English words as spaCy splits them, in plain Python with `re`: the reference for the kernel, and slow.

Text is cut at white space. A piece with a split of its own takes that; from any other, one prefix and one
suffix at a time are taken off, until neither is there or what is left has a split of its own. What is left
is a word when it looks like a URL, else it is cut at infixes. Last, neighbouring words that together spell an
exception which affixes had broken up are put together again: the longest first.

Source: spaCy 3.8, `Tokenizer` and `lang/en` (Honnibal et al.), as datatrove 0.10 uses it: words that are
white space are left out. Differs: spaCy fails on the word IS_ALPHA, and datatrove then splits the text
without it; here it is a word like any other.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prill.features import _spacy_tables as tables

__all__ = ["Rules", "count_sentences", "rules", "split_words"]

_SPACES = re.compile(r"\s+")
_TLD = "[{lower}]{{2,63}}"
_URL = (
    r"^(?:(?:[\w\+\-\.]{{2,}})://)?(?:\S+(?::\S*)?@)?"
    r"(?:(?!(?:10|127)(?:\.\d{{1,3}}){{3}})(?!(?:169\.254|192\.168)(?:\.\d{{1,3}}){{2}})"
    r"(?!172\.(?:1[6-9]|2\d|3[0-1])(?:\.\d{{1,3}}){{2}})"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{{1,2}}|2[0-4]\d|25[0-5])){{2}}"
    r"(?:\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4]))"
    r"|(?:(?:[{host}][{host}_-]{{0,62}})?[{host}]\.)+" + _TLD + r")(?::\d{{2,5}})?(?:[/?#]\S*)?$"
)
"""A URL, its scheme optional, after the pattern of Diego Perini that spaCy uses."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Compiled patterns, and the exceptions with their words.

    Attributes:
        broken: exceptions that prefixes, suffixes or infixes occur in, by the words that they fall into.
    """

    prefix: re.Pattern[str]
    suffix: re.Pattern[str]
    infix: re.Pattern[str]
    url: re.Pattern[str]
    exceptions: dict[str, tuple[str, ...]]
    broken: dict[tuple[str, ...], str]


@functools.cache
def rules() -> Rules:
    """The rules for English."""
    exceptions = tables.exceptions()
    plain = Rules(
        prefix=re.compile(_prefix()),
        suffix=re.compile("|".join(f"{piece}$" for piece in _suffixes())),
        infix=re.compile("|".join(_infixes())),
        url=re.compile(_URL.format(host=r"A-Za-z0-9\u00a1-\uffff", lower=_members(tables.letters()[1]))),
        exceptions={},
        broken={},
    )
    broken = {
        tuple(split_piece(piece, plain)): piece
        for piece in exceptions
        if plain.prefix.search(piece) or plain.suffix.search(piece) or plain.infix.search(piece)
    }
    return Rules(
        prefix=plain.prefix,
        suffix=plain.suffix,
        infix=plain.infix,
        url=plain.url,
        exceptions=exceptions,
        broken=broken,
    )


def split_words(text: str) -> list[str]:
    """The words of a text."""
    words, pieces = _all_words(text)
    return [word for word, piece in zip(words, pieces, strict=True) if piece >= 0]


def count_sentences(text: str) -> int:
    """Sentences of a text: one ends before the first word behind a mark that is not punctuation alone.

    White space is a word here, but for one blank behind a word, so that it can begin a sentence.

    Source: spaCy 3.8, `Sentencizer`.
    """
    marks = set(map(chr, tables.code_points(tables.SENTENCE_MARKS)))
    n_sentences, has_ended = 1, False
    for word in _all_words(text)[0]:
        is_punctuation = all(unicodedata.category(character)[0] == "P" for character in word)
        if has_ended and not is_punctuation and word not in marks:
            n_sentences, has_ended = n_sentences + 1, False
        elif word in marks:
            has_ended = True
    return n_sentences


def _all_words(text: str) -> tuple[list[str], list[int]]:
    """All words, white space too, and the number of the piece that each is of; -1 for white space."""
    known = rules()
    words: list[str] = []
    pieces: list[int] = []
    at = 0
    for n, gap in enumerate([*_SPACES.finditer(text), None]):
        if gap is None or gap.start() > at:
            found = _split_known(text[at : gap.start() if gap else None]) if at < len(text) else ()
            words += found
            pieces += [n] * len(found)
        if gap is not None:
            space = gap.group()
            space = space[1:] if space[0] == " " and gap.start() > 0 else space
            words += [space] if space else []
            pieces += [-1] if space else []
            at = gap.end()
    return _mend(words, pieces, known)


@functools.lru_cache(maxsize=1 << 16)
def _split_known(piece: str) -> tuple[str, ...]:
    known = rules()
    return known.exceptions.get(piece) or tuple(split_piece(piece, known))


def split_piece(piece: str, known: Rules) -> list[str]:
    """The words of a piece without white space: affixes, exceptions in the middle, URLs, infixes."""
    before: list[str] = []
    behind: list[str] = []
    n_last = -1
    while piece and len(piece) != n_last and piece not in known.exceptions:
        n_last = len(piece)
        prefix = known.prefix.search(piece)
        n_before = prefix.end() if prefix else 0
        if piece[n_before:] in known.exceptions and n_before:
            before.append(piece[:n_before])
            piece = piece[n_before:]
            break
        suffix = known.suffix.search(piece[n_before:])
        n_behind = suffix.end() - suffix.start() if suffix else 0
        if n_behind and piece[:-n_behind] in known.exceptions:
            behind.append(piece[-n_behind:])
            piece = piece[:-n_behind]
            break
        before += [piece[:n_before]] if n_before else []
        behind += [piece[-n_behind:]] if n_behind else []
        piece = piece[n_before : len(piece) - n_behind]
    middle = (known.exceptions.get(piece) or _cut(piece, known)) if piece else ()
    return [*before, *middle, *reversed(behind)]


def _cut(piece: str, known: Rules) -> Sequence[str]:
    """A piece without affixes, cut at infixes; one at its very start counts as part of the first word."""
    if known.url.match(piece):
        return [piece]
    words, at = [], 0
    for infix in known.infix.finditer(piece):
        if infix.start() > 0:
            words += [piece[at : infix.start()], infix.group()]
            at = infix.end()
    return [word for word in (*words, piece[at:]) if word]


def _mend(words: list[str], pieces: list[int], known: Rules) -> tuple[list[str], list[int]]:
    """Put exceptions together again that lie within one piece; longer ones first, then those to the left.

    Words that lie in two pieces are matched as well, and shut out the shorter matches, but stay as they are.
    """
    spans = _matches(words, known)
    spans.sort(key=lambda span: (span[0] - span[1], span[0]))
    seen: set[int] = set()
    chosen: dict[int, tuple[int, str]] = {}
    for start, stop in spans:
        if start not in seen and stop - 1 not in seen:
            chosen[start] = (stop, known.broken[tuple(words[start:stop])])
        seen.update(range(start, stop))
    new_words: list[str] = []
    new_pieces: list[int] = []
    at = 0
    while at < len(words):
        stop, exception = chosen.get(at, (at + 1, ""))
        is_whole = exception and len(set(pieces[at:stop])) == 1
        found = known.exceptions[exception] if is_whole else words[at:stop]
        new_words += found
        new_pieces += [pieces[at]] * len(found) if is_whole else pieces[at:stop]
        at = stop
    return new_words, new_pieces


def _matches(words: Sequence[str], known: Rules) -> list[tuple[int, int]]:
    """All runs of words that an exception falls into."""
    longest = max(map(len, known.broken))
    firsts = {broken[0] for broken in known.broken}
    return [
        (start, stop)
        for start in range(len(words))
        if words[start] in firsts
        for stop in range(start + 1, min(start + longest, len(words)) + 1)
        if tuple(words[start:stop]) in known.broken
    ]


def _members(codes: Iterable[int]) -> str:
    """The inside of a character class, as ranges."""
    bounds: list[list[int]] = []
    for code in sorted(codes):
        if bounds and bounds[-1][1] == code - 1:
            bounds[-1][1] = code
        else:
            bounds.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in bounds)


def _any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, words))})"


def _icons() -> str:
    return f"[{_members(tables.code_points(tables.ICONS))}]"


def _prefix() -> str:
    """One prefix at the start: a sign, a run of periods, a currency, a plus sign not before a digit."""
    signs = f"[{_members(map(ord, '§%=—–' + tables.PUNCTUATION + tables.QUOTES))}]"
    return rf"^(?:{signs}|\+(?![0-9])|\.\.+|{_any_of(tables.CURRENCIES)}|{_icons()})"


def _suffixes() -> list[str]:
    """Suffixes; `search` takes the longest that reaches the end."""
    lower, upper = map(_members, tables.letters()[1:])
    before_period = lower + _members(map(ord, "0123456789%²-+|" + tables.PUNCTUATION + tables.QUOTES))
    return [
        f"[{_members(map(ord, '—–' + tables.PUNCTUATION + tables.QUOTES))}]",
        "……",
        r"\.\.+",
        _icons(),
        "['’][sS]",
        r"(?<=[0-9])\+",
        r"(?<=°[FfCcKk])\.",
        f"(?<=[0-9]){_any_of(tables.CURRENCIES)}",
        f"(?<=[0-9]){_any_of(tables.UNITS)}",
        rf"(?<=[{before_period}])\.",
        rf"(?<=[{upper}][{upper}])\.",
    ]


def _infixes() -> list[str]:
    letters, lower, upper = map(_members, tables.letters())
    quotes = _members(map(ord, tables.QUOTES))
    return [
        r"\.\.+",
        "…",
        _icons(),
        r"(?<=[0-9])[+\-*^](?=[0-9-])",
        rf"(?<=[{lower}{quotes}])\.(?=[{upper}{quotes}])",
        rf"(?<=[{letters}]),(?=[{letters}])",
        rf"(?<=[{letters}0-9]){_any_of(tables.HYPHENS)}(?=[{letters}])",
        rf"(?<=[{letters}0-9])[:<>=/](?=[{letters}])",
    ]
