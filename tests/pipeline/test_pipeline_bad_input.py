"""Bad input ends with one clear error: which file, which row or line, what to do; never a traceback."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_study import build_study, prill

from prill.demo.machine_text import MachineDocument


@pytest.fixture
def untried(tmp_path: Path, machine_text: list[MachineDocument]) -> Path:
    """A recipe without trials, so that a run is short."""
    return build_study(tmp_path / "study", machine_text, trials="null")


def fails(recipe: Path, *, code: int) -> str:
    done = prill("run", recipe, "--quiet", check=code)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    run = recipe.parent / "run"
    assert not (run / "report.html").exists()
    assert not list(run.glob("dataset/**/*.parquet"))
    return done.stderr


def write_line(recipe: Path, line: bytes) -> None:
    path = recipe.parent / "pool" / "b.jsonl"
    path.write_bytes(path.read_bytes() + line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "cut\n', "JSON"),
        (b'{"text": 7}\n', "string"),
        (b'{"text": null}\n', "null"),
        (b'{"id": "x"}\n', "text"),
        (b'{"text": "\xff\xfe"}\n', "UTF-8"),
        (b"[1, 2]\n", "object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(untried: Path, line: bytes, said: str) -> None:
    n_lines = (untried.parent / "pool" / "b.jsonl").read_bytes().count(b"\n")
    write_line(untried, line)
    told = fails(untried, code=3)
    assert f"b.jsonl:{n_lines + 1}" in told or f"b.jsonl, line {n_lines + 1}" in told
    assert said in told
    assert "quarantine" in told


def test_bad_lines_go_to_quarantine_when_asked(untried: Path) -> None:
    write_line(untried, b'{"text": 7}\n{"text": "cut\n')
    untried.write_text(
        untried.read_text().replace("paths: [pool/*]", "paths: [pool/*]\n  on_bad: quarantine")
    )
    prill("run", untried, "--quiet")
    quarantined = pq.read_table(untried.parent / "run" / "quarantine.parquet").to_pylist()
    assert [bytes(q["raw"]) for q in quarantined] == [b'{"text": 7}', b'{"text": "cut']
    assert all("b.jsonl" in q["where"] for q in quarantined)


def test_a_cut_gzip_never_looks_like_its_end(untried: Path) -> None:
    path = untried.parent / "pool" / "b.jsonl"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (untried.parent / "pool" / "c.jsonl.gz").write_bytes(packed[: len(packed) * 2 // 3])
    assert "c.jsonl.gz" in fails(untried, code=3)


def test_a_corrupt_parquet_file_is_named(untried: Path) -> None:
    path = untried.parent / "pool" / "a.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "a.parquet" in fails(untried, code=3)


def test_shards_that_differ_are_told_before_work_starts(untried: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), untried.parent / "pool" / "z.parquet")
    assert "z.parquet" in fails(untried, code=3)


def test_all_missing_inputs_are_told_at_once(untried: Path) -> None:
    (untried.parent / "prose.jsonl").unlink()
    (untried.parent / "code.jsonl").unlink()
    shutil.rmtree(untried.parent / "pool")
    told = fails(untried, code=3)
    assert "prose.jsonl" in told
    assert "code.jsonl" in told
    assert "pool" in told


def test_a_target_of_one_document_is_refused(untried: Path) -> None:
    (untried.parent / "prose.jsonl").write_text('{"text": "only one"}\n{"text": "only one"}\n')
    told = fails(untried, code=3)
    assert "prose" in told
    assert "at least 2" in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("budget: 20%", "bugdet: 20%"), "did you mean 'budget'?"),
        (("budget: 20%", "budget: 900M tokens"), "budget"),
        (("budget: 20%", "budget: 0"), "budget"),
        (("seed: 3", "seed: three"), "seed"),
        (("trials: null", "trials: {size: huge}"), "huge"),
    ],
)
def test_a_wrong_recipe_exits_with_2(untried: Path, change: tuple[str, str], said: str) -> None:
    untried.write_text(untried.read_text().replace(*change))
    assert said in fails(untried, code=2)


def test_a_folder_that_holds_something_else_is_left_alone(untried: Path) -> None:
    run = untried.parent / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    told = fails(untried, code=2)
    assert "run" in told
    assert [path.name for path in run.iterdir()] == ["thesis.txt"]


def test_hostile_names_stay_inside_the_run_and_harmless_in_the_report(untried: Path) -> None:
    hostile = "../../<script>alert(1)</script>"
    untried.write_text(untried.read_text().replace("  prose: {", f'  "{hostile}": {{'))
    prill("run", untried, "--quiet")
    page = (untried.parent / "run" / "report.html").read_text()
    assert "<script>alert(1)" not in page
    folders = [path.name for path in (untried.parent / "run" / "dataset").iterdir()]
    assert len(folders) == 2
    assert all("/" not in name and ".." not in name for name in folders)
    assert {path.name for path in untried.parent.iterdir()} == {
        "pool",
        "run",
        "recipe.yaml",
        "prose.jsonl",
        "code.jsonl",
    }


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    assert "No such option" in prill("run", "--wrong", check=2).stderr
    assert "prill demo" in prill("run", tmp_path / "none.yaml", check=2).stderr
    assert "did you mean 'dsir'?" in prill("methods", "disr", check=2).stderr
    assert prill("verify", tmp_path, check=2).stderr.startswith("error: ")


def test_a_pool_of_a_few_documents_still_gives_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    (folder / "pool").mkdir(parents=True)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    texts = [" ".join(words[(i * j) % 10] for j in range(1, 400)) for i in range(1, 8)]
    pq.write_table(pa.table({"text": texts}), folder / "pool" / "a.parquet")
    (folder / "t.jsonl").write_text('{"text": "alpha beta"}\n{"text": "gamma delta epsilon"}\n')
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "corpus: {paths: [pool/*]}\ntargets: {t: {paths: [t.jsonl]}}\nbudget: 50%\n"
        "tokenizer: {vocab_size: 300}\n"
        "trials: {size: pico, tokens: 4k, checkpoints: [1.0], seeds: 2, rows: 2, row_tokens: 32}\n"
    )
    done = prill("run", recipe, "--quiet")
    assert "report:" in done.stdout
    assert (folder / "run" / "report.html").exists()
