"""`prill prepare` as a user sees it: planted faults are found, and the bytes depend on the recipe alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_study import hashes, prill

from prill.demo.machine_text import MachineDocument

RECIPE = """\
name: a small preparation
corpus: {{paths: [pool/*]}}
prepare:
  rules: {{presets: [gopher_repetition]}}
  contamination:
    tasks: [{{paths: [items.jsonl]}}]
  lists: [{{name: brands, paths: brands.txt, mode: token, action: replace, replacement: BRAND}}]
{more}output: out
"""
ITEM = (
    "Which of the seven lanterns above the old harbour gate went dark first on the night of the great storm, "
    "and who climbed the wet iron ladder to light it again before the fishing boats came home?"
)


@pytest.fixture
def planted(tmp_path: Path, machine_text: list[MachineDocument]) -> Path:
    """A pool of prose with an exact copy, a near copy, a benchmark item and a listed word; its recipe."""
    prose = [d for d in machine_text if d.source == "reference" and len(d.text) > 1500]
    texts = {f"d{i}": d.text for i, d in enumerate(prose[:40])}
    texts["exact"] = texts["d3"]
    texts["near"] = texts["d4"].replace(".", " indeed.", 1)
    texts["leak"] = texts["d5"][:700] + "\n" + ITEM + " The youngest pilot did.\n" + texts["d6"][:700]
    texts["brand"] = "We thank Frobozzco for this. " + texts["d7"]
    texts["empty"] = ""
    folder = tmp_path / "work"
    (folder / "pool").mkdir(parents=True)
    rows = [{"id": name, "text": text} for name, text in texts.items()]
    pq.write_table(pa.Table.from_pylist(rows[:25]), folder / "pool" / "a.parquet")
    (folder / "pool" / "b.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows[25:]))
    item = {"id": "1", "task": "lanterns", "prompt": ITEM, "target": "The youngest pilot did."}
    (folder / "items.jsonl").write_bytes(orjson.dumps(item) + b"\n")
    (folder / "brands.txt").write_text("# made up\nFrobozzco\n")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(more=""))
    return recipe


def documents(folder: Path) -> dict[str, str]:
    table = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "prepared").glob("*.parquet")))
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_what_was_planted_is_found_and_told(planted: Path) -> None:
    done = prill("prepare", planted, "-q")
    out = planted.parent / "out"
    kept = documents(out)
    assert "d3" in kept
    assert {"exact", "leak", "empty"}.isdisjoint(kept)
    assert ("near" in kept) != ("d4" in kept)
    assert kept["brand"].startswith("We thank BRAND for this. ")
    assert f"{len(kept)} kept" in done.stdout.splitlines()[0]
    numbers = json.loads((out / "corpus.json").read_text())
    assert numbers["kept"]["n_documents"] == len(kept)
    assert numbers["before"]["n_documents"] == len(kept) + sum(
        rule["first"]["n_documents"] for rule in numbers["rules"]
    )
    assert "Frobozzco" not in (out / "corpus.json").read_text()
    assert prill("prepare", planted, "-q").stdout == done.stdout
    page = (out / "report.html").read_text()
    assert "contains an item of lanterns" in page
    lineage = json.loads((out / "lineage.json").read_text())
    assert {"read", "rules", "contamination", "near", "verdict", "prepared"} <= {
        step["step"] for step in lineage["steps"]
    }
    assert re.search(r"are whole", prill("verify", out).stdout)


def test_why_shows_reasons_and_the_text_with_its_spans(planted: Path) -> None:
    prill("prepare", planted, "-q")
    out = planted.parent / "out"
    told = prill("why", "leak", "--run", out).stdout
    assert "dropped: contains an item of lanterns" in told
    told = prill("why", "brand", "--run", out).stdout
    assert "We thank [-Frobozzco-]{+BRAND+}" in told
    assert "kept" in told
    assert "exact copy of a kept document" in prill("why", "exact", "--run", out).stdout
    wrong = prill("why", "nobody", "--run", out, check=3)
    assert "none called 'nobody'" in wrong.stderr


def test_the_bytes_do_not_depend_on_workers_or_on_what_was_damaged(planted: Path) -> None:
    prill("prepare", planted, "-q", "-j", "1")
    out = planted.parent / "out"
    first = hashes(out)
    prill("prepare", planted, "-q", "-j", "2", "-o", planted.parent / "again")
    assert hashes(planted.parent / "again") == first
    for name in ("steps/verdict-*/part-00000.parquet", "prepared/part-00001.parquet", "report.html"):
        (damaged,) = out.glob(name)
        damaged.write_bytes(damaged.read_bytes()[:-5])
    assert prill("verify", out, check=3).stderr.count("error:") == 3
    prill("prepare", planted, "-q")
    assert hashes(out) == first
    (out / "report.html").unlink()
    assert "kept" in prill("report", out).stdout
    assert hashes(out) == first


def test_a_study_can_prepare_its_pool_first(planted: Path, machine_text: list[MachineDocument]) -> None:
    sample = [{"id": d.id, "text": d.text} for d in machine_text if d.source == "library"][:30]
    (planted.parent / "code.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in sample))
    study = planted.parent / "study.yaml"
    more = "targets: {code: {paths: [code.jsonl]}}\nbudget: 30%\ntrials: null\ntokenizer: {vocab_size: 400}\n"
    study.write_text(planted.read_text().replace("output: out", more + "output: run"))
    prill("prepare", study, "-q")
    prill("run", study, "-q")
    run = planted.parent / "run"
    pool = documents(run / "preparation")
    chosen = pa.concat_tables(pq.read_table(path) for path in (run / "dataset").rglob("*.parquet"))
    assert set(chosen["id"].to_pylist()) <= set(pool)
    told = prill("why", chosen["id"][0].as_py(), "--run", run).stdout
    assert "target     code: kept" in told
    assert "dropped: contains an item" in prill("why", "leak", "--run", run).stdout
    assert prill("verify", run).stdout.count("are whole") == 2
    told = prill("plan", study).stdout
    assert "14 bands of 8 rows" in told
    assert "\nbudget " in told


def test_texts_are_repaired_before_anything_is_measured(planted: Path) -> None:
    broken = "\ufeffCafe\u0301 and\r\n\u200bwords " + "that are enough to be kept here. " * 3
    (planted.parent / "pool" / "c.jsonl").write_bytes(
        orjson.dumps({"id": "broken", "text": broken}) + b"\n{not json}\n"
    )
    recipe = (
        "corpus: {paths: [pool/*], on_bad: quarantine}\nprepare: {rules: null, repair: {}}\noutput: out\n"
    )
    planted.write_text(recipe)
    told = prill("prepare", planted, "-q").stdout
    kept = documents(planted.parent / "out")
    assert kept["broken"].startswith("Café and\nwords that")
    assert "bad record" in told
    (bad,) = pq.read_table(planted.parent / "out" / "quarantine.parquet").to_pylist()
    assert (bad["shard"], bad["row"]) == (2, 1)
    assert "bad record" in prill("why", "2:1", "--run", planted.parent / "out").stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  near: {bandz: 3}\n", "unknown key `bandz`"),
        ("  rules: {presets: [gofer]}\n", "recipe.yaml:"),
        ("  lists: [{name: x, paths: none.txt}]\n", "none.txt"),
        ("  contamination: {tasks: [{paths: [nothing-*.jsonl]}]}\n", "nothing-"),
    ],
)
def test_a_wrong_recipe_is_one_clear_error_before_anything_runs(planted: Path, more: str, said: str) -> None:
    planted.write_text(f"corpus: {{paths: [pool/*]}}\nprepare:\n{more}output: out\n")
    wrong = prill("prepare", planted, check=None)
    assert wrong.returncode in {2, 3}
    assert said in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert not (planted.parent / "out" / "prepared").exists()
