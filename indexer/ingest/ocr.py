"""The second pass of an ingest: read the words in pictures, after everything can be found.

Pictures come first, then the pages of documents that have little text of their own, then videos;
of each, the newest. What was read is stored media by media with the revision of the engine, so a
pass that is stopped or killed continues where it was, and nothing is read twice.
"""

import logging
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Protocol, TypeAlias

from embedder.media.kinds import Kind, MediaError
from indexer.catalog.readings import Readings, Unread
from indexer.catalog.sqlite import WriterLock
from indexer.errors import Closed, LibraryBusy
from indexer.presence import vanished
from indexer.progress import Progress, ProgressReporter
from indexer.types import Failure, ReadingReport, Segment, TextLine

_log = logging.getLogger(__name__)

STAGE = "words"
"""The stage of the pass in its progress."""

_FEW_WORDS = 10
"""Pages with fewer are read: they may be scans, whose text is a page number or a stamp."""

_LOCK_SECONDS = 1.0
_CHANGE_SECONDS = 10.0  # What was searched before may be searched again after each.
_MAX_UNSAVED = 200  # media

_WORD = re.compile(r"\w+")


class TextReader(Protocol):
    """Reads words in pictures: `indexer.decoding.ocr.OcrPool`, or anything like it."""

    revision: str

    def lines(
        self, path: Path, kind: Kind, places: Sequence[Segment]
    ) -> Generator[tuple[int, TextLine]]:
        """Yield the lines at some segments of a file, each with the segment's id."""
        ...


OpenTextReader: TypeAlias = Callable[[Event], AbstractContextManager[TextReader]]
"""Opens a reader of words, given an event that cancels it."""


class OcrPass:
    """Reads the words in all pictures of a library that were not read yet; for one thread.

    Args:
        readings: The library's tables.
        lock: Held while something is stored, and not while it is read.
        on_progress: Called several times a second at most.
        cancel: Set it to stop within seconds; what was read is kept.
    """

    def __init__(
        self,
        readings: Readings,
        lock: WriterLock,
        on_progress: Callable[[Progress], None] | None,
        cancel: Event,
    ) -> None:
        self._readings, self._lock, self._cancel = readings, lock, cancel
        self._progress = ProgressReporter(on_progress)
        self._unsaved: dict[int, dict[int, list[TextLine]]] = {}
        self._failures: list[Failure] = []
        self._with_text = self._read = 0
        self._changed, self._changed_at = False, monotonic()

    def run(self, open_reader: OpenTextReader) -> ReadingReport:
        """Read what is unread."""
        with open_reader(self._cancel) as reader:
            unread = self._readings.unread(reader.revision)
            total = self._readings.count()
            known = total - len(unread)
            for at, media_id in enumerate(unread):
                if self._cancel.is_set():
                    break
                self._progress.report(
                    STAGE, known + at, total, failures=len(self._failures), reused=known
                )
                if self._take(reader, media_id):
                    self._save(reader.revision)
            self._save(reader.revision, last=True)
            self._progress.report(STAGE, known + self._read, total, reused=known)
        return ReadingReport(
            read=self._read,
            with_text=self._with_text,
            failures=tuple(self._failures),
            left=len(unread) - self._read,
            cancelled=self._cancel.is_set(),
            seconds=self._progress.seconds,
        )

    def _take(self, reader: TextReader, media_id: int) -> bool:
        """Read a media; return whether that took time, so that it should be stored at once."""
        media = self._readings.outline(media_id)
        if media is None:
            return False
        places = [one for one in media.segments if _is_read(one)]
        if not places:
            self._note(media, {})
            return len(self._unsaved) > _MAX_UNSAVED
        path = next((one for one in media.holders if not vanished(one)), None)
        if path is None:
            return False  # On a disk that is not connected, perhaps.
        try:
            self._note(media, self._lines(reader, path, media.kind, places))
        except Closed:
            return False
        except (MediaError, MemoryError) as error:
            reason = str(error) or "there is not enough memory to read it"
            _log.debug("no words are read in %s: %s", path, reason)
            self._failures.append(Failure(path, reason))
            self._note(media, {})
        return True

    def _lines(
        self, reader: TextReader, path: Path, kind: Kind, places: Sequence[Segment]
    ) -> dict[int, list[TextLine]]:
        """Return the lines of a file by segment, without those that its own text has."""
        found: dict[int, list[TextLine]] = {one.id: [] for one in places}
        own = {one.id: _words(one.text or "") for one in places if kind is Kind.PDF}
        with closing(reader.lines(path, kind, places)) as lines:
            for segment_id, line in lines:
                if not _words(line.text) <= own.get(segment_id, set()):
                    found[segment_id].append(line)
                if self._cancel.is_set():
                    raise Closed
        return found

    def _note(self, media: Unread, found: dict[int, list[TextLine]]) -> None:
        self._unsaved[media.media_id] = found
        self._read += 1
        self._with_text += any(found.values())
        self._changed |= any(found.values())

    def _save(self, revision: str, *, last: bool = False) -> None:
        """Store what was read, unless others write now: then it waits for the next time."""
        due = last or monotonic() - self._changed_at > _CHANGE_SECONDS
        changed = self._changed and due
        while self._unsaved or changed:
            try:
                with self._lock.held(_LOCK_SECONDS):
                    self._readings.record(revision, self._unsaved, changed=changed)
            except LibraryBusy:
                if self._cancel.is_set() or not (last or len(self._unsaved) > _MAX_UNSAVED):
                    return
                continue
            self._unsaved = {}
            if changed:
                self._changed, self._changed_at, changed = False, monotonic(), False


def _is_read(segment: Segment) -> bool:
    """Return whether words are looked for in a segment's picture: pages with much text have theirs.

    What is read counts, not what a document says of itself: scans that claim to have text may have
    an empty one.
    """
    if segment.kind is not Kind.PDF:
        return True
    return len(_WORD.findall(segment.text or "")) < _FEW_WORDS


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
