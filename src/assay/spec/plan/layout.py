"""How ranks share the work: one value that says who holds what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assay.spec.axes import Family
from assay.spec.model import ModelSpec

__all__ = ["Fixed", "Layout", "divisors", "layouts"]


@dataclass(frozen=True)
class Layout:
    """A grid of ranks: `replicate` x `shard` data-parallel, times `tensor`, times `pipeline`.

    Neighbouring ranks are tensor-parallel, then sharded, then replicated; pipeline stages lie farthest apart.
    """

    replicate: int = 1
    """Groups that each hold a whole copy of the weights and add up their gradients."""
    shard: int = 1
    """Ranks over which a copy is cut, along the first dimension of every tensor."""
    tensor: int = 1
    """Ranks that share every matrix product (Shoeybi et al. 2019), activations cut along the sequence between them."""
    pipeline: int = 1
    """Stages of consecutive layers, one forward and one backward in turn (Narayanan et al. 2021)."""
    interleave: int = 1
    """Pieces of a stage, to shorten the pipeline's idle time."""
    full: bool = True
    """Weights, gradients and optimizer are sharded (FSDP, ZeRO-3); False: the optimizer alone (ZeRO-1)."""
    micro: int = 1
    """Sequences of one forward and backward pass, on each data-parallel rank."""
    checkpointing: bool = False
    """Each layer's input is kept, and the rest computed again."""

    @property
    def data(self) -> int:
        """Ranks that see different sequences."""
        return self.replicate * self.shard

    @property
    def gpus(self) -> int:
        """All ranks."""
        return self.data * self.tensor * self.pipeline

    @property
    def gathers(self) -> bool:
        """Whether weights are gathered for every pass: FSDP."""
        return self.full and self.shard > 1

    @property
    def copies(self) -> bool:
        """Whether every rank holds its weights, gradients and moments whole: DDP, or a GPU alone."""
        return self.full and self.shard == 1

    @property
    def trainable(self) -> bool:
        """Whether assay's own training runs it: data parallelism, by shards, copies or both."""
        return self.tensor == self.pipeline == 1 and self.full

    @property
    def kind(self) -> str:
        """What people call it."""
        if self.gpus == 1:
            return "one GPU"
        if self.shard == 1:
            name = "replicated" if self.replicate > 1 else ""
        elif not self.full:
            name = "optimizer sharded"
        else:
            name = "hybrid sharded" if self.replicate > 1 else "fully sharded"
        rest = ["tensor"] * (self.tensor > 1) + ["pipeline"] * (self.pipeline > 1)
        return " + ".join([name, *rest] if name else rest)

    def __str__(self) -> str:
        """'8 x 64, tensor 4, micro-batch 2'."""
        said = [f"{self.replicate} replicate x {self.shard} shard"]
        for name, value in (("tensor", self.tensor), ("pipeline", self.pipeline), ("interleave", self.interleave)):
            said += [f"{name} {value}"] * (value > 1)
        said.append(f"micro-batch {self.micro}")
        said += ["checkpointing"] * self.checkpointing + ["ZeRO-1"] * (not self.full and self.shard > 1)
        return ", ".join(said)


@dataclass(frozen=True)
class Fixed:
    """What the user decided; None: to be found."""

    replicate: int | None = None
    shard: int | None = None
    tensor: int | None = None
    pipeline: int | None = None
    micro: int | None = None
    checkpointing: bool | None = None


def divisors(n: int) -> list[int]:
    """All divisors, ascending."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


def layouts(spec: ModelSpec, gpus: int, sequences: int, node: int, fixed: Fixed) -> Iterator[Layout]:
    """Every layout worth a look, those that differ in micro-batch alone next to each other, large ones first.

    Tensor parallelism stays inside a node, and cuts heads and the feed-forward's width evenly. A pipeline has at
    most as many stages as layers. Shards are the whole data-parallel group, a power of two that fills a node or more,
    or one.

    Args:
        spec: the model.
        gpus: ranks.
        sequences: of a step, on all ranks together.
        node: accelerators behind fast links.
        fixed: what is decided already.
    """
    for tensor in _tensors(spec, gpus, node) if fixed.tensor is None else [fixed.tensor]:
        if gpus % tensor:
            continue
        for pipeline in _pipelines(spec, gpus // tensor) if fixed.pipeline is None else [fixed.pipeline]:
            if gpus // tensor % pipeline:
                continue
            data = gpus // tensor // pipeline
            if sequences % data:
                continue
            for shard in _shards(data, max(node // tensor, 1), fixed):
                yield from _rest(Layout(data // shard, shard, tensor, pipeline), sequences // data, fixed)


def _rest(grid: Layout, each: int, fixed: Fixed) -> Iterator[Layout]:
    """The grid with what does not change it: checkpointing, what is sharded, micro-batches.

    Under a pipeline weights stay whole, since each of its many micro-batches would gather them again.
    """
    most = 64 if grid.pipeline == 1 else 8
    micros = [m for m in divisors(each) if m <= most][::-1] if fixed.micro is None else [fixed.micro]
    sharded = (False,) if grid.pipeline > 1 else (True, False) if grid.tensor > 1 and grid.shard > 1 else (True,)
    for full in sharded:
        for checkpointing in (False, True) if fixed.checkpointing is None else (fixed.checkpointing,):
            for micro in micros:
                if each % micro == 0:
                    yield Layout(
                        grid.replicate, grid.shard, grid.tensor, grid.pipeline,
                        full=full, micro=micro, checkpointing=checkpointing,
                    )  # fmt: skip


def _tensors(spec: ModelSpec, gpus: int, node: int) -> list[int]:
    sizes = [spec.heads(stack) for stack in spec.stacks] + [spec.feedforward_width(stack) for stack in spec.stacks]
    return [t for t in divisors(gpus) if t <= min(node, 16) and all(size % t == 0 for size in sizes)]


def _pipelines(spec: ModelSpec, ranks: int) -> list[int]:
    if spec.family is Family.encoder_decoder:
        return [1]
    depth = spec.depth(spec.output_stack)
    return [p for p in divisors(ranks) if p <= depth]


def _shards(data: int, near: int, fixed: Fixed) -> list[int]:
    if fixed.shard is not None:
        return [fixed.shard] if data % fixed.shard == 0 else []
    if fixed.replicate is not None:
        return [data // fixed.replicate] if data % fixed.replicate == 0 else []
    return sorted({d for d in divisors(data) if d & (d - 1) == 0 and d >= near} | {data, 1})
