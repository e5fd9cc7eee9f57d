"""A learner from a base's settings: load, ask, extend, adapt, freeze, flatten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from prill.lm.bases.export import read_adapters
from prill.lm.bases.learner import HfLearner
from prill.lm.bases.loading import load_base
from prill.lm.bases.logits import head_rule
from prill.lm.bases.probe import check_packing
from prill.lm.bases.skeleton import build, head_of, prepare

if TYPE_CHECKING:
    from prill.lm.bases.base import TransformersBase

__all__ = ["Opened", "add_rows", "build_learner", "build_merged", "open_model"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model that is ready to be trained, in fp32 on the CPU.

    Attributes:
        model: the library's.
        wrapped: peft's wrapper around it, or None.
        opening_id: what the model was trained to open a document with; None: end-of-text.
        eos_id: end-of-text; None: there is no tokenizer.
    """

    model: Any
    wrapped: Any
    opening_id: int | None
    eos_id: int | None


def open_model(base: TransformersBase, seed: int) -> Opened:
    """Load, check and prepare a base.

    Raises:
        PrillError: as `TransformersBase.learner`.
    """
    model = load_base(base.folder, trust_remote_code=base.trust_remote_code)
    _check(model, base.folder)
    ids = _document_ids(base)
    if base.n_added:
        add_rows(model, base.n_added)
    wrapped = prepare(
        model, lora=base.lora, frozen=base.frozen, seed=seed, is_checkpointed=base.is_checkpointed
    )
    return Opened(model=model, wrapped=wrapped, opening_id=ids[0], eos_id=ids[1])


def build_learner(
    base: TransformersBase, seed: int, *, n_extra: int, dtype: torch.dtype, device: torch.device
) -> HfLearner:
    """As `TransformersBase.learner`."""
    return _learner(open_model(base, seed), base, n_extra=n_extra, dtype=dtype, device=device)


def build_merged(
    adapters: Path, *, dtype: torch.dtype, device: torch.device, base: Path | None, trust_remote_code: bool
) -> HfLearner:
    """A learner of a base with adapters added to it in fp32.

    Raises:
        DataError: adapters or base are damaged, pickled, or do not fit each other.
    """
    from prill.lm.bases.base import TransformersBase

    wrapped, source = read_adapters(adapters, base=base, trust_remote_code=trust_remote_code)
    model = wrapped.merge_and_unload()
    _check(model, source)
    model.requires_grad_(True)
    start = TransformersBase(folder=source, trust_remote_code=trust_remote_code)
    ids = _document_ids(start)
    opened = Opened(model=model, wrapped=None, opening_id=ids[0], eos_id=ids[1])
    return _learner(opened, start, n_extra=0, dtype=dtype, device=device)


def _learner(
    opened: Opened, base: TransformersBase, *, n_extra: int, dtype: torch.dtype, device: torch.device
) -> HfLearner:
    """The module computes with the flat weights from the start, for those who ask it alone."""
    skeleton = build(
        opened.model,
        opened.wrapped,
        base.folder,
        dtype=dtype,
        device=device,
        is_checkpointed=base.is_checkpointed,
        opening_id=opened.opening_id,
        eos_id=opened.eos_id,
        trust_remote_code=base.trust_remote_code,
    )
    flat = skeleton.flat.gather(n_extra=n_extra, device=device)
    skeleton.flat.load(flat)
    return HfLearner(skeleton, flat)


def _check(model: Any, folder: Path) -> None:
    head_of(model)
    check_packing(model, head_rule(model.config), folder)


def _document_ids(base: TransformersBase) -> tuple[int | None, int | None]:
    """What opens and what ends a document, as the tokenizer says; None, None without one."""
    if not (base.folder / "tokenizer.json").is_file():
        return None, None
    return base.opening_id(), base.tokenizer().eos_id


def add_rows(model: Any, n_added: int) -> None:
    """Add rows to embedding and head; each begins as the mean of the others, so that none is far off."""
    n_before = int(model.get_input_embeddings().weight.shape[0])
    with torch.random.fork_rng(devices=[]):
        model.resize_token_embeddings(n_before + n_added, mean_resizing=False)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            table.weight[n_before:] = table.weight[:n_before].mean(0)
