"""Parts of the sample corpus report that hold no documents: breakdowns, copies, repeats, concepts."""

from __future__ import annotations

import numpy as np

from prill.report.corpus_model import (
    Amount,
    Breakdown,
    Cluster,
    ConceptCount,
    ConceptReport,
    DuplicateReport,
    Histogram,
    Repeated,
    RepeatList,
    Share,
    SizeCount,
)
from prill.report.model import Fact, LineageStep, MethodNote

LANGUAGES = (
    "en",
    "de",
    "fr",
    "es",
    "pt",
    "it",
    "ru",
    "zh",
    "ja",
    "pl",
    "nl",
    "ar",
    "ko",
    "tr",
    "hi",
    "vi",
    None,
)
SOURCES = ("books", "code", "dialogue", "docs", "encyclopedia", "legal", "math", "news", "qa", "web")
WORDS = ("the", "of", "and", "to", "in", "is", "it", "you", "that", "was", "for", "on", "are", "with", "as")


def lengths(unit: str, mean: float, rng: np.random.Generator) -> Histogram:
    lengths = rng.lognormal(mean, 1.0, 15_000)
    edges = np.geomspace(8, 80_000, 33)
    kept = lengths[(lengths > 60) & (rng.random(15_000) < 0.8)]
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        pool=tuple(int(n) for n in np.histogram(lengths, edges)[0]),
        kept=tuple(int(n) for n in np.histogram(kept, edges)[0]),
        unit=unit,
        is_log=True,
    )


def share(name: str | None, n: int, kept: float) -> Share:
    after = int(n * kept)
    return Share(
        name=name,
        before=Amount(n_documents=n, n_bytes=n * 5_300),
        after=Amount(n_documents=after, n_bytes=after * 5_500),
    )


def breakdowns(rng: np.random.Generator) -> tuple[Breakdown, ...]:
    return (
        Breakdown(
            title="Language",
            rows=tuple(
                share(n, 9_000 // (i + 1) ** 2 + 3, 0.9 if n == "en" else 0.05)
                for i, n in enumerate(LANGUAGES)
            ),
        ),
        Breakdown(
            title="Script",
            rows=(share("Latin", 14_100, 0.82), share("Cyrillic", 410, 0.02), share("Han", 260, 0.01)),
        ),
        Breakdown(
            title="Source",
            rows=tuple(
                share(n, int(rng.integers(400, 2_300)), float(rng.uniform(0.4, 0.98))) for n in SOURCES
            ),
        ),
        Breakdown(
            title="Year",
            is_ordered=True,
            rows=(
                *tuple(share(str(y), 40 + 3 * (y - 1995) ** 2, 0.8) for y in range(1995, 2026)),
                share(None, 4768, 0.7),
            ),
        ),
        Breakdown(
            title="Host",
            rows=tuple(share(f"host{i}.example.org", 900 // (i + 1), 0.75) for i in range(40)),
            note="Counts of hosts are at most 12 documents too low.",
        ),
    )


def duplicates() -> tuple[DuplicateReport, ...]:
    sizes = (
        SizeCount(size="2", n_clusters=310, n_documents=620),
        SizeCount(size="3 to 4", n_clusters=96, n_documents=322),
        SizeCount(size="5 to 8", n_clusters=21, n_documents=127),
        SizeCount(size="9 to 16", n_clusters=6, n_documents=71),
        SizeCount(size="17 to 32", n_clusters=2, n_documents=48),
    )
    largest = (
        Cluster(
            n_documents=31,
            n_bytes=4_411,
            place="docs-00001, row 88",
            text="Installation\n\nTo install the package, run the following command. It needs version 3.9. "
            * 3,
        ),
        Cluster(
            n_documents=17,
            n_bytes=901,
            place="legal-00000, row 3",
            text="Permission is hereby granted, free of charge, to any person obtaining a copy",
        ),
    )
    return (
        DuplicateReport(
            title="Exact copies",
            what="documents",
            n_clusters=171,
            n_copies=212,
            n_bytes=700_310,
            sizes=sizes[:2],
            largest=largest[1:],
        ),
        DuplicateReport(
            title="Near copies",
            what="documents",
            n_clusters=435,
            n_copies=1_020,
            n_bytes=3_921_002,
            sizes=sizes,
            largest=largest,
            facts=(
                Fact(label="Shingles", value="5 words"),
                Fact(label="Bands", value="14 of 8 rows"),
                Fact(label="Found at Jaccard 0.8", value="92 %"),
            ),
            note="Candidates were compared by true Jaccard; `0.8` and above are copies.",
        ),
        DuplicateReport(
            title="Repeated lines", what="lines", n_clusters=1_204, n_copies=9_911, n_bytes=1_120_000
        ),
        DuplicateReport(title="Repeated passages", what="passages", n_clusters=0, n_copies=0, n_bytes=0),
    )


def repeats(rng: np.random.Generator) -> tuple[RepeatList, ...]:
    def rows(texts: list[str], top: int) -> tuple[Repeated, ...]:
        return tuple(
            Repeated(text=text, n_before=top // (i + 1), n_after=top // (2 * i + 2))
            for i, text in enumerate(texts)
        )

    note = "Counted in all documents, exactly. Everything else occurs at most 31 times."
    return (
        RepeatList(
            title="Lines",
            rows=rows(["Home | About | Contact | Log in", "return None", "All rights reserved."], 2_100),
            note=note,
        ),
        RepeatList(title="Words", rows=rows([",", "the", ".", "of", "and"], 715_673), note=note),
        RepeatList(title="2 words", rows=rows(["of the", "in the", ". the"], 69_510), note=note),
        RepeatList(
            title="10 words",
            rows=rows([" ".join(rng.choice(WORDS, 10)) for _ in range(12)], 3_001),
            note=note,
        ),
    )


def concepts(target: str, rng: np.random.Generator) -> ConceptReport:
    before = np.sort(rng.lognormal(3.0, 1.8, 120)).astype(int)
    after = (before * 0.7).astype(int)
    edges = np.geomspace(1, 5_000, 19)
    rows = tuple(
        ConceptCount(name=f"concept {i}", n_before=int(b), n_after=int(a))
        for i, (b, a) in enumerate(zip(before[:14], after[:14], strict=True))
    )
    return ConceptReport(
        target=target,
        rows=rows,
        n_concepts=120,
        n_absent=int((after == 0).sum()),
        tail=Histogram(
            edges=tuple(float(edge) for edge in edges),
            pool=tuple(int(n) for n in np.histogram(before, edges)[0]),
            kept=tuple(int(n) for n in np.histogram(after, edges)[0]),
            unit="documents a concept",
            counted="concepts",
            is_log=True,
        ),
        note="The 14 rarest are shown.",
    )


def method() -> MethodNote:
    return MethodNote(
        name="near",
        title="Near copies",
        paper="Broder 1997",
        formula="J(A, B) = |A & B| / |A + B|",
        summary="Documents that share at least 0.8 of their shingles.",
        assumptions=("Shingles are of 5 words.",),
    )


def lineage() -> tuple[LineageStep, ...]:
    return (
        LineageStep(
            step="read", fingerprint="a1" * 32, version="1", counts=(Fact(label="documents", value="15,085"),)
        ),
        LineageStep(
            step="measure-gopher",
            fingerprint="b2" * 32,
            version="1",
            parents=("read",),
            settings=(Fact(label="thresholds", value="preset gopher"),),
        ),
    )
