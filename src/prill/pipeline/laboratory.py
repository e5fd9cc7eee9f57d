"""`prill lab`: every method in a laboratory where the right choice is known, and a verdict on each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from prill.methods.registry import get_method, list_methods
from prill.pipeline.arms import LeftOut
from prill.pipeline.run import run_recipe
from prill.recipe.model import CONTROL
from prill.run.fingerprint import safe_name
from prill.study.laboratory.bigram_lab import TARGETS
from prill.study.laboratory.judging import Verdict, judge_laboratory
from prill.study.laboratory.writing import write_laboratory

__all__ = ["run_laboratory"]


def run_laboratory(
    folder: Path,
    *,
    size: Literal["small", "full"],
    seed: int,
    methods: Sequence[str] | None,
    has_trials: bool,
    n_workers: int | None,
    is_quiet: bool,
) -> tuple[dict[str, list[Verdict]], tuple[LeftOut, ...]]:
    """Write the laboratory of chains into `folder`, let the methods choose, and judge each choice exactly.

    Args:
        folder: made if missing; an earlier run in it goes on.
        size: `small` has 0.3 M words, `full` 20 M.
        seed: of the chains, the documents and the run.
        methods: names; None takes every method that works without settings.
        has_trials: also train proxies and write a report of them; verdicts need none.
        n_workers: at a time; None takes one a core.
        is_quiet: without progress display.
    Returns:
        The verdicts on the choices for each target, and the methods that cannot work here, with the reason.
    Raises:
        RecipeError: no method has such a name.
    """
    every = [name for name in list_methods() if not get_method(name).needs_settings and name != CONTROL]
    names = list(methods) if methods else every
    for name in names:
        get_method(name)
    lab = write_laboratory(folder, size=size, seed=seed, arms=names, has_trials=has_trials)
    outcome = run_recipe(lab.recipe, output=None, n_workers=n_workers, is_quiet=is_quiet, accept_changes=True)
    missing = {one.arm for one in outcome.left_out}
    found = {}
    for target in TARGETS:
        dataset = folder / "run" / "dataset" / target
        chosen = {name: _ids(dataset / safe_name(name)) for name in names if name not in missing}
        found[target] = judge_laboratory(folder, chosen, target=target)
    return found, outcome.left_out


def _ids(folder: Path) -> set[str]:
    return {
        name
        for path in sorted(folder.glob("part-*.parquet"))
        for name in pq.read_table(path, columns=["id"])["id"].to_pylist()
    }
