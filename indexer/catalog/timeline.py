"""`Timeline`: the files of a library by date, and how many fit some filters."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

from sqlalchemy import ColumnElement, bindparam, func, select

from embedder.media.kinds import Kind
from indexer.catalog import schema
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

    Files of the same date are in order of their ids. Everything is answered by one index, which
    holds all that filters look at: a million files are counted in about a tenth of a second.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def months(self, filters: Filters) -> list[Month]:
        """Return the months with files that satisfy the filters, the newest first."""
        items = schema.items.c
        fitting = _fitting(filters)
        ends = (
            select(items.date_ns).where(fitting).order_by(order).limit(1).scalar_subquery()
            for order in (items.date_ns, items.date_ns.desc())
        )
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
        with self._database.moment(), self._database.reading() as connection:
            first, last = connection.execute(select(*ends)).one()
            if first is None:
                return []
            months = [*_months(first, last)]
            periods = json.dumps([_within(_period(month), filters) for month in months])
            query = select(_periods.c.key, count).order_by(_periods.c.key)
            counts = connection.execute(query, {"periods": periods}).all()
        found = [Month(months[position], files) for position, files in counts if files]
        return found[::-1]

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
        kind = unindexed(schema.items.c.kind)
        query = select(kind, func.count()).where(schema.of_items(filters)).group_by(kind)
        with self._database.reading() as connection:
            return {Kind(name): files for name, files in connection.execute(query).all()}

    def folders(self, filters: Filters) -> list[tuple[Path, int]]:
        """Return the folders that hold files which satisfy the filters, with their number."""
        items, folders = schema.items.c, schema.folders.c
        folder = unindexed(items.folder_id).label("folder")
        counted = (
            select(folder, func.count().label("files"))
            .where(schema.of_items(filters))
            .group_by(folder)
            .subquery()
        )
        query = select(folders.path, counted.c.files).join_from(
            counted, schema.folders, folders.id == counted.c.folder
        )
        with self._database.reading() as connection:
            return [(path, files) for path, files in connection.execute(query)]


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


def _months(first_ns: int, last_ns: int) -> Iterator[date]:
    """Yield the first days of the months from one moment to another one."""
    first, last = (datetime.fromtimestamp(ns / 1e9).astimezone() for ns in (first_ns, last_ns))
    month = first.date().replace(day=1)
    while month <= last.date():
        yield month
        month = _next(month)


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _period(month: date) -> tuple[int, int]:
    """Return when a month begins and when it has ended, in nanoseconds since 1970."""
    start, end = (
        datetime(one.year, one.month, 1)  # noqa: DTZ001 -- local, whatever the clocks do
        for one in (month, _next(month))
    )
    return schema.nanoseconds(start), schema.nanoseconds(end)
