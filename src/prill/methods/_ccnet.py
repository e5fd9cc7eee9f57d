"""CCNet's arithmetic of perplexity: its normaliser, the pooling over lines, and its buckets.

CCNet scores Wikipedia-like fluency with an n-gram model a language. The model is not part of Prill; these
are the pure rules around it, so that scores made elsewhere can be checked and bucketed alike, and so that the
pool's own losses can be cut in the same way.

Source: Wenzek et al. 2019, arXiv:1911.00359, section 2.3, and its released code. The normaliser deletes line
breaks without a space in their place, as that code does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError

__all__ = ["ENGLISH_CUTS", "normalise", "pooled_perplexity", "quality_bucket", "relative_buckets"]

ENGLISH_CUTS: Final = (340.0, 520.0)
"""Perplexities at which the English buckets begin: below head, up to middle, from tail on."""

HEAD_SHARE, MIDDLE_SHARE = 0.3, 0.6

_DIGIT: Final = re.compile(r"\d")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")

# ASCII for other punctuation: the marks of each kind, then what stands for them.
_KINDS: Final = (
    ("\u201c\u201d\u201e\u00ab\u00bb\u300a\u300b\u300c\u300d\uff11", '"'),
    ("\u2019\u00b4", "'"),
    ("\uff0c\u3001", ","),
    ("\u3002", "."),
    ("\uff0e", ". "),
    ("\uff1a\u2236", ":"),
    ("\uff1b", ";"),
    ("\uff1f", "?"),
    ("\uff01", "!"),
    ("\uff08", "("),
    ("\uff09", ")"),
    ("\u3010", "["),
    ("\u3011", "]"),
    ("\u3008", "<"),
    ("\u3009", ">"),
    ("\uff05", "%"),
    ("\uff5e", "~"),
    ("\u2013\u2501\u25ba", "-"),
    ("\u2014", " - "),
    ("\u2026", "..."),
)
_ASCII: Final = str.maketrans({mark: plain for marks, plain in _KINDS for mark in marks})


def normalise(text: str) -> str:
    """The text as CCNet's n-gram models see it.

    Strip; lower case; drop accents; digits are 0; other punctuation is ASCII; control characters, line breaks
    among them, vanish without a space.
    """
    lower = text.strip().lower()
    bare = "".join(c for c in unicodedata.normalize("NFD", lower) if unicodedata.category(c) != "Mn")
    return _CONTROL.sub("", _DIGIT.sub("0", bare).translate(_ASCII))


def pooled_perplexity(log10_scores: Sequence[float], lengths: Sequence[int]) -> float:
    """10^(-sum of scores / sum of lengths): pooled over lines, not a mean of the lines' perplexities.

    Args:
        log10_scores: of each line, with its beginning and end.
        lengths: pieces of each line and one for its end.
    Raises:
        DataError: there is no line, or its length is not positive.
    """
    if not lengths or len(log10_scores) != len(lengths) or min(lengths) < 1:
        raise DataError(
            f"expected a score and a length of at least 1 for every line, found {len(log10_scores)} scores "
            f"and lengths {list(lengths)[:5]}",
            where="perplexity",
        )
    return float(10 ** (-sum(log10_scores) / sum(lengths)))


def quality_bucket(perplexity: float, cuts: tuple[float, float] | None = ENGLISH_CUTS) -> str:
    """`head`, `middle` or `tail`; `all` without a perplexity (below 0, not a number) or without cuts.

    Absolute cuts belong to one model and one crawl.
    """
    if cuts is None or not perplexity >= 0:
        return "all"
    return "head" if perplexity < cuts[0] else "middle" if perplexity < cuts[1] else "tail"


def relative_buckets(losses_D: NDArray[np.float64], pool_Q: NDArray[np.float64]) -> NDArray[Any]:
    """The same buckets, cut at the pool's own percentiles 30 and 60; strings, (D,).

    Args:
        losses_D: any increasing function of perplexity; NaN is `all`.
        pool_Q: the same of the pool, rising.
    """
    cuts = [pool_Q[min(int(share * len(pool_Q)), len(pool_Q) - 1)] for share in (HEAD_SHARE, MIDDLE_SHARE)]
    names = np.array(["head", "middle", "tail"], dtype=object)[
        np.searchsorted(cuts, losses_D, side="right").clip(max=2)
    ]
    return np.where(np.isfinite(losses_D), names, "all").astype(object)
