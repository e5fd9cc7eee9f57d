"""Rows of one base on the device, divided into documents.

A document opens with the token that the model was trained to open one with (`<s>`, `<bos>`), where its
tokenizer says so, in the place where the feed has end-of-text. Axes: B rows, T tokens a row, N = B T.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from prill.errors import DataError
from prill.lm.bases.attention import Division, division_of
from prill.lm.packed import Packed, pack

if TYPE_CHECKING:
    from prill.lm.data import Rows

__all__ = ["DividedRows", "divided_rows", "division_for"]


@dataclass(frozen=True, kw_only=True)
class DividedRows(Packed):
    """Packed rows with their division into documents, which needs no mask."""

    division: Division


def divided_rows(
    rows: Rows, *, dtype: torch.dtype, device: torch.device, opening_id: int | None, eos_id: int | None
) -> DividedRows:
    """Rows of shape (1, B, T) on the device.

    Args:
        rows: of one model.
        dtype: the compute type.
        device: of the model.
        opening_id: what takes the place of `eos_id` in front of a document; None: nothing.
        eos_id: end-of-text.
    """
    packed = pack(rows, dtype=dtype, device=device)
    inputs = packed.inputs
    if opening_id is not None and eos_id is not None:
        opens = (packed.positions.view(1, -1) == 0) & (inputs == eos_id)
        inputs = torch.where(opens, opening_id, inputs)
    known = {field.name: getattr(packed, field.name) for field in fields(Packed)} | {"inputs": inputs}
    return DividedRows(**known, division=division_of(packed))


def division_for(batch: Packed) -> Division:
    """The division of rows, also of those of another learner, whose teacher this one is.

    Raises:
        DataError: they are rows of several models.
    """
    if batch.n_models != 1:
        raise DataError(f"expected rows of one model, found {batch.n_models}", where="base model")
    if isinstance(batch, DividedRows):
        return batch.division
    return division_of(batch)
