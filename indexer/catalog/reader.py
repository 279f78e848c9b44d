"""Reading a library's tables, as searches, views of single files and the vector index do."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Result, Row, Select, Table, func, select

from embedder.content import Modality
from embedder.interface import EmbedderInfo, Vectors
from embedder.media.kinds import Kind, Word
from indexer.catalog import schema
from indexer.catalog.lookup import WordLookup
from indexer.catalog.sqlite import given_ids, last_id, one_of
from indexer.errors import NotFound
from indexer.types import (
    DateSource,
    Filters,
    LibraryStats,
    MediaItem,
    Segment,
    Status,
    TextLine,
)
from indexer.vectors.interface import SearchFilter

Ids = NDArray[np.int64]

_VECTORS_PER_CHUNK = 4_096
_HOLDERS_PER_CHUNK = 16_384


def select_items() -> Select[*tuple[Any, ...]]:
    """Return the query for items without conditions; `item_of_row` takes its rows."""
    items, media, segments = schema.items, schema.media, schema.segments
    count = (
        select(func.count())
        .select_from(segments)
        .where(segments.c.media_id == items.c.media_id)
        .correlate(items)
        .scalar_subquery()
    )
    liked = schema.album_contents.c
    favourite = (
        select(liked.album_id)
        .where(liked.album_id == schema.FAVOURITES, liked.content_hash == media.c.content_hash)
        .correlate(media)
        .exists()
    )
    return select(
        items.c.id,
        items.c.path,
        media.c.content_hash,
        items.c.size,
        items.c.mtime_ns,
        items.c.date_ns,
        items.c.date_source,
        items.c.kind,
        items.c.status,
        items.c.error,
        items.c.added_us,
        count.label("segments"),
        favourite.label("favourite"),
        items.c.media_id,
    ).select_from(items.outerjoin(media, media.c.id == items.c.media_id))


def item_of_row(row: Row[*tuple[Any, ...]]) -> MediaItem:
    """Return the file that a row of `select_items` describes."""
    item_id, path, content_hash, size, mtime_ns, date_ns, date_source, kind, *rest = row
    status, error, added_us, segments, favourite, *_ = rest
    return MediaItem(
        id=item_id,
        path=path,
        content_hash=content_hash,
        size=size,
        mtime_ns=mtime_ns,
        kind=Kind(kind) if kind else None,
        status=Status(status),
        error=error,
        added_at=schema.moment(added_us),
        date_ns=date_ns,
        date_source=DateSource(date_source),
        segments=segments,
        favourite=bool(favourite),
    )


def select_segments() -> Select[*tuple[Any, ...]]:
    """Return the query for segments without conditions; `segment_of_row` takes its rows."""
    segments, media = schema.segments.c, schema.media.c
    return select(
        segments.id,
        media.content_hash,
        segments.kind,
        segments.modality,
        segments.position,
        segments.page,
        segments.start,
        segments.end,
        segments.span_start,
        segments.span_end,
        segments.text,
        segments.media_id,
    ).join_from(schema.segments, schema.media, media.id == segments.media_id)


def segment_of_row(row: Row[*tuple[Any, ...]]) -> Segment:
    """Return the segment that a row of `select_segments` describes."""
    segment_id, content_hash, kind, modality, position, page, start, end, first, last, text, *_ = (
        row
    )
    return Segment(
        id=segment_id,
        content_hash=content_hash,
        kind=Kind(kind),
        modality=Modality(modality),
        position=position,
        page=page,
        start=start,
        end=end,
        span=None if first is None else (first, last),
        text=text,
    )


# Statements of every search are built once, which takes longer than SQLite takes to answer them.
# Many rows of numbers are returned as one JSON text: at each row that it steps to, the driver
# releases the interpreter's lock and has to wait for it again.
_VECTORS = select(schema.vectors.c.segment_id, schema.vectors.c.data).where(
    one_of(schema.vectors.c.segment_id)
)
_KINDS = select(schema.segments.c.id, schema.segments.c.kind).where(one_of(schema.segments.c.id))
_ORIGINS = (
    select(
        func.json_group_array(
            func.json_array(
                schema.segments.c.id, schema.segments.c.media_id, schema.segments.c.page
            )
        )
    )
    .where(one_of(schema.segments.c.id))
    .where(
        select(schema.items.c.id)
        .where(schema.items.c.media_id == schema.segments.c.media_id)
        .exists()
    )
)
_MODEL = select(
    schema.library.c.model,
    schema.library.c.fingerprint,
    schema.library.c.dim,
    schema.library.c.instructions,
)
_SEGMENTS = select_segments().where(one_of(schema.segments.c.id))


@lru_cache(maxsize=64)
def _holders(filters: Filters) -> Select[Any]:
    """Return the query for the files of some media that satisfy the filters."""
    items = select_items().where(one_of(schema.items.c.media_id))
    return items.where(schema.of_items(filters)).order_by(schema.items.c.id)


@lru_cache(maxsize=64)
def _below(folder: Path) -> Select[Any]:
    """Return the query for a folder and those below it."""
    return select(schema.folders.c.id).where(schema.below(folder))


_CHANGED_VECTORS = select(schema.segments.c.id, schema.segments.c.kind, schema.vectors.c.data).join(
    schema.vectors, schema.vectors.c.segment_id == schema.segments.c.id
)


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a library's vectors; all None until the first ingest.

    Attributes:
        name: Its specification, which opens it.
        fingerprint: Of everything that changes vectors.
        dim: Length of its vectors.
        instructions: Instructions for documents by modality; None for the model's own.
    """

    name: str | None
    fingerprint: str | None
    dim: int | None
    instructions: Mapping[Modality, str] | None = None


def model_of_row(row: Row[*tuple[Any, ...]]) -> Model:
    """Return the model that a row of `library` or `pending` describes."""
    instructions = schema.unpacked_instructions(row.instructions)
    return Model(row.model, row.fingerprint, row.dim, instructions)


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a generation.

    Attributes:
        generation: The generation that the changes lead to.
        dim: Length of the vectors, 0 while there are none.
        fingerprint: Of the model of the vectors; all vectors have changed if it has.
        removed: Ids of removed segments by kind, perhaps with ids that were never added.
        added: Chunks of (kind, ids, vectors); consumed while the connection is open.
        holders: Chunks of (kind, ids, folder ids, dates in ns): for every segment of every media
            whose holders have changed, one entry per file that holds it. Consumed after `added`,
            while the connection is open.
    """

    generation: int
    dim: int
    fingerprint: str | None
    removed: dict[Kind, Ids]
    added: Iterator[tuple[Kind, Ids, Vectors]]
    holders: Iterator[tuple[Kind, Ids, NDArray[np.int32], Ids]]


class CatalogReader(WordLookup):
    """Reads a library's tables. Thread-safe; never waits for a writer.

    Each method reads one snapshot. Between two calls there may be a commit, so an id from one may
    be unknown to the next, unless both are made within `moment`.
    """

    def moment(self) -> AbstractContextManager[None]:
        """Let this thread read one snapshot within the context; that is faster, too."""
        return self._database.moment()

    def model(self) -> Model:
        """Return the model of the library's vectors."""
        with self._database.reading() as connection:
            return model_of_row(connection.execute(_MODEL).one())

    def stats(self) -> LibraryStats:
        """Return how many files and segments the library holds."""
        files, segments = schema.item_counts, schema.segment_counts
        with self._database.reading() as connection:
            counts = connection.execute(select(files).where(files.c.files > 0)).all()
            by_kind = connection.execute(select(segments).where(segments.c.segments > 0)).all()
        indexed = [row for row in counts if row.status == Status.INDEXED.value]
        by_status: Counter[str] = Counter()
        for row in counts:
            by_status[row.status] += row.files
        return LibraryStats(
            items={Kind(row.kind): row.files for row in indexed if row.kind},
            segments={Kind(row.kind): row.segments for row in by_kind},
            skipped=by_status[Status.SKIPPED.value],
            failed=by_status[Status.FAILED.value],
            bytes=sum(row.bytes for row in indexed),
        )

    def has_vectors(self) -> bool:
        """Return whether there are vectors, so that the library cannot take another model."""
        query = select(schema.vectors.c.segment_id).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holds_vectors_of(self, info: EmbedderInfo) -> bool:
        """Return whether an embedder's vectors can be compared with those of the library."""
        with self._database.reading() as connection:
            fingerprint = connection.execute(_MODEL).one().fingerprint
            return fingerprint == info.fingerprint or not self.has_vectors()

    def uid(self) -> str:
        """Return the unique name of the library."""
        with self._database.reading() as connection:
            return connection.execute(select(schema.library.c.uid)).scalar_one()

    def generation(self) -> int:
        """Return the number that every change of segments or of their holders raises."""
        with self._database.reading() as connection:
            return connection.execute(select(schema.library.c.generation)).scalar_one()

    @contextmanager
    def changes(self, since: int) -> Iterator[Changes]:
        """Yield what has changed since a generation, in chunks; everything if `since` is 0."""
        with self._database.reading() as connection:
            yield _changes(connection, since)

    def filter_of(self, filters: Filters) -> SearchFilter | None:
        """Return what the vector index has to know of the filters; None if they take any file.

        Kinds are left out: they are partitions of the index.
        """
        if filters == Filters(kinds=filters.kinds):
            return None
        folders, segments = None, None
        if filters.folder is not None:
            with self._database.reading() as connection:
                folders = frozenset(connection.execute(_below(filters.folder)).scalars())
        conditions = []
        if filters.album is not None:
            conditions.append(schema.segments.c.media_id.in_(schema.media_in(filters.album)))
        if filters.has_text:
            words = select(schema.segments.c.media_id).where(schema.has_words())
            conditions.append(schema.segments.c.media_id.in_(words))
        if conditions:
            with self._database.reading() as connection:
                found = connection.execute(select(schema.segments.c.id).where(*conditions))
                segments = frozenset(found.scalars())
        return SearchFilter(
            folders,
            segments=segments,
            after_ns=None if filters.after is None else schema.nanoseconds(filters.after),
            before_ns=None if filters.before is None else schema.nanoseconds(filters.before),
        )

    def vectors_of(self, segment_ids: Sequence[int]) -> Vectors:
        """Return stored vectors, float32 of shape (len(segment_ids), dim), in the given order.

        A segment that has gone since its id was learned gets a row of zeros, which is like
        nothing; `resolve` does not know it either.
        """
        with self._database.reading() as connection:
            dim = connection.execute(_MODEL).one().dim or 0
            answer = connection.execute(_VECTORS, given_ids(segment_ids))
            found: dict[int, bytes] = dict(answer.all())
        gone = bytes(2 * dim)
        return schema.unpacked_vectors([found.get(int(i), gone) for i in segment_ids], dim)

    def kinds_of(self, segment_ids: Sequence[int]) -> dict[int, Kind]:
        """Return the kind of each known segment."""
        with self._database.reading() as connection:
            answer = connection.execute(_KINDS, given_ids(segment_ids)).all()
        return {segment_id: Kind(kind) for segment_id, kind in answer}

    def origins(self, segment_ids: Sequence[int]) -> dict[int, tuple[int, int | None]]:
        """Return the media id of each known segment, and its page in a PDF.

        Without those that no file holds any more, as in the middle of a removal.
        """
        with self._database.reading() as connection:
            answer = connection.execute(_ORIGINS, given_ids(segment_ids)).scalar_one()
        return {segment_id: (media_id, page) for segment_id, media_id, page in json.loads(answer)}

    def resolve(
        self, segment_ids: Sequence[int], filters: Filters
    ) -> dict[int, tuple[Segment, tuple[MediaItem, ...]]]:
        """Return segments with all files that hold them and satisfy the filters, oldest first.

        Returns:
            By segment id, in the given order; without those that are in no such file.
        """
        files: dict[int, list[MediaItem]] = {}
        with self._database.reading() as connection:
            answer = connection.execute(_SEGMENTS, given_ids(segment_ids)).all()
            media_ids = {row.id: row.media_id for row in answer}
            given = given_ids(set(media_ids.values()))
            for row in connection.execute(_holders(filters), given).all():
                files.setdefault(row.media_id, []).append(item_of_row(row))
        found = {row.id: segment_of_row(row) for row in answer}
        return {
            segment_id: (found[segment_id], tuple(files[media_ids[segment_id]]))
            for segment_id in map(int, segment_ids)
            if media_ids.get(segment_id) in files
        }

    def item(self, item_id: int) -> MediaItem:
        """Return a file by id, or raise `NotFound`."""
        query = select_items().where(schema.items.c.id == schema.row_id(item_id))
        return item_of_row(self._found(query, f"file with the id {item_id}"))

    def segment(self, segment_id: int) -> Segment:
        """Return a segment by id, or raise `NotFound`."""
        query = select_segments().where(schema.segments.c.id == schema.row_id(segment_id))
        return segment_of_row(self._found(query, f"segment with the id {segment_id}"))

    def item_of(self, segment_id: int) -> MediaItem:
        """Return the oldest file that holds a segment, or raise `NotFound`."""
        items, segments = schema.items.c, schema.segments.c
        query = (
            select_items()
            .join(schema.segments, segments.media_id == items.media_id)
            .where(segments.id == schema.row_id(segment_id))
            .order_by(items.id)
            .limit(1)
        )
        return item_of_row(self._found(query, f"segment with the id {segment_id}"))

    def segments(self, item_id: int) -> list[Segment]:
        """Return the segments of a file in order of position, or raise `NotFound`."""
        self.item(item_id)
        items, segments = schema.items.c, schema.segments.c
        query = (
            select_segments()
            .join(schema.items, items.media_id == segments.media_id)
            .where(items.id == item_id)
            .order_by(segments.position)
        )
        with self._database.reading() as connection:
            return [segment_of_row(row) for row in connection.execute(query)]

    def words(self, segment_id: int) -> tuple[Word, ...]:
        """Return the words of a PDF page or a picture with their boxes.

        Those of the page itself come first, then those that were read in its picture.
        """
        data = self._data_of(schema.words, segment_id)
        own = () if data is None else schema.unpacked_words(data)
        return own + tuple(word for line in self.lines(segment_id) for word in line.words)

    def lines(self, segment_id: int) -> tuple[TextLine, ...]:
        """Return the lines that were read in a segment's picture, from top to bottom."""
        data = self._data_of(schema.readings, segment_id)
        return () if data is None else schema.unpacked_lines(data)

    def text(self, segment: Segment) -> str | None:
        """Return the text of a segment, and below it what was read in its picture."""
        lines = (line.text for line in self.lines(segment.id))
        return "\n".join(filter(None, (segment.text, *lines))) or None

    def _data_of(self, table: Table, segment_id: int) -> bytes | None:
        query = select(table.c.data).where(table.c.segment_id == schema.row_id(segment_id))
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def _found(self, query: Select[*tuple[Any, ...]], what: str) -> Row[*tuple[Any, ...]]:
        """Return the only row of a query, or raise `NotFound`."""
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"the library has no {what}")
        return row


def _changes(connection: Connection, since: int) -> Changes:
    """See `Catalog.changes`."""
    library = schema.library.c
    generation, dim, fingerprint, pruned = connection.execute(
        select(library.generation, library.dim, library.fingerprint, library.pruned)
    ).one()
    removed: dict[Kind, Ids] = {}
    if since:
        removed = _removed(connection, since) if since >= pruned else _absent(connection)
    found = _vectors_since(connection, since) if since else _every_vector(connection)
    added = _by_kind(found.partitions(_VECTORS_PER_CHUNK), dim or 0)
    return Changes(
        generation, dim or 0, fingerprint, removed, added, _changed_holders(connection, since)
    )


def _every_vector(connection: Connection) -> Result[int, str, bytes]:
    return connection.execute(_CHANGED_VECTORS.order_by(schema.segments.c.id))


def _vectors_since(connection: Connection, since: int) -> Result[int, str, bytes]:
    segments = schema.segments.c
    query = _CHANGED_VECTORS.where(segments.generation > since)
    # As the index on generations has them: in the order of ids alone, all would be read.
    return connection.execute(query.order_by(segments.generation, segments.id))


def _removed(connection: Connection, since: int) -> dict[Kind, Ids]:
    removals = schema.removals.c
    query = select(removals.segment_id, removals.kind).where(removals.generation > since)
    found: dict[Kind, list[int]] = {}
    for segment_id, kind in connection.execute(query):
        found.setdefault(Kind(kind), []).append(segment_id)
    return {kind: np.array(ids, dtype=np.int64) for kind, ids in found.items()}


def _absent(connection: Connection) -> dict[Kind, Ids]:
    """Return all ids ever given that are gone, for every kind: removals are not noted any more."""
    found = connection.execute(select(schema.segments.c.id)).scalars()
    present = np.fromiter(found, dtype=np.int64)
    everything = np.arange(1, last_id(connection, "segments") + 1, dtype=np.int64)
    gone = np.setdiff1d(everything, present, assume_unique=True)
    return dict.fromkeys(Kind, gone)


def _changed_holders(
    connection: Connection, since: int
) -> Iterator[tuple[Kind, Ids, NDArray[np.int32], Ids]]:
    media, items, segments = schema.media, schema.items, schema.segments
    query = (
        select(segments.c.id, items.c.folder_id, items.c.date_ns)
        .join_from(media, segments, segments.c.media_id == media.c.id)
        .join(items, items.c.media_id == media.c.id)
    )
    # In the order in which media were added, their segments are in the order of ids.
    query = query.where(media.c.generation > since) if since else query.order_by(media.c.id)
    for kind in Kind:
        found = connection.execute(query.where(media.c.kind == kind.value))
        for chunk in found.partitions(_HOLDERS_PER_CHUNK):
            table = np.fromiter(chain.from_iterable(chunk), np.int64).reshape(-1, 3)
            yield kind, table[:, 0], table[:, 1].astype(np.int32), table[:, 2]


def _by_kind(partitions: Iterable[Sequence[Any]], dim: int) -> Iterator[tuple[Kind, Ids, Vectors]]:
    for partition in partitions:
        for kind in sorted({row[1] for row in partition}):
            chosen = [row for row in partition if row[1] == kind]
            ids = np.array([row[0] for row in chosen], dtype=np.int64)
            yield Kind(kind), ids, schema.unpacked_vectors([row[2] for row in chosen], dim)
