"""A model spread over ranks: FSDP2 by block, hybrid, or DDP; its loss, its gradients and their norm.

Gradients are summed over ranks, never averaged: every rank divides its loss by the weight of the whole batch, so that
targets count alike whichever rank holds them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from assay.nn.batch import TensorBatch
from assay.nn.compiling import compile_blocks
from assay.nn.init import initialize
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.spec.parameters import layout as parameter_layout
from assay.training.optimizer import global_norm
from assay.training.parallel.layout import Layout
from assay.training.parallel.world import World

__all__ = ["Criterion", "Shards", "Team"]


class Criterion(nn.Module):
    """The loss as a module: DDP and FSDP hook into a forward pass, and a `Transformer` has none of its own."""

    def __init__(self, model: Transformer) -> None:
        """Args: model: whose loss it is."""
        super().__init__()
        self.model = model

    def forward(self, batch: TensorBatch, z_loss: float) -> Tensor:
        """Sum over the batch's targets of weight x nats."""
        return loss_sum(self.model, batch, z_loss=z_loss).total


class Shards(nn.Module):
    """What this rank holds of a model: plain tensors under the parameters' names, as optimizers take them.

    They share memory with the model's own parameters, which are DTensors where they are cut.
    """

    def __init__(self, model: nn.Module) -> None:
        """Args: model: as it lies between steps, cut."""
        super().__init__()
        self.pairs: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        for name, whole in model.named_parameters():
            mine = nn.Parameter(whole._local_tensor) if isinstance(whole, DTensor) else whole
            self.pairs[name.replace("_orig_mod.", "")] = whole, mine

    def named_parameters(  # type: ignore[override]
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Name, and this rank's part."""
        for name, (_, mine) in self.pairs.items():
            yield name, mine


class Team:
    """A model on several ranks, as one of them holds it.

    Attributes:
        world, layout: the ranks and their arrangement.
        model: the transformer; between steps its parameters are cut where the layout cuts.
        shards: this rank's part of it.
    """

    def __init__(
        self, model: Transformer, layout: Layout, world: World, *, dtype: str, seed: int | None = None
    ) -> None:
        """Spread a model, in place.

        Args:
            model: the same weights on every rank; or on the meta device, where none are cut off from a whole.
            layout: who holds what.
            world: the ranks.
            dtype: of the arithmetic. bfloat16: blocks are gathered in it (half of the bytes on the way), gradients are
                summed in float32, weights and moments stay float32.
            seed: of the first weights of a model on the meta device: each rank keeps its rows of them, and at no time
                holds more than one tensor whole.
        """
        self.model, self.layout, self.world = model, layout, world
        self.stacks = [stack for stack in (model.encoder, model.decoder) if stack is not None]
        self.blocks = [block for stack in self.stacks for block in stack.blocks]
        criterion = Criterion(model)
        self.module: nn.Module = self._shard(criterion, dtype) if layout.sharded else self._copy(criterion)
        if seed is not None:
            self._draw(seed)
        # FSDP2 cuts no scalars (DyT's): they stay whole, and their gradients are summed by hand.
        self.scalars = [p for p in model.parameters() if p.ndim == 0 and layout.sharded]
        self.shards = Shards(model)

    # Spreading

    def _copy(self, criterion: nn.Module) -> nn.Module:
        # Looking for unused parameters also keeps the buckets as they are: a run that goes on adds in the same order.
        with warnings.catch_warnings():  # newer versions of torch have another name for this, older ones have not
            warnings.simplefilter("ignore", FutureWarning)
            module = DistributedDataParallel(criterion, broadcast_buffers=False, find_unused_parameters=True)
        module.register_comm_hook(None, _sum_bucket)
        return module

    def _shard(self, criterion: nn.Module, dtype: str) -> nn.Module:
        layout, device = self.layout, str(self.world.device or "cpu").partition(":")[0]
        if layout.replicas > 1:
            mesh = init_device_mesh(
                device, (layout.replicas, layout.shard), mesh_dim_names=("replicate", "shard")
            )  # fmt: skip
        else:
            mesh = init_device_mesh(device, (layout.shard,), mesh_dim_names=("shard",))
        self.mesh, self.group = mesh, mesh.get_group("shard")
        shared: dict[str, Any] = {"mesh": mesh, "ignored_params": {p for p in criterion.parameters() if p.ndim == 0}}
        # Inputs keep their types: position tables and the residual stream are float32.
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        low = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        for block in self.blocks:
            fully_shard(block, mp_policy=policy if dtype == "float32" else low, **shared)
        fully_shard(criterion, mp_policy=policy, **shared)
        for part in self._parts(criterion):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        return criterion

    @torch.no_grad()
    def _draw(self, seed: int) -> None:
        """As `nn.build` draws, a tensor at a time, of which this rank's rows are kept."""
        assert self.layout.sharded
        device, place = self.world.device or "cpu", self.mesh.get_local_rank("shard")
        self.module.to_empty(device=device)
        for module in self.model.modules():
            for name, value in getattr(module, "constants", {}).items():
                setattr(module, name, torch.tensor(value, dtype=torch.float32, device=device))
        parameters = dict(self.model.named_parameters())
        for info in parameter_layout(self.model.spec):
            parameter = parameters[info.name]
            whole = torch.empty(info.shape, dtype=parameter.dtype)
            initialize(whole, info, self.model.spec, seed)
            if isinstance(parameter, DTensor):
                rows = self.layout.held_rows(info.shape[0], place)
                parameter._local_tensor.copy_(whole[rows.start : rows.stop])
            else:
                parameter.copy_(whole)

    @staticmethod
    def _parts(module: nn.Module) -> list[FSDPModule]:
        return [part for part in module.modules() if isinstance(part, FSDPModule)]

    # A step

    def loss_sum(self, batch: TensorBatch, z_loss: float) -> Tensor:
        """Sum over this rank's targets of weight x nats."""
        return self.module(batch, z_loss)

    def part(self, *, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one part of a step: copies sum their gradients after the last one alone."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        return nullcontext()

    def collect(self) -> None:
        """After the last backward pass: gradients come to lie where the optimizer reads them."""
        for whole, mine in self.shards.pairs.values():
            if isinstance(whole, DTensor):
                mine.grad = None if whole.grad is None else cast(DTensor, whole.grad)._local_tensor
                whole.grad = None
        found = [p.grad for p in self.scalars if p.grad is not None]
        if found:
            table = torch.stack(found)
            dist.all_reduce(table)
            torch._foreach_copy_(found, list(table.unbind()))

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """The norm of all gradients, from what each rank holds of them."""
        if not self.layout.sharded:
            return global_norm(gradients)
        alone = {id(p.grad) for p in self.scalars}
        cut = [g for g in gradients if id(g) not in alone]
        table = torch.tensor([global_norm(cut) ** 2], dtype=torch.float64)
        dist.all_reduce(table, group=self.group)
        whole = [g for g in gradients if id(g) in alone]
        return math.sqrt(float(table) + (global_norm(whole) ** 2 if whole else 0.0))

    # Measuring

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Inside, forward passes without gradients see whole weights, a block at a time; all ranks make as many."""
        if not self.layout.sharded:
            yield
            return
        kept = [block.__dict__.get("forward") for block in self.blocks]
        root = cast(FSDPModule, self.module)
        root.unshard()
        for block in self.blocks:
            block.forward = _gathered(block)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for block, forward in zip(self.blocks, kept, strict=True):
                del block.__dict__["forward"]
                if forward is not None:
                    block.__dict__["forward"] = forward
            root.reshard()

    # Compiling

    def compile(self) -> str | None:
        """`compile_blocks`; where blocks are cut, gathering stays outside of what is compiled.

        Returns:
            None, or why the model stays eager.
        """
        reason = compile_blocks(self.model)
        if reason is None and self.layout.sharded:
            for stack in self.stacks:
                stack.groups = ()  # a group's blocks would be run without being gathered
            for block in self.blocks:
                block._compiled_call_impl = None
                block.forward = torch.compile(block.forward, dynamic=False)  # type: ignore[method-assign]
        return reason

    def eager(self) -> None:
        """Undo `compile`."""
        for module in self.model.modules():
            module._compiled_call_impl = None
            module.__dict__.pop("forward", None)


def _gathered(block: nn.Module) -> Callable[..., Tensor]:
    def forward(*args: Any, **named: Any) -> Tensor:
        cast(FSDPModule, block).unshard()
        try:
            return type(block).forward(block, *args, **named)
        finally:
            cast(FSDPModule, block).reshard()

    return forward


def _sum_bucket(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's communication, adding up where its own would take the mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda future: future.value()[0])


_sum_bucket.__annotations__.clear()  # DDP compares them as types, and here they are text
