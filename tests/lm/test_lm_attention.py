"""Attention within segments: against masked attention over the whole row, forward and backward."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import InternalError

torch = pytest.importorskip("torch")

from prill.lm.attention import Segments, segment_attention  # noqa: E402


def heads(n_rows: int, n_heads: int, n_tokens: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_rows, n_heads, n_tokens, 8, generator=generator, dtype=torch.float64)


def masked(query, key, value, lengths, *, window=None, softcap=None):  # type: ignore[no-untyped-def]
    """The textbook formula: scores over the whole row, forbidden ones at -inf."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(owner))
    distance = place[:, None] - place[None, :]
    allowed = (owner[:, None] == owner[None, :]) & (distance >= 0)
    if window is not None:
        allowed &= distance < window
    times = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return (torch.softmax(scores.masked_fill(~allowed, -torch.inf), 3) @ value).transpose(1, 2)


SHORT_AND_LONG = st.lists(st.integers(1, 12) | st.sampled_from([16, 47, 49, 60]), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(SHORT_AND_LONG, st.sampled_from([(1, 4, 4), (2, 4, 2), (3, 2, 1)]), st.sampled_from([None, 1, 3, 50]))
def test_equals_masked_attention_over_the_whole_row(
    lengths: list[int], sizes: tuple[int, int, int], window: int | None
) -> None:
    rows, n_heads, groups = sizes
    query, key = heads(rows, n_heads, sum(lengths)), heads(rows, groups, sum(lengths), seed=1)
    value = heads(rows, groups, sum(lengths), seed=2)
    found = segment_attention(query, key, value, Segments(lengths), window=window)
    torch.testing.assert_close(
        found, masked(query, key, value, lengths, window=window), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (4, None), (None, 2.0), (4, 2.0)])
def test_gradients_equal_those_of_masked_attention(window: int | None, softcap: float | None) -> None:
    lengths = [60, 5, 3, 3, 9, 1, 20]
    inputs = [heads(2, n, sum(lengths), seed=n).requires_grad_() for n in (4, 2, 2)]
    above = torch.randn(
        2, sum(lengths), 4, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    ours = segment_attention(*inputs, Segments(lengths), window=window, softcap=softcap)
    theirs = masked(*inputs, lengths, window=window, softcap=softcap)
    # the capped softmax is taken in fp32
    close = {"rtol": 1e-5, "atol": 1e-6} if softcap else {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(ours, theirs, **close)
    for mine, wanted in zip(
        torch.autograd.grad(ours, inputs, above), torch.autograd.grad(theirs, inputs, above), strict=True
    ):
        torch.testing.assert_close(mine, wanted, **close)


def test_a_segment_does_not_see_its_neighbours() -> None:
    lengths = [7, 30, 3, 50, 2]
    query, key, value = (heads(1, 2, sum(lengths), seed=n) for n in range(3))
    before = segment_attention(query, key, value, Segments(lengths))
    for x in (query, key, value):
        x[:, :, 7:37] = torch.nan  # the second segment
    after = segment_attention(query, key, value, Segments(lengths))
    kept = [*range(7), *range(37, sum(lengths))]
    assert torch.equal(before[:, kept], after[:, kept])
    assert after[:, 7:37].isnan().all()


def test_a_row_that_is_not_covered_is_refused() -> None:
    row = heads(1, 1, 5)
    with pytest.raises(InternalError, match="expected 4 tokens, found 5"):
        segment_attention(row, row, row, Segments([3, 1]))
    with pytest.raises(InternalError, match="at least one token"):
        Segments([3, 0])


def test_bf16_is_padded_to_few_lengths_without_a_trace() -> None:
    lengths = [100, 130, 64, 3, 200]
    inputs = [heads(1, 2, sum(lengths), seed=n).bfloat16().requires_grad_() for n in range(3)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    ours = segment_attention(*inputs, Segments(lengths))
    theirs = masked(*exact, lengths)
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=0.03)  # 8 bits
    above = torch.ones_like(ours)
    for mine, wanted in zip(
        torch.autograd.grad(ours, inputs, above),
        torch.autograd.grad(theirs, exact, above.double()),
        strict=True,
    ):
        torch.testing.assert_close(mine.double(), wanted, rtol=0.03, atol=0.06)
