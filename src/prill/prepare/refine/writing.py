"""Having programs written: prompts for a refiner behind an endpoint, answers kept, a file of programs made.

A document is judged first, on its beginning; one that stays gets a program for each chunk, and these are
joined. Text that does not fit the budget gets no program, and a later run goes on from there.

Source: Zhou et al. 2024 (ProX), arXiv:2409.17115, section 3 and the released refiners. Differs: a document is
cut before it is put into the prompt, so that the end of the prompt is never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from prill.features.asking.answers import BudgetSpent
from prill.features.asking.asker import Asker
from prill.prepare.refine.chunks import CHUNK_TOKENS, chunk_prompts
from prill.run.atomic import atomic_write

__all__ = ["ProgramWriter", "write_programs"]

_SYSTEM: Final = "You are a helpful, respectful and honest assistant."
_DOCUMENT_CHARACTERS: Final = 8_000


@dataclass(frozen=True, kw_only=True)
class ProgramWriter:
    """Asks for the programs of documents.

    Args:
        document, chunk: ask the refiners that judge documents and write line programs; None leaves one out.
        count: tokens of each of some strings, by which chunks are filled.
    """

    document: Asker | None
    chunk: Asker | None
    count: Callable[[Sequence[str]], Sequence[int]]
    chunk_tokens: int = CHUNK_TOKENS

    def __call__(self, text: str) -> tuple[str | None, str | None]:
        """The document program and the chunk program of a text; None where none was asked for.

        Raises:
            BudgetSpent: the budget does not suffice for all of its parts; answers so far are kept.
            PrillError: as `Endpoint.ask` does.
        """
        said = None
        if self.document is not None:
            beginning = text[:_DOCUMENT_CHARACTERS]
            said = self.document(beginning, prompt_id="refine-document", system=_SYSTEM).text
            if "drop_doc" in said:
                return said, None
        if self.chunk is None:
            return said, None
        chunks = chunk_prompts(text, self.count, chunk_tokens=self.chunk_tokens)
        programs = [self.chunk(chunk, prompt_id="refine-chunk", system=_SYSTEM).text for chunk in chunks]
        return said, "\n".join(programs)


def write_programs(path: Path, texts: Sequence[str], hashes: Sequence[str], writer: ProgramWriter) -> int:
    """Write the file that `read_programs` reads; returns how many documents the budget left out.

    Args:
        hashes: of the texts, 32 hexadecimal digits each.
    """
    lines: list[bytes] = []
    for text, text_hash in zip(texts, hashes, strict=True):
        try:
            document, chunk = writer(text)
        except BudgetSpent:
            continue
        lines.append(orjson.dumps({"hash": text_hash, "doc_program": document, "chunk_program": chunk}))
    atomic_write(path, b"".join(line + b"\n" for line in lines))
    return len(texts) - len(lines)
