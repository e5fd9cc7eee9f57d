"""The part of a document that a rater sees.

Source: the released annotator of DataMan (arXiv:2502.19363): quoted ellipses at the start and empty image
links go; beyond 20,000 characters the first and last 10,000 stay; beyond 1,894 tokens the first and last
947 with `...` between them. Differs: both ends of the characters are one text when tokens are counted, and
stay characters of the document instead of being decoded from tokens; the tokenizer is the rater's own where
it is at hand, else the run's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from prill.features.rater.rubric import Span

__all__ = ["TokenEnds", "shown"]

TokenEnds = Callable[[Sequence[str]], list[NDArray[np.int64]]]
"""Where each token of each text ends, in characters: `TextTokenizer.end_batch`."""

_MARK = "..."
_ELLIPSIS = re.compile('^["“”](?:…|\\.\\.\\.)[….]*["“”]')
_EMPTY_IMAGE = re.compile(r"!\[\]\([^()\n]{1,2000}\)\n?")


def shown(text: str, span: Span, token_ends: TokenEnds, *, max_tokens: int | None = None) -> str:
    """What the rater sees of one document.

    Args:
        max_tokens: another bound of the tokens, of a model with a short context; the smaller one holds.
    """
    text = _EMPTY_IMAGE.sub("", _ELLIPSIS.sub("", text))
    if span.is_head:
        text = text[: span.max_characters]
    elif len(text) > span.max_characters:
        half = span.max_characters // 2
        text = text[:half] + text[-half:]
    bounds = [bound for bound in (span.max_tokens, max_tokens) if bound is not None]
    if bounds and len(text.encode()) > min(bounds):  # a token has at least one byte
        text = _within(text, min(bounds), token_ends, is_head=span.is_head)
    return text.strip()


def _within(text: str, most: int, token_ends: TokenEnds, *, is_head: bool) -> str:
    ends = token_ends([text])[0]
    if len(ends) <= most:
        return text
    if is_head:
        return text[: int(ends[most - 1])]
    half = most // 2
    return text[: int(ends[half - 1])] + _MARK + text[int(ends[-half - 1]) :]
