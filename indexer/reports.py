"""What an ingest or a re-embedding tells: how far it is, what it did or would do, what failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedder.media.kinds import Kind


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that did not get in, and why, in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did; every file seen is counted in exactly one of the first seven fields.

    Attributes:
        added: Files new to the library.
        updated: Files whose bytes changed.
        unchanged: Files left as they were, unread.
        moved: Files known by their bytes under another path that has vanished.
        copies: New files whose bytes are in the library already; they share its vectors.
        skipped: Files of no supported kind.
        failures: Files that could not be used.
        removed: Known files that have vanished.
        near_duplicates: Groups of pictures that look the same but differ in bytes, in the whole
            library; of a thousand pictures and more, not counted again for each that changes.
        cancelled: It was stopped early; the next run continues.
        seconds: How long it took.
        segments: Segments written.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    copies: int = 0
    skipped: tuple[Failure, ...] = ()
    failures: tuple[Failure, ...] = ()
    removed: int = 0
    near_duplicates: int = 0
    cancelled: bool = False
    seconds: float = 0.0
    segments: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest or a re-embedding is; reported several times a second at most.

    Attributes:
        stage: "scan" while files are counted, then "ingest", at last "finish"; of a re-embedding
            "reembed", and "switch" while the new vectors take over.
        done: Files finished; of a re-embedding, segments with a new vector.
        total: Files to do, growing during the scan; of a re-embedding, all segments.
        path: A file that is being worked on, or None.
        failures: Files failed so far.
        seconds: Since the start.
        remaining: Estimated seconds still to go, or None while unknown.
        reused: How much of `done` an earlier run has done.
    """

    stage: str
    done: int
    total: int
    path: Path | None
    failures: int
    seconds: float
    remaining: float | None
    reused: int = 0

    @property
    def rate(self) -> float:
        """Files or segments per second so far."""
        return (self.done - self.reused) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What an ingest would do, as far as it can be told without decoding anything.

    Attributes:
        added: New files.
        updated: Known files that have changed.
        moved: Known files under another path, old and new.
        copies: New files whose bytes are in the library already.
        removed: Known files that have vanished.
        skipped: Files of no supported kind, and why.
        failures: Files that cannot be used, and why.
        unchanged: How many files would be left as they are, unread.
    """

    added: tuple[Path, ...] = ()
    updated: tuple[Path, ...] = ()
    moved: tuple[tuple[Path, Path], ...] = ()
    copies: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()
    skipped: tuple[Failure, ...] = ()
    failures: tuple[Failure, ...] = ()
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What a re-embedding did.

    Attributes:
        model: The model that was asked for.
        segments: Segments that have a vector of it now, those of earlier runs included.
        reused: How many of them an earlier run had computed.
        failures: Files that could not be read or embedded again. If the library switched, they
            have left it and are failed files now; otherwise they are why it did not.
        switched: The library has the model now. If not, its vectors are those it had.
        cancelled: It was stopped early; the next run continues.
        seconds: How long it took.
    """

    model: str
    segments: int = 0
    reused: int = 0
    failures: tuple[Failure, ...] = ()
    switched: bool = False
    cancelled: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ReembedPlan:
    """What a re-embedding would do, told without reading any file.

    Attributes:
        model: The model that was asked for.
        same: The library's vectors are of that model already; nothing would be done.
        segments: Segments that lack a vector of it, by kind.
        reused: Segments that have one from an earlier run.
        failures: Files that are not there and that no copy stands in for.
    """

    model: str
    same: bool = False
    segments: Mapping[Kind, int] = field(default_factory=dict)
    reused: int = 0
    failures: tuple[Failure, ...] = ()
