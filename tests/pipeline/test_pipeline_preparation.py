"""Preparation as a walk: columns first, verdicts late, copies after rules, edits last, an exact account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.local import LocalEngine
from prill.pipeline.preparation import Preparation, prepare, prepared_spec
from prill.pipeline.walk import ShardWalk
from prill.prepare.measure import Drops, GroupingInputs
from prill.prepare.spans import SPANS, Edits, Spans
from prill.run.directory import RunDirectory
from prill.run.progress import SilentProgress

TEXTS = ["alpha beta", "a", "alpha gamma", "beta # one", "", "#", "beta two", "gamma"]
READS: list[int] = []  # which shards were read by the measure below


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Drops documents shorter than `least` characters; cuts every `#` and what is left of its line."""

    least: int = 2
    name: str = "hashes"
    version: int = 1
    fields: tuple[str, ...] = ("text",)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"least": self.least}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return (ColumnInfo(name="n_characters"), ColumnInfo(name="spans"))

    def __call__(self, batch: Batch) -> dict[str, Any]:
        READS.append(batch.shard)
        texts = batch.text.to_pylist()
        spans = [[{"start": t.index("#"), "stop": len(t), "kind": "hash"}] if "#" in t else [] for t in texts]
        return {"n_characters": np.array([len(t) for t in texts]), "spans": pa.array(spans, SPANS)}

    def drops(self, table: pa.Table) -> Drops:
        lengths = table["n_characters"].to_numpy()
        return {"too short": (lengths > 0) & (lengths < self.least), "too long": lengths > 1000}

    def edits(self, table: pa.Table) -> Edits | None:
        return Edits(spans=Spans.of_column(table["spans"]), replacements={"hash": "!"})


@dataclass(frozen=True, kw_only=True)
class FirstWords:
    """Of kept documents with the same first letter only the first stays."""

    name: str = "letters"
    version: int = 1
    keys: None = None

    settings: Mapping[str, Any] = None  # type: ignore[assignment]
    policy: Mapping[str, Any] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", {})
        object.__setattr__(self, "policy", {})

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return (ColumnInfo(name="is_copy"),)

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        seen: set[str] = set()
        for index, part in enumerate(inputs.parts):
            copies = []
            for batch in inputs.corpus.batches(inputs.corpus.shards[index]):
                for text, is_kept in zip(batch.text.to_pylist(), inputs.is_kept(index), strict=True):
                    copies.append(is_kept and text[:1] in seen)
                    seen |= {text[:1]} if is_kept else set()
            write_columns(part, {"is_copy": pa.array(copies, pa.bool_())}, self.columns)
        (inputs.scratch / "anything").write_text("temporary")
        return {"n_letters": len(seen)}

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        return len("temporary")

    def plan_lines(self) -> list[str]:
        return []

    def drops(self, table: pa.Table) -> Drops:
        return {"same letter": table["is_copy"].to_numpy(zero_copy_only=False).astype(bool)}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


def corpus_of(folder: Path) -> Corpus:
    folder.mkdir(exist_ok=True)
    ids = [f"d{i}" for i in range(len(TEXTS))]
    for number, part in enumerate((slice(0, 4), slice(4, 8))):
        pq.write_table(pa.table({"id": ids[part], "text": TEXTS[part]}), folder / f"{number}.parquet")
    return Corpus.open(CorpusSpec(paths=[str(folder)]))


def prepared(folder: Path, corpus: Corpus, *, least: int = 2) -> tuple[Preparation, ShardWalk]:
    with RunDirectory.open(folder, {"least": least}, accept_changes=True) as run:
        walk = ShardWalk(run=run, engine=LocalEngine(2), progress=SilentProgress(), corpus=corpus)
        done = prepare(walk, [Hashes(least=least)], [FirstWords()], memory_bytes=1_000_000)  # type: ignore[list-item]
        return done, walk


def test_rules_then_copies_then_edits(tmp_path: Path) -> None:
    done, walk = prepared(tmp_path / "run", corpus_of(tmp_path / "pool"))
    reasons = [r for part in done.verdict.parts for r in read_columns(part)["drop_reason"].to_pylist()]
    # "alpha gamma" copies the letter of "alpha beta"; "#" alone is too short, and nothing would be left of it
    assert reasons == [
        None,
        "too short",
        "same letter",
        None,
        "no text",
        "too short",
        "same letter",
        None,
    ]
    documents = pa.concat_tables(pq.read_table(path) for path in done.prepared.parts)
    assert documents["text"].to_pylist() == ["alpha beta", "beta !", "gamma"]
    assert documents["id"].to_pylist() == ["d0", "d3", "d7"]
    assert documents["prill_row"].to_pylist() == [0, 3, 3]
    assert done.grouped["letters"] == {"n_letters": 3}
    assert not list((tmp_path / "run").rglob("scratch"))
    again = Corpus.open(prepared_spec(tmp_path / "run", walk.corpus.spec))
    assert [t for s in again.shards for b in again.batches(s) for t in b.text.to_pylist()] == [
        "alpha beta",
        "beta !",
        "gamma",
    ]


def test_the_account_is_exact_and_tells_rules_that_never_fire(tmp_path: Path) -> None:
    done, _ = prepared(tmp_path / "run", corpus_of(tmp_path / "pool"))
    counts = {count.reason: (count.fired, count.alone, count.first) for count in done.account()}
    assert counts == {
        "no text": (1, 1, 1),
        "too short": (2, 2, 2),
        "too long": (0, 0, 0),
        "same letter": (2, 2, 2),
    }
    kept = done.prepared.record.counts
    assert kept["n_documents"] + sum(count.first for count in done.account()) == len(TEXTS)
    # "# one" goes, "!" comes
    assert (kept["n_bytes_cut"], kept["n_bytes_put"], kept["n_edited"]) == (5, 1, 1)
    assert kept["n_bytes"] == len("alpha beta" + "beta !" + "gamma")


def test_a_new_threshold_reads_no_text_again(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "pool")
    prepared(tmp_path / "run", corpus)
    READS.clear()
    done, _ = prepared(tmp_path / "run", corpus, least=6)
    assert not READS
    kept = pa.concat_tables(pq.read_table(path) for path in done.prepared.parts)["text"].to_pylist()
    assert kept == ["alpha beta", "beta !"]
    prepared(tmp_path / "other", corpus)
    assert sorted(READS) == [0, 1]


@pytest.mark.parametrize("name", ["verdict", "letters", "hashes", "read"])
def test_damaged_columns_are_made_again_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    corpus = corpus_of(tmp_path / "pool")
    done, _ = prepared(tmp_path / "run", corpus)
    before = [path.read_bytes() for path in done.prepared.parts]
    (damaged,) = (tmp_path / "run" / "steps").glob(f"{name}-*/part-00001.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    done, _ = prepared(tmp_path / "run", corpus)
    assert [path.read_bytes() for path in done.prepared.parts] == before
