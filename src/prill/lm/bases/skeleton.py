"""A loaded `transformers` model as a function of its flat weights: what copies of a learner share.

Axes: B rows, T tokens a row, N = B T, d width, f feed-forward width, V vocabulary.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prill.errors import DataError, RecipeError
from prill.lm.bases.adapters import Lora, add_adapters
from prill.lm.bases.attention import KEYWORD, Division, register
from prill.lm.bases.flat import FlatParameters
from prill.lm.bases.loading import body_of, check_frozen_names
from prill.lm.bases.logits import HeadRule, head_rule

__all__ = ["Skeleton", "build", "head_of", "prepare"]

DOWN = ("down_proj", "dense_4h_to_h", "fc2", "c_proj", "fc_out", "w2")


@dataclass(kw_only=True, eq=False)
class Skeleton:
    """A model without weights of its own but the frozen ones.

    Attributes:
        folder: where it came from.
        model: the library's causal language model.
        wrapped: peft's wrapper around it, or None.
        flat: its trained parameters.
        rule: how its head makes logits.
        opening_id: what takes the place of end-of-text in front of a document; None: nothing.
        eos_id: end-of-text; None: unknown.
        trust_remote_code: the folder's own code may run, again when it is read again.
        is_checkpointed: layers are computed again in the backward pass instead of kept.
    """

    folder: Path
    model: Any
    wrapped: Any
    flat: FlatParameters
    rule: HeadRule
    opening_id: int | None
    eos_id: int | None
    trust_remote_code: bool
    is_checkpointed: bool

    def __post_init__(self) -> None:
        self._active: list[torch.Tensor] | None = None
        self._hooks = [
            module.register_forward_pre_hook(self._keep_input) for module in _down_projections(self.model)
        ]
        if self.flat.dtype != torch.float32:
            self.embedding_module.register_forward_hook(self._cast_output)

    @property
    def embedding_module(self) -> Any:
        """The input table's module."""
        return self.model.get_input_embeddings()

    def hidden(self, inputs: torch.Tensor, positions: torch.Tensor, division: Division) -> torch.Tensor:
        """Last hidden states behind the final norm, (1, N, d), from ids and positions, (1, N)."""
        register()  # a model that came to a worker process was not loaded there
        found = body_of(self.model)(
            input_ids=inputs, position_ids=positions, use_cache=False, **{KEYWORD: division}
        )
        states: torch.Tensor = found.last_hidden_state
        return states

    def head(self) -> torch.Tensor:
        """The head in the compute type, (1, V, d)."""
        weight: torch.Tensor = self.model.get_output_embeddings().weight
        return weight.detach().to(self.flat.dtype)[None]

    def row_bytes(self, row_tokens: int) -> int:
        """About what the activations of one row take: 18 d + 5 f values a token and layer.

        With checkpointing the input of every layer is kept, and one layer's activations at a time.
        """
        config = self.model.config.get_text_config()
        width, n_layers = int(config.hidden_size), int(config.num_hidden_layers)
        inner = int(getattr(config, "intermediate_size", None) or 4 * width)
        layer = 18 * width + 5 * inner
        values = n_layers * width + layer if self.is_checkpointed else n_layers * layer
        return row_tokens * values * (2 if self.flat.dtype == torch.bfloat16 else 4)

    @contextmanager
    def keeping_activations(self, *, wanted: bool) -> Iterator[list[torch.Tensor]]:
        """The inputs of every down projection of the passes within, each (1, N, f), if wanted."""
        kept: list[torch.Tensor] = []
        self._active = kept if wanted else None
        try:
            yield kept
        finally:
            self._active = None

    def check_density(self) -> None:
        """Raises RecipeError where the feed-forward activations cannot be had."""
        if self.is_checkpointed:
            raise RecipeError(
                "a density term needs the activations that gradient checkpointing throws away",
                where="objective",
                hint="train without gradient checkpointing",
            )
        if not self._hooks:
            raise RecipeError(
                f"expected feed-forward layers with a down projection, found none in "
                f"{type(self.model).__name__}",
                where="objective",
            )

    def _keep_input(self, module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if self._active is not None:
            self._active.append(arguments[0])

    def _cast_output(self, module: nn.Module, arguments: object, output: torch.Tensor) -> torch.Tensor:
        return output.to(self.flat.dtype)


def prepare(model: Any, *, lora: Lora | None, frozen: Sequence[str], seed: int, is_checkpointed: bool) -> Any:
    """Put adapters in or freeze parts of a loaded model, in place; returns peft's wrapper, or None.

    Raises:
        RecipeError: nothing is left to train; a frozen pattern or an adapter's target names nothing.
    """
    wrapped = None
    if lora is None:
        _freeze(model, tuple(frozen))
    else:
        wrapped = add_adapters(model, lora, seed=seed)
    if not any(p.requires_grad for p in model.parameters()):
        raise RecipeError("expected something to train, found every parameter frozen", where="frozen")
    if is_checkpointed:
        _checkpoint(model)
    return wrapped


def build(
    model: Any,
    wrapped: Any,
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    is_checkpointed: bool,
    opening_id: int | None,
    eos_id: int | None,
    trust_remote_code: bool,
) -> Skeleton:
    """A skeleton of a prepared model, moved to the device, what is frozen cast to the compute type."""
    model.to(device)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    embedding = model.get_input_embeddings().weight
    flat = FlatParameters(model, embedding=embedding, head=head_of(model).weight, dtype=dtype)
    return Skeleton(
        folder=folder,
        model=model,
        wrapped=wrapped,
        flat=flat,
        rule=head_rule(model.config),
        opening_id=opening_id,
        eos_id=eos_id,
        trust_remote_code=trust_remote_code,
        is_checkpointed=is_checkpointed,
    )


def head_of(model: Any) -> Any:
    """The output head; DataError where there is none, or one with a bias."""
    head = model.get_output_embeddings()
    name = type(model).__name__
    if head is None or getattr(head, "weight", None) is None:
        raise DataError("expected a language model with an output head, found none", where=name)
    if getattr(head, "bias", None) is not None:
        raise DataError("expected a head without a bias, found one", where=name)
    return head


def _freeze(model: Any, patterns: tuple[str, ...]) -> None:
    names = [name for name, _ in model.named_parameters()]
    check_frozen_names(names, patterns)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def _checkpoint(model: Any) -> None:
    """Recompute layers in the backward pass. Only they are told to be in training: dropout stays off."""
    if not model.supports_gradient_checkpointing:
        raise RecipeError(
            f"{type(model).__name__} cannot compute layers again in the backward pass",
            where="gradient_checkpointing",
        )
    settings = {"use_reentrant": False, "preserve_rng_state": False}
    renamed = getattr(model, "activation_checkpointing_enable", None)  # from transformers 5
    (renamed or model.gradient_checkpointing_enable)(settings)
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True


def _down_projections(model: Any) -> list[nn.Module]:
    """What leads from the feed-forward width back to the model's, one a layer."""
    return [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in DOWN and "mlp" in name.split(".")
    ]
