"""The loss of documents under a language model, as features: a model trained here, or a folder of the user's.

`Loss` has a part a shard, row for row with the pool; `SampleLoss` scores a keyed sample of the pool and
`TargetLoss` the fit part of a target. All three score as `prill score` does (`prill.lm.scoring.documents`).
Only documents that may be chosen are scored; the others have no loss.

Legend: D documents of a shard.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo, write_columns
from prill.engine import Kind
from prill.errors import DataError
from prill.features.feature import Given, ShardFeature, WholeFeature
from prill.features.keyed import derive_seed
from prill.features.proxies import Proxy
from prill.lm.scoring.documents import Document, DocumentScorer, Span
from prill.run.atomic import atomic_write
from prill.run.fingerprint import fingerprint

if TYPE_CHECKING:
    from prill.corpus.tokenizer import TextTokenizer
    from prill.features.pool import Sample
    from prill.features.token_counts import TokenCounter
    from prill.lm.scoring.columns import Detail
    from prill.lm.scoring.models import ModelFolder

__all__ = [
    "LanguageModel",
    "Loss",
    "ModelDirectory",
    "SampleLoss",
    "TargetLoss",
    "mean_losses",
    "open_folder",
]


@dataclass(frozen=True, kw_only=True)
class ModelDirectory(WholeFeature):
    """A causal language model of the user's: a checkpoint of ours, or any local folder of `transformers`.

    Attributes:
        folder: where it is; weights in safetensors, with its tokenizer.
        content: hash of weights, configuration and tokenizer.
    """

    kind: ClassVar[str] = "model"
    folder: Path = field(compare=False)
    content: str

    @classmethod
    def at(cls, folder: Path) -> ModelDirectory:
        """The model in a folder, checked without loading its weights.

        Raises:
            DataError: there is no model; it needs code of its own, is pickled or damaged; its tokenizer is
                missing or belongs to another model.
            ResourceError: torch or transformers is not installed.
        """
        opened = open_folder(folder.resolve())
        return cls(folder=folder.resolve(), content=fingerprint(dict(opened.record)))

    @property
    def label(self) -> str:
        return f"model {self.folder.name}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("model.json",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        opened = open_folder(self.folder)
        if fingerprint(dict(opened.record)) != self.content:
            raise DataError(
                f"expected the model that the run began with ({self.content[:12]}), found another",
                where=str(self.folder),
                hint="put the model back, or begin a new run",
            )
        atomic_write(paths[0], orjson.dumps(dict(opened.record), option=orjson.OPT_INDENT_2))
        return {"folder": self.folder.name, "context": opened.context}


LanguageModel: TypeAlias = Proxy | ModelDirectory


def open_folder(folder: Path) -> ModelFolder:
    """A model folder, looked at without loading its weights.

    Raises:
        DataError, ResourceError: as `ModelDirectory.at`.
    """
    from prill.lm.backend import require_torch
    from prill.lm.scoring.models import open_model

    require_torch()
    return open_model(folder)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How documents are scored; what `Loss`, `SampleLoss` and `TargetLoss` have in common.

    Attributes:
        model: whose loss.
        detail: numbers a document, or also values a token, as in `prill score`.
        max_tokens: tokens of a document that are scored at most; None: all.
        span: the first of them, or windows spread evenly.
        window: tokens of a window; None: the model's context, but no more than `max_tokens`.
        top: k; columns of the model's k likeliest tokens; 0: none.
        row_tokens: tokens that are scored at a time; rounding depends on it.
        precision: of matrix products.
    """

    model: LanguageModel
    detail: Detail = "documents"
    max_tokens: int | None = 256
    span: Span = "head"
    window: int | None = None
    top: int = 0
    row_tokens: int = 4096
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def scorer(self, given: Given) -> DocumentScorer:
        """What turns token ids into columns.

        Raises:
            PrillError: the model cannot be opened, or a window does not fit it.
        """
        from prill.lm.backend import resolve_device, resolve_precision
        from prill.lm.scoring.stream import ScoreSettings

        model = self.model
        opened = open_folder(model.folder(given) if isinstance(model, Proxy) else model.folder)
        longest = min(opened.context, self.row_tokens, self.max_tokens or self.row_tokens)
        return DocumentScorer(
            model=opened,
            layout=ScoreSettings(
                prefix=opened.prefix,
                max_len=self.window or longest,
                row_tokens=self.row_tokens,
                is_whole=self.detail == "moments",
                top=self.top,
            ),
            detail=self.detail,
            max_tokens=self.max_tokens,
            span=self.span,
            precision=resolve_precision(self.precision, resolve_device("cpu")),
        )

    def of_text(self, given: Given, text: pa.Array) -> tuple[pa.Table, DocumentScorer]:
        """The columns of some texts, rows in order."""
        from prill.lm.backend import keep_freed_memory

        keep_freed_memory()
        scorer = self.scorer(given)
        counter = _counter(scorer.model.tokenizer)
        return pa.concat_tables(scorer.tables(_documents(counter, text))), scorer

    def flops_of(self, given: Given, n_tokens: float) -> float:
        """Floating-point operations of scoring so many tokens: a third of training on them."""
        from prill.lm.bases.stored import open_base

        model = self.model
        start = open_base(model.folder(given) if isinstance(model, Proxy) else model.folder)
        return n_tokens * start.flops_per_token / 3

    def n_scored(self, n_tokens: NDArray[np.int64]) -> float:
        """Tokens that are scored of documents of these lengths, in tokens with the end token."""
        most = np.iinfo(np.int64).max if self.max_tokens is None else self.max_tokens
        return float(np.minimum(np.maximum(n_tokens - 1, 0), most).sum())


@dataclass(frozen=True, kw_only=True)
class Loss(_Reading, ShardFeature):
    """Losses of the pool's documents, a part a shard; columns as in `prill.lm.scoring.columns`."""

    kind: ClassVar[str] = "loss"
    engine_kind: ClassVar[Kind] = "processes"

    @property
    def label(self) -> str:
        more = {"documents": "", "tokens": ", every token", "moments": ", every token with its rank"}
        return f"loss: {_name_of(self.model)}{more[self.detail]}"

    def write(self, given: Given, shard: int, path: Path) -> None:
        from prill.lm.backend import keep_freed_memory

        keep_freed_memory()
        scorer = self.scorer(given)
        documents = _shard_documents(given, shard, _counter(scorer.model.tokenizer))
        where = f"shard {shard} ({given.pool.corpus.shards[shard].path})"
        table = pa.concat_tables(scorer.tables(documents, place=lambda row: f"{where}, row {row}"))
        write_columns(path, {name: table[name] for name in table.column_names}, scorer.infos)

    def flops(self, given: Given) -> float:
        n_tokens = sum(self.n_scored(given.pool.n_tokens(shard)) for shard in range(given.pool.n_shards))
        return self.flops_of(given, n_tokens)


@dataclass(frozen=True, kw_only=True)
class SampleLoss(_Reading, WholeFeature):
    """Losses of a keyed sample of the pool: the columns, with `shard` and `row` of each document.

    Attributes:
        n_documents: about so many.
        use: keys the sample; equal ones read the same documents under every model.
    """

    kind: ClassVar[str] = "sample-loss"
    is_apart: ClassVar[bool] = True
    n_documents: int
    use: str = "seed"

    @property
    def label(self) -> str:
        return f"loss of {self.n_documents:,} documents: {_name_of(self.model)}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("losses.parquet",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        sample = self.sample(given)
        table, scorer = self.of_text(given, sample.text)
        columns = {name: table[name] for name in table.column_names}
        places = [
            ColumnInfo(name=name, unit="1", summary=f"{name} of the document") for name in ("shard", "row")
        ]
        write_columns(
            paths[0], {**columns, "shard": sample.shard, "row": sample.row}, [*scorer.infos, *places]
        )
        n_tokens = int(table["n_tokens"].to_numpy().sum())
        counts = {"n_documents": table.num_rows, "n_tokens": n_tokens, "precision": scorer.precision}
        return {**counts, "flops": self.flops_of(given, n_tokens)}

    def sample(self, given: Given) -> Sample:
        """The documents, in the order of the rows."""
        drawn_by = derive_seed(given.seed, f"loss sample {self.use}")
        return given.pool.sample(seed=drawn_by, n_documents=self.n_documents)


@dataclass(frozen=True, kw_only=True)
class TargetLoss(_Reading, WholeFeature):
    """Losses of the fit part of a target, one row a document.

    Attributes:
        targets: the only target.
    """

    kind: ClassVar[str] = "target-loss"
    is_apart: ClassVar[bool] = True
    targets: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"loss of target {self.targets[0]}: {_name_of(self.model)}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("losses.parquet",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        (name,) = self.targets
        table, scorer = self.of_text(given, given.targets[name])
        write_columns(paths[0], {column: table[column] for column in table.column_names}, scorer.infos)
        n_tokens = int(table["n_tokens"].to_numpy().sum())
        nats = float(np.nansum(table["nats"].to_numpy(zero_copy_only=False)))
        counts = {"n_documents": table.num_rows, "n_tokens": n_tokens, "nats": nats}
        return {**counts, "flops": self.flops_of(given, n_tokens)}


def mean_losses(
    table: pa.Table, *, fewest: int = 0, per: Literal["token", "byte"] = "token"
) -> NDArray[np.float64]:
    """Mean loss of each document, (D,): nats a token or bits a byte, NaN where it cannot be told.

    Args:
        table: columns of a loss feature.
        fewest: scored tokens below which a mean is too noisy to be told.
        per: the unit. Bits a byte compare models of different tokenizers.
    """
    n_tokens = _numbers(table, "n_tokens")
    nats = _numbers(table, "nats")
    if per == "token":
        units, scale = n_tokens, 1.0
    else:
        units, scale = _numbers(table, "n_bytes_scored"), np.log(2)
    is_told = (n_tokens >= max(1, fewest)) & (units > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_told, nats / (scale * units), np.nan)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as numbers; null is NaN."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _name_of(model: LanguageModel) -> str:
    if isinstance(model, ModelDirectory):
        return model.label
    before = "" if model.start is None else "continued on "
    return f"{model.size} of {model.n_tokens:,} tokens, {before}{model.read}"


def _shard_documents(given: Given, shard: int, counter: TokenCounter) -> Iterator[Document]:
    """Every row of the shard; those that may not be chosen are empty and not good."""
    eligible = given.pool.is_eligible(shard)
    for batch in given.pool.batches(shard):
        mask = eligible[batch.first_row : batch.first_row + batch.n_rows]
        yield from _documents(counter, batch.text, mask)


def _documents(
    counter: TokenCounter, text: pa.Array, mask: NDArray[np.bool_] | None = None
) -> Iterable[Document]:
    if mask is None:
        mask = np.ones(len(text), np.bool_)
    encoded = iter(counter.encode(text if mask.all() else text.filter(pa.array(mask))).documents())
    n_bytes = np.diff(_offsets(text))
    empty = np.zeros(0, np.uint32)
    for is_good, size in zip(mask.tolist(), n_bytes.tolist(), strict=True):
        yield Document(tokens=next(encoded) if is_good else empty, n_bytes=size, is_good=is_good)


def _offsets(text: pa.Array) -> NDArray[np.int64]:
    from prill.corpus.batch import text_buffers

    return text_buffers(text)[0]


def _counter(tokenizer: TextTokenizer) -> TokenCounter:
    return _counter_of(tokenizer.content, tokenizer.eos)


@functools.lru_cache(maxsize=2)
def _counter_of(content: bytes, eos: str) -> TokenCounter:
    from prill.corpus.tokenizer import load_tokenizer
    from prill.features.token_counts import TokenCounter

    return TokenCounter.around(load_tokenizer(content, eos=eos))
