"""MinHash: the published numbers, the theory of sketches, and kernels that equal plain Python."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.features._matching_characters import matching_table
from prill.features._matching_kernel import hash_texts
from prill.features._minhash_oracle import (
    jaccard,
    keys_of,
    reference_shingles,
    shingle_words,
    simplified,
    sketch_of,
)
from prill.features.minhash import (
    collision_probability,
    half_way,
    reference_numbers,
    shingle_sets,
    sign_documents,
)

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="ab AΣςİß'.\n", max_size=80),
        st.text(alphabet="人工知能は กขa ", max_size=40),
        st.lists(st.sampled_from(["the", "same", "few", "Words", "x" * 300]), max_size=40).map(" ".join),
    ),
    max_size=6,
)


def column(texts: list[str]) -> pa.Array:
    return pa.array([t.encode("utf-8", "replace").decode() for t in texts], pa.large_string())


def letters(number: int) -> str:
    """A word without digits, which the reference folds."""
    return "w" + str(number).translate(str.maketrans("0123456789", "abcdefghij"))


def pairs_of_similarity(s: float, count: int, size: int) -> tuple[list[tuple[str, str]], float]:
    """Texts of single words whose 1-gram sets have nearly the Jaccard similarity `s`, and the true one."""
    n_common = round(2 * size * s / (1 + s))
    found = []
    for k in range(count):
        words = [letters(k * 2 * size + i) for i in range(2 * size - n_common)]
        common, rest = words[:n_common], words[n_common:]
        half = len(rest) // 2
        found.append((" ".join(common + rest[:half]), " ".join(common + rest[half:])))
    return found, n_common / (2 * size - n_common)


def test_numbers_of_the_published_permutations() -> None:
    a, b = reference_numbers(1, 112)
    assert (int(a[0]), int(b[0])) == (775169054918279404, 1062448801025099917)


@pytest.mark.parametrize(
    ("bands", "rows", "expected"),
    [
        (14, 8, {0.5: 0.053, 0.7: 0.565, 0.75: 0.772, 0.8: 0.924, 0.85: 0.988, 0.9: 0.9996}),
        (450, 20, {0.5: 0.0004, 0.7: 0.302, 0.75: 0.761, 0.8: 0.995, 0.85: 1.0, 0.9: 1.0}),
        (20, 5, {0.5: 0.470, 0.7: 0.975, 0.75: 0.996, 0.8: 0.9996, 0.85: 1.0, 0.9: 1.0}),
        (93, 15, {0.5: 0.003, 0.7: 0.358, 0.75: 0.714, 0.8: 0.964, 0.85: 0.9998, 0.9: 1.0}),
    ],
)
def test_curve_is_the_table_of_the_card(bands: int, rows: int, expected: dict[float, float]) -> None:
    for s, chance in expected.items():
        assert collision_probability(s, bands=bands, rows=rows) == pytest.approx(chance, abs=6e-4)


def test_half_way_point() -> None:
    assert collision_probability(0.8) == pytest.approx(0.9235, abs=5e-5)
    assert half_way() == pytest.approx(0.685, abs=5e-4)
    assert collision_probability(half_way()) == pytest.approx(0.5)


@pytest.mark.parametrize("family", ["fast", "reference"])
@pytest.mark.parametrize("size", [25, 400])
@pytest.mark.parametrize("s", [0.5, 0.8])
def test_equal_rows_estimate_jaccard_similarity(family: str, size: int, s: float) -> None:
    # mean over 300 pairs of 112 rows: standard error below sqrt(.25 / 112 / 300) = 0.0027
    pairs, s = pairs_of_similarity(s, 300, size)
    left, right = (
        sign_documents(column([p[side] for p in pairs]), n=1, family=family, values=True) for side in (0, 1)
    )
    equal = (left.values == right.values).mean(axis=1)
    assert equal.mean() == pytest.approx(s, abs=0.012)
    within = np.abs(equal - s) <= 3 * np.sqrt(s * (1 - s) / 112)
    assert within.mean() > 0.98
    found = (left.keys == right.keys).any(axis=1).mean()
    chance = collision_probability(s)
    assert found == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 300) + 0.01)


@settings(max_examples=25)
@given(TEXTS, st.integers(1, 6), st.sampled_from([(2, 2), (5, 3)]))
def test_keys_are_those_of_plain_python(texts: list[str], n: int, shape: tuple[int, int]) -> None:
    text = column(texts)
    bands, rows = shape
    signed = sign_documents(text, n=n, bands=bands, rows=rows)
    for d, document in enumerate(text.to_pylist()):
        shingles = shingle_words(document, n)
        assert signed.n_shingles[d] == len(shingles)
        expected = keys_of(sketch_of([_hash(s) for s in shingles], bands * rows), rows)
        assert signed.keys[d].tolist() == (expected if shingles else [0] * bands)


def _hash(words: tuple[str, ...]) -> int:
    """The shingle's hash: each word's hash rotated by its distance from the last."""
    h = 0
    for k, word in enumerate(reversed(words)):
        data = np.frombuffer(word.encode() + bytes(64), np.uint8)
        _, found = hash_texts(np.array([0, len(word.encode())]), data, matching_table())
        assert len(found) == 1
        left = (11 * k) % 64
        h ^= ((int(found[0]) << left) | (int(found[0]) >> (64 - left))) & ((1 << 64) - 1)
    return h


@settings(max_examples=25)
@given(TEXTS, st.integers(1, 6))
def test_sets_give_the_true_jaccard_similarity(texts: list[str], n: int) -> None:
    text = column(texts)
    sets = shingle_sets(text, n=n)
    ends = np.cumsum(sets.lengths)
    found = [set(sets.values[e - k : e].tolist()) for e, k in zip(ends, sets.lengths, strict=True)]
    documents = text.to_pylist()
    for document, shingles in zip(documents, found, strict=True):
        assert len(shingles) == len(set(shingle_words(document, n)))
    for i in range(len(found) - 1):
        union = found[i] | found[i + 1]
        similarity = len(found[i] & found[i + 1]) / len(union) if union else 0.0
        assert similarity == pytest.approx(jaccard(documents[i], documents[i + 1], n))


def test_a_limited_set_holds_the_smallest_hashes() -> None:
    text = column([" ".join(f"w{i}" for i in range(5_000))])
    whole, few = shingle_sets(text), shingle_sets(text, limit=100)
    assert few.values.tolist() == whole.values[:100].tolist()
    assert (np.diff(whole.values.astype(np.int64)) > 0).all()


def test_long_documents_have_the_sketch_of_their_different_shingles() -> None:
    words = [f"w{i % 700}" for i in range(30_000)]  # many chunks, every shingle forty times
    once = column([" ".join(words[:704])])
    often = column([" ".join(words)])
    assert sign_documents(once).keys.tolist() == sign_documents(often).keys.tolist()
    one = sign_documents(column(["tick " * 200_000, "tick " * 5])).keys
    assert one[0].tolist() == one[1].tolist()


def test_short_documents_match_their_copies_only() -> None:
    signed = sign_documents(column(["Hello, world", "hello world!", "hello there world", "", "!?"]))
    assert signed.keys[0].tolist() == signed.keys[1].tolist()
    assert not (signed.keys[0] == signed.keys[2]).any()
    assert signed.n_shingles.tolist() == [1, 1, 1, 0, 0]


def test_scripts_without_spaces_have_character_shingles() -> None:
    rng = random.Random(0)
    text = "".join(chr(0x4E00 + rng.randrange(3000)) for _ in range(400))
    changed = text[:200] + "人" + text[201:]
    signed = sign_documents(column([text, changed]))
    assert signed.n_shingles.tolist() == [396, 396]
    assert signed.alone_bytes.tolist() == [1200, 1200]
    assert (signed.keys[0] == signed.keys[1]).sum() >= 7
    assert jaccard(text, changed, 5) == pytest.approx(391 / 401)


def test_identical_texts_share_all_bands_and_disjoint_ones_none() -> None:
    texts = [" ".join(f"{c}{i}" for i in range(200)) for c in "aab"]
    for family in ("fast", "reference"):
        keys = sign_documents(column(texts), family=family).keys
        assert (keys[0] == keys[1]).all()
        assert not (keys[0] == keys[2]).any()


@settings(max_examples=30)
@given(TEXTS)
def test_reference_normal_form_and_hash_are_datatroves(texts: list[str]) -> None:
    xxhash = pytest.importorskip("xxhash")
    from prill.features.minhash import _normal_form, _punctuation

    text = column(texts)
    marks = "".join(map(chr, _punctuation()))
    a, b = (x.astype(object) for x in reference_numbers(1, 112))
    signed = sign_documents(text, family="reference", values=True)
    assert signed.values is not None
    for d, document in enumerate(text.to_pylist()):
        normal = simplified(document, marks)
        assert _normal_form(document) == normal
        shingles = [xxhash.xxh64_intdigest(s.encode()) for s in reference_shingles(normal, 5)]
        assert signed.n_shingles[d] == len(shingles)
        if shingles:
            rows = [[(x * p + q) % 2**64 % (2**61 - 1) for x in shingles] for p, q in zip(a, b, strict=True)]
            assert signed.values[d].tolist() == [min(row) for row in rows]


def test_xxhash_has_its_published_values() -> None:
    from prill.features._minhash_reference_kernel import hash_ngrams

    def hashed(text: str) -> int:
        data = text.encode()
        return int(hash_ngrams(np.array([0, len(data)]), np.frombuffer(data + bytes(8), np.uint8), 1)[0])

    # XXH64 with seed 0 of these bytes, as the authors' `xxhsum -H1` prints them
    assert hashed("a") == 0xD24EC4F1A98C6E5B
    assert hashed("abc") == 0x44BC2CF5AD770999
