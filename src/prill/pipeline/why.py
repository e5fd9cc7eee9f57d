"""`prill why ID`: every column, threshold and rule that kept or dropped a document."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

import numpy as np
import orjson

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.errors import printable
from prill.pipeline.locate import locate
from prill.pipeline.place import recall_place
from prill.pipeline.pool import COPY
from prill.pipeline.preparation import prepared_spec
from prill.pipeline.prepare import PREPARATION, is_preparation
from prill.pipeline.why_prepared import explain_prepared
from prill.recipe.load import load_recipe
from prill.report.spans import write_spans
from prill.run.directory import StoredRun, read_run
from prill.run.record import Record
from prill.select.policy import Policy
from prill.select.ranking import ordered

__all__ = ["explain", "write_explanation"]

EXCERPT = 400
LONGEST_TEXT = 20_000  # characters of a text shown with its spans


def write_explanation(run_folder: Path, document: str, stream: TextIO) -> None:
    """Write all that a run knows of one document: its preparation with its text, then its selection.

    Args:
        run_folder: of a preparation, or of a study, with a preparation in it or not.
        document: its id, or `SHARD:ROW`; in the raw corpus when there was a preparation.
        stream: gets colours when it is a terminal.
    Raises:
        DataError: the run has no such document, or has not come that far.
    """
    is_study = not is_preparation(run_folder)
    prepared = run_folder / PREPARATION if is_study else run_folder
    if not is_study or prepared.is_dir():
        found = explain_prepared(prepared, document)
        stream.write("\n".join(found.facts) + "\n\n")
        write_spans(found.text, found.spans, stream, n_chars=LONGEST_TEXT)
        if not is_study or not found.is_kept:
            return
        stream.write("\n")
        document = found.place
    stream.write(explain(run_folder, document) + "\n")


def explain(run_folder: Path, document: str) -> str:
    """What a run's selection knows of one document, and which rule decided for each target, as a text.

    Args:
        run_folder: of a run whose selection is finished.
        document: its id, or `SHARD:ROW`, among the documents that were scored.
    Raises:
        DataError: the run has no such document, or has not come that far.
    """
    stored = read_run(run_folder)
    recipe_path = recall_place(run_folder)
    recipe = load_recipe(recipe_path)
    if recipe.prepare is None:
        corpus = Corpus.open(recipe.corpus, recipe_path.parent)
    else:
        corpus = Corpus.open(prepared_spec(run_folder / PREPARATION, recipe.corpus))
    shard, row, name, text = locate(corpus, document)
    lines = [
        f"document   {printable(name or '(no id)')}",
        f"place      shard {shard} ({corpus.shards[shard].path}), row {row}",
    ]
    lines.append(f"text       {printable(text, limit=EXCERPT)}")
    reason = None
    for record in stored.records:
        part = run_folder / "steps" / f"{record.step}-{record.fingerprint[:12]}" / f"part-{shard:05d}.parquet"
        if record.step in {"read", "eligible", "tokens"} or record.step.startswith("score-"):
            values = {k: v for k, v in _row(part, row).items() if v is not None and k != "bad_raw"}
            lines += [f"{record.step:<10} {_shown(values)}"] if values else []
            reason = values.get("drop_reason", reason)
    if reason is not None:
        lines.append(
            f"verdict    not a candidate for any target: {reason}{_first_copy(stored, shard, row, reason)}"
        )
        return "\n".join(lines)
    chosen = [
        _decision(stored, record, shard, row)
        for record in stored.records
        if record.step.startswith("choose-")
    ]
    return "\n".join([*lines, *chosen])


def _row(part: Path, row: int) -> dict[str, Any]:
    return dict(read_columns(part).slice(row, 1).to_pylist()[0])


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {printable(str(value))}"
        for name, value in values.items()
    )


def _decision(stored: StoredRun, record: Record, shard: int, row: int) -> str:
    folder = stored.path / "steps" / f"{record.step}-{record.fingerprint[:12]}"
    audit = orjson.loads((folder / "audit.json").read_bytes())
    rows = read_columns(folder / f"part-{shard:05d}.parquet")["row"].to_numpy()
    verdict = "kept" if np.isin(row, rows) else "not kept"
    cuts = "; ".join(
        f"{stratum or 'the pool'}: {cut['cut']}" for stratum, cut in audit["strata"].items() if cut.get("cut")
    )
    target, policy = record.settings["target"], Policy.model_validate(audit["policy"])
    line = f"{verdict}; the line for {cuts}" if cuts else f"{verdict}; everything fits"
    if policy.kind == "gumbel":
        line += f"; here {_noisy(stored, record, shard, row, policy, audit['seed']):.6g}"
    return f"target     {printable(target)}: {line}; budget {audit['budget']}"


def _noisy(stored: StoredRun, record: Record, shard: int, row: int, policy: Policy, seed: int) -> float:
    """The document's score with its sampling noise, as the policy sorted it."""
    score_step = next(
        r for r in stored.records if r.fingerprint in record.parents.values() and r.step.startswith("score-")
    )
    (read,) = stored.named("read")
    score = _row(stored.path / score_step.outputs[shard].path, row)[record.settings["target"]]
    key = _row(stored.path / read.outputs[shard].path, row)["hash_low"]
    return float(ordered(np.array([score]), np.array([key], np.uint64), policy, seed)[0])


def _first_copy(stored: StoredRun, shard: int, row: int, reason: str) -> str:
    """Where the kept copy of a dropped one lies."""
    if reason != COPY:
        return ""
    (read,) = stored.named("read")
    parts = [stored.path / output.path for output in read.outputs]
    mine = _row(parts[shard], row)
    for index, part in enumerate(parts):
        table = read_columns(part, ["hash_high", "hash_low"])
        same = (table["hash_high"].to_numpy() == mine["hash_high"]) & (
            table["hash_low"].to_numpy() == mine["hash_low"]
        )
        if same.any():
            return f" (shard {index}, row {int(np.argmax(same))})"
    return ""
