"""Machine text as a measure: the probability that a language model wrote a document, and two older scores.

It drops nothing unless told to: paraphrase defeats such detectors, and formulaic, translated or non-native
text is flagged more often than it should be. Thresholds are a source's own, measured at a fixed budget of
false positives on human text (`thresholds`).

Source: Miralles-Gonzalez et al. 2025 (PAWN), arXiv:2501.03940. Differs: see the files of this package.

Legend: D documents.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.errors import DataError, ResourceError
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits
from prill.run.atomic import machine_errors

if TYPE_CHECKING:
    from prill.prepare.machine_text.classifier import Pawn

__all__ = ["MachineText", "MachineTextSpec"]


class MachineTextSpec(BaseModel):
    """Which model looks at the text, which classifier judges, and what follows from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path = Field(
        description="Folder of a causal language model of Llama's family with tokenizer.json."
    )
    classifier: Path = Field(description="Classifier trained with that model, a safetensors file.")
    thresholds: dict[str, float] = Field(
        default_factory=dict,
        description="Probability above which a source's document counts as a machine's, 1.",
    )
    drop: bool = Field(
        False, description="Whether documents above the threshold of their source are dropped."
    )


@dataclass(frozen=True, kw_only=True)
class MachineText:
    """The measure `machine_text`; made by `MachineText.of`."""

    spec: MachineTextSpec
    model: Path
    classifier: Path
    state: str

    name: ClassVar[str] = "machine_text"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text", "source")

    @classmethod
    def of(cls, spec: MachineTextSpec, base: Path) -> MachineText:
        """The measure of a recipe in the folder `base`.

        Raises:
            ResourceError: torch is not installed.
            DataError: the classifier is missing, damaged, or was trained with another model.
        """
        try:
            from prill.prepare.machine_text.backbone import backbone_id
            from prill.prepare.machine_text.classifier import load_pawn
        except ModuleNotFoundError as error:
            message = f"machine_text needs {error.name}, which is not installed"
            raise ResourceError(message, hint="pip install 'prill[train]'") from error
        model, classifier = base / spec.model, base / spec.classifier
        found, wanted = backbone_id(model), load_pawn(classifier)[1]
        if found != wanted:
            message = f"expected the model that the classifier was trained with, {wanted}, found {found}"
            raise DataError(message, where=str(model), hint="train the classifier anew")
        with machine_errors(classifier):
            digest = hashlib.sha256(classifier.read_bytes()).hexdigest()
        return cls(spec=spec, model=model, classifier=classifier, state=f"{found}-{digest[:16]}")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"state": self.state}

    @property
    def policy(self) -> Mapping[str, Any]:
        return self.spec.model_dump(include={"thresholds", "drop"})

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        def info(name: str, unit: str, summary: str) -> ColumnInfo:
            return ColumnInfo(
                name=name,
                unit=unit,
                span="first tokens",
                state=self.state,
                version=self.version,
                summary=summary,
            )

        return [
            info("p_machine", "1", "probability that a language model wrote the text; NaN without a token"),
            info("p_machine_tokens", "tokens", "tokens that were looked at"),
            info("mean_log_likelihood", "nats", "mean log P of these tokens; NaN without a token"),
            info("log_likelihood_curvature", "1", "Fast-DetectGPT's score; NaN without a token"),
            info("p_machine_source", "name", "source of the document, by which it is judged"),
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        from prill.prepare.machine_text.backbone import load_backbone
        from prill.prepare.machine_text.metrics import curvature
        from prill.prepare.machine_text.training import predict

        backbone, judge = load_backbone(self.model), _classifier(self.classifier)
        scores_D3 = np.full((batch.n_rows, 3), np.nan)
        n_tokens_D = np.zeros(batch.n_rows, np.int64)
        for row, text in enumerate(batch.text):
            read = backbone.read(text.as_py(), max_tokens=judge.shape.max_tokens)
            if read is not None:
                traits, metrics = read
                scores_D3[row] = (
                    predict(judge, [traits])[0],
                    metrics[:, 0].double().mean(),
                    curvature(metrics),
                )
                n_tokens_D[row] = len(metrics)
        source = batch.columns.get("source", pa.nulls(batch.n_rows, pa.string()))
        return {
            "p_machine": scores_D3[:, 0],
            "p_machine_tokens": n_tokens_D,
            "mean_log_likelihood": scores_D3[:, 1],
            "log_likelihood_curvature": scores_D3[:, 2],
            "p_machine_source": source.cast(pa.string()),
        }

    def drops(self, table: pa.Table) -> Drops:
        if not self.spec.drop:
            return {}
        limits = self.spec.thresholds
        sources = table["p_machine_source"].to_pylist()
        limit_D = np.array([limits.get(source or "", np.inf) for source in sources], np.float64)
        is_above = np.asarray(table["p_machine"]) > limit_D
        return {"machine text: above the threshold of its source": is_above}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@functools.lru_cache(maxsize=2)
def _classifier(path: Path) -> Pawn:
    from prill.prepare.machine_text.classifier import load_pawn

    return load_pawn(path)[0]
