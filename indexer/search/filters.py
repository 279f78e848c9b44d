"""Filters as people type them: dates and folders, understood or refused in a sentence."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.config import typed_path
from indexer.errors import QueryError

if TYPE_CHECKING:
    from indexer.catalog import Catalog

_DAY = re.compile(r"(\d{4})(?:-(\d\d?)(?:-(\d\d?))?)?|(\d{4})(\d\d)(\d\d)")
_WITH_SECONDS = re.compile(r":\d\d:\d\d")
_DAY_LENGTH = len("2026-03-31")
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
_MAX_SUGGESTIONS = 2


def parse_dates(after: str | None, before: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the first moment of a period, and the first one after it.

    Args:
        after: The first day, month or year, or a time; None for no bound.
        before: The last day, month, year or time, which is included; None for no bound.

    Raises:
        QueryError: if one is no date, or nothing lies between them.
    """
    start = None if after is None else parse_date(after)
    end = None if before is None else parse_date(before, end=True)
    if start is not None and end is not None and start >= end:
        raise QueryError("the first date comes after the last one: swap the dates")
    return start, end


def parse_date(text: str, *, end: bool = False) -> datetime:
    """Return when a day, month, year, or minute or second in ISO 8601 begins.

    Args:
        text: Such as 2026-03-31, 2026-03, 2026 or 2026-03-31T18:00; local unless it names a zone.
        end: Return when it ends.

    Raises:
        QueryError: if it is neither a date nor a time.
    """
    text = text.strip()
    try:
        if found := _DAY.fullmatch(text):
            return _bound(found, end=end)
        if len(text) > _DAY_LENGTH:
            lasts = timedelta(seconds=1 if _WITH_SECONDS.search(text) else 60)
            return _local(datetime.fromisoformat(text) + end * lasts)
    except OverflowError:
        return _LAST
    except ValueError:
        pass
    raise QueryError(
        f"{text!r} is not a date: write a day, month or year as 2026-03-31, 2026-03 or 2026"
    )


def _bound(found: re.Match[str], *, end: bool) -> datetime:
    """Return the local time at which a day, month or year begins or ends."""
    year, month, day = (int(part) if part else 0 for part in _parts(found))
    moment = datetime(year, month or 1, day or 1)  # noqa: DTZ001 -- local, whatever the clocks do
    if not end:
        return _local(moment)
    if day:
        return _local(moment + timedelta(days=1))
    if month:
        return _local((moment + timedelta(days=31)).replace(day=1))
    return _local((moment + timedelta(days=366)).replace(month=1, day=1))


def _local(moment: datetime) -> datetime:
    """Return a time with its zone; a bound beside the first and last day, which may have none."""
    try:
        return moment.astimezone()
    except (ValueError, OverflowError):
        return _FIRST if moment.year == 1 else _LAST


def _parts(found: re.Match[str]) -> tuple[str | None, ...]:
    return found.groups()[3:] if found[4] else found.groups()[:3]


def find_folder(catalog: "Catalog", typed: str | os.PathLike[str]) -> Path:
    """Return the folder of the library that a typed path leads to.

    The path may be relative, a link, the target of a link that was indexed, or in another form of
    Unicode than the folder's name.

    Raises:
        QueryError: if no indexed file is in it or below; the message names the nearest folders.
    """
    asked = Path(os.path.abspath(typed_path(typed)))
    real = Path(os.path.realpath(asked))
    for path in (asked, real):
        if catalog.has_folder(path):
            return path
    known = [path for path, _ in catalog.folders()]
    for folder in known:
        for path in _written_otherwise(folder, asked, real):
            return path
    with suppress(OSError):  # of names that are too long, and where looking is not permitted
        if asked.is_file():
            raise QueryError(f"{asked} is a file: name its folder, {asked.parent}")
        if asked.is_dir():
            raise QueryError(
                f"no file in {asked} is indexed: add the folder with rzen-ingest first"
            )
    raise QueryError(f"the library has no folder {asked}: {_suggestion(asked, known)}")


def _written_otherwise(folder: Path, asked: Path, real: Path) -> Iterator[Path]:
    """Yield how the library writes an asked path, if a folder of it is in there or below."""
    for path in (asked, real):
        head = Path(*folder.parts[: len(path.parts)])
        if _composed(head) == _composed(path):
            yield head
    target = Path(os.path.realpath(folder))
    if target.is_relative_to(real):
        below = target.relative_to(real).parts
        if below == folder.parts[len(folder.parts) - len(below) :]:
            yield Path(*folder.parts[: len(folder.parts) - len(below)])


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path))


def _suggestion(asked: Path, known: list[Path]) -> str:
    folders = {str(path) for folder in known for path in (folder, *folder.parents)}
    near = get_close_matches(str(asked), sorted(folders), _MAX_SUGGESTIONS)
    return f"did you mean {' or '.join(near)}?" if near else "name one that was indexed"
