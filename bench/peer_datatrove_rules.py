"""What datatrove's own filters say about each document of a corpus: verdict, reason, edited text.

    PEER_PYTHON bench/peer_datatrove_rules.py CORPUS OUT.parquet [--every N] [--words]

Runs in an interpreter that has datatrove with spaCy, not in Prill's. CORPUS is a Parquet file or folder with
a `text` column, files in the order of their names. Columns: `file`, `row`, the reason ("" = kept) of each
filter with its defaults on the text as it is, of C4 as FineWeb runs it (no rule on line ends), and of the
chain in FineWeb's order (repetition, quality, that C4, FineWeb on the text that C4 left), and the texts that
both kinds of C4 leave. --words adds the words, joined by spaces. The CPU seconds go to the file's metadata.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("LOGURU_LEVEL", "ERROR")

FILTERS = ("gopher_repetition", "gopher_quality", "fineweb", "c4", "c4_fineweb")


def main() -> None:
    """Judge each document of the corpus and write one row for it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only each n-th document of a file")
    parser.add_argument("--words", action="store_true")
    args = parser.parse_args()
    judge = _Judge(with_words=args.words)
    files = sorted(args.corpus.glob("*.parquet")) if args.corpus.is_dir() else [args.corpus]
    rows: list[dict[str, Any]] = []
    for file in files:
        texts = pq.read_table(file, columns=["text"])["text"].to_pylist()
        for row in range(0, len(texts), args.every):
            rows.append({"file": file.name, "row": row} | judge(texts[row] or ""))
    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"cpu_s": json.dumps(judge.cpu_s)})
    pq.write_table(table, args.out, compression="zstd")


class _Judge:
    """All filters, and how long each took on the texts that it saw."""

    def __init__(self, *, with_words: bool) -> None:
        from datatrove.pipeline.filters import (
            C4QualityFilter,
            FineWebQualityFilter,
            GopherQualityFilter,
            GopherRepetitionFilter,
        )

        self._filters = {
            "gopher_repetition": GopherRepetitionFilter(),
            "gopher_quality": GopherQualityFilter(),
            "fineweb": FineWebQualityFilter(),
            "c4": C4QualityFilter(),
            "c4_fineweb": C4QualityFilter(filter_no_terminal_punct=False),
        }
        self._with_words = with_words
        self.cpu_s = dict.fromkeys((*FILTERS, "chain_fineweb"), 0.0)

    def __call__(self, text: str) -> dict[str, Any]:
        """The row of one text."""
        from datatrove.utils.text import split_into_words

        row: dict[str, Any] = {}
        for name in FILTERS:
            reason, left = self._run(name, name, text)
            row[name] = reason
            if name.startswith("c4"):
                row[f"{name}_text"] = left
        chain = [row[name] for name in ("gopher_repetition", "gopher_quality", "c4_fineweb") if row[name]]
        row["chain"] = chain[0] if chain else self._run("fineweb", "chain_fineweb", row["c4_fineweb_text"])[0]
        if self._with_words:
            row["words"] = " ".join(split_into_words(text))
        return row

    def _run(self, name: str, watch: str, text: str) -> tuple[str, str]:
        from datatrove.data import Document

        document = Document(text=text, id="")
        begin = time.process_time()
        try:
            result = self._filters[name].filter(document)
        except ZeroDivisionError:
            result = (False, "error: division by zero")
        self.cpu_s[watch] += time.process_time() - begin
        reason = "" if result is True else "dropped" if result is False else str(result[1])
        return reason, "" if reason else document.text


if __name__ == "__main__":
    main()
