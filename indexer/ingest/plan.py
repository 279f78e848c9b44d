"""What an ingest would do, without doing it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedder.media.kinds import MediaError, UnsupportedMedia
from indexer.catalog.writer import vanished
from indexer.config import IngestOptions
from indexer.ingest.decode import hash_of, os_reason
from indexer.ingest.discovery import roots, sorted_candidates
from indexer.ingest.pipeline import PipelineContext
from indexer.types import Candidate, Failure, IngestPlan


@dataclass(slots=True)
class _Draft:
    added: list[Path] = field(default_factory=list)
    moved: list[tuple[Path, Path]] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    skipped: list[Failure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def plan(workshop: PipelineContext, paths: Sequence[Path], options: IngestOptions) -> IngestPlan:
    """What an ingest of some paths would do.

    New files are read only as far as it takes to tell their kind, and whole where a known file
    has the same size and may be the same. Two new files with the same bytes both count as added.
    """
    draft = _Draft()
    new: list[Candidate] = []
    updated: list[Path] = []
    known: set[int] = set()
    unchanged = 0
    for found in sorted_candidates(workshop.ledger, workshop.scan, paths, options):
        new += found.new
        updated += [candidate.path for candidate in found.changed]
        known.update(one.id for one in found.known)
        unchanged += found.unchanged
        draft.failures += found.failures
    gone = {
        path: size
        for one, path, size in workshop.ledger.below(roots(paths))
        if options.sweep and one not in known and vanished(path)
    }
    for candidate in new:
        _place(workshop, draft, candidate)
    moved_away = {old for old, _ in draft.moved}
    return IngestPlan(
        added=tuple(draft.added),
        updated=tuple(updated),
        moved=tuple(draft.moved),
        copies=tuple(draft.copies),
        removed=tuple(path for path in gone if path not in moved_away),
        skipped=tuple(draft.skipped),
        failures=tuple(draft.failures),
        unchanged=unchanged,
    )


def _place(workshop: PipelineContext, draft: _Draft, candidate: Candidate) -> None:
    """Adds a new file to the list it belongs in."""
    path = candidate.path
    try:
        workshop.detect(path)
        same_size = workshop.ledger.holds_size(candidate.size)
        holders = workshop.ledger.holders(hash_of(path)) if same_size else []
    except UnsupportedMedia as error:
        draft.skipped.append(Failure(path, str(error)))
    except MediaError as error:
        draft.failures.append(Failure(path, str(error)))
    except OSError as error:
        draft.failures.append(Failure(path, os_reason(error)))
    else:
        taken = {old for old, _ in draft.moved}
        old = next(_vanished(one for one in holders if one not in taken), None)
        if old is not None:
            draft.moved.append((old, path))
        else:
            (draft.copies if holders else draft.added).append(path)


def _vanished(paths: Iterator[Path]) -> Iterator[Path]:
    return (path for path in paths if vanished(path))
