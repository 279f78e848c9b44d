"""`Timeline`: the files of a library by date, and how many fit some filters."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, true

from embedder.media.kinds import Kind
from indexer.catalog import month_counts, schema
from indexer.catalog.reader import item_of_row, segment_of_row, select_items, select_segments
from indexer.catalog.sqlite import Database, given_ids, one_of, unindexed
from indexer.types import Filters, MediaItem, Segment


@dataclass(frozen=True, slots=True)
class Month:
    """A month in local time with its number of files.

    Attributes:
        first: Its first day.
        files: How many, at least one.
    """

    first: date
    files: int


_periods = func.json_each(bindparam("periods")).table_valued("key", "value")


class Timeline:
    """Reads files by date. Thread-safe; never waits for a writer.

    Files of the same date are in order of their ids. Months, kinds and folders are read from
    `schema.month_counts`, which does not know albums and days: those are answered by one index,
    which contains all that filters look at.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def months(self, filters: Filters) -> list[Month]:
        """Return the months with files that satisfy the filters, the newest first."""
        with self._database.moment(), self._database.reading() as connection:
            if _is_kept(connection, filters):
                found = _kept_months(connection, filters)
            else:
                found = _counted_months(connection, filters)
        return [Month(month, files) for month, files in reversed(found) if files]

    def files(
        self,
        filters: Filters,
        *,
        month: date | None = None,
        limit: int = 24,
        offset: int = 0,
        oldest_first: bool = False,
    ) -> list[tuple[MediaItem, Segment]]:
        """Return a page of the files that satisfy the filters, and where each begins.

        Args:
            filters: What the files must be.
            month: Only files of the month with this day.
            limit: Most files to return.
            offset: Files to skip first.
            oldest_first: Begin with the oldest file rather than with the newest.
        """
        items, segments = schema.items.c, schema.segments.c
        order = _order(oldest_first=oldest_first)
        chosen = select(items.id).where(_fitting(filters)).order_by(*order)
        if month is not None:
            start, end = _period(month)
            chosen = chosen.where(items.date_ns >= start, items.date_ns < end)
        chosen = chosen.limit(limit).offset(min(offset, schema.MAX_INTEGER))
        files = select_items().where(one_of(items.id)).order_by(*order)
        heads = select_segments().where(one_of(segments.media_id), segments.position == 0)
        with self._database.moment(), self._database.reading() as connection:
            ids = connection.execute(chosen).scalars()
            rows = connection.execute(files, given_ids(ids)).all()
            found = connection.execute(heads, given_ids(row.media_id for row in rows))
            by_media = {row.media_id: segment_of_row(row) for row in found}
        return [
            (item_of_row(row), by_media[row.media_id]) for row in rows if row.media_id in by_media
        ]

    def ids(self, filters: Filters, limit: int, *, oldest_first: bool = False) -> list[int]:
        """Return the ids of the files that satisfy the filters, in the order of `files`."""
        query = select(schema.items.c.id).where(_fitting(filters))
        query = query.order_by(*_order(oldest_first=oldest_first)).limit(limit)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def kinds(self, filters: Filters) -> dict[Kind, int]:
        """Return how many files satisfy the filters, by kind."""
        return {Kind(kind): files for kind, files in self._counts("kind", filters)}

    def folders(self, filters: Filters) -> list[tuple[Path, int]]:
        """Return the folders that hold files which satisfy the filters, with their number."""
        found = dict(self._counts("folder_id", filters))
        folders = schema.folders.c
        query = select(folders.id, folders.path).where(one_of(folders.id))
        with self._database.reading() as connection:
            rows = connection.execute(query, given_ids(found)).all()
        return [(path, found[folder]) for folder, path in rows]

    def _counts(self, name: str, filters: Filters) -> list[tuple[Any, int]]:
        """Return how many files satisfy the filters, by what a column contains."""
        kept, item = schema.month_counts.c[name], unindexed(schema.items.c[name])
        with self._database.moment(), self._database.reading() as connection:
            if _is_kept(connection, filters) and filters.after is filters.before is None:
                query = select(kept, func.sum(schema.month_counts.c.files))
                query = query.where(_kept(filters)).group_by(kept)
            else:
                query = select(item, func.count()).where(schema.of_items(filters)).group_by(item)
            return [(value, files) for value, files in connection.execute(query)]


def _is_kept(connection: Connection, filters: Filters) -> bool:
    """Return whether what filters look at, but for dates, is counted in `month_counts`."""
    return filters.album is None and month_counts.are_kept(connection)


def _kept(filters: Filters) -> ColumnElement[bool]:
    """Return the condition on rows of `month_counts`, whatever the dates."""
    counts, conditions = schema.month_counts.c, list[ColumnElement[bool]]()
    if filters.kinds:
        conditions.append(counts.kind.in_([kind.value for kind in filters.kinds]))
    if filters.folder is not None:
        inside = select(schema.folders.c.id).where(schema.below(filters.folder))
        conditions.append(counts.folder_id.in_(inside))
    return and_(true(), *conditions)


def _kept_months(connection: Connection, filters: Filters) -> list[tuple[date, int]]:
    """Return the months of filters with their files from `month_counts`, which are those of UTC.

    Files between the beginnings of a month in UTC and in local time belong to another one. They
    are counted one by one, and so are those of months that the dates of filters cut.
    """
    counts = schema.month_counts.c
    query = select(counts.month, func.sum(counts.files)).where(_kept(filters))
    kept = dict(connection.execute(query.group_by(counts.month)).all())
    if not kept:
        return []
    first, last = (date(one // 100, one % 100, 1) for one in (min(kept), max(kept)))
    months = [*_every(_before(first), _next(last))]
    moved = _moved(connection, filters, [*months, _next(months[-1])])
    wanted = {one: _within(_period(one), filters) for one in months}
    cut = {one: part for one, part in wanted.items() if part != _period(one)}
    counted = dict(zip(cut, _counted(connection, filters, cut.values()), strict=True))
    return [
        (one, counted.get(one, kept.get(100 * one.year + one.month, 0) - out + more))
        for one, (out, more) in zip(months, pairwise(moved), strict=True)
    ]


def _moved(connection: Connection, filters: Filters, months: Iterable[date]) -> list[int]:
    """Return how many files belong to the month before in local time, but not in UTC, or less 0."""
    begins = [
        (schema.nanoseconds(datetime(*one.timetuple()[:3], tzinfo=UTC)), _period(one)[0])
        for one in months
    ]
    found = _counted(connection, filters, [(min(pair), max(pair)) for pair in begins])
    return [
        files if utc < local else -files for (utc, local), files in zip(begins, found, strict=True)
    ]


def _counted_months(connection: Connection, filters: Filters) -> list[tuple[date, int]]:
    """Return the months of filters with their files, each file looked at in the index by dates."""
    items = schema.items.c
    ends = (
        select(items.date_ns).where(_fitting(filters)).order_by(order).limit(1).scalar_subquery()
        for order in (items.date_ns, items.date_ns.desc())
    )
    first, last = connection.execute(select(*ends)).one()
    if first is None:
        return []
    months = [*_every(_month_of(first), _month_of(last))]
    periods = [_within(_period(month), filters) for month in months]
    return [*zip(months, _counted(connection, filters, periods), strict=True)]


def _counted(
    connection: Connection, filters: Filters, periods: Iterable[tuple[int, int]]
) -> list[int]:
    """Return how many files satisfy the filters, whatever the dates, in each of some periods."""
    items = schema.items.c
    # Dates bound the periods instead: otherwise SQLite reads all between them for each month.
    count = (
        select(func.count())
        .where(
            _fitting(replace(filters, after=None, before=None)),
            items.date_ns >= func.json_extract(_periods.c.value, "$[0]"),
            items.date_ns < func.json_extract(_periods.c.value, "$[1]"),
        )
        .correlate(_periods)
        .scalar_subquery()
    )
    query = select(count).select_from(_periods).order_by(_periods.c.key)
    return list(connection.execute(query, {"periods": json.dumps([*periods])}).scalars())


def _fitting(filters: Filters) -> ColumnElement[bool]:
    """Return the condition of `of_items` such that SQLite goes by dates rather than by folders."""
    condition = schema.of_items(replace(filters, folder=None))
    if filters.folder is None:
        return condition
    inside = select(schema.folders.c.id).where(schema.below(filters.folder))
    return condition & unindexed(schema.items.c.folder_id).in_(inside)


def _within(period: tuple[int, int], filters: Filters) -> tuple[int, int]:
    """Return the part of a period, in nanoseconds since 1970, that the dates of filters leave."""
    start, end = period
    if filters.after is not None:
        start = max(start, schema.nanoseconds(filters.after))
    if filters.before is not None:
        end = min(end, schema.nanoseconds(filters.before))
    return start, end


def _order(*, oldest_first: bool) -> list[ColumnElement[int]]:
    columns = (schema.items.c.date_ns, schema.items.c.id)
    return [column if oldest_first else column.desc() for column in columns]


def _month_of(ns: int) -> date:
    """Return the first day of the month of a moment, in local time."""
    return datetime.fromtimestamp(ns / 1e9).astimezone().date().replace(day=1)


def _every(first: date, last: date) -> Iterator[date]:
    """Yield the first days of the months from one to another one."""
    while first <= last:
        yield first
        first = _next(first)


def _before(month: date) -> date:
    return (month - timedelta(days=1)).replace(day=1)


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _period(month: date) -> tuple[int, int]:
    """Return when a month begins and when it has ended, in nanoseconds since 1970."""
    start, end = (
        datetime(one.year, one.month, 1)  # noqa: DTZ001 -- local, whatever the clocks do
        for one in (month, _next(month))
    )
    return schema.nanoseconds(start), schema.nanoseconds(end)
