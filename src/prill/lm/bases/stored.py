"""Prill's own checkpoints, or any folder that holds a model, as the start of a training.

Axes: K models, V vocabulary, d width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill.errors import DataError, RecipeError
from prill.lm.bases.adapters import Lora
from prill.lm.bases.base import TransformersBase
from prill.lm.bases.folder import CONFIG, folder_digest
from prill.lm.shape import Shape, flops_per_token

if TYPE_CHECKING:
    import torch

    from prill.lm.learner import Learner, Start
    from prill.lm.model import StackedLlama

__all__ = ["StoredProxy", "load_scorer", "open_base"]

OWN, ADAPTERS = "model.json", "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class StoredProxy:
    """Continue from one of Prill's own checkpoints; a `Start`. All K models start alike.

    Args:
        folder: with model.safetensors and model.json.
        max_context: longest row, tokens; default: the model's.
        n_added: rows to add to the vocabulary for tags; each begins as the mean of the others.
    Raises:
        RecipeError: `n_added` is negative.
    """

    folder: Path
    max_context: int | None = None
    n_added: int = 0

    def __post_init__(self) -> None:
        if self.n_added < 0:
            raise RecipeError(f"`n_added` must be at least 0, found {self.n_added}", where="base")

    @property
    def shape(self) -> Shape:
        """The model's shape, with the added rows.

        Raises:
            RecipeError: `max_context` is out of bounds.
        """
        from prill.lm.checkpoint import read_shape

        stored = read_shape(self.folder)
        context = self.max_context or stored.seq_len
        if not 1 <= context <= stored.seq_len:
            raise RecipeError(
                f"`max_context` must be 1 to the model's {stored.seq_len} tokens, found {context}",
                where="base.max_context",
            )
        return dataclasses.replace(stored, seq_len=context, vocab_size=stored.vocab_size + self.n_added)

    @property
    def vocab_size(self) -> int:
        """Ids must be below it."""
        return self.shape.vocab_size

    @property
    def context(self) -> int:
        """The longest row, tokens."""
        return self.shape.seq_len

    @property
    def flops_per_token(self) -> int:
        """Of training, forward and backward, in rows of full length."""
        return flops_per_token(self.shape)

    @property
    def n_params(self) -> int:
        """Parameters of one model without embedding and head."""
        return self.shape.n_params

    def width(self) -> int:
        """Width of the hidden states."""
        return self.shape.d_model

    def learner(
        self, seeds: Sequence[int], *, n_extra: int, dtype: torch.dtype, device: torch.device
    ) -> StackedLlama:
        """K copies of the model, with `n_extra` trailing columns of zeros; the seeds decide nothing.

        Raises:
            DataError: the checkpoint is damaged, pickled or not finite.
        """
        import torch

        from prill.lm.checkpoint import load_model
        from prill.lm.model import StackedLlama
        from prill.lm.parameters import views

        model, _ = load_model(self.folder)
        shape = self.shape
        flat = torch.zeros(1, shape.n_total + n_extra)
        wide = views(flat[:, : shape.n_total], shape)
        for name, stored in views(model.flat, model.shape).items():
            n_rows = stored.shape[1]
            wide[name][:, :n_rows] = stored
            if wide[name].shape[1] > n_rows:
                wide[name][:, n_rows:] = stored.mean(1, keepdim=True)
        return StackedLlama(shape, flat.repeat(len(seeds), 1).to(device), dtype=dtype)

    def as_record(self) -> dict[str, Any]:
        """What decides the models: the hash of the weights, and the settings."""
        digest = folder_digest(self.folder, config=OWN)
        return {
            "start": "stored",
            "version": 1,
            "files": digest,
            "context": self.context,
            "n_added": self.n_added,
        }


def open_base(
    folder: Path,
    *,
    max_context: int | None = None,
    n_added: int = 0,
    lora: Lora | None = None,
    frozen: tuple[str, ...] = (),
    is_checkpointed: bool = False,
    eos: str | None = None,
    trust_remote_code: bool = False,
) -> Start:
    """The start that a folder holds: one of Prill's checkpoints, or a `transformers` model.

    Raises:
        DataError: there is no such folder, or it holds neither.
        RecipeError: adapters or frozen parts for one of Prill's own checkpoints.
    """
    if (folder / OWN).is_file():
        if lora is not None or frozen or is_checkpointed:
            raise RecipeError(
                "adapters, frozen parts and gradient checkpointing need a `transformers` folder, "
                "found one of Prill's checkpoints",
                where=str(folder),
                hint="export it first",
            )
        return StoredProxy(folder=folder, max_context=max_context, n_added=n_added)
    if not (folder / CONFIG).is_file():
        raise _no_model(folder)
    return TransformersBase(
        folder=folder,
        max_context=max_context,
        n_added=n_added,
        lora=lora,
        frozen=frozen,
        is_checkpointed=is_checkpointed,
        eos=eos,
        trust_remote_code=trust_remote_code,
    )


def load_scorer(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    base: Path | None = None,
    trust_remote_code: bool = False,
) -> Learner:
    """A model for scoring from any folder: Prill's own, a `transformers` model, or adapters on one.

    Args:
        folder: what training or `transformers` wrote.
        dtype: the compute type.
        device: where to compute.
        base: of adapters; default: the folder that they name.
        trust_remote_code: code in the folder may run.
    Raises:
        DataError: there is no model, or it is damaged, pickled or not finite.
    """
    if (folder / OWN).is_file():
        from prill.lm.checkpoint import load_model

        return load_model(folder, dtype=dtype, device=device)[0]
    if (folder / ADAPTERS).is_file():
        from prill.lm.bases.building import build_merged

        return build_merged(
            folder, dtype=dtype, device=device, base=base, trust_remote_code=trust_remote_code
        )
    if not (folder / CONFIG).is_file():
        raise _no_model(folder)
    start = TransformersBase(folder=folder, trust_remote_code=trust_remote_code)
    return start.learner([0], n_extra=0, dtype=dtype, device=device)


def _no_model(folder: Path) -> DataError:
    return DataError(
        f"expected a model: config.json of `transformers` or {OWN} of Prill, found "
        + ("neither" if folder.is_dir() else "no such folder"),
        where=str(folder),
    )
