"""The windows in which a document that is longer than the context is read.

The first window predicts m tokens; each next one predicts the following m - c + 1 with the tokens before
them as context, and the last one reaches back as far as m allows. Every token is predicted exactly once.

Source: the rolling windows of EleutherAI's lm-evaluation-harness (`get_rolling_token_windows`). Differs:
none; a window is given by places in the document instead of lists of tokens.
"""

from __future__ import annotations

from typing import NamedTuple

from prill.errors import RecipeError

__all__ = ["Window", "windows"]


class Window(NamedTuple):
    """Tokens `first`..`stop` of a document are predicted in one window, `scored`..`stop` count."""

    first: int
    scored: int
    stop: int

    @property
    def length(self) -> int:
        """Places it takes in a row."""
        return self.stop - self.first


def windows(n_tokens: int, max_len: int, *, context: int = 1) -> list[Window]:
    """The windows of a document; token `first` of each is predicted from the token before it.

    Args:
        n_tokens: length of the document; without tokens there is no window.
        max_len: longest window, m.
        context: c, the fewest tokens a window after the first reads before what it predicts; 1 makes
            windows disjoint, m / 2 halves the cost of a cut at twice the work.
    Raises:
        RecipeError: not 1 <= c <= m.
    """
    if not 1 <= context <= max_len:
        raise RecipeError(
            f"the context of a window must be 1 to its length {max_len}, found {context}", where="context"
        )
    if n_tokens == 0:
        return []
    found = [Window(0, 0, min(max_len, n_tokens))]
    while found[-1].stop < n_tokens:
        scored = found[-1].stop
        stop = min(n_tokens, scored + max_len - context + 1)
        found.append(Window(stop - max_len, scored, stop))
    return found
