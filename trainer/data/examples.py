"""Training examples, lazily decoded, and the budget of broken ones that a run tolerates."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from embedder.content import Content, Modality
from embedder.media import Limits, read_page, read_picture, sample_video

_log = logging.getLogger(__name__)
_MAX_REASONS_IN_ERROR = 3
_MAX_SKIPPED_KEPT = 1000
_MAX_WARNINGS = 20

Row = TypeVar("Row")


class Task(StrEnum):
    """The tasks of pairs; each has its own temperature.

    The text pairs of stage 1 belong to none of the seven: the configuration says which task's
    temperature a dataset shares.

    Source: arXiv 2510.27350, section 3.3.
    """

    IMAGE_CLASSIFICATION = "image_classification"
    IMAGE_QA = "image_qa"
    IMAGE_RETRIEVAL = "image_retrieval"
    IMAGE_GROUNDING = "image_grounding"
    DOCUMENT_RETRIEVAL = "document_retrieval"
    VIDEO_RETRIEVAL = "video_retrieval"
    VIDEO_QA = "video_qa"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: text, pictures, a video or a PDF page; text may accompany any.

    Holds file names only; nothing is decoded before `content` is called.

    Attributes:
        text: The text, or None.
        images: Picture files; several are the frames of a video, or the parts of a page.
        video: A video file, sampled evenly.
        pdf: A PDF file.
        page: The page of it to read, from 1.
        modality: For `images` that are not what their number suggests: scanned pages are PAGE.

    Raises:
        ValueError: the side is empty, has media of two kinds, or a page or modality without one.
    """

    text: str | None = None
    images: tuple[Path, ...] = ()
    video: Path | None = None
    pdf: Path | None = None
    page: int = 1
    modality: Modality | None = None

    def __post_init__(self) -> None:
        media = (bool(self.images), self.video is not None, self.pdf is not None)
        if sum(media) > 1:
            raise ValueError("a side can have only one of images, a video and a PDF page")
        if not any(media) and not (self.text or "").strip():
            raise ValueError("a side needs a text that is not blank, images, a video or a PDF page")
        if self.page < 1:
            raise ValueError(f"page must be 1 or more, not {self.page}")
        if self.page != 1 and self.pdf is None:
            raise ValueError("page needs a pdf")
        if self.modality is not None and not self._is_possible(self.modality):
            raise ValueError(
                f"{len(self.images)} images cannot be of modality {self.modality.value}"
            )

    def _is_possible(self, modality: Modality) -> bool:
        if modality is Modality.IMAGE:
            return len(self.images) == 1
        return modality is not Modality.TEXT and bool(self.images)

    @property
    def key(self) -> bytes:
        """Return 16 bytes that are equal for equal sides.

        Texts are compared without regard to case and spacing, as a label may be written in two
        ways; media by name, since comparing their contents would mean decoding them. Copies
        under another name are left to the loss, which masks targets that look alike.
        """
        parts = [" ".join((self.text or "").split()).casefold()]
        for kind, paths in (
            ("image", self.images),
            ("video", (self.video,)),
            (f"page {self.page}", (self.pdf,)),
        ):
            parts += [f"{kind}\0{os.path.abspath(path)}" for path in paths if path is not None]
        # Names of files that are not UTF-8, and broken escapes in JSON, are half surrogate pairs.
        data = "\0\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16).digest()

    def content(self, limits: Limits | None = None, instruction: str | None = None) -> Content:
        """Decode the side.

        Args:
            limits: What decoding may cost.
            instruction: Instruction for the model; None takes the checkpoint's default, the empty
                string gives none.

        Returns:
            The content for an embedder. A PDF page without `text` carries its text layer and is a
            PAGE. With `text` it is an IMAGE, because embedders may drop the text of a page, and a
            question must not be dropped.

        Raises:
            MediaError: a file cannot be used.
        """
        limits = limits or Limits()
        if self.pdf is not None:
            found = read_page(self.pdf, self.page, limits)
            if (self.text or "").strip():
                return Content(self.text, [found.picture], Modality.IMAGE, instruction)
            return Content(found.text, [found.picture], Modality.PAGE, instruction)
        if self.video is not None:
            frames = sample_video(self.video, limits).frames
            return Content(self.text, frames, Modality.VIDEO, instruction)
        pictures = [read_picture(path, limits) for path in self.images]
        return Content(self.text, pictures, self.modality, instruction)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an example was read: a file, and the line or row in it, from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Example:
    """A query, what it should find and what it should not.

    Attributes:
        query: The query.
        positive: What the query should find.
        negatives: Hard negatives: what it should not find although it looks similar; often none.
        task: Decides the temperature, and whether datasets are merged.
        dataset: Name of its dataset; a batch is from one.
        instruction: Of the query; see `Side.content`.
        target_instruction: Of the positive and the negatives.
        origin: Where it was read, for messages; ignored in comparisons.
    """

    query: Side
    positive: Side
    negatives: tuple[Side, ...] = ()
    task: Task = Task.IMAGE_RETRIEVAL
    dataset: str = ""
    instruction: str | None = None
    target_instruction: str | None = None
    origin: Origin | None = field(default=None, compare=False)


class BrokenRow(ValueError):
    """A row cannot be used; the message says why."""


class Unreadable(Exception):
    """A whole file of rows cannot be read; the message names it and says why."""


class TooManyBroken(Exception):
    """More rows are broken than the limit allows: likely the format is wrong, not the rows."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was skipped, and why."""

    origin: Origin
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class ErrorBudget:
    """Counts usable and broken rows, and stops a run with too many of the latter. Thread-safe.

    Guarantees: a broken row does not stop the run; once `least` rows were seen it stops as soon
    as the share of broken ones is above `limit`. Reading and decoding see the same rows, so each
    needs a separate budget.

    Args:
        limit: Largest share of broken rows, from 0 to 1.
        least: Rows that must have been seen before the share is checked.

    Attributes:
        used: Number of usable rows.
        broken: Number of broken rows.
        skipped: The first thousand of these.
    """

    def __init__(self, limit: float = 0.05, least: int = 100) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"limit must be between 0 and 1, not {limit}")
        self.limit = limit
        self.least = least
        self.used = 0
        self.broken = 0
        self.skipped: list[Skipped] = []
        self._lock = threading.Lock()

    def use(self) -> None:
        """Count a usable row.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        with self._lock:
            self.used += 1
            self._check()

    def skip(self, origin: Origin, reason: str) -> None:
        """Count a broken row and log the first few.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        with self._lock:
            self.broken += 1
            note = Skipped(origin, reason)
            if len(self.skipped) < _MAX_SKIPPED_KEPT:
                self.skipped.append(note)
            # Broken rows come by the thousand; the first show what is wrong.
            _log.log(
                logging.WARNING if self.broken <= _MAX_WARNINGS else logging.DEBUG,
                "skipped %s",
                note,
            )
            self._check()

    def usable(
        self,
        path: Path,
        rows: Iterable[tuple[int, Row]],
        parse: Callable[[Row, Origin], Iterable[Example]],
    ) -> Iterator[Example]:
        """Yield the examples of the rows that `parse` accepts.

        Args:
            path: The file of the rows.
            rows: Each with its number, from 1.
            parse: Returns the examples of a row, or raises `BrokenRow`.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        for line, row in rows:
            origin = Origin(path, line)
            try:
                examples = list(parse(row, origin))
            except BrokenRow as error:
                self.skip(origin, str(error))
            else:
                self.use()
                yield from examples

    def _check(self) -> None:
        seen = self.used + self.broken
        if seen < self.least or self.broken <= self.limit * seen:
            return
        first = "; ".join(str(note) for note in self.skipped[:_MAX_REASONS_IN_ERROR])
        raise TooManyBroken(
            f"{self.broken:,} of the first {seen:,} rows cannot be used, more than the limit of "
            f"{self.limit:.3g} of them. Fix the data or raise broken_rows. The first: {first}"
        )


def existing_file(folder: Path, name: str) -> Path:
    """Return the path of a file that a row names.

    Checked when rows are read: a missing file is found hours before it would be decoded.

    Args:
        folder: What relative names start from.
        name: The name in the row.

    Raises:
        BrokenRow: there is no such file.
    """
    if not name.strip() or "\0" in name:
        raise BrokenRow(f"{name!r} is not a file name")
    path = folder / name
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        raise BrokenRow(f"{path} cannot be read: {error.strerror}") from error
    if not found:
        raise BrokenRow(f"{path} does not exist" if not path.is_dir() else f"{path} is a folder")
    return path
