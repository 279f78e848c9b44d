"""The embedding part of an ingest: pieces of several files in one batch, blame for one."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from embedder.interface import Embedder, EmbedderError, EmbedError, Vectors
from indexer.catalog.rows import packed_vector, packed_words
from indexer.catalog.writer import SegmentRecord
from indexer.ingest.decode import Job, Piece

_log = logging.getLogger(__name__)

_LARGEST_BATCH = 32
_FIRST_BATCH = 4
_BATCH_BYTES = 48 << 20
_BATCH_SECONDS = 1.0
_MOST_STRANGE_FAILURES = 3


@dataclass(frozen=True, eq=False, slots=True)
class Blame:
    """A file that cannot be embedded, and why."""

    job: Job
    reason: str


class Batch:
    """Pieces that wait to be embedded together.

    Guarantees: a piece gets its own vector or its file is blamed; a file that is blamed costs no
    other one anything. The batch grows and shrinks with the speed of the model, so that a slow
    one still lets an ingest be stopped within seconds.

    Args:
        embedder: Opens the model; called when the first piece is embedded.
    """

    def __init__(self, embedder: Callable[[], Embedder]) -> None:
        self._embedder = embedder
        self._pieces: list[Piece] = []
        self._bytes = 0
        self._size = _FIRST_BATCH
        self._model_works = False
        self._strange_failures = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def full(self) -> bool:
        """Whether it is time to embed."""
        return len(self._pieces) >= self._size or self._bytes > _BATCH_BYTES

    def add(self, piece: Piece) -> None:
        """Adds a piece."""
        self._pieces.append(piece)
        self._bytes += piece.cost

    def take(self) -> list[Piece]:
        """Empties the batch without embedding; returns the pieces of files not settled."""
        pieces = [piece for piece in self._pieces if not piece.job.settled]
        self._pieces, self._bytes = [], 0
        return pieces

    def embed(self) -> tuple[list[Job], list[Blame]]:
        """Embeds the pieces and appends the results to their jobs' records.

        Returns:
            The files that have got further, and those that cannot be embedded.

        Raises:
            EmbedderError: if the model does not work at all.
        """
        pieces, blames = self.take(), list[Blame]()
        started = monotonic()
        while pieces:
            try:
                vectors = self._vectors(pieces)
            except EmbedError as error:
                job = pieces[error.position].job
                blames.append(Blame(job, f"it cannot be embedded: {error.reason}"))
                pieces = [piece for piece in pieces if piece.job is not job]
                continue
            for piece, vector in zip(pieces, vectors, strict=True):
                piece.job.records.append(_record(piece, packed_vector(vector)))
            break
        taken = monotonic() - started
        if taken > _BATCH_SECONDS:
            self._size = max(1, self._size // 2)
        elif taken < _BATCH_SECONDS / 2:
            self._size = min(_LARGEST_BATCH, self._size * 2)
        return list(dict.fromkeys(piece.job for piece in pieces)), blames

    def _vectors(self, pieces: Sequence[Piece]) -> Vectors:
        """Vectors, row i for piece i, or `EmbedError` that names the guilty piece."""
        embedder = self._embedder()
        contents = [piece.draft.content for piece in pieces]
        try:
            vectors = embedder.embed(contents, "document")
        except EmbedderError:
            raise
        except Exception as error:
            _log.exception("unexpected error while embedding")
            raise self._blamed(embedder, pieces, error) from error
        if vectors.shape != (len(pieces), embedder.info.dim):
            raise EmbedderError(
                f"the model {embedder.info.name} gave vectors of shape {vectors.shape} "
                f"for {len(pieces)} contents of {embedder.info.dim} dimensions"
            )
        self._model_works = True
        return vectors

    def _blamed(
        self, embedder: Embedder, pieces: Sequence[Piece], error: Exception
    ) -> EmbedderError:
        """Whose fault an error is that names nobody: one piece's, or the model's."""
        guilty: list[int] = []
        for position, piece in enumerate(pieces):
            try:
                embedder.embed([piece.draft.content], "document")
            except Exception:
                guilty.append(position)
        files = {piece.job for piece in pieces}
        works = files != {pieces[one].job for one in guilty}
        if not works and not self._model_works:
            self._strange_failures += len(files)
        self._model_works |= works
        if not guilty or self._strange_failures >= _MOST_STRANGE_FAILURES:
            return EmbedderError(f"the model {embedder.info.name} does not work: {error!r}")
        return EmbedError(guilty[0], f"the model fails on it with {error!r}")


def _record(piece: Piece, vector: bytes) -> SegmentRecord:
    draft = piece.draft
    return SegmentRecord(
        position=piece.position,
        modality=draft.content.modality.value,
        vector=vector,
        page=draft.page,
        start=draft.start,
        end=draft.end,
        span=draft.span,
        text=draft.content.text,
        words=packed_words(draft.words) if draft.words else None,
        picture_hash=draft.picture_hash,
        picture_tint=piece.tint,
    )
