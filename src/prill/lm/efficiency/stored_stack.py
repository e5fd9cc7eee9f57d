"""What a later stage of a procedure starts from and reads: K stored models, and a feed from a row on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.data import Rows
from prill.lm.feed.feed import Feed
from prill.lm.shape import Shape, flops_per_token

if TYPE_CHECKING:
    import torch

    from prill.lm.model import StackedLlama

__all__ = ["Later", "StoredStack"]


@dataclass(frozen=True, kw_only=True)
class StoredStack:
    """K different models of one shape from K folders; a `Start`. Model k is the one in `folders[k]`."""

    folders: tuple[Path, ...]

    @property
    def shape(self) -> Shape:
        """Of the models.

        Raises:
            DataError: a folder holds no model; RecipeError: the shapes differ.
        """
        from prill.lm.checkpoint import read_shape

        shapes = [read_shape(folder) for folder in self.folders]
        if len(set(shapes)) != 1:
            raise RecipeError("a stack needs models of one shape, found several", where=str(self.folders[0]))
        return shapes[0]

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
        """The models, with `n_extra` trailing columns of zeros; seeds only say how many are wanted.

        Raises:
            RecipeError: not as many seeds as folders.
        """
        import torch

        from prill.lm.checkpoint import load_model
        from prill.lm.model import StackedLlama

        if len(seeds) != len(self.folders):
            raise RecipeError(
                f"a stored stack of {len(self.folders)} models needs as many runs, found {len(seeds)}",
                where="stored stack",
            )
        flat = torch.cat([load_model(folder)[0].flat for folder in self.folders])
        extra = torch.zeros(len(seeds), n_extra)
        return StackedLlama(self.shape, torch.cat([flat, extra], 1).to(device), dtype=dtype)

    def as_record(self) -> dict[str, Any]:
        """Shape and hashes of the weights."""
        from prill.lm.bases.folder import folder_digest

        files = [folder_digest(folder, config="model.json") for folder in self.folders]
        return {"start": "stored stack", "shape": asdict(self.shape), "files": files}


@dataclass(frozen=True, kw_only=True)
class Later:
    """A feed from one of its base rows on; a `Feed`."""

    feed: Feed
    skipped: int

    @property
    def name(self) -> str:
        """Named in errors."""
        return self.feed.name

    @property
    def n_tokens(self) -> int:
        """Of one pass over everything."""
        return self.feed.n_tokens

    @property
    def highest_id(self) -> int:
        """The largest token id that a row may hold."""
        return self.feed.highest_id

    def rows(self, first: int, count: int) -> Rows:
        """Base rows, counted from the first that is left."""
        return self.feed.rows(first + self.skipped, count)

    def documents(self, first: int, count: int) -> list[str]:
        """What these base rows hold."""
        return self.feed.documents(first + self.skipped, count)

    def digest(self) -> str:
        """Hash of everything that decides the rows."""
        return f"{self.feed.digest()}+{self.skipped}"
