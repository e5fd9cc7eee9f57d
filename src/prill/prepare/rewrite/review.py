"""Reviewing sources by samples: a seed-stable draw, a sheet for people, marks, and agreement.

Source: Tan and Wang 2024 (1.5-Pints), arXiv:2408.03506, section 2 (review by hand); Cohen 1960 (kappa).
Differs: written criteria and agreement between two reviewers, which the paper does not report.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.asking.answers import BudgetSpent
from prill.features.asking.asker import Asker
from prill.features.keyed import keyed_uniform
from prill.prepare.rewrite.prompts import CRITERIA, pints

__all__ = [
    "Mark",
    "SourceVerdict",
    "cohen_kappa",
    "draw_sample",
    "read_mark",
    "review_documents",
    "review_sheet",
    "source_verdicts",
]

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One review of one document: what each criterion got, and the verdict."""

    criteria: Mapping[str, bool]
    accepts: bool


@dataclass(frozen=True, kw_only=True)
class SourceVerdict:
    """What a source's sample says: documents reviewed, share rejected, and whether the source is accepted."""

    source: str
    n_reviewed: int
    defect_rate: float
    accepts: bool


def draw_sample(
    keys: NDArray[np.uint64], sources: Sequence[str], *, n: int, seed: int
) -> dict[str, list[int]]:
    """Rows of at most n documents of each source: those with the lowest keyed draws, in that order.

    The draw belongs to the text, so that neither the order nor the sharding of a corpus changes the sample.

    Args:
        keys: lower halves of the text hashes, shape (D,).
        sources: of each document.
    """
    draw = keyed_uniform(seed, keys)
    found: dict[str, list[int]] = {}
    for row in np.lexsort((keys, draw)):
        rows = found.setdefault(sources[row], [])
        if len(rows) < n:
            rows.append(int(row))
    return dict(sorted(found.items()))


def review_sheet(rows: Sequence[tuple[str, str, str]], *, excerpt_characters: int = 2_000) -> str:
    """A CSV sheet to fill in: source, id, text, criteria, verdict; no cell can become a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["source", "id", "text", *(name for name, _ in CRITERIA), "verdict"])
    for source, name, text in rows:
        cells = [source, name, text[:excerpt_characters].replace("\0", "")]
        writer.writerow(
            [f"'{c}" if c.startswith(_FORMULA_SIGNS) else c for c in cells] + [""] * (len(CRITERIA) + 1)
        )
    return out.getvalue()


def read_mark(answer: str) -> Mark | None:
    """The model's review; None when a line is missing, doubled or says something else."""
    said: dict[str, str] = {}
    for line in answer.strip().splitlines():
        name, _, value = (part.strip().lower() for part in line.partition(":"))
        if name in said:
            return None
        said[name] = value
    verdict = said.pop("verdict", "")
    is_whole = set(said) == {name for name, _ in CRITERIA} and verdict in ("accept", "reject")
    if not is_whole or not set(said.values()) <= {"yes", "no"}:
        return None
    return Mark(criteria={name: value == "yes" for name, value in said.items()}, accepts=verdict == "accept")


def review_documents(texts: Sequence[str], ask: Asker) -> list[Mark | None]:
    """The model's review of each document; None where it is no review, or where the budget did not suffice.

    Raises:
        PrillError: as `Endpoint.ask` does; reviews until then are kept.
    """
    prompt = pints()
    found: list[Mark | None] = []
    for text in texts:
        try:
            answer = ask(prompt.message(text), prompt_id=prompt.id, system=prompt.system)
        except BudgetSpent:
            found.append(None)
        else:
            found.append(read_mark(answer.text))
    return found


def source_verdicts(
    marks: Sequence[tuple[str, bool]], *, max_defect_rate: float = 0.2
) -> list[SourceVerdict]:
    """A verdict a source from (source, whether the document was accepted), sorted by source."""
    by_source: dict[str, list[bool]] = {}
    for source, accepts in marks:
        by_source.setdefault(source, []).append(accepts)
    found = []
    for source, accepted in sorted(by_source.items()):
        rate = 1 - sum(accepted) / len(accepted)
        found.append(
            SourceVerdict(
                source=source, n_reviewed=len(accepted), defect_rate=rate, accepts=rate <= max_defect_rate
            )
        )
    return found


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Agreement of two reviewers beyond chance, -1 to 1; 1 when both say the same of everything.

    Source: Cohen 1960: (p_o - p_e) / (1 - p_e).
    Raises:
        DataError: they did not review the same number of documents, or none.
    """
    if len(first) != len(second) or not first:
        raise DataError(f"expected two reviews of the same documents, found {len(first)} and {len(second)}")
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    share_a, share_b = sum(first) / n, sum(second) / n
    chance = share_a * share_b + (1 - share_a) * (1 - share_b)
    return 1.0 if chance == 1.0 else (observed - chance) / (1 - chance)
