"""The text of all kept documents one behind the other in a scratch file, and the anchors of each shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.prepare.measure import GroupingInputs
from prill.run.atomic import machine_errors

__all__ = ["Layout"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the text stands.

    Attributes:
        folder: of the scratch files.
        firsts: where each shard begins in the file, and its end; shape (shards + 1,).
        min_bytes: shorter documents are left out.
    """

    folder: Path
    firsts: tuple[int, ...]
    min_bytes: int

    @classmethod
    def plan(cls, inputs: GroupingInputs, min_bytes: int) -> Layout:
        """Places for all documents, without reading one; makes the file."""
        layout = cls(folder=inputs.scratch, firsts=(), min_bytes=min_bytes)
        firsts = [0]
        for shard in range(len(inputs.parts)):
            n_bytes_D = layout.n_bytes(inputs, shard)
            is_taken_D = layout.is_taken(inputs, shard)
            firsts.append(firsts[-1] + int(n_bytes_D[is_taken_D].sum()) + int(is_taken_D.sum()))
        with machine_errors(layout.text_path), layout.text_path.open("wb") as file:
            file.truncate(firsts[-1])
        return cls(folder=inputs.scratch, firsts=tuple(firsts), min_bytes=min_bytes)

    @property
    def text_path(self) -> Path:
        return self.folder / "text"

    def anchors_path(self, shard: int, what: str) -> Path:
        return self.folder / f"anchors-{shard:05d}.{what}"

    def n_bytes(self, inputs: GroupingInputs, shard: int) -> NDArray[np.int64]:
        """Bytes of each document of a shard."""
        column = read_columns(inputs.read_parts[shard], ["n_bytes"])["n_bytes"]
        return np.asarray(column.combine_chunks(), np.int64)

    def is_taken(self, inputs: GroupingInputs, shard: int) -> NDArray[np.bool_]:
        """Which documents of a shard stand in the file."""
        return np.asarray(inputs.is_kept(shard) & (self.n_bytes(inputs, shard) >= self.min_bytes))

    def text(self) -> NDArray[np.uint8]:
        """The file, mapped: pages are read as they are needed."""
        with machine_errors(self.text_path):
            return np.memmap(self.text_path, np.uint8, mode="r")

    def write(self, shard: int, *, inputs: GroupingInputs, k: int) -> int:
        """Write a shard's documents and its anchors, by hash; the number of anchors."""
        from prill.features._winnow_kernel import lay_out

        is_taken_D = self.is_taken(inputs, shard)
        all_hashes, all_places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        at = self.firsts[shard]
        with machine_errors(self.text_path), self.text_path.open("r+b") as file:
            file.seek(at)
            for batch in inputs.corpus.batches(inputs.corpus.shards[shard]):
                offsets, data = batch.text_buffers()
                taken = is_taken_D[batch.first_row : batch.first_row + batch.n_rows]
                out = np.empty(int(np.diff(offsets)[taken].sum() + taken.sum()), np.uint8)
                n = lay_out(offsets, data, taken, out, np.empty(batch.n_rows, np.int64))
                hashes, places = _anchors(out, k, self.min_bytes)
                all_hashes.append(hashes)
                all_places.append(places + at)
                out.tofile(file)
                at += n
        merged = np.concatenate(all_hashes)
        order = np.argsort(merged, kind="stable")
        with machine_errors(self.folder):
            merged[order].tofile(self.anchors_path(shard, "hashes"))
            np.concatenate(all_places)[order].tofile(self.anchors_path(shard, "places"))
        return int(merged.shape[0])

    def at_characters(
        self, starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same spans without the parts of characters at their edges; those that vanish are left out."""
        text = self.text() if starts.shape[0] else np.empty(0, np.uint8)
        starts, stops = starts.copy(), stops.copy()
        for _ in range(3):  # a character has at most three bytes behind its first
            starts += (text[starts] & 0xC0) == 0x80
            stops -= (text[stops] & 0xC0) == 0x80
        is_left = starts < stops
        return starts[is_left], stops[is_left]


def _anchors(text: NDArray[np.uint8], k: int, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes and places of the anchors of a layout."""
    from prill.features._winnow_kernel import find_anchors

    room = 1024 + 4 * (text.shape[0] // (n - k + 1))  # usually two for every n - k + 1 bytes
    while True:
        hashes, places = np.empty(room, np.uint64), np.empty(room, np.int64)
        found = find_anchors(text, k, n, hashes, places)
        if found <= room:
            return hashes[:found].copy(), places[:found].copy()
        room = found
