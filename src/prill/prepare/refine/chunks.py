"""What a refiner is shown: a document's lines, numbered, in chunks that fit its window.

Source: Zhou et al. 2024 (ProX), arXiv:2409.17115, appendix A. Differs: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["CHUNK_TOKENS", "chunk_prompts", "numbered_lines"]

CHUNK_TOKENS: Final = 1_500


def numbered_lines(text: str) -> list[str]:
    """The lines with their numbers from 0: `[000]first`.

    >>> numbered_lines("a\\nb")
    ['[000]a', '[001]b']
    """
    return [f"[{number:03d}]{line}" for number, line in enumerate(text.split("\n"))]


def chunk_prompts(
    text: str, count: Callable[[Sequence[str]], Sequence[int]], *, chunk_tokens: int = CHUNK_TOKENS
) -> list[str]:
    """The chunks of a document, each between `[doc]` and `[/doc]`; numbers run through the document.

    Lines are taken while they fit; a line that does not fit a chunk alone is a chunk of its own.

    Args:
        count: tokens of each of some strings.
        chunk_tokens: most tokens of a chunk, counted line by line.
    """
    lines = numbered_lines(text)
    chunks: list[list[str]] = []
    room = 0
    for line, n_tokens in zip(lines, count(lines), strict=True):
        if not chunks or n_tokens > room:
            chunks.append([])
            room = chunk_tokens
        chunks[-1].append(line)
        room -= int(n_tokens)
    return ["[doc]" + "\n".join(chunk) + "[/doc]" for chunk in chunks]
