"""Verifying the tables, and repairing them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from embedder.media import MEDIA_KINDS, Kind
from indexer.catalog import fulltext, month_counts, schema
from indexer.catalog.details import all_details, described, unpacked_details
from indexer.catalog.sqlite import (
    Database,
    dangling_rows,
    given_ids,
    integrity_errors,
    last_id,
    one_of,
    raise_last_id,
    reindex,
)
from indexer.catalog.transaction import WriteTransaction
from indexer.errors import LibraryBusy, LibraryError
from indexer.presence import FolderId
from indexer.types import DateSource, Status

_ROWS_PER_CHUNK = 4_096
_MAX_ERRORS = 100
_NEVER_NS = -1  # A time that no file has: the next ingest reads it.
_MAX_ZONES_NS = 26 * 3600 * 10**9  # From the zone furthest west to the one furthest east.
_UNIT_TOLERANCE = 0.01  # Rounding to float16 changes the length of a vector by less than 0.001.

_PICTURED = [kind.value for kind, record in MEDIA_KINDS.items() if record.has_picture]

# Built once, since a check and a backup run it for each of up to 256 prefixes.
_WITH_PICTURE = (
    select(schema.media.c.content_hash, schema.segments.c.position)
    .join_from(schema.media, schema.segments, schema.segments.c.media_id == schema.media.c.id)
    .where(schema.media.c.content_hash >= bindparam("first"))
    .where(schema.media.c.content_hash < bindparam("last"))
    .where(or_(*(schema.segments.c.kind == kind for kind in _PICTURED)))
)

_PREFIX = func.substr(schema.media.c.content_hash, 1, 2)
_KIND, _SEGMENT_KIND = func.coalesce(schema.items.c.kind, ""), schema.segments.c.kind
_COUNTED: dict[Table[Any], Select[*tuple[Any, ...]]] = {
    schema.item_counts: select(
        schema.items.c.status, _KIND, func.count(), func.sum(schema.items.c.size)
    ).group_by(schema.items.c.status, _KIND),
    schema.segment_counts: select(_SEGMENT_KIND, func.count()).group_by(_SEGMENT_KIND),
    schema.month_counts: month_counts.COUNTED,
}
"""Tables of numbers, and the queries that count the rows behind them."""

Located = tuple[int, int, Path | None]
"""A segment, its media, and a file that holds it."""


@dataclass(frozen=True, slots=True)
class Held:
    """An indexed file, and its bytes as they were indexed."""

    id: int
    path: Path
    size: int
    mtime_ns: int
    content_hash: str
    device: int | None
    inode: int | None

    @property
    def folder(self) -> FolderId | None:
        """Its folder when files were last found in it, if that is known."""
        return FolderId.stored(self.device, self.inode)


class Audit:
    """Finds what is wrong in a library's tables. Thread-safe.

    All but `damage` require that SQLite can read the tables, and raise `LibraryError` where it
    cannot.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def damage(self) -> list[str]:
        """Return what SQLite itself finds wrong with the file."""
        return self._problems(lambda connection: integrity_errors(connection, _MAX_ERRORS))

    def dangling(self) -> list[tuple[str, int]]:
        """Return rows that refer to missing rows: table and row."""
        with self._database.reading() as connection:
            return dangling_rows(connection)

    def segments_without_vector(self) -> list[Located]:
        """Return segments that have no vector."""
        segments, vectors = schema.segments, schema.vectors
        joined = segments.outerjoin(vectors, vectors.c.segment_id == segments.c.id)
        query = _located().select_from(joined).where(vectors.c.segment_id.is_(None))
        return [tuple(row) for row in self._rows(query.order_by(segments.c.id))]

    def bad_vectors(self, *, pending: bool = False) -> list[tuple[int, str]]:
        """Return segments whose vector has a wrong size, is not finite or not of length 1; and why.

        Zeros are sound for a text, since a model may not understand it.

        Args:
            pending: Look at the vectors of an unfinished re-embedding.
        """
        table, owner = schema.vectors, select(schema.library.c.dim)
        if pending:
            table, owner = schema.pending_vectors, select(schema.pending.c.dim)
        with self._database.reading() as connection:
            dim = connection.execute(owner).scalar_one_or_none()
            if pending and dim is None:
                return []  # They are left over from a former model.
            segments = schema.segments
            joined = table.outerjoin(segments, segments.c.id == table.c.segment_id)
            columns = table.c.segment_id, table.c.data, segments.c.text.is_not(None)
            found = connection.execute(select(*columns).select_from(joined))
            chunks = found.partitions(_ROWS_PER_CHUNK)
            return [bad for chunk in chunks for bad in _bad(chunk, dim or 0)]

    def locate(self, segment_ids: Iterable[int]) -> dict[int, tuple[int, Path | None]]:
        """Return the media of segments, and a file that holds each."""
        query = _located().where(one_of(schema.segments.c.id))
        found = self._rows(query, given_ids(segment_ids))
        return {segment: (media, path) for segment, media, path in found}

    def files_without_content(self) -> list[tuple[int, Path]]:
        """Return id and path of indexed files without media, and of other files with one."""
        items, media = schema.items, schema.media
        joined = items.outerjoin(media, media.c.id == items.c.media_id)
        indexed = items.c.status == Status.INDEXED.value
        query = select(items.c.id, items.c.path).select_from(joined)
        query = query.where(indexed != media.c.id.is_not(None)).order_by(items.c.id)
        return [(row.id, row.path) for row in self._rows(query)]

    def incomplete(self) -> list[tuple[int, Path | None]]:
        """Return media that lack segments or have none: id and a file that holds it."""
        media, segments = schema.media, schema.segments
        count = func.coalesce(func.max(segments.c.position) + 1, -1)
        query = (
            select(media.c.id, _oldest_file(media.c.id))
            .select_from(media.outerjoin(segments, segments.c.media_id == media.c.id))
            .group_by(media.c.id)
            .having(func.count(segments.c.id) != count)
            .order_by(media.c.id)
        )
        return [(media_id, path) for media_id, path in self._rows(query)]

    def unheld(self) -> int:
        """Return how many media no file holds."""
        return self._count(schema.media, ~schema.has_file())

    def retired_vectors(self) -> int:
        """Return how many vectors of a former model are still there."""
        return self._count(schema.pending_vectors, ~select(schema.pending.c.id).exists())

    def pending_vectors(self) -> int:
        """Return how many vectors an unfinished re-embedding has computed."""
        return self._count(schema.pending_vectors, select(schema.pending.c.id).exists())

    def removals(self, until: int | None = None) -> int:
        """Return how many removals are noted, of generations up to a number."""
        table = schema.removals
        return self._count(table, *([] if until is None else [table.c.generation <= until]))

    def wrong_words(self) -> list[str]:
        """Return texts and names that their full-text indexes lack; or terms that differ."""
        found = (
            self._problems(partial(fulltext.differences, name=name)) for name in fulltext.INDEXES
        )
        folded = self._problems(
            lambda connection: [f"row {one}" for one, _ in _misfolded(connection)]
        )
        return [*folded, *(problem for problems in found for problem in problems)]

    def wrong_counts(self) -> list[str]:
        """Return tables with wrong numbers, overlooked media without a file, and missing folders.

        Also files whose date or words are not those of their details, "generation" if a change is
        later than the library, and "segment ids" if some would be given again.
        """
        items, media, folders = schema.items, schema.media, schema.folders
        columns = (_files_in(folders) if one.name == "files" else one for one in folders.c)
        in_folders = select(*columns)
        swept = media.c.generation <= select(schema.library.c.swept).scalar_subquery()
        with self._database.reading() as connection:
            kept = dict(_COUNTED)
            if not month_counts.are_kept(connection):
                del kept[schema.month_counts]
            wrong = [
                table.name
                for table, query in (*kept.items(), (folders, in_folders))
                if _counts(connection, select(table)) != _counts(connection, query)
            ]
            missed = connection.execute(
                select(media.c.id).where(~schema.has_file(), swept)
            ).scalars()
            wrong += [f"content {one}" for one in missed]
            lost = connection.execute(select(items.c.path).where(~_folder_exists())).scalars()
            wrong += [f"the folder of {path}" for path in lost]
            wrong += [f"the date or words of {path}" for path, _ in _misdescribed(connection)]
            generation = connection.execute(select(schema.library.c.generation)).scalar_one()
            if _latest_generation(connection) > generation:
                wrong.append("generation")
            if _highest_segment_id(connection) > last_id(connection, "segments"):
                wrong.append("segment ids")
            return wrong

    def prefixes(self) -> set[str]:
        """Return the pairs of digits that content hashes begin with."""
        return {one for (one,) in self._rows(select(_PREFIX).distinct())}

    def pictured(self, prefix: str) -> set[tuple[str, int]]:
        """Return hash and position of the segments with thumbnails whose hash begins like this."""
        found = self._rows(_WITH_PICTURE, {"first": prefix, "last": prefix + "g"})
        return {(content_hash, position) for content_hash, position in found}

    def kind_of(self, content_hash: str) -> Kind:
        """Return the kind of a content."""
        media = schema.media.c
        return Kind(self._rows(select(media.kind).where(media.content_hash == content_hash))[0][0])

    def held(self) -> Iterator[Held]:
        """Yield all indexed files in order of their ids, while more may be added."""
        items, media, folders = schema.items.c, schema.media.c, schema.folders.c
        query = (
            select(
                *(items.id, items.path, items.size, items.mtime_ns, media.content_hash),
                *(folders.device, folders.inode),
            )
            .join_from(schema.items, schema.media, media.id == items.media_id)
            .join(schema.folders, folders.id == items.folder_id)
            .order_by(items.id)
            .limit(_ROWS_PER_CHUNK)
        )
        last = 0
        while found := self._rows(query.where(items.id > last)):
            yield from (Held(*row) for row in found)
            last = found[-1].id

    def known_below(self, folder: Path) -> set[Path]:
        """Return the paths of all files that the library knows below a folder, in any state."""
        query = select(schema.items.c.path).where(schema.in_folders(folder))
        return {row.path for row in self._rows(query)}

    def sample(self, count: int) -> list[tuple[int, Kind]]:
        """Return id and kind of some segments with vectors, always the same, spread over all."""
        segments, vectors = schema.segments, schema.vectors
        step = max(1, self.vectors() // count)
        query = (
            select(segments.c.id, segments.c.kind)
            .join(vectors, vectors.c.segment_id == segments.c.id)
            .where(segments.c.id % step == 0)
        )
        return [(segment_id, Kind(kind)) for segment_id, kind in self._rows(query)]

    def vectors(self) -> int:
        """Return how many vectors there are."""
        return self._count(schema.vectors)

    def _problems(self, look: Callable[[Connection], list[str]]) -> list[str]:
        """Return what a function finds, or why SQLite could not read what it looked for."""
        try:
            with self._database.reading() as connection:
                return look(connection)
        except LibraryBusy:
            raise
        except LibraryError as error:
            return [str(error)]

    def _rows(self, query: Select[*tuple[Any, ...]], parameters: Any = None) -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(query, parameters).all())

    def _count(self, table: FromClause, *conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(table).where(*conditions)
        return int(self._rows(query)[0][0])


def _oldest_file(media_id: ColumnElement[int]) -> ColumnElement[Path]:
    items = schema.items.c
    query = select(items.path).where(items.media_id == media_id).order_by(items.id).limit(1)
    return query.scalar_subquery()


def _located() -> Select[*tuple[Any, ...]]:
    segments = schema.segments.c
    return select(segments.id, segments.media_id, _oldest_file(segments.media_id))


def _counts(connection: Connection, query: Select[*tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Return the rows of a query that count anything."""
    found = map(tuple, connection.execute(query))
    return {row for row in found if any(isinstance(value, int) and value for value in row)}


def _bad(rows: Iterable[Any], dim: int) -> Iterator[tuple[int, str]]:
    right = []
    for segment_id, data, is_text in rows:
        if len(data) == 2 * dim:
            right.append((segment_id, data, is_text))
        else:
            yield segment_id, f"{len(data)} bytes, not {2 * dim}"
    if not right:
        return
    vectors = np.frombuffer(b"".join(data for _, data, _ in right), dtype="<f2").reshape(-1, dim)
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    for (segment_id, _, is_text), length in zip(right, lengths, strict=True):
        if not np.isfinite(length):
            yield segment_id, "not finite"
        elif abs(length - 1) > _UNIT_TOLERANCE and not (is_text and length == 0):
            yield segment_id, f"of length {length:.3f}, not 1"


class CatalogRepair:
    """Repairs a library's tables.

    Guarantees: each call is one transaction, `rebuild_derived` several. Only the holder of the
    writer lock may call it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def rebuild_keys(self) -> None:
        """Make SQLite's own indexes again."""
        with self._database.writing() as connection:
            reindex(connection)

    def rebuild_derived(self) -> None:
        """Make the full-text indexes again, and the numbers that are kept beside the rows."""
        for index in fulltext.INDEXES:
            with self._database.writing() as connection:
                fulltext.rebuild(connection, index)
        with self._database.writing() as connection:
            recount(connection)
        with WriteTransaction.of(self._database) as transaction:
            for path, right in list(_misdescribed(transaction.connection)):
                if before := transaction.item_at(path):
                    transaction.change_item(before, right)
            for segment_id, terms in list(_misfolded(transaction.connection)):
                mended = update(schema.segments).where(schema.segments.c.id == segment_id)
                transaction.connection.execute(mended.values(terms=terms))

    def drop_dangling(self, dangling: Iterable[tuple[str, int]]) -> list[int]:
        """Delete rows that refer to missing rows; keep files and return their ids."""
        files: list[int] = []
        with WriteTransaction.of(self._database) as transaction:
            for table, row in dangling:
                if table == "items":
                    files.append(row)
                elif table == "segments":
                    transaction.remove_segments(schema.segments.c.id == row, {})
                else:
                    chosen = delete(schema.metadata.tables[table])
                    transaction.connection.execute(chosen.where(literal_column("rowid") == row))
        return files

    def ask_for_files(self, item_ids: Sequence[int], reason: str) -> None:
        """Mark files as failed, and so that the next ingest reads them."""
        with WriteTransaction.of(self._database) as transaction:
            _mark(transaction, one_of(schema.items.c.id), item_ids, reason)

    def forget_media(self, media_ids: Sequence[int], reason: str) -> None:
        """Delete contents with their segments, and mark the files that hold them as above."""
        with WriteTransaction.of(self._database) as transaction:
            _mark(transaction, one_of(schema.items.c.media_id), media_ids, reason)
            transaction.remove_media(media_ids)

    def drop_vectors(self, segment_ids: Sequence[int]) -> None:
        """Delete vectors; their segments can still be found by their words."""
        vectors, chosen = schema.vectors, given_ids(segment_ids)
        with WriteTransaction.of(self._database) as transaction:
            transaction.note_removals(one_of(schema.segments.c.id), chosen)
            transaction.connection.execute(
                delete(vectors).where(one_of(vectors.c.segment_id)), chosen
            )


def _mark(
    transaction: WriteTransaction, chosen: ColumnElement[bool], ids: Sequence[int], reason: str
) -> None:
    marked = {
        "status": Status.FAILED.value,
        "error": reason,
        "media_id": None,
        "mtime_ns": _NEVER_NS,
    }
    transaction.change_items(chosen, given_ids(ids), marked)


def recount(connection: Connection) -> None:
    """Make the numbers that are kept beside the rows again."""
    items, folders = schema.items, schema.folders
    for table, counted in _COUNTED.items():
        connection.execute(delete(table))
        connection.execute(insert(table).from_select(table.columns.keys(), counted))
    _restore_folders(connection)
    connection.execute(update(folders).values(files=_files_in(folders)))
    occupied = select(items.c.id).where(items.c.folder_id == folders.c.id).exists()
    connection.execute(delete(folders).where(~occupied))
    library, latest = schema.library, _latest_generation(connection)
    connection.execute(update(library).values(swept=0))
    late = update(library).where(library.c.generation < latest)
    connection.execute(late.values(generation=latest + 1))
    if (highest := _highest_segment_id(connection)) > last_id(connection, "segments"):
        raise_last_id(connection, "segments", highest)


def _latest_generation(connection: Connection) -> int:
    """Return the generation of the latest change of a row, which the library's is not below."""
    tables = (schema.segments, schema.media, schema.removals)
    return _maximum(connection, *(table.c.generation for table in tables))


def _highest_segment_id(connection: Connection) -> int:
    """Return the highest id that a segment has or is known to have had."""
    return _maximum(connection, schema.segments.c.id, schema.removals.c.segment_id)


def _misdescribed(connection: Connection) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the indexed files whose date or words do not follow from their details, and what does.

    A date without a zone counts as local, and this machine may be in another zone by now.
    """
    items, media = schema.items.c, schema.media.c
    query = select(
        *(items.path, items.mtime_ns, items.kind, media.details, items.sidecar_details),
        *(items.date_ns, items.date_source, items.about_words),
    ).join_from(schema.items, schema.media, media.id == items.media_id)
    for path, mtime_ns, kind, own, beside, date_ns, *rest in connection.execute(query):
        details = all_details(unpacked_details(own), unpacked_details(beside))
        right = described(path, mtime_ns, Kind(kind) if kind else None, details)
        zones = 0 if rest[0] == DateSource.MODIFIED.value else _MAX_ZONES_NS
        if [*right.values()][1:] != rest or abs(right["date_ns"] - date_ns) > zones:
            yield path, right


def _misfolded(connection: Connection) -> Iterator[tuple[int, str | None]]:
    """Yield the segments whose terms are not those of their texts, and what they are."""
    segments = schema.segments.c
    query = select(segments.id, segments.text, segments.terms).where(segments.text.is_not(None))
    for segment_id, text, terms in connection.execute(query):
        right = fulltext.terms_of(text)
        if right != terms:
            yield segment_id, right


def _maximum(connection: Connection, *columns: ColumnElement[int]) -> int:
    return max(connection.execute(select(func.max(one))).scalar_one() or 0 for one in columns)


def _restore_folders(connection: Connection) -> None:
    """Give the items whose folder is missing their folder again."""
    items, media, transaction = schema.items, schema.media, WriteTransaction(connection)
    lost = select(items.c.id, items.c.path, items.c.media_id).where(~_folder_exists())
    for item_id, path, media_id in connection.execute(lost).all():
        location = transaction.location(path)
        connection.execute(update(items).where(items.c.id == item_id), location)
        held = update(media).where(media.c.id == media_id)
        connection.execute(held, {"generation": transaction.generation})


def _folder_exists() -> ColumnElement[bool]:
    """Return the condition that the folder of an item is there."""
    folders = schema.folders.c
    return select(folders.id).where(folders.id == schema.items.c.folder_id).exists()


def _files_in(folders: Table) -> ColumnElement[int]:
    """Return the expression that counts the indexed files of a folder."""
    items = schema.items
    return (
        select(func.count())
        .select_from(items)
        .where(items.c.folder_id == folders.c.id, items.c.status == Status.INDEXED.value)
        .scalar_subquery()
    )
