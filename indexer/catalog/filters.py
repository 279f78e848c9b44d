"""Filters as conditions in SQL."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, and_, or_

from indexer import schema
from indexer.entities import Filters

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_NS = 2**63 - 1


def restricts_files(filters: Filters) -> bool:
    """Whether the filters look at files, and not only at kinds."""
    return any(part is not None for part in (filters.folder, filters.after, filters.before))


def of_items(filters: Filters) -> ColumnElement[bool]:
    """The condition on indexed files."""
    items = schema.items.c
    conditions: list[ColumnElement[bool]] = [items.media_id.is_not(None)]
    if filters.kinds:
        conditions.append(items.kind.in_([kind.value for kind in filters.kinds]))
    if filters.folder is not None:
        conditions.append(below(filters.folder))
    if filters.after is not None:
        conditions.append(items.mtime_ns >= _nanoseconds(filters.after))
    if filters.before is not None:
        conditions.append(items.mtime_ns < _nanoseconds(filters.before))
    return and_(*conditions)


def below(folder: Path) -> ColumnElement[bool]:
    """The condition that a file is in a folder or below it, by the index on folders."""
    items = schema.items.c
    start = os.path.join(os.path.abspath(folder), "")
    after = start[:-1] + chr(ord(start[-1]) + 1)
    return or_(
        items.folder == os.path.abspath(folder), and_(items.folder >= start, items.folder < after)
    )


def _nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970 of a moment, local where no zone is given; far ones are clamped."""
    try:
        since = moment.astimezone(UTC) - _EPOCH
    except (OverflowError, ValueError, OSError):
        return _LATEST_NS if moment.year > _EPOCH.year else -_LATEST_NS
    return max(-_LATEST_NS, min(_LATEST_NS, since // timedelta(microseconds=1) * 1000))
