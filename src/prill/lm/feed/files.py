"""Several packed token files as one stream, memory-mapped.

Shards of a tokenized corpus are files of their own. `open_stream` joins them without copying tokens: an index
into the whole is found in its file by its place. Documents keep the order of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from prill.corpus.packed import Packed, open_packed
from prill.errors import DataError
from prill.lm.data import CHANNELS, TokenStream

__all__ = ["JoinedArray", "open_stream"]


class JoinedArray:
    """Flat arrays of one type end to end; reads copy only what is asked for.

    It stands in for an array where only its length, type and items are read: slices, numbers and arrays of
    numbers, which may be negative as for arrays.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = tuple(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        self.dtype = parts[0].dtype
        self.shape = (int(self._starts[-1]),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return self._slice(*item.indices(len(self)))
        numbers = np.asarray(item)
        if numbers.dtype == np.bool_:
            numbers = np.flatnonzero(numbers)
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        part = np.searchsorted(self._starts, numbers, side="right") - 1
        if numbers.size and (int(part.min()) < 0 or int(part.max()) >= len(self._parts)):
            raise IndexError(f"expected numbers below {len(self)}, found {int(numbers.max())}")
        found = np.empty(numbers.shape, self.dtype)
        for number in np.unique(part).tolist():
            here = part == number
            found[here] = self._parts[number][numbers[here] - self._starts[number]]
        return found if numbers.ndim else found[()]

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> NDArray[Any]:
        whole: NDArray[Any] = np.concatenate(self._parts)
        return whole if dtype is None else whole.astype(dtype)

    def view(self, start: int, stop: int) -> JoinedArray:
        """Items `start` to `stop`, still where they are; not none."""
        return JoinedArray(self._inside(start, stop))

    def max(self) -> Any:
        """The largest value."""
        return max(part.max() for part in self._parts if len(part))

    def _slice(self, start: int, stop: int, step: int) -> NDArray[Any]:
        if step != 1:
            return cast("NDArray[Any]", self[np.arange(start, stop, step)])
        inside = self._inside(start, stop)
        return inside[0] if len(inside) == 1 else np.concatenate(inside or [self._parts[0][:0]])

    def _inside(self, start: int, stop: int) -> list[NDArray[Any]]:
        return [
            part[max(start - begin, 0) : max(stop - begin, 0)]
            for part, begin in zip(self._parts, self._starts[:-1].tolist(), strict=True)
            if begin < stop and begin + len(part) > start
        ]


def open_stream(paths: Sequence[Path], *, name: str) -> TokenStream:
    """The documents of packed files, in the order of the files, as one memory-mapped stream.

    Raises:
        DataError: no file, no document, a damaged file; or files of different tokenizers, end-of-document
            tokens or channels.
    """
    files = [open_packed(path) for path in paths]
    filled = [file for file in files if file.n_docs]
    if not filled:
        raise DataError(f"a stream needs at least one document, found {len(files)} files of none", where=name)
    _check_alike(files, paths)
    if len(filled) == 1:
        return TokenStream.of(filled[0], name=name)
    begins = np.concatenate([[0], np.cumsum([file.n_tokens for file in filled])])
    starts = [file.doc_starts[:-1] + begin for file, begin in zip(filled, begins[:-1], strict=True)]
    channels = {
        key: cast("NDArray[Any]", JoinedArray([file.channels[key] for file in filled]))
        for key in CHANNELS
        if key in filled[0].channels
    }
    return TokenStream(
        tokens=cast("NDArray[Any]", JoinedArray([file.tokens for file in filled])),
        doc_starts=np.concatenate([*starts, begins[-1:]]),
        name=name,
        **channels,
    )


def _check_alike(files: Sequence[Packed], paths: Sequence[Path]) -> None:
    def kind(file: Packed) -> dict[str, Any]:
        kept = ("eos", "vocab_size", "tokenizer_sha256")
        return {key: file.header[key] for key in kept} | {"channels": sorted(file.channels)}

    first = kind(files[0])
    for file, path in zip(files[1:], paths[1:], strict=True):
        for key, value in kind(file).items():
            if value != first[key]:
                raise DataError(
                    f"files of one stream must share `{key}`, found {first[key]} in {paths[0].name} "
                    f"and {value}",
                    where=str(path),
                    hint="tokenize all files with the same settings",
                )
