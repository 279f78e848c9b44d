"""From batches of rows to what the model takes, made in other threads while it computes."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from embedder.content import Content, Role
from embedder.media import Limits, MediaError
from embedder.rzen.pictures import Unfit
from embedder.rzen.template import Template
from trainer.batches import Batch
from trainer.data.corpus import Corpus
from trainer.data.examples import Decoded, Example, Origin
from trainer.data.ledger import Ledger
from trainer.encoding import Prepared, prepared

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
        """The batches in order, prepared two ahead of the one that is used.

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
