"""Mending what a check found: what is derived is made anew, the rest is marked to be taken in.

Nothing that a person owns is deleted: no file outside the library's folder, and no upload.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from time import monotonic

from embedder.media.file_access import sha256_of
from embedder.media.kinds import Limits, MediaError
from indexer.catalog.maintenance import Mending, Upkeep
from indexer.catalog.verify import Audit
from indexer.ingest.progress import ProgressReporter
from indexer.maintenance.check import Fault, Finding, check, compared, state_of
from indexer.maintenance.compact import drop_retired, drop_thumbnails, drop_unheld
from indexer.maintenance.storage import LibraryFiles
from indexer.types import Progress

_log = logging.getLogger(__name__)

_DAMAGED = "the library has lost part of it: ingest it again"
_DECAYED = "its bytes are not those that were taken in, though size and date are: look at it"

# What is in the library was decoded before, whatever the limits then were.
_LIMITS = replace(
    Limits(), pixels=sys.maxsize, seconds=inf, pages=sys.maxsize, file_bytes=sys.maxsize
)


_WORDS = {Fault.TEXTS: ("segment_texts",), Fault.NAMES: ("item_names", "name_parts")}


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes:
        found: What was wrong.
        left: What still is; empty for a dry run.
        marked: Files that the next ingest has to take in again.
        dry: Nothing was written.
        seconds: How long it took.
    """

    found: tuple[Finding, ...]
    left: tuple[Finding, ...]
    marked: int
    dry: bool
    seconds: float


def repair(
    place: LibraryFiles,
    *,
    read_files: bool = False,
    dry: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> RepairReport:
    """Checks a library, mends what can be mended, and checks it again.

    Args:
        place: The library.
        read_files: Read all files too; those with other bytes than were taken in are marked.
        dry: Write nothing.
        on_progress: Called several times a second at most.

    Raises:
        LibraryBusy: if somebody is writing to the library.
        LibraryError: if it cannot be written to.
    """
    started_at = monotonic()
    if dry:
        found = check(place, read_files=read_files, on_progress=on_progress).findings
        return RepairReport(found, (), 0, True, monotonic() - started_at)
    with place.writer.held():
        found = check(place, read_files=read_files, on_progress=on_progress).findings
        left, marked = found, 0
        if found:
            mender = _Mender(place, ProgressReporter(on_progress))
            mender.mend({one.fault for one in found})
            marked = mender.marked
            left = check(place, read_files=read_files, on_progress=on_progress).findings
    return RepairReport(found, left, marked, False, monotonic() - started_at)


class _Mender:
    """The steps of a repair, in the order in which one builds upon the other."""

    def __init__(self, place: LibraryFiles, meter: ProgressReporter) -> None:
        self.marked = 0
        self._place = place
        self._meter = meter
        self._audit = Audit(place.database)
        self._mending = Mending(place.database)

    def mend(self, faults: set[Fault]) -> None:
        """Mends what can be mended."""
        if Fault.DATABASE in faults:
            self._meter.begin("database")
            self._mending.rebuild_keys()
            if self._audit.damage():
                return
            faults = {one.fault for one in check(self._place).findings}
        for fault, indexes in _WORDS.items():
            if fault in faults:
                self._meter.begin(f"{fault} index")
                for index in indexes:
                    self._mending.rebuild_words(index)
        if Fault.COUNTS in faults:
            self._mending.recount()
        if faults & {Fault.GENERATION, Fault.IDS}:
            self._mending.raise_numbers()
        if Fault.REFERENCES in faults:
            self._mark(self._mending.drop_dangling(self._audit.dangling()))
        if Fault.BAD_PENDING in faults:
            self._place.pending.forget(
                [one for one, _ in self._audit.bad_vectors("pending_vectors")]
            )
        self._take_in_again()
        if Fault.FILES_DECAYED in faults:
            self._mark_decayed()
        drop_unheld(self._place)
        drop_retired(self._place)
        if faults & {Fault.THUMBNAILS_MISSING, Fault.THUMBNAILS_BROKEN}:
            self._remake_thumbnails()
        drop_thumbnails(self._place, self._meter)
        self._remake_index(faults)

    def _take_in_again(self) -> None:
        """Marks the files of what lacks a part; what no file can replace loses only its vector."""
        bad = {segment for segment, _ in self._audit.bad_vectors()}
        without = self._audit.segments_without_vector()
        broken = {media: path for _, media, path in without}
        broken |= dict(self._audit.incomplete())
        located = self._audit.locate(bad)
        broken |= dict(located.values())
        lost = {media for media, path in broken.items() if path is None or not path.exists()}
        if hopeless := [one for one, (media, _) in located.items() if media in lost]:
            self._mending.drop_vectors(hopeless)
        if again := [media for media in broken if media not in lost]:
            self.marked += len(again)
            self._mending.forget_media(again, _DAMAGED)
        self._mark([one for one, _ in self._audit.files_without_content()])

    def _mark(self, item_ids: list[int], reason: str = _DAMAGED) -> None:
        if item_ids:
            self.marked += len(item_ids)
            self._mending.ask_for_files(item_ids, reason)

    def _mark_decayed(self) -> None:
        self._meter.begin("files", sum(self._place.catalog.stats().items.values()))
        held = self._meter.counted(self._audit.held())
        self._mark([one.id for one in held if state_of(one) is Fault.FILES_DECAYED], _DECAYED)

    def _remake_thumbnails(self) -> None:
        prefixes = self._place.thumbnails.prefixes()
        self._meter.begin("missing thumbnails", len(prefixes))
        for prefix in self._meter.counted(prefixes):
            missing, left = compared(self._place, prefix)
            wanted = self._place.thumbnails.broken(prefix).difference(left).union(missing)
            for content_hash in sorted({name.partition("-")[0] for name in wanted}):
                self._remake(content_hash, wanted)

    def _remake(self, content_hash: str, wanted: set[str]) -> None:
        """Cuts a file again, if one with these bytes is there; otherwise it stays as it is."""
        from embedder.media import cut

        path = _first_with(content_hash, self._audit.holders(content_hash))
        if path is None:
            return
        thumbnails = self._place.thumbnails
        try:
            for position, draft in enumerate(cut(path, self._audit.kind_of(content_hash), _LIMITS)):
                name = thumbnails.path(content_hash, position).name
                if name in wanted and draft.thumbnail is not None:
                    thumbnails.write(content_hash, position, draft.thumbnail)
        except MediaError as error:
            _log.warning("no thumbnails of %s: %s", path, error)

    def _remake_index(self, faults: set[Fault]) -> None:
        self._meter.begin("vector index")
        with self._place.index() as index:
            if faults & {Fault.INDEX, Fault.INDEX_CONTENT, Fault.INDEX_FOREIGN}:
                index.discard()
            index.save()
        Upkeep(self._place.database).forget_removals(self._place.catalog.generation())


def _first_with(content_hash: str, paths: Iterable[Path]) -> Path | None:
    for path in paths:
        try:
            if sha256_of(path) == content_hash:
                return path
        except OSError:
            continue
    return None
