"""A small real corpus for whole runs: reference topics, library sources and licences of this Python."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from prill.demo.machine_text import MachineDocument

RECIPE = """\
name: a small study
seed: 3
corpus:
  paths: [pool/*]
targets:
  prose: {{paths: [prose.jsonl]}}
  code: {{paths: [code.jsonl]}}
tokenizer: {{vocab_size: 512, sample: 200 kB}}
budget: 20%
rest: {{size: 20 kB}}
trials: {trials}
output: run
"""
TRIALS = (
    "{size: pico, tokens: 12k, checkpoints: [0.9, 1.0], seeds: 2, rows: 4, row_tokens: 64, eval_tokens: 1500}"
)


def build_study(folder: Path, machine_text: list[MachineDocument], *, trials: str = TRIALS) -> Path:
    is_sample = [hashlib.sha256(d.text.encode()).digest()[0] % 3 == 0 for d in machine_text]
    samples = {
        "prose": [d for d, s in zip(machine_text, is_sample, strict=True) if s and d.source == "licences"],
        "code": [d for d, s in zip(machine_text, is_sample, strict=True) if s and d.source == "library"],
    }
    taken = {d.id for sample in samples.values() for d in sample}
    pool = [d for d in machine_text if d.id not in taken]
    (folder / "pool").mkdir(parents=True)
    half = len(pool) // 2
    rows = [{"id": d.id, "text": d.text, "source": d.source} for d in pool]
    pq.write_table(pa.Table.from_pylist(rows[:half]), folder / "pool" / "a.parquet", row_group_size=50)
    copies = [rows[half], rows[0]]  # exact copies, within a file and across files
    (folder / "pool" / "b.jsonl").write_bytes(
        b"".join(orjson.dumps(row) + b"\n" for row in rows[half:] + copies)
    )
    for name, sample in samples.items():
        lines = [orjson.dumps({"id": d.id, "text": d.text}) for d in sample]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(trials=trials))
    return recipe


def prill(*arguments: object, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user would."""
    command = [sys.executable, "-c", "from prill.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, check=False
    )
    assert check is None or done.returncode == check, done.stderr + done.stdout
    return done


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of a run except the event log and the lock, which hold clocks and processes."""
    apart = {"events.jsonl", "prill.lock", ".prill.lock", "prill-run.lock"}
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in apart and "lock" not in path.name
    }
