"""ZIP-FIT: documents that compress well together with examples of the target.

Nothing is trained: two texts are near when one helps a general compressor with the other. The score is the
mean of 1 - NCD over the target's texts, with lengths to the byte what gzip makes. Most documents are compared
with a few texts only, and leave when they cannot come near the best any more (`mode: screened`).

Source: Obbad et al. 2024, arXiv:2410.18194, section 3.

Legend: D documents of a shard, K targets, S stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.features.compression import LEVELS, Codec, CompressedLengths, first_bytes
from prill.features.compression_similarity import CompressionSimilarity
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.compression_race import Race
    from prill.features.feature import Feature, Given

__all__ = ["ZipFit", "ZipFitSettings"]

BELOW = 10.0
"""Taken off the prediction of a document that was not scored exactly, so that it ranks below all those."""
DEFAULT_LEVELS = {"gzip": 6, "zstd": 3, "lz4": 0, "brotli": 11}


class ZipFitSettings(BaseModel):
    """Settings of ZIP-FIT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    codec: Codec = Field("gzip", description="Compressor; the paper's is gzip, and only it is fast here.")
    level: int | None = Field(
        None,
        description="Its level: gzip 1 to 9 (null: 6), zstd to 22 (3), lz4 to 16 (0), brotli to 11 (11).",
    )
    mode: Literal["screened", "exact"] = Field(
        "screened",
        description="screened: exact scores for the best documents, predictions for the others, ranked below "
        "them; exact: every document with every target text, at two to four times the cost.",
    )
    shortlist: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of the documents whose exact scores and order are wanted (mode screened); set it "
        "above the share that the budget takes.",
    )
    screen_texts: int = Field(
        4, ge=1, description="Target texts that every document is compared with first (mode screened)."
    )
    safety: float = Field(
        2.0,
        ge=0,
        description="A document stays in the race while its prediction lies below the cut by less than this "
        "many times the largest underestimate of the calibration sample (mode screened).",
    )
    max_targets: int = Field(
        48, ge=1, description="Target texts compared, drawn by hash; the paper takes all, 82 to 185."
    )
    max_target_bytes: int = Field(
        32_000, ge=0, description="First bytes of a target text that are compared; 0 takes all."
    )
    max_bytes: int = Field(
        0, ge=0, description="First bytes of a document that are compared; 0 takes all, as published."
    )
    normalise_headers: bool = Field(
        False,
        description="Take the length of compressed nothing off every length: headers make very short texts "
        "look alike. False is the reference.",
    )
    compat: bool = Field(
        False,
        description="Allow gzip level 0, the package's default, which stores: the score is then a rule of "
        "lengths, 23 / (longer text + 23).",
    )


@method(
    name="zip_fit",
    called="ZIP-FIT",
    title="documents that compress well together with target texts",
    paper="2410.18194",
    feature="compression",
    cost="a document and a target text take about 16 ns a byte of the text at gzip 6: 48 texts of "
    "6 kB are 4 ms a document in mode exact, a third to a half of it screened",
    assumes="target texts as long as the documents wanted: the score falls with any difference in length; "
    "gzip sees only the last 32 KiB of a document beside a target text",
    formula="""score(x) = mean over target texts t of 1 - (C(x t) - min(C(x), C(t))) / max(C(x), C(t))
C = compressed length in bytes, header included; x t = the document, then the text, nothing between""",
    differs="""At most 48 target texts, drawn by hash (max_targets), each different text once, none empty, and
32,000 bytes of each (max_target_bytes). gzip level 6; the package stores at its default level 0, which is
refused without compat: true. Documents outside the shortlist get the prediction of their score less 10, so
that they rank below every exact score (mode: exact scores all). Empty documents get NaN. lz4, zstd and
brotli are Arrow's, of equal lengths; lzma is left out. For gzip 4 to 9 lengths are those of zlib 1.2 and 1.3
whatever zlib Python has, up to 65,000 bytes in all; else, and for levels 1 to 3, those of its own.""",
)
class ZipFit(Method):
    """Mean 1 - NCD with target texts."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 600.0
    Settings: ClassVar[type[BaseModel]] = ZipFitSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Lengths of the documents alone, and similarity with all target texts or with the first few.

        Raises:
            RecipeError: the codec has no such level, or it is gzip's 0 without `compat`.
        """
        s = self.settings
        level = DEFAULT_LEVELS[s.codec] if s.level is None else s.level
        lengths = CompressedLengths(
            codec=s.codec,
            level=level,
            is_storing=s.compat and level < LEVELS[s.codec][0],
            max_bytes=s.max_bytes,
        )
        assert lengths.compressor  # refuses a level that does not exist, before anything runs
        similarity = CompressionSimilarity(
            lengths=lengths,
            targets=tuple(targets),
            most=s.max_targets,
            first=s.max_targets if s.mode == "exact" else min(s.screen_texts, s.max_targets),
            max_target_bytes=s.max_target_bytes,
            without_frames=s.normalise_headers,
        )
        return {"lengths": lengths, "similarity": similarity}

    def fit(self, given: Given) -> State:
        """The races: weights, margins and cut of every target; nothing in mode exact."""
        if self.settings.mode == "exact":
            return {}
        from prill.features.compression_calibration import calibrated

        s = self.settings
        references = _similarity(given).references(given)
        races = calibrated(given, references, shortlist=s.shortlist, first=s.screen_texts, safety=s.safety)
        state: State = {}
        for k, race in enumerate(races):
            state[f"{k}.stages"] = np.array(race.stages, np.int64)
            state[f"{k}.weights"], state[f"{k}.margins"] = race.weights, race.margins
            state[f"{k}.cut"] = np.array([race.cut])
        return state

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Scores, float64, shape (D,) for each target; NaN for empty documents."""
        similarity = given.columns("similarity", shard)
        means = {name: np.asarray(similarity[name].to_numpy(), np.float64) for name in given.targets}
        if self.settings.mode == "exact":
            return means
        feature = _similarity(given)
        alone, eligible = feature.alone(given, shard), given.pool.is_eligible(shard)
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in given.targets}
        references = feature.references(given)
        for batch in given.pool.batches(shard):
            here = slice(batch.first_row, batch.first_row + batch.n_rows)
            text = first_bytes(batch.text, feature.lengths.max_bytes)
            for k, (name, reference) in enumerate(references.items()):
                mean_D = means[name][here]
                rows = np.flatnonzero(eligible[here] & np.isfinite(mean_D))
                race = _race(state, k)
                exact_D, predicted_D = race.run(reference, text, alone[here], mean_D, rows)
                predicted_D = np.where(np.isnan(predicted_D), mean_D, predicted_D)
                below_D = np.clip(predicted_D, -1, 1) - BELOW
                found[name].append(np.where(np.isnan(exact_D), below_D, exact_D))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def meaning(self) -> Meaning:
        summary = "mean 1 - NCD with the target's texts"
        if self.settings.mode == "screened":
            summary += "; below -5: a prediction less 10, not exact"
        span = f"first {self.settings.max_bytes:,} bytes" if self.settings.max_bytes else "whole document"
        if self.settings.codec == "gzip":
            span += "; the last 32 KiB of it beside a target text"
        return Meaning(unit="1", span=span, summary=summary)


def _similarity(given: Given) -> CompressionSimilarity:
    feature = given.named["similarity"]
    assert isinstance(feature, CompressionSimilarity)
    return feature


def _race(state: State, k: int) -> Race:
    from prill.features.compression_race import Race

    return Race(
        stages=tuple(state[f"{k}.stages"].tolist()),
        weights=state[f"{k}.weights"],
        margins=state[f"{k}.margins"],
        cut=float(state[f"{k}.cut"][0]),
    )
