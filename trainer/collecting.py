"""From the sets that a configuration names to the examples of a run."""

from collections.abc import Iterator
from pathlib import Path

from trainer.batches import Source
from trainer.config import Dataset
from trainer.data.captioned import read_captioned
from trainer.data.clips import read_captioned_clips
from trainer.data.corpus import Corpus, Share
from trainer.data.examples import Example
from trainer.data.jsonl import read_jsonl
from trainer.data.ledger import Ledger
from trainer.data.mmeb import read_mmeb
from trainer.tasks import Task


def collected(data: tuple[Dataset, ...], ledger: Ledger, work: Path) -> tuple[Corpus, list[Source]]:
    """Reads all sets; decodes nothing but long videos, whose clips are kept.

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
