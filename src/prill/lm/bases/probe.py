"""Does this model keep documents apart when they are packed? It is asked, not assumed.

Two short documents are scored packed through our attention and one at a time through the library's own,
head included. They differ by more than rounding when a class mixes tokens outside its attention, changes
its logits in a way we do not know, or reads positions of its own. Axes: N tokens, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from prill.errors import DataError
from prill.lm.attention import Segments
from prill.lm.bases.attention import ATTENTION, KEYWORD, Division
from prill.lm.bases.loading import body_of, set_attention
from prill.lm.bases.logits import HeadRule

__all__ = ["check_packing"]

LENGTHS = [5, 8]
TOLERANCE = 2e-3  # nats a token in fp32: far above rounding, far below what a wrong class does


@torch.no_grad()
def check_packing(model: Any, rule: HeadRule, folder: Path) -> None:
    """Ask a model in fp32.

    Raises:
        DataError: packed and separate documents get other losses, or the class refuses.
    """
    head = model.get_output_embeddings().weight
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, head.shape[0], (1, sum(LENGTHS)), generator=drawn).to(head.device)
    targets = tokens.roll(-1, 1)
    where = f"{folder} ({type(model).__name__})"
    try:
        packed, apart = _packed(model, rule, tokens, targets), _apart(model, tokens, targets)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"expected a model that reads packed rows, found: {error}", where=where) from error
    worst = float((packed - apart).abs().max())
    if not worst < TOLERANCE:
        raise DataError(
            "expected a document to have one loss, alone or in a row with others, "
            f"found {worst:.2g} nats between",
            where=where,
            hint="models of this class cannot be trained on or score packed rows",
        )


def _packed(model: Any, rule: HeadRule, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Losses of the documents in one row, (N,)."""
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None].to(tokens.device)
    division = Division(segments=Segments(LENGTHS), mask=None, n_rows=1)
    found = body_of(model)(
        input_ids=tokens, position_ids=positions, use_cache=False, **{KEYWORD: division}
    ).last_hidden_state
    n_layers = int(model.config.get_text_config().num_hidden_layers)
    if division.n_asked < n_layers:
        raise DataError(
            f"expected every layer to ask where documents end, found that {division.n_asked} of its "
            f"{n_layers} layers asked",
            where=type(model).__name__,
            hint="documents in one row would see each other: use another model class",
        )
    return rule.losses(found, model.get_output_embeddings().weight.detach()[None], targets)[0]


def _apart(model: Any, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Losses of each document alone, by the library's own attention and head, (N,)."""
    set_attention(model, "eager")
    try:
        found = []
        pairs = zip(torch.split(tokens, LENGTHS, 1), torch.split(targets, LENGTHS, 1), strict=True)
        for ids, wanted in pairs:
            shares = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=1)
            found.append(-shares.gather(1, wanted[0, :, None])[:, 0])
    finally:
        set_attention(model, ATTENTION)
    return torch.cat(found)
