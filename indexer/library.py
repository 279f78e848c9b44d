"""What a library holds, as its callers ask for it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from embedder.content import Modality
from embedder.interface import Embedder
from embedder.media.kinds import Limits
from embedder.registry import open_embedder
from indexer.catalog import Catalog
from indexer.catalog.database import Database, WriterLock
from indexer.catalog.staged import StagedVectors
from indexer.catalog.writer import CatalogWriter, vanished
from indexer.config import (
    LIBRARY_FILE,
    IngestOptions,
    default_library,
    holds_library,
    typed_path,
    within,
)
from indexer.errors import LibraryBusy, LibraryError
from indexer.ingest.thumbnails import Thumbnails
from indexer.model import LibraryModel
from indexer.search.scheduling import SearchPriority, SharedEmbedder
from indexer.types import (
    Hit,
    IngestPlan,
    IngestReport,
    Progress,
    Query,
    ReembedPlan,
    ReembedReport,
)
from indexer.vectors import VectorIndex
from indexer.vectors.sync import IndexSync

if TYPE_CHECKING:
    from indexer.decoding.on_demand import OnDemandDecoder
    from indexer.decoding.pool import DecoderPool
    from indexer.ingest.decode import OpenDecoders
    from indexer.ingest.reembedding import ModelSwitch


_REMOVAL_WAIT_SECONDS = 10.0
_SNAPSHOTS = 5


class Library:
    """A library on disk. Thread-safe; several processes may have it open.

    Guarantees: opening it loads neither a model nor vectors; reading and searching never wait
    for an ingest or a re-embedding; only one ingest, removal or re-embedding at a time changes
    it, others get `LibraryBusy`; a search sees all that was committed before it, whoever did so;
    when another process gives the library another model, this one follows.

    Attributes:
        directory: Its folder.
        uploads: The folder for files that exist nowhere else; removing them deletes them.
        catalog: Questions to its tables.
        decoders: Opens what decodes files while an ingest or a re-embedding runs.
        turn: Held while a search compares what it found: threads that do so side by side take the
            interpreter from each other at every row that SQLite gives, and each takes longer than
            all of them one after the other.
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
        self.uploads = directory / "uploads"
        self._opening = opening
        self._database = Database(directory / LIBRARY_FILE)
        self.catalog = Catalog(self._database)
        self._thumbnails = Thumbnails(directory / "thumbnails")
        self._ledger = CatalogWriter(self._database)
        self._pending = StagedVectors(self._database)
        self._writer = WriterLock(directory / "writer.lock")
        self._index = IndexSync(self.catalog, directory / "vectors", self._writer)
        self._viewer: OnDemandDecoder | None = None
        self._viewer_lock = threading.Lock()
        self._model = LibraryModel(directory, self.catalog, self._ledger, self._open, embedder)
        self.turn = threading.Lock()
        self._priority = SearchPriority()
        self._shared: SharedEmbedder | None = None
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
        """Opens a library.

        Args:
            directory: Its folder; `indexer.config.default_library` if None.
            model: The model it must have; the one it remembers if None, "mini" for a new one.
            create: Make it if it does not exist.
            embedder: Use this one, which stays open, rather than opening the model by name.
            device: Where the model runs, see `embedder.open_embedder`.
            dtype: Its precision.
            instructions: What documents of a modality are told; those that it remembers if None,
                the model's own if empty.
            decoders: Opens what decodes files while an ingest runs; processes of
                `indexer.decoding.pool.DecoderPool` if None.

        Raises:
            LibraryError: it does not exist, cannot be used, or is of a newer version.
            ModelMismatch: it holds vectors of another model, or with other instructions.
            EmbedderUnavailable: the model that was asked for has to be compared with the one it
                remembers, and cannot be opened.
        """
        directory = typed_path(directory or default_library())
        if not holds_library(directory):
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
        opening = {"device": device, "dtype": dtype}
        return cls(directory, model, embedder, opening, instructions, decoders)

    @property
    def model(self) -> str:
        """The specification of its model."""
        return self._model.name

    @property
    def embedder(self) -> Embedder:
        """The library's model, opened when it is first asked for.

        Raises:
            EmbedderUnavailable: it cannot be opened.
            ModelMismatch: the library holds vectors of another version of it.
        """
        return self._model.embedder

    def snapshot(self) -> tuple[Embedder, VectorIndex]:
        """The model and the vectors, of the same model though it may just be changing.

        The catalog may be ahead of both: whoever reads vectors from it as well asks
        `Catalog.holds_vectors_of` within the same moment.

        Raises:
            EmbedderUnavailable: the model cannot be opened.
            ModelMismatch: the library holds vectors of another version of it.
            LibraryBusy: the model changes again and again.
        """
        for _ in range(_SNAPSHOTS):
            embedder, vectors = self.embedder, self.vectors
            if vectors.fingerprint == embedder.info.fingerprint or not len(vectors):
                return self._share(embedder), vectors
        raise LibraryBusy(f"the library in {self.directory} is changing its model: try again")

    @property
    def limits(self) -> Limits:
        """What a file to search with is decoded to: no larger than the model makes use of."""
        return within(Limits(), self.embedder.info)

    @property
    def vectors(self) -> VectorIndex:
        """The vectors, loaded when first asked for and caught up with the catalog each time."""
        return self._index.current()

    @property
    def viewer(self) -> "OnDemandDecoder":
        """What decodes files for whoever searches with them or looks at them."""
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

    def plan(self, paths: Sequence[Path], options: IngestOptions | None = None) -> IngestPlan:
        """What an ingest would do; embeds nothing and writes nothing."""
        from indexer.ingest.discovery import plan

        options = options or IngestOptions()
        with self.decoders(options.limits, threading.Event()) as decoders:
            return plan(self._ledger, decoders, self._targets(paths, options), options)

    def ingest(
        self,
        paths: Sequence[Path],
        options: IngestOptions | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> IngestReport:
        """Takes in what is at some paths; see `indexer.ingest.pipeline.FileIngest`.

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
        from indexer.catalog.duplicates import count_again
        from indexer.ingest.discovery import roots
        from indexer.ingest.pipeline import FileIngest

        options, cancel = options or IngestOptions(), cancel or threading.Event()
        if not paths and not options.retry_failed:
            raise ValueError("nothing to ingest: give a path")
        with self._writer.held():
            targets = self._targets(paths, options)
            with self.decoders(options.limits, cancel) as decoders:
                ingest = FileIngest(
                    [path for path in targets if paths or not vanished(path)],
                    options,
                    writer=self._ledger,
                    thumbnails=self._thumbnails,
                    embedder=lambda: self._share(self.embedder),
                    adopt=self._model.adopt,
                    decoders=decoders,
                    on_progress=on_progress,
                    cancel=cancel,
                )
                ingest.run()
            removed = 0
            if options.sweep and not cancel.is_set():
                swept = self._ledger.below(roots(targets) if paths else targets)
                gone = [one for one, path, _ in swept if one not in ingest.known and vanished(path)]
                removed = len(self._ledger.remove(gone))
            self._tidy()
            if ingest.changed or removed:
                count_again(self.catalog, self._ledger)
                self._index.settle(cancel)
                self._index.save()
            return ingest.report(
                removed=removed,
                near_duplicates=self._ledger.near_duplicates(),
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
        """Gives the library another model: computes all vectors anew, then switches over at once.

        Until then it is searched with the vectors it has. What was computed stays when this is
        stopped, fails or is killed, and the next call with the same model goes on from there.

        Args:
            model: What opens the model.
            instructions: What documents of a modality are told; None for those remembered if it
                is of the same family as the library's, empty for the model's own.
            leave_out: Switch though some files cannot be read or embedded: they leave the library
                and are failed files from then on.
            workers: Threads that read and decode files.
            on_progress: Called several times a second at most, in the calling thread.
            cancel: Set it to stop within seconds.

        Returns:
            Whether it switched. It does not where files cannot be read, unless they are to be
            left out, and where the library has that model already.

        Raises:
            LibraryBusy: if the library is being written to.
            LibraryError: if it cannot be written to.
            EmbedderUnavailable: if the model cannot be opened.
            EmbedderError: if it does not work; the library is as it was.
            ValueError: if `workers` is less than 1.
        """
        with self._writer.held():
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
        """What `reembed` would do; reads no file and writes nothing."""
        return self._switch().plan(model, instructions)

    def discard_pending(self) -> int:
        """Discards what an unfinished `reembed` has computed; returns how many vectors."""
        with self._writer.held():
            return self._pending.clear()

    def search(self, query: Query) -> list[Hit]:
        """The hits of a query, best first; see `indexer.search.ranking.search`."""
        from indexer.search import ranking

        with self._priority.search():
            return ranking.search(self, query)

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

    def close(self) -> None:
        """Closes the database and the model that the library opened, and stops other work."""
        with self._viewer_lock:
            if self._viewer is not None:
                self._viewer.close()
        self._index.close()
        self._model.close()
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

    def _switch(self) -> "ModelSwitch":
        from indexer.ingest.reembedding import ModelSwitch

        return ModelSwitch(
            catalog=self.catalog,
            writer=self._ledger,
            staged=self._pending,
            model=self._model,
            sync=self._index,
            thumbnails=self._thumbnails,
            decoders=self.decoders,
        )

    def _share(self, embedder: Embedder) -> Embedder:
        """Return what lets searches and an ingest use an embedder at the same time."""
        shared = self._shared
        if shared is None or shared.inner is not embedder:
            self._shared = shared = SharedEmbedder(embedder, self._priority)
        return shared

    def _open(self, model: str, instructions: Mapping[Modality, str] | None) -> Embedder:
        return open_embedder(model, **self._opening, instructions=instructions)

    def _targets(self, paths: Sequence[Path], options: IngestOptions | None) -> list[Path]:
        if not paths and options is not None and options.retry_failed:
            return self._ledger.failed()
        return [Path(path) for path in paths]

    def _tidy(self) -> None:
        """Removes what no file holds any more, and writes the vectors to disk."""
        for content_hash in self._ledger.remove_orphans():
            self._thumbnails.remove(content_hash)
        self._index.save()


def open_decoders(limits: Limits, cancel: threading.Event) -> "DecoderPool":
    """Return the processes that decode files for one ingest."""
    from indexer.decoding.pool import DecoderPool

    return DecoderPool(limits, cancel=cancel)
