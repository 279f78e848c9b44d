"""Which faults a library can have, and the check that finds them without changing anything."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Self

import numpy as np

from embedder.media.kinds import Kind, sha256_of
from indexer.catalog.verify import Audit, Held
from indexer.catalog.writer import storable_time
from indexer.errors import LibraryBusy, LibraryError
from indexer.ingest.stages import stat_file
from indexer.maintenance.storage import LibraryFiles
from indexer.presence import deleted, lost_part, vanished
from indexer.progress import Progress, ProgressReporter

if TYPE_CHECKING:
    from indexer.vectors import VectorIndex

MAX_EXAMPLES = 5
_SAMPLED_VECTORS = 1_000
_SCORE_TOLERANCE = 0.02

_REPAIR = "rzen-admin repair"
_REPAIR_AND_INGEST = "rzen-admin repair, then rzen-ingest --retry-failed"
_COMPACT = "rzen-admin compact"
_RESTORE = "rzen-admin restore, from a backup"
_INGEST = "rzen-ingest with their folder"
_INGEST_OR_FORGET = f"{_INGEST}; where a folder is gone for good, rzen-ingest --forget it"
_NOTHING = "nothing to do: the next search rebuilds it"


class Fault(StrEnum):
    """What a check looks for, in the order in which it is reported.

    Attributes:
        what: The fault in words.
        remedy: What repairs it.
        harmless: Whether it only wastes disk space.
    """

    what: str
    remedy: str
    harmless: bool

    def __new__(cls, value: str, what: str, remedy: str, harmless: bool = False) -> Self:
        """Make a member from its name, and what there is to say of it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.what, member.remedy, member.harmless = what, remedy, harmless
        return member

    DATABASE = "database", "the database file is corrupt", f"{_REPAIR}, or else {_RESTORE}"
    REFERENCES = "references", "rows that refer to missing rows", _REPAIR
    SEGMENTS_WITHOUT_VECTOR = (
        "segments-without-vector",
        "segments without a vector",
        _REPAIR_AND_INGEST,
    )
    BAD_VECTORS = "bad-vectors", "invalid vectors", _REPAIR_AND_INGEST
    BAD_PENDING = (
        "bad-pending-vectors",
        "invalid vectors of an unfinished re-embedding",
        f"{_REPAIR}, then rzen-reembed",
    )
    FILES_WITHOUT_CONTENT = (
        "files-without-content",
        "files whose content is missing",
        _REPAIR_AND_INGEST,
    )
    INCOMPLETE = "incomplete", "files with missing segments", _REPAIR_AND_INGEST
    WORDS = "full-text", "full-text indexes out of sync with the texts or file names", _REPAIR
    COUNTS = "counts", "stale counters, dates or words of files", _REPAIR
    INDEX = "index", "the saved vector index is unusable", f"{_NOTHING}; or {_REPAIR}"
    INDEX_CONTENT = "index-content", "vector index out of sync with the database", _REPAIR
    THUMBNAILS_MISSING = "thumbnails-missing", "missing thumbnails", _REPAIR
    THUMBNAILS_BROKEN = "thumbnails-broken", "truncated or empty thumbnails", _REPAIR
    UPLOADS_GONE = (
        "uploads-gone",
        "missing uploads",
        f"{_RESTORE}; or rzen-ingest, which removes them from the library",
    )
    FILES_GONE = "files-gone", "missing files", _INGEST_OR_FORGET
    FILES_UNREACHABLE = (
        "files-not-connected",
        "files of disks or folders that are not connected",
        "connect them and check again; or rzen-ingest --forget PATH, if they are gone for good",
        True,
    )
    FILES_CHANGED = "files-changed", "files that have changed since", _INGEST
    FILES_DECAYED = (
        "files-decayed",
        "files whose content changed but size and mtime did not (possible bit rot)",
        f"look at them; to index them again, {_REPAIR} --files, then rzen-ingest --retry-failed",
    )
    UNHELD = "unheld", "contents that no file has", f"{_COMPACT}, or the next rzen-ingest", True
    RETIRED = "retired-vectors", "vectors of a former model", _COMPACT, True
    REMOVALS = "removals", "obsolete tombstones", _COMPACT, True
    THUMBNAILS_LEFT = (
        "thumbnails-left",
        "orphaned thumbnails",
        f"{_COMPACT}; a running ingest has some too",
        True,
    )
    UPLOADS_UNKNOWN = (
        "uploads-unknown",
        "files in the uploads folder that are not indexed",
        "rzen-ingest with that folder, or delete them",
        True,
    )
    INDEX_FOREIGN = (
        "index-foreign",
        "the saved vector index belongs to another library or model",
        _NOTHING,
        True,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that a check found.

    Attributes:
        fault: Its kind.
        count: How many there are.
        examples: Some of them: files, rows, or SQLite's messages.
    """

    fault: Fault
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: Faults, then what only wastes disk space.
        seconds: How long it took.
        read_files: Whether the indexed files themselves were compared.
    """

    findings: tuple[Finding, ...]
    seconds: float
    read_files: bool

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that do harm."""
        return tuple(one for one in self.findings if not one.fault.harmless)


def check(
    files: LibraryFiles,
    *,
    read_files: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> CheckReport:
    """Look for every kind of fault.

    Args:
        files: The library; it may be opened for reading only.
        read_files: Also read all indexed files, and compare them with what was indexed.
        on_progress: Called several times a second at most.

    Raises:
        LibraryBusy: If the database is locked.
    """
    started_at, progress = monotonic(), ProgressReporter(on_progress)
    progress.begin("database")
    found = list(_in_database(files, progress))
    if not any(one.fault is Fault.DATABASE for one in found):
        found += _in_thumbnails(files, progress)
        found += _in_uploads(files, progress)
        if not any(one.fault is Fault.BAD_VECTORS for one in found):
            found += _in_index(files, progress)  # else there is nothing to compare it with
        if read_files:
            found += _in_files(files, progress)
    order = list(Fault)
    found.sort(key=lambda one: (one.fault.harmless, order.index(one.fault)))
    return CheckReport(tuple(found), monotonic() - started_at, read_files)


def _findings(found: dict[Fault, Sequence[object]]) -> Iterator[Finding]:
    """Yield a finding for each fault of which there are examples."""
    for fault, examples in found.items():
        if examples:
            yield Finding(fault, len(examples), tuple(map(str, examples[:MAX_EXAMPLES])))


def _in_database(files: LibraryFiles, progress: ProgressReporter) -> Iterator[Finding]:
    audit = Audit(files.database)
    if damage := audit.damage():
        yield from _findings({Fault.DATABASE: damage})
        return
    saved = _saved_generation(files)
    listings: dict[Fault, Callable[[], Sequence[object]]] = {
        Fault.REFERENCES: lambda: [f"{table}, row {row}" for table, row in audit.dangling()],
        Fault.SEGMENTS_WITHOUT_VECTOR: lambda: [
            f"segment {segment} of {path or 'no file'}"
            for segment, _, path in audit.segments_without_vector()
        ],
        Fault.BAD_VECTORS: lambda: [f"segment {one}: {why}" for one, why in audit.bad_vectors()],
        Fault.BAD_PENDING: lambda: [
            f"segment {one}: {why}" for one, why in audit.bad_vectors(pending=True)
        ],
        Fault.FILES_WITHOUT_CONTENT: lambda: [path for _, path in audit.files_without_content()],
        Fault.INCOMPLETE: lambda: [path or "no file" for _, path in audit.incomplete()],
        Fault.WORDS: audit.wrong_words,
        Fault.COUNTS: audit.wrong_counts,
    }
    counts: dict[Fault, Callable[[], int]] = {
        Fault.UNHELD: audit.unheld,
        Fault.RETIRED: audit.retired_vectors,
        Fault.REMOVALS: lambda: audit.removals(saved) if saved else 0,
    }
    try:
        with files.catalog.moment():
            for fault, examples in listings.items():
                progress.begin(f"database: {fault}")
                yield from _findings({fault: examples()})
            for fault, count in counts.items():
                if number := count():
                    yield Finding(fault, number)
    except LibraryBusy:
        raise
    except LibraryError as error:
        yield Finding(Fault.DATABASE, 1, (str(error),))


def _in_thumbnails(files: LibraryFiles, progress: ProgressReporter) -> Iterator[Finding]:
    missing, broken, orphaned = list[str](), list[str](), list[str]()
    prefixes = thumbnail_prefixes(files)
    progress.begin("thumbnails", len(prefixes))
    for prefix in progress.counted(prefixes):
        lacking, unexpected = compare_thumbnails(files, prefix)
        missing += lacking
        broken += sorted(files.thumbnails.broken(prefix).difference(unexpected))
        orphaned += unexpected
    yield from _findings(
        {
            Fault.THUMBNAILS_MISSING: missing,
            Fault.THUMBNAILS_BROKEN: broken,
            Fault.THUMBNAILS_LEFT: orphaned,
        }
    )


def thumbnail_prefixes(files: LibraryFiles) -> list[str]:
    """Return the prefixes of hashes for which there are thumbnails, or should be."""
    return sorted(files.thumbnails.prefixes() | Audit(files.database).prefixes())


def compare_thumbnails(files: LibraryFiles, prefix: str) -> tuple[list[str], list[str]]:
    """Return the names of missing and of orphaned thumbnails whose hash has a prefix."""
    audit = Audit(files.database)
    missing, orphaned = files.thumbnails.compare(prefix, audit.pictured(prefix))
    if missing:  # unless their files have just been removed
        missing &= files.thumbnails.compare(prefix, audit.pictured(prefix))[0]
    return sorted(missing), sorted(orphaned)


def _in_uploads(files: LibraryFiles, progress: ProgressReporter) -> Iterator[Finding]:
    progress.begin("uploads")
    audit = Audit(files.database)
    known = audit.known_below(files.uploads)
    present = files.uploaded()
    gone = sorted(path for path in known - present if vanished(path))
    gone = [path for path in gone if path in audit.known_below(files.uploads)]
    yield from _findings({Fault.UPLOADS_GONE: gone, Fault.UPLOADS_UNKNOWN: sorted(present - known)})


def _in_index(files: LibraryFiles, progress: ProgressReporter) -> Iterator[Finding]:
    """Check the saved index, then compare what it is after catching up with the database."""
    progress.begin("vector index")
    with files.index() as index:
        if not index.has_files:
            return  # the next search builds it
        saved, generation = index.saved_generation(), files.catalog.generation()
        if saved is None:
            yield Finding(Fault.INDEX_FOREIGN, 1, (str(files.vectors),))
        elif saved > generation:
            ahead = f"it is of generation {saved}, the database of {generation}"
            yield Finding(Fault.INDEX, 1, (ahead,))
        elif damage := index.damage():
            yield from _findings({Fault.INDEX: damage})
        else:
            with files.catalog.moment():
                differences = list(_differences(files, index.current(), progress))
            yield from _findings({Fault.INDEX_CONTENT: differences})


def _differences(
    files: LibraryFiles, index: "VectorIndex", progress: ProgressReporter
) -> Iterator[str]:
    audit = Audit(files.database)
    if len(index) != audit.vectors():
        yield f"{len(index)} vectors in the index, {audit.vectors()} in the database"
    sample = audit.sample(_SAMPLED_VECTORS)
    progress.begin("vector index", len(sample))
    for segment_id, kind in progress.counted(sample):
        if not _holds(files, index, segment_id, kind):
            yield f"segment {segment_id}"


def _holds(files: LibraryFiles, index: "VectorIndex", segment_id: int, kind: Kind) -> bool:
    """Whether an index has a segment's vector as the database has it."""
    vector = files.catalog.vectors_of([segment_id])[0]
    scores, ids = index.search(vector, 1, kind, ids=np.array([segment_id], dtype=np.int64))
    if list(ids) != [segment_id]:
        return False
    return bool(abs(float(scores[0]) - float(vector @ vector)) < _SCORE_TOLERANCE)


def _in_files(files: LibraryFiles, progress: ProgressReporter) -> Iterator[Finding]:
    found: dict[Fault, list[object]] = {}
    progress.begin("files", sum(files.catalog.stats().items.values()))
    for held in progress.counted(Audit(files.database).held()):
        if fault := file_fault(held):
            found.setdefault(fault, []).append(held.path)
    yield from _findings(dict(found))


def file_fault(held: Held) -> Fault | None:
    """Return what has happened to a file since it was indexed, or None."""
    try:
        now = stat_file(held.path)
        if (now.size, storable_time(now.mtime_ns)) != (held.size, held.mtime_ns):
            return Fault.FILES_CHANGED
        return None if sha256_of(held.path) == held.content_hash else Fault.FILES_DECAYED
    except OSError:
        return Fault.FILES_GONE if _is_gone(held) else Fault.FILES_UNREACHABLE


def _is_gone(held: Held) -> bool:
    """Return whether a file cannot be read though its disk is connected, as far as can be said."""
    alone = lost_part(held.path) == held.path  # Its folder is there, with others in it.
    return not vanished(held.path) or alone or deleted(held.path, held.folder)


def _saved_generation(files: LibraryFiles) -> int | None:
    with files.index() as index:
        return index.saved_generation()


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder and below it."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # just removed
            continue
    return total
