"""Edits: unions are taken out, replacements stand once, everything else stays byte for byte."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import InternalError
from prill.features.splice import splice
from prill.prepare.edit import edited, edited_lengths
from prill.prepare.spans import SPANS, Edits, Spans


def spans(rows: list[list[tuple[int, int, str]]]) -> Spans:
    return Spans.of_column(
        pa.array([[{"start": a, "stop": b, "kind": k} for a, b, k in row] for row in rows], SPANS)
    )


def test_a_span_is_cut_or_replaced() -> None:
    text = pa.array(["mail a@b.c now", "nothing"], pa.large_string())
    found = spans([[(5, 10, "email")], []])
    assert edited(text, [Edits(spans=found, replacements={})]).to_pylist() == ["mail  now", "nothing"]
    masked = edited(text, [Edits(spans=found, replacements={"email": "<EMAIL>"})])
    assert masked.to_pylist() == ["mail <EMAIL> now", "nothing"]


def test_overlapping_spans_delete_their_union() -> None:
    text = pa.array(["0123456789"], pa.large_string())
    first = Edits(spans=spans([[(2, 5, "x")]]), replacements={"x": "X"})
    second = Edits(spans=spans([[(4, 8, "y")]]), replacements={"y": "Y"})
    assert edited(text, [first, second]).to_pylist() == ["01X89"]


def test_no_edits_give_the_same_array() -> None:
    text = pa.array(["a", ""], pa.large_string())
    assert edited(text, [Edits(spans=Spans.none(2), replacements={})]) is text


def test_a_span_outside_its_document_is_our_own_fault() -> None:
    one = np.array([0], np.int64)
    with pytest.raises(InternalError, match="outside"):
        splice(pa.array(["ab"], pa.large_string()), one, one, one + 3, one.astype(np.int32), [""])


def by_hand(text: str, ranges: list[tuple[int, int, str]]) -> str:
    """Character by character: which range's hole it lies in."""
    ranges = sorted(ranges, key=lambda r: (r[0], -r[1]))
    holes: list[list] = []  # type: ignore[type-arg]
    for start, stop, new in ranges:
        if holes and start < holes[-1][1]:
            holes[-1][1] = max(holes[-1][1], stop)
        else:
            holes.append([start, stop, new])
    out, done = "", 0
    for start, stop, new in holes:
        out += text[done:start] + new
        done = stop
    return out + text[done:]


@given(st.data())
def test_splicing_equals_the_rule_by_hand(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text("abé漢", max_size=12), min_size=1, max_size=4))
    rows = []
    for text in texts:
        place = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
        rows.append([(min(p), max(p)) for p in data.draw(st.lists(place, max_size=4))])
    kinds = ["", "<1>", "é"]
    column, wanted = [], []
    for text, row in zip(texts, rows, strict=True):
        at = [len(text[:i].encode()) for i in range(len(text) + 1)]
        chosen = {r: i % 3 for i, r in enumerate(sorted(set(row)))}
        column.append([(at[a], at[b], str(k)) for (a, b), k in chosen.items()])
        wanted.append(by_hand(text, [(a, b, kinds[k]) for (a, b), k in chosen.items()]))
    edits = Edits(spans=spans(column), replacements={str(i): kind for i, kind in enumerate(kinds)})
    array = pa.array(["skipped", *texts], pa.large_string()).slice(1)
    assert edited(array, [edits]).to_pylist() == wanted
    halves = [
        Edits(spans=spans([row[k::2] for row in column]), replacements=edits.replacements) for k in (1, 0)
    ]
    assert edited(array, halves).to_pylist() == wanted  # not in order
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5)), np.int64)
    some = Edits(spans=edits.spans.of_rows(rows), replacements=edits.replacements)
    assert edited(array.take(pa.array(rows)), [some]).to_pylist() == [wanted[row] for row in rows]
    lengths = np.array([len(text.encode()) for text in texts], np.int64)
    assert edited_lengths(lengths, [edits])[0].tolist() == [len(text.encode()) for text in wanted]


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from("ab")), max_size=3)))
def test_spans_survive_storage(rows: list[list[tuple[int, int, str]]]) -> None:
    found = spans(rows)
    again = Spans.of_column(pa.chunked_array([found.to_column()]))
    assert [list(map(int, x)) for x in (again.offsets, again.starts, again.stops)] == [
        list(map(int, x)) for x in (found.offsets, found.starts, found.stops)
    ]
    assert [again.names[k] for k in again.kinds] == [found.names[k] for k in found.kinds]
