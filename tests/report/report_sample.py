"""A report with numbers like those of a real calibration study: four targets, random, DSIR and the truth.

All draws come from generators seeded by name, so the sample is the same on every machine.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from prill.report.model import (
    Arm,
    Curve,
    CurvePoint,
    Dropped,
    Effect,
    Fact,
    Finding,
    GroupKind,
    Histogram,
    InputFile,
    LineageStep,
    MethodNote,
    ReportData,
    SampleDocument,
    SampleGroup,
    SeedPoint,
    SelectionAudit,
    SourceShare,
    StepCost,
    TargetReport,
    Verdict,
)

TOKENS = (250_000, 500_000)
RANDOM_TOKENS = (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000)
RANDOM = {
    "fiction": (2.739, 2.581, 2.399, 2.249, 2.116, 2.052),
    "medical_qa": (2.689, 2.502, 2.287, 2.033, 1.752, 1.609),
    "python_code": (3.150, 2.878, 2.641, 2.406, 2.217, 2.080),
    "science_textbook": (2.869, 2.714, 2.524, 2.342, 2.193, 2.086),
}
DSIR = {
    "fiction": (2.186, 2.014),
    "medical_qa": (1.603, 1.410),
    "python_code": (2.326, 2.019),
    "science_textbook": (2.365, 2.156),
}
TRUTH = {
    "fiction": (2.168, 1.995),
    "medical_qa": (1.582, 1.394),
    "python_code": (2.243, 1.959),
    "science_textbook": (2.340, 2.135),
}
SOURCES = (
    "books",
    "code",
    "docs",
    "encyclopedia",
    "legal",
    "math",
    "multilingual",
    "news",
    "qa",
    "specs",
    "web",
)
WORDS = (  # noqa: SIM905
    "the of and to in that it was with as his on be at by had not are but from or have an they which one "
    "you were all her she there would their we him been has when who will no more if out so said what up its "
    "about river stone window morning letter sea captain horse garden winter answer silence road lantern"
).split()
ARMS = (
    Arm(
        name="random",
        label="Random",
        role="control",
        description="Documents drawn from the pool by chance, equal tokens, never repeated.",
    ),
    Arm(
        name="dsir",
        label="DSIR",
        role="candidate",
        description="Documents whose hashed word pairs look most like the target sample.",
    ),
    Arm(
        name="truth",
        label="Planted truth",
        role="reference",
        description="The documents known to belong to the target. What is possible at best.",
    ),
)


def sample_report(n_targets: int = 4, n_documents: int = 6) -> ReportData:
    """The sample, repeated under new names beyond four targets."""
    names = list(RANDOM)
    targets = tuple(_target(names[i % 4], i, n_documents) for i in range(n_targets))
    return ReportData(
        title="Does DSIR find better training data?",
        recipe="four-targets.yaml",
        question="Which documents of an 81 MB mixed pool should a model for each target be trained on?",
        targets=targets,
        arms=ARMS,
        facts=(
            Fact(label="Pool", value="15,085 documents, 81.1 MB"),
            Fact(label="Tokens in the pool", value="28.6 M"),
            Fact(label="Budget per target", value="500,000 tokens"),
            Fact(label="Proxy model", value="0.33 M parameters"),
            Fact(label="Seeds", value="3 per arm"),
            Fact(label="Training runs", value="36"),
        ),
        warnings=(
            "The proxy model is small: 0.33 M parameters. A difference seen here need not hold at 1 B.",
            "Three seeds: against random every difference is far outside the noise, but DSIR against the "
            "planted truth is decided for two of four targets only.",
        ),
        costs=(
            StepCost(
                step="ngrams", what="hashed word pairs of the pool", n_documents=15_085, n_bytes=81_100_000
            ),
            StepCost(
                step="scores", what="DSIR, all targets in one pass", n_documents=15_085, n_bytes=81_100_000
            ),
            StepCost(step="encode", n_documents=2_410, n_bytes=13_200_000, n_tokens=4_650_000),
            StepCost(step="train", what="12 runs of 3 arms", n_tokens=18_000_000, flops=3.56e13),
            StepCost(step="evaluate", n_documents=512, n_tokens=1_572_864, flops=1.04e12),
        ),
        methods=(
            MethodNote(
                name="dsir",
                title="Importance resampling on hashed n-grams",
                paper="Xie et al. 2023, Data Selection for Language Models via Importance Resampling, "
                "arXiv:2302.03169",
                formula="score(d) = 1/|d| · Σ over n-grams g of d:  log p_target(h(g)) − log p_pool(h(g))",
                summary="A document scores high when its words and word pairs are frequent in the target "
                "sample and rare in the pool.",
                assumptions=("The target sample is representative.", "Word pairs carry what matters."),
                deviations=("The mean over n-grams instead of the sum, so that length does not decide.",),
            ),
        ),
        lineage=(
            LineageStep(
                step="corpus",
                fingerprint="3f" * 32,
                version="1",
                counts=(Fact(label="rows", value="15,085"),),
            ),
            LineageStep(step="scores", fingerprint="a9" * 32, version="2", parents=("corpus",)),
            LineageStep(
                step="select",
                fingerprint="51" * 32,
                version="1",
                parents=("scores",),
                settings=(Fact(label="policy", value="top_k"), Fact(label="budget", value="500,000 tokens")),
            ),
            LineageStep(step="study", fingerprint="0c" * 32, version="1", parents=("select", "corpus")),
        ),
        inputs=tuple(
            InputFile(
                path=f"corpus/{source}-00000-of-00003.parquet", n_bytes=2_239_219 + i, sha256=f"{i:02x}" * 32
            )
            for i, source in enumerate(SOURCES)
        ),
        versions=(
            Fact(label="Prill", value="0.1.0"),
            Fact(label="PyTorch", value="2.6"),
            Fact(label="Python", value="3.11"),
        ),
        seeds=(0, 1, 2),
        recipe_text="corpus:\n  paths: [corpus/*.parquet]\ntargets:\n  fiction: targets/fiction.jsonl\n"
        "budget: 500k tokens\n",
        repeat_command="prill run four-targets.yaml --out runs/four-targets",
        repeat_notes=(
            "The same inputs, recipe and version give the same bytes on any machine of the same kind.",
        ),
    )


def _target(name: str, index: int, n_documents: int) -> TargetReport:
    rng = np.random.default_rng(zlib.crc32(f"{name}-{index}".encode()))
    shown = name if index < 4 else f"{name}-{index // 4 + 1}"
    against_random, against_truth = _effects(name, rng)
    return TargetReport(
        name=shown,
        description=f"Held-out half of the {shown.replace('_', ' ')} sample; the method saw the other half.",
        findings=_findings(shown, against_random, against_truth),
        curves=_curves(name, rng),
        effects=(against_random, against_truth, _rest_effect(rng)),
        tokens_to_match=(
            "At 250,000 tokens DSIR is where random arrives after about 2.9 M tokens: 11 times fewer.",
            "At 500,000 tokens random does not arrive within the 8 M tokens measured: more than 16 times "
            "fewer.",
        ),
        selections=(_audit("dsir", name, rng), _audit("random", name, rng)),
        samples=tuple(_samples(kind, name, n_documents, rng) for kind in ("above", "below", "random")),
    )


def _effects(name: str, rng: np.random.Generator) -> tuple[Effect, Effect]:
    first = DSIR[name][1] - RANDOM[name][1]
    second = DSIR[name][1] - TRUTH[name][1]
    half = {"fiction": 0.063, "medical_qa": 0.075, "python_code": 0.109, "science_textbook": 0.034}[name]
    other = {"fiction": 0.003, "medical_qa": 0.046, "python_code": 0.065, "science_textbook": 0.015}[name]
    return _effect("random", first, half, rng), _effect("truth", second, other, rng)


def _effect(control: str, mean: float, half: float, rng: np.random.Generator) -> Effect:
    noise = rng.normal(size=3)
    seeds = mean + (noise - noise.mean()) / noise.std(ddof=1) * half / 2.48  # 4.303 / sqrt(3)
    return Effect(
        arm="dsir",
        control=control,
        eval_set="target",
        n_tokens=500_000,
        difference_bpb=mean,
        low_bpb=mean - half,
        high_bpb=mean + half,
        noise_floor_bpb=0.04,
        detectable_bpb=1.6 * half,
        seed_differences_bpb=tuple(float(seed) for seed in seeds),
    )


def _rest_effect(rng: np.random.Generator) -> Effect:
    mean = float(rng.uniform(0.25, 0.5))
    return Effect(
        arm="dsir",
        control="random",
        eval_set="rest",
        n_tokens=500_000,
        difference_bpb=mean,
        low_bpb=mean - 0.05,
        high_bpb=mean + 0.05,
        noise_floor_bpb=0.03,
        seed_differences_bpb=(mean - 0.02, mean, mean + 0.02),
        is_primary=False,
    )


def _findings(name: str, first: Effect, second: Effect) -> tuple[Finding, ...]:
    is_decided = second.low_bpb is not None and second.low_bpb > 0
    sentence = (
        f"After equal training, DSIR's choice leaves {-first.difference_bpb:.2f} bits per byte less than "
        f"a random one on held-out {name.replace('_', ' ')}."
    )
    return (
        Finding(
            arm="dsir",
            control="random",
            verdict=Verdict.BETTER,
            sentence=sentence,
            details=(
                "All three seeds agree, and the interval is far from zero.",
                "On everything else the model becomes worse: it was trained on one kind of text.",
            ),
        ),
        Finding(
            arm="dsir",
            control="truth",
            verdict=Verdict.WORSE if is_decided else Verdict.CANNOT_TELL,
            sentence="DSIR is a little behind the planted truth."
            if is_decided
            else "Three seeds do not tell DSIR from the planted truth.",
            details=("About nine seeds would be needed to see a difference of 0.02.",),
        ),
    )


def _curves(name: str, rng: np.random.Generator) -> tuple[Curve, ...]:
    curves = []
    for arm, tokens, means in (
        ("random", RANDOM_TOKENS, RANDOM[name]),
        ("dsir", TOKENS, DSIR[name]),
        ("truth", TOKENS, TRUTH[name]),
    ):
        spread = 0.03 if arm == "random" else 0.012
        curves.append(_curve(arm, "target", tokens, means, spread, rng))
        if arm != "truth":
            rest = [
                2.55 - 0.16 * np.log2(t / 250_000) if arm == "random" else 3.02 - 0.05 * i
                for i, t in enumerate(tokens)
            ]
            curves.append(_curve(arm, "rest", tokens, tuple(map(float, rest)), spread, rng))
    return tuple(curves)


def _curve(arm, eval_set, tokens, means, spread, rng) -> Curve:
    points, seeds = [], []
    for n_tokens, mean in zip(tokens, means, strict=True):
        n_seeds = 3 if n_tokens <= 2_000_000 else 1
        seeds += [
            SeedPoint(seed=s, n_tokens=n_tokens, bpb=float(mean + rng.normal() * spread * (n_seeds > 1)))
            for s in range(n_seeds)
        ]
        known = n_seeds > 1
        points.append(
            CurvePoint(
                n_tokens=n_tokens,
                mean_bpb=mean,
                low_bpb=mean - 2.48 * spread if known else None,
                high_bpb=mean + 2.48 * spread if known else None,
            )
        )
    return Curve(arm=arm, eval_set=eval_set, points=tuple(points), seeds=tuple(seeds))


def _audit(arm: str, name: str, rng: np.random.Generator) -> SelectionAudit:
    scores, lengths = rng.normal(-0.4, 0.55, 15_000), rng.lognormal(7.1, 0.9, 15_000)
    threshold = float(np.quantile(scores, 0.965))
    is_kept = scores >= threshold if arm == "dsir" else rng.random(15_000) < 0.035
    favoured = {"fiction": 0, "medical_qa": 8, "python_code": 1, "science_textbook": 3}[name]
    sources = []
    for i, source in enumerate(SOURCES):
        n = int(rng.integers(400, 2_300))
        kept = int(n * (0.14 if i == favoured and arm == "dsir" else 0.004 if arm == "dsir" else 0.017))
        sources.append(
            SourceShare(
                source=source,
                n_documents_pool=n,
                n_tokens_pool=n * 1900,
                n_documents_kept=kept,
                n_tokens_kept=kept * 2050,
            )
        )
    n_documents, n_tokens = sum(s.n_documents_kept for s in sources), sum(s.n_tokens_kept for s in sources)
    return SelectionAudit(
        arm=arm,
        budget=f"{n_tokens + 412:,} tokens",
        n_documents_candidates=sum(s.n_documents_pool for s in sources),
        n_tokens_candidates=sum(s.n_tokens_pool for s in sources),
        n_documents_kept=n_documents,
        n_tokens_kept=n_tokens,
        threshold=threshold if arm == "dsir" else None,
        score_name="mean log importance ratio per n-gram",
        n_ties_boundary=2 if arm == "dsir" else 0,
        shortfall_tokens=412,
        by_source=tuple(sources),
        lengths=_histogram(lengths, is_kept, np.geomspace(20, 60_000, 33), "tokens a document", is_log=True),
        scores=_histogram(scores, is_kept, np.linspace(-2.5, 2.5, 41), "score", is_log=False)
        if arm == "dsir"
        else None,
        dropped=(
            Dropped(reason="exact copy of an earlier document", n_documents=212, n_tokens=390_114),
            Dropped(reason="copy of held-out target text", n_documents=3, n_tokens=5_020),
            Dropped(reason="record could not be read", n_documents=1),
        ),
    )


def _histogram(values, is_kept, edges, unit: str, *, is_log: bool) -> Histogram:
    pool, kept = np.histogram(values, edges)[0], np.histogram(values[is_kept], edges)[0]
    return Histogram(
        edges=tuple(float(e) for e in edges),
        pool=tuple(int(n) for n in pool),
        kept=tuple(int(n) for n in kept),
        unit=unit,
        is_log=is_log,
    )


def _samples(kind: GroupKind, name: str, n_documents: int, rng: np.random.Generator) -> SampleGroup:
    offset = {"above": 0.64, "below": 0.59, "random": -0.4}[kind]
    documents = []
    for index, text in enumerate(_texts(n_documents, rng)):
        score = offset + 0.002 * (n_documents - index) if kind != "random" else float(rng.normal(-0.4, 0.5))
        is_kept = kind == "above"
        documents.append(
            SampleDocument(
                shard="corpus/books-00001-of-00003.parquet",
                row=int(rng.integers(0, 900)),
                id=f"books/{name}/{rng.integers(10_000):05d}",
                source=SOURCES[int(rng.integers(len(SOURCES)))],
                score=score,
                n_tokens=int(rng.integers(200, 4_000)),
                text=text,
                is_kept=is_kept,
                reason="Kept: the score is above the threshold."
                if is_kept
                else "Not kept: the score is below the threshold.",
            )
        )
    return SampleGroup(kind=kind, documents=tuple(documents), arm="dsir")


def _texts(n: int, rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, int(rng.integers(80, 500)))).capitalize() + "." for _ in range(n)]


def crowded_report(n_arms: int = 24) -> ReportData:
    """The sample with many candidates: DSIR's evidence under other names, each a little worse."""
    report = sample_report(n_documents=1)
    names = {f"m{i}": f"Method-of-{i}" for i in range(n_arms)}
    arms = tuple(Arm(name=name, label=label, role="candidate") for name, label in names.items())
    return replace(
        report,
        arms=(report.arms[0], *arms, *report.arms[2:]),
        targets=tuple(_crowded(target, tuple(names)) for target in report.targets),
    )


def _crowded(target: TargetReport, names: tuple[str, ...]) -> TargetReport:
    def repeated(items: tuple[Any, ...]) -> tuple[Any, ...]:
        others = tuple(item for item in items if item.arm != "dsir")
        mine = [item for item in items if item.arm == "dsir" and getattr(item, "control", "") != "truth"]
        return (*others, *(replace(item, arm=name) for name in names for item in mine))

    effects = repeated(target.effects)
    worse = {name: 0.01 * i for i, name in enumerate(names)}
    return replace(
        target,
        effects=tuple(replace(e, difference_bpb=e.difference_bpb + worse.get(e.arm, 0.0)) for e in effects),
        findings=repeated(target.findings),
        curves=repeated(target.curves),
        selections=repeated(target.selections),
        samples=tuple(replace(group, arm=name) for name in names for group in target.samples),
    )
