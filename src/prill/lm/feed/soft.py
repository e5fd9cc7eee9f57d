"""Soft labels stored beside the rows of a feed, so that a teacher is asked once and not at every training.

    store_soft_labels(folder, feed, FrozenTeacher(model=small), n_rows=1000, k=10, temperature=0.25)
    feed = SoftFeed(feed=feed, folder=folder)          # rows of the first phase carry `soft`

All probabilities of a token would take more room than its text by the size of the vocabulary; the k largest
take 8 k bytes, and what is missing to 1 belongs to no token. Only the rows of the phase that uses them are
needed: rows behind the stored ones get labels without mass, which pull nowhere.

One file holds `ROWS_A_FILE` base rows; a file that is there is not computed again, so a killed run continues.
Each names the feed and the teacher that made it.

Source: SALT's teacher, Rawat et al. 2024, arXiv:2410.18779. Differs: the top k of the probabilities.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prill.errors import DataError, RecipeError
from prill.lm.data import Rows, Soft, stack_rows
from prill.lm.feed.feed import Feed
from prill.lm.objectives.teacher import FrozenTeacher

__all__ = ["ROWS_A_FILE", "SoftFeed", "store_soft_labels"]

ROWS_A_FILE = 64


def store_soft_labels(
    folder: Path,
    feed: Feed,
    teacher: FrozenTeacher,
    *,
    n_rows: int,
    k: int,
    temperature: float,
    at_once: int = 8,
) -> None:
    """Ask a teacher about base rows 0 to `n_rows` and write its k likeliest tokens for each target.

    Args:
        folder: made if absent.
        feed: the student's.
        teacher: one model that can pack rows, such as a stack of one.
        n_rows: labels that are there already are kept.
        k: labels a token.
        temperature: divides the teacher's logits.
        at_once: rows a forward pass; decides nothing.
    Raises:
        RecipeError: k or the temperature is out of bounds.
        DataError: the folder holds labels of another feed, teacher or setting.
        ResourceError: the disk is full or not writable.
    """
    if not 1 <= k <= teacher.vocab_size or not temperature > 0:
        raise RecipeError(
            f"`k` must be from 1 to {teacher.vocab_size} and `temperature` above 0, "
            f"found {k} and {temperature}",
            where="soft labels",
        )
    from prill.lm.tensorfile import write_tensors

    meta = {
        "format": "soft labels",
        "version": 1,
        "feed": feed.digest(),
        "teacher": teacher.digest,
        "k": k,
        "temperature": temperature,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, n_rows, ROWS_A_FILE):
        path, count = _file(folder, first), min(ROWS_A_FILE, n_rows - first)
        if path.is_file() and len(_checked(path, meta)["ids"]) >= count:
            continue
        numbers = range(first, first + count)
        write_tensors(path, _labels(feed, teacher, numbers, k, temperature, at_once), meta)


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftFeed:
    """A feed whose rows carry stored soft labels; a `Feed`.

    Args:
        feed: the one that the labels were made for.
        folder: where `store_soft_labels` wrote.
    Raises:
        DataError: the folder holds no labels, or those of another feed.
    """

    feed: Feed
    folder: Path

    def __post_init__(self) -> None:
        self._meta  # noqa: B018, reads and checks the first file

    @property
    def name(self) -> str:
        return self.feed.name

    @property
    def n_tokens(self) -> int:
        return self.feed.n_tokens

    @property
    def highest_id(self) -> int:
        return max(self.feed.highest_id, int(self._meta["vocab_size"]) - 1)

    def rows(self, first: int, count: int) -> Rows:
        """Base rows with `soft`; labels without mass behind the stored rows.

        Raises:
            DataError: a file of labels is damaged, or was made for another feed or teacher.
        """
        rows = self.feed.rows(first, count)
        shape = (*rows.targets.shape, int(self._meta["k"]))
        ids, shares = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        for start in range(first // ROWS_A_FILE * ROWS_A_FILE, first + count, ROWS_A_FILE):
            stored = self._stored(start)
            if stored is not None:
                low, high = max(start, first), min(start + len(stored.ids), first + count)
                if low < high:
                    ids[low - first : high - first] = stored.ids[low - start : high - start]
                    shares[low - first : high - first] = stored.shares[low - start : high - start]
        return dataclasses.replace(rows, soft=Soft(ids=ids, shares=shares))

    def documents(self, first: int, count: int) -> list[str]:
        return self.feed.documents(first, count)

    def digest(self) -> str:
        files = sorted(self.folder.glob("soft-*.safetensors"))
        last = self._stored((len(files) - 1) * ROWS_A_FILE)
        n_rows = (len(files) - 1) * ROWS_A_FILE + (0 if last is None else len(last.ids))
        made = sorted(self._meta.items())
        return hashlib.sha256(f"{self.feed.digest()}|{made}|{n_rows}".encode()).hexdigest()

    @functools.cached_property
    def _meta(self) -> dict[str, Any]:
        from prill.lm.tensorfile import read_tensors

        path = _file(self.folder, 0)
        if not path.is_file():
            raise DataError("expected stored soft labels, found none", where=str(self.folder))
        tensors, meta = read_tensors(path)
        if meta.get("feed") != self.feed.digest():
            raise DataError(
                "expected soft labels of this feed, found those of another",
                where=str(path),
                hint="store them again: the data, their order or the row length has changed",
            )
        return meta | {"vocab_size": int(tensors["ids"].max()) + 1}

    @functools.lru_cache(maxsize=4)  # noqa: B019, a feed lives as long as its training
    def _stored(self, start: int) -> Soft | None:
        path = _file(self.folder, start)
        if not path.is_file():
            return None
        tensors = _checked(path, {key: self._meta[key] for key in ("feed", "teacher", "k", "temperature")})
        return Soft(ids=tensors["ids"].numpy().astype(np.int64), shares=tensors["shares"].numpy())


def _file(folder: Path, first: int) -> Path:
    return folder / f"soft-{first:09d}.safetensors"


def _checked(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """The tensors of a file whose record agrees."""
    from prill.lm.tensorfile import read_tensors

    tensors, meta = read_tensors(path)
    wrong = sorted(key for key in expected if meta.get(key) != expected[key])
    if wrong:
        raise DataError(
            f"expected soft labels with {wrong[0]} {expected[wrong[0]]!r}, found {meta.get(wrong[0])!r}",
            where=str(path),
            hint="use another folder",
        )
    return tensors


def _labels(
    feed: Feed, teacher: FrozenTeacher, numbers: range, k: int, temperature: float, at_once: int
) -> dict[str, Any]:
    """ids, int32, and shares, fp32, of one file's rows, both (rows, T, k)."""
    import torch

    from prill.lm.objectives.soft_labels import top_k

    ids, shares = [], []
    for start in range(numbers.start, numbers.stop, at_once):
        n_rows = min(at_once, numbers.stop - start)
        states = teacher.states(teacher.model.pack(stack_rows([feed.rows(start, n_rows)])))
        length = states.shape[1] // n_rows
        for row in range(n_rows):  # a row at a time, so that few logits exist
            part = slice(row * length, (row + 1) * length)
            found = top_k(teacher.shares(states, slice(0, 1), part, temperature=temperature)[0], k)
            ids.append(torch.from_numpy(found.ids.astype(np.int32)))
            shares.append(torch.from_numpy(found.shares))
    return {"ids": torch.stack(ids), "shares": torch.stack(shares)}
