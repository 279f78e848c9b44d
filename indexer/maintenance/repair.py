"""Repair of what a check finds: derived data is rebuilt, the rest is marked to be indexed again.

No file of the user's is deleted, neither outside the library's folder nor among the uploads.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from time import monotonic

from embedder.media.kinds import Limits, MediaError, sha256_of
from indexer.catalog.verify import Audit, CatalogRepair
from indexer.decoding.pool import DecoderPool
from indexer.maintenance.check import (
    Fault,
    Finding,
    check,
    compare_thumbnails,
    file_fault,
    thumbnail_prefixes,
)
from indexer.maintenance.compact import drop_retired, drop_thumbnails, drop_unheld
from indexer.maintenance.storage import LibraryFiles
from indexer.presence import vanished
from indexer.progress import Progress, ProgressReporter

_log = logging.getLogger(__name__)

_DAMAGED = "the library has lost part of it: ingest it again"
_DECAYED = "its content changed but its size and mtime did not (possible bit rot): look at it"

# What is in the library was decoded before, whatever the limits were then.
_NO_LIMITS = replace(
    Limits(), pixels=sys.maxsize, seconds=inf, pages=sys.maxsize, file_bytes=sys.maxsize
)


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes:
        found: The faults that were found.
        left: Those that remain; empty for a dry run.
        marked: How many files the next ingest has to index again.
        dry: Whether nothing was written.
        seconds: How long it took.
    """

    found: tuple[Finding, ...]
    left: tuple[Finding, ...]
    marked: int
    dry: bool
    seconds: float


def repair(
    files: LibraryFiles,
    *,
    read_files: bool = False,
    dry: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> RepairReport:
    """Check a library, repair what can be repaired, and check it again.

    Args:
        files: The library.
        read_files: Also read all indexed files, and mark those with possible bit rot.
        dry: Write nothing.
        on_progress: Called several times a second at most.

    Raises:
        LibraryBusy: If another program is writing to the library.
        LibraryError: If it cannot be written to.
    """
    started_at = monotonic()
    if dry:
        found = check(files, read_files=read_files, on_progress=on_progress).findings
        return RepairReport(found, (), 0, True, monotonic() - started_at)
    with files.writer.held():
        found = check(files, read_files=read_files, on_progress=on_progress).findings
        left, marked = found, 0
        if found:
            repairer = _Repairer(files, ProgressReporter(on_progress))
            repairer.repair({one.fault for one in found})
            marked = repairer.marked
            left = check(files, read_files=read_files, on_progress=on_progress).findings
    return RepairReport(found, left, marked, False, monotonic() - started_at)


class _Repairer:
    """The steps of a repair; each relies on those before it."""

    def __init__(self, files: LibraryFiles, progress: ProgressReporter) -> None:
        self.marked = 0
        self._files = files
        self._progress = progress
        self._audit = Audit(files.database)
        self._tables = CatalogRepair(files.database)

    def repair(self, faults: set[Fault]) -> None:
        """Repair what can be repaired."""
        if Fault.DATABASE in faults:
            self._progress.begin("database")
            self._tables.rebuild_keys()
            if self._audit.damage():
                return
            faults = {one.fault for one in check(self._files).findings}
        if faults & {Fault.WORDS, Fault.COUNTS}:
            self._progress.begin("derived data")
            self._tables.rebuild_derived()
        if Fault.REFERENCES in faults:
            self._mark(self._tables.drop_dangling(self._audit.dangling()))
        if Fault.BAD_PENDING in faults:
            self._files.pending.forget([one for one, _ in self._audit.bad_vectors(pending=True)])
        self._mark_incomplete()
        if Fault.FILES_DECAYED in faults:
            self._mark_decayed()
        drop_unheld(self._files)
        drop_retired(self._files)
        if faults & {Fault.THUMBNAILS_MISSING, Fault.THUMBNAILS_BROKEN}:
            self._rebuild_thumbnails()
        drop_thumbnails(self._files, self._progress)
        self._rebuild_index(faults)

    def _mark_incomplete(self) -> None:
        """Mark the files of incomplete contents; without a file, only bad vectors are dropped."""
        bad = {segment for segment, _ in self._audit.bad_vectors()}
        without = self._audit.segments_without_vector()
        broken = {media: path for _, media, path in without}
        broken |= dict(self._audit.incomplete())
        located = self._audit.locate(bad)
        broken |= dict(located.values())
        lost = {media for media, path in broken.items() if path is None or vanished(path)}
        if hopeless := [one for one, (media, _) in located.items() if media in lost]:
            self._tables.drop_vectors(hopeless)
        if again := [media for media in broken if media not in lost]:
            self.marked += len(again)
            self._tables.forget_media(again, _DAMAGED)
        self._mark([one for one, _ in self._audit.files_without_content()])

    def _mark(self, item_ids: list[int], reason: str = _DAMAGED) -> None:
        if item_ids:
            self.marked += len(item_ids)
            self._tables.ask_for_files(item_ids, reason)

    def _mark_decayed(self) -> None:
        self._progress.begin("files", sum(self._files.catalog.stats().items.values()))
        held = self._progress.counted(self._audit.held())
        self._mark([one.id for one in held if file_fault(one) is Fault.FILES_DECAYED], _DECAYED)

    def _rebuild_thumbnails(self) -> None:
        prefixes = thumbnail_prefixes(self._files)
        self._progress.begin("missing thumbnails", len(prefixes))
        with DecoderPool() as decoders:
            for prefix in self._progress.counted(prefixes):
                missing, orphaned = compare_thumbnails(self._files, prefix)
                wanted = self._files.thumbnails.broken(prefix).difference(orphaned).union(missing)
                for content_hash in sorted({name.partition("-")[0] for name in wanted}):
                    self._redraw(content_hash, wanted, decoders)

    def _redraw(self, content_hash: str, wanted: set[str], decoders: DecoderPool) -> None:
        """Cut a file with these bytes again, if there still is one."""
        path = _first_with(
            content_hash, (one.path for one in self._files.ledger.holders(content_hash))
        )
        if path is None:
            return
        thumbnails, kind = self._files.thumbnails, self._audit.kind_of(content_hash)
        try:
            for position, draft in enumerate(decoders.cut(path, kind, _NO_LIMITS)):
                name = thumbnails.path(content_hash, position).name
                if name in wanted and draft.thumbnail is not None:
                    thumbnails.write(content_hash, position, draft.thumbnail)
        except (MediaError, MemoryError) as error:
            _log.warning("cannot rebuild the thumbnails of %s: %r", path, error)

    def _rebuild_index(self, faults: set[Fault]) -> None:
        self._progress.begin("vector index")
        with self._files.index() as index:
            if faults & {Fault.INDEX, Fault.INDEX_CONTENT, Fault.INDEX_FOREIGN}:
                index.discard()
            index.save()
        self._files.ledger.forget_removals(self._files.catalog.generation())


def _first_with(content_hash: str, paths: Iterable[Path]) -> Path | None:
    for path in paths:
        try:
            if sha256_of(path) == content_hash:
                return path
        except OSError:
            continue
    return None
