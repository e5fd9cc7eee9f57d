"""Repeated passages against the definition: bytes in n bytes in a row that stand earlier in the corpus."""

import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from grouped import run_grouping
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.prepare.duplicates.substring import SubstringDuplicates, SubstringSpec
from prill.prepare.edit import edited

N = 12
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789éß中🙂 \n"
_random = random.Random(3)
# Long enough that no four bytes repeat within twelve, so that every passage has one anchor.
PIECES = ["".join(_random.sample(ALPHABET, _random.randint(N, 30))) for _ in range(6)]
PARTS = st.lists(
    st.tuples(st.sampled_from(PIECES), st.integers(0, 14), st.integers(0, 8)).map(lambda p: p[0][p[1] :]),
    max_size=6,
)


def substring(**settings: object) -> SubstringDuplicates:
    return SubstringDuplicates.of(SubstringSpec.model_validate({"min_bytes": N, **settings}))


def marked(spans: list[tuple[int, int]]) -> set[int]:
    return {i for start, stop in spans for i in range(start, stop)}


def expected(documents: list[str], n: int, keep: str = "first") -> list[set[int]]:
    """Marked bytes of whole characters of every document."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    for d, document in enumerate(documents):
        content = document.encode()
        for i in range(len(content) - n + 1):
            places.setdefault(content[i : i + n], []).append((d, i))
    found: list[set[int]] = [set() for _ in documents]
    for equal in places.values():
        for d, i in equal[1:] if keep == "first" or len(equal) == 1 else equal:
            found[d] |= set(range(i, i + n))
    whole: list[set[int]] = []
    for document, hit in zip(documents, found, strict=True):
        at, kept = 0, set()
        for character in document:
            size = len(character.encode())
            if all(i in hit for i in range(at, at + size)):
                kept |= set(range(at, at + size))
            at += size
        whole.append(kept)
    return whole


@settings(max_examples=12)
@given(
    st.lists(PARTS.map("".join), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([1, 1 << 30]),
    st.sampled_from(["first", "none"]),
)
def test_passages_follow_the_definition_for_any_shards_and_memory(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], n_shards: int, memory: int, keep: str
) -> None:
    size = -(-len(documents) // n_shards)
    shards = [documents[i : i + size] for i in range(0, len(documents), size)]
    folder = tmp_path_factory.mktemp("substring")
    found = run_grouping(substring(keep=keep), shards, folder, n_workers=2, memory_bytes=memory)
    spans = found.spans("substring_spans")
    assert [marked(s) for s in spans] == expected(documents, N, keep)
    for document, own in zip(documents, spans, strict=True):
        content = document.encode()
        assert all(a[1] < b[0] for a, b in itertools.pairwise(own))
        for start, stop in own:
            content[start:stop].decode()  # whole characters


@settings(max_examples=8)
@given(st.lists(st.text(alphabet="ab\n", max_size=120), min_size=1, max_size=4))
def test_text_that_repeats_itself_is_never_cut_more_than_defined(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str]
) -> None:
    found = run_grouping(substring(), [documents], tmp_path_factory.mktemp("substring"))
    for spans, allowed in zip(found.spans("substring_spans"), expected(documents, N), strict=True):
        assert marked(spans) <= allowed


def test_a_run_of_one_character_keeps_its_first_bytes_and_costs_little(tmp_path: Path) -> None:
    documents = ["-" * 300_000, "title\n" + "-" * 1000 + "\nend"]
    found = run_grouping(substring(min_bytes=100), [documents], tmp_path)
    assert found.counts["n_anchors"] < 300_000 / 50
    first, second = found.spans("substring_spans")
    assert sum(b - a for a, b in first) > 299_000
    assert second[0][0] >= 6
    assert sum(b - a for a, b in second) >= 1000 - 100


def test_the_first_copy_stays_and_the_text_left_is_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 7)) for _ in range(400)]
    notice = " ".join(words[:60])
    documents = [
        " ".join(words[60:120]) + notice + "tail",
        "Head. " + notice + " End.",
        notice[5:] + "; " + words[200],
    ]
    grouping = substring(min_bytes=200)
    found = run_grouping(grouping, [documents[:1], documents[1:]], tmp_path)
    edits = grouping.edits(found.tables[1])
    assert found.spans("substring_spans")[0] == []
    assert edits is not None
    left = edited(pa.array(documents[1:], pa.large_string()), [edits]).to_pylist()
    assert left[0] == "Head.  End."
    assert left[1] == "; " + words[200]
    assert found.column("substring_share")[1] == pytest.approx(len(notice) / len(documents[1]))
    verdict = substring(drop_share=0.98).drops(found.tables[1])["mostly repeated passages"]
    assert verdict.tolist() == [False, True]  # 479 of 490 bytes, 474 of 483


def test_dropped_and_short_documents_take_no_part(tmp_path: Path) -> None:
    text = "".join(PIECES)
    kept = np.array([False, True, True, True])
    found = run_grouping(
        substring(), [[text, "short", text, text]], tmp_path, is_kept=lambda _: kept, memory_bytes=1
    )
    assert found.spans("substring_spans") == [[], [], [], [(0, len(text.encode()))]]


def test_anchors_without_room_are_counted_and_not_lost() -> None:
    from prill.features._winnow_kernel import END, find_anchors

    text = np.frombuffer("".join(PIECES).encode() + bytes([END]), np.uint8)
    some, all_ = ((np.zeros(n, np.uint64), np.zeros(n, np.int64)) for n in (3, 500))
    n = find_anchors(text, 4, N, *all_)
    assert find_anchors(text, 4, N, *some) == n > 3
    assert some[1].tolist() == all_[1][:3].tolist()
    assert np.diff(all_[1][:n]).max() <= N - 4 + 1  # one in every window
