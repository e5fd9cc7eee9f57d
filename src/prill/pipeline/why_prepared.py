"""`prill why ID` for a preparation: a document's columns, every reason, and its text with its spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.errors import DataError, printable
from prill.pipeline.locate import locate
from prill.pipeline.measuring import ReadDocuments
from prill.pipeline.place import recall_place
from prill.pipeline.preparation import prepared_spec
from prill.pipeline.prepare import of_study, preparation_recipe
from prill.pipeline.texts import texts_spec
from prill.prepare.measure import Judge
from prill.prepare.pii import Pii, without_secrets
from prill.prepare.spec import groupings, measures
from prill.recipe import PrepareRecipe
from prill.report.spans import TextSpan, edit_spans
from prill.run.directory import StoredRun, read_run

__all__ = ["Explained", "explain_prepared", "explain_row"]

_SHOWN_ROWS = {"bad_raw", "hash_high", "hash_low"}  # columns that say nothing to a person


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a preparation knows of one document.

    Attributes:
        facts: one line a fact: its place, its columns, the verdict.
        text: as it was read, with dots for secrets that were found.
        spans: what was taken out of it, with reasons.
        is_kept: whether it is among the prepared documents.
        place: `SHARD:ROW` among them; empty when it was dropped.
    """

    facts: tuple[str, ...]
    text: str
    spans: tuple[TextSpan, ...]
    is_kept: bool
    place: str = ""


def explain_prepared(run_folder: Path, document: str) -> Explained:
    """What the preparation in `run_folder` knows of one document of the raw corpus.

    Args:
        document: its id, or `SHARD:ROW` in the raw corpus.
    Raises:
        DataError: there is no such document, or the preparation has not come that far.
    """
    recipe_path = recall_place(run_folder)
    recipe = preparation_recipe(recipe_path)
    if not isinstance(recipe, PrepareRecipe):
        recipe = of_study(recipe)
    corpus = _measured(run_folder, recipe, recipe_path.parent)
    shard, row, name, text = locate(corpus, document)
    judges: list[Judge] = [
        ReadDocuments(spec=recipe.corpus),
        *measures(recipe.prepare, recipe_path.parent),
        *groupings(recipe.prepare, recipe_path.parent),
    ]
    place = f"shard {shard} ({corpus.shards[shard].path}), row {row}"
    stored = read_run(run_folder)
    found = explain_row(stored, judges, shard, row)
    if any(isinstance(judge, Pii) for judge in judges):
        text = without_secrets(text, _row(stored, Pii.name, shard, row))
    return Explained(
        facts=(f"document   {printable(name or '(no id)')}", f"place      {place}", *found.facts),
        text=text,
        spans=found.spans,
        is_kept=found.is_kept,
        place=_prepared_place(stored, recipe, shard, row) if found.is_kept else "",
    )


def _measured(run_folder: Path, recipe: PrepareRecipe, base: Path) -> Corpus:
    """The corpus whose documents were measured: the raw one, unless its texts were rewritten first."""
    if (run_folder / "texts").is_dir() and (recipe.prepare.html or recipe.prepare.repair):
        return Corpus.open(texts_spec(run_folder, recipe.corpus))
    return Corpus.open(recipe.corpus, base)


def _prepared_place(stored: StoredRun, recipe: PrepareRecipe, shard: int, row: int) -> str:
    """Where the document is among the prepared ones, as `SHARD:ROW`: files are cut into shards anew."""
    reasons = _columns(stored, "verdict", shard)["drop_reason"].slice(0, row)
    left = reasons.null_count  # kept documents before it in its file
    corpus = Corpus.open(prepared_spec(stored.path, recipe.corpus))
    wanted = Path(stored.named("prepared")[-1].outputs[shard].path).name
    for candidate in corpus.shards:
        if Path(candidate.path).name == wanted and candidate.n_rows is not None:
            if left < candidate.n_rows:
                return f"{candidate.index}:{left}"
            left -= candidate.n_rows
    return ""


def explain_row(stored: StoredRun, judges: Sequence[Judge], shard: int, row: int) -> Explained:
    """Columns, reasons and spans of one row; the text is left empty."""
    lines: list[str] = []
    spans: list[TextSpan] = []
    reasons: list[str] = []
    for judge in judges:
        table = _row(stored, judge.name, shard, row)
        shown = _shown(table)
        lines += [f"{judge.name:<10} {shown}"] if shown else []
        reasons += [reason for reason, holds in judge.drops(table).items() if holds[0]]
        edits = judge.edits(table)
        spans += edit_spans(edits, 0) if edits is not None else []
    verdict = _row(stored, "verdict", shard, row).to_pylist()[0]
    first = verdict["drop_reason"]
    if first is None:
        cut = verdict["n_bytes_cut"]
        said = f"kept{f', {cut:,} bytes in {len(spans)} spans taken out' if cut else ''}"
    else:
        others = [reason for reason in reasons if reason != first]
        said = f"dropped: {first}" + (f" (and also: {'; '.join(others)})" if others else "")
    return Explained(facts=(*lines, f"verdict    {said}"), text="", spans=tuple(spans), is_kept=first is None)


def _row(stored: StoredRun, step: str, shard: int, row: int) -> pa.Table:
    return _columns(stored, step, shard).slice(row, 1)


def _columns(stored: StoredRun, step: str, shard: int) -> pa.Table:
    records = stored.named(step)
    if not records:
        raise DataError(
            f"the finished step `{step}` expected, found none",
            where=str(stored.path),
            hint="finish it with `prill prepare RECIPE`",
        )
    return read_columns(stored.path / records[-1].outputs[shard].path)


def _shown(table: pa.Table) -> str:
    """The values of one row, as a line; lists as their lengths, nulls and zeros left out."""
    parts = []
    for name, value in table.to_pylist()[0].items():
        if value is None or name in _SHOWN_ROWS:
            continue
        parts.append(f"{name} {_value(value)}")
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"{len(value)} of them"
    return printable(str(value))
