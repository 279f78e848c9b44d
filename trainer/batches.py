"""Batches: which rows of which datasets are compared with each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.tasks import Task


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """The rows of one dataset, as far as a sampler needs to know them.

    Attributes:
        name: Of the dataset; no two sources have the same.
        task: Of all its rows.
        keys: What the positive of each row is told by: rows with equal keys do not meet.
        weight: Its share of an epoch beside the weights of the others; all sources have one, or
            none has and its number of rows is its share.
        resampling: How many times as much of it an epoch has: with 2 each row comes twice, with
            0.5 half of them, other ones in each epoch. The paper resamples image data upwards,
            because the losses of video data converge sooner.
        cap: Most rows that are used at all, instead of the sampler's.

    Raises:
        ValueError: there are no rows, or a number is not above 0.
    """

    name: str
    task: Task
    keys: Sequence[bytes]
    weight: float | None = None
    resampling: float = 1.0
    cap: int | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError(f"{self.name} has no rows")
        for what in ("weight", "resampling", "cap"):
            value = getattr(self, what)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"the {what} of {self.name} is above 0, not {value}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the number of its source among the sampler's, and its number in it, both from 0."""

    source: int
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are compared with each other.

    Attributes:
        dataset: Where they are from; of merged sets, the name of their task.
        task: Of all of them.
        epoch: From 0.
        number: Of the batch in its epoch, from 0.
        rows: In order.
    """

    dataset: str
    task: Task
    epoch: int
    number: int
    rows: tuple[Row, ...]

    def shard(self, rank: int, world: int) -> "Batch":
        """The part of one of several processes.

        In the order of ranks, the parts are the batch; their sizes differ by one at most.
        """
        if not 0 <= rank < world:
            raise ValueError(f"of {world} processes none has rank {rank}")
        start, end = (len(self.rows) * at // world for at in (rank, rank + 1))
        return Batch(self.dataset, self.task, self.epoch, self.number, self.rows[start:end])
