"""Low-rank adapters on a base, through `peft`: LoRA, rsLoRA, DoRA, and LayRA's choice of layers.

    y = W x + (alpha / rank) B A x,   A uniform, B = 0, so the first output is the base's, exactly

Only A and B (and DoRA's magnitudes) are trained; everything else keeps its bits. A is drawn from a generator
keyed by (seed, name), so an adapter of a seed starts the same in any process.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; layers: LayRA, arXiv:2509.11414; magnitudes:
arXiv:2402.09353. Differs: A's generator.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prill.errors import Problem, RecipeError, ResourceError

__all__ = ["Lora", "adapted_layers", "add_adapters"]


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Which adapters to put on a base.

    Args:
        rank: r, width of the adapter; r (d_in + d_out) trained numbers for each matrix.
        alpha: the adapter counts alpha / rank; default: twice the rank.
        targets: ends of the names of adapted matrices (`q_proj`); empty: every one but the head.
        first_layers, last_layers: adapt only the first a and last b layers, as LayRA does; both None: all.
        is_rank_stable: the adapter counts alpha / sqrt(rank) instead.
        has_magnitudes: DoRA: train each row's norm apart from its direction.
    Raises:
        RecipeError: a number is out of bounds; tells all.
    """

    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    first_layers: int | None = None
    last_layers: int | None = None
    is_rank_stable: bool = False
    has_magnitudes: bool = False

    def __post_init__(self) -> None:
        bounds = (
            ("rank", self.rank, self.rank >= 1, "at least 1"),
            ("alpha", self.alpha, self.alpha is None or self.alpha > 0, "above 0"),
            ("first_layers", self.first_layers, (self.first_layers or 0) >= 0, "at least 0"),
            ("last_layers", self.last_layers, (self.last_layers or 0) >= 0, "at least 0"),
        )
        problems = [
            Problem(message=f"`{name}` must be {rule}, found {value}", where="lora")
            for name, value, is_fine, rule in bounds
            if not is_fine
        ]
        chosen = (self.first_layers, self.last_layers)
        if chosen != (None, None) and not any(chosen):
            problems.append(Problem(message="expected at least one adapted layer, found 0", where="lora"))
        if problems:
            raise RecipeError.of(problems)

    @property
    def scale(self) -> float:
        """What the adapter's product is multiplied by."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return alpha / (math.sqrt(self.rank) if self.is_rank_stable else self.rank)


def adapted_layers(lora: Lora, n_layers: int) -> list[int] | None:
    """Numbers of the adapted layers; None: all.

    Raises:
        RecipeError: there are not so many.
    """
    if lora.first_layers is None and lora.last_layers is None:
        return None
    first, last = lora.first_layers or 0, lora.last_layers or 0
    if max(first, last) > n_layers:
        raise RecipeError(
            f"expected at most the model's {n_layers} layers, found {first} and {last}", where="lora"
        )
    return sorted({*range(first), *range(n_layers - last, n_layers)})


def add_adapters(model: Any, lora: Lora, *, seed: int) -> Any:
    """Put adapters into a `transformers` model, in place; returns peft's wrapper around it.

    Raises:
        ResourceError: peft is not installed.
        RecipeError: no matrix has such a name, or there are fewer layers.
    """
    if importlib.util.find_spec("peft") is None:
        raise ResourceError(
            "adapters need the package peft, found none",
            where="this Python environment",
            hint="install it with: pip install 'prill[bases]'",
        )
    import torch

    peft: Any = importlib.import_module("peft")
    layers = adapted_layers(lora, model.config.num_hidden_layers)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha if lora.alpha is not None else 2 * lora.rank,
        target_modules=_targets(model, lora.targets),
        layers_to_transform=layers,
        use_rslora=lora.is_rank_stable,
        use_dora=lora.has_magnitudes,
        fan_in_fan_out=_has_transposed(model),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), without_warnings():  # peft draws A before we do
        wrapped = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    _draw(wrapped, seed)
    return wrapped


@contextmanager
def without_warnings() -> Iterator[None]:
    """For calls of peft, which uses names that the library below it has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _targets(model: Any, wanted: Sequence[str]) -> list[str]:
    """Ends of the names of linear maps, the head's excluded."""
    import torch

    linear = (torch.nn.Linear, _transposed_linear())
    head = model.get_output_embeddings()
    names = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, linear) and module is not head
        }
    )
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise RecipeError(
            f"no matrix of {type(model).__name__} is called {unknown[0]!r}",
            where="lora.targets",
            hint="it has: " + ", ".join(names),
        )
    return list(wanted) or names


def _transposed_linear() -> type:
    """GPT-2's linear map, which keeps its matrix as (d_in, d_out)."""
    found: type = importlib.import_module("transformers.pytorch_utils").Conv1D
    return found


def _has_transposed(model: Any) -> bool:
    return any(isinstance(module, _transposed_linear()) for module in model.modules())


def _draw(wrapped: Any, seed: int) -> None:
    """Kaiming-uniform A, keyed by seed and name: within 1 / sqrt(d_in) of 0. peft has set B to 0."""
    import torch

    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_A." in name:
                bound = 1 / math.sqrt(parameter.shape[1])
                key = hashlib.sha256(f"prill-adapter-1:{seed}:{name}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
