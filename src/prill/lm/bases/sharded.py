"""Train a base whose weights are spread over several processes: FSDP2 under torchrun.

    torchrun --nproc-per-node 8 ...
    with joined(device) as world:
        trainer = ShardedTrainer.open(base, world, settings, seed=0, n_extra=0, dtype=dtype, device=device)
        loss, norm = trainer.step(rows_of(world.part(first, count)), rate)

Every process holds a share of each weight, gradient and moment, and gathers a layer when it is computed. Its
rows are its own; losses are weighted by trained tokens, so a step is that of one process to rounding. The
head and the loss are one function that never holds all logits, as in `prill.lm.head`.

For bases that do not fit one device; smaller ones train faster with `prill.lm.distributed`. Each process
reads the whole model into host memory once. A density term is not supported.

Axes: N tokens of this process, d width, V vocabulary, E extra parameters of the objective.
Source: Zhao et al. 2023, arXiv:2304.11277; Rajbhandari et al. 2020, arXiv:1910.02054, stage 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from prill.errors import DataError, RecipeError
from prill.lm.bases.attention import KEYWORD
from prill.lm.bases.building import Opened, add_rows, open_model
from prill.lm.bases.export import save_adapters, write_model
from prill.lm.bases.loading import body_of, load_base
from prill.lm.bases.logits import HeadRule, head_rule
from prill.lm.bases.rows import DividedRows, divided_rows, division_for
from prill.lm.head import terms_of
from prill.lm.tensorfile import read_tensors, write_tensors

if TYPE_CHECKING:
    from prill.lm.bases.base import TransformersBase
    from prill.lm.data import Rows
    from prill.lm.distributed import World
    from prill.lm.objectives.objective import At, Objective
    from prill.lm.optimizer import AdamSettings

__all__ = ["ShardedTrainer"]

STATE = "sharded.safetensors"


class ShardedTrainer:
    """A base with its optimiser, spread over the processes of a world."""

    def __init__(
        self,
        base: TransformersBase,
        world: World,
        settings: AdamSettings,
        *,
        opened: Opened,
        shell: _Shell,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._base = base
        self._world = world
        self._settings = settings
        self._opened = opened
        self._shell = shell
        self._dtype = dtype
        self._device = device
        trained = [p for p in shell.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        betas = (settings.beta1, settings.beta2)
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=settings.eps)

    @classmethod
    def open(
        cls,
        base: TransformersBase,
        world: World,
        settings: AdamSettings,
        *,
        seed: int,
        n_extra: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> ShardedTrainer:
        """Read a base in every process and keep this one's share.

        Args:
            base: the model and what of it is trained.
            world: from `prill.lm.distributed.joined`; of at least two processes.
            settings: of AdamW.
            seed: of adapters.
            n_extra: E of the objective.
            dtype: the compute type; weights, gradients and moments are fp32.
            device: this process's own.
        Raises:
            RecipeError: there is only one process.
            PrillError: as `TransformersBase.learner`.
        """
        if world.size < 2:
            raise RecipeError(
                "a base is spread over at least two processes, found one",
                where="distributed training",
                hint="start with torchrun --nproc-per-node 2 or more, or train without sharding",
            )
        opened = open_model(base, seed)
        shell = _Shell(opened.model, head_rule(opened.model.config), n_extra)
        _shard(shell, world, dtype, device)
        return cls(base, world, settings, opened=opened, shell=shell, dtype=dtype, device=device)

    def step(
        self, rows: Rows, rate: float, objective: Objective | None = None, at: At | None = None
    ) -> tuple[float, float]:
        """Train on one step.

        Args:
            rows: of this process, (1, B, T); every process brings some.
            rate: learning rate.
            objective, at: as of a `Learner`.
        Returns:
            Mean loss over all processes' trained tokens, nats, and the gradient's norm before clipping.
        """
        loss, count = self._shell(self._packed(rows), objective, at)
        sums = torch.stack([loss.detach() * count, count])
        dist.all_reduce(sums)
        total = sums[1].clamp_min(1.0)
        self._optimizer.zero_grad(set_to_none=True)
        (loss * (count * self._world.size / total)).backward()  # FSDP takes the mean over processes
        norm = self._norm()
        scale = float(1.0 / (norm / self._settings.clip_norm).clamp_min(1.0))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(scale)
        self._optimizer.step()
        return float(sums[0] / total), float(norm)

    @torch.no_grad()
    def token_losses(self, rows: Rows) -> torch.Tensor:
        """Plain cross-entropy of this process's targets, nats, fp32, (1, N); all processes must call it."""
        found: torch.Tensor = self._shell(self._packed(rows), None, None, is_scored=True)
        return found

    def save(self, folder: Path, meta: Mapping[str, Any]) -> list[Path]:
        """Write the model, or its adapters, as `HfLearner.save` does; the main process writes and returns.

        Raises:
            ResourceError: the disk is full or not writable.
        """
        trained = {name: full for name, full in self._full(self._named()) if name != "extra"}
        if not self._world.is_main:
            return []
        source = self._base.folder
        if self._opened.wrapped is not None:
            return save_adapters(self._opened.wrapped, trained, source, folder, meta)
        model = load_base(source, trust_remote_code=self._base.trust_remote_code)  # for what is frozen
        if self._base.n_added:
            add_rows(model, self._base.n_added)
        state = {name: trained.get(name, parameter.data) for name, parameter in model.named_parameters()}
        return write_model(model, state, source, folder, meta)

    def write_state(self, folder: Path, meta: Mapping[str, Any]) -> None:
        """Keep trained weights, moments and the number of steps; the main process writes.

        Raises:
            ResourceError: the disk is full or not writable.
        """
        kept: dict[str, torch.Tensor] = {}
        n_steps = 0
        for name, parameter in self._named():
            state = self._optimizer.state.get(parameter, {})
            n_steps = max(n_steps, int(state.get("step", 0)))
            parts = {"w": parameter.detach(), "m": state.get("exp_avg"), "v": state.get("exp_avg_sq")}
            own = [(f"{key}.{name}", value) for key, value in parts.items() if value is not None]
            kept.update(self._full(own))
        if self._world.is_main:
            write_tensors(folder / STATE, kept, {"n_steps": n_steps, "meta": dict(meta)})

    def read_state(self, folder: Path) -> dict[str, Any]:
        """Go on from what `write_state` kept, with any number of processes; returns its `meta`.

        Raises:
            DataError: absent, damaged, or of another model.
        """
        tensors, header = read_tensors(folder / STATE)
        expected = {f"w.{name}" for name, _ in self._named()}
        if {name for name in tensors if name.startswith("w.")} != expected:
            raise DataError("expected the state of this model, found another's", where=str(folder / STATE))
        for name, parameter in self._named():
            with torch.no_grad():
                parameter.copy_(_like(tensors[f"w.{name}"], parameter))
            if f"m.{name}" in tensors:
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(header["n_steps"])),
                    "exp_avg": _like(tensors[f"m.{name}"], parameter),
                    "exp_avg_sq": _like(tensors[f"v.{name}"], parameter),
                }
        return dict(header["meta"])

    def _packed(self, rows: Rows) -> DividedRows:
        return divided_rows(
            rows,
            dtype=self._dtype,
            device=self._device,
            opening_id=self._opened.opening_id,
            eos_id=self._opened.eos_id,
        )

    def _norm(self) -> torch.Tensor:
        """Of the whole gradient, fp32."""
        own = [p.grad for p in self._shell.parameters() if p.grad is not None]
        local = [g.to_local() if isinstance(g, DTensor) else g for g in own]
        total = torch.stack([part.float().square().sum() for part in local]).sum()
        dist.all_reduce(total)
        return total.sqrt()

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trained parameters by the names that the model gives them."""
        for name, parameter in self._shell.named_parameters():
            if parameter.requires_grad:
                yield name.removeprefix("model."), parameter

    def _full(self, named: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Whole tensors on the CPU of the main process, one at a time; all processes take part."""
        for name, value in named:
            full = value.detach()
            full = full.full_tensor() if isinstance(full, DTensor) else full
            if self._world.is_main:
                yield name, full.cpu()


class _Shell(nn.Module):
    """Model, head and loss as one module, so that the root's weights are gathered for all of it."""

    def __init__(self, model: Any, rule: HeadRule, n_extra: int) -> None:
        super().__init__()
        self.model = model
        self.rule = rule
        self.extra = nn.Parameter(torch.zeros(n_extra)) if n_extra else None

    def forward(
        self, batch: DividedRows, objective: Objective | None, at: At | None, *, is_scored: bool = False
    ) -> Any:
        """Loss and number of trained tokens, fp64; or, scored, the loss of every target, (1, N)."""
        hidden = body_of(self.model)(
            input_ids=batch.inputs,
            position_ids=batch.positions.view(1, -1),
            use_cache=False,
            **{KEYWORD: division_for(batch)},
        ).last_hidden_state
        head = self.model.get_output_embeddings().weight
        if is_scored:
            return self.rule.losses(hidden, head.detach()[None], batch.targets)
        extra = hidden.new_zeros(0) if self.extra is None else self.extra
        return _HeadLoss.apply(hidden, head, extra, self.rule, batch, objective, at)  # type: ignore[no-untyped-call]


class _HeadLoss(torch.autograd.Function):
    """The loss from hidden states (1, N, d), head (V, d) and extra (E,), with gradients for all three."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        extra: torch.Tensor,
        rule: HeadRule,
        batch: DividedRows,
        objective: Objective | None,
        at: At | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        below = hidden.detach()
        terms = terms_of(objective, below, batch, extra.detach().float()[None], at)
        if terms.density:
            raise RecipeError("a density term does not go with sharded weights", where="objective")
        into = torch.empty(1, *head.shape, device=head.device) if ctx.needs_input_grad[1] else None
        losses, above = rule.backward(
            below, head.detach()[None], batch.targets, into, terms=terms, soft=batch.soft
        )
        own = torch.zeros_like(extra) if terms.extra_gradient is None else terms.extra_gradient[0]
        for_head = None if into is None else into[0].to(head.dtype)
        ctx.save_for_backward(above, for_head, own.to(extra.dtype))
        count = batch.targets.numel() if terms.weights is None else int((terms.weights != 0).sum())
        return losses[0].double(), torch.tensor(float(count), dtype=torch.float64, device=head.device)

    @staticmethod
    def backward(ctx: Any, share: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = [None if x is None else x * share.to(x.dtype) for x in ctx.saved_tensors]
        return *found, None, None, None, None


def _shard(shell: _Shell, world: World, dtype: torch.dtype, device: torch.device) -> None:
    """Spread every layer, then what is left with the root; weights in fp32, computed with in `dtype`."""
    mesh = init_device_mesh(device.type, (world.size,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in _layers(shell.model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(shell, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def _layers(model: Any) -> nn.ModuleList:
    """The model's layers: the list that has as many modules as the configuration has layers."""
    n_layers = int(model.config.get_text_config().num_hidden_layers)
    found = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if not found:
        raise DataError(f"expected a list of {n_layers} layers, found none", where=type(model).__name__)
    return found[0]


def _like(full: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor spread as a parameter is."""
    if not isinstance(parameter, DTensor):
        return full.to(parameter.device)
    return distribute_tensor(full.to(parameter.device), parameter.device_mesh, parameter.placements)
