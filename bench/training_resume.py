"""`kill -9` in the midst of training, again and again: the same weights, results and report?

    PYTHONPATH=src python bench/training_resume.py OUTPUT [--kills 10] [--tokens 250000] [--seed 0]

Trains on the text of this Python installation, two cases: a stack of two fresh models in one process, and a
random `transformers` Llama that goes on with low-rank adapters. Each is trained once undisturbed into
OUTPUT/<case>/whole. The other folder is killed: each time training has gone on from where it was, the process
gets `kill -9` after a random part of the undisturbed training's time; at last it may finish. Then the SHA-256
of every file that holds no clock is compared: `models`, `report.html`, metrics, account, checkpoints, all.
`redone` counts the steps that were trained more than once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from prill.corpus.tokenizer import train_bpe
from prill.demo.machine_text import documents
from prill.run.events import timings

PRILL = [sys.executable, "-c", "from prill.cli import main; main()"]
CLOCKS = {"events.jsonl", "timings.jsonl"}  # the only files with clocks
VOCABULARY = 512


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    texts = write_texts(asked.output)
    cases: dict[str, dict[str, Any]] = {
        "two seeds, one stack": {
            "model": {"size": "pico", "row_tokens": 128},
            "seeds": 2,
            "stack": 2,
            "tokenizer": {"vocab_size": VOCABULARY, "sample": "400 kB"},
        },
        "Llama with LoRA": {
            "model": {"base": str(write_base(asked.output, texts)), "row_tokens": 128, "lora": {"rank": 4}},
            "threads": 1,
        },
    }
    print("| case | steps | kills in training | steps redone | files compared | weights | report | differ |")
    print("| --- | ---: | ---: | ---: | ---: | --- | --- | --- |")
    n_different = 0
    for name, changes in cases.items():
        n_different += compare(name, recipe(asked, changes), asked)
    return min(1, n_different)


def recipe(asked: argparse.Namespace, changes: dict[str, Any]) -> dict[str, Any]:
    corpora = {
        name: {"corpus": {"paths": [str((asked.output / f"{name}.jsonl").resolve())]}}
        for name in ("code", "prose")
    }
    return {
        "sources": corpora,
        "tokens": asked.tokens,
        "checkpoints": [0.25, 0.5, 0.75, 1.0],
        "rows": 4,
        "held_out": "20 kB",
        **changes,
    }


def compare(name: str, content: dict[str, Any], asked: argparse.Namespace) -> int:
    """Train both ways and print a row; returns how many files differ."""
    folder = asked.output / name.replace(" ", "-").replace(",", "")
    folder.mkdir(exist_ok=True)
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    whole, killed = folder / "whole", folder / "killed"
    subprocess.run(_command(path, whole), check=True, stdout=subprocess.DEVNULL)
    seconds = next(t.elapsed_s for t in timings(whole) if t.step == "train")
    moments = random.Random(asked.seed)
    n_kills = n_redone = 0
    for _ in range(asked.kills):
        done = last_step(killed)
        process = subprocess.Popen(_command(path, killed), stdout=subprocess.DEVNULL)
        began = changed_step(process, killed, done)
        time.sleep(moments.uniform(0.0, 0.4) * seconds)
        if process.poll() is not None:
            print(f"{name}: ended before kill {n_kills + 1}", file=sys.stderr)
            break
        process.kill()
        process.wait()
        n_kills += 1
        n_redone += max(0, done - began)
        print(f"{name}: from step {began} (of {done} before), killed at {last_step(killed)}", file=sys.stderr)
    subprocess.run(_command(path, killed), check=True, stdout=subprocess.DEVNULL)
    one, other = hashes(whole), hashes(killed)
    differ = sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))
    said = {
        kind: "same" if not any(kind in p for p in differ) else "differ"
        for kind in ("models/", "report.html")
    }
    print(
        f"| {name} | {last_step(whole)} | {n_kills} | {n_redone} | {len(one)} | {said['models/']} | "
        f"{said['report.html']} | {', '.join(differ[:5]) or 'none'} |",
        flush=True,
    )
    return len(differ)


def changed_step(process: subprocess.Popen[bytes], run: Path, done: int) -> int:
    """Wait until training writes again; the step it went on from."""
    sizes = _sizes(run)
    while process.poll() is None:
        if _sizes(run) != sizes:
            return max(0, last_step(run) - 1)
        time.sleep(0.005)
    return done


def last_step(run: Path) -> int:
    """The last whole line of the metrics."""
    for path in run.glob("metrics/*/metrics.jsonl"):
        lines = path.read_bytes().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) if lines else 0
    return 0


def _sizes(run: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(run.glob("metrics/*/metrics.jsonl"))]


def hashes(run: Path) -> dict[str, str]:
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file() and path.name not in CLOCKS and "lock" not in path.name
    }


def write_texts(folder: Path) -> list[str]:
    """Two sources; returns some of their text."""
    found = documents(1_000_000)
    for name in ("code", "prose"):
        part = [d.text for d in found if (d.source == "library") == (name == "code")]
        lines = "\n".join(json.dumps({"text": text}) for text in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return [d.text for d in found[:200]]


def write_base(folder: Path, texts: list[str]) -> Path:
    """A small Llama with random weights and a tokenizer of its own."""
    import torch
    import transformers

    base = folder / "llama"
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=160,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(base)
    (base / "tokenizer.json").write_bytes(train_bpe(texts, VOCABULARY))
    (base / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return base.resolve()


def _command(path: Path, output: Path) -> list[str]:
    return [*PRILL, "train", str(path), "--output", str(output), "--workers", "1", "--quiet"]


if __name__ == "__main__":
    sys.exit(main())
