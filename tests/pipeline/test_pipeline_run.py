"""A whole run on real text: what it writes, that it adds up, and that its bytes depend on nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest
from small_study import build_study, hashes, prill

from prill.demo.machine_text import MachineDocument

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, machine_text: list[MachineDocument]) -> Path:
    """The folder of a finished run with one worker."""
    recipe = build_study(tmp_path_factory.mktemp("finished") / "study", machine_text)
    done = prill("run", recipe, "--workers", 1, "--quiet")
    assert "report:" in done.stdout
    return recipe.parent / "run"


def records(run: Path) -> dict[str, dict[str, object]]:
    steps = orjson.loads((run / "lineage.json").read_bytes())["steps"]
    return {step["step"]: step for step in steps}


def test_every_document_is_accounted_for(finished: Path) -> None:
    counts = records(finished)["tokens"]["counts"]
    dropped = counts["dropped"]
    assert counts["n_documents"] == counts["n_eligible"] + sum(dropped.values())
    assert dropped["exact copy of an earlier document"] >= 2


def test_the_budget_is_never_exceeded_and_missed_by_less_than_a_document(finished: Path) -> None:
    for target in ("prose", "code"):
        audit = orjson.loads(next(finished.glob(f"steps/choose-dsir-{target}-*/audit.json")).read_bytes())
        longest = max(
            max(pq.read_table(part)["n_tokens"].to_pylist(), default=0)
            for part in finished.glob("steps/tokens-*/part-*")
        )
        assert 0 <= audit["shortfall"] < longest
        assert audit["kept"]["tokens"] + audit["shortfall"] == audit["limit"]


def test_the_dataset_opens_without_prill_and_holds_what_the_audit_says(finished: Path) -> None:
    for target in ("prose", "code"):
        audit = orjson.loads(next(finished.glob(f"steps/choose-dsir-{target}-*/audit.json")).read_bytes())
        files = f"{finished}/dataset/{target}/dsir/*.parquet"
        n_rows, n_tokens = duckdb.sql(f"select count(*), sum(prill_tokens) from '{files}'").fetchall()[0]
        assert (n_rows, n_tokens) == (audit["kept"]["documents"], audit["kept"]["tokens"])
        assert pl.read_parquet(files)["text"].str.len_bytes().min() > 0


def test_no_held_out_text_reaches_a_dataset_or_a_fit(finished: Path) -> None:
    for target in ("prose", "code"):
        parts = pq.read_table(next(finished.glob(f"steps/targets-*/{target}.parquet"))).to_pylist()
        held_out = {p["text"] for p in parts if p["part"] == "held_out"}
        assert held_out
        assert held_out.isdisjoint(p["text"] for p in parts if p["part"] == "fit")
        chosen = pl.read_parquet(f"{finished}/dataset/{target}/dsir/*.parquet")["text"]
        assert held_out.isdisjoint(chosen.to_list())


def test_every_arm_trains_on_equal_tokens(finished: Path) -> None:
    rows = pl.concat(pl.read_parquet(path) for path in finished.glob("steps/trials-*/part-*.parquet"))
    tokens = rows.group_by("arm", "seed").agg(pl.col("n_tokens").max())
    assert set(tokens["arm"]) == {"random", "dsir:prose", "dsir:code"}
    assert tokens["n_tokens"].n_unique() == 1
    assert len(tokens) == 6


def test_the_choice_favours_the_target_kind(finished: Path) -> None:
    eligible = [
        source
        for read, mark in zip(
            sorted(finished.glob("steps/read-*/part-*")),
            sorted(finished.glob("steps/eligible-*/part-*")),
            strict=True,
        )
        for source, reason in zip(
            pq.read_table(read)["source"].to_pylist(),
            pq.read_table(mark)["drop_reason"].to_pylist(),
            strict=True,
        )
        if reason is None
    ]
    chosen = pl.read_parquet(f"{finished}/dataset/prose/dsir/*.parquet")["source"].to_list()
    assert chosen.count("licences") >= 0.8 * eligible.count("licences")


def test_the_number_of_workers_changes_no_byte(
    finished: Path, tmp_path: Path, machine_text: list[MachineDocument]
) -> None:
    recipe = build_study(tmp_path / "study", machine_text)
    prill("run", recipe, "--workers", 2, "--quiet")
    assert hashes(recipe.parent / "run") == hashes(finished)


def test_kill_9_at_any_moment_changes_no_byte(
    finished: Path, tmp_path: Path, machine_text: list[MachineDocument]
) -> None:
    recipe = build_study(tmp_path / "study", machine_text)
    command = [sys.executable, "-c", "from prill.cli import main; main()", "run", str(recipe), "--quiet"]
    moments = random.Random(7)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(1.0, 12.0))
        process.kill()
        process.wait()
    prill("run", recipe, "--quiet")
    assert hashes(recipe.parent / "run") == hashes(finished)


def test_a_finished_run_is_reused_and_verified(finished: Path) -> None:
    before = hashes(finished)
    prill("run", finished.parent / "recipe.yaml", "--quiet")
    assert hashes(finished) == before
    assert "are whole" in prill("verify", finished).stdout


def test_a_flipped_bit_is_found_and_mended(
    tmp_path: Path, finished: Path, machine_text: list[MachineDocument]
) -> None:
    import shutil

    folder = tmp_path / "study"
    shutil.copytree(finished.parent, folder)
    run = folder / "run"
    victim = next((run / "steps").glob("score-*/part-00000.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    told = prill("verify", run, check=3).stderr
    assert victim.name in told
    assert victim.parent.name in told
    prill("run", folder / "recipe.yaml", "--quiet")
    assert hashes(run) == hashes(finished)


def test_why_tells_kept_not_kept_and_copies(finished: Path) -> None:
    kept = pl.read_parquet(f"{finished}/dataset/prose/dsir/*.parquet")["id"][0]
    told = prill("why", kept, "--run", finished).stdout
    assert "prose: kept" in told
    assert "n_tokens" in told
    table = pq.read_table(next(finished.glob("steps/eligible-*/part-00000.parquet")))
    reasons = [
        (shard, row, reason)
        for shard, part in enumerate(sorted(finished.glob("steps/eligible-*/part-*.parquet")))
        for row, reason in enumerate(pq.read_table(part)["drop_reason"].to_pylist())
        if reason and reason.startswith("exact copy of an earlier")
    ]
    assert table.num_rows
    shard, row, _ = reasons[-1]
    assert (
        "not a candidate for any target: exact copy"
        in prill("why", f"{shard}:{row}", "--run", finished).stdout
    )
    assert "found none called" in prill("why", "no such id", "--run", finished, check=3).stderr


def test_timings_and_the_report_can_be_had_again(finished: Path) -> None:
    assert "trials" in prill("report", finished, "--timings").stdout
    before = (finished / "report.html").read_bytes()
    (finished / "report.html").write_bytes(b"spoiled")
    prill("report", finished)
    assert (finished / "report.html").read_bytes() == before


def test_a_changed_recipe_is_told_field_by_field(finished: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "study"
    shutil.copytree(finished.parent, folder)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("budget: 20%", "budget: 10%"))
    told = prill("run", recipe, "--quiet", check=2).stderr
    assert "budget.amount" in told
    assert "0.2" in told
    assert "0.1" in told
    assert "--accept-changes" in told
