"""What can be wrong with a library, and what is to be done about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from embedder.media.file_access import sha256_of
from embedder.media.kinds import Kind
from indexer.catalog.verify import Audit, Held
from indexer.catalog.writer import storable_time, vanished
from indexer.errors import LibraryBusy, LibraryError
from indexer.ingest.decode import stat_file
from indexer.ingest.progress import ProgressReporter
from indexer.maintenance.storage import LibraryFiles
from indexer.types import Progress

if TYPE_CHECKING:
    from indexer.vectors import VectorIndex


SHOWN = 5
"""How many examples a finding names."""


class Fault(StrEnum):
    """What a check looks for; each has a sentence and a remedy below."""

    DATABASE = "database"
    REFERENCES = "references"
    SEGMENTS_WITHOUT_VECTOR = "segments-without-vector"
    BAD_VECTORS = "bad-vectors"
    BAD_PENDING = "bad-pending-vectors"
    FILES_WITHOUT_CONTENT = "files-without-content"
    INCOMPLETE = "incomplete"
    TEXTS = "full-text"
    NAMES = "file-names"
    COUNTS = "counts"
    GENERATION = "generation"
    IDS = "ids"
    INDEX = "index"
    INDEX_CONTENT = "index-content"
    THUMBNAILS_MISSING = "thumbnails-missing"
    THUMBNAILS_BROKEN = "thumbnails-broken"
    UPLOADS_GONE = "uploads-gone"
    FILES_GONE = "files-gone"
    FILES_CHANGED = "files-changed"
    FILES_DECAYED = "files-decayed"
    # What is merely left over: it takes room and does no harm.
    UNHELD = "unheld"
    RETIRED = "retired-vectors"
    REMOVALS = "removals"
    THUMBNAILS_LEFT = "thumbnails-left"
    UPLOADS_UNKNOWN = "uploads-unknown"
    INDEX_FOREIGN = "index-foreign"


_REPAIR = "rzen-admin repair"
_REPAIR_AND_INGEST = "rzen-admin repair, then rzen-ingest --retry-failed"
_COMPACT = "rzen-admin compact"
_RESTORE = "rzen-admin restore, from a backup"
_INGEST = "rzen-ingest with their folder"
_ITSELF = "nothing to do: the next search makes it anew"

_TOLD = {
    Fault.DATABASE: ("SQLite finds the database damaged", f"{_REPAIR}, or else {_RESTORE}"),
    Fault.REFERENCES: ("rows that refer to what is not there", _REPAIR),
    Fault.SEGMENTS_WITHOUT_VECTOR: ("segments without a vector", _REPAIR_AND_INGEST),
    Fault.BAD_VECTORS: ("vectors that are of no use", _REPAIR_AND_INGEST),
    Fault.BAD_PENDING: (
        "vectors of an unfinished re-embedding that are of no use",
        f"{_REPAIR}, then rzen-reembed",
    ),
    Fault.FILES_WITHOUT_CONTENT: ("files whose content is not there", _REPAIR_AND_INGEST),
    Fault.INCOMPLETE: ("files of which segments are missing", _REPAIR_AND_INGEST),
    Fault.TEXTS: ("texts that the full-text index does not have as they are", _REPAIR),
    Fault.NAMES: ("file names that their index does not have as they are", _REPAIR),
    Fault.COUNTS: ("numbers that are not what they count", _REPAIR),
    Fault.GENERATION: ("changes that open programs would never notice", _REPAIR),
    Fault.IDS: ("numbers that could be given to two segments", _REPAIR),
    Fault.INDEX: ("the saved vector index cannot be used", f"{_ITSELF}; or {_REPAIR}"),
    Fault.INDEX_CONTENT: ("vectors that the saved index has otherwise or not at all", _REPAIR),
    Fault.THUMBNAILS_MISSING: ("thumbnails that are missing", _REPAIR),
    Fault.THUMBNAILS_BROKEN: ("thumbnails that are cut off or empty", _REPAIR),
    Fault.UPLOADS_GONE: ("uploaded files that are gone", f"{_RESTORE}, or rzen-ingest to forget"),
    Fault.FILES_GONE: ("files that are not where they were", _INGEST),
    Fault.FILES_CHANGED: ("files that have changed since", _INGEST),
    Fault.FILES_DECAYED: (
        "files with other bytes but the same size and date",
        "look at them; rzen-admin repair --files, then rzen-ingest --retry-failed takes them anew",
    ),
    Fault.UNHELD: ("contents that no file holds any more", f"{_COMPACT}, or the next rzen-ingest"),
    Fault.RETIRED: ("vectors of a model that is no longer used", _COMPACT),
    Fault.REMOVALS: ("notes of removals that nobody needs any more", _COMPACT),
    Fault.THUMBNAILS_LEFT: ("thumbnails of nothing", f"{_COMPACT}; a running ingest has some too"),
    Fault.UPLOADS_UNKNOWN: (
        "files in the uploads folder that the library does not know",
        "rzen-ingest with that folder, or delete them",
    ),
    Fault.INDEX_FOREIGN: ("the saved vector index is of another library or model", _ITSELF),
}
_LEFT_OVER = frozenset(
    {
        Fault.UNHELD,
        Fault.RETIRED,
        Fault.REMOVALS,
        Fault.THUMBNAILS_LEFT,
        Fault.UPLOADS_UNKNOWN,
        Fault.INDEX_FOREIGN,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        fault: What kind it is of.
        count: How many there are.
        examples: Some of them: files, or what SQLite says.
    """

    fault: Fault
    count: int
    examples: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """The fault in words."""
        return _TOLD[self.fault][0]

    @property
    def remedy(self) -> str:
        """What mends it."""
        return _TOLD[self.fault][1]

    @property
    def harmless(self) -> bool:
        """Whether it only takes room."""
        return self.fault in _LEFT_OVER


def finding(fault: Fault, examples: Sequence[object]) -> Finding | None:
    """A finding of everything given, or nothing where nothing is given."""
    shown = tuple(map(str, examples[:SHOWN]))
    return Finding(fault, len(examples), shown) if examples else None


_SAMPLE = 1_000
_SCORE_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: Faults first, then what is merely left over.
        seconds: How long it took.
        read_files: The files themselves were read and compared as well.
    """

    findings: tuple[Finding, ...]
    seconds: float
    read_files: bool

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Findings that do harm."""
        return tuple(one for one in self.findings if not one.harmless)


def check(
    place: LibraryFiles,
    *,
    read_files: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> CheckReport:
    """Looks for everything that can be wrong.

    Args:
        place: The library; it may be opened for reading only.
        read_files: Read all files again too, and compare them with what was taken in.
        on_progress: Called several times a second at most.

    Raises:
        LibraryBusy: if the database is locked.
    """
    started_at, meter = monotonic(), ProgressReporter(on_progress)
    meter.begin("database")
    found = list(_in_database(place, meter))
    if not any(one.fault is Fault.DATABASE for one in found):
        found += _in_thumbnails(place, meter)
        found += _in_uploads(place, meter)
        if not any(one.fault is Fault.BAD_VECTORS for one in found):
            found += _in_index(place, meter)  # Otherwise there is nothing to compare it with.
        if read_files:
            found += _in_files(place, meter)
    order = list(Fault)
    found.sort(key=lambda one: (one.harmless, order.index(one.fault)))
    return CheckReport(tuple(found), monotonic() - started_at, read_files)


def _in_database(place: LibraryFiles, meter: ProgressReporter) -> Iterator[Finding]:
    audit = Audit(place.database)
    if damage := audit.damage():
        yield Finding(Fault.DATABASE, len(damage), tuple(damage[:SHOWN]))
        return
    saved = _saved_generation(place)
    steps: dict[Fault, Callable[[], list[object]]] = {
        Fault.REFERENCES: lambda: [f"{table}, row {row}" for table, row in audit.dangling()],
        Fault.SEGMENTS_WITHOUT_VECTOR: lambda: [
            f"segment {segment} of {path or 'no file'}"
            for segment, _, path in audit.segments_without_vector()
        ],
        Fault.BAD_VECTORS: lambda: [f"segment {one}: {why}" for one, why in audit.bad_vectors()],
        Fault.BAD_PENDING: lambda: [
            f"segment {one}: {why}" for one, why in audit.bad_vectors("pending_vectors")
        ],
        Fault.FILES_WITHOUT_CONTENT: lambda: [path for _, path in audit.files_without_content()],
        Fault.INCOMPLETE: lambda: [path or "no file" for _, path in audit.incomplete()],
        Fault.TEXTS: lambda: list(audit.wrong_texts()),
        Fault.NAMES: lambda: list(audit.wrong_names()),
        Fault.COUNTS: lambda: list(audit.wrong_counts()),
    }
    numbers: dict[Fault, Callable[[], int]] = {
        Fault.GENERATION: audit.late_generation,
        Fault.IDS: audit.reusable_ids,
        Fault.UNHELD: audit.unheld,
        Fault.RETIRED: audit.retired_vectors,
        Fault.REMOVALS: lambda: audit.removals(saved) if saved else 0,
    }
    try:
        with place.catalog.moment():
            for fault, ask in steps.items():
                meter.begin(f"database: {fault}")
                if one := finding(fault, ask()):
                    yield one
            for fault, count in numbers.items():
                if number := count():
                    one_number = fault in (Fault.GENERATION, Fault.IDS)
                    yield Finding(fault, 1 if one_number else number)
    except LibraryBusy:
        raise
    except LibraryError as error:
        yield Finding(Fault.DATABASE, 1, (str(error),))


def _in_thumbnails(place: LibraryFiles, meter: ProgressReporter) -> Iterator[Finding]:
    missing: list[object] = []
    broken: list[object] = []
    left: list[object] = []
    prefixes = place.thumbnails.prefixes()
    meter.begin("thumbnails", len(prefixes))
    for prefix in meter.counted(prefixes):
        lacking, unexpected = compared(place, prefix)
        missing += lacking
        broken += sorted(place.thumbnails.broken(prefix).difference(unexpected))
        left += unexpected
    for fault, names in (
        (Fault.THUMBNAILS_MISSING, missing),
        (Fault.THUMBNAILS_BROKEN, broken),
        (Fault.THUMBNAILS_LEFT, left),
    ):
        if one := finding(fault, names):
            yield one


def compared(place: LibraryFiles, prefix: str) -> tuple[list[str], list[str]]:
    """Names of thumbnails that are missing, and of those that belong to nothing."""
    audit = Audit(place.database)

    def expected() -> set[tuple[str, int]]:
        return {(one.content_hash, one.position) for one in audit.pictured(prefix)}

    missing, left = place.thumbnails.compare(prefix, expected())
    if missing:  # Unless their files have just been removed.
        missing &= place.thumbnails.compare(prefix, expected())[0]
    return sorted(missing), sorted(left)


def _in_uploads(place: LibraryFiles, meter: ProgressReporter) -> Iterator[Finding]:
    meter.begin("uploads")
    known = Audit(place.database).known_below(place.uploads)
    there = {path for path in place.uploads.rglob("*") if path.is_file()}
    gone = sorted(path for path in known - there if vanished(path))
    gone = [path for path in gone if path in Audit(place.database).known_below(place.uploads)]
    unknown = sorted(there - known)
    for fault, paths in ((Fault.UPLOADS_GONE, gone), (Fault.UPLOADS_UNKNOWN, unknown)):
        if one := finding(fault, paths):
            yield one


def _in_index(place: LibraryFiles, meter: ProgressReporter) -> Iterator[Finding]:
    """What is wrong with the saved index, and with what becomes of it when it is caught up."""
    meter.begin("vector index")
    with place.index() as index:
        if not index.has_files:
            return  # The next search makes it.
        saved = index.saved_generation()
        if saved is None:
            yield Finding(Fault.INDEX_FOREIGN, 1, (str(place.vectors),))
        elif saved > place.catalog.generation():
            ahead = f"it is of generation {saved}, the database of {place.catalog.generation()}"
            yield Finding(Fault.INDEX, 1, (ahead,))
        elif damage := index.damage():
            yield Finding(Fault.INDEX, len(damage), tuple(damage[:SHOWN]))
        else:
            with place.catalog.moment():
                differences = list(_differences(place, index.current(), meter))
            if one := finding(Fault.INDEX_CONTENT, differences):
                yield one


def _differences(
    place: LibraryFiles, store: "VectorIndex", meter: ProgressReporter
) -> Iterator[str]:
    audit = Audit(place.database)
    if len(store) != audit.vectors():
        yield f"{len(store)} vectors in the index, {audit.vectors()} in the database"
    sample = audit.sample(_SAMPLE)
    meter.begin("vector index", len(sample))
    for segment_id, kind in meter.counted(sample):
        if not _holds(place, store, segment_id, kind):
            yield f"segment {segment_id}"


def _holds(place: LibraryFiles, store: "VectorIndex", segment_id: int, kind: Kind) -> bool:
    """Whether a store has a segment's vector as the database has it."""
    vector = place.catalog.vectors_of([segment_id])[0]
    scores, ids = store.search(vector, 1, kind, ids=np.array([segment_id], dtype=np.int64))
    if list(ids) != [segment_id]:
        return False
    return bool(abs(float(scores[0]) - float(vector @ vector)) < _SCORE_TOLERANCE)


def _in_files(place: LibraryFiles, meter: ProgressReporter) -> Iterator[Finding]:
    found: dict[Fault, list[object]] = {}
    meter.begin("files", sum(place.catalog.stats().items.values()))
    for held in meter.counted(Audit(place.database).held()):
        if fault := state_of(held):
            found.setdefault(fault, []).append(held.path)
    for fault, paths in found.items():
        if one := finding(fault, paths):
            yield one


def state_of(held: Held) -> Fault | None:
    """What has become of a file since it was taken in; nothing if it is as it was."""
    try:
        now = stat_file(held.path)
        if (now.size, storable_time(now.mtime_ns)) != (held.size, held.mtime_ns):
            return Fault.FILES_CHANGED
        return None if sha256_of(held.path) == held.content_hash else Fault.FILES_DECAYED
    except OSError:
        return Fault.FILES_GONE


def _saved_generation(place: LibraryFiles) -> int | None:
    with place.index() as index:
        return index.saved_generation()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below it."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # Just removed.
            continue
    return total
