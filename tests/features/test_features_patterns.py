"""Lists of patterns against plain Python: words, phrases, substrings of any script, lists meant to hurt."""

import itertools
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from made_text import texts
from prill.errors import InternalError
from prill.features.patterns import Mode, Patterns, n_tokens, normal_form

LETTERS = "aAbB kK\u212aİıßẞσΣé́中文🙂.,+*\u200d\n\t_1Ⱥⱥ"
TEXT = st.text(alphabet=LETTERS, max_size=40) | st.text(alphabet="ab c\u212aé中.", min_size=60, max_size=90)
PATTERNS = st.lists(st.text(alphabet=LETTERS, min_size=1, max_size=6), min_size=1, max_size=6)


def spans(patterns: Patterns, document: str) -> list[tuple[int, int]]:
    """With and without text behind: the end of a column takes another way through the kernels."""
    pairs = []
    for behind in ([], [" " * 200]):
        found = patterns.find(texts(["before", document, *behind]))
        assert found.offsets[0] == 0
        a, b = found.offsets[1:3]
        pairs.append(list(zip(found.starts[a:b].tolist(), found.stops[a:b].tolist(), strict=True)))
    assert pairs[0] == pairs[1]
    return pairs[0]


def matched(patterns: Patterns, document: str) -> list[str]:
    return [document.encode()[a:b].decode() for a, b in spans(patterns, document)]


def is_word(character: str) -> bool:
    is_mark = unicodedata.category(character) in ("Mn", "Mc", "Me") or character in "\u200c\u200d"
    return character.isalnum() or character == "_" or is_mark


def boundaries(document: str) -> set[int]:
    """Positions in characters where a token begins or ends."""
    places = {0, len(document)}
    for i in range(1, len(document)):
        if not (is_word(document[i - 1]) and is_word(document[i])):
            places.add(i)
    return places


def expected(patterns: Patterns, document: str) -> list[tuple[int, int]]:
    """Every stretch of the document whose normal form is listed, joined where they overlap."""
    edges = boundaries(document)
    hits = []
    longest = 2 * max(map(len, patterns.forms)) + 20
    for a, b in itertools.combinations(range(len(document) + 1), 2):
        if b - a > longest:
            continue
        piece = document[a:b]
        if patterns.mode != "substring" and (
            a not in edges or b not in edges or piece[0].isspace() or piece[-1].isspace()
        ):
            continue
        if normal_form(piece, patterns.mode, ignore_case=patterns.ignore_case) in patterns.forms:
            hits.append((len(document[:a].encode()), len(document[:b].encode())))
    union: list[tuple[int, int]] = []
    for start, stop in sorted(hits):
        if union and start < union[-1][1]:
            union[-1] = (union[-1][0], max(stop, union[-1][1]))
        else:
            union.append((start, stop))
    return union


@settings(max_examples=150)
@given(PATTERNS, TEXT, st.sampled_from(["phrase", "substring"]), st.booleans())
@example(["kk", "k"], "a\u212a\u212aK kKk", "substring", True)
@example(["a b", "b c d", "c"], "A  b c\nd", "phrase", True)
@example(["ab+", "+"], "ab++ ab + ab+", "phrase", True)
def test_spans_are_the_union_of_all_matches(
    patterns: list[str], document: str, mode: Mode, ignore_case: bool
) -> None:
    if not any(normal_form(p, mode, ignore_case=ignore_case) for p in patterns):
        return
    listed = Patterns.of(patterns, mode=mode, ignore_case=ignore_case)
    assert spans(listed, document) == expected(listed, document)


def test_a_word_matches_whole_words_only() -> None:
    words = Patterns.of(["cat", "naïve", "C++", "हिन्दी"], mode="phrase")
    assert matched(words, "Cat concat cats NAÏVE naïvely c++, c ++ हिन्दी हिन्दीभ") == [
        "Cat",
        "NAÏVE",
        "c++",
        "हिन्दी",
    ]
    assert matched(Patterns.of(["cat"], mode="substring"), "concat Cats") == ["cat", "Cat"]
    assert matched(Patterns.of(["cat"], mode="token", ignore_case=False), "Cat cat") == ["cat"]


def test_long_tokens_and_huge_documents_pass_through() -> None:
    phrases = Patterns.of(["x y", "end"], mode="phrase")
    document = "x" * 3_000_000 + " x\n" + " " * 1_000_000 + "y" + "é" * 1_000_000 + " x \u3000y end"
    assert [m.split() for m in matched(phrases, document)] == [["x", "y"], ["end"]]


@pytest.mark.parametrize("mode", ["phrase", "substring"])
def test_a_list_meant_to_hurt_takes_linear_time(mode: Mode) -> None:
    # every prefix of one phrase is listed, and the text repeats its first word: most chains stay open longest
    words = ["a"] * 120 + ["b"]
    patterns = Patterns.of([" ".join(words[k:]) for k in range(120)], mode=mode)
    patterns.find(texts(["a b"]))
    seconds = []
    for n in (20_000, 80_000):
        begin = time.thread_time()
        found = patterns.find(texts(["a " * n]))
        seconds.append(time.thread_time() - begin)
        assert found.offsets.tolist() == [0, 0]
    assert seconds[1] < 12 * seconds[0] + 0.2  # four times the text; sixteen times were quadratic


def test_order_and_doubles_change_neither_result_nor_digest() -> None:
    a = Patterns.of(["one two", "Three", "three", " one  two"], mode="phrase")
    b = Patterns.of(["three", "one two"], mode="phrase")
    assert a == b
    assert a.digest == b.digest != Patterns.of(["three", "one two"], mode="substring").digest


def test_many_patterns_find_what_each_finds() -> None:
    words = [f"w{i * 7919 % 100_003}x" for i in range(50_000)]
    document = " ".join(f"w{i}x W{i}X w{i}" for i in range(0, 100_000, 3))
    listed = set(words)
    expected_words = [w for w in document.split() if w.lower() in listed]
    for mode in ("token", "substring"):
        assert matched(Patterns.of(words, mode=mode), document) == expected_words  # type: ignore[arg-type]


def test_lists_that_cannot_be_searched_for_are_refused() -> None:
    for patterns in ([], ["  "], ["x" * 300]):
        with pytest.raises(InternalError):
            Patterns.of(patterns, mode="phrase")


def test_tokens_are_words_and_single_symbols() -> None:
    assert [n_tokens(form) for form in ("c++", "do not", "हिन्दी", "a.b", "中文", "🙂🙂")] == [
        3,
        2,
        1,
        3,
        1,
        2,
    ]
