"""What can be wrong with a library, and what is to be done about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

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
