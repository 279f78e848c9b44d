"""Gather embeddings and average gradients across processes, exactly.

Each of W processes has a share of the batch. It computes the mean loss L_p of these queries
among the targets of all (`gather`). The loss of the whole batch of N is the mean over all queries,
L = Σ_p n_p/N · L_p, and its gradient comes out exactly:

- The backward pass of `gather` sums the gradients of all processes' losses for this process's
  rows, so its parameters receive the gradient of Σ_p L_p through its own share of the batch.
- Then gradients are averaged over processes: by DistributedDataParallel (which `accelerate`
  prepares models with) or by `average_gradients`. That is 1/W · Σ_p ∂L_p/∂parameters.
- With shares of one size this is ∂L/∂parameters: there is no factor. Otherwise each process
  multiplies its loss by `Gathered.weight`, n_p·W/N.

Parameters of the loss itself (temperatures) are averaged in the same way and come out exactly too;
DistributedDataParallel knows only the parameters that its `forward` uses, so `average_gradients`
is for them. In the other common way, where every process computes the whole loss, gradients of the
encoder must be multiplied by W, and those of the temperatures must not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, eq=False, slots=True)
class Gathered:
    """Rows of all processes.

    Attributes:
        rows: (N, dim), those of process 0 first; gradients flow back to where rows came from.
        offset: Where this process's rows begin.
        weight: n·W/N for n rows of this process: what its mean loss is multiplied by so that the
            average over processes is the mean over all rows. 1 where all have as many.
    """

    rows: Tensor
    offset: int
    weight: float


def gather(rows: Tensor) -> Gathered:
    """Gather the rows of all processes, with gradients.

    All processes must call it together and take the backward pass together. They may have
    different numbers of rows, also none. Without a process group it returns the rows themselves.

    Args:
        rows: (n, dim), of this process.
    """
    world = world_size()
    if world == 1:
        return Gathered(rows, 0, 1.0)
    if not rows.requires_grad:
        # The others wait in their backward pass, also for a process that has nothing to learn.
        rows = rows.detach().requires_grad_()
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    offset = sum(sizes[: distributed.get_rank()])
    weight = len(rows) * world / max(1, sum(sizes))
    return Gathered(_GatherRows.apply(rows, sizes, offset), offset, weight)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over processes, as DistributedDataParallel does.

    For models outside of it: after gradient caching, and where batches leave parameters unused. A
    parameter without a gradient in any process keeps none; one without a gradient in some counts
    as 0 there.

    Args:
        parameters: The same in the same order in all processes.
    """
    world = world_size()
    learning = [one for one in parameters if one.requires_grad]
    if world == 1 or not learning:
        return
    present = torch.tensor(
        [one.grad is not None for one in learning], dtype=torch.int32, device=learning[0].device
    )
    distributed.all_reduce(present, distributed.ReduceOp.MAX)
    used = [one for one, there in zip(learning, present.tolist(), strict=True) if there]
    for one in used:
        if one.grad is None:
            one.grad = torch.zeros_like(one)
    for one in used:
        distributed.all_reduce(one.grad)
        one.grad /= world


def average(values: Tensor) -> Tensor:
    """Return the average over processes, which must call it together."""
    if world_size() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values / world_size()


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    size: int = distributed.get_world_size()
    return size


class _GatherRows(torch.autograd.Function):
    """Concatenation over processes; backwards, the sum of all processes' gradients of own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int], offset: int) -> Tensor:
        ctx.own = slice(offset, offset + len(rows))
        # Collectives want tensors of one shape.
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Not reduce_scatter: that wants shares of one size.
        summed = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed[ctx.own], None, None
