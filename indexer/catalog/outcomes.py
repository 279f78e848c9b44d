"""What became of files in an ingest, ready to be recorded by `indexer.catalog.writer`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from embedder.media.kinds import Details, Kind
from indexer.types import Candidate, Status


class Effect(StrEnum):
    """What recording a file did to the library."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    MOVED = "moved"
    COPY = "copy"
    REFUSED = "refused"


@dataclass(frozen=True, eq=False, slots=True)
class SegmentRecord:
    """A segment ready to be stored, as in `Draft`; `vector` and `words` are packed."""

    position: int
    modality: str
    vector: bytes
    page: int | None = None
    start: float | None = None
    end: float | None = None
    span: tuple[int, int] | None = None
    text: str | None = None
    words: bytes | None = None
    picture_hash: int | None = None
    picture_tint: bytes | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Indexed:
    """A file that was cut and embedded; no segments if its bytes are known already.

    `details` are those of the bytes, with the segments; `sidecar_details` those beside the file.
    """

    candidate: Candidate
    kind: Kind
    content_hash: str
    segments: Sequence[SegmentRecord] = ()
    details: Details | None = None
    sidecar_details: Details | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Refused:
    """A file that was skipped or failed, and why."""

    candidate: Candidate
    status: Status
    reason: str
    kind: Kind | None = None
