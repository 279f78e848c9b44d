"""From the datasets of a configuration to prepared batches, decoded in threads ahead of use."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from embedder.content import Role
from embedder.media import MediaError
from embedder.mllm.pictures import Unfit
from embedder.mllm.template import Template
from trainer.config import Dataset
from trainer.data.clips import read_captioned_clips
from trainer.data.examples import ErrorBudget, Example, Origin, Side, Task
from trainer.data.readers import read_captioned, read_jsonl, read_mmeb
from trainer.model import PreparedContent, prepare
from trainer.sampling import Batch, Source

_BATCHES_AHEAD = 2
_THREADS = 4
_WHOLE = Dataset(Path())  # Of which an epoch has every row once.


class Corpus:
    """Holds examples in memory: texts and file names, no pictures.

    A dataset with several tasks becomes one source for each of them, named `dataset/task`, since
    a batch is of one task.
    """

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self._examples: dict[tuple[str, Task], list[Example]] = {}
        self.add(examples)

    def add(self, examples: Iterable[Example]) -> None:
        """Add examples."""
        for example in examples:
            self._examples.setdefault((example.dataset, example.task), []).append(example)

    def __len__(self) -> int:
        return sum(map(len, self._examples.values()))

    def sources(self, configured: Mapping[str, Dataset] | None = None) -> list[Source]:
        """Return the sources of a sampler, in the order in which the datasets came.

        Args:
            configured: By name, the datasets that say how much of them an epoch has.
        """
        configured = configured or {}
        datasets = [dataset for dataset, _ in self._examples]
        found = []
        for (dataset, task), examples in self._examples.items():
            share = configured.get(dataset, _WHOLE)
            name = f"{dataset}/{task}" if datasets.count(dataset) > 1 else dataset
            keys = [example.positive.key for example in examples]
            found.append(Source(name, task, keys, share.weight, share.resampling, share.cap))
        return found

    def examples(self, batch: Batch) -> Sequence[Example]:
        """Return the examples of a batch, in its order."""
        lists = list(self._examples.values())
        return [lists[row.source][row.index] for row in batch.rows]


def load_datasets(
    data: tuple[Dataset, ...], errors: ErrorBudget, work: Path
) -> tuple[Corpus, list[Source]]:
    """Read all datasets; decode nothing but long videos, whose clips are kept.

    Args:
        data: The datasets.
        errors: Counts usable and broken rows.
        work: A folder for the frames of clips.

    Returns:
        The examples, and the sources of a sampler.

    Raises:
        Unreadable: a file cannot be opened.
        TooManyBroken: more rows are broken than the budget allows.
        ValueError: a dataset has no usable rows.
    """
    corpus, configured = Corpus(), dict[str, Dataset]()
    for dataset in data:
        known = len(corpus)
        examples = list(_read(dataset, errors, work))
        corpus.add(examples)
        if len(corpus) == known:
            raise ValueError(f"{dataset.path} has no usable rows")
        configured |= dict.fromkeys((example.dataset for example in examples), dataset)
    return corpus, corpus.sources(configured)


def _read(dataset: Dataset, errors: ErrorBudget, work: Path) -> Iterator[Example]:
    path, name = dataset.path, dataset.name
    task = dataset.task or Task.IMAGE_RETRIEVAL
    if dataset.format == "jsonl":
        return read_jsonl(path, errors, dataset.task, name, dataset.media)
    if dataset.format == "mmeb":
        return read_mmeb(path, dataset.media or path.parent, errors, task, name)
    if dataset.format == "captioned":
        return read_captioned(path, errors, task, name)
    return read_captioned_clips(path, work / "clips", errors, dataset=name)


@dataclass(frozen=True, eq=False, slots=True)
class PreparedBatch:
    """A batch without the examples that could not be decoded.

    Attributes:
        rows: All its rows.
        tasks: Of each query.
        queries: Prepared contents.
        positives: Prepared contents; positive i belongs to query i.
        negatives: Explicit ones, of all queries together.
    """

    rows: Batch
    tasks: tuple[str, ...]
    queries: tuple[PreparedContent, ...]
    positives: tuple[PreparedContent, ...]
    negatives: tuple[PreparedContent, ...]

    def __len__(self) -> int:
        return len(self.queries) + len(self.positives) + len(self.negatives)


class BatchLoader:
    """Decodes and prepares batches in threads, ahead of their use.

    Not torch's DataLoader: its worker processes would each need the tokenizer and an error budget,
    and what they fetched ahead would be missing from the sampler's state on resume.

    An example whose media cannot be decoded, or that does not fit into a sequence, is left out of
    its batch and counted as broken.

    Args:
        corpus: Where rows are looked up.
        template: Puts contents into sequences.
        errors: Counts usable and broken examples.
        instructions: Whether contents get instructions; stage 1 uses none.
    """

    def __init__(
        self, corpus: Corpus, template: Template, errors: ErrorBudget, *, instructions: bool
    ) -> None:
        self._corpus = corpus
        self._template = template
        self._errors = errors
        self._instructions = instructions

    def batches(self, batches: Iterable[Batch]) -> Iterator[PreparedBatch]:
        """Yield the batches in order, prepared two ahead of the one in use.

        Raises:
            TooManyBroken: more examples are broken than the budget allows.
        """
        pending: deque[tuple[Batch, list[Future[_PreparedExample | None]]]] = deque()
        with ThreadPoolExecutor(_THREADS, "train-load") as pool:
            for batch in batches:
                examples = self._corpus.examples(batch)
                pending.append((batch, [pool.submit(self._load, one) for one in examples]))
                if len(pending) > _BATCHES_AHEAD:
                    yield _collate(*pending.popleft())
            while pending:
                yield _collate(*pending.popleft())

    def _load(self, example: Example) -> "_PreparedExample | None":
        """Decode and prepare an example; None, counted as broken, where that fails."""
        try:
            of_targets = example.target_instruction
            prepared = _PreparedExample(
                example.task.value,
                self._prepare(example.query, example.instruction, "query"),
                self._prepare(example.positive, of_targets, "document"),
                tuple(self._prepare(one, of_targets, "document") for one in example.negatives),
            )
        except (MediaError, Unfit) as error:
            origin = example.origin or Origin(Path(example.dataset), 0)
            self._errors.skip(origin, str(error))
            return None
        self._errors.use()
        return prepared

    def _prepare(self, side: Side, instruction: str | None, role: Role) -> PreparedContent:
        content = side.content(instruction=instruction if self._instructions else "")
        return prepare(self._template, content, role)


@dataclass(frozen=True, eq=False, slots=True)
class _PreparedExample:
    task: str
    query: PreparedContent
    positive: PreparedContent
    negatives: tuple[PreparedContent, ...]


def _collate(batch: Batch, loading: Sequence["Future[_PreparedExample | None]"]) -> PreparedBatch:
    examples = [example for future in loading if (example := future.result()) is not None]
    return PreparedBatch(
        batch,
        tuple(example.task for example in examples),
        tuple(example.query for example in examples),
        tuple(example.positive for example in examples),
        tuple(negative for example in examples for negative in example.negatives),
    )
