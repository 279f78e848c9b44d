"""The listing part of an ingest: which files are there, and which of them need work."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import has_magic
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias, TypeVar

from indexer.catalog.ledger import Known, Ledger
from indexer.config import IngestOptions
from indexer.decoding import Broken, Event, Job
from indexer.entities import Status
from indexer.flow import Channel, Closed
from indexer.reports import Failure
from indexer.scan import Candidate

_log = logging.getLogger(__name__)

_AT_ONCE = 1_000

Scan: TypeAlias = Callable[[Sequence[Path], Sequence[str]], Iterator[Candidate | Failure]]
"""As `indexer.scan.scan`."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Sighting:
    """A batch of files that were listed.

    Attributes:
        known: Ids of files that the library knows, changed or not.
        unchanged: How many of them need no work.
        jobs: How many files need work.
        failures: What could not be listed.
        last: The listing is complete.
    """

    known: Sequence[int] = ()
    unchanged: int = 0
    jobs: int = 0
    failures: Sequence[Failure] = ()
    last: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Sorted:
    """Candidates by what is to be done with them."""

    new: list[Candidate]
    changed: list[Candidate]
    known: list[Known]
    unchanged: int
    failures: list[Failure]


@dataclass(frozen=True, eq=False, slots=True)
class Sighter:
    """Lists files and sends those that need work to the decoders; runs in one thread."""

    ledger: Ledger
    scan: Scan
    jobs: Channel[Job]
    events: Channel[Event | Sighting]
    cancel: Flag
    options: IngestOptions
    paths: Sequence[Path]

    def run(self) -> None:
        """The body of a thread."""
        try:
            for found in sorted_candidates(self.ledger, self.scan, self.paths, self.options):
                work = found.new + found.changed
                self.events.put(
                    Sighting(
                        known=[known.id for known in found.known],
                        unchanged=found.unchanged,
                        jobs=len(work),
                        failures=found.failures,
                    ),
                    0,
                )
                for candidate in work:
                    self.jobs.put(Job(candidate))
                if self.cancel.is_set():
                    return
            self.events.put(Sighting(last=True), 0)
        except Closed:
            pass
        except BaseException as error:
            _log.debug("the listing ends", exc_info=True)
            with suppress(Closed):
                self.events.put(Broken(error), 0)


def sorted_candidates(
    ledger: Ledger, scan: Scan, paths: Sequence[Path], options: IngestOptions
) -> Iterator[Sorted]:
    """What is at some paths, in batches, compared with what the library knows."""
    for batch in _batches(scan(paths, options.exclude), _AT_ONCE):
        candidates = [found for found in batch if isinstance(found, Candidate)]
        known = ledger.known([candidate.path for candidate in candidates])
        new = [candidate for candidate in candidates if candidate.path not in known]
        changed = [
            candidate
            for candidate in candidates
            if (before := known.get(candidate.path)) is not None
            and _needs_work(before, candidate, options)
        ]
        yield Sorted(
            new=new,
            changed=changed,
            known=list(known.values()),
            unchanged=len(candidates) - len(new) - len(changed),
            failures=[found for found in batch if isinstance(found, Failure)],
        )


def roots(paths: Iterable[Path]) -> list[Path]:
    """The folders and files below which an ingest of these paths may notice vanished files.

    A path that does not exist is none: an unplugged disk has not lost its files.
    """
    found: dict[Path, None] = {}
    for path in paths:
        path = Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH111
        if not os.path.lexists(path):
            while has_magic(str(path)):
                path = path.parent
        if path.exists():
            found[path] = None
    return list(found)


def _needs_work(before: Known, candidate: Candidate, options: IngestOptions) -> bool:
    retried = options.retry_failed and before.status is Status.FAILED
    return retried or not before.same(candidate)


def _batches(source: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(source, size)):
        yield batch
