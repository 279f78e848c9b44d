"""The examples of all datasets, by dataset and task, for a sampler to choose from."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from embedder.content import Content, Role
from embedder.media import Limits, MediaError
from embedder.rzen.pictures import Unfit
from embedder.rzen.template import Template
from trainer.config import Dataset
from trainer.data.clips import read_captioned_clips
from trainer.data.examples import Decoded, Example, Ledger, Origin, Task
from trainer.data.readers import read_captioned, read_jsonl, read_mmeb
from trainer.model import Prepared, prepared
from trainer.sampling import Batch, Row, Source


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a dataset an epoch has; see `trainer.sampling.Source`."""

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
        """Add examples."""
        for example in examples:
            self._examples.setdefault((example.dataset, example.task), []).append(example)

    def __len__(self) -> int:
        return sum(map(len, self._examples.values()))

    def sources(self, shares: Mapping[str, Share] | None = None) -> list[Source]:
        """Return the sources of a sampler, in the order in which the datasets came.

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
        """Return the examples of a batch, in its order."""
        lists = list(self._examples.values())
        return [lists[row.source][row.index] for row in batch.rows]


def collected(data: tuple[Dataset, ...], ledger: Ledger, work: Path) -> tuple[Corpus, list[Source]]:
    """Read all datasets; decode nothing but long videos, whose clips are kept.

    Args:
        data: The sets.
        ledger: Counts what can be used and what is skipped.
        work: A folder for the frames of clips.

    Returns:
        The examples, and what a sampler chooses from.

    Raises:
        Unreadable: a file cannot be opened.
        TooManyBroken: more rows are broken than the ledger allows.
        ValueError: two sets have the same name and other shares, or one has no rows.
    """
    corpus, shares = Corpus(), dict[str, Share]()
    for dataset in data:
        known = len(corpus)
        examples = list(_read(dataset, ledger, work))
        corpus.add(examples)
        if len(corpus) == known:
            raise ValueError(f"{dataset.path} has no row that can be used")
        for name in {example.dataset for example in examples}:
            shares[name] = Share(dataset.weight, dataset.resampling, dataset.cap)
    return corpus, corpus.sources(shares)


def _read(dataset: Dataset, ledger: Ledger, work: Path) -> Iterator[Example]:
    path, name = dataset.path, dataset.name
    task = dataset.task or Task.IMAGE_RETRIEVAL
    if dataset.format == "jsonl":
        return read_jsonl(path, ledger, dataset.task, name, dataset.media)
    if dataset.format == "mmeb":
        return read_mmeb(path, dataset.media or path.parent, ledger, task, name)
    if dataset.format == "captioned":
        return read_captioned(path, ledger, task, name)
    return read_captioned_clips(path, work / "clips", ledger, dataset=name)


_AHEAD = 2
_THREADS = 4


@dataclass(frozen=True, eq=False, slots=True)
class Fed:
    """A batch, as far as its media could be decoded.

    Attributes:
        batch: Its rows.
        tasks: Of each query.
        queries: Prepared contents.
        positives: Likewise; positive i belongs to query i.
        negatives: Explicit ones, of all queries together.
    """

    batch: Batch
    tasks: tuple[str, ...]
    queries: tuple[Prepared, ...]
    positives: tuple[Prepared, ...]
    negatives: tuple[Prepared, ...]


class Feeder:
    """Decodes and prepares batches ahead of their use.

    An example whose media cannot be decoded, or that does not fit a sequence, is left out of its
    batch and counted in the ledger.

    Args:
        corpus: Where rows are looked up.
        template: Puts contents into sequences.
        ledger: Counts.
        instructions: Whether contents are told anything; stage 1 has none.
        limits: What decoding may cost.
    """

    def __init__(
        self,
        corpus: Corpus,
        template: Template,
        ledger: Ledger,
        *,
        instructions: bool,
        limits: Limits | None = None,
    ) -> None:
        self._corpus = corpus
        self._template = template
        self._ledger = ledger
        self._limits = limits
        self._instructions = instructions

    def fed(self, batches: Iterable[Batch]) -> Iterator[Fed]:
        """Yield the batches in order, prepared two ahead of the one in use.

        Raises:
            TooManyBroken: more examples are broken than the ledger allows.
        """
        waiting: deque[tuple[Batch, list[Future[_Ready | None]]]] = deque()
        with ThreadPoolExecutor(_THREADS, "train-feed") as pool:
            for batch in batches:
                rows = self._corpus.examples(batch)
                waiting.append((batch, [pool.submit(self._ready, row) for row in rows]))
                if len(waiting) > _AHEAD:
                    yield self._joined(*waiting.popleft())
            while waiting:
                yield self._joined(*waiting.popleft())

    def _ready(self, example: Example) -> "_Ready | None":
        try:
            ready = self._prepared(example.decoded(self._limits))
        except (MediaError, Unfit) as error:
            origin = example.origin or Origin(Path(example.dataset), 0)
            self._ledger.skip(origin, str(error))
            return None
        self._ledger.use()
        return ready

    def _prepared(self, decoded: Decoded) -> "_Ready":
        return _Ready(
            decoded.example.task.value,
            self._one(decoded.query, "query"),
            self._one(decoded.positive, "document"),
            tuple(self._one(content, "document") for content in decoded.negatives),
        )

    def _one(self, content: Content, role: Role) -> Prepared:
        if not self._instructions:
            content = Content(content.text, content.frames, content.modality, "")
        return prepared(self._template, content, role)

    def _joined(self, batch: Batch, rows: Sequence["Future[_Ready | None]"]) -> Fed:
        found = [one for row in rows if (one := row.result()) is not None]
        return Fed(
            batch,
            tuple(one.task for one in found),
            tuple(one.query for one in found),
            tuple(one.positive for one in found),
            tuple(negative for one in found for negative in one.negatives),
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Ready:
    task: str
    query: Prepared
    positive: Prepared
    negatives: tuple[Prepared, ...]
