"""From facts about a corpus to parts of its report: breakdowns, lengths, copies, repeats, concepts.

Facts of before and after come from the same plan; a value that only one of them has counts zero in the
other. What a list leaves out is added up in a last row, so that every breakdown sums to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prill.audit.categories import Category
from prill.audit.copies import CopyFacts
from prill.audit.lengths import EDGES, LengthFacts
from prill.audit.statistics import CorpusFacts
from prill.audit.top_ngrams import TopList
from prill.report import numbers
from prill.report.corpus_model import (
    Amount,
    Breakdown,
    Cluster,
    ConceptCount,
    ConceptReport,
    DuplicateReport,
    Repeated,
    RepeatList,
    Share,
    SizeCount,
)
from prill.report.model import Histogram

__all__ = [
    "amount_of",
    "breakdown_of",
    "concept_report",
    "copy_report",
    "exact_copy_report",
    "length_histogram",
    "repeat_lists",
    "size_counts",
]

_N_SHARES = 200
_N_CHARACTERS = 1_000
_CONCEPT_BINS = 18


def amount_of(facts: CorpusFacts) -> Amount:
    """Documents, bytes and tokens of a corpus."""
    return Amount(n_documents=facts.n_documents, n_bytes=facts.n_bytes, n_tokens=facts.n_tokens)


def breakdown_of(
    title: str,
    before: CorpusFacts,
    after: CorpusFacts,
    *,
    is_ordered: bool = False,
    n_most: int = _N_SHARES,
    note: str = "",
) -> Breakdown:
    """The corpus by the category `title`, most documents first; in the order of names when `is_ordered`."""
    old, new = before.categories[title], after.categories[title]
    known = {row.name: row for row in new.rows()}
    rows = [_share(row, known.pop(row.name, None), before, after) for row in old.rows(n_most)]
    if is_ordered:
        rows.sort(key=lambda share: (share.name is None, share.name or ""))
    shown = [amount for share in rows for amount in (share.before, share.after)]
    rest = Share(
        name="all others",
        before=_left(amount_of(before), shown[::2]),
        after=_left(amount_of(after), shown[1::2]),
    )
    if rest.before.n_documents or rest.after.n_documents:
        rows.append(rest)
    missed = max(old.n_missed, new.n_missed)
    bound = (
        f"Counts of single values are at most {numbers.count(missed)} documents too low." if missed else ""
    )
    return Breakdown(
        title=title[:1].upper() + title[1:],
        rows=tuple(rows),
        note=" ".join(part for part in (note, bound) if part),
        is_ordered=is_ordered,
    )


def length_histogram(before: LengthFacts, after: LengthFacts, *, unit: str) -> Histogram | None:
    """Documents by length; lengths of zero have no place on the axis. None without any other."""
    counts = np.array([before.n_documents, after.n_documents], np.int64)
    used = np.flatnonzero(counts.sum(axis=0)[1:-1]) + 1
    if not len(used):
        return None
    first, last = int(used[0]), int(used[-1]) + 1
    bins = [(a, b) for a, b in _wide_bins(first, last) if a < b]
    return Histogram(
        edges=(*(float(EDGES[a]) for a, _ in bins), float(EDGES[last])),
        pool=tuple(int(counts[0, a:b].sum()) for a, b in bins),
        kept=tuple(int(counts[1, a:b].sum()) for a, b in bins),
        unit=unit,
        is_log=True,
    )


def exact_copy_report(
    facts: CopyFacts, texts: Mapping[tuple[int, int], str], places: Mapping[int, str]
) -> DuplicateReport:
    """Copies of whole documents, byte for byte; as `copy_report`."""
    note = "Texts that are the same byte for byte; in each group, all but the first are copies."
    return copy_report("Exact copies", facts, texts, places, note=note)


def copy_report(
    title: str,
    facts: CopyFacts,
    texts: Mapping[tuple[int, int], str],
    places: Mapping[int, str],
    *,
    n_largest: int = 8,
    note: str = "",
) -> DuplicateReport:
    """Copies of documents.

    Args:
        title: `Near copies`.
        texts: by shard and row, of the largest clusters' documents that stay.
        places: names of shards, as a reader finds them.
    """
    largest = (
        Cluster(
            n_documents=cluster.n_documents,
            n_bytes=cluster.n_bytes,
            text=texts.get((cluster.shard, cluster.row), "")[:_N_CHARACTERS],
            place=f"{places.get(cluster.shard, cluster.shard)}, row {cluster.row}",
        )
        for cluster in facts.largest[:n_largest]
    )
    return DuplicateReport(
        title=title,
        what="documents",
        n_clusters=facts.n_clusters,
        n_copies=facts.n_copies,
        n_bytes=facts.n_bytes,
        sizes=size_counts(facts.sizes),
        largest=tuple(largest),
        note=note,
    )


def size_counts(sizes: Iterable[tuple[int, int]]) -> tuple[SizeCount, ...]:
    """Clusters by size in powers of two: 2, 3 to 4, 5 to 8, ...

    Args:
        sizes: (documents in a cluster, number of such clusters), in any order.
    """
    found: dict[int, tuple[int, int]] = {}
    for size, n_clusters in sizes:
        power = max(1, (size - 1).bit_length())
        clusters, documents = found.get(power, (0, 0))
        found[power] = clusters + n_clusters, documents + size * n_clusters
    return tuple(
        SizeCount(
            size="2" if power == 1 else f"{numbers.count(2 ** (power - 1) + 1)} to {numbers.count(2**power)}",
            n_clusters=n_clusters,
            n_documents=n_documents,
        )
        for power, (n_clusters, n_documents) in sorted(found.items())
    )


def repeat_lists(
    before: Sequence[TopList], after: Sequence[TopList], *, n_rows: int = 20
) -> tuple[RepeatList, ...]:
    """Lines first, then n-grams, longest first; `after` must have been counted with `also=before`."""
    pairs = sorted(zip(before, after, strict=True), key=lambda pair: (pair[0].n != 0, -pair[0].n))
    return tuple(_repeat_list(old, new, n_rows) for old, new in pairs)


def concept_report(
    target: str,
    names: Sequence[str],
    n_before: NDArray[np.int64],
    n_after: NDArray[np.int64],
    *,
    n_rows: int = 30,
    note: str = "",
) -> ConceptReport:
    """The rarest concepts of a target after preparation, and how frequent all of them are.

    Args:
        names: of C concepts.
        n_before, n_after: documents that hold each, shape (C,).
    """
    order = sorted(range(len(names)), key=lambda i: (n_after[i], n_before[i], names[i]))
    rows = tuple(
        ConceptCount(name=names[i], n_before=int(n_before[i]), n_after=int(n_after[i]))
        for i in order[:n_rows]
    )
    shown = (
        f"The {len(rows)} rarest of {numbers.count(len(names))} are shown." if len(rows) < len(names) else ""
    )
    return ConceptReport(
        target=target,
        rows=rows,
        n_concepts=len(names),
        n_absent=int((np.asarray(n_after) == 0).sum()),
        tail=_tail(np.asarray(n_before), np.asarray(n_after)),
        note=" ".join(part for part in (shown, note) if part),
    )


def _tail(n_before: NDArray[np.int64], n_after: NDArray[np.int64]) -> Histogram | None:
    top = int(max(n_before.max(initial=0), n_after.max(initial=0)))
    if top < 1:
        return None
    edges = np.unique(np.ceil(np.geomspace(1, top + 1, _CONCEPT_BINS + 1)))
    counts = [np.histogram(values[values > 0], edges)[0] for values in (n_before, n_after)]
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        pool=tuple(int(n) for n in counts[0]),
        kept=tuple(int(n) for n in counts[1]),
        unit="documents that hold the concept",
        counted="concepts",
        is_log=True,
    )


def _wide_bins(first: int, last: int) -> list[tuple[int, int]]:
    """About 48 bins at most: neighbours are joined while there are more."""
    step = max(1, -(-(last - first) // 48))
    return [(at, min(at + step, last)) for at in range(first, last, step)]


def _share(old: Category, new: Category | None, before: CorpusFacts, after: CorpusFacts) -> Share:
    def amount(row: Category | None, facts: CorpusFacts) -> Amount:
        tokens = None if facts.n_tokens is None else row.n_tokens if row else 0
        return Amount(
            n_documents=row.n_documents if row else 0, n_bytes=row.n_bytes if row else 0, n_tokens=tokens
        )

    return Share(name=old.name, before=amount(old, before), after=amount(new, after))


def _left(whole: Amount, parts: Sequence[Amount]) -> Amount:
    tokens = None
    if whole.n_tokens is not None:
        tokens = whole.n_tokens - sum(part.n_tokens or 0 for part in parts)
    return Amount(
        n_documents=whole.n_documents - sum(part.n_documents for part in parts),
        n_bytes=whole.n_bytes - sum(part.n_bytes for part in parts),
        n_tokens=tokens,
    )


def _repeat_list(old: TopList, new: TopList, n_rows: int) -> RepeatList:
    """The rows of both, by how often they occurred before."""
    asked = {row.key for row in old.rows}
    texts = {row.key: row.text for row in (*old.rows, *new.rows)}
    rows = [
        (text, _count(old, key, is_sure=False), _count(new, key, is_sure=key in asked))
        for key, text in texts.items()
    ]
    rows.sort(key=lambda row: (-(row[1] or 0), -(row[2] or 0), row[0]))
    chosen = [Repeated(text=text[:_N_CHARACTERS], n_before=b, n_after=a) for text, b, a in rows[:n_rows]]
    title = "Lines" if old.n == 0 else "Single words" if old.n == 1 else f"{old.n} words in a row"
    return RepeatList(
        title=title, rows=tuple(chosen), note=_repeat_note(old, new, is_full=len(rows) >= n_rows)
    )


def _count(found: TopList, key: int, *, is_sure: bool) -> int | None:
    """How often; what was looked for (`is_sure`) and not met occurs never, else nothing is known."""
    count = found.known.count_of(key)
    return 0 if count is None and (is_sure or found.floor == 0) else count


def _repeat_note(old: TopList, new: TopList, *, is_full: bool) -> str:
    share = numbers.percent(old.sample_share)
    where = "Counted in all documents." if old.sample_share >= 1 else f"Counted in {share} of the documents."
    floor = max(old.floor, new.floor)
    rest = (
        f" Whatever is not listed occurs at most {numbers.count(floor)} times."
        if floor and not is_full
        else ""
    )
    missed = old.n_unplaced + new.n_unplaced
    room = f" {numbers.count(missed)} occurrences found no room: rows may be missing." if missed else ""
    return f"{where}{rest}{room}"
