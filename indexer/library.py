"""`Library`: open a library, ingest, search, re-embed, remove and forget."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from embedder.content import Modality
from embedder.interface import Embedder
from embedder.media.kinds import Limits
from embedder.registry import open_embedder
from indexer.catalog import Catalog
from indexer.catalog.albums import Albums
from indexer.catalog.duplicates import DuplicateGroups
from indexer.catalog.readings import Readings
from indexer.catalog.sqlite import Database, WriterLock
from indexer.catalog.staged import StagedVectors
from indexer.catalog.writer import CatalogWriter
from indexer.config import LIBRARY_FILE, default_library, holds_library, typed_path
from indexer.errors import LibraryBusy, LibraryError
from indexer.ingest.thumbnails import Thumbnails
from indexer.model import LibraryModel
from indexer.presence import PresenceCheck
from indexer.progress import Progress
from indexer.types import (
    Filters,
    Hit,
    IndexedFolder,
    IngestOptions,
    IngestPlan,
    IngestReport,
    MediaItem,
    Query,
    ReadingReport,
    ReembedPlan,
    ReembedReport,
)
from indexer.vectors import VectorIndex
from indexer.vectors.sync import IndexSync

if TYPE_CHECKING:
    from indexer.decoding.ocr import OcrPool
    from indexer.decoding.on_demand import OnDemandDecoder
    from indexer.decoding.pool import DecoderPool
    from indexer.ingest.ocr import OpenTextReader
    from indexer.ingest.reembedding import ModelSwitch
    from indexer.ingest.stages import OpenDecoders
    from indexer.search.reranking import PageReranker


_REMOVAL_WAIT_SECONDS = 10.0
_INGEST_WAIT_SECONDS = 1.0  # While words that were read in pictures are stored, it is held briefly.
_MAX_SNAPSHOT_ATTEMPTS = 5


class Library:
    """A library on disk. Thread-safe; several processes may have it open.

    Guarantees: opening it loads neither a model nor vectors; reading and searching never wait
    for an ingest or a re-embedding; only one ingest, removal or re-embedding at a time changes
    it, and others raise `LibraryBusy`; a search sees everything committed before it, by any
    process; when another process gives the library another model, this one follows.

    Attributes:
        directory: Its folder.
        uploads: The folder for files that exist nowhere else; removing them deletes them.
        catalog: Reads its tables.
        albums: Albums, favourites among them, and saved searches.
        duplicates: Groups of files that hold the same thing.
        decoders: Opens what decodes files while an ingest or a re-embedding runs.
        text_reader: Opens what reads the words in pictures.
        reranker: Reranks the best PDF pages of searches by words; None for none.
        search_lock: Held while a search ranks its candidates: threads that do so in parallel hand
            the interpreter over at every row that SQLite returns, and each takes longer than all
            of them one after the other.
    """

    def __init__(
        self,
        directory: Path,
        model: str | None,
        embedder: Embedder | None,
        opening: Mapping[str, str | None],
        instructions: Mapping[Modality, str] | None,
        decoders: "OpenDecoders | None",
    ) -> None:
        self.directory = directory
        self.decoders = decoders or open_decoders
        self.text_reader: OpenTextReader = open_text_reader
        self.uploads = directory / "uploads"
        self._opening = opening
        self._database = Database(directory / LIBRARY_FILE)
        self.catalog = Catalog(self._database)
        self.albums = Albums(self._database)
        self.duplicates = DuplicateGroups(self._database, self.catalog)
        self._thumbnails = Thumbnails(directory / "thumbnails")
        self._writer = CatalogWriter(self._database)
        self._staged = StagedVectors(self._database)
        self._write_lock = WriterLock(directory / "writer.lock", self.check_unchanged)
        self._readings = Readings(self._database)
        self._reading_lock = WriterLock(directory / "reading.lock", self.check_unchanged)
        self._index = IndexSync(self.catalog, directory / "vectors", self._write_lock)
        self._viewer: OnDemandDecoder | None = None
        self._viewer_lock = threading.Lock()
        self._model = LibraryModel(directory, self.catalog, self._writer, self._open, embedder)
        self._presence = PresenceCheck()
        self.reranker: PageReranker | None = None
        self.search_lock = threading.Lock()
        try:
            self._model.agree(model, instructions)
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
        device: str | None = None,
        dtype: str | None = None,
        instructions: Mapping[Modality, str] | None = None,
        decoders: "OpenDecoders | None" = None,
    ) -> Self:
        """Open a library.

        Args:
            directory: Its folder; `indexer.config.default_library` if None.
            model: The model it must have; if None, the one it has, or "mini" for a new library.
            create: Create it if it does not exist.
            embedder: Use this one, and leave it open, rather than opening the model by name.
            device: Where the model runs, see `embedder.open_embedder`.
            dtype: Its precision.
            instructions: Instructions for documents by modality; if None, those that the library
                has, if empty, the model's own.
            decoders: Opens what decodes files while an ingest runs; processes of
                `indexer.decoding.pool.DecoderPool` if None.

        Raises:
            LibraryError: if it does not exist, cannot be used, or is of a newer version.
            ModelMismatch: if it holds vectors of another model, or with other instructions.
            EmbedderUnavailable: if the model has to be compared with the one of the library, and
                cannot be opened.
        """
        directory = typed_path(directory or default_library())
        if not holds_library(directory):
            if not create:
                raise LibraryError(
                    f"there is no library in {directory}: create one with "
                    f"`python -m indexer.ingest PATH --library {directory}`"
                )
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LibraryError(
                    f"cannot create the library's folder {directory}: {error.strerror}"
                ) from error
        opening = {"device": device, "dtype": dtype}
        return cls(directory, model, embedder, opening, instructions, decoders)

    def check_unchanged(self) -> None:
        """Check that the library may be written to by this program; see `Database`.

        Raises:
            LibraryError: its folder was moved, deleted or replaced since it was opened, or a newer
                program has changed its tables.
        """
        self._database.check_unchanged()

    @property
    def model(self) -> str:
        """The specification of its model."""
        return self._model.name

    @property
    def embedder(self) -> Embedder:
        """The library's model, opened on first use.

        Raises:
            EmbedderUnavailable: if it cannot be opened.
            ModelMismatch: if the library holds vectors of another version of it.
        """
        return self._model.embedder

    def snapshot(self) -> tuple[Embedder, VectorIndex]:
        """Return an embedder and a vector index of the same model, even during a switch.

        The catalog may be ahead of both: before reading vectors from it as well, check
        `Catalog.holds_vectors_of` within the same moment.

        Raises:
            EmbedderUnavailable: if the model cannot be opened.
            ModelMismatch: if the library holds vectors of another version of it.
            LibraryBusy: if the model changes again and again.
        """
        for _ in range(_MAX_SNAPSHOT_ATTEMPTS):
            vectors = self.vectors
            embedder = self._model.opened_as(vectors.fingerprint) or self.embedder
            if vectors.fingerprint == embedder.info.fingerprint or not len(vectors):
                return embedder, vectors
        raise LibraryBusy(f"the library in {self.directory} is changing its model: try again")

    @property
    def limits(self) -> Limits:
        """Limits for a file to search with: frames no larger than the model makes use of."""
        return Limits().within(self.embedder.info.frame_side)

    @property
    def vectors(self) -> VectorIndex:
        """The vector index, loaded on first use and synchronised with the catalog each time."""
        return self._index.current()

    @property
    def viewer(self) -> "OnDemandDecoder":
        """The decoder of files that are searched with or viewed, started on first use."""
        from indexer.decoding.on_demand import OnDemandDecoder

        with self._viewer_lock:
            if self._viewer is None:
                self._viewer = OnDemandDecoder()
            return self._viewer

    def thumbnail(self, segment_id: int) -> Path | None:
        """Return the file with a segment's thumbnail; None if it has none.

        Raises:
            NotFound: no segment has that id.
        """
        segment = self.catalog.segment(segment_id)
        path = self._thumbnails.path(segment.content_hash, segment.position)
        return path if path.is_file() else None

    def read_words(
        self,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> ReadingReport:
        """Read the words in pictures that were not read yet; see `indexer.ingest.ocr`.

        What is found by them grows meanwhile. Others may write to the library at the same time.

        Args:
            on_progress: Called several times a second at most, in the calling thread.
            cancel: Set it to stop within seconds; what was read is kept.

        Raises:
            LibraryBusy: if another program reads them.
            LibraryError: if the library cannot be written to.
        """
        from indexer.ingest.ocr import OcrPass

        with self._reading_lock.held():
            return OcrPass(
                self._readings, self._write_lock, on_progress, cancel or threading.Event()
            ).run(self.text_reader)

    def plan(self, paths: Sequence[Path], options: IngestOptions | None = None) -> IngestPlan:
        """Return what an ingest would do, without embedding or writing anything."""
        from indexer.ingest.plan import plan
        from indexer.ingest.roots import roots_of

        options = options or IngestOptions()
        return plan(self._writer, roots_of(paths, options, self.catalog, self._writer), options)

    def ingest(
        self,
        paths: Sequence[Path],
        options: IngestOptions | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> IngestReport:
        """Ingest what is at some paths; see `indexer.ingest.pipeline.FileIngest`.

        Args:
            paths: Files, folders and patterns; none to retry failed files only, or else to ingest
                the folders that the library remembers. It remembers those that are named here.
            options: How to ingest.
            on_progress: Called several times a second at most, in the calling thread.
            cancel: Set it to stop within seconds; what was done is kept.

        Raises:
            LibraryBusy: if another ingest is running.
            LibraryError: if the library cannot be written to.
            ModelMismatch: if the library holds vectors of another version of its model.
            EmbedderUnavailable: if the model cannot be opened.
            ValueError: without paths, if nothing is remembered or to be retried.
        """
        from indexer.ingest.pipeline import FileIngest
        from indexer.ingest.roots import note_scan, remember, roots_of
        from indexer.ingest.sweep import Swept, sweep, sweep_failed

        options, cancel = options or IngestOptions(), cancel or threading.Event()
        with self._write_lock.held(_INGEST_WAIT_SECONDS):
            roots = roots_of(paths, options, self.catalog, self._writer)
            if paths:
                remember(roots, self.catalog, self._writer, self.directory)
            with self.decoders(cancel) as decoders:
                ingest = FileIngest(
                    roots,
                    options,
                    writer=self._writer,
                    thumbnails=self._thumbnails,
                    embedder=lambda: self.embedder,
                    adopt=self._model.adopt,
                    decoders=decoders,
                    on_progress=on_progress,
                    cancel=cancel,
                )
                ingest.run()
            swept = Swept({})
            if not cancel.is_set():
                note_scan(roots, self._writer)
                swept = (
                    sweep(self._writer, roots, ingest.known, ingest.folders)
                    if paths or not options.retry_failed
                    else sweep_failed(self._writer, ingest.known)
                )
            removed = len(self._writer.remove([*(swept.removed | ingest.sidecars)]))
            self._writer.remember_folders(ingest.folders, swept.kept_in)
            self._tidy()
            if ingest.changed or removed:
                self._writer.count_near_duplicates(self.catalog)
                self._index.settle(cancel)
                self._index.save()
            return ingest.report(
                removed=removed,
                kept=swept.kept,
                near_duplicates=self._writer.near_duplicates(),
                cancelled=cancel.is_set(),
            )

    def reembed(
        self,
        model: str,
        *,
        instructions: Mapping[Modality, str] | None = None,
        leave_out: bool = False,
        workers: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> ReembedReport:
        """Give the library another model: compute all vectors with it, then switch atomically.

        Until then searches use the vectors in place. What was computed is kept when this is
        cancelled, fails or is killed, and the next call with the same model continues.

        Args:
            model: The specification of the model.
            instructions: Instructions for documents by modality; if None, those of the library if
                the model is of the same family, if empty, the model's own.
            leave_out: Switch even if files cannot be read or embedded: they become failed files.
            workers: Threads that read and decode files.
            on_progress: Called several times a second at most, in the calling thread.
            cancel: Set it to stop within seconds.

        Returns:
            A report that says whether it switched. It does not if files cannot be read, unless
            they are left out, nor if the library has that model already.

        Raises:
            LibraryBusy: if the library is being written to.
            LibraryError: if it cannot be written to.
            EmbedderUnavailable: if the model cannot be opened.
            EmbedderError: if it does not work; the library is unchanged.
            ValueError: if `workers` is less than 1.
        """
        with self._write_lock.held(_INGEST_WAIT_SECONDS):
            return self._switch().run(
                model,
                instructions,
                leave_out=leave_out,
                workers=workers,
                on_progress=on_progress,
                cancel=cancel or threading.Event(),
            )

    def plan_reembed(
        self, model: str, *, instructions: Mapping[Modality, str] | None = None
    ) -> ReembedPlan:
        """Return what `reembed` would do, without reading files or writing anything."""
        return self._switch().plan(model, instructions)

    def discard_pending(self) -> int:
        """Discard what an unfinished `reembed` has computed; return how many vectors."""
        with self._write_lock.held():
            return self._staged.clear()

    def search(self, query: Query) -> list[Hit]:
        """Return the hits of a query, best first; see `indexer.search.ranking.search`."""
        from indexer.search import ranking

        with self._model.priority.search():
            relevance = self.reranker.relevance(self, query) if self.reranker else {}
            return ranking.search(self, query, relevance)

    def remove(
        self, item_ids: Sequence[int], *, discard: Callable[[Path], None] = Path.unlink
    ) -> int:
        """Remove files from the library; on disk only copies under `uploads` are deleted.

        Folders under `uploads` that they leave empty are deleted with them.

        Args:
            item_ids: Of the files.
            discard: Deletes a copy, or moves it elsewhere.

        Returns:
            How many there were; unknown ids are ignored.

        Raises:
            LibraryBusy: if an ingest is running and does not end within ten seconds.
        """
        with self._write_lock.held(_REMOVAL_WAIT_SECONDS):
            removed = self._writer.remove(item_ids)
            for path in removed:
                if self.uploads in path.parents:
                    self._delete_upload(path, discard)
            self._tidy()
            return len(removed)

    def indexed_folders(self) -> list[IndexedFolder]:
        """Return the folders that the library remembers, in order."""
        from indexer.ingest.roots import indexed_folders

        return indexed_folders(self.catalog, self.missing(self.catalog.root_paths()))

    def set_watched(self, watched: bool) -> None:
        """Keep in the library whether the page keeps its folders up to date."""
        self._writer.set_watched(watched)

    def knows(self, path: Path) -> bool:
        """Return whether the library has files at a path or below it, or remembers it."""
        roots = self.catalog.root_paths()
        return any(root.is_relative_to(path) for root in roots) or self.catalog.has_path(path)

    def missing(
        self, paths: Iterable[Path], roots: Sequence[Path] | None = None
    ) -> dict[Path, Path]:
        """Return what is not connected, by those of some paths that lead to no file now.

        Args:
            paths: The paths.
            roots: The folders that the library remembers, if they are known; else they are read.
        """
        roots = self.catalog.root_paths() if roots is None else roots
        return self._presence.missing(paths, [self.uploads, *roots])

    def original(self, segment_id: int) -> tuple[MediaItem, Path | None]:
        """Return the file to show a segment from, the oldest of those that are there.

        Returns:
            The file; and what is not connected, None if the file can be opened.

        Raises:
            NotFound: no segment has that id.
        """
        oldest = self.catalog.item_of(segment_id)
        if not (missing := self.missing([oldest.path])):
            return oldest, None
        _, holders = self.catalog.resolve([segment_id], Filters()).get(segment_id, (None, ()))
        lost = self.missing(one.path for one in holders)
        there = next((one for one in holders if one.path not in lost), None)
        return (oldest, missing[oldest.path]) if there is None else (there, None)

    def forget(self, paths: Sequence[Path]) -> int:
        """Remove what is at some paths or below them from the library; on disk all stays.

        Args:
            paths: Absolute paths, which need not exist.

        Returns:
            How many files were removed.

        Raises:
            LibraryError: if the library has nothing at one of them; then nothing is removed.
            LibraryBusy: if an ingest is running and does not end within ten seconds.
        """
        with self._write_lock.held(_REMOVAL_WAIT_SECONDS):
            for path in paths:
                if not self.knows(path):
                    raise LibraryError(
                        f"the library has no files at or below {path}: check the spelling, or "
                        "list its folders with `rzen-ingest --list`"
                    )
            for path in paths:
                self._writer.forget_roots(path)
            removed = self._writer.remove([one.id for one in self._writer.below(paths)])
            self._tidy()
            return len(removed)

    def _delete_upload(self, path: Path, discard: Callable[[Path], None]) -> None:
        with suppress(FileNotFoundError):
            discard(path)
        for folder in path.parents[: len(path.relative_to(self.uploads).parts) - 1]:
            with suppress(OSError):  # It holds other files.
                folder.rmdir()

    def close(self) -> None:
        """Close the database and the model that the library opened, and stop background work."""
        with self._viewer_lock:
            if self._viewer is not None:
                self._viewer.close()
        self._index.close()
        self._model.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _switch(self) -> "ModelSwitch":
        from indexer.ingest.reembedding import ModelSwitch

        return ModelSwitch(
            catalog=self.catalog,
            writer=self._writer,
            staged=self._staged,
            model=self._model,
            sync=self._index,
            thumbnails=self._thumbnails,
            decoders=self.decoders,
        )

    def _open(self, model: str, instructions: Mapping[Modality, str] | None) -> Embedder:
        return open_embedder(model, **self._opening, instructions=instructions)

    def _tidy(self) -> None:
        """Remove segments that no file holds any more, and save the vector index."""
        for content_hash in self._writer.remove_orphans():
            self._thumbnails.remove(content_hash)
        self._index.save()


def open_decoders(cancel: threading.Event) -> "DecoderPool":
    """Return the processes that decode files for one ingest."""
    from indexer.decoding.pool import DecoderPool

    return DecoderPool(cancel=cancel)


def open_text_reader(cancel: threading.Event) -> "OcrPool":
    """Return the process that reads the words in pictures for one pass."""
    from indexer.decoding.ocr import OcrPool

    return OcrPool(cancel=cancel)
