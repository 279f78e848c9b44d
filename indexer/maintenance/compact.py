"""Giving back the room that nothing needs any more; the library can be searched all the while."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from indexer.catalog.maintenance import Upkeep
from indexer.catalog.verify import Audit
from indexer.ingest.progress import ProgressReporter
from indexer.maintenance.check import compared, folder_bytes
from indexer.maintenance.storage import LibraryFiles
from indexer.types import Progress

_WORTH_BYTES = 1 << 20
_WORTH_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction did.

    Attributes:
        before: Bytes of the library's folder.
        after: Likewise.
        removals: Notes of removals that were forgotten.
        vectors: Vectors of a former model that were dropped.
        contents: Contents that no file held any more.
        thumbnails: Left-over thumbnails that were deleted.
        rewritten: The database file was written anew.
        seconds: How long it took.
    """

    before: int
    after: int
    removals: int
    vectors: int
    contents: int
    thumbnails: int
    rewritten: bool
    seconds: float


def compact(
    place: LibraryFiles, *, on_progress: Callable[[Progress], None] | None = None
) -> CompactReport:
    """Makes a library as small as it can be.

    The database is written anew only where that frees a tenth of it and more than a megabyte.
    Killing it at any moment loses nothing.

    Raises:
        LibraryBusy: if somebody is writing to the library.
        LibraryError: if it cannot be written to, or the disk is full.
    """
    started_at, meter = monotonic(), ProgressReporter(on_progress)
    with place.writer.held():
        before = folder_bytes(place.directory)
        upkeep = Upkeep(place.database)
        meter.begin("left-overs")
        contents = drop_unheld(place)
        vectors = drop_retired(place)
        meter.begin("vector index")
        with place.index() as index:
            index.settle()
            index.save()
        removals = upkeep.forget_removals(place.catalog.generation())
        thumbnails = drop_thumbnails(place, meter)
        meter.begin("full-text index")
        upkeep.tidy_words()
        size = upkeep.size()
        rewritten = size.free > max(_WORTH_BYTES, _WORTH_SHARE * size.bytes)
        if rewritten:
            meter.begin("database")
            upkeep.rewrite()
        upkeep.empty_log()
        return CompactReport(
            before=before,
            after=folder_bytes(place.directory),
            removals=removals,
            vectors=vectors,
            contents=contents,
            thumbnails=thumbnails,
            rewritten=rewritten,
            seconds=monotonic() - started_at,
        )


def drop_unheld(place: LibraryFiles) -> int:
    """Removes contents that no file holds; returns how many."""
    gone = place.ledger.remove_orphans()
    for content_hash in gone:
        place.thumbnails.remove(content_hash)
    return len(gone)


def drop_retired(place: LibraryFiles) -> int:
    """Removes vectors of a former model, but none of a re-embedding that can be continued."""
    return place.pending.clear() if Audit(place.database).retired_vectors() else 0


def drop_thumbnails(place: LibraryFiles, meter: ProgressReporter) -> int:
    """Deletes thumbnails that belong to nothing; returns how many."""
    dropped = 0
    prefixes = place.thumbnails.prefixes()
    meter.begin("thumbnails", len(prefixes))
    for prefix in meter.counted(prefixes):
        _, left = compared(place, prefix)
        place.thumbnails.discard(prefix, left)
        dropped += len(left)
    return dropped
