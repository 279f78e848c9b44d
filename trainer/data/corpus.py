"""The examples of all datasets, by dataset and task, for a sampler to choose from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer.batches import Batch, Row, Source
from trainer.data.examples import Example
from trainer.tasks import Task


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a dataset an epoch has; see `trainer.batches.Source`."""

    weight: float | None = None
    resampling: float = 1.0
    cap: int | None = None


class Corpus:
    """Holds examples in memory, as names of files and words; no pictures.

    A dataset with several tasks becomes one source for each of them, named `dataset/task`: each
    has a temperature of its own, and batches are of one task.
    """

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self._examples: dict[tuple[str, Task], list[Example]] = {}
        self.add(examples)

    def add(self, examples: Iterable[Example]) -> None:
        """Take in more examples."""
        for example in examples:
            self._examples.setdefault((example.dataset, example.task), []).append(example)

    def __len__(self) -> int:
        return sum(map(len, self._examples.values()))

    def sources(self, shares: Mapping[str, Share] | None = None) -> list[Source]:
        """What a sampler chooses from, in the order in which the datasets came.

        Args:
            shares: By name of the dataset; others are taken as they are.

        Raises:
            ValueError: a share is for a dataset that is not there.
        """
        shares = shares or {}
        datasets = [dataset for dataset, _ in self._examples]
        for name in shares:
            if name not in datasets:
                raise ValueError(
                    f"there is no dataset {name!r}; there are: {', '.join(dict.fromkeys(datasets))}"
                )
        found = []
        for (dataset, task), examples in self._examples.items():
            share = shares.get(dataset, Share())
            name = f"{dataset}/{task}" if datasets.count(dataset) > 1 else dataset
            keys = [example.key for example in examples]
            found.append(Source(name, task, keys, share.weight, share.resampling, share.cap))
        return found

    def __getitem__(self, row: Row) -> Example:
        return list(self._examples.values())[row.source][row.index]

    def examples(self, batch: Batch) -> Sequence[Example]:
        """The examples of a batch, in its order."""
        lists = list(self._examples.values())
        return [lists[row.source][row.index] for row in batch.rows]
