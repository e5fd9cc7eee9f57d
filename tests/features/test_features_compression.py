"""Lengths under compressors: zlib's to the byte, the card's numbers, and what the race keeps."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.features.compression import Codec, Compressor, TargetTexts, first_bytes
from prill.features.compression_race import fit_race, stages_of, top_exactly
from prill.features.compression_similarity import Reference, drawn_texts

SOURCES = [
    "the cat sat on the mat",
    "buy cheap pills online now",
    "We prove the theorem by induction on n.",
    "click here to win a free phone",
]
TARGETS = ["The proof follows by induction.", "We prove a lemma on the theorem."]
IS_PLAIN_ZLIB = "ng" not in zlib.ZLIB_RUNTIME_VERSION  # zlib-ng finds other matches

# The card's table: codec, level, C(source), C(target), scores.
CARD = [
    ("gzip", 9, [39, 46, 54, 50], [51, 49], [0.460984, 0.439776, 0.629630, 0.465294]),
    ("gzip", 6, [39, 46, 54, 50], [51, 49], [0.460984, 0.439776, 0.629630, 0.465294]),
    ("gzip", 1, [39, 46, 54, 50], [51, 49], [0.450780, 0.439776, 0.620370, 0.455294]),
    ("gzip", 0, [45, 49, 62, 53], [54, 55], [0.422054, 0.422054, 0.370968, 0.422054]),
    ("lz4", 0, [45, 49, 62, 53], [54, 55], [0.449327, 0.422054, 0.524194, 0.422054]),
]


def texts(values: list[str] | list[bytes]) -> pa.Array:
    is_text = not values or isinstance(values[0], str)
    return pa.array(values, pa.large_string() if is_text else pa.large_binary())


def similarity(reference: Reference, sources: pa.Array) -> np.ndarray:
    alone = reference.texts.compressor.lengths(sources)
    return reference.similarity(sources, alone, np.arange(len(sources)), 0, len(reference))


@pytest.mark.parametrize(("codec", "level", "sources", "targets", "scores"), CARD)
def test_the_card_of_the_method(
    codec: Codec, level: int, sources: list[int], targets: list[int], scores: list[float]
) -> None:
    compressor = Compressor(codec=codec, level=level, is_storing=True)
    reference = Reference(texts(TARGETS), compressor)
    assert compressor.lengths(texts(SOURCES)).tolist() == sources
    assert reference.texts.alone_N.tolist() == targets
    np.testing.assert_allclose(similarity(reference, texts(SOURCES)).mean(axis=1), scores, atol=5e-7)


def test_joint_lengths_of_the_card() -> None:
    behind = TargetTexts(texts(TARGETS), Compressor(level=9))
    joint = behind.joint_lengths(texts(SOURCES), np.arange(4), np.arange(2))
    assert joint.tolist() == [[69, 63], [74, 74], [71, 69], [77, 76]]
    assert behind.joint_lengths(texts(SOURCES), np.array([2]), np.array([1])).tolist() == [[69]]


def test_worked_pairs_of_the_card() -> None:
    a, b = "The quick brown fox jumps over the lazy dog. ", "Lorem ipsum dolor sit amet. "
    compressor = Compressor(level=9)
    assert similarity(Reference(texts([b]), compressor), texts([a]))[0, 0] == 0.40625
    assert similarity(Reference(texts([a]), compressor), texts([b]))[0, 0] == 0.390625  # not symmetric
    again = "abcabcabc" * 20
    assert compressor.lengths(texts([again])).tolist() == [26]
    found = similarity(Reference(texts([again]), compressor), texts([again]))[0, 0]
    assert found == pytest.approx(1 - (27 - 26) / 26)  # 0.961538
    assert similarity(Reference(texts(["a"]), compressor), texts(["a"]))[0, 0] == pytest.approx(
        0.952, abs=5e-4
    )


def test_the_window_of_gzip_hides_what_lies_farther_back() -> None:
    rng = np.random.default_rng(0)
    half = "".join(rng.choice(list("abcdefgh "), 70_000))
    short = half[:20_000]
    reference = Reference(texts([half, short]), Compressor(level=6))
    whole, _ = similarity(reference, texts([half]))[0]
    _, near = similarity(reference, texts([short]))[0]
    assert whole < 0.4  # 0.34 in the card
    assert near > 0.8


def test_level_0_is_refused_or_the_rule_of_lengths_it_is() -> None:
    with pytest.raises(RecipeError, match="found 0, which stores"):
        Compressor(level=0)
    sources = ["x" * n for n in (1, 500, 30_000, 65_000)]
    reference = Reference(texts(["y" * 400]), Compressor(level=0, is_storing=True))
    expected = [23 / (max(len(s), 400) + 23) for s in sources]
    np.testing.assert_allclose(similarity(reference, texts(sources))[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(("codec", "level"), [("gzip", 10), ("zstd", 23), ("lz4", 17), ("brotli", 12)])
def test_a_level_that_does_not_exist_is_refused(codec: Codec, level: int) -> None:
    with pytest.raises(RecipeError, match=f"from .* to .*, found {level}"):
        Compressor(codec=codec, level=level)


def made_texts(seed: int, n: int, size: int, n_words: int = 300) -> list[str]:
    """Text of a language of `n_words` words, a few far more frequent than the others."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 9))) for _ in range(n_words)]
    weights = 1 / np.arange(1, n_words + 1)
    draw = rng.choice(n_words, (n, size), p=weights / weights.sum())
    return [" ".join(words[i] for i in row[: rng.integers(size // 4, size)]) for row in draw]


ODD = [
    b"a",
    b"ab",
    b"abc",
    b"a" * 300,
    b"ab" * 16_000,
    np.random.default_rng(1).integers(0, 256, 40_000, dtype=np.uint8).tobytes(),  # stored as it is
    np.random.default_rng(2).integers(97, 100, 32_000, dtype=np.uint8).tobytes(),  # long chains
    # Counts like powers of 1.6 make Huffman codes longer than 15 bits, which zlib shortens.
    np.random.default_rng(3)
    .choice(40, 20_000, p=(w := 1.6 ** -np.arange(40.0)) / w.sum())
    .astype(np.uint8)
    .tobytes(),
    " ".join(made_texts(4, 60, 900)).encode()[:64_999],  # several blocks, nearly the most
]


@pytest.mark.skipif(not IS_PLAIN_ZLIB, reason="this Python's zlib is not the one whose lengths are counted")
@pytest.mark.parametrize("level", [1, 4, 6, 9])
def test_lengths_are_those_of_zlib(level: int) -> None:
    sources = [b"", *ODD, *(t.encode() for t in made_texts(5, 8, 2000)), b"x" * 70_000]
    behind = [b"", *ODD[:6], *(t.encode() for t in made_texts(5, 4, 1500)), b"long" * 9000]
    compressor = Compressor(level=level)
    expected = [len(zlib.compress(s, level, 31)) for s in sources]
    assert compressor.lengths(texts(sources)).tolist() == expected
    target = TargetTexts(texts(behind), compressor)
    joint = target.joint_lengths(texts(sources), np.arange(len(sources)), np.arange(len(behind)))
    assert joint.tolist() == [[len(zlib.compress(s + t, level, 31)) for t in behind] for s in sources]


@pytest.mark.skipif(not IS_PLAIN_ZLIB, reason="this Python's zlib is not the one whose lengths are counted")
@settings(max_examples=60, deadline=None)
@given(
    source=st.binary(max_size=900) | st.text("ab \n", max_size=900).map(str.encode),
    behind=st.lists(
        st.text("abc", max_size=600).map(str.encode) | st.binary(max_size=300), min_size=1, max_size=3
    ),
    repeat=st.integers(1, 9),
    level=st.integers(1, 9),
)
def test_any_pair_has_the_length_of_zlib(source: bytes, behind: list[bytes], repeat: int, level: int) -> None:
    source *= repeat
    target = TargetTexts(texts(behind), Compressor(level=level))
    joint = target.joint_lengths(texts([source]), np.array([0]), np.arange(len(behind)))
    assert joint[0].tolist() == [len(zlib.compress(source + t, level, 31)) for t in behind]


@pytest.mark.skipif(not IS_PLAIN_ZLIB, reason="this Python's zlib is not the one whose lengths are counted")
@pytest.mark.parametrize("left", range(1, 8))
def test_a_match_may_begin_in_the_document_and_end_in_the_text_behind(left: int) -> None:
    rng = np.random.default_rng(left)
    filling = [rng.integers(128, 256, 400, dtype=np.uint8).tobytes() for _ in range(3)]
    across = b"abcdefghijklmnopqrst"
    source = filling[0] + across[:left]
    # The text behind has the first bytes once more by itself, so that only a longer match is of use.
    behind = across[left:] + filling[1] + across[:left] + filling[2] + across
    joint = TargetTexts(texts([behind]), Compressor()).joint_lengths(
        texts([source]), np.arange(1), np.arange(1)
    )
    assert joint[0, 0] == len(zlib.compress(source + behind, 6, 31))


@pytest.mark.parametrize(
    ("codec", "package"), [("zstd", "zstandard"), ("brotli", "brotli"), ("lz4", "lz4.frame")]
)
def test_other_codecs_have_the_lengths_of_their_packages(codec: Codec, package: str) -> None:
    module = pytest.importorskip(package)
    one = {
        "zstd": lambda data: module.ZstdCompressor(level=3).compress(data),
        "brotli": lambda data: module.compress(data),
        "lz4": lambda data: module.compress(data),
    }[codec]
    sources = ["", "a", *SOURCES, *made_texts(6, 3, 600)]
    level = {"zstd": 3, "brotli": 11, "lz4": 0}[codec]
    assert Compressor(codec=codec, level=level).lengths(texts(sources)).tolist() == [
        len(one(s.encode())) for s in sources
    ]


def test_scores_know_neither_order_nor_copies_of_target_texts() -> None:
    target = made_texts(7, 12, 200)
    compressor = Compressor()

    def score(values: list[str]) -> list[float]:
        reference = Reference(drawn_texts(texts(values), seed=1, most=8), compressor)
        return similarity(reference, texts(SOURCES)).mean(axis=1).tolist()

    assert score(target) == score(target[::-1]) == score(target * 2) == score([*target, "", ""])


def test_scores_of_parts_are_the_scores_of_the_whole() -> None:
    reference = Reference(texts(made_texts(7, 5, 200)), Compressor())
    pool = texts(made_texts(8, 9, 200))
    whole = similarity(reference, pool)
    parts = [similarity(reference, pool.slice(start, n)) for start, n in ((0, 2), (2, 1), (3, 6))]
    assert np.array_equal(np.concatenate(parts), whole)
    alone = reference.texts.compressor.lengths(pool)
    some = reference.similarity(pool, alone, np.array([7, 1]), 2, 4)
    assert np.array_equal(some, whole[[7, 1], 2:4])


def test_without_frames_short_copies_are_not_nearly_equal() -> None:
    compressor = Compressor(level=9)
    assert compressor.empty_bytes == 20
    one = similarity(Reference(texts(["a"]), compressor, without_frames=True), texts(["a"]))[0, 0]
    assert one == 0  # 1 - (2 - 1) / 1: with its frame it is 0.952


def test_texts_are_cut_at_bytes() -> None:
    cut = first_bytes(texts(["abcdef", "aß", ""]).slice(0), 2)
    assert cut.to_pylist() == [b"ab", b"a\xc3", b""]
    assert first_bytes(texts(["ab"]), 2).to_pylist() == ["ab"]


def test_stages_double_and_end_before_all_texts() -> None:
    assert stages_of(4, 48) == (4, 8, 16)
    assert stages_of(4, 8) == (4,)
    assert stages_of(4, 7) == ()


def test_an_error_far_above_the_cut_does_not_widen_the_margin() -> None:
    reference = Reference(texts(made_texts(8, 8, 60)), Compressor())
    rng = np.random.default_rng(0)
    alone = rng.integers(200, 900, 100)
    similarity_CN = rng.normal(0.03, 0.002, (100, 8))
    similarity_CN[0, 4:] = 0.9  # no prediction from the first four texts can tell
    wide = fit_race(reference, alone, similarity_CN, first=4, safety=2, cut=0.5)
    narrow = fit_race(reference, alone, similarity_CN, first=4, safety=2, cut=0.04)
    assert wide.stages == (4,)
    assert wide.margins[0] > 0.5
    assert narrow.margins[0] < 0.05


def test_the_best_are_the_best_of_all_scores() -> None:
    target = made_texts(8, 16, 120)
    pool = [*made_texts(8, 150, 160), *made_texts(9, 250, 160), *target[:2]]
    reference = Reference(drawn_texts(texts(target), seed=0, most=16), Compressor())
    alone = reference.texts.compressor.lengths(texts(pool))
    every = similarity(reference, texts(pool)).mean(axis=1)
    expected = np.argsort(-every, kind="stable")[:20]
    draws = np.random.default_rng(0).random(len(pool))
    order, scores = top_exactly(reference, texts(pool), alone, 20, first=2, draws_D=draws)
    assert order.tolist() == expected.tolist()
    assert scores.tolist() == every[expected].tolist()
    few, _ = top_exactly(reference, texts(pool[:50]), alone[:50], 5, draws_D=draws[:50])
    assert few.tolist() == np.argsort(-every[:50], kind="stable")[:5].tolist()
