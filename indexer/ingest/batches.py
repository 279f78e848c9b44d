"""Embed segments of several files in one batch, and find the file that makes a batch fail."""

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from embedder.interface import Embedder, EmbedderError, EmbedError, Vectors
from indexer.catalog.schema import packed_vector, packed_words
from indexer.catalog.writer import SegmentRecord
from indexer.ingest.decode import Cause, FileFailed, Job, Piece

_log = logging.getLogger(__name__)

_FIRST_BATCH_SIZE = 4
_MAX_BATCH_SIZE = 32
_MAX_BATCH_BYTES = 48 << 20
_MAX_BATCH_SECONDS = 1.0
_MAX_UNEXPECTED_FAILURES = 3


class Batch:
    """Pieces that wait to be embedded together.

    Guarantees: a piece gets its own vector or its file fails; a file that fails costs no other
    one anything. The batch grows and shrinks with the speed of the model, so that an ingest with
    a slow model still stops within seconds.

    Args:
        embedder: Opens the model; called when the first piece is embedded.
    """

    def __init__(self, embedder: Callable[[], Embedder]) -> None:
        self._embedder = embedder
        self._pieces: list[Piece] = []
        self._bytes = 0
        self._size = _FIRST_BATCH_SIZE
        self._model_works = False
        self._unexpected_failures = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def full(self) -> bool:
        """Whether it is time to embed."""
        return len(self._pieces) >= self._size or self._bytes > _MAX_BATCH_BYTES

    def add(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._bytes += piece.cost

    def embed(self) -> tuple[list[Job], list[FileFailed]]:
        """Embed the pieces of all files not settled, and append the results to their records.

        Returns:
            The files that have got further, and those that cannot be embedded.

        Raises:
            EmbedderError: if the model does not work at all.
        """
        pieces, failed = [one for one in self._pieces if not one.job.settled], list[FileFailed]()
        self._pieces, self._bytes = [], 0
        started = monotonic()
        while pieces:
            try:
                vectors = self._vectors(pieces)
            except EmbedError as error:
                job = pieces[error.position].job
                reason = f"it cannot be embedded: {error.reason}"
                failed.append(FileFailed(job, Cause.NOT_EMBEDDED, reason))
                pieces = [piece for piece in pieces if piece.job is not job]
                continue
            for piece, vector in zip(pieces, vectors, strict=True):
                piece.job.records.append(_record(piece, packed_vector(vector)))
            break
        self._resize(monotonic() - started)
        return list(dict.fromkeys(piece.job for piece in pieces)), failed

    def _resize(self, seconds: float) -> None:
        if seconds > _MAX_BATCH_SECONDS:
            self._size = max(1, self._size // 2)
        elif seconds < _MAX_BATCH_SECONDS / 2:
            self._size = min(_MAX_BATCH_SIZE, self._size * 2)

    def _vectors(self, pieces: Sequence[Piece]) -> Vectors:
        """Return row i for piece i, or raise `EmbedError` with the position of the culprit."""
        embedder = self._embedder()
        contents = [piece.draft.content for piece in pieces]
        try:
            vectors = embedder.embed(contents, "document")
        except EmbedderError:
            raise
        except Exception as error:
            _log.exception("unexpected error while embedding")
            raise self._located(embedder, pieces, error) from error
        if vectors.shape != (len(pieces), embedder.info.dim):
            raise EmbedderError(
                f"the model {embedder.info.name} returned vectors of shape {vectors.shape} "
                f"for {len(pieces)} contents of {embedder.info.dim} dimensions"
            )
        self._model_works = True
        return vectors

    def _located(
        self, embedder: Embedder, pieces: Sequence[Piece], error: Exception
    ) -> EmbedderError:
        """Embed each piece alone to find out whether one of them or the model is at fault."""
        culprits: list[int] = []
        for position, piece in enumerate(pieces):
            try:
                embedder.embed([piece.draft.content], "document")
            except Exception:
                culprits.append(position)
        files = {piece.job for piece in pieces}
        works = files != {pieces[one].job for one in culprits}
        if not works and not self._model_works:
            self._unexpected_failures += len(files)
        self._model_works |= works
        if not culprits or self._unexpected_failures >= _MAX_UNEXPECTED_FAILURES:
            return EmbedderError(f"the model {embedder.info.name} does not work: {error!r}")
        return EmbedError(culprits[0], f"the model fails on it with {error!r}")


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
