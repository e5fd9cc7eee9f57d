"""The item index: exact coverage is the oracle's, more text never lowers it, threads and files are safe."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError
from prill.features._matching_oracle import covered_words, words_of
from prill.features.item_index import MAX_ITEMS, Found, Item, ItemIndex

VOCABULARY = [f"w{k}" for k in range(400)]
ITEMS = [
    [VOCABULARY[(37 * k * k + 11 * k + 101 * i) % 400] for k in range(length)]
    for i, length in enumerate((20, 24, 31, 60, 150))
]
INDEX = ItemIndex.build(
    [
        Item(task="t", name=str(i), question=" ".join(words[:-4]), answer=" ".join(words[-4:]))
        for i, words in enumerate(ITEMS)
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Slices of items, possibly with a changed word, between words of no item."""
    pieces: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        words = draw(st.sampled_from(ITEMS))
        start = draw(st.integers(0, len(words) - 1))
        piece = words[start : start + draw(st.integers(1, 80))]
        if draw(st.booleans()):
            piece = [*piece[: len(piece) // 2], "zz", *piece[len(piece) // 2 + 1 :]]
        pieces += [*piece, *(f"z{k}" for k in range(draw(st.integers(10, 90))))]
    return draw(st.sampled_from([" ", ", ", "\n\n"])).join(pieces)


def find(texts: list[str], index: ItemIndex = INDEX, n: int = 8) -> Found:
    return index.find(pa.array(texts, pa.large_string()), n=n)


def by_item(found: Found) -> dict[tuple[int, int], tuple[float, float]]:
    keys = zip(found.document.tolist(), found.item.tolist(), strict=True)
    return dict(zip(keys, zip(found.exact.tolist(), found.coverage.tolist(), strict=True), strict=True))


@settings(max_examples=120, deadline=None)
@given(st.lists(documents(), min_size=1, max_size=4))
def test_exact_coverage_is_the_oracles(texts: list[str]) -> None:
    found = by_item(find(texts))
    for d, text in enumerate(texts):
        for i, words in enumerate(ITEMS):
            expected = sum(covered_words(words, words_of(text), 8)) / len(words)
            exact, coverage = found.get((d, i), (0.0, 0.0))
            assert exact == pytest.approx(expected, abs=1e-6)
            assert exact <= coverage <= 1


@settings(max_examples=80, deadline=None)
@given(documents(), documents())
def test_coverage_never_falls_when_text_is_added(text: str, more: str) -> None:
    before, after = by_item(find([text])), by_item(find([f"{text} {'zz ' * 40}{more}"]))
    for key, (exact, coverage) in before.items():
        assert after[key][0] >= exact
        assert after[key][1] >= coverage


@settings(max_examples=60, deadline=None)
@given(documents())
def test_places_hold_the_longest_run(text: str) -> None:
    found = find([text])
    for i, start, stop, longest in zip(found.item, found.start, found.stop, found.longest, strict=True):
        words = words_of(text.encode()[start:stop].decode())
        assert words[0] in ITEMS[i]
        assert words[-1] in ITEMS[i]
        assert longest <= len(ITEMS[i])


def test_an_item_far_into_a_huge_document_is_found_whole() -> None:
    item = ITEMS[4]
    filler = " ".join(f"q{k % 9973}" for k in range(65_400))  # the item straddles the end of a segment
    for shift in range(0, 300, 60):
        found = find([f"{'x ' * shift}{filler} {' '.join(item)} {filler}"])
        assert found.coverage.tolist() == [1.0]
        assert found.longest.tolist() == [150]


def test_an_ngram_of_many_items_begins_no_match() -> None:
    phrase = "which of the following is the best example of"
    items = [
        Item(
            task="t",
            name=str(k),
            question=f"{phrase} {VOCABULARY[k]} and {VOCABULARY[k + 40]} alone",
            answer="no",
        )
        for k in range(MAX_ITEMS + 1)
    ]
    text = [f"{phrase} nothing at all"]
    assert len(find(text, ItemIndex.build(items)).item) == 0
    assert len(find(text, ItemIndex.build(items[:3])).item) == 3


def test_a_saved_index_is_the_same_and_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "items.safetensors"
    INDEX.save(path)
    loaded = ItemIndex.load(path)
    assert loaded.fingerprint == INDEX.fingerprint
    assert loaded.names == INDEX.names
    text = [" ".join(ITEMS[2])]
    assert by_item(find(text, loaded)) == by_item(find(text))
    damaged = bytearray(path.read_bytes())
    damaged[-9] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match="changed later"):
        ItemIndex.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="item index"):
        ItemIndex.load(path)
    with pytest.raises(DataError, match="item index"):
        ItemIndex.load(tmp_path / "absent")


def test_threads_share_an_index() -> None:
    texts = [" ".join(words) for words in ITEMS] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find(texts), range(8)))
    assert all(np.array_equal(one.start, found[0].start) for one in found)
    with pytest.raises(ValueError, match="read-only"):
        INDEX.arrays["words"][0] = 1


def test_nothing_to_look_for_finds_nothing() -> None:
    empty = ItemIndex.build([])
    assert len(find(["any text of some words", ""], empty).item) == 0
    blank = ItemIndex.build([Item(task="t", name="1", question="", answer="")])
    assert len(find(["any text of some words"], blank).item) == 0
