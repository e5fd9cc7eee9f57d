"""Oracle probes: what one training step on a document does to a target's loss; and what is learnt from them.

`Probes` takes one AdamW step on each of some documents, each from the same checkpoint, and reads the
target's loss; many probes are one stack. An
`InfluenceModel` predicts the probed losses from document vectors and takes a share of the pool. `Continued`
trains the checkpoint on what has been taken so far, and the next stage begins.

Source: Yu et al. 2024, arXiv:2406.06046 (MATES), sections 3.1 to 3.3; released code 5d2860c.
Legend: D documents, N probes, R targets, K dimensions of vectors, T tokens of a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.checkpoints import end_of_text, exam_of, train_on
from prill.features.feature import Feature, Given, WholeFeature
from prill.features.keyed import derive_seed, keyed_gumbel, keyed_uniform
from prill.features.picking import all_places, tokens_at
from prill.features.stages import (
    Form,
    StageModel,
    fit_ridge,
    preference,
    stage_of,
    threshold_of,
    z_scores,
)
from prill.features.vectors import Vectors
from prill.run.atomic import atomic_write

if TYPE_CHECKING:
    from prill.lm.data import Rows

__all__ = ["Continued", "InfluenceModel", "Probes", "read_stage"]

FEWEST_PROBES = 20
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Probes(WholeFeature):
    """Losses on targets after one step on each of N documents of the pool, each from one checkpoint.

    Attributes:
        checkpoint: a `Warmed` or `Continued`.
        targets: whose fit items are read after the step, R of them.
        n_probes: N, about; the documents are drawn by `use`.
        n_exam_tokens: of each target at most.
        rate_share: the step's learning rate as a share of the checkpoint's.
        use: keys the draws.
        n_together: probes in one stack; it decides no result but by rounding.
    """

    kind: ClassVar[str] = "probes"
    is_apart: ClassVar[bool] = True
    checkpoint: Feature
    targets: tuple[str, ...]
    n_probes: int = 256
    n_exam_tokens: int = 2048
    rate_share: float = 1.0
    use: str = "stage 0"
    n_together: int = 16

    @property
    def label(self) -> str:
        whose = f"target {self.targets[0]}" if len(self.targets) == 1 else f"{len(self.targets)} targets"
        return f"{self.n_probes} one-step probes on {whose} ({self.use})"

    @property
    def files(self) -> tuple[str, ...]:
        return ("probes.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import save

        from prill.lm.copies import Copies, TrainingState

        state = TrainingState.load(given.file(self.checkpoint))
        length = state.shape.seq_len
        place = self.places(given)
        docs = tokens_at(given, place, longest=length)
        prefix = end_of_text(given)
        exams = [exam_of(given, name, self.n_exam_tokens, length) for name in self.targets]
        found, flops = [], 0.0
        for first in range(0, len(docs), self.n_together):
            here = docs[first : first + self.n_together]
            copies = Copies(state, len(here))
            copies.step(_own_rows(here, length=length, prefix=prefix), state.rate * self.rate_share)
            found.append(copies.losses(exams))
            flops += copies.flops
        losses = np.concatenate(found).T
        atomic_write(paths[0], save({"losses": np.ascontiguousarray(losses), "place": place}))
        deviations = {n: float(row.std()) for n, row in zip(self.targets, losses, strict=True)}
        return {"n_probes": len(docs), "deviation_nats": deviations, "flops": flops}

    def places(self, given: Given) -> NDArray[np.int64]:
        """(shard, row) of the probed documents, (N, 2).

        Raises:
            DataError: the pool has too few documents; says how many would do.
        """
        place, keys, _ = all_places(given)
        if len(place) < FEWEST_PROBES:
            raise DataError(
                f"probes need at least {FEWEST_PROBES} documents that may be chosen, found {len(place)}",
                hint="give a larger pool",
            )
        draws = keyed_uniform(derive_seed(given.seed, f"probes {self.use}"), keys)
        order = np.lexsort((place[:, 1], place[:, 0], draws))[: self.n_probes]
        return place[np.sort(order)]


@dataclass(frozen=True, kw_only=True)
class InfluenceModel(WholeFeature):
    """A ridge regression from document vectors to probed losses, and the share of the pool it takes.

    Attributes:
        probes: what it learns from.
        vectors: what it reads of a document.
        earlier: the models of earlier stages; what they took is left out.
        target: one of the probes' targets.
        share: of the pool's tokens to take.
        temperature, form: of the choice (`stages.preference`).
    """

    kind: ClassVar[str] = "influence"
    version: ClassVar[int] = 2
    probes: Probes
    vectors: Vectors
    earlier: tuple[InfluenceModel, ...] = ()
    target: str
    share: float = 0.025
    temperature: float = 0.5
    form: Form = "gumbel"

    @property
    def label(self) -> str:
        return f"influence model of stage {len(self.earlier)}, target {self.target}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("influence.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import load_file, save

        stored = load_file(given.file(self.probes))
        labels, mean, deviation = z_scores(stored["losses"][self.probes.targets.index(self.target)])
        vectors = _vectors_at(given, self.vectors, stored["place"])
        seed = derive_seed(given.seed, f"influence {len(self.earlier)} {self.target}")
        draws = keyed_uniform(seed, np.arange(len(labels), dtype=np.uint64))
        is_validation = np.zeros(len(labels), np.bool_)
        is_validation[np.argsort(draws, kind="stable")[: max(2, int(VALIDATION_SHARE * len(labels)))]] = True
        weight, bias, correlation = fit_ridge(vectors, labels, is_validation=is_validation)
        model = self._scaled(given, StageModel(weight=weight, bias=bias, threshold=np.inf, seed=seed))
        threshold, n_taken = self._take(given, model)
        atomic_write(
            paths[0],
            save(
                {
                    "weight": model.weight,
                    "numbers": np.array([model.bias, threshold]),
                    "seed": np.array([seed], np.uint64),
                }
            ),
        )
        return {
            "n_probes": len(labels),
            "mean_nats": mean,
            "deviation_nats": deviation,
            "is_constant": not deviation > 0,
            "validation_spearman": round(correlation, 4),
            "n_taken": n_taken,
        }

    def _scaled(self, given: Given, model: StageModel) -> StageModel:
        """The model with predictions of mean 0 and deviation 1 over the documents that may be chosen.

        A penalty chosen by ranks says nothing of the scale, which the temperature is in.
        """
        parts = []
        for shard in range(given.pool.n_shards):
            free = given.pool.is_eligible(shard) & (given.pool.n_tokens(shard) > 1)
            parts.append(model.predict(self.vectors.read(given, shard)[free]))
        _, mean, deviation = z_scores(np.concatenate(parts))
        if not deviation > 0:
            return model
        bias = (model.bias - mean) / deviation
        return dataclasses.replace(model, weight=model.weight / deviation, bias=bias)

    def _take(self, given: Given, model: StageModel) -> tuple[float, int]:
        """The threshold of this stage, and how many documents it takes."""
        preferred, sizes = [], []
        earlier = [read_stage(given, feature) for feature in self.earlier]
        for shard in range(given.pool.n_shards):
            n_tokens = given.pool.n_tokens(shard)
            vectors, keys = self.vectors.read(given, shard), given.pool.keys(shard)
            free = given.pool.is_eligible(shard) & (n_tokens > 1)
            if earlier:
                free &= self.stages(earlier, vectors, keys) == len(earlier)
            preferred.append(self.preferred(model, vectors, keys)[free])
            sizes.append(n_tokens[free])
        budget = self.share * given.pool.total_tokens()
        return threshold_of(np.concatenate(preferred), np.concatenate(sizes), budget)

    def preferred(
        self, model: StageModel, vectors: NDArray[np.float32], keys: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        """What a stage takes the largest of, (D,)."""
        noise = keyed_gumbel(model.seed, keys)
        return preference(model.predict(vectors), noise, temperature=self.temperature, form=self.form)

    def stages(
        self, models: Sequence[StageModel], vectors: NDArray[np.float32], keys: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """The stage that takes each document, (D,); the number of models: none."""
        preferred = [self.preferred(model, vectors, keys) for model in models]
        return stage_of(preferred, [model.threshold for model in models])


@dataclass(frozen=True, kw_only=True)
class Continued(WholeFeature):
    """A checkpoint, trained on what the last stage took.

    Attributes:
        checkpoint: of the stage before.
        models: of all stages so far; the last one's documents are read.
        vectors: that they read.
        n_tokens: to train on; documents in keyed order.
        n_rows: rows of a step.
        longest: tokens of a document that count.
    """

    kind: ClassVar[str] = "continued"
    is_apart: ClassVar[bool] = True
    checkpoint: Feature
    models: tuple[InfluenceModel, ...]
    vectors: Vectors
    n_tokens: int = 100_000
    n_rows: int = 4
    longest: int = 2048

    @property
    def label(self) -> str:
        return f"train stage {len(self.models)}, target {self.models[-1].target}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("checkpoint.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from prill.lm.copies import TrainingState
        from prill.lm.data import TokenStream

        state = TrainingState.load(given.file(self.checkpoint))
        docs = tokens_at(given, self._taken(given), longest=self.longest)
        stream = TokenStream.from_documents(list(docs), eos=end_of_text(given), name="documents of a stage")
        n_steps = max(1, min(self.n_tokens, stream.n_tokens) // (self.n_rows * state.shape.seq_len))
        state, counts = train_on(state, stream, n_steps=n_steps, n_rows=self.n_rows)
        state.save(paths[0])
        return {"n_documents": len(docs), **counts}

    def _taken(self, given: Given) -> NDArray[np.int64]:
        """(shard, row) of documents of the last stage, in keyed order, as many as the tokens need."""
        models = [read_stage(given, feature) for feature in self.models]
        last = self.models[-1]
        places, draws, sizes = [], [], []
        for shard in range(given.pool.n_shards):
            n_tokens, keys = given.pool.n_tokens(shard), given.pool.keys(shard)
            stage = last.stages(models, self.vectors.read(given, shard), keys)
            rows = np.flatnonzero(given.pool.is_eligible(shard) & (n_tokens > 1) & (stage == len(models) - 1))
            places.append(np.stack([np.full(len(rows), shard), rows], axis=1))
            draws.append(keyed_uniform(derive_seed(given.seed, f"stage {len(models)}"), keys[rows]))
            sizes.append(np.minimum(n_tokens[rows], self.longest))
        place, draw, size = np.concatenate(places), np.concatenate(draws), np.concatenate(sizes)
        order = np.lexsort((place[:, 1], place[:, 0], draw))
        before = np.cumsum(size[order]) - size[order]
        return np.asarray(place[order[before < self.n_tokens]], np.int64)


def read_stage(given: Given, feature: InfluenceModel) -> StageModel:
    """The model of a stage from its file."""
    from safetensors.numpy import load_file

    stored = load_file(given.file(feature))
    bias, threshold = stored["numbers"].tolist()
    return StageModel(weight=stored["weight"], bias=bias, threshold=threshold, seed=int(stored["seed"][0]))


def _own_rows(docs: Sequence[NDArray[Any]], *, length: int, prefix: int) -> Rows:
    """One row a document for as many models, (K, 1, T), closed by end-of-text where there is room."""
    from prill.lm.data import Rows, positions_of

    tokens = np.full((len(docs), 1, length), prefix, np.int64)
    weights = np.zeros(tokens.shape, np.float32)
    for number, doc in enumerate(docs):
        tokens[number, 0, : len(doc)] = doc
        weights[number, 0, : len(doc) + 1] = 1.0
    inputs = np.concatenate([np.full((len(docs), 1, 1), prefix), tokens[:, :, :-1]], axis=2)
    segments = (weights == 0).astype(np.int64)
    return Rows(
        inputs=inputs, targets=tokens, positions=positions_of(segments), segments=segments, weights=weights
    )


def _vectors_at(given: Given, vectors: Vectors, place: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vectors of the documents at (shard, row), float32, (N, K)."""
    found = np.zeros((len(place), vectors.n_dimensions), np.float32)
    for shard in np.unique(place[:, 0]).tolist():
        here = place[:, 0] == shard
        found[here] = vectors.read(given, shard)[place[here, 1]]
    return found
