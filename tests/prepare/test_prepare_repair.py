"""The measure of Unicode repair: what it would change, as spans and flags."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from prill.corpus.batch import Batch
from prill.corpus.columns import write_columns
from prill.errors import ResourceError
from prill.prepare.repair import Repair, RepairSpec

TEXTS = ["clean", "é\r\nb\x00\x01c\u200bd", "e\u0301", "日本\ufeff\r"]


def _table(measure: Repair) -> pa.Table:
    return pa.table(
        measure(Batch(shard=0, first_row=0, columns={"text": pa.array(TEXTS, pa.large_string())}))
    )


def test_local_repairs_are_spans_in_bytes_and_edits_carry_them_out() -> None:
    measure = Repair.of(RepairSpec(form="none"))
    table = _table(measure)
    edits = measure.edits(table)
    assert edits is not None
    done = []
    for d, text in enumerate(TEXTS):
        data, pieces, at = text.encode(), [], 0
        for s in range(edits.spans.offsets[d], edits.spans.offsets[d + 1]):
            name = edits.spans.names[edits.spans.kinds[s]]
            pieces += [data[at : edits.spans.starts[s]], edits.replacements.get(name, "").encode()]
            at = int(edits.spans.stops[s])
        done.append(b"".join([*pieces, data[at:]]).decode())
    assert done == measure.texts(pa.array(TEXTS, pa.large_string())).to_pylist()
    assert done[1] == "é\nbcd"


def test_whole_document_repairs_are_flagged(tmp_path: Path) -> None:
    measure = Repair.of(RepairSpec())
    table = _table(measure)
    assert table["repair_changes"].to_pylist() == [False, True, True, True]
    assert [len(spans) for spans in table["repair"].to_pylist()] == [0, 3, 0, 2]
    assert measure.drops(table) == {}
    write_columns(
        tmp_path / "part.parquet", dict(zip(table.column_names, table.columns, strict=True)), measure.columns
    )
    assert pickle.loads(pickle.dumps(measure)) == measure


def test_edit_is_policy_and_form_is_a_setting() -> None:
    one, two = Repair.of(RepairSpec()), Repair.of(RepairSpec(edit=False))
    assert one.settings == two.settings
    assert two.edits(_table(two)) is None
    assert Repair.of(RepairSpec(form="NFKC")).settings != one.settings


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ResourceError, match=r"prill\[clean\]"):
        Repair.of(RepairSpec(mojibake=True))
