"""Token counts and ids are those of the tokenizers library, whatever the text, the tokenizer or the memo."""

from __future__ import annotations

import copy
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus.tokenizer import PIECE_CHARACTERS, TextTokenizer, load_tokenizer, train_bpe
from prill.demo.machine_text import reference_topics
from prill.features import token_counts
from prill.features._pretoken_classes import changed_by
from prill.features._pretoken_regex import Refused, compile_pattern
from prill.features.token_counts import TokenCounter

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SHORT}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


def _byte_level(*, prefix: bool = False, regex: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def _split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


_GPT2 = _byte_level(regex=True)
_DIGITS = {"type": "Digits", "individual_digits": True}
_RUNS = {"type": "Digits", "individual_digits": False}
_PUNCTUATION = {"type": "Punctuation", "behavior": "Isolated"}
_LOWERCASE = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"pre_tokenizer": _GPT2},
    "prefix": {"pre_tokenizer": _byte_level(prefix=True, regex=True)},
    "llama3": {"pre_tokenizer": _sequence(_split(CL100K), _byte_level()), "ignore_merges": True},
    "qwen2": {
        "pre_tokenizer": _sequence(_split(CL100K.replace("{1,3}", "")), _byte_level()),
        "normalizer": {"type": "NFC"},
    },
    "o200k": {"pre_tokenizer": _sequence(_split(O200K, "Removed", invert=True), _byte_level())},
    "deepseek": {"pre_tokenizer": _sequence(*map(_split, DEEPSEEK), _byte_level())},
    "starcoder": {"pre_tokenizer": _sequence(_DIGITS, _GPT2)},
    "nfkc": {"pre_tokenizer": _sequence(_RUNS, _GPT2), "normalizer": {"type": "NFKC"}},
    "lowercase": {"pre_tokenizer": _sequence(_PUNCTUATION, _GPT2), "normalizer": _LOWERCASE},
    "one word": {"pre_tokenizer": _byte_level()},
}

SAMPLE = [
    *list(reference_topics().values())[:12],
    "naïve café 東京 Ελλάδα россия  don't I'LL we've 12345\n\n\tif (x):\r\n   y = 1.5",
]
SCRIPTS = st.one_of(
    st.text(),
    st.text(alphabet="ab'sStTlLdDrReEvVmM  \n\r\t1234567890.,!?/-_ſK", max_size=60),
    st.text(
        alphabet="éàüñçßøåÉﬁ①½²\u0301\u0308\u0323가각힣ᄀ\u1161\u11a8ภाकि東京ひらカナ\u00a0\u2028\u200b😀🇩🇪",
        max_size=40,
    ),
    st.text(alphabet="aab", max_size=200),
)


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return dict(json.loads(train_bpe(SAMPLE, 700)))


def content(base: dict[str, Any], shape: str, **changes: Any) -> bytes:
    made = copy.deepcopy(base)
    chosen = {"normalizer": None, **SHAPES[shape], **changes}
    made["model"]["ignore_merges"] = chosen.pop("ignore_merges", False)
    return json.dumps({**made, **chosen}).encode()


def check(counter: TokenCounter, library: TextTokenizer, texts: list[str]) -> int:
    """Compare counts and ids, twice each (empty and full memo); the number of documents of the library."""
    array, expected = pa.array(texts, pa.large_string()), library.encode_batch(texts)
    for _ in range(2):
        counts, n_by_library = counter.count(array)
        assert counts.tolist() == [len(ids) for ids in expected]
        for found, ids, text in zip(counter.encode_batch(texts), expected, texts, strict=True):
            assert found.tolist() == ids.tolist(), text
    return n_by_library


@pytest.mark.parametrize("shape", SHAPES)
def test_any_text_gives_the_tokens_of_the_library(base: dict[str, Any], shape: str) -> None:
    made = content(base, shape)
    counter, library = TokenCounter.of(made), load_tokenizer(made)
    assert counter.refusal == ""

    @settings(max_examples=40)
    @given(st.lists(SCRIPTS, max_size=8))
    def compare(texts: list[str]) -> None:
        assert check(counter, library, texts) == 0

    compare()


@pytest.mark.parametrize("shape", ["o200k", "nfkc"])
def test_every_assigned_character_is_classed_as_the_library_does(base: dict[str, Any], shape: str) -> None:
    made = content(base, shape)
    ideographs = [*range(0x3400, 0xA000, 16), *range(0x20000, 0x323B0, 64), *range(0x2F800, 0x2FA20)]
    syllables = range(0xAC00, 0xD7A4, 4)
    others = [*range(0x3400), *range(0xA000, 0xAC00), *range(0xD7A4, 0xD800), *range(0xE000, 0x20000)]
    codes = [*others, *syllables, *ideographs, *range(0xE0000, 0xE0200)]
    texts = [
        "".join(f"b{chr(c)} {chr(c)}1" for c in codes[first : first + 500])
        for first in range(0, len(codes), 500)
    ]
    counter = TokenCounter.of(made)
    expected = load_tokenizer(made).count_batch(pa.array(texts, pa.large_string()))
    assert counter.count_batch(pa.array(texts, pa.large_string())).tolist() == expected.tolist()


def test_every_code_point_is_classed_as_the_library_does(base: dict[str, Any]) -> None:
    texts = [
        "".join(chr(c) for c in range(first, first + 2048) if not 0xD800 <= c < 0xE000)
        for first in range(0, 0x110000, 2048)
    ]
    counter = TokenCounter.of(content(base, "llama3"))
    array = pa.array(texts, pa.large_string())
    assert counter.count_batch(array).tolist() == counter.library.count_batch(array).tolist()


@pytest.mark.parametrize("n", [63, 64, 65, 66, 200, 5000])
def test_long_words_merge_alike_by_scan_and_heap(base: dict[str, Any], n: int) -> None:
    rng = np.random.default_rng(n)
    words = ["".join(rng.choice(list("aesthniox"), n)) for _ in range(20)] + ["a" * n, "ab" * n, "é" * n]
    counter = TokenCounter.of(content(base, "gpt2"))
    assert check(counter, counter.library, words) == 0


def test_documents_above_the_piece_size_are_cut_as_the_wrapper_cuts(base: dict[str, Any]) -> None:
    texts = ["tiny", "x" * (PIECE_CHARACTERS + 7), "", "ab cd " * (PIECE_CHARACTERS // 5), "end"]
    counter = TokenCounter.of(content(base, "gpt2"))
    assert check(counter, counter.library, texts) == 0


def test_added_tokens_in_the_text_are_read_and_special_ones_are_not(base: dict[str, Any]) -> None:
    names = [("<think>", False), ("<|im_end|>", True), ("  ", False), ("ﬁ", False)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    first = 1 + max(base["model"]["vocab"].values())
    added = [
        {"id": first + k, "content": name, "special": special, **flags}
        for k, (name, special) in enumerate(names)
    ]
    made = content(base, "nfkc", added_tokens=[*base["added_tokens"], *added])
    counter, library = TokenCounter.of(made), load_tokenizer(made)
    plain = ["<|im_end|> and <|endoftext|>", "a <think", "think>", ""]
    marked = ["<think>", "a<think>b", "if  x", "fin", "ﬁn", "one two  "]
    assert check(counter, library, plain) == 0
    assert check(counter, library, marked) == len(marked)
    assert check(counter, library, [*plain, *marked, *plain]) == len(marked)


@pytest.mark.parametrize("shape", ["gpt2", "qwen2", "deepseek"])
def test_plain_added_tokens_are_cut_out_without_the_library(base: dict[str, Any], shape: str) -> None:
    names = [*(" " * n for n in range(12, 1, -1)), "<a>", "<ab", "b<", "é", "<|x|>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    first = 1 + max(base["model"]["vocab"].values())
    added = [
        {"id": first + k, "content": name, "special": name == "<|x|>", **flags}
        for k, name in enumerate(names)
    ]
    made = content(base, shape, added_tokens=[*base["added_tokens"], *added])
    counter, library = TokenCounter.of(made), load_tokenizer(made)
    pieces = st.lists(
        st.sampled_from([*names, " ", "<", "a", "b", "x1", "\n", "e", "\u0301", "東"]), max_size=12
    )

    @settings(max_examples=80)
    @given(st.lists(pieces.map("".join), max_size=6))
    def compare(texts: list[str]) -> None:
        check(counter, library, texts)

    compare()
    code = ["if x:\n    y = 1\n        z  = 2\n", "", "   ", "a<a>", "no phrase"]
    assert check(counter, library, code) == 0


@settings(max_examples=30)
@given(texts=st.lists(SCRIPTS, max_size=6))
def test_a_crowded_memo_changes_nothing(texts: list[str]) -> None:
    made = train_bpe(SAMPLE, 300)
    library = load_tokenizer(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_counts, "_MEMO_SETS", 1)
        patch.setattr(token_counts, "_LONG_ROWS", 1)
        check(pickle.loads(pickle.dumps(TokenCounter.of(made))), library, [*texts, *SAMPLE[:3]])


def test_threads_share_a_counter_and_any_arrow_strings_will_do(base: dict[str, Any]) -> None:
    counter = TokenCounter.of(content(base, "qwen2"))
    texts = pa.chunked_array([pa.array([None, "", *SAMPLE]), pa.array(SAMPLE[::-1])])
    expected = counter.library.count_batch(texts.fill_null("").combine_chunks())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(counter.count, [texts.slice(k % 3) for k in range(16)]))
    for k, (counts, _) in enumerate(found):
        assert counts.tolist() == expected[k % 3 :].tolist()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}},
            "ByteLevel",
        ),
        ({"pre_tokenizer": _sequence(_split(r"\w+?"), _byte_level())}, "lazy"),
        ({"pre_tokenizer": _sequence(_split(r"\p{L}+", "MergedWithNext"), _byte_level())}, "MergedWithNext"),
        ({"pre_tokenizer": _sequence(_DIGITS, _byte_level(prefix=True))}, "add_prefix_space"),
    ],
)
def test_what_the_tables_cannot_follow_is_named_and_left_to_the_library(
    base: dict[str, Any], changes: dict[str, Any], named: str
) -> None:
    counter = TokenCounter.of(content(base, "gpt2", **changes))
    assert named in counter.refusal
    assert check(counter, counter.library, SAMPLE[:4]) == 4


@pytest.mark.parametrize(
    "pattern",
    [
        "a*",
        "(?<=a)b",
        r"\bx",
        "a++",
        "(a",
        "a)",
        "[a",
        "x{3,1}",
        "^a",
        r"\1",
        "(a|)+",
        "(?!ab)c",
        "a{2000}",
        "",
    ],
)
def test_patterns_outside_the_grammar_are_refused(pattern: str) -> None:
    with pytest.raises(Refused):
        compile_pattern(pattern)


@pytest.mark.parametrize("shape", ["gpt2", "llama3"])
def test_real_text_gives_the_tokens_of_the_library(base: dict[str, Any], shape: str) -> None:
    shared = os.environ.get("PRILL_SHARED_DATA")
    texts = list(reference_topics().values())[:60]
    if shared:
        files = sorted(Path(shared, "corpus").glob("*-00000-*.parquet"))
        texts = [text for path in files for text in pq.read_table(path)["text"].slice(0, 12).to_pylist()]
    counter = TokenCounter.of(content(base, shape))
    assert check(counter, counter.library, texts) == 0


def test_characters_that_no_normaliser_changes_do_not_leave_the_fast_path() -> None:
    changes = changed_by(("NFC",))
    assert not changes[[ord(c) for c in "a\n éüß§—東한😀"]].any()
    assert changes[[0x301, 0x212B, 0x1161, 0x0958]].all()


def test_text_that_a_pattern_leaves_out_is_left_to_the_library(base: dict[str, Any]) -> None:
    only_letters = _sequence(_split(r"\p{L}+", "Removed", invert=True), _byte_level())
    counter = TokenCounter.of(content(base, "gpt2", pre_tokenizer=only_letters))
    assert counter.refusal == ""
    assert check(counter, counter.library, ["abc", "", "a b", "12", "éa"]) == 2


def test_text_between_matches_is_a_word_of_its_own(base: dict[str, Any]) -> None:
    for pattern in (r"ab|b+c", r"\p{N}{2}", r"a(?=b)|\s+(?!\S)", r"(?i:the) ?"):
        made = content(base, "gpt2", pre_tokenizer=_sequence(_split(pattern), _byte_level()))
        counter = TokenCounter.of(made)
        texts = ["", "abcab", "bbbca", "xxabxx", "1 22 333 4444", "aab  a  b ", "THE the theth", "é東ab"]
        assert check(counter, counter.library, texts) == 0
