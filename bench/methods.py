"""Every method on one corpus, four targets, one budget, one command: writes the page docs/comparison.md.

    python bench/methods.py DATA OUTPUT [--tokens 100k] [--seeds 3] [--write docs/comparison.md]

DATA holds corpus/*.parquet, targets/NAME.jsonl and targets/NAME.members.json. Every target's budget is the
share of its members in the pool's bytes. Runs `prill compare` on a recipe with `arms: all`, as a process of
its own, and samples the resident memory of it and of its workers twice a second. It can be stopped and
repeated; what is finished keeps its times.

Wall and processor seconds of a method are those of its steps, features that it shares with others counted
in full, as if it ran alone. Peak memory is the largest sum over all processes while any of these steps ran;
pages that processes share count for each of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from prill.run.events import read_events, timings

SAMPLE_S = 0.5
SKIP = ("fit-", "score-")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", default="pico")
    parser.add_argument("--tokens", default="100k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--control", type=float, default=8.0, help="times that the control trains longer")
    parser.add_argument("--arms", help="names, separated by commas; all when not given")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    recipe = asked.output / "recipe.yaml"
    recipe.write_text(json.dumps(_recipe(asked), indent=1))
    memory = asked.output / "memory.jsonl"
    command = [sys.executable, "-m", "prill", "compare", str(recipe), "--accept-changes"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    sampler = threading.Thread(target=_sample, args=(process.pid, memory), daemon=True)
    sampler.start()
    if process.wait() != 0:
        sys.exit(process.returncode)
    page = _page(asked, asked.output / "run", memory, time.monotonic() - began)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    print(page)


def _recipe(asked: argparse.Namespace) -> dict[str, Any]:
    """The recipe: every target's budget is the share of its members in the pool's bytes."""
    data = asked.data.resolve()
    names = sorted(path.stem for path in (data / "targets").glob("*.jsonl"))
    sizes: dict[str, int] = {}
    for path in sorted((data / "corpus").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "text"])
        texts = table["text"].to_pylist()
        sizes |= {i: len(text.encode()) for i, text in zip(table["id"].to_pylist(), texts, strict=True)}
    targets = {}
    for name in names:
        members = data / "targets" / f"{name}.members.json"
        ids = json.loads(members.read_text())["pool_member_ids"]
        share = sum(sizes[i] for i in ids) / sum(sizes.values())
        targets[name] = {
            "paths": [str(data / "targets" / f"{name}.jsonl")],
            "members": str(members),
            "budget": f"{100 * share:.2f}%",
        }
    return {
        "name": "Every method on one corpus",
        "corpus": {"paths": [str(data / "corpus" / "*.parquet")]},
        "targets": targets,
        "budget": "5%",
        "arms": [{"method": name} for name in asked.arms.split(",")] if asked.arms else "all",
        "trials": {
            "size": asked.size,
            "tokens": asked.tokens,
            "checkpoints": [0.5, 1.0],
            "seeds": asked.seeds,
            "control_multiple": asked.control,
            "stack": asked.seeds,
        },
        "output": "run",
    }


def _sample(pid: int, path: Path) -> None:
    """Append (clock, resident bytes of the process and all its children) until it ends."""
    root = psutil.Process(pid)
    with path.open("a", encoding="utf-8") as file:
        while True:
            total = 0
            try:
                for process in (root, *root.children(recursive=True)):
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                if not root.is_running():
                    return
            file.write(json.dumps([time.time(), total]) + "\n")
            file.flush()
            time.sleep(SAMPLE_S)


def _page(asked: argparse.Namespace, run: Path, memory: Path, wall: float) -> str:
    told = json.loads((run / "comparison.json").read_text())
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    about = (
        f"Made by `python bench/methods.py DATA OUTPUT --tokens {asked.tokens} --seeds {asked.seeds}` at "
        f"{commit}, on {_machine()}; {wall / 60:.0f} minutes in all. Every target's budget is its planted "
        f"share of the pool. Trials: {asked.size} proxies, {asked.tokens} tokens, {asked.seeds} seeds, "
        "paired with random text drawn anew for every seed, which trains up to "
        f"{asked.control:g} times longer to see when it catches up. Precision is the share of chosen tokens "
        "that truly belong to the target; KL is from its held-out part to the choice, in nats, on hashed "
        "1- and 2-grams. Verdicts hold over all comparisons of this page together (Holm). Four defaults were "
        "settled after looking at this corpus: DCLM's learning rate, SnowCoder's penalty, MATES's z-scores, "
        "the passes of the linear student; the raters of DataMan and FineWeb-Edu are stand-ins by rules here."
    )
    lines = [
        "# Every method on one corpus",
        "",
        *textwrap.wrap(about, 108),
        "",
        (run / "comparison.md").read_text(encoding="utf-8").rstrip(),
        "",
        "### Time and memory",
        "",
        "| method | wall s | processor s | peak MB | of these, shared with others, wall s |",
        "|---|---:|---:|---:|---:|",
        *_clocks(told, run, memory),
    ]
    return "\n".join(lines) + "\n"


def _clocks(told: dict[str, Any], run: Path, memory: Path) -> list[str]:
    """One line a method: the steps it needs, from the diary of the run."""
    samples = [json.loads(line) for line in memory.read_text().splitlines()]
    spent = {t.step: t for t in timings(run)}
    spans = _spans(run)
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in told["rows"]):
        shared = {f["step"]: len(f["arms"]) for f in told["features"] if arm in f["arms"]}
        own = [
            s
            for s in spent
            if any(s.startswith(f"{kind}{arm}-") and _is_hash(s[len(kind + arm) + 1 :]) for kind in SKIP)
        ]
        steps = [*shared, *own]
        if not steps:
            continue
        peak = max(_peak(samples, *spans[step]) for step in steps)
        wall = sum(spent[s].elapsed_s for s in steps)
        cpu = sum(spent[s].cpu_s for s in steps)
        common = sum(spent[s].elapsed_s for s, n in shared.items() if n > 1)
        lines.append(f"| {arm} | {wall:.1f} | {cpu:.1f} | {peak / 1e6:.0f} | {common:.1f} |")
    return lines


def _peak(samples: list[list[float]], began: float, ended: float) -> float:
    """The most memory while a step worked; of one shorter than the time between two samples, the next."""
    within = [rss for clock, rss in samples if began <= clock <= ended]
    return max(within) if within else next((rss for clock, rss in samples if clock > ended), 0.0)


def _is_hash(text: str) -> bool:
    return len(text) == 8 and all(c in "0123456789abcdef" for c in text)


def _spans(run: Path) -> dict[str, tuple[float, float]]:
    """When each step worked, seconds of the clock."""
    found: dict[str, tuple[float, float]] = {}
    for event in read_events(run):
        if event.get("event") == "step_finished":
            clock = datetime.fromisoformat(str(event["time"])).timestamp()
            found[str(event["step"])] = (clock - float(str(event["elapsed_s"])), clock)
    return found


def _machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return f"{psutil.cpu_count()} cores of {model}, {psutil.virtual_memory().total / 2**30:.0f} GiB"


if __name__ == "__main__":
    main()
