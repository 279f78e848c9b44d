"""Albums, favourites among them, and saved searches: kept in the library's tables."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from embedder.media import MEDIA_KINDS
from indexer.catalog import schema
from indexer.catalog.sqlite import Database, given_ids, one_of, replacing
from indexer.errors import NotFound, QueryError

_FILL_SECONDS = 1.0
"""How long filling an album waits for another transaction: what was in it is an answer, too."""

FAVOURITES = schema.FAVOURITES

MAX_NAME = 200
"""Characters of the name of an album or a saved search."""

_PICTURED = [kind.value for kind, record in MEDIA_KINDS.items() if record.has_picture]


@dataclass(frozen=True, slots=True)
class Album:
    """An album.

    Attributes:
        id: Never reused.
        name: As its owner wrote it.
        files: How many different files of the library are in it.
        cover: A segment of it that has a thumbnail; None if there is none.
        search: What fills a living album, as it was saved; None for other albums.
        border: The probability from which on what the search finds is in the album.
        evaluated: The state of the library when the search last filled it.
    """

    id: int
    name: str
    files: int
    cover: int | None
    search: Mapping[str, Any] | None = None
    border: float | None = None
    evaluated: str | None = None


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search with a name; `search` is the form as it was saved."""

    id: int
    name: str
    search: Mapping[str, Any]


class Albums:
    """Reads and changes albums and saved searches. Thread-safe.

    Guarantees: each call is one transaction; changes wait for another transaction at most, and
    never for an ingest to end. Contents stay in albums when their files are moved, copied, edited,
    embedded again, or removed and added again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Album]:
        """Return all albums: favourites, then the others by name."""
        album = schema.albums.c
        order = (album.id != FAVOURITES, func.lower(album.name), album.id)
        with self._database.reading() as connection:
            return [_album(row) for row in connection.execute(_select_albums().order_by(*order))]

    def get(self, album_id: int) -> Album:
        """Return an album.

        Raises:
            NotFound: if there is none with that id.
        """
        query = _select_albums().where(schema.albums.c.id == schema.row_id(album_id))
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("the library has no such album: it may have been deleted")
        return _album(row)

    def create(
        self, name: str, *, search: Mapping[str, Any] | None = None, border: float | None = None
    ) -> int:
        """Create an album and return its id.

        Args:
            name: Its name.
            search: What fills it, for a living album.
            border: See `Album`.

        Raises:
            QueryError: if the name is empty or too long.
        """
        values = {
            "name": checked_name(name),
            "search": None if search is None else json.dumps(search),
            "border": border,
            "created_us": schema.microseconds_now(),
        }
        created = insert(schema.albums).returning(schema.albums.c.id)
        with self._database.writing() as connection:
            return connection.execute(created, values).scalar_one()

    def rename(self, album_id: int, name: str) -> None:
        """Give an album another name; raises as `create` and `get`."""
        self._change(album_id, {"name": checked_name(name)})

    def set_border(self, album_id: int, border: float) -> None:
        """Give a living album another border; it is filled again when it is looked at."""
        self._change(album_id, {"border": border, "evaluated": None})

    def set_cover(self, album_id: int, item_id: int) -> None:
        """Show a file of an album as its cover, if it has a picture; raises as `get`."""
        self.get(album_id)
        with self._database.writing() as connection:
            for cover in _contents_of(connection, [item_id]):
                changed = update(schema.albums).where(schema.albums.c.id == album_id)
                connection.execute(changed.values(cover=cover))

    def delete(self, album_id: int) -> None:
        """Delete an album; the files stay.

        Raises:
            NotFound: if there is none with that id, or it is the favourites.
        """
        self.get(album_id)
        _check_own(album_id)
        with self._database.writing() as connection:
            connection.execute(delete(schema.albums).where(schema.albums.c.id == album_id))

    def add(self, album_id: int, item_ids: Sequence[int]) -> int:
        """Put files into an album, for good if it is a living one; return how many are new in it.

        Raises:
            NotFound: if there is no such album.
        """
        return self._put(album_id, item_ids, belongs=True)

    def remove(self, album_id: int, item_ids: Sequence[int]) -> int:
        """Take files out of an album, for good if it is a living one; return how many were in it.

        Raises:
            NotFound: if there is no such album.
        """
        return self._put(album_id, item_ids, belongs=False)

    def contents(self, album_id: int) -> set[str]:
        """Return the hashes of what is in an album."""
        inside = schema.album_contents.c
        query = select(inside.content_hash).where(inside.album_id == album_id)
        with self._database.reading() as connection:
            return set(connection.execute(query).scalars())

    # ---- living albums

    def answers(self, album_id: int) -> dict[str, bool]:
        """Return what was answered: whether contents belong to a living album, by their hashes."""
        answers = schema.answers.c
        query = select(answers.content_hash, answers.belongs).where(answers.album_id == album_id)
        with self._database.reading() as connection:
            return {content_hash: bool(yes) for content_hash, yes in connection.execute(query)}

    def forget_answers(self, album_id: int, item_ids: Sequence[int] | None = None) -> int:
        """Take back what was answered about some files, or all; return how many answers.

        The album is filled again when it is looked at.
        """
        answers = schema.answers
        with self._database.writing() as connection:
            _expire(connection, album_id)
            before = connection.execute(
                select(answers.c.content_hash).where(answers.c.album_id == album_id)
            )
            known = set(before.scalars())
            if item_ids is not None:
                known &= set(_contents_of(connection, item_ids))
            _take_out(connection, answers, album_id, known)
            return len(known)

    def is_outdated(self, album_id: int, state: str) -> bool:
        """Return whether an album is a living one that was not filled in a state of the library."""
        album = schema.albums.c
        is_other = album.evaluated.is_distinct_from(state)
        query = select(album.id).where(album.id == schema.row_id(album_id), is_other)
        with self._database.reading() as connection:
            found = connection.execute(query.where(album.search.is_not(None)))
            return found.first() is not None

    def fill(self, album_id: int, contents: Collection[str], evaluated: str) -> None:
        """Replace what is in a living album.

        Args:
            album_id: The album.
            contents: The hashes of what is in it now.
            evaluated: The state of the library that they were found in.

        Raises:
            LibraryBusy: if another transaction takes longer than a second.
        """
        inside, now = schema.album_contents, schema.microseconds_now()
        with self._database.writing(_FILL_SECONDS) as connection:
            query = select(inside.c.content_hash).where(inside.c.album_id == album_id)
            before = set(connection.execute(query).scalars())
            _take_out(connection, inside, album_id, before.difference(contents))
            new = [
                {**_key(album_id, one), "added_us": now} for one in set(contents).difference(before)
            ]
            if new:
                connection.execute(insert(inside), new)
            filled = update(schema.albums).where(schema.albums.c.id == album_id)
            connection.execute(filled.values(evaluated=evaluated))

    # ---- saved searches

    def saved_searches(self) -> list[SavedSearch]:
        """Return the saved searches by name."""
        saved = schema.saved_searches.c
        query = select(saved.id, saved.name, saved.search)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(func.lower(saved.name), saved.id)).all()
        return [SavedSearch(row.id, row.name, json.loads(row.search)) for row in rows]

    def save_search(self, name: str, search: Mapping[str, Any]) -> int:
        """Save a search under a name and return its id.

        Raises:
            QueryError: if the name is empty or too long.
        """
        values = {"name": checked_name(name), "search": json.dumps(search)}
        saved = insert(schema.saved_searches).returning(schema.saved_searches.c.id)
        with self._database.writing() as connection:
            return connection.execute(saved, values).scalar_one()

    def delete_search(self, search_id: int) -> None:
        """Delete a saved search; nothing happens if there is none with that id."""
        saved = schema.saved_searches
        with self._database.writing() as connection:
            connection.execute(delete(saved).where(saved.c.id == schema.row_id(search_id)))

    def _put(self, album_id: int, item_ids: Sequence[int], *, belongs: bool) -> int:
        """Put files into an album or take them out; of a living one, that is an answer as well."""
        is_living = self.get(album_id).search is not None
        inside, now = schema.album_contents, schema.microseconds_now()
        with self._database.writing() as connection:
            chosen = _contents_of(connection, item_ids)
            if is_living and chosen:
                said = [{**_key(album_id, one), "belongs": belongs} for one in chosen]
                connection.execute(replacing(insert(schema.answers)), said)
                _expire(connection, album_id)
            query = select(inside.c.content_hash).where(inside.c.album_id == album_id)
            before = set(connection.execute(query).scalars())
            changed = [one for one in chosen if (one in before) is not belongs]
            if belongs and changed:
                new = [{**_key(album_id, one), "added_us": now} for one in changed]
                connection.execute(insert(inside), new)
            if not belongs:
                _take_out(connection, inside, album_id, changed)
        return len(changed)

    def _change(self, album_id: int, values: Mapping[str, Any]) -> None:
        self.get(album_id)
        _check_own(album_id)
        with self._database.writing() as connection:
            changed = update(schema.albums).where(schema.albums.c.id == album_id)
            connection.execute(changed.values(**values))


def checked_name(name: str) -> str:
    """Return a name without spaces around it.

    Raises:
        QueryError: if nothing is left, or it is too long.
    """
    name = " ".join(name.split())
    if not 0 < len(name) <= MAX_NAME:
        raise QueryError(f"write a name of 1 to {MAX_NAME} characters")
    return name


def _check_own(album_id: int) -> None:
    if album_id == FAVOURITES:
        raise QueryError("the favourites can be neither renamed nor deleted")


def _key(album_id: int, content_hash: str) -> dict[str, Any]:
    return {"album_id": album_id, "content_hash": content_hash}


def _contents_of(connection: Connection, item_ids: Iterable[int]) -> list[str]:
    """Return the hashes of what indexed files hold; unknown files are ignored."""
    items, media = schema.items.c, schema.media.c
    query = select(media.content_hash).join_from(
        schema.media, schema.items, items.media_id == media.id
    )
    chosen = given_ids(one for one in map(schema.row_id, item_ids) if one is not None)
    return list(connection.execute(query.where(one_of(items.id)).distinct(), chosen).scalars())


def _take_out(connection: Connection, table: Table, album_id: int, contents: Iterable[str]) -> None:
    """Delete the rows of some contents of an album."""
    if gone := [{"gone": one} for one in contents]:
        of_one = table.c.content_hash == bindparam("gone")
        connection.execute(delete(table).where(table.c.album_id == album_id, of_one), gone)


def _expire(connection: Connection, album_id: int) -> None:
    """Let a living album be filled again when it is looked at."""
    album = schema.albums
    connection.execute(update(album).where(album.c.id == album_id).values(evaluated=None))


def _select_albums() -> Select[*tuple[Any, ...]]:
    """Return the query for albums with their numbers of files and their covers."""
    album, inside = schema.albums.c, schema.album_contents.c
    items, media, segments = schema.items.c, schema.media.c, schema.segments.c
    files = (
        select(func.count())
        .select_from(schema.media)
        .join(schema.album_contents, inside.content_hash == media.content_hash)
        .where(inside.album_id == album.id, schema.has_file())
        .correlate(schema.albums)
        .scalar_subquery()
    )
    pictures = (
        select(segments.id)
        .join(schema.media, media.id == segments.media_id)
        .join(schema.album_contents, inside.content_hash == media.content_hash)
        .join(schema.items, items.media_id == media.id)
        .where(inside.album_id == album.id, segments.position == 0)
        .where(segments.kind.in_(_PICTURED))
        .order_by(items.date_ns.desc())
        .limit(1)
        .correlate(schema.albums)
    )
    chosen = pictures.where(inside.content_hash == album.cover).scalar_subquery()
    return select(
        *(album.id, album.name, album.search, album.border, album.evaluated),
        files.label("files"),
        func.coalesce(chosen, pictures.scalar_subquery()).label("cover"),
    )


def _album(row: Row[*tuple[Any, ...]]) -> Album:
    return Album(
        id=row.id,
        name=row.name,
        files=row.files,
        cover=row.cover,
        search=None if row.search is None else json.loads(row.search),
        border=row.border,
        evaluated=row.evaluated,
    )
