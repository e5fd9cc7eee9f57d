"""A corpus report as the pipeline would fill it, with everything that the page can show; no file is read."""

from __future__ import annotations

import numpy as np
from corpus_report_parts import (
    SOURCES,
    WORDS,
    breakdowns,
    concepts,
    duplicates,
    lengths,
    lineage,
    method,
    repeats,
)

from prill.report.corpus_model import (
    Amount,
    CorpusReport,
    EditOutcome,
    Example,
    Found,
    RuleOutcome,
    TaskOverlap,
)
from prill.report.model import Fact, InputFile
from prill.report.spans import TextSpan

N_DOCUMENTS, N_BYTES, N_TOKENS = 15_085, 81_131_772, 20_470_000
RULES = (
    ("bad record: invalid_utf8", "reading", "", 3, 3),
    ("gopher: fewer than 50 words", "quality", "n_words >= 50", 812, 211),
    ("gopher: mean word length", "quality", "3 <= mean_word_length <= 10", 190, 44),
    ("gopher: few stop words", "quality", "n_stop_words >= 2", 1_204, 380),
    ("gopher repetition: duplicate lines", "quality", "duplicate_line_share <= 0.3", 402, 96),
    ("gopher repetition: top 2-gram", "quality", "top_2gram_share <= 0.2", 77, 9),
    ("c4: lorem ipsum", "quality", "", 0, 0),
    ("c4: curly bracket", "quality", "", 0, 0),
    ("fineweb: lines that end without punctuation", "quality", "punctuated_line_share >= 0.12", 940, 390),
    ("language: not English with 0.65", "language", "p_english >= 0.65", 676, 610),
    ("blocked host", "pages", "12 hosts", 0, 0),
    ("toxic words", "listed words", "share <= 0.02", 14, 6),
    ("exact copy", "exact copies", "", 212, 212),
    ("near copy", "near copies", "true Jaccard >= 0.8", 1_020, 1_020),
    ("evaluation item", "evaluation items", "coverage >= 0.8", 61, 0),
)


def sample_corpus_report(*, n_examples: int = 3, seed: int = 0) -> CorpusReport:
    """A report whose account adds up, with examples for every rule that fired."""
    rng = np.random.default_rng(seed)
    before = Amount(n_documents=N_DOCUMENTS, n_bytes=N_BYTES, n_tokens=N_TOKENS)
    rules = tuple(_rule(*rule, n_examples, rng) for rule in RULES)
    dropped = [
        sum(getattr(rule.first, unit) for rule in rules) for unit in ("n_documents", "n_bytes", "n_tokens")
    ]
    kept = Amount(
        n_documents=N_DOCUMENTS - dropped[0], n_bytes=N_BYTES - dropped[1], n_tokens=N_TOKENS - dropped[2]
    )
    n_cut, n_put = 1_204_330, 9_120
    prepared = Amount(
        n_documents=kept.n_documents, n_bytes=kept.n_bytes - n_cut + n_put, n_tokens=kept.n_tokens
    )
    return CorpusReport(
        title="Thirteen sources",
        recipe="prepare.yaml",
        before=before,
        kept=kept,
        prepared=prepared,
        rules=rules,
        edits=_edits(n_examples, rng),
        n_bytes_cut=n_cut,
        n_bytes_put=n_put,
        n_documents_edited=3_020,
        facts=(
            Fact(label="Corpus", value="13 sources, 15,085 documents"),
            Fact(label="Rules", value="gopher, c4, fineweb"),
            Fact(label="Language", value="English, at least 0.65"),
            Fact(label="Copies", value="exact; near at 0.8; lines"),
            Fact(label="Seed", value="0"),
        ),
        warnings=("The host list is from 2025; newer hosts are not in it.",),
        lengths=(lengths("bytes a document", 7.1, rng), lengths("words a document", 5.5, rng)),
        breakdowns=breakdowns(rng),
        duplicates=duplicates(),
        contamination=_contamination(n_examples, rng),
        personal=_personal(n_examples),
        repeats=repeats(rng),
        concepts=tuple(concepts(target, rng) for target in ("medical_qa", "science_textbook")),
        examples=tuple(_example(rng, "kept, nothing cut", is_kept=True) for _ in range(n_examples)),
        methods=(method(),),
        lineage=lineage(),
        inputs=(InputFile(path="corpus/books-00000-of-00003.parquet", n_bytes=2_239_219, sha256="ab" * 32),),
        versions=(Fact(label="Prill", value="0.2.0"), Fact(label="Python", value="3.11")),
        seeds=(0,),
        recipe_text="corpus:\n  paths: [corpus/*.parquet]\nprepare:\n  rules: [gopher, c4, fineweb]\n",
        repeat_command="prill prepare prepare.yaml --out runs/prepared",
        repeat_notes=("The same inputs, recipe and version give the same bytes.",),
    )


def _rule(
    reason: str,
    stage: str,
    threshold: str,
    n_fired: int,
    n_first: int,
    n_examples: int,
    rng: np.random.Generator,
) -> RuleOutcome:
    fate = f"dropped: {reason}"
    return RuleOutcome(
        reason=reason,
        stage=stage,
        threshold=threshold,
        n_fired=n_fired,
        n_alone=n_first // 2,
        first=Amount(n_documents=n_first, n_bytes=n_first * 3_100, n_tokens=n_first * 780),
        n_judged=12_400 if "copy" in reason else None,
        examples=tuple(_example(rng, fate, is_kept=False) for _ in range(n_examples if n_fired else 0)),
    )


def _text(rng: np.random.Generator, n_words: int) -> str:
    lines = [" ".join(rng.choice(WORDS, 14)).capitalize() + "." for _ in range(max(1, n_words // 14))]
    return "\n".join(lines)


def _example(
    rng: np.random.Generator, fate: str, *, is_kept: bool, spans: tuple[TextSpan, ...] = (), text: str = ""
) -> Example:
    return Example(
        shard="corpus/web-00001-of-00002.parquet",
        row=int(rng.integers(0, 900)),
        id=f"web/{rng.integers(100_000):05d}",
        source=str(rng.choice(SOURCES)),
        text=text or _text(rng, int(rng.integers(20, 900))),
        fate=fate,
        is_kept=is_kept,
        spans=spans,
        n_tokens=int(rng.integers(40, 4_000)),
    )


def _edits(n_examples: int, rng: np.random.Generator) -> tuple[EditOutcome, ...]:
    menu = "Home | About | Contact | Log in\n"
    mail = "jane.doe@example.org"
    text = f"{menu}Dear readers,\nplease write to {mail} before Friday.\n" + _text(rng, 300) + f"\n{menu}"
    data = text.encode()
    first, last, at = 0, data.rindex(menu.encode()), data.index(mail.encode())
    spans = (
        TextSpan(start=first, stop=len(menu), reason="line in 41 documents"),
        TextSpan(start=last, stop=last + len(menu), reason="line in 41 documents"),
        TextSpan(start=at, stop=at + len(mail), reason="email", replacement="<email>"),
        TextSpan(start=at + 30, stop=at + 36, reason="listed word", is_edit=False),
    )
    shown = tuple(
        _example(rng, "kept, 3 places cut", is_kept=True, spans=spans, text=text) for _ in range(n_examples)
    )
    return (
        EditOutcome(
            kind="repeated line",
            stage="lines",
            n_documents=2_410,
            n_spans=9_911,
            n_bytes=1_120_000,
            examples=shown,
        ),
        EditOutcome(
            kind="email",
            stage="personal data",
            n_documents=622,
            n_spans=1_140,
            n_bytes=26_300,
            replacement="<email>",
        ),
        EditOutcome(
            kind="evaluation item", stage="evaluation items", n_documents=61, n_spans=74, n_bytes=58_030
        ),
    )


def _contamination(n_examples: int, rng: np.random.Generator) -> tuple[TaskOverlap, ...]:
    hit = "Which gas do plants take in from the air? Carbon dioxide."
    text = f"{_text(rng, 200)}\n{hit}\n{_text(rng, 200)}"
    start = text.index(hit)
    spans = (TextSpan(start=start, stop=start + len(hit), reason="science_qa 00412", is_edit=False),)
    shown = tuple(
        _example(rng, "dropped: evaluation item", is_kept=False, spans=spans, text=text)
        for _ in range(n_examples)
    )
    return (
        TaskOverlap(
            task="science_qa",
            n_items=500,
            n_dirty_items=31,
            n_documents=40,
            n_bytes_cut=31_000,
            recall=0.99,
            precision=0.98,
            examples=shown,
            rates=(
                Fact(label="1 to 7 words", value="recall 0.93 of 41"),
                Fact(label="8 to 12 words", value="recall 0.99 of 200, precision 0.97 of 36"),
            ),
        ),
        TaskOverlap(
            task="word_problems", n_items=300, n_dirty_items=0, n_documents=0, n_bytes_cut=0, recall=1.0
        ),
    )


def _personal(n_examples: int) -> tuple[Found, ...]:
    text = "Call 555-0100 or write to a@example.org, card 4111 1111 1111 1111."
    spans = (TextSpan(start=27, stop=40, reason="email", replacement="<email>"),)
    shown = Example(shard="s", row=0, text=text, fate="kept, 1 place replaced", is_kept=True, spans=spans)
    return (
        Found(
            kind="email",
            n_found=1_140,
            n_documents=622,
            action="replaced by <email>",
            examples=(shown,) * min(1, n_examples),
        ),
        Found(kind="telephone number", n_found=330, n_documents=201, action="replaced by <phone>"),
        Found(kind="credit card", n_found=2, n_documents=2, action="replaced by <card>"),
        Found(kind="private key", n_found=0, n_documents=0, action="document dropped"),
    )
