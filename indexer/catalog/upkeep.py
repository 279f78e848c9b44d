"""Making the database file smaller and its indexes better, and how large it is."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from indexer import schema
from indexer.database import Database

_REMOVALS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Size:
    """How large a database file is.

    Attributes:
        bytes: All of it, without what waits beside it to be written.
        free: How much of that holds nothing.
    """

    bytes: int
    free: int


class Upkeep:
    """Writes what changes no answer; only the holder of the writer lock may call it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def size(self) -> Size:
        """How large the file is."""
        with self._database.reading() as connection:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return Size(pages * size, free * size)

    def schema_version(self) -> int:
        """The last step that the tables have taken."""
        with self._database.reading() as connection:
            return int(
                connection.exec_driver_sql("SELECT max(number) FROM migrations").scalar_one()
            )

    def forget_removals(self, until: int) -> int:
        """Forgets which segments left up to a generation; returns how many notes that were.

        A vector store that is older than that takes note of all that is gone instead.
        """
        library, removals = schema.library.c, schema.removals
        some = select(removals.c.segment_id).where(removals.c.generation <= until)
        forgotten = 0
        while True:
            with self._database.writing() as connection:  # In steps: others may have to write.
                connection.execute(
                    update(schema.library).values(pruned=func.max(library.pruned, until))
                )
                gone = connection.execute(
                    delete(removals).where(removals.c.segment_id.in_(some.limit(_REMOVALS_AT_ONCE)))
                )
            if not gone.rowcount:
                return forgotten
            forgotten += gone.rowcount

    def tidy_words(self) -> None:
        """Merges the pieces of the full-text indexes, which makes them smaller and faster."""
        for index in ("segment_texts", "item_names", "name_parts"):
            with self._database.writing() as connection:
                connection.exec_driver_sql(f"INSERT INTO {index} ({index}) VALUES ('optimize')")

    def rewrite(self) -> None:
        """Writes the file anew without what is free; it needs as much room again meanwhile."""
        with self._database.outside() as connection:
            connection.execute("VACUUM")

    def empty_log(self) -> None:
        """Moves what waits in the write-ahead log into the file, as far as nobody reads it."""
        with self._database.outside() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
