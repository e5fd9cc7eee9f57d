"""Ratings of documents as features: of a sample of the pool, of every document, or from a user's file.

Which documents a costly rater sees is keyed by their text, exact in number, and each text once. Answers are
kept by rubric, rater and text in a folder of the run, so that neither a resumed run nor another arm pays
again. What could not be read is counted, and set aside with a bounded, escaped piece of the answer.

Legend: D documents of a shard, N rated ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.engine import Kind
from prill.errors import DataError
from prill.features.chosen_documents import choose_documents, texts_at
from prill.features.feature import Feature, Given, ShardFeature, WholeFeature
from prill.features.keyed import derive_seed
from prill.features.rater.rater import open_rater
from prill.features.rater.reading import NO_TEXT, Rating
from prill.features.rater.rubric import Rubric
from prill.features.rater.rules import OPERATIONS_PER_CHARACTER, RULES_VERSION
from prill.features.rater.spec import ModelRaterSpec, RaterSpec, RulesSpec, digest_of
from prill.run.atomic import atomic_write

__all__ = ["RatedSample", "RaterUse", "Ratings", "rater_use"]

RATINGS_VERSION: Final = 1
_FIRST_LOOK: Final = 20  # answers, none of which could be read, after which no more are asked for
_SET_ASIDE: Final = 1_000
_SPEC: Final[TypeAdapter[RaterSpec]] = TypeAdapter(RaterSpec)


@dataclass(frozen=True, kw_only=True)
class RaterUse(Feature):
    """Fields that say who rates, by what rubric.

    Attributes:
        rubric: as JSON.
        rater: the settings that decide the ratings, as JSON.
        content: hash of what the rater reads from disk.
        access: all settings of the rater as JSON: patience, budget, the name of the key's variable.
        base: folder that its paths start from.
    """

    rubric: str
    rater: str
    content: str
    access: str = field(compare=False)
    base: Path = field(compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        kept = {name: value for name, value in super().settings.items() if name not in ("access", "rubric")}
        return {**kept, "rubric": self.asked.id, "rules": RULES_VERSION, "version": RATINGS_VERSION}

    @cached_property
    def asked(self) -> Rubric:
        """The rubric."""
        return Rubric.model_validate_json(self.rubric)

    @cached_property
    def spec(self) -> RaterSpec:
        """The rater's settings."""
        return _SPEC.validate_json(self.access)

    def infos(self) -> list[ColumnInfo]:
        """What the columns of ratings mean."""
        rubric = self.asked
        span = rubric.span.sentence
        scales = [
            ColumnInfo(
                name=scale.name,
                unit=f"{scale.low} to {scale.high}",
                direction=1,
                span=span,
                version=RATINGS_VERSION,
                summary=f"{scale.name} by the rubric {rubric.id}, graded by {self.spec.called}",
            )
            for scale in rubric.scales
        ]
        rest = {
            "label": "letter of the label; null where there is none",
            "why_not": "why there is no rating; null where there is one",
            "raw": "beginning of an answer that could not be read",
        }
        return [*scales, *(ColumnInfo(name=n, span=span, summary=told) for n, told in rest.items())]

    def columns_of(self, ratings: Sequence[Rating]) -> dict[str, pa.Array]:
        """Ratings as columns, `infos` tells which; no rating is NaN."""
        none = (float("nan"),) * len(self.asked.scales)
        scores = np.array([none if r.scores is None else r.scores for r in ratings], np.float64)
        scores = scores.reshape(len(ratings), len(self.asked.scales))
        texts = {name: [getattr(r, name) or None for r in ratings] for name in ("label", "why_not", "raw")}
        return {
            **{name: pa.array(np.ascontiguousarray(scores[:, i])) for i, name in enumerate(self.asked.names)},
            **{name: pa.array(values, pa.string()) for name, values in texts.items()},
        }


def rater_use(rubric: Rubric, spec: RaterSpec, base: Path) -> dict[str, Any]:
    """The fields of `RaterUse`.

    Raises:
        PrillError: what the rater reads from disk is not there.
    """
    return {
        "rubric": rubric.model_dump_json(),
        "rater": json.dumps(spec.decides, sort_keys=True),
        "content": digest_of(spec, base),
        "access": spec.model_dump_json(),
        "base": base,
    }


@dataclass(frozen=True, kw_only=True)
class RatedSample(RaterUse, WholeFeature):
    """Ratings of some documents of the pool. Make one with `RatedSample.of`.

    Files: ratings.parquet (shard, row, key, then as `infos`), and unreadable.jsonl.

    Attributes:
        n_documents: how many, or all if there are fewer; 0: all, copies of one text included.
        use: keys the draw: samples of different uses are independent.
        chosen: a feature that has chosen the documents (one file of columns `shard` and `row`); None: drawn.
    """

    kind: ClassVar[str] = "rated"
    is_apart: ClassVar[bool] = True
    n_documents: int
    use: str = "rated"
    chosen: Feature | None = None

    @classmethod
    def of(
        cls,
        rubric: Rubric,
        spec: RaterSpec,
        base: Path,
        *,
        n_documents: int,
        use: str = "rated",
        chosen: Feature | None = None,
    ) -> RatedSample:
        """Check that the rater is there.

        Raises:
            PrillError: its folder is missing or no model.
        """
        return cls(**rater_use(rubric, spec, base), n_documents=n_documents, use=use, chosen=chosen)

    @property
    def label(self) -> str:
        many = f"{self.n_documents:,} documents" if self.n_documents else "all documents"
        return f"{self.asked.name}: grades of {many} by {self.spec.called}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("ratings.parquet", "unreadable.jsonl")

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        """Rate, and write what was read and what was not.

        Raises:
            DataError: no answer could be read.
            ResourceError: the budget does not suffice, or the rater does not answer.
        """
        place = self._places(given)
        ratings: list[Rating] = []
        with open_rater(
            self.asked,
            self.spec,
            base=self.base,
            digest=self.content,
            tokenizer=given.pool.tokenizer,
            cache=given.cache or paths[0].parent / "answers",
        ) as rater:
            for texts in texts_at(given.pool, place):
                first = max(0, _FIRST_LOOK - len(ratings))
                ratings += rater.rate(texts[:first])
                self._require_readable(ratings)
                ratings += rater.rate(texts[first:])
            spent = {"flops": rater.n_flops, **rater.spent}
        self._require_some(ratings)
        self._write(given, paths, place, ratings)
        return {**_outcomes(ratings), **spent, "rubric": self.asked.id, "rater": self.spec.called}

    def read(self, given: Given) -> pa.Table:
        """The ratings that could be read: shard, row, key, the scales, label."""
        table = read_columns(given.files(self)[0])
        return table.filter(pa.compute.is_null(table["why_not"]))

    def _places(self, given: Given) -> NDArray[np.int64]:
        if self.chosen is not None:
            table = read_columns(given.file(self.chosen), ["shard", "row"])
            place = np.stack([table["shard"].to_numpy(), table["row"].to_numpy()], axis=1)
            return place[np.lexsort((place[:, 1], place[:, 0]))]
        seed = derive_seed(given.seed, f"rated.{self.use}")
        return choose_documents(given.pool, self.n_documents, seed)

    def _require_readable(self, ratings: Sequence[Rating]) -> None:
        """Stop at a rater that never answers by the rubric before all answers are paid for."""
        if any(rating.scores is not None for rating in ratings):
            return
        answered = [rating for rating in ratings if rating.why_not != NO_TEXT]
        if len(answered) >= _FIRST_LOOK:
            self._require_some(answered)

    def _require_some(self, ratings: Sequence[Rating]) -> None:
        if any(rating.scores is not None for rating in ratings):
            return
        reasons = Counter(rating.why_not for rating in ratings).most_common(3)
        told = ", ".join(f"{n} times {reason!r}" for reason, n in reasons) or "no document"
        shown = next((rating.raw for rating in ratings if rating.raw), "")
        raise DataError(
            f"expected ratings by the rubric {self.asked.name!r}, found none in {len(ratings):,} answers: "
            + told
            + (f"; the first begins {shown[:120]!r}" if shown else ""),
            where=f"rater {self.spec.called}",
            hint="use a model that follows instructions, more answer tokens, or another rubric",
        )

    def _write(
        self, given: Given, paths: Sequence[Path], place: NDArray[np.int64], ratings: Sequence[Rating]
    ) -> None:
        keys = np.zeros(len(place), np.uint64)
        for shard in np.unique(place[:, 0]).tolist():
            here = place[:, 0] == shard
            keys[here] = given.pool.keys(shard)[place[here, 1]]
        columns = {"shard": place[:, 0], "row": place[:, 1], "key": keys, **self.columns_of(ratings)}
        infos = [ColumnInfo(name=name) for name in ("shard", "row", "key")]
        write_columns(paths[0], columns, [*infos, *self.infos()])
        lines = [
            {"shard": int(at[0]), "row": int(at[1]), "why_not": rating.why_not, "raw": rating.raw}
            for at, rating in zip(place, ratings, strict=True)
            if rating.scores is None
        ]
        atomic_write(paths[1], b"".join(_harmless_line(line) for line in lines[:_SET_ASIDE]))


@dataclass(frozen=True, kw_only=True)
class Ratings(RaterUse, ShardFeature):
    """Ratings of every document of the pool, row for row.

    Attributes:
        sample: where another feature has rated (all) documents: its ratings, put in their rows; None: rated
            here, shard by shard, for raters that cost nothing but time.
    """

    kind: ClassVar[str] = "ratings"
    engine_kind: ClassVar[Kind] = "processes"
    sample: RatedSample | None = None

    @classmethod
    def of(cls, rubric: Rubric, spec: RaterSpec, base: Path) -> Ratings:
        """Every document; through one process, one cache and one budget where answers cost money.

        Raises:
            PrillError: the rater's folder is missing or no model.
        """
        all_of = RatedSample.of(rubric, spec, base, n_documents=0) if spec.is_costly else None
        return cls(**rater_use(rubric, spec, base), sample=all_of)

    @property
    def label(self) -> str:
        return f"{self.asked.name}: grades by {self.spec.called}"

    def write(self, given: Given, shard: int, path: Path) -> None:
        n_rows = len(given.pool.keys(shard))
        if self.sample is not None:
            write_columns(path, self._from_sample(given, self.sample, shard, n_rows), self.infos())
            return
        eligible = given.pool.is_eligible(shard)
        ratings = [Rating(scores=None, why_not="not offered")] * n_rows
        with self._rater(given) as rater:
            for batch in given.pool.batches(shard):
                rows = np.flatnonzero(eligible[batch.first_row : batch.first_row + batch.n_rows])
                found = rater.rate(batch.text.take(pa.array(rows)).to_pylist())
                for row, rating in zip(rows.tolist(), found, strict=True):
                    ratings[batch.first_row + row] = rating
        write_columns(path, self.columns_of(ratings), self.infos())

    def flops(self, given: Given) -> float:
        if isinstance(self.spec, RulesSpec):
            seen = self.asked.span.max_characters
            sizes = (np.minimum(given.pool.document_bytes(s), seen).sum() for s in range(given.pool.n_shards))
            return OPERATIONS_PER_CHARACTER * float(sum(sizes))
        if not isinstance(self.spec, ModelRaterSpec):
            return 0.0
        from prill.lm.bases.folder import tensor_sizes

        n_weights = sum(int(np.prod(size)) for size in tensor_sizes(self.base / self.spec.folder).values())
        most = self.asked.span.max_tokens or self.asked.span.max_characters // 3
        n_tokens = sum(
            int(np.minimum(given.pool.n_tokens(shard), most).sum()) for shard in range(given.pool.n_shards)
        )
        return 2.0 * n_weights * n_tokens

    def _rater(self, given: Given) -> Any:
        return open_rater(
            self.asked,
            self.spec,
            base=self.base,
            digest=self.content,
            tokenizer=given.pool.tokenizer,
            cache=None,
        )

    def _from_sample(self, given: Given, sample: RatedSample, shard: int, n_rows: int) -> dict[str, pa.Array]:
        table = read_columns(given.files(sample)[0])
        table = table.filter(pa.compute.equal(table["shard"], shard))
        at = np.full(n_rows, -1, np.int64)
        at[table["row"].to_numpy()] = np.arange(table.num_rows)
        taken = pa.array(at, mask=at < 0)
        found = {info.name: table[info.name].combine_chunks().take(taken) for info in self.infos()}
        for name in self.asked.names:
            found[name] = pa.compute.fill_null(found[name], float("nan"))
        return found


def _outcomes(ratings: Sequence[Rating]) -> dict[str, Any]:
    reasons = Counter(rating.why_not for rating in ratings if rating.scores is None)
    return {
        "n_documents": len(ratings),
        "n_rated": len(ratings) - sum(reasons.values()),
        "n_unreadable": sum(reasons.values()),
        "reasons": dict(sorted(reasons.items())),
    }


def _harmless_line(line: Mapping[str, Any]) -> bytes:
    """A JSON line that stays data even where it is taken for HTML."""
    content = orjson.dumps(line)
    for sign in (b"<", b">", b"&"):
        content = content.replace(sign, b"\\u%04x" % sign[0])
    return content + b"\n"
