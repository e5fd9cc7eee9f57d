"""A learner from a base's settings: load, ask, extend, adapt, freeze, flatten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from prill.lm.bases.export import read_adapters
from prill.lm.bases.learner import HfLearner
from prill.lm.bases.loading import load_base
from prill.lm.bases.logits import head_rule
from prill.lm.bases.probe import check_packing
from prill.lm.bases.skeleton import Skeleton, build, head_of

if TYPE_CHECKING:
    from prill.lm.bases.base import TransformersBase

__all__ = ["add_rows", "build_learner", "build_merged"]


def build_learner(
    base: TransformersBase, seed: int, *, n_extra: int, dtype: torch.dtype, device: torch.device
) -> HfLearner:
    """As `TransformersBase.learner`."""
    model = load_base(base.folder, trust_remote_code=base.trust_remote_code)
    head_of(model)
    check_packing(model, head_rule(model.config), base.folder)
    has_tokenizer = (base.folder / "tokenizer.json").is_file()
    eos_id = base.tokenizer().eos_id if has_tokenizer else None
    if base.n_added:
        add_rows(model, base.n_added)
    skeleton = build(
        model,
        base.folder,
        lora=base.lora,
        frozen=base.frozen,
        seed=seed,
        dtype=dtype,
        device=device,
        is_checkpointed=base.is_checkpointed,
        opening_id=base.opening_id(),
        eos_id=eos_id,
        trust_remote_code=base.trust_remote_code,
    )
    return _loaded(skeleton, n_extra=n_extra, device=device)


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
    check_packing(model, head_rule(model.config), source)
    start = TransformersBase(folder=source, trust_remote_code=trust_remote_code)
    model.requires_grad_(True)
    skeleton = build(
        model,
        source,
        lora=None,
        frozen=(),
        seed=0,
        dtype=dtype,
        device=device,
        is_checkpointed=False,
        opening_id=start.opening_id(),
        eos_id=start.tokenizer().eos_id if (source / "tokenizer.json").is_file() else None,
        trust_remote_code=trust_remote_code,
    )
    return _loaded(skeleton, n_extra=0, device=device)


def _loaded(skeleton: Skeleton, *, n_extra: int, device: torch.device) -> HfLearner:
    """The module computes with the flat weights from the start, for those who ask it alone."""
    flat = skeleton.flat.gather(n_extra=n_extra, device=device)
    skeleton.flat.load(flat)
    return HfLearner(skeleton, flat)


def add_rows(model: Any, n_added: int) -> None:
    """Add rows to embedding and head; each begins as the mean of the others, so that none is far off."""
    n_before = int(model.get_input_embeddings().weight.shape[0])
    with torch.random.fork_rng(devices=[]):
        model.resize_token_embeddings(n_before + n_added, mean_resizing=False)
    with torch.no_grad():
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            table.weight[n_before:] = table.weight[:n_before].mean(0)
