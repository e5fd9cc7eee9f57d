"""The evaluation table, checked and arranged: loss of every document under every trained model.

Every model of an evaluation set must have been measured on the same documents, otherwise no difference
between two of them means anything. Losses are summed before they are divided by bytes.

Legend: D documents of one evaluation set.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.errors import DataError, near

__all__ = ["COLUMNS", "Losses", "Point"]

COLUMNS = ("arm", "seed", "n_tokens", "eval_set", "doc", "loss_nats", "n_bytes", "n_tokens_doc")
"""arm and eval_set string, seed, n_tokens, doc, n_bytes and n_tokens_doc int64, loss_nats float64."""

Point = tuple[int, int]
"""A seed and a count of training tokens."""

_Documents = tuple[NDArray[np.generic], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses by arm and evaluation set; build it with `Losses.read`."""

    n_bytes: dict[str, NDArray[np.float64]]
    """By evaluation set, shape (D,)."""
    nats: dict[tuple[str, str], dict[Point, NDArray[np.float64]]]
    """By (arm, evaluation set), then by (seed, training tokens); shape (D,)."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Sorted names."""
        return tuple(sorted({arm for arm, _ in self.nats}))

    @property
    def eval_sets(self) -> tuple[str, ...]:
        """Sorted names."""
        return tuple(sorted(self.n_bytes))

    @staticmethod
    def read(evals: pa.Table) -> Losses:
        """Checks and arranges the table; its rows may come in any order.

        Raises:
            DataError: a column is missing or has nulls, a loss is not finite, a document has no bytes, a row
                is doubled, or two models were measured on different documents.
        """
        columns = _columns(evals)
        _check_values(columns)
        order = np.lexsort([columns[name] for name in ("doc", "n_tokens", "seed", "arm", "eval_set")])
        sorted_columns = {name: values[order] for name, values in columns.items()}
        n_bytes: dict[str, NDArray[np.float64]] = {}
        docs: dict[str, NDArray[np.generic]] = {}
        nats: dict[tuple[str, str], dict[Point, NDArray[np.float64]]] = {}
        for rows in _models(sorted_columns):
            arm, seed, n_tokens, eval_set, _ = (sorted_columns[name][rows.start] for name in COLUMNS[:5])
            where = f"arm {arm!r}, seed {seed}, {n_tokens:,} tokens, {eval_set!r}"
            doc, size = sorted_columns["doc"][rows], sorted_columns["n_bytes"][rows].astype(np.float64)
            first = docs.setdefault(eval_set, doc), n_bytes.setdefault(eval_set, size)
            _check_documents((doc, size), first, where)
            point = (int(seed), int(n_tokens))
            nats.setdefault((str(arm), str(eval_set)), {})[point] = sorted_columns["loss_nats"][rows].astype(
                np.float64
            )
        return Losses(n_bytes=n_bytes, nats=nats)

    def of(self, arm: str, eval_set: str) -> dict[Point, NDArray[np.float64]]:
        """Losses of one arm on one evaluation set.

        Raises:
            DataError: the arm or the set was not evaluated; the message names the nearest.
        """
        if eval_set not in self.n_bytes:
            raise DataError(
                f"expected evaluations on {eval_set!r}, found none",
                where="evals",
                hint=near(eval_set, self.eval_sets),
            )
        if (arm, eval_set) not in self.nats:
            raise DataError(
                f"expected evaluations of arm {arm!r} on {eval_set!r}, found none",
                where="evals",
                hint=near(arm, self.arms) if arm not in self.arms else "evaluate this arm on this set too",
            )
        return self.nats[arm, eval_set]

    def bpb(self, arm: str, eval_set: str, point: Point) -> float:
        """Bits per byte of one model: sum of nats / (ln 2 * sum of bytes).

        Source: Gao et al. 2020, arXiv:2101.00027, bits per UTF-8 byte.
        """
        nats = self.of(arm, eval_set)[point]
        return float(nats.sum() / (math.log(2) * self.n_bytes[eval_set].sum()))


def _columns(evals: pa.Table) -> dict[str, NDArray[np.generic]]:
    missing = [name for name in COLUMNS if name not in evals.column_names]
    if missing:
        raise DataError(
            f"expected the columns {', '.join(COLUMNS)}, found no {', '.join(missing)}", where="evals"
        )
    if evals.num_rows == 0:
        raise DataError("expected one row for each model and document, found none", where="evals")
    columns: dict[str, NDArray[np.generic]] = {}
    for name in COLUMNS:
        column = evals[name].combine_chunks()
        if column.null_count:
            raise DataError(
                f"`{name}` must have a value in every row, found {column.null_count} nulls", where="evals"
            )
        kind = pa.large_string() if name in ("arm", "eval_set") else None
        values = (column.cast(kind) if kind else column).to_numpy(zero_copy_only=False)
        columns[name] = values.astype(np.str_) if kind else values
    return columns


def _check_values(columns: dict[str, NDArray[np.generic]]) -> None:
    loss = np.asarray(columns["loss_nats"], dtype=np.float64)
    for bad, expected, name in (
        (~np.isfinite(loss), "a loss must be a finite number of nats", "loss_nats"),
        (np.asarray(columns["n_bytes"], dtype=np.int64) < 1, "a document needs at least one byte", "n_bytes"),
        (
            np.asarray(columns["n_tokens"], dtype=np.int64) < 1,
            "a model needs at least one training token",
            "n_tokens",
        ),
    ):
        if bad.any():
            i = int(np.argmax(bad))
            raise DataError(
                f"{expected}, found {columns[name][i]} ({int(bad.sum())} such rows)",
                where=_place(columns, i),
                hint="a loss that is not finite means the training diverged: lower the learning rate"
                if name == "loss_nats"
                else None,
            )


def _models(columns: dict[str, NDArray[np.generic]]) -> Sequence[slice]:
    """The rows of each model and evaluation set, from sorted columns."""
    n = len(columns["arm"])
    is_new = np.ones(n, dtype=np.bool_)
    same = np.ones(n - 1, dtype=np.bool_)
    for name in ("eval_set", "arm", "seed", "n_tokens"):
        same &= columns[name][1:] == columns[name][:-1]
    is_new[1:] = ~same
    doubled = same & (columns["doc"][1:] == columns["doc"][:-1])
    if doubled.any():
        raise DataError(
            "expected one row for each model and document, found two",
            where=_place(columns, int(np.argmax(doubled))),
        )
    starts = [*np.flatnonzero(is_new).tolist(), n]
    return [slice(a, b) for a, b in itertools.pairwise(starts)]


def _check_documents(found: _Documents, first: _Documents, where: str) -> None:
    (doc, size), (first_doc, first_size) = found, first
    if len(doc) != len(first_doc) or not np.array_equal(doc, first_doc):
        others = " others" if len(doc) == len(first_doc) else ""
        raise DataError(
            f"expected the same {len(first_doc)} documents as every other model of this set, "
            f"found {len(doc)}{others}",
            where=where,
            hint="evaluate every model on the whole held-out set",
        )
    if not np.array_equal(size, first_size):
        i = int(np.argmax(size != first_size))
        raise DataError(
            f"expected {first_size[i]:.0f} bytes as for other models, found {size[i]:.0f}",
            where=f"{where}, doc {doc[i]}",
        )


def _place(columns: dict[str, NDArray[np.generic]], i: int) -> str:
    arm, seed, n_tokens, eval_set, doc = (columns[name][i] for name in COLUMNS[:5])
    return f"arm {str(arm)!r}, seed {seed}, {n_tokens:,} tokens, {str(eval_set)!r}, doc {doc}"
