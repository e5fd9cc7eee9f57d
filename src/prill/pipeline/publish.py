"""The last stretch: the conclusion, the lineage, the report, and the words that close a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from prill.features.keyed import derive_seed
from prill.pipeline.arms import LeftOut
from prill.pipeline.compare import compare, read_rows
from prill.pipeline.dataset import write_lineage
from prill.pipeline.excerpts import browse
from prill.pipeline.findings import Findings, judge, report_data
from prill.pipeline.steps import Choice, Pool
from prill.pipeline.trials import Proof
from prill.pipeline.walk import Done, Walk
from prill.report.model import ReportData
from prill.report.render import write_report
from prill.run.atomic import atomic_write
from prill.run.directory import read_run
from prill.run.events import timings
from prill.study.comparison import Shared
from prill.study.conclude import CONCLUDE_VERSION, Conclusion
from prill.targets.target import Target

__all__ = ["Outcome", "publish", "timings_table"]

REPORT_VERSION = 1
_MOST_TOLD = 12  # choices that the closing words name


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished run: what its report says, where it is, a line about the dataset, who was left out, and the
    table of arms."""

    data: ReportData
    report: Path
    dataset: str
    left_out: tuple[LeftOut, ...] = ()
    comparison: Path | None = None


def publish(
    walk: Walk,
    recipe_path: Path,
    *,
    pool: Pool,
    targets: Mapping[str, Target],
    choices: Sequence[Choice],
    datasets: Mapping[str, Done],
    proof: Proof | None,
    left_out: Sequence[LeftOut] = (),
    trace: Sequence[Shared] | None = None,
) -> Outcome:
    """Conclude, and write `conclusion.json`, `lineage.json` and `report.html`.

    Args:
        left_out: arms that the data refused; they are told.
        trace: the features that were computed; if given, a comparison of all arms is written too.
    """
    conclusion, concluded = _conclude(walk, pool, choices, proof)
    compared = None
    if trace is not None:
        compared = compare(walk, pool, targets, choices, conclusion, concluded, trace, left_out)
    parents = [*datasets.values(), pool.tokens, pool.targets, *(d for d in (concluded, compared) if d)]
    folder = walk.run.path
    records = [r for r in read_run(folder).records if r.step not in ("lineage", "report")]
    walk.at_once(
        "lineage",
        version=1,
        settings={},
        parents=parents,
        files=["lineage.json"],
        folder=folder,
        build=lambda paths: write_lineage(paths[0], records, datasets),
        label="write the lineage",
    )
    found = Findings(
        recipe=walk.recipe,
        recipe_path=recipe_path,
        pool=pool,
        targets=targets,
        choices=choices,
        samples=browse(walk.corpus, choices, pool.read.parts, seed=derive_seed(walk.recipe.seed, "excerpts")),
        proof=proof,
        conclusion=conclusion,
        left_out=left_out,
        rows=read_rows(compared) if compared else (),
        records=records,
    )
    data = report_data(found)
    walk.at_once(
        "report",
        version=REPORT_VERSION,
        settings={"recipe": recipe_path.read_text(encoding="utf-8")},
        parents=parents,
        files=["report.html"],
        folder=folder,
        build=lambda paths: write_report(paths[0], data),
        label="write the report",
    )
    return Outcome(
        data=data,
        report=folder / "report.html",
        dataset=_closing(folder, choices),
        left_out=tuple(left_out),
        comparison=compared.parts[1] if compared else None,
    )


def _conclude(
    walk: Walk, pool: Pool, choices: Sequence[Choice], proof: Proof | None
) -> tuple[Conclusion | None, Done | None]:
    if proof is None:
        return None, None
    conclusion = judge(walk.recipe, proof, choices, pool)

    def build(paths: list[Path]) -> Mapping[str, Any]:
        atomic_write(paths[0], orjson.dumps(conclusion.to_json(), option=orjson.OPT_INDENT_2) + b"\n")
        return {c.target: c.verdict.value for c in conclusion.comparisons}

    done = walk.at_once(
        "conclusion",
        version=CONCLUDE_VERSION,
        settings={"seed": walk.recipe.seed},
        parents=[proof.done],
        files=["conclusion.json"],
        folder=walk.run.path,
        build=build,
        label="conclude",
    )
    return conclusion, done


def _closing(folder: Path, choices: Sequence[Choice]) -> str:
    told = [
        f"{c.target}/{c.arm.label}: {kept['documents']:,} documents, {kept['tokens']:,} tokens"
        for c, kept in ((c, c.audit["kept"]) for c in choices[:_MOST_TOLD])
    ]
    more = [f"and {len(choices) - _MOST_TOLD} more"] if len(choices) > _MOST_TOLD else []
    return f"dataset: {folder / 'dataset'} ({'; '.join(told + more)})"


def timings_table(run_folder: Path) -> str:
    """Wall and processor seconds and peak memory of every step, as aligned text."""
    read_run(run_folder)
    rows = [("wall s", "processor s", "peak MB", "step")]
    rows += [
        (f"{t.elapsed_s:.1f}", f"{t.cpu_s:.1f}", f"{max(t.peak_memory_bytes, 0) / 1e6:.0f}", t.label)
        for t in timings(run_folder)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )
