"""Repeated lines and paragraphs: the first stay, whatever the shards, the workers and the memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from grouped import run_grouping
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.prepare.duplicates.lines import LineDuplicates, LineSpec
from prill.prepare.edit import edited

LINES = st.sampled_from(["alpha", "Beta  b", "beta b", "", " ", "gamma", "delta"])
DOCUMENTS = st.lists(st.lists(LINES, max_size=5).map("\n".join), min_size=1, max_size=8)


def lines(**settings: object) -> LineDuplicates:
    return LineDuplicates.of(LineSpec.model_validate({"min_characters": 1, **settings}))


def expected(documents: list[str], spec: LineSpec) -> list[list[tuple[int, int]]]:
    """One document after another, as the definition reads."""
    seen: dict[str, list[int]] = {}
    units = []
    for d, document in enumerate(documents):
        at = 0
        for line in document.splitlines(keepends=True):
            form = " ".join(line.lower().split())
            if form:
                places = seen.setdefault(form, [])
                rank = len(places) if spec.count == "occurrences" else len(set(places) - {d})
                places.append(d)
                units.append((d, at, at + len(line), form, rank))
            at += len(line)
    spans: list[list[tuple[int, int]]] = [[] for _ in documents]
    for d, start, stop, form, rank in units:
        total = len(seen[form]) if spec.count == "occurrences" else len(set(seen[form]))
        if total > spec.more_than and rank >= spec.keep:
            spans[d].append((start, stop))
    return spans


@settings(max_examples=15)
@given(
    DOCUMENTS,
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from(["occurrences", "documents"]),
    st.integers(1, 4),
    st.sampled_from([1, 1 << 30]),
)
def test_spans_follow_the_definition_for_any_shards_and_memory(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[str],
    more_than: int,
    keep: int,
    count: str,
    n_shards: int,
    memory_bytes: int,
) -> None:
    grouping = lines(more_than=more_than, keep=keep, count=count)
    size = -(-len(documents) // n_shards)
    shards = [documents[k : k + size] for k in range(0, len(documents), size)]
    found = run_grouping(
        grouping, shards, tmp_path_factory.mktemp("lines"), n_workers=2, memory_bytes=memory_bytes
    )
    assert found.spans("lines_spans") == expected(documents, grouping.spec)


def test_cutting_leaves_each_paragraph_once(tmp_path: Path) -> None:
    notice = "All rights reserved.\nDo not copy this page."
    documents = [f"First.\n\n{notice}\n\nEnd.", f"{notice}\n\n\nSecond.", f"Third.\n\n{notice}"]
    grouping = lines(unit="paragraph", min_characters=20)
    found = run_grouping(grouping, [documents[:2], documents[2:]], tmp_path)
    left = []
    for table, part in zip(found.tables, (documents[:2], documents[2:]), strict=True):
        edits = grouping.edits(table)
        assert edits is not None
        left += edited(pa.array(part, pa.large_string()), [edits]).to_pylist()
    assert left == [documents[0], "Second.", "Third.\n\n"]
    assert found.tables[0]["lines_spans"].to_pylist()[1][0]["kind"] == "repeated paragraph"
    n_notice = len(notice)
    assert found.column("lines_share") == pytest.approx(
        [0, (n_notice + 3) / (n_notice + 10), n_notice / (n_notice + 8)]
    )


def test_a_dropped_document_neither_counts_nor_is_cut(tmp_path: Path) -> None:
    documents = ["same line", "same line", "same line"]
    kept = np.array([False, True, True])
    found = run_grouping(lines(), [documents], tmp_path, is_kept=lambda _: kept)
    assert found.spans("lines_spans") == [[], [], [(0, 9)]]


def test_documents_of_repeated_lines_are_dropped_from_the_threshold_on(tmp_path: Path) -> None:
    table = pa.table({"lines_spans": pa.nulls(3), "lines_share": pa.array([0.49, 0.5, 1.0], pa.float32())})
    assert lines(action="drop").drops(table)["mostly repeated lines"].tolist() == [False, True, True]
    assert lines(drop_share=1.0).drops(table)["mostly repeated lines"].tolist() == [False, False, True]
    assert lines().drops(table) == {}
    assert lines(action="drop").edits(table) is None


def test_a_threshold_is_policy_and_not_a_setting() -> None:
    assert lines(drop_share=0.3).settings == lines(action="drop").settings
    assert lines(keep=2).settings != lines().settings
    assert lines(normal="exact").keys.settings == lines(normal="exact", ignore_case=False).keys.settings
