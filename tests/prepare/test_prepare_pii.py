"""The measure of personal data: spans as a column, and what the policy makes of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prill.corpus.batch import Batch
from prill.corpus.columns import read_columns, write_columns
from prill.prepare.pii import Pii, PiiSpec

TEXTS = ["write to a@b.org or 8.8.8.8", "nothing", "", "c@d.org e@f.org AKIAIOSFODNN7EXAMPLE"]


def _table(measure: Pii, texts: list[str] = TEXTS) -> pa.Table:
    batch = Batch(shard=0, first_row=0, columns={"text": pa.array(texts, pa.large_string())})
    return pa.table(measure(batch))


def _edited(measure: Pii, texts: list[str]) -> list[str]:
    edits = measure.edits(_table(measure, texts))
    assert edits is not None
    out = []
    for d, text in enumerate(texts):
        data, pieces, at = text.encode(), [], 0
        for s in range(edits.spans.offsets[d], edits.spans.offsets[d + 1]):
            name = edits.spans.names[edits.spans.kinds[s]]
            pieces += [data[at : edits.spans.starts[s]], edits.replacements[name].encode()]
            at = int(edits.spans.stops[s])
        out.append(b"".join([*pieces, data[at:]]).decode())
    return out


def test_spans_are_stored_with_their_kinds(tmp_path: Path) -> None:
    measure = Pii.of(PiiSpec())
    table = _table(measure)
    assert [[span["kind"] for span in row] for row in table["pii"].to_pylist()] == [
        ["email", "ip address"],
        [],
        [],
        ["email", "email", "secret"],
    ]
    write_columns(tmp_path / "part.parquet", {"pii": table["pii"]}, measure.columns)
    assert read_columns(tmp_path / "part.parquet")["pii"].to_pylist() == table["pii"].to_pylist()


def test_marks_replace_spans_and_are_not_found_again() -> None:
    measure = Pii.of(PiiSpec())
    once = _edited(measure, TEXTS)
    assert once[0] == "write to  |||EMAIL_ADDRESS|||  or  |||IP_ADDRESS||| "
    assert once[1:3] == TEXTS[1:3]
    assert _edited(measure, once) == once


def test_examples_and_own_texts_replace_spans() -> None:
    measure = Pii.of(PiiSpec(style="examples", texts={"secret": "<key>"}))
    assert _edited(measure, TEXTS)[0] == "write to email@example.com or 192.0.2.1"
    assert _edited(measure, TEXTS)[3].endswith("<key>")


def test_actions_drop_or_only_tag() -> None:
    measure = Pii.of(PiiSpec(actions={"secret": "drop", "email": "tag"}, max_spans=2))
    drops = measure.drops(_table(measure))
    assert {reason: np.flatnonzero(found).tolist() for reason, found in drops.items()} == {
        "pii: secret found": [3],
        "pii: more than 2 spans": [3],
    }
    edits = measure.edits(_table(measure))
    assert edits is not None
    assert edits.spans.offsets.tolist() == [0, 1, 1, 1, 1]  # the IP address alone
    assert Pii.of(PiiSpec(kinds=("email",), actions={"email": "tag"})).edits(_table(measure)) is None


def test_five_spans_stay_and_six_drop_under_dolmas_limit() -> None:
    measure = Pii.of(PiiSpec(max_spans=5))
    texts = ["a@b.org " * 5, "a@b.org " * 6]
    assert measure.drops(_table(measure, texts))["pii: more than 5 spans"].tolist() == [False, True]


def test_policy_is_not_a_setting() -> None:
    one, two = Pii.of(PiiSpec()), Pii.of(PiiSpec(max_spans=5, actions={"email": "drop"}, style="examples"))
    assert one.settings == two.settings
    assert one.policy != two.policy
    assert Pii.of(PiiSpec(kinds=("email",))).settings != one.settings
    assert pickle.loads(pickle.dumps(two)) == two


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValidationError):
        PiiSpec(kinds=("fingerprint",))  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        PiiSpec(actions={"email": "hide"})  # type: ignore[dict-item]
