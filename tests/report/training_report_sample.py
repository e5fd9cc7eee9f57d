"""A training report like those that `prill train` makes, for tests."""

from __future__ import annotations

import math

from prill.report.model import Fact, InputFile, LineageStep, MethodNote, StepCost
from prill.report.training_model import (
    BadRow,
    IncidentNote,
    PathPoint,
    Reached,
    SourceRead,
    TrainingPath,
    TrainingReport,
)

CHECKPOINTS = (65_536, 131_072)


def sample_training_report(n_seeds: int = 3, n_sets: int = 2) -> TrainingReport:
    """Seeds on a trunk with two decays, held-out sets, three sources, two incidents."""
    names = ["code", "prose", *(f"language {number}" for number in range(max(0, n_sets - 2)))][:n_sets]
    return TrainingReport(
        title="Code before prose",
        recipe="train.yaml",
        model="Fresh pico",
        n_models=n_seeds,
        n_params=106_816,
        n_tokens=CHECKPOINTS[-1],
        n_steps=560,
        reached=tuple(reached(name, place, n_seeds) for name in names for place in range(len(CHECKPOINTS))),
        paths=tuple(path for seed in range(n_seeds) for path in paths(seed)),
        sources=(
            SourceRead(
                source="code",
                wanted_share=0.675,
                n_tokens=88_448,
                n_trained_tokens=88_040,
                passes=1.58,
                most_passes=1.7,
                n_documents=15,
                n_documents_read=15,
            ),
            SourceRead(
                source="prose",
                wanted_share=0.325,
                n_tokens=42_624,
                n_trained_tokens=42_624,
                passes=0.02,
                most_passes=0.3,
                n_documents=359,
                n_documents_read=233,
            ),
        ),
        incidents=(spike(), divergence()),
        facts=(Fact(label="Models", value=str(n_seeds)), Fact(label="Precision", value="fp32, cpu")),
        settings=(Fact(label="Schedule", value="wsd (warmup 30 steps)"),),
        warnings=("Sparsity is simulated.",),
        methods=(MethodNote(name="metadata", title="Metadata", summary="A line before each document."),),
        costs=(StepCost(step="train", what="3 models", n_tokens=302_592, flops=2.5e11),),
        lineage=(LineageStep(step="train", fingerprint="f" * 64, parents=("stream-code",)),),
        inputs=(InputFile(path="code.jsonl", n_bytes=132_000, sha256="a" * 64, role="source code"),),
        versions=(Fact(label="Prill", value="0.1"),),
        seeds=tuple(range(n_seeds)),
        recipe_text="name: Code before prose\n",
        repeat_command="prill train train.yaml",
        repeat_notes=("The same recipe gives the same bytes.",),
    )


def reached(name: str, place: int, n_seeds: int) -> Reached:
    mean = {"code": 2.5, "prose": 3.2}.get(name, 2.9) - 0.25 * place
    bounds = {"low": mean - 0.05, "high": mean + 0.05} if n_seeds > 1 else {}
    return Reached(
        eval_set=name,
        n_tokens=CHECKPOINTS[place],
        n_documents=40,
        bpb=mean,
        by_seed=tuple(mean + 0.01 * (seed - 1) for seed in range(n_seeds)),
        **bounds,
    )


def paths(seed: int) -> list[TrainingPath]:
    """A trunk and two decays."""

    def point(n_tokens: int, rate: float) -> PathPoint:
        loss = 2.8 + 3.6 * math.exp(-n_tokens / 15_000) - (0.3 if rate < 3e-3 else 0.0) + 0.01 * seed
        return PathPoint(n_tokens=n_tokens, loss=loss, gradient_norm=1.0 + loss / 6, learning_rate=rate)

    trunk = tuple(point(n, 3e-3) for n in range(2_048, 104_449, 2_048))
    found = [TrainingPath(run=f"seed-{seed}", branch=None, points=trunk)]
    for number, stop in enumerate(CHECKPOINTS):
        start, step = round(0.8 * stop), stop // 40
        points = tuple(point(n, 3e-3 * (stop - n) / (stop - start)) for n in range(start + step, stop, step))
        found.append(TrainingPath(run=f"seed-{seed}", branch=number, points=points))
    return found


def spike() -> IncidentNote:
    return IncidentNote(
        run="seed-1",
        step=166,
        n_tokens=35_840,
        branch=None,
        kind="gradient spike",
        action="warn",
        before=1.64,
        value=12.98,
        loss=4.64,
        learning_rate=3e-3,
        back_after=1,
        documents=("source 'prose', document 129", "source 'code', document 7"),
        n_documents=2,
        rows=(BadRow(loss=7.998, documents=("source 'prose', document 129",)),),
    )


def divergence() -> IncidentNote:
    return IncidentNote(
        run="seed-0",
        step=524,
        n_tokens=114_432,
        branch=1,
        kind="divergence",
        action="warn",
        before=2.8,
        value=5.1,
        loss=5.3,
        learning_rate=1.9e-3,
        documents=("source 'code', document 0",),
        n_documents=90,
    )
