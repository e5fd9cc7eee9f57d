"""Near copies: the same clusters for any order, shards, workers and memory; chains, large keys, indexes."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from grouped import Grouped, run_grouping
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.demo.machine_text import documents as machine_documents
from prill.errors import DataError
from prill.features._minhash_oracle import jaccard
from prill.prepare.duplicates.near import NearDuplicates, NearSpec


def near(base: Path | None = None, **settings: Any) -> NearDuplicates:
    return NearDuplicates.of(NearSpec.model_validate(settings), base)


def text(label: str, n: int = 120) -> str:
    return " ".join(f"{label}{i}" for i in range(n))


def edited(original: str, places: Sequence[int]) -> str:
    words = original.split(" ")
    for place in places:
        words[place] = f"changed{place}"
    return " ".join(words)


def clusters(texts: Sequence[str], grouped: Grouped) -> set[frozenset[str]]:
    """The different texts of each cluster."""
    found: dict[int, set[str]] = {}
    for document, cluster in zip(texts, grouped.column("near_cluster"), strict=True):
        if cluster is not None:
            found.setdefault(cluster, set()).add(document)
    return {frozenset(members) for members in found.values()}


FAMILIES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(st.integers(0, 119), max_size=3)), min_size=1, max_size=12
)


@settings(max_examples=12)
@given(FAMILIES, st.randoms(use_true_random=False), st.integers(1, 4), st.sampled_from([1, 1 << 30]))
def test_clusters_do_not_depend_on_order_shards_or_memory(
    tmp_path_factory: pytest.TempPathFactory,
    families: list[tuple[str, list[int]]],
    rng: random.Random,
    n_shards: int,
    memory_bytes: int,
) -> None:
    texts = [edited(text(label), places) for label, places in families]
    first = run_grouping(near(), [texts], tmp_path_factory.mktemp("a") / "x")
    shuffled = texts[:]
    rng.shuffle(shuffled)
    shards = [part for k in range(n_shards) if (part := shuffled[k::n_shards])]
    again = run_grouping(
        near(), shards, tmp_path_factory.mktemp("b") / "x", n_workers=3, memory_bytes=memory_bytes
    )
    flat = [document for shard in shards for document in shard]

    def told(texts: Sequence[str], grouped: Grouped) -> list[Any]:
        names = ("near_cluster", "near_size", "near_jaccard", "near_weight", "near_keep")
        rows = zip(texts, *(grouped.column(name) for name in names), strict=True)
        return sorted(rows, key=repr)

    assert told(texts, first) == told(flat, again)


def test_a_small_memory_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = [edited(text(f"t{k % 40}x"), [k % 7]) for k in range(200)]
    shards = [texts[:70], texts[70:71], texts[71:]]
    first = run_grouping(near(), shards, tmp_path / "a", n_workers=2)
    again = run_grouping(near(), shards, tmp_path / "b", n_workers=2, memory_bytes=10_000)
    parts = [sorted((tmp_path / run / "columns").glob("part-*")) for run in "ab"]
    assert [p.read_bytes() for p in parts[0]] == [p.read_bytes() for p in parts[1]]
    assert first.counts["n_clusters"] == again.counts["n_clusters"] == 40


def test_chains_are_one_cluster_whose_size_is_told(tmp_path: Path) -> None:
    # 600 words; each link replaces six words apart: 30 of 596 shingles, similarity 566/626 = 0.904;
    # two links apart 536/656 = 0.817, four links apart 476/716 = 0.665
    links = [edited(text("w", 600), [30 + 15 * i for i in range(6 * k)]) for k in range(5)]
    assert jaccard(links[0], links[1], 5) == pytest.approx(566 / 626)
    assert jaccard(links[0], links[4], 5) == pytest.approx(476 / 716)
    grouped = run_grouping(near(), [links], tmp_path / "x")
    assert grouped.column("near_size") == [5] * 5
    assert grouped.counts["n_clusters_by_size"]["5-99"] == 1
    assert grouped.counts["largest"][0]["size"] == 5
    kept = grouped.column("near_keep").index(True)
    expected = [jaccard(link, links[kept], 5) for link in links]
    assert grouped.column("near_jaccard") == pytest.approx(expected)


def test_the_best_then_the_longest_stays(tmp_path: Path) -> None:
    base = text("q")
    texts = [base, base + " more", edited(base, [3]) + " still more", text("other")]
    grouped = run_grouping(near(), [texts], tmp_path / "a")
    assert grouped.column("near_keep") == [False, False, True, True]
    assert grouped.column("near_weight") == [0, 0, 3, 1]
    best = NearDuplicates.of(NearSpec(), quality=lambda shard: np.array([0.1, 0.9, np.nan, 0.0]))
    assert run_grouping(best, [texts], tmp_path / "b").column("near_keep") == [False, True, False, True]


def test_copies_are_dropped_and_tags_are_not(tmp_path: Path) -> None:
    texts = [text("a"), text("b"), edited(text("a"), [5])]
    grouped = run_grouping(near(), [texts], tmp_path / "x")
    (table,) = grouped.tables
    drops = near().drops(table)
    assert drops["near copy of a kept document"].tolist() == [not k for k in grouped.column("near_keep")]
    assert sum(drops["near copy of a kept document"]) == 1
    assert not near(action="tag").drops(table)


def test_documents_that_were_dropped_before_take_no_part(tmp_path: Path) -> None:
    texts = [text("a") + " longer", text("a"), text("a")]
    is_kept = np.array([False, True, True])
    grouped = run_grouping(near(), [texts], tmp_path / "x", is_kept=lambda shard: is_kept)
    assert grouped.column("near_size") == [None, 2, 2]
    assert grouped.column("near_keep") == [None, True, False]
    assert near().drops(grouped.tables[0])["near copy of a kept document"].tolist() == [False, False, True]


def test_verification_parts_what_bands_join(tmp_path: Path) -> None:
    # one row a band joins nearly everything that shares a shingle
    texts = [text("a", 60) + " " + text(f"own{k}", 60) for k in range(4)]
    loose = {"bands": 40, "rows": 1}
    joined = run_grouping(near(verify=False, **loose), [texts], tmp_path / "a")
    assert joined.column("near_size") == [4] * 4
    assert joined.column("near_jaccard") == [None] * 4
    parted = run_grouping(near(**loose), [texts], tmp_path / "b")
    assert parted.column("near_size") == [1] * 4
    assert parted.counts["n_pairs_compared"] == 6


def test_a_key_of_many_documents_costs_no_square(tmp_path: Path) -> None:
    n = 400
    boilerplate = text("same", 120)
    texts = [boilerplate + " " + text(f"own{k}x", 30) for k in range(n)]
    settings = {"bands": 14, "rows": 2, "leaders": 4}
    grouped = run_grouping(near(**settings), [texts], tmp_path / "x")
    # every pair: 116 of 116 + 2 * 30 shingles, similarity 0.66 < 0.7
    assert grouped.counts["n_clusters"] == 0
    assert grouped.counts["n_pairs_compared"] <= 14 * 5 * n
    assert grouped.counts["n_bounded_keys"] > 0
    assert grouped.counts["n_pairs_left_out"] > n
    copies = run_grouping(near(**settings), [[boilerplate] * n], tmp_path / "y")
    assert copies.column("near_size") == [n] * n
    assert copies.column("near_weight").count(8) == 1
    assert copies.counts["n_pairs"] == n - 1


def test_huge_documents_are_compared_by_a_sample(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(150_000)]
    near_copy = words[:]
    near_copy[::100] = [f"x{i}" for i in range(1500)]  # similarity (1500 * 95) / (150k + 7.5k) = 0.905
    texts = [" ".join(words), " ".join(near_copy), "one " * 300_000]
    grouped = run_grouping(near(), [texts], tmp_path / "x")
    assert grouped.column("near_size") == [2, 2, 1]
    assert min(grouped.column("near_jaccard")[:2]) == pytest.approx(0.905, abs=0.01)


def test_real_text_with_planted_copies(tmp_path: Path) -> None:
    rng = random.Random(0)
    originals = [d.text for d in machine_documents(20_000) if len(d.text.split()) > 150][:100]
    planted = []
    for original in originals[:40]:
        words = original.split(" ")
        words[rng.randrange(len(words))] = "inserted"
        planted.append(" ".join(words))
    shards = [originals, planted]
    grouped = run_grouping(near(), shards, tmp_path / "x", n_workers=2)
    ids = grouped.column("near_cluster")
    pairs = list(zip(ids[:40], ids[len(originals) :], strict=True))
    similarity = [jaccard(a, b, 5) for a, b in zip(originals[:40], planted, strict=True)]
    close = [pair for pair, s in zip(pairs, similarity, strict=True) if s >= 0.85]
    assert len(close) > 25
    assert sum(a is not None and a == b for a, b in close) >= len(close) - 1
    flat = originals + planted
    for document, cluster, kept in zip(flat, ids, grouped.column("near_keep"), strict=True):
        if not kept:  # whatever goes is close to a document of its cluster
            others = [o for o, c in zip(flat, ids, strict=True) if c == cluster and o is not document]
            assert max(jaccard(document, other, 5) for other in others) >= 0.7


def test_new_documents_against_an_index(tmp_path: Path) -> None:
    old = [text("a"), text("b"), edited(text("b"), [7]), "short one", text("long", 700)]
    wrote = run_grouping(near(tmp_path, index="old.parquet"), [old[:2], old[2:]], tmp_path / "a")
    assert wrote.counts["n_written_to_index"] == 4
    names = pq.read_schema(tmp_path / "old.parquet").names
    assert names == ["hash_high", "hash_low", "keys", "sketch"]
    new = [edited(text("a"), [50]), text("c"), text("c"), "Short one!", edited(text("long", 700), [9])]
    grouping = near(tmp_path, against=["old.parquet"])
    grouped = run_grouping(grouping, [new[:3], new[3:]], tmp_path / "b", memory_bytes=1 << 20)
    assert grouped.column("near_indexed") == [True, False, False, True, True]
    assert grouped.counts["n_indexed_copies"] == 3
    drops = [grouping.drops(table) for table in grouped.tables]
    assert [d["near copy of an indexed document"].tolist() for d in drops] == [
        [True, False, False],
        [True, True],
    ]
    assert [d["near copy of a kept document"].tolist() for d in drops] == [[False, False, True], [False] * 2]


def test_an_index_of_other_settings_is_refused(tmp_path: Path) -> None:
    run_grouping(near(tmp_path, index="old.parquet"), [[text("a")]], tmp_path / "a")
    with pytest.raises(DataError, match="expected an index made with"):
        near(tmp_path, against=["old.parquet"], n=4)
    with pytest.raises(DataError, match="found no file"):
        near(tmp_path, against=["none.parquet"])
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(DataError, match="found another file"):
        near(tmp_path, against=["text.parquet"])


def test_weights_must_ascend() -> None:
    with pytest.raises(ValueError, match="sizes must ascend"):
        near(weights=[[2, 1], [2, 3]])


def test_the_plan_tells_the_curve_and_the_files() -> None:
    lines = near().plan_lines()
    assert "0.9235 at 0.8" in lines[0]
    assert "0.685" in lines[1]
    assert near().scratch_bytes(1_000_000, 0) == 1_000_000 * 14 * 16
    assert near(verify=False).plan_lines()[-1] == "pairs that are found count without being compared"
