"""Memory and temporary space of a preparation whose corpus is ten times larger than a tenth of it, and why.

    python bench/preparation_memory.py --corpus FOLDER [--copies 5] [--memory 64] [--workers 2] [--all]

The Parquet files of FOLDER (bench/grown.py makes some) are copied several times with other words: in each
copy letters that stop words do not use are exchanged, so that sentences keep their form and nothing is a copy
of anything. `prill prepare` runs over everything and over about a tenth of it, with `memory:` far below the
text; peaks are those that the kernel counts for the process and the largest of its workers. Temporary space
is looked at five times a second and held against what `prill plan` said. Exit code 1 when the peak is above
1.25 times that of the tenth, or the space above the plan.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prill.run.events import timings

RECIPE = """\
corpus: {{paths: ["{corpus}"], shard_bytes: 16000000}}
prepare:
  memory: {memory}
  exact: {{by: normal}}
  near: {{}}
  lines: {{}}
{more}
output: {output}
"""
MORE = "  same_url: {}\n  substring: {}\n  semantic: {}"
LETTERS = b"cgjklmpqrsuxyz"  # those that the stop words of Gopher's rule do without
RATIO = 1.25


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one run took."""

    text_mb: float
    peak_mb: float
    steps: dict[str, float]
    temporary_mb: float
    planned_mb: float
    wall_s: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, type=Path, help="folder of Parquet files")
    parser.add_argument("--copies", type=int, default=5, help="how often the folder is taken")
    parser.add_argument("--memory", type=int, default=64, help="MB that groupings may hold")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="with same URLs, passages and meanings too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = copied(arguments.corpus, Path(folder) / "whole", arguments.copies)
        n_tenth = max(1, round(len(whole) / 10))
        tenth = Path(folder) / "tenth"
        tenth.mkdir()
        for path in whole[:n_tenth]:
            os.link(path, tenth / path.name)
        rows = [measured(Path(folder), name, arguments) for name in ("tenth", "whole")]
    sys.exit(told(rows))


def copied(source: Path, target: Path, n_copies: int) -> list[Path]:
    """The files of a folder several times, each time with other words."""
    target.mkdir()
    found = []
    for copy in range(n_copies):
        for path in sorted(source.glob("*.parquet")):
            table = pq.read_table(path)
            texts = [changed(text, copy) for text in table["text"].to_pylist()]
            table = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts))
            found.append(target / f"{copy}-{path.name}")
            pq.write_table(table, found[-1], row_group_size=2000)
    return found


def changed(text: str, copy: int) -> str:
    """The text with letters exchanged."""
    turned = LETTERS[copy:] + LETTERS[:copy]
    table = bytes.maketrans(LETTERS + LETTERS.upper(), turned + turned.upper())
    return text.encode().translate(table).decode()


def measured(folder: Path, name: str, arguments: argparse.Namespace) -> Seen:
    """One preparation in a process of its own."""
    recipe, output = folder / f"{name}.yaml", folder / f"out-{name}"
    more = MORE if arguments.all else ""
    recipe.write_text(
        RECIPE.format(corpus=folder / name, memory=arguments.memory * 1_000_000, more=more, output=output)
    )
    command = [sys.executable, "-c", "from prill.cli import main; main()"]
    plan = subprocess.run([*command, "plan", str(recipe)], check=True, capture_output=True, text=True).stdout
    begun = time.perf_counter()
    running = subprocess.Popen(
        [*command, "prepare", str(recipe), "-q", "-j", str(arguments.workers)], stdout=subprocess.DEVNULL
    )
    temporary = max(watched(running, output))
    if running.returncode:
        sys.exit(f"prill prepare ended with {running.returncode}")
    steps = timings(output)
    return Seen(
        text_mb=_number(r"([\d,.]+) MB of text", plan),
        peak_mb=max(max(t.peak_memory_bytes, t.peak_worker_memory_bytes) for t in steps) / 1e6,
        steps={t.step: t.peak_memory_bytes / 1e6 for t in steps},
        temporary_mb=temporary / 1e6,
        planned_mb=_number(r"temporary\s+at most about ([\d,.]+) MB", plan),
        wall_s=time.perf_counter() - begun,
    )


def watched(running: subprocess.Popen[bytes], output: Path) -> Iterator[int]:
    """Bytes of temporary files, until the process ends."""
    while running.poll() is None:
        yield sum(_size(path) for path in output.glob("steps/*/scratch/**/*"))
        time.sleep(0.2)
    yield 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512 if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1].replace(",", ""))


def told(rows: list[Seen]) -> int:
    """Print both runs; returns the exit code."""
    print(
        "| text, MB | peak, MB | temporary, MB | as planned | wall, s |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    for row in rows:
        print(
            f"| {row.text_mb:,.0f} | {row.peak_mb:,.0f} | {row.temporary_mb:,.0f} | {row.planned_mb:,.0f} "
            f"| {row.wall_s:.0f} |"
        )
    small, large = rows
    print("\n| highest so far, after | tenth, MB | whole, MB |\n| --- | ---: | ---: |")
    for step, peak in large.steps.items():
        print(f"| {step} | {small.steps.get(step, 0):,.0f} | {peak:,.0f} |")
    ratio = large.peak_mb / small.peak_mb
    is_held = ratio <= RATIO and all(row.temporary_mb <= row.planned_mb for row in rows)
    print(f"\npeak {ratio:.2f} times that of the tenth (at most {RATIO}): {'held' if is_held else 'BROKEN'}")
    return 0 if is_held else 1


if __name__ == "__main__":
    main()
