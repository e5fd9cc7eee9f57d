"""`prill train`: sources, mixture, cooldown, transforms, bases, resumption, and what is written.

Every run costs seconds, so tests share two: fresh models, and a base that goes on behind metadata.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from prill.demo.machine_text import MachineDocument
from prill.errors import DataError, PrillError, RecipeError
from prill.pipeline.plan import plan_recipe
from prill.pipeline.train import train_recipe
from prill.pipeline.train_again import is_training, rewrite_training_report
from prill.pipeline.train_results import Trained
from prill.run.verify import verify

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, machine_text: list[MachineDocument]) -> Path:
    """Two sources, each document with a url; in Parquet, which is read without a further process."""
    folder = tmp_path_factory.mktemp("texts")
    code = [d.text for d in machine_text if d.source == "library"]
    prose = [d.text for d in machine_text if d.source != "library"]
    for name, part in (("code", code), ("prose", prose)):
        urls = [f"https://{name}.example.org/{number}" for number in range(len(part))]
        pq.write_table(pa.table({"text": part, "url": urls}), folder / f"{name}.parquet")
    return folder


def recipe(texts: Path, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "a test",
        "sources": {
            "code": {"corpus": {"paths": [str(texts / "code.parquet")]}, "weight": 3},
            "prose": {"corpus": {"paths": [str(texts / "prose.parquet")]}, "weight": 1},
        },
        "tokenizer": {"vocab_size": 400, "sample": "200 kB"},
        "model": {"size": "pico", "row_tokens": 64},
        "rows": 2,
        "tokens": 16_384,
        "schedule": {"wsd": {"warmup": "10%"}},
        "precision": "fp32",
        "held_out": "20 kB",
        "threads": 1,
    }
    return given | changes


TWO_SEEDS: dict[str, Any] = {"seeds": 2, "stack": 2, "checkpoints": [0.5, 1.0]}


def run(folder: Path, content: Mapping[str, Any]) -> Trained:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    done = train_recipe(path, output=None, n_workers=1, is_quiet=True, accept_changes=False)
    assert done is not None
    return done


@pytest.fixture(scope="module")
def trained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("plain"), recipe(texts, **TWO_SEEDS))


@pytest.fixture(scope="module")
def continued(trained: Trained, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of `trained` that goes on, so gently that it stays what it was."""
    content = recipe(
        texts,
        model={"base": str(trained.folder / "models" / "seed-0-16384"), "row_tokens": 64},
        tokenizer={},
        tokens=8192,
        schedule={"constant": {"warmup": "1 step"}},
        learning_rate=1e-7,
        cooldown={"share": 0.25},
    )
    for source in content["sources"].values():
        source["samples"] = [{"metadata": {"column": "url", "pieces": True}}]  # a line in every row
    return run(tmp_path_factory.mktemp("continued"), content)


def test_sources_are_read_in_proportion_and_accounted_to_the_token(trained: Trained) -> None:
    sources = pq.read_table(trained.folder / "account" / "sources.parquet").to_pylist()
    for seed in (0, 1):
        read = {row["source"]: row["n_tokens"] for row in sources if row["seed"] == seed}
        assert sum(read.values()) == 16_384
        assert read["code"] == pytest.approx(3 * read["prose"], abs=64)
    documents = pq.read_table(trained.folder / "account" / "documents.parquet")
    assert int(np.sum(documents["n_tokens"].to_numpy())) == 16_384


def test_results_hold_every_set_at_every_checkpoint(trained: Trained) -> None:
    found = json.loads((trained.folder / "training.json").read_text())
    assert {(row["set"], row["n_tokens"]) for row in found["results"]} == {
        (name, n) for name in ("code", "prose") for n in (8_192, 16_384)
    }
    for row in found["results"]:
        assert row["low"] <= row["bits_per_byte"] <= row["high"]
        assert len(row["by_seed"]) == 2
    for line in ("code", "prose", "95 % interval over seeds", "passes"):
        assert line in trained.summary


def test_models_open_in_transformers_and_reach_the_told_loss(trained: Trained) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained.folder / "models" / "seed-0-16384"
    assert folder in trained.models
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer("def f(x):\n    return x\n")["input_ids"]]])
    with torch.no_grad():
        loss = float(model(ids, labels=ids).loss)
    assert loss < np.log(400)  # better than guessing


def test_metrics_tell_every_step(trained: Trained) -> None:
    (folder,) = [path for path in (trained.folder / "metrics").iterdir() if "0" in path.name]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["loss/seed-0"] < lines[0]["loss/seed-0"]


def test_the_report_tells_what_the_results_tell(trained: Trained) -> None:
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    rows = json.loads((trained.folder / "training.json").read_text())["results"]
    for row in rows:
        assert f"{row['bits_per_byte']:.3f}" in page
        assert f"{row['n_tokens']:,}" in page
    assert "2 models of 107\u00a0k parameters reach" in page
    assert page.count('class="line path') == 2 * 2 * 3 + 3  # loss and norm: trunk and two decays a seed
    assert str(trained.folder) not in page


def test_the_report_can_be_written_again_and_the_run_verified(trained: Trained) -> None:
    page = trained.folder / "report.html"
    before = page.read_bytes()
    assert is_training(trained.folder)
    again = rewrite_training_report(trained.folder)
    assert page.read_bytes() == before
    assert again.summary == trained.summary
    assert verify(trained.folder).problems == ()


def test_a_base_is_continued_from_where_it_stood(trained: Trained, continued: Trained) -> None:
    before = json.loads((trained.folder / "training.json").read_text())["results"]
    after = json.loads((continued.folder / "training.json").read_text())["results"]
    for name in ("code", "prose"):
        (first,) = [row["by_seed"][0] for row in before if row["set"] == name and row["n_tokens"] == 16_384]
        (second,) = [row["by_seed"][0] for row in after if row["set"] == name]
        assert second == pytest.approx(first, rel=0.02)  # other documents are held out, the model is the same


def test_metadata_then_cooldown_masks_the_lines_and_ends_on_plain_documents(continued: Trained) -> None:
    rows = pq.read_table(continued.folder / "account" / "sources.parquet").to_pylist()
    assert sum(row["n_tokens"] for row in rows) == 8192
    assert sum(row["n_trained_tokens"] for row in rows) < 8192  # the lines are read, not learnt
    page = (continued.folder / "report.html").read_text(encoding="utf-8")
    for words in ("code, cooldown", "One model was trained", "prill objectives metadata"):
        assert words in page


def test_killed_and_run_again_gives_the_same_files(trained: Trained, texts: Path, tmp_path: Path) -> None:
    """`kill -9` once in the preparation, once in the midst of training."""
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(recipe(texts, **TWO_SEEDS)), encoding="utf-8")
    program = "from prill.cli import main; main()"
    command = [sys.executable, "-c", program, "train", str(path), "--quiet", "-j", "1"]
    for sign, least in (("steps/*/*.json", 1), ("metrics/*/metrics.jsonl", 20_000)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not _is_there(tmp_path / "trained", sign, least):
            time.sleep(0.01)
        process.kill()
        process.wait()
    again = run(tmp_path, recipe(texts, **TWO_SEEDS))
    names = [path.relative_to(trained.folder) for path in trained.folder.rglob("metrics.jsonl")]
    names += [Path("models/seed-1-16384/model.safetensors"), Path("training.json"), Path("report.html")]
    for name in names:
        assert (again.folder / name).read_bytes() == (trained.folder / name).read_bytes()


def _is_there(run_folder: Path, sign: str, least: int) -> bool:
    return any(path.stat().st_size >= least for path in run_folder.glob(sign))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "plane"}, r"objective.*found 'plane'"),
        ({"model": {"size": "pico", "base": "x"}}, r"either a `size` or a `base`"),
        ({"weights": [{"at": 0, "weights": {"code": 1}}]}, r"must name every source"),
        ({"model": {"base": "nowhere"}}, r"nowhere"),
    ],
)
def test_a_wrong_recipe_is_one_clear_error(
    texts: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PrillError, match=message):
        run(tmp_path, recipe(texts, **changes))
    assert not (tmp_path / "trained" / "training.json").exists()


def test_a_source_that_runs_dry_is_told_before_training(texts: Path, tmp_path: Path) -> None:
    content = recipe(texts, tokens=400_000)
    content["sources"]["prose"] |= {"weight": 3, "max_epochs": 0.01}
    with pytest.raises(DataError, match="prose"):
        run(tmp_path, content)


def test_a_corpus_below_one_row_is_told(tmp_path: Path) -> None:
    (tmp_path / "short.jsonl").write_text(json.dumps({"text": "Only this. " * 4}), encoding="utf-8")
    content = recipe(tmp_path, sources={"short": {"corpus": {"paths": [str(tmp_path / "short.jsonl")]}}})
    with pytest.raises((DataError, RecipeError), match="short"):
        run(tmp_path / "run", content)


def test_two_processes_of_torchrun_reach_what_one_does(trained: Trained, texts: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(recipe(texts, **TWO_SEEDS)), encoding="utf-8")
    program = Path(sys.executable).with_name("torchrun")
    command = [str(program), "--nproc-per-node", "2", "--master-port", "29631", "-m", "prill", "train"]
    done = subprocess.run([*command, str(path), "--quiet"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bits per byte") == 1  # one process tells
    alone = json.loads((trained.folder / "training.json").read_text())["results"]
    together = json.loads((tmp_path / "trained" / "training.json").read_text())["results"]
    for one, two in zip(alone, together, strict=True):
        assert one["set"] == two["set"]
        assert two["bits_per_byte"] == pytest.approx(one["bits_per_byte"], rel=1e-4)


def test_the_plan_tells_sources_model_and_work(texts: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(recipe(texts, **TWO_SEEDS)), encoding="utf-8")
    told = plan_recipe(path, n_workers=1)
    for words in (
        "code: about",
        "prose: about",
        "0.11 M parameters",
        "2 a step",
        "after 8,192, 16,384 tokens",
    ):
        assert words in told
