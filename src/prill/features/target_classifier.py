"""A classifier that tells documents of a target from those of the pool, and its log odds over the pool.

The negatives are a keyed sample of the pool, and the pool is what is scored: a model has learnt that its own
negatives are no members. So the pool is divided by keyed draws into folds, one model is trained for each
without the negatives of that fold, and every document is scored by the model that has not seen it. Copies
share a fold, for the draw is by the text's hash.

Legend: D documents.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.errors import DataError, RecipeError
from prill.features.classifier import train_linear
from prill.features.fasttext_model import check_fasttext, read_fasttext
from prill.features.feature import ColumnFeature, Feature, Given, WholeFeature
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.linear_model import LinearModel
from prill.features.sampled_texts import SampledTexts
from prill.features.text_hash import hash_documents

if TYPE_CHECKING:
    from prill.corpus.batch import Batch

__all__ = ["FastTextFile", "LogOdds", "TargetClassifier", "fold_of", "is_blank"]

_LABELS = ("pool", "target")


@dataclass(frozen=True, kw_only=True)
class TargetClassifier(WholeFeature):
    """Linear models of "is of the target", one a fold.

    Attributes:
        targets: the one whose fit texts are the positives; none where `positives` are files.
        positives: files of documents that are the positives.
        digest_of_positives: hash of their names and content.
        sample: the negatives; a model learns from those outside its fold.
        n_folds: 1: one model, which scores its own negatives too.
        min_positives: positives below which nothing is fitted.
        dim, epochs, lr, word_ngrams, n_buckets, min_count: as in `train_linear`.
    """

    kind: ClassVar[str] = "classifier"
    is_apart: ClassVar[bool] = True
    targets: tuple[str, ...] = ()
    positives: tuple[Path, ...] = field(default=(), compare=False)
    digest_of_positives: str = ""
    sample: SampledTexts
    n_folds: int = 2
    min_positives: int = 10
    dim: int = 16
    epochs: int = 5
    lr: float = 0.1
    word_ngrams: int = 2
    n_buckets: int = 2_000_000
    min_count: int = 1

    @property
    def label(self) -> str:
        whose = self.targets[0] if self.targets else "given positives"
        return f"classifier of {whose} against the pool"

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings.items() if name != "positives"}

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"model-{fold}.safetensors" for fold in range(self.n_folds))

    @property
    def use(self) -> str:
        """Keys the draws of folds and trainings."""
        return f"classifier.{self.n_folds}"

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        positives = self._positives(given)
        text, keys = self.sample.read(given.file(self.sample))
        folds = fold_of(keys, given.seed, self.use, self.n_folds)
        is_used = ~is_blank(text)
        flops, counts = 0.0, []
        for fold, path in enumerate(paths):
            mask = is_used & ((folds != fold) | (self.n_folds == 1))
            negatives = text.filter(pa.array(mask))
            _require(len(negatives), self.min_positives, "documents of the pool", "a larger pool")
            model, found = self._trained(positives, negatives, derive_seed(given.seed, f"{self.use}.{fold}"))
            model.save(path)
            flops += found.flops
            counts.append(
                {"n_negatives": len(negatives), "n_words": found.n_words, "loss_nats": found.loss_nats}
            )
        return {"n_positives": len(positives), "folds": counts, "flops": flops}

    def _trained(self, positives: pa.Array, negatives: pa.Array, seed: int) -> Any:
        """Both classes come equally often in an epoch, as nearly as whole repeats allow: half each."""
        n_repeats = max(1, round(len(negatives) / len(positives)))
        n_negative_repeats = max(1, round(len(positives) / len(negatives)))
        counts = [len(negatives), len(positives)]
        return train_linear(
            pa.concat_arrays([negatives, positives]),
            np.repeat([0, 1], counts),
            n_labels=2,
            label_names=_LABELS,
            dim=self.dim,
            epochs=self.epochs,
            lr=self.lr,
            word_ngrams=self.word_ngrams,
            n_buckets=self.n_buckets,
            min_count=self.min_count,
            repeats=np.repeat([n_negative_repeats, n_repeats], counts),
            seed=seed,
        )

    def _positives(self, given: Given) -> pa.Array:
        whose = f"target {self.targets[0]!r}" if self.targets else "the positives"
        found = given.targets[self.targets[0]] if self.targets else _texts_of(self.positives)
        found = found.filter(pa.array(~is_blank(found)))
        _require(len(found), self.min_positives, f"documents with words in {whose}", "more documents")
        return found


@dataclass(frozen=True, kw_only=True)
class FastTextFile(WholeFeature):
    """A published fastText model, folded.

    Attributes:
        path: of the `.bin` file.
        digest_of_file: hash of its content.
    """

    kind: ClassVar[str] = "fasttext"
    path: Path = field(compare=False)
    digest_of_file: str

    @classmethod
    def of(cls, path: Path) -> FastTextFile:
        """The feature of a file.

        Raises:
            DataError: it is not there, or its settings say that it cannot be used.
        """
        check_fasttext(path)
        return cls(path=path, digest_of_file=content_hash([path]))

    @property
    def label(self) -> str:
        return f"fastText model {self.path.name}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("model.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        model = read_fasttext(self.path)
        model.save(paths[0])
        return {"labels": list(model.labels), "n_bytes": model.n_bytes}


@dataclass(frozen=True, kw_only=True)
class LogOdds(ColumnFeature):
    """ln P(label) - ln P(any other label) of every document; NaN where it has no word.

    Attributes:
        model: a feature whose files are linear models, one a fold.
        of_label: name of the label.
        n_folds: as in the model's feature; a document is scored by the model of its fold.
        use: keys the folds.
    """

    kind: ClassVar[str] = "log-odds"
    model: Feature
    of_label: str
    n_folds: int = 1
    use: str = ""

    @classmethod
    def of(cls, model: TargetClassifier) -> LogOdds:
        """Of the target, every document scored by the model that has not seen it."""
        return cls(model=model, of_label=_LABELS[1], n_folds=model.n_folds, use=model.use)

    @property
    def label(self) -> str:
        return f"log odds under the {self.model.label}"

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        summary = f"log odds of the label {self.of_label} under the {self.model.label}; NaN without a word"
        return [ColumnInfo(name="log_odds", unit="nats", direction=1, summary=summary)]

    def flops(self, given: Given) -> float:
        return float(given.pool.n_bytes) / 3  # an addition a word and n-gram

    def open(self, given: Given) -> list[tuple[LinearModel, int]]:
        """The models, and the number of the label in each.

        Raises:
            RecipeError: the model has no such label.
        """
        found = []
        for path in given.files(self.model):
            model = LinearModel.load(Path(path))
            if self.of_label not in model.labels:
                names = ", ".join(model.labels[:20])
                raise RecipeError(
                    f"expected one of the model's labels, found {self.of_label!r}", hint=f"labels: {names}"
                )
            found.append((model, model.labels.index(self.of_label)))
        return found

    def of_batch(self, given: Given, opened: Any, batch: Batch) -> Mapping[str, Any]:
        odds_D = np.full(batch.n_rows, np.nan)
        _, keys_D = hash_documents(batch.text)
        folds_D = fold_of(keys_D, given.seed, self.use, self.n_folds)
        for fold, (model, label) in enumerate(opened):
            rows = np.flatnonzero((folds_D == fold) & ~is_blank(batch.text))
            text = batch.text if len(rows) == batch.n_rows else batch.text.take(pa.array(rows))
            odds_D[rows] = model.log_odds(text, label)
        return {"log_odds": odds_D}


def fold_of(keys_D: NDArray[np.uint64], seed: int, use: str, n_folds: int) -> NDArray[np.int64]:
    """The fold of each document, 0..n_folds-1, int64, shape (D,): a draw by its key."""
    draws_D = keyed_uniform(derive_seed(seed, f"{use}.fold"), keys_D)
    return np.asarray((draws_D * n_folds).astype(np.int64))


def is_blank(text: pa.Array) -> NDArray[np.bool_]:
    """Which texts hold nothing but white space, shape (D,)."""
    blank = pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))
    return np.asarray(blank.to_numpy(zero_copy_only=False))


def content_hash(paths: Sequence[Path]) -> str:
    """Hash of the content of files, in their order."""
    return _content_hash(tuple((path, path.stat().st_size) for path in paths))


@functools.lru_cache(maxsize=16)
def _content_hash(files: tuple[tuple[Path, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _texts_of(paths: Sequence[Path]) -> pa.Array:
    corpus = Corpus.open(CorpusSpec(paths=[str(path) for path in paths]))
    found = [batch.text for shard in corpus.shards for batch in corpus.batches(shard)]
    return pa.concat_arrays(found) if found else pa.array([], pa.large_string())


def _require(n_found: int, n_least: int, what: str, more: str) -> None:
    if n_found < max(1, n_least):
        raise DataError(
            f"expected at least {max(1, n_least)} {what}, found {n_found}",
            hint=f"give {more}: {max(1, n_least) - n_found} more will do; or lower `min_positives`",
        )
