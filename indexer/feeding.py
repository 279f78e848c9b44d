"""The listing part of a re-embedding: which media lack vectors, and the texts among them."""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias

from embedder.content import Content, Modality
from indexer.catalog.pending import Outline, Pending
from indexer.decoding import Broken, Event, FileRead, Job, Piece, cost_of
from indexer.entities import Draft, Segment
from indexer.flow import Channel, Closed
from indexer.scan import Candidate

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class MediaJob(Job):
    """Media to be embedded again, by one of the files that hold them.

    Attributes:
        media: What lacks vectors.
        from_text: No file is read, since the library has the words.
        reasons: Why holders could not be used, so far.
        waiting: Segments that were read and have no vector yet, by position.
    """

    media: Outline = field(kw_only=True)
    from_text: bool = False
    reasons: dict[Path, str] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)


@dataclass(frozen=True, eq=False, slots=True)
class Begun:
    """Media of which something will be heard."""

    job: MediaJob


@dataclass(frozen=True, eq=False, slots=True)
class AllBegun:
    """No more media follow."""


Message: TypeAlias = Event | Begun | AllBegun


@dataclass(frozen=True, eq=False, slots=True)
class Feeder:
    """Sends the texts that lack vectors and the files that have to be read; runs in one thread."""

    pending: Pending
    jobs: Channel[Job]
    events: Channel[Message]
    cancel: Flag

    def run(self) -> None:
        """The body of the thread."""
        try:
            for media in self.pending.outlines():
                if self.cancel.is_set():
                    return
                self._send(media)
            self.events.put(AllBegun(), 0)
        except Closed:
            pass
        except BaseException as error:
            _log.debug("the feeding ends", exc_info=True)
            with suppress(Closed):
                self.events.put(Broken(error), 0)

    def _send(self, media: Outline) -> None:
        lacking = [one for one in media.segments if one.position in media.missing]
        job = job_for(media, from_text=all(one.modality is Modality.TEXT for one in lacking))
        self.events.put(Begun(job), 0)
        if not job.from_text:
            self.jobs.put(job)
            return
        for one in lacking:
            draft = _draft(one)
            self.events.put(Piece(job, one.position, draft, None, cost_of(draft)), cost_of(draft))
        self.events.put(FileRead(job, len(media.segments)), 0)


def is_wanted(job: Job) -> bool:
    """Whether the file still has the bytes that were taken in."""
    return isinstance(job, MediaJob) and job.content_hash == job.media.content_hash


def job_for(
    media: Outline, *, from_text: bool = False, reasons: dict[Path, str] | None = None
) -> MediaJob:
    """A job for the first holder that nothing is wrong with yet."""
    reasons = reasons or {}
    path = next((path for path in media.holders if path not in reasons), Path())
    candidate = Candidate(path, 0, 0)
    return MediaJob(candidate, media=media, from_text=from_text, reasons=reasons)


def _draft(segment: Segment) -> Draft:
    content = Content(text=segment.text, modality=segment.modality)
    return Draft(
        content, page=segment.page, start=segment.start, end=segment.end, span=segment.span
    )
