"""Looking for faults in a library; reads only, and may run beside anything else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from embedder.media.kinds import Kind
from indexer.catalog.audit import Audit, Held
from indexer.catalog.outcomes import storable_time, vanished
from indexer.decoding import hash_of, stamp
from indexer.errors import LibraryBusy, LibraryError
from indexer.faults import SHOWN, Fault, Finding, finding
from indexer.meter import Meter
from indexer.premises import Premises
from indexer.reports import Progress
from indexer.vectors import FaissStore, damaged, saved_generation

if TYPE_CHECKING:
    from indexer.vectors import VectorStore

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
    place: Premises,
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
    started_at, meter = monotonic(), Meter(on_progress)
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


def _in_database(place: Premises, meter: Meter) -> Iterator[Finding]:
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


def _in_thumbnails(place: Premises, meter: Meter) -> Iterator[Finding]:
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


def compared(place: Premises, prefix: str) -> tuple[list[str], list[str]]:
    """Names of thumbnails that are missing, and of those that belong to nothing."""
    audit = Audit(place.database)

    def expected() -> set[tuple[str, int]]:
        return {(one.content_hash, one.position) for one in audit.pictured(prefix)}

    missing, left = place.thumbnails.compare(prefix, expected())
    if missing:  # Unless their files have just been removed.
        missing &= place.thumbnails.compare(prefix, expected())[0]
    return sorted(missing), sorted(left)


def _in_uploads(place: Premises, meter: Meter) -> Iterator[Finding]:
    meter.begin("uploads")
    known = Audit(place.database).known_below(place.uploads)
    there = {path for path in place.uploads.rglob("*") if path.is_file()}
    gone = sorted(path for path in known - there if vanished(path))
    gone = [path for path in gone if path in Audit(place.database).known_below(place.uploads)]
    unknown = sorted(there - known)
    for fault, paths in ((Fault.UPLOADS_GONE, gone), (Fault.UPLOADS_UNKNOWN, unknown)):
        if one := finding(fault, paths):
            yield one


def _in_index(place: Premises, meter: Meter) -> Iterator[Finding]:
    """What is wrong with the saved index, and with what becomes of it when it is caught up."""
    meter.begin("vector index")
    if not place.vectors.is_dir() or not any(place.vectors.iterdir()):
        return  # The next search makes it.
    saved, model = _saved_generation(place), place.catalog.model()
    if saved is None:
        yield Finding(Fault.INDEX_FOREIGN, 1, (str(place.vectors),))
        return
    if saved > place.catalog.generation():
        ahead = f"it is of generation {saved}, the database of {place.catalog.generation()}"
        yield Finding(Fault.INDEX, 1, (ahead,))
        return
    loaded = FaissStore.load(place.vectors, place.catalog.uid(), model.dim or 0, model.fingerprint)
    if loaded is None:
        yield Finding(Fault.INDEX, 1, (f"a file in {place.vectors} is missing or damaged",))
        return
    loaded[0].close()
    del loaded
    if names := damaged(place.vectors):  # Opening it looks at some pages only.
        yield Finding(Fault.INDEX, len(names), tuple(names[:SHOWN]))
        return
    with place.mirror() as mirror, place.catalog.moment():
        if one := finding(Fault.INDEX_CONTENT, list(_differences(place, mirror.current(), meter))):
            yield one


def _differences(place: Premises, store: "VectorStore", meter: Meter) -> Iterator[str]:
    audit = Audit(place.database)
    if len(store) != audit.vectors():
        yield f"{len(store)} vectors in the index, {audit.vectors()} in the database"
    sample = audit.sample(_SAMPLE)
    meter.begin("vector index", len(sample))
    for segment_id, kind in meter.counted(sample):
        if not _holds(place, store, segment_id, kind):
            yield f"segment {segment_id}"


def _holds(place: Premises, store: "VectorStore", segment_id: int, kind: Kind) -> bool:
    """Whether a store has a segment's vector as the database has it."""
    vector = place.catalog.vectors_of([segment_id])[0]
    scores, ids = store.search(vector, 1, kind, only=np.array([segment_id], dtype=np.int64))
    if list(ids) != [segment_id]:
        return False
    return bool(abs(float(scores[0]) - float(vector @ vector)) < _SCORE_TOLERANCE)


def _in_files(place: Premises, meter: Meter) -> Iterator[Finding]:
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
        now = stamp(held.path)
        if (now.size, storable_time(now.mtime_ns)) != (held.size, held.mtime_ns):
            return Fault.FILES_CHANGED
        return None if hash_of(held.path) == held.content_hash else Fault.FILES_DECAYED
    except OSError:
        return Fault.FILES_GONE


def _saved_generation(place: Premises) -> int | None:
    catalog = place.catalog
    return saved_generation(place.vectors, catalog.uid(), catalog.model().fingerprint)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below it."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # Just removed.
            continue
    return total
