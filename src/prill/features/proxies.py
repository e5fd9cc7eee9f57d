"""Small language models trained inside the run: references, priors, and models fitted to a target.

A `Proxy` learns from a keyed sample of the pool or from the fit part of a target, from scratch or from where
another proxy ended (the conditional model of CoLoR is the prior, continued on the target). Proxies of equal
settings are one: with the usual settings, one reference of the pool serves perplexity filtering, CoLoR's
prior, MiniPLM's small model and SALT's scorer.

Source: the rate and the batch are Step Law's, Li et al. 2025, arXiv:2503.04715 (`prill.lm.steplaw`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.packed import open_packed, write_packed
from prill.errors import DataError, InternalError
from prill.features.feature import Given, WholeFeature
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.pool import PoolView
from prill.run.atomic import atomic_write

if TYPE_CHECKING:
    from prill.lm.data import TokenStream
    from prill.lm.learner import Start
    from prill.lm.plan import TrainSettings

__all__ = ["MODEL_FILES", "PoolSample", "Proxy"]

MODEL_FILES = ("model.safetensors", "model.json", "tokenizer.json")
"""One of our checkpoints, with the tokenizer beside it, so that the folder can be scored and exported."""

MIN_ROWS = 2
"""Rows of text that a training needs at least."""

SMALL_POOL = 1 << 24
"""Tokens of a pool below which all its documents are sorted by their draws."""

MOST_WARMUP = 30
"""Steps of warm-up; a fifth of the training where that is less."""


@dataclass(frozen=True, kw_only=True)
class PoolSample(WholeFeature):
    """Tokens of some documents of the pool, chosen and ordered by keyed draws, as a packed token file.

    Attributes:
        n_tokens: documents are taken until they hold so many.
        use: keys the draws, so that two uses have samples of their own.
        longest: tokens of a document that count; what is beyond is not taken, so that no few long documents
            make up the sample.
        most_share: of the pool's tokens at most, so that a small pool keeps documents to be scored.
    """

    kind: ClassVar[str] = "sample"
    n_tokens: int
    use: str = "reference"
    longest: int = 2048
    most_share: float = 0.2

    @property
    def label(self) -> str:
        return f"sample of {self.n_tokens:,} tokens of the pool ({self.use})"

    @property
    def files(self) -> tuple[str, ...]:
        return ("sample.tokens",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from prill.features.token_counts import TokenCounter

        counter = TokenCounter.of(given.pool.tokenizer.read_bytes())
        place = self.places(given.pool, given.seed)
        found: dict[tuple[int, int], NDArray[np.uint32]] = {}
        for shard in np.unique(place[:, 0]).tolist():
            rows = np.sort(place[place[:, 0] == shard, 1])
            for batch in given.pool.batches(shard):
                here = rows[(rows >= batch.first_row) & (rows < batch.first_row + batch.n_rows)]
                encoded = counter.encode(batch.text.take(pa.array(here - batch.first_row))).documents()
                for row, tokens in zip(here.tolist(), encoded, strict=True):
                    found[shard, row] = tokens[: self.longest].copy()
        library = counter.library
        n_tokens = write_packed(
            paths[0],
            (((shard, row), found[shard, row]) for shard, row in place.tolist()),
            eos=library.eos_id,
            vocab_size=library.vocab_size,
            tokenizer_sha256=library.sha256,
        )
        return {"n_documents": len(place), "n_tokens": n_tokens}

    def places(self, pool: PoolView, seed: int) -> NDArray[np.int64]:
        """(shard, row) of the documents, in the order of their draws, shape (N, 2).

        Raises:
            DataError: the pool holds no document that may be chosen.
        """
        drawn_by = derive_seed(seed, f"sample {self.use}")
        totals = [np.minimum(pool.n_tokens(shard), self.longest + 1) for shard in range(pool.n_shards)]
        total = int(sum(int(n.sum()) for n in totals))
        wanted = min(self.n_tokens, int(self.most_share * total))
        draws, places, sizes = [], [], []
        # Twice as many as are wanted nearly always suffice, so the rest of a large pool need not be sorted.
        share = 1.0 if total < SMALL_POOL else min(1.0, 2 * wanted / total + 1e-3)
        for shard, n_tokens in enumerate(totals):
            draw = keyed_uniform(drawn_by, pool.keys(shard))
            rows = np.flatnonzero(
                pool.is_eligible(shard) & (n_tokens > 1) & ((draw < share) | (total < 1 << 24))
            )
            draws.append(draw[rows])
            sizes.append(n_tokens[rows])
            places.append(np.stack([np.full(len(rows), shard), rows], axis=1))
        place = np.concatenate(places)
        order = np.lexsort((place[:, 1], place[:, 0], np.concatenate(draws)))
        if not len(order):
            raise DataError(
                "expected a pool with documents to learn from, found none that may be chosen and have text"
            )
        before = np.cumsum(np.concatenate(sizes)[order]) - np.concatenate(sizes)[order]
        return np.asarray(place[order[before < max(1, wanted)]], dtype=np.int64)

    def holds(self, path: Path, shard: int, n_rows: int) -> NDArray[np.bool_]:
        """Which documents of a shard are in the sample, bool, shape (D,).

        Args:
            path: the file that `build` made.
            shard: its number.
            n_rows: D.
        """
        keys = np.asarray(open_packed(path).keys)
        found = np.zeros(n_rows, np.bool_)
        found[keys[keys[:, 0] == shard, 1]] = True
        return found


@dataclass(frozen=True, kw_only=True)
class Proxy(WholeFeature):
    """A small language model trained here, one of our checkpoints with its tokenizer.

    Attributes:
        size: of the ladder (`prill.lm.shape.LADDER`): `pico`, `nano`, `tiny`, ...; of `start`, if given.
        n_tokens: tokens to train on; fewer where the text would be read more than `max_epochs` times.
        sample: text of the pool to learn from; None: the fit part of the only target in `targets`.
        targets: the target to learn from; none where `sample` is given.
        start: a proxy whose weights are continued, with a new optimiser; None: random weights.
        use: keys the initial weights and the order of the text.
        max_epochs: passes over the text at most.
        peak_rate: learning rate; None: Step Law's for the size and the tokens.
        row_tokens: tokens of a row, and longest context; None: the size's.
        precision: of matrix products, as in `TrainSettings`.
        noise, noise_share: text of the pool that makes up this share of what is read beside a target.
    Raises:
        InternalError: not exactly one of `sample` and one target; noise without a target.
    """

    kind: ClassVar[str] = "proxy"
    is_apart: ClassVar[bool] = True
    size: str = "pico"
    n_tokens: int = 400_000
    sample: PoolSample | None = None
    targets: tuple[str, ...] = ()
    start: Proxy | None = None
    use: str = "reference"
    max_epochs: int = 4
    peak_rate: float | None = None
    row_tokens: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    noise: PoolSample | None = None
    noise_share: float = 0.0

    def __post_init__(self) -> None:
        is_noisy = self.noise is not None
        if (self.sample is None) != (len(self.targets) == 1) or (is_noisy and self.sample is not None):
            raise InternalError(
                f"expected a sample of the pool or one target to learn from, found {self.sample} "
                f"and {self.targets}",
                where="proxy",
            )

    @classmethod
    def of_pool(
        cls,
        *,
        size: str = "pico",
        n_tokens: int = 400_000,
        use: str = "reference",
        text_tokens: int | None = None,
    ) -> Proxy:
        """Learns from a sample of the pool.

        Args:
            size: of the ladder.
            n_tokens: tokens to train on.
            use: models of one use read the same text; of a shorter one, its beginning.
            text_tokens: tokens of the sample, which may be read up to 4 times; None: `n_tokens`.
        """
        sample = PoolSample(n_tokens=text_tokens or n_tokens, use=use)
        return cls(size=size, n_tokens=n_tokens, sample=sample, use=use)

    @classmethod
    def of_target(
        cls,
        target: str,
        *,
        size: str = "pico",
        n_tokens: int = 100_000,
        max_epochs: int = 4,
        start: Proxy | None = None,
        use: str = "target",
        noise: PoolSample | None = None,
        noise_share: float = 0.0,
    ) -> Proxy:
        """Learns from the fit part of a target, from scratch or from where `start` ended."""
        return cls(
            size=size if start is None else start.size,
            n_tokens=n_tokens,
            targets=(target,),
            start=start,
            use=use,
            max_epochs=max_epochs,
            noise=noise,
            noise_share=noise_share,
        )

    @property
    def label(self) -> str:
        verb = "train" if self.start is None else "continue"
        return f"{verb} a {self.size} model on {self.n_tokens:,} tokens of {self.read}"

    @property
    def read(self) -> str:
        """Whose text it learns, in words."""
        return f"the pool ({self.use})" if self.sample is not None else f"target {self.targets[0]}"

    @property
    def files(self) -> tuple[str, ...]:
        return MODEL_FILES

    def folder(self, given: Given) -> Path:
        """Where the finished model is."""
        return given.files(self)[0].parent

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from prill.features.token_counts import TokenCounter
        from prill.lm.backend import keep_freed_memory, require_torch
        from prill.lm.checkpoint import load_model, save_model
        from prill.lm.feed.stream import StreamFeed
        from prill.lm.train import Run, train

        require_torch()
        keep_freed_memory()
        folder = paths[0].parent
        content = given.pool.tokenizer.read_bytes()
        stream = self._stream(given, content)
        start = self._start(given, vocab_size=TokenCounter.of(content).library.vocab_size)
        settings = self.plan(start, n_tokens=stream.n_tokens)
        seed = derive_seed(given.seed, f"proxy {self.use}") % (1 << 31)
        feed = StreamFeed(stream=stream, row_tokens=settings.batches.row_tokens, seed=seed)
        work = folder / "training"
        (result,) = train(
            [Run(label="proxy", seed=seed, feed=feed)],
            settings,
            checkpoint_dir=work,
            models_dir=work / "models",
        )
        (trained,) = sorted((work / "models").iterdir())
        meta = {"tokenizer_sha256": TokenCounter.of(content).library.sha256, "use": self.use}
        save_model(folder, load_model(trained)[0], 0, meta)
        atomic_write(paths[2], content)
        shutil.rmtree(work, ignore_errors=True)
        branch = result.branches[-1]
        return {
            "n_tokens": branch.n_tokens,
            "n_text_tokens": stream.n_tokens,
            "n_epochs": round(branch.n_epochs, 4),
            "n_parameters": start.n_params,
            "loss_nats": round(result.curve[-1].loss_nats, 6),
            "peak_rate": settings.peak_rate,
            "precision": result.precision,
            "flops": settings.flops,
        }

    def plan(self, start: Start, *, n_tokens: int) -> TrainSettings:
        """The training on a text of so many tokens.

        Args:
            start: where weights come from.
            n_tokens: of the text, end-of-text tokens included.
        """
        from prill.lm.batches import BatchTable
        from prill.lm.plan import TrainSettings
        from prill.lm.schedules.span import Span
        from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
        from prill.lm.steplaw import advise

        trained = min(self.n_tokens, self.max_epochs * n_tokens)
        advice = advise(start.n_params, trained, start.context)
        n_rows = min(advice.n_rows, max(1, trained // start.context))
        n_steps = trained // (n_rows * start.context)
        warmup = Span(min(MOST_WARMUP, n_steps // 5), "steps")
        return TrainSettings(
            start=start,
            branch_tokens=(trained,),
            batches=BatchTable.constant(n_rows, start.context),
            schedule=ScheduleSpec(wsd=WsdSpec(warmup=warmup)),
            peak_rate=self.peak_rate or advice.peak_rate,
            precision=self.precision,
            device="cpu",
        )

    def _start(self, given: Given, *, vocab_size: int) -> Start:
        from prill.lm import starts

        if self.start is not None:
            return starts.continued(self.start.folder(given), max_context=self.row_tokens)
        return starts.fresh(self.size, vocab_size=vocab_size, row_tokens=self.row_tokens)

    def _stream(self, given: Given, tokenizer: bytes) -> TokenStream:
        """The text to learn from.

        Raises:
            DataError: it is too short for a training; says how much would do.
        """
        from prill.features.token_counts import TokenCounter
        from prill.lm.data import TokenStream

        if self.sample is not None:
            packed = open_packed(given.file(self.sample))
            stream, what = TokenStream.of(packed, name=f"sample {self.sample.use} of the pool"), "the pool"
        else:
            (name,) = self.targets
            counter = TokenCounter.of(tokenizer)
            documents = [d for d in counter.encode(given.targets[name]).documents() if len(d)]
            what = f"target {name!r}"
            stream = TokenStream.from_documents(
                [*documents, *self._noise(given, documents)] or [np.zeros(0, np.uint32)],
                eos=counter.library.eos_id,
                name=f"fit part of {what}",
            )
        fewest = MIN_ROWS * self._row_tokens()
        if stream.n_tokens < fewest:
            raise DataError(
                f"{what} must hold at least {fewest:,} tokens to train a model on, found {stream.n_tokens:,}",
                where=stream.name,
                hint="give it more text, or use a method that needs no model",
            )
        return stream

    def _noise(self, given: Given, documents: list[NDArray[np.uint32]]) -> list[NDArray[np.uint32]]:
        """Documents of the pool, again and again, until they are the wanted share of all tokens."""
        if self.noise is None or not self.noise_share:
            return []
        packed = open_packed(given.file(self.noise))
        starts, ends = packed.doc_starts[:-1], packed.doc_starts[1:]
        wanted = sum(len(d) + 1 for d in documents) * self.noise_share / (1 - self.noise_share)
        found: list[NDArray[np.uint32]] = []
        n_tokens = 0
        while n_tokens < wanted:
            place = len(found) % packed.n_docs
            found.append(np.asarray(packed.tokens[starts[place] : ends[place] - 1]).astype(np.uint32))
            n_tokens += len(found[-1]) + 1
        return found

    def _row_tokens(self) -> int:
        from prill.lm.shape import LADDER, ladder_shape

        if self.row_tokens is not None:
            return self.row_tokens
        if self.size not in LADDER:
            ladder_shape(self.size, vocab_size=1)  # names the nearest
        return LADDER[self.size].seq_len
