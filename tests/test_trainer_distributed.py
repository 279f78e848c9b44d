"""Two processes learn what one with the whole batch learns.

Run as a program, this file is one of the processes.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_two
from torch import Tensor, nn
from torch.nn import functional

from trainer.distributed import average_gradients, gather, world_size
from trainer.gradcache import GradCache
from trainer.losses import LossConfig, TaskTemperatures, contrastive_loss

pytestmark = pytest.mark.slow

CONFIG = LossConfig(alpha=3.0, delta=0.8, two_sided=True)
WAYS = ["ddp", "averaged", "averaged, cached"]

Shares = tuple[tuple[int, int], tuple[int, int]]
"""How many queries, and how many explicit negatives, each of the processes has."""

Step = tuple[float, dict[str, Tensor]]

SHARES: dict[str, Shares] = {"even": ((4, 4), (3, 3)), "uneven": ((5, 3), (6, 0))}


class Encoder(nn.Module):
    """Two layers, and one that nothing goes through."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 6)).double()
        self.unused = nn.Linear(2, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return functional.normalize(self.layers(rows), dim=-1)


def data(shares: Shares) -> list[Tensor]:
    """Queries, positives and explicit negatives of the whole batch."""
    generator = torch.Generator().manual_seed(3)
    counts = (sum(shares[0]), sum(shares[0]), sum(shares[1]))
    groups = [torch.randn(n, 10, generator=generator).double() for n in counts]
    # False negatives, some of the other process.
    groups[2][0] = groups[1][1] + 0.01
    groups[2][-1] = groups[1][-1] + 0.01
    groups[1][-2] = groups[1][0] + 0.01
    return groups


def tasks(count: int) -> list[str]:
    """Task "two" occurs in the first process only, "three" in neither."""
    return ["two" if n < 2 else "one" for n in range(count)]


def share(items: Sequence[Any], counts: tuple[int, int], rank: int) -> Any:
    return items[sum(counts[:rank]) : sum(counts[: rank + 1])]


def step(way: str, shares: Shares, rank: int, prepare: Callable[[nn.Module], Any]) -> Step:
    """One step of a process: its part of the loss, and the gradients it ends up with."""
    encoder, temperatures = Encoder(), TaskTemperatures(["one", "two", "three"], start=0.2)
    encode = prepare(encoder) if "ddp" in way else encoder
    counts = (shares[0], shares[0], shares[1])
    own = [share(group, count, rank) for group, count in zip(data(shares), counts, strict=True)]
    if "cached" in way:
        cache = GradCache(encode, [group.split(2) if len(group) else () for group in own])
        embeddings = cache.embeddings
    else:
        embeddings = encode(torch.cat(own)).split([len(group) for group in own])
    queries, positives, negatives = (gather(one) for one in embeddings)
    loss = contrastive_loss(
        embeddings[0],
        positives.rows,
        negatives.rows,
        temperatures=temperatures(share(tasks(sum(shares[0])), shares[0], rank)),
        config=CONFIG,
        offset=positives.offset,
        all_queries=queries.rows,
    )
    value = loss.value * queries.weight
    value.backward()
    if "cached" in way:
        cache.backward()
    average_gradients(temperatures.parameters())
    if "ddp" not in way:
        average_gradients(encoder.parameters())
    named = [*encoder.named_parameters(), *temperatures.named_parameters()]
    return value.item(), {name: one.grad for name, one in named if one.grad is not None}


def work(out: Path) -> None:
    """What each of the processes does; it writes down what came out."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[unused])
    rank = accelerator.process_index
    found: dict[str, Any] = {
        f"{way}, {name}": step(way, shares, rank, accelerator.prepare)
        for name, shares in SHARES.items()
        for way in WAYS
    }
    rows = torch.full((rank + 1, 2), float(rank), requires_grad=rank == 0)
    gathered = gather(rows)
    (gathered.rows * (rank + 1)).sum().backward()
    found["gathered"] = (gathered.rows.detach(), gathered.offset, gathered.weight, rows.grad)
    found["world"] = world_size()
    torch.save(found, out / f"{rank}.pt")
    accelerator.end_training()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What came out in each of two processes."""
    out = tmp_path_factory.mktemp("gathered")
    run_two(__file__, out)
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


def whole(shares: Shares) -> Step:
    """The same step of one process that has the whole batch."""
    together = ((sum(shares[0]), 0), (sum(shares[1]), 0))
    return step("plain", together, 0, lambda module: module)


@pytest.mark.parametrize("kind", list(SHARES))
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_have_the_loss_and_gradients_of_one(
    processes: list[dict[str, Any]], way: str, kind: str
):
    loss, gradients = whole(SHARES[kind])
    results = [process[f"{way}, {kind}"] for process in processes]
    assert sum(value for value, _ in results) / 2 == pytest.approx(loss, rel=1e-6)
    assert results[0][0] != pytest.approx(results[1][0], rel=1e-5), "each has its own queries"
    layers = {f"layers.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")}
    assert gradients.keys() == layers | {"theta.one", "theta.two"}
    for _, found in results:
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert gradient.abs().max() > 1e-3
            torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-6)


def test_each_process_alone_would_learn_something_else():
    _, gradients = whole(SHARES["even"])
    _, alone = step("plain", SHARES["even"], 0, lambda module: module)
    assert (alone["layers.0.weight"] - gradients["layers.0.weight"]).abs().max() > 1e-2


def test_rows_come_in_the_order_of_processes_and_gradients_go_back_to_them(
    processes: list[dict[str, Any]],
):
    assert [process["world"] for process in processes] == [2, 2]
    for rank, process in enumerate(processes):
        rows, offset, weight, gradient = process["gathered"]
        assert rows.tolist() == [[0, 0], [1, 1], [1, 1]]
        assert offset == rank
        assert weight == pytest.approx((rank + 1) * 2 / 3)
        # Process 0 multiplies by 1 and process 1 by 2; rows that ask for no gradient get none.
        assert gradient is None if rank else gradient.tolist() == [[3, 3]]


def test_without_other_processes_rows_and_gradients_stay_as_they_are():
    assert world_size() == 1
    rows = torch.randn(3, 2)
    gathered = gather(rows)
    assert gathered.rows is rows
    assert (gathered.offset, gathered.weight) == (0, 1.0)
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    average_gradients([parameter, nn.Parameter(torch.ones(1))])
    assert parameter.grad.tolist() == [3, 3]


if __name__ == "__main__":
    work(Path(sys.argv[1]))
