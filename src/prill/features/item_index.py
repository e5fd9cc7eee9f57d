"""An index of task items, and how much of which item a document holds.

Both sides are cut into words in the same way (`_matching_characters`): lower case, no punctuation, characters
of scripts without spaces alone. An item is its passage, question and answer in this order. Documents are
streamed past the index from Arrow buffers; the index is built once, never changes, and may be shared by
threads. Coverage is the share of an item's words that a document holds in runs that belong together
(`_contamination_kernel`); the exact coverage counts words inside shared n-grams only.

An n-gram that occurs in more than `MAX_ITEMS` items says nothing about any of them and begins no match.

Source: n-gram coverage as in Lambert et al. 2024, arXiv:2411.15124, section 3.2; mismatches as in Touvron et
al. 2023, arXiv:2307.09288, appendix A.6. Differs: seeds of 4 or 5 words, and matches that grow past changed
words, so that lightly edited and short items are found.

Legend: D documents, I items, H hits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError
from prill.run.atomic import atomic_path

__all__ = ["INDEX_VERSION", "MAX_ITEMS", "Found", "Item", "ItemIndex"]

INDEX_VERSION = 1
"""Version of words, hashes and matching; it changes whenever a hit could."""

MAX_ITEMS = 32
"""Items that an n-gram may occur in and still begin a match."""

_MAX_PLACES = 4  # of one n-gram in one item
_SHORT_ITEM = 20  # words below which seeds are of four words
_REACH = 16  # words that may stand between a question and its answer, beside the choices
_FORMAT = "prill item index"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One benchmark item.

    Attributes:
        task, name: name of the task, and of the item within it.
        passage: text that the question is about and that may stand elsewhere by right; often empty.
        question: what is asked, or the beginning that is to be completed.
        answer: the right answer.
        choices: all choices; they may stand between question and answer.
    """

    task: str
    name: str
    passage: str = ""
    question: str
    answer: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What documents hold of items, a row a document, item and place; all arrays of shape (H,).

    Attributes:
        document, item: row of the document and index of the item.
        coverage: covered share of the words of question and answer.
        passage, question, answer: covered shares of the parts; 0 of an empty part.
        exact: share of the words of question and answer inside shared n-grams.
        exact_prompt: the same of passage and question.
        longest: longest run of equal words, int64.
        longest_answer: longest run of equal words that touches the answer, int64.
        start, stop: bytes of the document's text, first and behind.
    """

    document: NDArray[np.int64]
    item: NDArray[np.int64]
    coverage: NDArray[np.float32]
    passage: NDArray[np.float32]
    question: NDArray[np.float32]
    answer: NDArray[np.float32]
    exact: NDArray[np.float32]
    exact_prompt: NDArray[np.float32]
    longest: NDArray[np.int64]
    longest_answer: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def where(self, kept: NDArray[np.bool_]) -> Found:
        """The rows for which `kept` holds."""
        return Found(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemIndex:
    """Items ready to be looked for.

    Attributes:
        tasks, names: of the items, I each.
        arrays: of `_contamination_kernel.Tables`, by name; not writeable.
        fingerprint: SHA-256 of all that decides a hit, 64 hexadecimal digits.
    """

    tasks: tuple[str, ...]
    names: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]
    fingerprint: str

    @classmethod
    def build(cls, items: Sequence[Item]) -> ItemIndex:
        """Index items. Items of fewer than four words are kept by name but cannot be found."""
        bounds, words = _hash_parts(items)
        parts = np.diff(bounds)
        starts = bounds[:-1].reshape(-1, 4)
        keep = np.ones(
            len(words), dtype=np.bool_
        )  # passage, question, answer stay; choices only bound the reach
        for first, n_words in zip(starts[:, 3], parts[3::4], strict=True):
            keep[first : first + n_words] = False
        lengths = parts.reshape(-1, 4)
        arrays: dict[str, NDArray[Any]] = {
            "offsets": np.concatenate([[0], np.cumsum(lengths[:, :3].sum(axis=1))]).astype(np.int64),
            "words": words[keep],
            "question": lengths[:, 0].astype(np.int32),
            "answer": lengths[:, :2].sum(axis=1).astype(np.int32),
            "reach": np.where(lengths[:, 1] > 0, lengths[:, 3] + _REACH, 0).astype(np.int32),
        }
        arrays |= _seed_tables(arrays["words"], arrays["offsets"])
        return cls._of(tuple(item.task for item in items), tuple(item.name for item in items), arrays)

    @classmethod
    def _of(
        cls, tasks: tuple[str, ...], names: tuple[str, ...], arrays: dict[str, NDArray[Any]]
    ) -> ItemIndex:
        for array in arrays.values():
            array.setflags(write=False)
        digest = hashlib.sha256(json.dumps([INDEX_VERSION, tasks, names]).encode())
        for name in sorted(arrays):
            digest.update(f"|{name}|{arrays[name].dtype}|{arrays[name].shape}|".encode())
            digest.update(np.ascontiguousarray(arrays[name]).data)
        return cls(tasks=tasks, names=names, arrays=arrays, fingerprint=digest.hexdigest())

    def __reduce__(self) -> tuple[Any, ...]:  # so that arrays stay read-only, and kernels need no second kind
        return (ItemIndex._of, (self.tasks, self.names, self.arrays))

    @property
    def n_words(self) -> NDArray[np.int64]:
        """Words of question and answer of each item, int64, shape (I,)."""
        return np.asarray(np.diff(self.arrays["offsets"]) - self.arrays["question"], dtype=np.int64)

    def part_words(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Words of passage, question and answer of each item, int64, shape (I,) each."""
        passage = self.arrays["question"].astype(np.int64)
        question = self.arrays["answer"] - passage
        return passage, question, np.diff(self.arrays["offsets"]) - self.arrays["answer"]

    def find(
        self, text: pa.Array, *, n: int = 8, keep: Callable[[Found], NDArray[np.bool_]] | None = None
    ) -> Found:
        """Where documents hold pieces of items.

        Args:
            text: large_string array without nulls, D documents, any slice.
            n: words of the n-grams of `exact`, at least 8; items with fewer words count as one n-gram.
            keep: which hits to return; sees `start` and `stop` as numbers of words, because bytes are only
                looked up for what is kept. All when not given.
        Returns:
            All matches that `_contamination_kernel` keeps, sorted by document, item and place.
        """
        from prill.features._contamination_kernel import Tables, find_blocks
        from prill.features._coverage_kernel import summarise
        from prill.features._matching_characters import matching_table

        offsets, data = text_buffers(text)
        tables = Tables(**self.arrays)
        blocks = find_blocks(offsets, data, matching_table(), tables)
        blocks = blocks[np.lexsort((blocks[:, 4], blocks[:, 1], blocks[:, 0]))]
        pairs, places = summarise(blocks, tables.offsets, tables.question, tables.answer, n)
        found = self._shares(pairs[places[:, 0]], places)
        if keep is not None:
            found = found.where(keep(found))
        start, stop = _bytes_of(text, found.document, found.start, found.stop)
        return replace(found, start=start, stop=stop)

    def _shares(self, rows: NDArray[np.int64], places: NDArray[np.int64]) -> Found:
        """Covered words as shares; `start` and `stop` are the first and last word of each place."""
        item = rows[:, 1]
        passage, question, answer = (words[item] for words in self.part_words())
        return Found(
            document=rows[:, 0],
            item=item,
            coverage=_share(rows[:, 3] + rows[:, 4], question + answer),
            passage=_share(rows[:, 2], passage),
            question=_share(rows[:, 3], question),
            answer=_share(rows[:, 4], answer),
            exact=_share(rows[:, 6] + rows[:, 7], question + answer),
            exact_prompt=_share(rows[:, 5] + rows[:, 6], passage + question),
            longest=rows[:, 8],
            longest_answer=rows[:, 9],
            start=places[:, 1],
            stop=places[:, 2],
        )

    def save(self, path: Path) -> None:
        """Write as safetensors: arrays, and tasks, names, version and fingerprint as JSON in the header."""
        from safetensors.numpy import save_file

        state = {"tasks": self.tasks, "names": self.names, "version": INDEX_VERSION}
        header = {"format": _FORMAT, "state": json.dumps(state), "fingerprint": self.fingerprint}
        with atomic_path(path) as temporary:
            save_file(
                {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}, temporary, header
            )

    @classmethod
    def load(cls, path: Path) -> ItemIndex:
        """Read what `save` wrote.

        Raises:
            DataError: no such file, another kind or version, or changed since.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as stored:
                header = stored.metadata() or {}
                arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            state = json.loads(header["state"])
            tasks, names, version = tuple(state["tasks"]), tuple(state["names"]), state["version"]
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise _no_index(path, f"found none ({type(error).__name__})") from error
        index = cls._of(tasks, names, arrays)
        if version != INDEX_VERSION or index.fingerprint != header.get("fingerprint"):
            raise _no_index(path, f"found version {version!r}, or one that was changed later")
        return index


def _no_index(path: Path, found: str) -> DataError:
    message = f"expected an item index of version {INDEX_VERSION}, {found}"
    return DataError(message, where=str(path), hint="delete the file and build the index again")


def _hash_parts(items: Sequence[Item]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Word hashes of passage, question, answer and choices of all items; bounds of shape (4 I + 1,)."""
    from prill.features._matching_characters import matching_table
    from prill.features._matching_kernel import hash_texts

    parts = [[item.passage, item.question, item.answer, "\n".join(item.choices)] for item in items]
    flat = pa.array([part for of_item in parts for part in of_item], pa.large_string())
    offsets, data = text_buffers(flat)
    bounds, words = hash_texts(offsets, data, matching_table())
    return bounds, words


def _seed_tables(words: NDArray[np.uint64], offsets: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    from prill.features._contamination_kernel import LONG, SHORT, fill_tables, gram_hashes

    item = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    is_short = np.diff(offsets)[item] < _SHORT_ITEM
    hashes = np.where(is_short, gram_hashes(words, offsets, SHORT), gram_hashes(words, offsets, LONG))
    place = np.arange(len(words)) - offsets[item]
    kept = hashes != 0
    order = np.lexsort((place[kept], item[kept], hashes[kept]))
    hashes, item, place = hashes[kept][order], item[kept][order], place[kept][order]
    first_of_item = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (item[1:] != item[:-1])])[
        : len(hashes)
    ]
    rank = np.arange(len(hashes)) - np.maximum.accumulate(np.where(first_of_item, np.arange(len(hashes)), 0))
    _, group, size = np.unique(hashes, return_inverse=True, return_counts=True)
    n_items = np.bincount(group, weights=first_of_item, minlength=len(size))
    kept = (rank < _MAX_PLACES) & (n_items[group] <= MAX_ITEMS)
    hashes, item, place = hashes[kept], item[kept], place[kept]

    seeds, first, count = np.unique(hashes, return_index=True, return_counts=True)
    n_slots = 1 << max(6, int(2 * len(seeds)).bit_length())
    keys, slots = np.zeros(n_slots, np.uint64), np.zeros(len(seeds), np.int64)
    bits = np.zeros(max(64, n_slots // 8), np.uint64)
    fill_tables(seeds, bits, keys, slots)
    firsts, behind = np.zeros(n_slots, np.int32), np.zeros(n_slots, np.int32)
    firsts[slots], behind[slots] = first, first + count
    return {
        "bits": bits,
        "keys": keys,
        "first": firsts,
        "behind": behind,
        "place_items": item.astype(np.int32),
        "place_words": place.astype(np.int32),
    }


def _bytes_of(
    text: pa.Array, documents: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First byte of word `first` and byte behind word `last` of each document."""
    from prill.features._matching_characters import matching_table
    from prill.features._matching_kernel import locate

    wanted, ordinals = np.concatenate([documents, documents]), np.concatenate([first, last])
    order = np.lexsort((ordinals, wanted))
    starts, stops = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    offsets, data = text_buffers(text)
    begin, end = np.empty_like(starts), np.empty_like(stops)
    locate(offsets, data, matching_table(), wanted[order], ordinals[order], starts, stops)
    begin[order], end[order] = starts, stops
    return begin[: len(first)], end[len(first) :]


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float32)
