"""Reclaiming unused disk space while the library stays searchable."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from indexer.catalog.verify import Audit
from indexer.maintenance.check import compare_thumbnails, folder_bytes
from indexer.maintenance.storage import LibraryFiles
from indexer.progress import Progress, ProgressReporter

_MIN_FREE_BYTES = 1 << 20
_MIN_FREE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction did.

    Attributes:
        before: Bytes of the library's folder before.
        after: Bytes of the library's folder after.
        removals: How many tombstones were deleted.
        vectors: How many vectors of a former model were deleted.
        contents: How many contents without a file were deleted.
        thumbnails: How many orphaned thumbnails were deleted.
        rewritten: Whether the database file was rewritten.
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
    files: LibraryFiles, *, on_progress: Callable[[Progress], None] | None = None
) -> CompactReport:
    """Reclaim unused disk space.

    The database is rewritten only if that frees a tenth of it and more than a megabyte. The
    process may be killed at any moment.

    Raises:
        LibraryBusy: If another program is writing to the library.
        LibraryError: If it cannot be written to, or the disk is full.
    """
    started_at, progress = monotonic(), ProgressReporter(on_progress)
    with files.writer.held():
        before = folder_bytes(files.directory)
        progress.begin("unused contents")
        contents = drop_unheld(files)
        vectors = drop_retired(files)
        progress.begin("vector index")
        with files.index() as index:
            index.settle()
            index.save()
        removals = files.ledger.forget_removals(files.catalog.generation())
        thumbnails = drop_thumbnails(files, progress)
        progress.begin("full-text index")
        files.ledger.merge_words()
        size = files.database.size()
        rewritten = size.free > max(_MIN_FREE_BYTES, _MIN_FREE_SHARE * size.bytes)
        if rewritten:
            progress.begin("database")
            files.database.rewrite()
        files.database.empty_log()
        return CompactReport(
            before=before,
            after=folder_bytes(files.directory),
            removals=removals,
            vectors=vectors,
            contents=contents,
            thumbnails=thumbnails,
            rewritten=rewritten,
            seconds=monotonic() - started_at,
        )


def drop_unheld(files: LibraryFiles) -> int:
    """Delete contents that no file has; return how many."""
    gone = files.ledger.remove_orphans()
    for content_hash in gone:
        files.thumbnails.remove(content_hash)
    return len(gone)


def drop_retired(files: LibraryFiles) -> int:
    """Delete vectors of a former model, but none of a re-embedding that can be continued."""
    return files.pending.clear() if Audit(files.database).retired_vectors() else 0


def drop_thumbnails(files: LibraryFiles, progress: ProgressReporter) -> int:
    """Delete orphaned thumbnails; return how many."""
    dropped = 0
    prefixes = sorted(files.thumbnails.prefixes())
    progress.begin("thumbnails", len(prefixes))
    for prefix in progress.counted(prefixes):
        _, orphaned = compare_thumbnails(files, prefix)
        files.thumbnails.discard(prefix, orphaned)
        dropped += len(orphaned)
    return dropped
