"""The shape of a proxy model, the ladder of named sizes, and what a shape costs.

A shape fixes everything about a Llama-style decoder except its weights. Models of equal shape can be
trained as one stack. The ladder spans three orders of magnitude, so that a study can be repeated at the
next size up with the same words:

    name    d_model  layers  heads  d_ff   seq_len  N (non-embedding)
    pico         64       2      2   192       256      0.11 M
    nano        128       2      2   256       256      0.33 M
    tiny        192       2      3   576       256      0.96 M
    micro       256       4      4   672       512      3.1  M
    mini        384       6      6  1024       512     10.6  M
    small       512      10      8  1408      1024     32.1  M
    base        640      12     10  1728      1024     59.5  M
    large       768      14     12  2048      1024     99.1  M

Source: Llama (Touvron et al. 2023, arXiv:2302.13971, section 2.2); the sizes pico, nano and tiny are those
of Prill's own calibration of small proxies. Costs: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from prill.errors import Problem, RecipeError, near

__all__ = [
    "LADDER",
    "Rung",
    "Shape",
    "flops_per_token",
    "ladder_shape",
    "memory_bytes",
    "models_at_a_time",
]

DENSE_ATTENTION_UP_TO = 256  # tokens of a row whose attention scores a CPU keeps
NEAR_VALUES = 1 << 24  # activations of a block, over the models that are taken at a time
BESIDE = 32 << 20  # chunks of logits, and what libraries keep


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama-style decoder: RMSNorm before each block, rotary positions, SwiGLU, no biases.

    Args:
        vocab_size: number of token ids.
        d_model: width of the residual stream.
        n_layers: number of blocks, each attention then feed-forward.
        n_heads: attention heads; `d_model / n_heads` must be even.
        d_ff: width of the gated feed-forward layer.
        seq_len: longest row, and longest context, in tokens.
        tied: the output head is the transposed embedding.
        rope_theta: base of the rotary frequencies.
        norm_eps: added to the mean square in RMSNorm.
    Raises:
        RecipeError: a number is not positive, or the heads do not divide the width; tells all problems.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    seq_len: int
    tied: bool = True
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        problems = [
            Problem(message=f"`{name}` must be at least 1, found {getattr(self, name)}", where="model shape")
            for name in ("vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "seq_len")
            if getattr(self, name) < 1
        ]
        if not problems and (self.d_model % self.n_heads or self.head_dim % 2):
            problems.append(
                Problem(
                    message=f"`d_model` must be an even multiple of `n_heads`, "
                    f"found {self.d_model} and {self.n_heads}",
                    where="model shape",
                    hint="rotary positions turn pairs of numbers within each head",
                )
            )
        if problems:
            raise RecipeError.of(problems)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def n_params(self) -> int:
        """Non-embedding parameters N: what scaling laws count."""
        block = 4 * self.d_model**2 + 3 * self.d_model * self.d_ff + 2 * self.d_model
        return self.n_layers * block + self.d_model

    @property
    def n_embedding(self) -> int:
        """Parameters of the embedding, and of the head when it is not tied."""
        return self.vocab_size * self.d_model * (1 if self.tied else 2)

    @property
    def n_total(self) -> int:
        """All parameters of one model."""
        return self.n_params + self.n_embedding


class Rung(NamedTuple):
    """One size of the ladder, without the vocabulary."""

    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    seq_len: int


LADDER: dict[str, Rung] = {
    "pico": Rung(64, 2, 2, 192, 256),
    "nano": Rung(128, 2, 2, 256, 256),
    "tiny": Rung(192, 2, 3, 576, 256),
    "micro": Rung(256, 4, 4, 672, 512),
    "mini": Rung(384, 6, 6, 1024, 512),
    "small": Rung(512, 10, 8, 1408, 1024),
    "base": Rung(640, 12, 10, 1728, 1024),
    "large": Rung(768, 14, 12, 2048, 1024),
}


def ladder_shape(name: str, *, vocab_size: int, seq_len: int | None = None, tied: bool = True) -> Shape:
    """The shape of a named size.

    Args:
        name: a name of `LADDER`.
        vocab_size: number of token ids of the tokenizer in use.
        seq_len: overrides the rung's row length, in tokens.
        tied: the output head is the transposed embedding.
    Raises:
        RecipeError: no size has this name.
    """
    rung = LADDER.get(name)
    if rung is None:
        raise RecipeError(
            f"no model size is called {name!r}", where="model size", hint=near(name, list(LADDER))
        )
    return Shape(
        vocab_size=vocab_size,
        d_model=rung.d_model,
        n_layers=rung.n_layers,
        n_heads=rung.n_heads,
        d_ff=rung.d_ff,
        seq_len=seq_len or rung.seq_len,
        tied=tied,
    )


def flops_per_token(shape: Shape, *, training: bool = True) -> int:
    """Floating-point operations for one token in a row of `seq_len`.

    Training = 6 (N + V d) + 6 L T d: a multiply and an add for each weight of the blocks and of the head,
    once forward and twice backward; attention meets T / 2 keys on average, in two products of width d
    (2 x 2 x T/2 x d a layer, times three). Scoring is a third of that. The embedding lookup costs nothing.

    Source: Kaplan et al. 2020, section 2.1. Differs: the head is counted, because at proxy size it is half of
    the work; attention counts the causal half.
    """
    matmul = 2 * (shape.n_params + shape.vocab_size * shape.d_model)
    attention = 2 * shape.n_layers * shape.seq_len * shape.d_model
    return (3 if training else 1) * (matmul + attention)


def models_at_a_time(shape: Shape, *, n_models: int, n_tokens: int, near_values: int = NEAR_VALUES) -> int:
    """Models of a stack whose forward and backward pass run as one on a CPU, for `n_tokens` tokens each."""
    n_values = n_tokens * (2 * shape.d_ff + 6 * shape.d_model)
    n_passes = -(-n_models * n_values // near_values)
    return max(1, -(-n_models // n_passes))  # passes of about the same size


def memory_bytes(
    shape: Shape, *, n_models: int, n_rows: int, bytes_per_value: int = 4, recompute: bool = False
) -> int:
    """An estimate of the peak memory of training a stack on a CPU, without the interpreter.

    Weights, gradient, two moments and the trunk's copies at a branch are kept in 32 bits (7 x 4 bytes a
    parameter) beside a working copy of the weights and the blocks' own gradients. Of every token a layer
    keeps two fp32 streams and 6 d + 3 f values, and its attention scores where rows are dense (256 tokens at
    most); the backward pass takes about one layer more. Only as many models as run at a time count. With an
    objective all run at once, which this does not know.

    Args:
        shape: of every model.
        n_models: K.
        n_rows: rows of a step, each of `seq_len` tokens.
        bytes_per_value: 4 in fp32, 2 in bf16.
        recompute: blocks are computed again in the backward pass; their inputs are kept.
    """
    width, length = bytes_per_value, shape.seq_len
    weights = n_models * (shape.n_total * (7 * 4 + width) + shape.n_params * width)
    scores = shape.n_heads * length if length <= DENSE_ATTENTION_UP_TO else 0
    block = 8 * shape.d_model + (6 * shape.d_model + 3 * shape.d_ff + scores) * width
    between = (4 + width) * shape.d_model
    token = (shape.n_layers * between + 2 * block) if recompute else (shape.n_layers + 1) * block
    mask = 0 if scores else 2 * length * width
    together = models_at_a_time(shape, n_models=n_models, n_tokens=n_rows * length)
    return weights + together * n_rows * length * (token + mask) + BESIDE
