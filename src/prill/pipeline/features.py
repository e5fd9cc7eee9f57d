"""Resolves what methods ask for: every distinct feature of the graph is computed once, needs before users.

The order is fixed by the graph: by depth, then as asked. Whole features that are built apart (trainings) and
are ready at the same depth share the workers; features with a part a shard go over the shards in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from prill.errors import DataError
from prill.features.feature import Feature, Given, ShardFeature, WholeFeature
from prill.features.pool import PoolView
from prill.pipeline.measuring import engine_kind
from prill.pipeline.walk import Done, Walk
from prill.run.events import Stopwatch
from prill.run.step import Step
from prill.targets.target import Target

__all__ = ["Features", "closure"]

AnyFeature = TypeVar("AnyFeature", ShardFeature, WholeFeature)


def closure(asked: Iterable[Feature]) -> list[tuple[int, Feature]]:
    """Everything that is needed, each once with its depth, needs before users."""
    depths: dict[Feature, int] = {}

    def visit(feature: Feature) -> int:
        if feature not in depths:
            depths[feature] = 1 + max((visit(need) for need in feature.needs), default=-1)
        return depths[feature]

    for feature in asked:
        visit(feature)
    return sorted(((depth, feature) for feature, depth in depths.items()), key=lambda found: found[0])


@dataclass(kw_only=True)
class Features:
    """The features of one run.

    Attributes:
        read: the step that read the documents: all that a feature of texts rests on.
        parents: the steps that other features rest on: that one, who may be chosen, tokens.
        goes_on: without a feature that the data refuse, and without all that need it; otherwise that stops
            the run.
        done: what is finished.
        refused: what could not be computed, and why.
    """

    walk: Walk
    pool: PoolView
    targets: Mapping[str, Target]
    read: Done
    parents: tuple[Done, ...]
    goes_on: bool = False
    done: dict[Feature, Done] = field(default_factory=dict)
    refused: dict[Feature, DataError] = field(default_factory=dict)

    def resolve(self, asked: Sequence[Feature]) -> None:
        """Compute what is asked for and all it needs, as far as it is not there.

        Raises:
            DataError: the data refuse a feature, and the run does not go on without.
        """
        levels: dict[int, list[Feature]] = {}
        for depth, feature in closure(asked):
            if feature not in self.done:
                levels.setdefault(depth, []).append(feature)
        for level in levels.values():
            ready = [feature for feature in level if not self._lacks(feature)]
            self._apart([f for f in ready if isinstance(f, WholeFeature) and f.is_apart])
            for feature in ready:
                if isinstance(feature, ShardFeature):
                    self._attempt(feature, self._over_shards)
                elif isinstance(feature, WholeFeature) and not feature.is_apart:
                    self._attempt(feature, self._whole)

    def _lacks(self, feature: Feature) -> bool:
        """Whether something that it needs was refused; then it is refused for the same reason."""
        causes = [self.refused[need] for need in feature.needs if need in self.refused]
        if causes:
            self.refused[feature] = causes[0]
        return bool(causes)

    def _attempt(self, feature: AnyFeature, compute: Callable[[AnyFeature], Done]) -> None:
        try:
            self.done[feature] = compute(feature)
        except DataError as error:
            if not self.goes_on:
                raise
            self.refused[feature] = error

    def given(self, feature: Feature) -> Given:
        """What the feature may read."""
        needs = feature.needs
        is_texts = feature.rests_on == "texts"
        return Given(
            pool=replace(self.pool, eligible_parts=(), token_parts=()) if is_texts else self.pool,
            targets={name: self.targets[name].fit for name in feature.reads_targets},
            seed=self.walk.recipe.seed,
            parts={need: self.done[need].parts for need in needs},
            counts={need: self.done[need].record.counts for need in needs},
            named=feature.names,
            cache=self.walk.run.path / "answers",
        )

    def flops(self, feature: Feature) -> float:
        """Floating-point operations that a finished feature took, without its needs."""
        if isinstance(feature, ShardFeature):
            return feature.flops(self.given(feature))
        return float(self.done[feature].record.counts.get("flops", 0.0))

    def _over_shards(self, feature: ShardFeature) -> Done:
        kind = feature.engine_kind
        if kind == "threads" and engine_kind(self.walk.corpus) == "processes":
            kind = "processes"
        return self.walk.over_shards(
            feature.name,
            version=feature.version,
            settings=feature.settings,
            parents=self._parents(feature),
            inputs=self._inputs(feature),
            work=lambda: _WriteShard(feature=feature, given=self.given(feature)),
            kind=kind,
            label=feature.label,
        )

    def _whole(self, feature: WholeFeature) -> Done:
        given = replace(self.given(feature), engine=self.walk.engine)
        return self.walk.at_once(
            feature.name,
            version=feature.version,
            settings=feature.settings,
            parents=self._parents(feature),
            inputs=self._inputs(feature),
            files=feature.files,
            build=lambda paths: feature.build(given, paths),
            label=feature.label,
        )

    def _apart(self, features: Sequence[WholeFeature]) -> None:
        """Build features in worker processes of one thread, side by side."""
        opened = {feature: self._open(feature) for feature in features}
        todo = [feature for feature, step in opened.items() if step.record is None]
        for feature, step in opened.items():
            if step.record is not None:
                self.walk.progress.reused(feature.label)
                self.done[feature] = Done(record=step.record, parts=_paths(step, feature))
        if not todo:
            return
        try:
            self._train(todo, opened)
        except DataError as error:
            if not self.goes_on:
                raise
            if len(todo) == 1:
                self.refused[todo[0]] = error
            else:  # which one it was shows when each is alone
                for feature in todo:
                    if feature not in self.done:
                        self._apart([feature])

    def _train(self, todo: Sequence[WholeFeature], opened: Mapping[WholeFeature, Step]) -> None:
        labels = [feature.label for feature in todo]
        title = labels[0] if len(todo) == 1 else f"{labels[0]} and {len(todo) - 1} more"
        with self.walk.progress.step(title, len(todo), "models") as display:

            def finished(position: int, built: tuple[dict[str, Any], dict[str, float]]) -> None:
                feature, (counts, spent) = todo[position], built
                step, paths = opened[feature], _paths(opened[feature], feature)
                self.done[feature] = Done(record=step.finish(paths, counts, spent=spent), parts=paths)
                display.advance(1)

            self.walk.engine.map(
                _build_apart,
                [(feature, self.given(feature), _paths(opened[feature], feature)) for feature in todo],
                kind="processes",
                name=title,
                on_result=finished,
                label=lambda item: item[0].label,
            )

    def _open(self, feature: WholeFeature) -> Step:
        return self.walk.run.step(
            feature.name,
            version=feature.version,
            settings=feature.settings,
            parents=[parent.record for parent in self._parents(feature)],
            inputs=self._inputs(feature),
            label=feature.label,
        )

    def _parents(self, feature: Feature) -> list[Done]:
        rests = (self.read,) if feature.rests_on == "texts" else self.parents
        return [*rests, *(self.done[need] for need in feature.needs)]

    def _inputs(self, feature: Feature) -> list[Any]:
        """The targets it reads, by content: two targets of one name in two recipes differ."""
        return [{"target": name, "sha256": self.targets[name].digest()} for name in feature.reads_targets]


def _paths(step: Step, feature: WholeFeature) -> tuple[Path, ...]:
    return tuple(step.folder / name for name in feature.files)


def _build_apart(
    item: tuple[WholeFeature, Given, tuple[Path, ...]],
) -> tuple[dict[str, Any], dict[str, float]]:
    """What building gave, and what it took in this worker."""
    feature, given, paths = item
    watch = Stopwatch()
    counts = dict(feature.build(given, paths))
    read = watch.read()
    return counts, {"elapsed_s": read["elapsed_s"], "cpu_s": read["cpu_s"]}


@dataclass(frozen=True, kw_only=True)
class _WriteShard:
    """A feature's part of one shard."""

    feature: ShardFeature
    given: Given

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        self.feature.write(self.given, index, path)
