"""Every method where the right choice is known: writes the page docs/laboratory.md.

    python bench/laboratory.py OUTPUT [--seeds 3] [--size small] [--write docs/laboratory.md]

Runs `prill lab` with all methods for several seeds, each with other chains and other documents, and counts
how often each method finds the right choice for a mixture of four sources and for a single one.
"""

from __future__ import annotations

import argparse
import subprocess
import textwrap
from pathlib import Path
from statistics import mean

from prill.methods.registry import list_methods
from prill.pipeline.arms import LeftOut
from prill.pipeline.laboratory import run_laboratory
from prill.study.laboratory.judging import Verdict

TARGETS = {
    "single": "One source of the pool is the target; the right choice is that source and nothing else.",
    "blend": "Four sources in known shares are the target; the right choice has these shares (total "
    "variation, TV, below 0.1), few decoys, and less regret than a random choice. Methods that score "
    "documents one by one and take the best cannot be expected to find shares.",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    found: dict[str, list[Verdict]] = {target: [] for target in TARGETS}
    left_out: list[LeftOut] = []
    for seed in range(asked.seeds):
        folder = asked.output / f"seed-{seed}"
        verdicts, missing = run_laboratory(
            folder,
            size=asked.size,
            seed=seed,
            methods=None,
            has_trials=False,
            n_workers=None,
            is_quiet=True,
        )
        left_out += missing
        for target in TARGETS:
            found[target] += verdicts[target]
    page = _page(asked, found, left_out)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    print(page)


def _page(asked: argparse.Namespace, found: dict[str, list[Verdict]], left_out: list[LeftOut]) -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    about = (
        f"Made by `python bench/laboratory.py OUTPUT --seeds {asked.seeds} --size {asked.size}` at {commit}. "
        "A laboratory is a pool of documents from Markov chains, among them decoys near the target and a "
        "source that writes everything several times; the loss of a learner that has read a choice without "
        "end is known exactly, so the best choice is too. Regret is what a choice's shares cost beyond the "
        "best shares, nats a word. Every method works with its defaults and sees no labels. "
        "`prill lab` runs one seed and prints a verdict on every method."
    )
    parts = ["# Where the right choice is known", "", *textwrap.wrap(about, 108), ""]
    for target, told in TARGETS.items():
        parts += [f"## Target: {target}", "", *textwrap.wrap(told, 108), "", *_table(found[target]), ""]
    if left_out:
        told = {one.arm: one.why for one in left_out}
        times = {arm: sum(one.arm == arm for one in left_out) for arm in told}
        parts += ["## Left out", ""]
        parts += [
            f"- {arm} ({times[arm]} of {asked.seeds} seeds): {why}" for arm, why in sorted(told.items())
        ]
    return "\n".join(parts).rstrip() + "\n"


def _table(verdicts: list[Verdict]) -> list[str]:
    """A line a method, the least regret first; means over the seeds."""
    heads = ["method", "finds it", "beats random", "right sources", "decoys", "TV to the best", "regret"]
    heads.append("random's regret")
    lines = [f"| {' | '.join(heads)} |", "|---" + "|---:" * 7 + "|"]
    by_arm = {arm: [v for v in verdicts if v.arm == arm] for arm in list_methods()}
    rows = {arm: found for arm, found in by_arm.items() if found}
    for arm, found in sorted(rows.items(), key=lambda row: mean(v.regret_nats for v in row[1])):
        n = len(found)
        cells = [
            arm,
            f"{sum(v.finds_it for v in found)} of {n}",
            f"{sum(v.beats_random for v in found)} of {n}",
            f"{mean(v.precision for v in found):.1%}",
            f"{mean(v.decoy_share for v in found):.1%}",
            f"{mean(v.distance for v in found):.2f}",
            f"{mean(v.regret_nats for v in found):.3f}",
            f"{mean(v.random_regret_nats for v in found):.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
