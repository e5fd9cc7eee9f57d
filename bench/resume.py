"""One recipe with one worker, with two, and killed with `kill -9` at random moments: the same bytes?

    python bench/resume.py RECIPE OUTPUT [--kills 5] [--within 15] [--seed 0]

Runs the recipe into OUTPUT/one, OUTPUT/two and OUTPUT/killed, compares the SHA-256 of every file that is no
log or lock, and prints what differs. Choose `--within` so that the kills fall into different steps of the
resumed run; each is said to have hit a running process or not.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

PRILL = [sys.executable, "-c", "from prill.cli import main; main()"]
APART = {"events.jsonl"}  # the only file with clocks


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--within", type=float, default=15.0, help="seconds in which each kill falls")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folders = {name: asked.output / name for name in ("one", "two", "killed")}
    subprocess.run(_command(asked.recipe, folders["one"], 1), check=True)
    subprocess.run(_command(asked.recipe, folders["two"], 2), check=True)
    moments = random.Random(asked.seed)
    for _ in range(asked.kills):
        process = subprocess.Popen(_command(asked.recipe, folders["killed"], 2))
        after = moments.uniform(0.5, asked.within)
        time.sleep(after)
        was = "while it ran" if process.poll() is None else "too late: it had ended"
        process.kill()
        process.wait()
        print(f"killed after {after:.1f} s, {was}", file=sys.stderr)
    subprocess.run(_command(asked.recipe, folders["killed"], 2), check=True)
    found = {name: _hashes(folder) for name, folder in folders.items()}
    n_different = 0
    for name in ("two", "killed"):
        differ = sorted(
            p for p in found["one"].keys() | found[name].keys() if found["one"].get(p) != found[name].get(p)
        )
        n_different += len(differ)
        print(f"{name}: {len(found[name])} files, {len(differ)} differ from one worker's {differ[:5] or ''}")
    return min(1, n_different)


def _command(recipe: Path, output: Path, workers: int) -> list[str]:
    return [*PRILL, "run", str(recipe), "--output", str(output), "--workers", str(workers), "--quiet"]


def _hashes(run: Path) -> dict[str, str]:
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file() and path.name not in APART and "lock" not in path.name
    }


if __name__ == "__main__":
    sys.exit(main())
