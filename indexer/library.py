"""A library: one folder with a database, vectors and thumbnails, and the model that fills it."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from embedder.interface import Embedder, EmbedderInfo
from embedder.media.kind import Kind, Limits
from embedder.media.pdf import Word
from embedder.registry import open_embedder
from indexer.catalog import Catalog
from indexer.catalog.ledger import Ledger
from indexer.catalog.outcomes import vanished
from indexer.config import DEFAULT_MODEL, IngestOptions, default_library, within
from indexer.database import Database, WriterLock
from indexer.entities import Duplicates, Hit, LibraryStats, MediaItem, Query, Segment, Status
from indexer.errors import LibraryError, ModelMismatch
from indexer.mirror import Mirror
from indexer.reports import IngestPlan, IngestReport, Progress
from indexer.scan import LIBRARY_FILE
from indexer.thumbnails import Thumbnails
from indexer.vectors import VectorStore

if TYPE_CHECKING:
    from indexer.pipeline import Workshop

_log = logging.getLogger(__name__)

_REMOVAL_WAIT_SECONDS = 10.0


class Library:
    """A library on disk. Thread-safe; several processes may have it open.

    Guarantees: opening it loads neither a model nor vectors; reading and searching never wait
    for an ingest; only one ingest or removal at a time changes it, others get `LibraryBusy`;
    a search sees all that was committed before it, whoever did so.

    Attributes:
        directory: Its folder.
        uploads: The folder for files that exist nowhere else; removing them deletes them.
        model: The specification of its model.
        catalog: Questions to its tables.
    """

    def __init__(self, directory: Path, model: str | None, embedder: Embedder | None) -> None:
        self.directory = directory
        self.uploads = directory / "uploads"
        self._database = Database(directory / LIBRARY_FILE)
        self.catalog = Catalog(self._database)
        self._ledger = Ledger(self._database)
        self._writer = WriterLock(directory / "writer.lock")
        self._mirror = Mirror(self.catalog, directory / "vectors")
        self._thumbnails = Thumbnails(directory / "thumbnails")
        self._lock = threading.Lock()
        self._own_embedder: Embedder | None = None
        self._given_embedder = embedder
        try:
            self.model = self._agreed_model(model)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        directory: Path | None = None,
        *,
        model: str | None = None,
        create: bool = True,
        embedder: Embedder | None = None,
    ) -> Self:
        """Opens a library.

        Args:
            directory: Its folder; `indexer.config.default_library` if None.
            model: The model it must have; the one it remembers if None, "mini" for a new one.
            create: Make it if it does not exist.
            embedder: Use this one, which stays open, rather than opening the model by name.

        Raises:
            LibraryError: it does not exist, cannot be used, or is of a newer version.
            ModelMismatch: it holds vectors of another model.
        """
        directory = Path(directory or default_library()).expanduser().absolute()
        if not (directory / LIBRARY_FILE).is_file():
            if not create:
                raise LibraryError(
                    f"there is no library in {directory}: make one with "
                    f"`python -m indexer.ingest PATH --library {directory}`"
                )
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LibraryError(
                    f"the library's folder {directory} cannot be made: {error.strerror}"
                ) from error
        return cls(directory, model, embedder)

    @property
    def embedder(self) -> Embedder:
        """The library's model, opened when it is first asked for.

        Raises:
            EmbedderUnavailable: it cannot be opened.
            ModelMismatch: the library holds vectors of another version of it.
        """
        if self._given_embedder is not None:
            return self._given_embedder
        with self._lock:
            if self._own_embedder is None:
                embedder = open_embedder(self.model)
                try:
                    self._check(embedder.info)
                except ModelMismatch:
                    embedder.close()
                    raise
                self._ledger.remember_model(self.model)
                self._own_embedder = embedder
            return self._own_embedder

    @property
    def limits(self) -> Limits:
        """What a file to search with is decoded to: no larger than the model makes use of."""
        return within(Limits(), self.embedder.info)

    @property
    def vectors(self) -> VectorStore:
        """The vectors, loaded when first asked for and caught up with the catalog each time."""
        return self._mirror.current()

    def plan(self, paths: Sequence[Path], options: IngestOptions | None = None) -> IngestPlan:
        """What an ingest would do; embeds nothing and writes nothing."""
        from indexer.planning import plan

        return plan(self._workshop(), self._targets(paths, options), options or IngestOptions())

    def ingest(
        self,
        paths: Sequence[Path],
        options: IngestOptions | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> IngestReport:
        """Takes in what is at some paths; see `indexer.pipeline.Pipeline`.

        Args:
            paths: Files, folders and patterns; none to retry failed files only.
            options: How to.
            on_progress: Called several times a second at most, in the calling thread.
            cancel: Set it to stop within seconds; what was done stays.

        Raises:
            LibraryBusy: if another ingest is running.
            LibraryError: if the library cannot be written to.
            ModelMismatch: if the library holds vectors of another version of its model.
            EmbedderUnavailable: if the model cannot be opened.
            ValueError: without paths, unless failed files are to be retried.
        """
        from indexer.duplicates import near_media
        from indexer.pipeline import Pipeline
        from indexer.sighting import roots

        options, cancel = options or IngestOptions(), cancel or threading.Event()
        if not paths and not options.retry_failed:
            raise ValueError("nothing to ingest: give a path")
        with self._writer.held():
            targets = self._targets(paths, options)
            pipeline = Pipeline(self._workshop(), options, on_progress, cancel)
            tally = pipeline.run([path for path in targets if paths or not vanished(path)])
            removed = 0
            if options.sweep and not cancel.is_set():
                swept = self._ledger.below(roots(targets) if paths else targets)
                gone = [one for one, path, _ in swept if one not in tally.known and vanished(path)]
                removed = len(self._ledger.remove(gone))
            self._tidy()
            if tally.changed or removed:
                self._ledger.remember_near_duplicates(len(near_media(self.catalog)))
            return tally.report(
                removed=removed,
                near_duplicates=self._ledger.near_duplicates(),
                cancelled=cancel.is_set(),
            )

    def search(self, query: Query) -> list[Hit]:
        """The hits of a query, best first; see `indexer.retrieval.search`."""
        from indexer import retrieval

        return retrieval.search(self, query)

    def stats(self) -> LibraryStats:
        """What the library holds."""
        return self.catalog.stats()

    def items(
        self,
        *,
        status: Status | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[MediaItem]:
        """Files in order of their paths.

        Args:
            status: Only in this state.
            kind: Only of this kind.
            name: Only with this in their names, whatever the case.
            limit: Most files to return.
            offset: Files to pass over first.
        """
        return self.catalog.items(status=status, kind=kind, name=name, limit=limit, offset=offset)

    def item(self, item_id: int) -> MediaItem:
        """A file, or `NotFound`."""
        return self.catalog.item(item_id)

    def segment(self, segment_id: int) -> Segment:
        """A segment, or `NotFound`."""
        return self.catalog.segment(segment_id)

    def item_of(self, segment_id: int) -> MediaItem:
        """The file that holds a segment, the oldest of several; or `NotFound`."""
        return self.catalog.item_of(segment_id)

    def segments(self, item_id: int) -> list[Segment]:
        """What can be found in a file, in order of position; or `NotFound`."""
        return self.catalog.segments(item_id)

    def words(self, segment_id: int) -> tuple[Word, ...]:
        """The words of a PDF page with their places; none for other segments."""
        return self.catalog.words(segment_id)

    def thumbnail(self, segment_id: int) -> Path | None:
        """The file with a segment's small picture; None if it has none, or `NotFound`."""
        segment = self.segment(segment_id)
        path = self._thumbnails.path(segment.content_hash, segment.position)
        return path if path.is_file() else None

    def folders(self) -> list[tuple[Path, int]]:
        """Folders that hold indexed files, with their number."""
        return self.catalog.folders()

    def remove(self, item_ids: Sequence[int]) -> int:
        """Removes files from the library; on disk only copies under `uploads` are deleted.

        Returns:
            How many there were; unknown ids are passed over.

        Raises:
            LibraryBusy: if an ingest is running and does not end soon.
        """
        with self._writer.held(_REMOVAL_WAIT_SECONDS):
            removed = self._ledger.remove(item_ids)
            for path in removed:
                if self.uploads in path.parents:
                    path.unlink(missing_ok=True)
            self._tidy()
            return len(removed)

    def duplicates(self) -> Duplicates:
        """Files that hold the same bytes, and apart from them pictures that look the same."""
        from indexer.duplicates import duplicates

        return duplicates(self.catalog)

    def close(self) -> None:
        """Closes the database and the model that the library opened."""
        with self._lock:
            if self._own_embedder is not None:
                self._own_embedder.close()
                self._own_embedder = None
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _workshop(self) -> "Workshop":
        from embedder.media import detect
        from indexer.pipeline import Workshop
        from indexer.scan import scan
        from indexer.segments import cut

        return Workshop(
            ledger=self._ledger,
            thumbnails=self._thumbnails,
            embedder=lambda: self.embedder,
            scan=scan,
            detect=detect,
            cut=cut,
        )

    def _targets(self, paths: Sequence[Path], options: IngestOptions | None) -> list[Path]:
        if not paths and options is not None and options.retry_failed:
            return self._ledger.failed()
        return [Path(path) for path in paths]

    def _tidy(self) -> None:
        """Removes what no file holds any more, and writes the vectors to disk."""
        for content_hash in self._ledger.remove_orphans():
            self._thumbnails.remove(content_hash)
        self._mirror.save()

    def _agreed_model(self, asked: str | None) -> str:
        """The model to use; refuses another one than the vectors are of."""
        stored = self.catalog.model()
        if self._given_embedder is not None:
            self._check(self._given_embedder.info)
            return self._given_embedder.info.name
        if asked not in (None, stored.name) and self.catalog.has_vectors():
            raise _mismatch(self.directory, stored.name or "another model", str(asked))
        return asked or stored.name or DEFAULT_MODEL

    def _check(self, info: EmbedderInfo) -> None:
        stored = self.catalog.model()
        if stored.fingerprint != info.fingerprint and self.catalog.has_vectors():
            raise _mismatch(self.directory, stored.name or "another model", info.name)


def _mismatch(directory: Path, stored: str, asked: str) -> ModelMismatch:
    if stored == asked:
        return ModelMismatch(
            f"the library in {directory} was made with another version of the model {stored}: "
            f"delete that folder and ingest again, or use another one with --library"
        )
    return ModelMismatch(
        f"the library in {directory} was made with the model {stored}, not {asked}: use "
        f"--model {stored}, or another folder with --library"
    )
