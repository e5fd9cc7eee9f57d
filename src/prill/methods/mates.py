"""MATES: model-aware selection with a data influence model.

Documents are probed: one training step on each from the current checkpoint, then the target's loss. A small
regression predicts that loss for every document, and the best share of the pool is taken; the checkpoint is
trained on it, and the next stage begins.

Source: Yu et al. 2024, arXiv:2406.06046, sections 3.1 to 3.3; released code 5d2860c.
Legend: D documents, S stages, K dimensions of vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.features.checkpoints import Warmed
from prill.features.feature import Feature
from prill.features.probes import Continued, InfluenceModel, Probes, read_stage
from prill.features.proxies import Proxy
from prill.features.stages import StageModel, stage_of
from prill.features.vectors import Vectors
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Given

__all__ = ["MATES", "MATESSettings", "staged_scores"]


class MATESSettings(BaseModel):
    """Settings of MATES."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: str = Field("pico", description="Size of the probed model, of the ladder of proxies.")
    n_tokens: int = Field(400_000, ge=1, description="Tokens it learns from before the first stage.")
    warm_steps: int = Field(
        64, ge=1, description="Training steps that fill the optimiser's moments before anything is probed."
    )
    n_stages: int = Field(2, ge=1, le=10, description="Stages; each probes the model anew.")
    n_probes: int = Field(256, ge=20, description="Documents that are probed at a stage; the paper: 80,000.")
    n_exam_tokens: int = Field(2048, ge=64, description="Tokens of each target read after a probe's step.")
    stage_share: float = Field(
        0.025,
        gt=0,
        le=1,
        description="Share of the pool's tokens a stage takes; all stages together should make the budget.",
    )
    stage_tokens: int = Field(100_000, ge=1, description="Tokens of them that the model is trained on.")
    temperature: float = Field(
        0.5, gt=0, description="Divides predictions before the noise; code 0.5, paper 1."
    )
    choice: Literal["gumbel", "reference", "none"] = Field(
        "gumbel",
        description="gumbel: sampled in proportion to exp(-prediction / temperature); reference: the "
        "released code's smallest of prediction / temperature + noise; none: the best predictions.",
    )
    rate_share: float = Field(
        1.0, gt=0, description="Learning rate of a probe's step; 1 is the checkpoint's."
    )
    n_dimensions: int = Field(
        256,
        ge=16,
        description="Dimensions of the hashed vectors that the influence model reads; a power of 2.",
    )


@method(
    name="mates",
    called="MATES",
    title="predicted influence of a training step, stage by stage",
    paper="2406.06046",
    feature="one-step probes of a proxy, vectors",
    cost="a stage: n_probes training steps of one row, as many readings of the target, a pass over vectors",
    assumes="one step on a document says what training on it does, and words predict that",
    formula="""stage s:  L_i = loss on the target after one AdamW step on document i, from checkpoint s
z_i = (L_i - mean) / deviation;  f_s = ridge regression of z on vectors, z-scored over the pool
taken at s: the largest of -f_s(x) / temperature + Gumbel noise among what is left, stage_share of tokens
checkpoint s + 1 = checkpoint s trained on what s took
score(x) = (S - stage of x) + (1 + tanh(-f_stage(x) / 4)) / 2;  documents of no stage: stage S, last f""",
    differs="""Ridge on hashed word vectors instead of BERT: no model has to be fetched; its validation rank
correlation is in the record; its predictions are scaled to deviation 1, since ridge shrinks them at will and
temperature is in their unit. The noise is subtracted (choice: gumbel); the released code adds it and takes
the smallest, which favours the best more than the softmax does (choice: reference). Loss of all tokens of
the target's fit items instead of the last word of LAMBADA. One document's first row instead of a packed
sequence of 1,024 tokens. Moments: warm_steps recorded steps before the first stage. Candidates are the
whole pool, not other shards for each stage; probed documents may be taken. Noise is keyed; the code's is
unseeded.""",
)
class MATES(Method):
    """Stages of one-step influence."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 100.0
    Settings: ClassVar[type[BaseModel]] = MATESSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The influence models of all stages, for each target its own after the first probes."""
        settings = self.settings
        vectors = Vectors.of("hashed", n_dimensions=settings.n_dimensions)
        proxy = Proxy.of_pool(size=settings.size, n_tokens=settings.n_tokens)
        start = Warmed.of(proxy, n_steps=settings.warm_steps)
        first = self._probes(start, tuple(targets), stage=0)
        found: dict[str, Feature] = {"vectors": vectors}
        for target in targets:
            models: tuple[InfluenceModel, ...] = ()
            checkpoint: Feature = start
            for stage in range(settings.n_stages):
                if stage:
                    checkpoint = Continued(
                        checkpoint=checkpoint,
                        models=models,
                        vectors=vectors,
                        n_tokens=settings.stage_tokens,
                    )
                probes = self._probes(checkpoint, (target,), stage=stage) if stage else first
                models = (*models, self._model(probes, vectors, models, target))
            found |= {f"{target}/{stage}": model for stage, model in enumerate(models)}
        return found

    def fit(self, given: Given) -> State:
        """Weights, bias, threshold and seed of every stage's model, for each target (S, ...)."""
        state: State = {}
        for name in given.targets:
            models = [read_stage(given, feature) for feature in self._stages(given, name)]
            state[f"{name}/weight"] = np.stack([model.weight for model in models])
            state[f"{name}/numbers"] = np.array([[model.bias, model.threshold] for model in models])
            state[f"{name}/seed"] = np.array([model.seed for model in models], np.uint64)
        return state

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The stage that took a document, and within it the prediction; NaN for documents without text."""
        vectors_feature = given.named["vectors"]
        assert isinstance(vectors_feature, Vectors)
        vectors = vectors_feature.read(given, shard)
        keys, is_empty = given.pool.keys(shard), given.pool.document_bytes(shard) == 0
        found = {}
        for name in given.targets:
            models = _models(state, name)
            stages = self._stages(given, name)
            preferred = [f.preferred(m, vectors, keys) for f, m in zip(stages, models, strict=True)]
            taken = stage_of(preferred, [model.threshold for model in models])
            predicted = np.stack([model.predict(vectors) for model in models])
            found[name] = np.where(is_empty, np.nan, staged_scores(taken, predicted))
        return found

    def meaning(self) -> Meaning:
        summary = "stages left when it was taken, plus its predicted influence between 0 and 1"
        return Meaning(
            unit="1",
            span="prediction: whole document; probes: the first row of sampled documents",
            summary=summary,
        )

    def _probes(self, checkpoint: Feature, targets: tuple[str, ...], *, stage: int) -> Probes:
        settings = self.settings
        return Probes(
            checkpoint=checkpoint,
            targets=targets,
            n_probes=settings.n_probes,
            n_exam_tokens=settings.n_exam_tokens,
            rate_share=settings.rate_share,
            use=f"stage {stage}",
        )

    def _model(
        self, probes: Probes, vectors: Vectors, earlier: tuple[InfluenceModel, ...], target: str
    ) -> InfluenceModel:
        settings = self.settings
        return InfluenceModel(
            probes=probes,
            vectors=vectors,
            earlier=earlier,
            target=target,
            share=settings.stage_share,
            temperature=settings.temperature,
            form=settings.choice,
        )

    def _stages(self, given: Given, name: str) -> list[InfluenceModel]:
        found = [given.named[f"{name}/{stage}"] for stage in range(self.settings.n_stages)]
        return [feature for feature in found if isinstance(feature, InfluenceModel)]


def staged_scores(taken: NDArray[np.int64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Earlier stages first, then by prediction, (D,); higher is better.

    Args:
        taken: the stage that took each document, (D,); S: none.
        predicted: every stage's predicted loss, (S, D); lower is better.
    """
    n_stages = len(predicted)
    own = predicted[np.minimum(taken, n_stages - 1), np.arange(len(taken))]
    within = (1 + np.tanh(-own / 4)) / 2
    return np.asarray(n_stages - taken + within, np.float64)


def _models(state: State, name: str) -> list[StageModel]:
    return [
        StageModel(weight=weight, bias=float(bias), threshold=float(threshold), seed=int(seed))
        for weight, (bias, threshold), seed in zip(
            state[f"{name}/weight"], state[f"{name}/numbers"], state[f"{name}/seed"], strict=True
        )
    ]
