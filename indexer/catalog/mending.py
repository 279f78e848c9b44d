"""Mending the tables: what is derived is made anew, what cannot be is marked to be taken in."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, update

from indexer import counters, schema
from indexer.catalog import rows
from indexer.catalog.audit import Audit
from indexer.catalog.outcomes import raise_generation
from indexer.database import Database
from indexer.entities import Status

_NEVER_NS = -1

_INDEXES = {
    "segment_texts": (
        "INSERT INTO segment_texts (rowid, text) "
        "SELECT id, text FROM segments WHERE text IS NOT NULL"
    ),
    "item_names": (
        "INSERT INTO item_names (rowid, name_words, folder_words) "
        "SELECT id, name_words, folder_words FROM items"
    ),
    "name_parts": (
        "INSERT INTO name_parts (rowid, name_words) SELECT id, name_words || char(1, 1) FROM items"
    ),
}


class Mending:
    """Writes what a check asks for. Each call is one transaction, unless it says otherwise.

    Only the holder of the writer lock may call it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def rebuild_keys(self) -> None:
        """Makes SQLite's own indexes anew."""
        with self._database.writing() as connection:
            connection.exec_driver_sql("REINDEX")

    def rebuild_words(self, index: str) -> None:
        """Makes a full-text index anew from what it is of."""
        with self._database.writing() as connection:
            connection.exec_driver_sql(f"INSERT INTO {index} ({index}) VALUES ('delete-all')")
            connection.exec_driver_sql(_INDEXES[index])

    def recount(self) -> None:
        """Makes the numbers that are kept beside the rows anew."""
        with self._database.writing() as connection:
            for statement in (*counters.EMPTY, *counters.FILL):
                connection.exec_driver_sql(statement)

    def drop_dangling(self, dangling: Iterable[tuple[str, int]]) -> list[int]:
        """Deletes rows that refer to what is not there; files are kept and returned by id."""
        files: list[int] = []
        with self._database.writing() as connection:
            raise_generation(connection)
            for table, row in dangling:
                if table == "items":
                    files.append(row)
                else:
                    connection.exec_driver_sql(f"DELETE FROM {table} WHERE rowid = ?", (row,))
        return files

    def ask_for_files(self, item_ids: Sequence[int], reason: str) -> None:
        """Marks files as failed, and so that the next ingest reads them."""
        items = schema.items
        marked = {
            "status": Status.FAILED.value,
            "error": reason,
            "media_id": None,
            "mtime_ns": _NEVER_NS,
        }
        statement = update(items).where(rows.one_of(items.c.id)).values(marked)
        with self._database.writing() as connection:
            connection.execute(statement, rows.given_ids(item_ids))

    def forget_media(self, media_ids: Sequence[int], reason: str) -> None:
        """Drops contents with their segments, and marks the files that hold them as above."""
        items, media = schema.items, schema.media
        marked = {
            "status": Status.FAILED.value,
            "error": reason,
            "media_id": None,
            "mtime_ns": _NEVER_NS,
        }
        with self._database.writing() as connection:
            raise_generation(connection)
            given = rows.given_ids(media_ids)
            connection.execute(
                update(items).where(rows.one_of(items.c.media_id)).values(marked), given
            )
            connection.execute(delete(media).where(rows.one_of(media.c.id)), given)

    def drop_vectors(self, segment_ids: Sequence[int]) -> None:
        """Drops vectors whose segments stay to be found by their words."""
        vectors, given = schema.vectors, rows.given_ids(segment_ids)
        with self._database.writing() as connection:
            raise_generation(connection)
            connection.exec_driver_sql(
                "INSERT OR REPLACE INTO removals SELECT id, kind, (SELECT generation FROM library) "
                "FROM segments WHERE id IN (SELECT value FROM json_each(?))",
                (given["ids"],),
            )
            connection.execute(delete(vectors).where(rows.one_of(vectors.c.segment_id)), given)

    def raise_numbers(self) -> None:
        """Puts generation and ids beyond all that were ever given."""
        audit = Audit(self._database)
        late, highest = audit.late_generation(), audit.reusable_ids()
        with self._database.writing() as connection:
            if late:
                connection.execute(update(schema.library).values(generation=late + 1))
            if highest:
                connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'segments'")
                connection.exec_driver_sql(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('segments', ?)", (highest,)
                )
