"""What a decoding process does with a file: a task says so, and drafts are what comes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from embedder.content import Content
from embedder.media import (
    Kind,
    Limits,
    MediaError,
    detect,
    read_content,
    read_picture,
    read_text,
    render_page,
)
from indexer.entities import Draft
from indexer.segments import cut

_MOST_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Cut:
    """Into the segments that can be found."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Read:
    """As a whole, to search with: one draft, of text no more than any model reads.

    Attributes:
        page: Of a PDF, from 1; None for the first.
        expected: The kind that it must be of, or None.
    """

    page: int | None = None
    expected: Kind | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """A page of a PDF or, without a page, a picture, with a longest side of `frame_side`."""

    page: int | None = None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of a text file with what stands around it.

    One draft, whose span holds where its text begins in the file, and how long the file's is.

    Attributes:
        start: First character of the stretch.
        end: One past its last.
        around: Characters wanted before and after it.
    """

    start: int
    end: int
    around: int


Task: TypeAlias = Cut | Read | Draw | Excerpt
_TASKS: Mapping[str, type[Task]] = {one.__name__: one for one in (Cut, Read, Draw, Excerpt)}


def written(task: Task) -> dict[str, Any]:
    """A task as JSON values."""
    return {"name": type(task).__name__, **asdict(task)}


def understood(values: Mapping[str, Any]) -> Task:
    """The task that was written."""
    given = dict(values)
    task = _TASKS[given.pop("name")]
    for name in ("kind", "expected"):
        if given.get(name) is not None:
            given[name] = Kind(given[name])
    return task(**given)


def perform(path: Path, task: Task, limits: Limits) -> Iterator[Draft]:
    """Does a task.

    Raises:
        MediaError: if the file cannot be used.
    """
    match task:
        case Cut(kind):
            yield from cut(path, kind, limits)
        case Read(page, expected):
            yield _read(path, page, expected, limits)
        case Draw(page):
            yield Draft(Content(frames=[_drawn(path, page, limits)]))
        case Excerpt(start, end, around):
            yield _excerpt(read_text(path, limits), start, end, around)


def _read(path: Path, page: int | None, expected: Kind | None, limits: Limits) -> Draft:
    if expected and (kind := detect(path)) is not expected:
        raise MediaError(f"it is of the kind {kind}, not {expected}")
    content = read_content(path, limits, page)
    if content.text is None or len(content.text) <= _MOST_CHARACTERS:
        return Draft(content)
    text = content.text[:_MOST_CHARACTERS]
    return Draft(Content(text, content.frames, content.modality))


def _drawn(path: Path, page: int | None, limits: Limits) -> Image.Image:
    if page is None:
        return read_picture(path, limits)
    return render_page(path, page, limits.frame_side)


def _excerpt(text: str, start: int, end: int, around: int) -> Draft:
    first = max(0, start - around)
    shown = text[first : end + around]
    if not shown.strip():
        raise MediaError("the text has changed since it was taken in")
    return Draft(Content(text=shown), span=(first, len(text)))
