"""The steps from an empty database file to the tables of this version, in order.

A step that has been released is never changed: what comes after it is a new step.
"""

import logging
from dataclasses import dataclass

from sqlalchemy import Connection

from indexer.catalog import counters
from indexer.errors import LibraryError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered step; its statements and its record are one transaction."""

    number: int
    name: str
    statements: tuple[str, ...]


_FIRST = (
    """CREATE TABLE library (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        uid TEXT NOT NULL,
        model TEXT,
        fingerprint TEXT,
        dim INTEGER,
        generation INTEGER NOT NULL,
        near_duplicates INTEGER NOT NULL
    )""",
    "INSERT INTO library VALUES (1, lower(hex(randomblob(8))), NULL, NULL, NULL, 0, 0)",
    """CREATE TABLE media (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        content_hash TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL
    )""",
    """CREATE TABLE items (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path TEXT NOT NULL UNIQUE,
        folder TEXT NOT NULL,
        name_words TEXT NOT NULL,
        folder_words TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        media_id INTEGER REFERENCES media (id),
        kind TEXT,
        status TEXT NOT NULL,
        error TEXT,
        added_us INTEGER NOT NULL
    )""",
    "CREATE INDEX items_folder ON items (folder)",
    "CREATE INDEX items_media ON items (media_id)",
    "CREATE INDEX items_status ON items (status)",
    "CREATE INDEX items_size ON items (size)",
    """CREATE TABLE segments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        media_id INTEGER NOT NULL REFERENCES media (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        kind TEXT NOT NULL,
        modality TEXT NOT NULL,
        page INTEGER,
        start REAL,
        "end" REAL,
        span_start INTEGER,
        span_end INTEGER,
        text TEXT,
        generation INTEGER NOT NULL,
        picture_hash INTEGER,
        picture_tint BLOB
    )""",
    "CREATE UNIQUE INDEX segments_media ON segments (media_id, position)",
    "CREATE INDEX segments_generation ON segments (generation)",
    "CREATE INDEX segments_kind ON segments (kind)",
    """CREATE TABLE vectors (
        segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
        data BLOB NOT NULL
    )""",
    """CREATE TABLE words (
        segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
        data BLOB NOT NULL
    )""",
    """CREATE TABLE removals (
        segment_id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        generation INTEGER NOT NULL
    )""",
    "CREATE INDEX removals_generation ON removals (generation)",
    """CREATE TRIGGER segments_removed AFTER DELETE ON segments BEGIN
        INSERT INTO removals VALUES (old.id, old.kind, (SELECT generation FROM library));
    END""",
    """CREATE VIRTUAL TABLE segment_texts USING fts5 (
        text, content = 'segments', content_rowid = 'id',
        tokenize = 'porter unicode61 remove_diacritics 2'
    )""",
    """CREATE TRIGGER segment_texts_insert AFTER INSERT ON segments
    WHEN new.text IS NOT NULL BEGIN
        INSERT INTO segment_texts (rowid, text) VALUES (new.id, new.text);
    END""",
    """CREATE TRIGGER segment_texts_delete AFTER DELETE ON segments
    WHEN old.text IS NOT NULL BEGIN
        INSERT INTO segment_texts (segment_texts, rowid, text)
        VALUES ('delete', old.id, old.text);
    END""",
    """CREATE VIRTUAL TABLE item_names USING fts5 (
        name_words, folder_words, content = 'items', content_rowid = 'id',
        tokenize = 'unicode61 remove_diacritics 2'
    )""",
    """CREATE TRIGGER item_names_insert AFTER INSERT ON items BEGIN
        INSERT INTO item_names (rowid, name_words, folder_words)
        VALUES (new.id, new.name_words, new.folder_words);
    END""",
    """CREATE TRIGGER item_names_delete AFTER DELETE ON items BEGIN
        INSERT INTO item_names (item_names, rowid, name_words, folder_words)
        VALUES ('delete', old.id, old.name_words, old.folder_words);
    END""",
    """CREATE TRIGGER item_names_update AFTER UPDATE OF name_words, folder_words ON items BEGIN
        INSERT INTO item_names (item_names, rowid, name_words, folder_words)
        VALUES ('delete', old.id, old.name_words, old.folder_words);
        INSERT INTO item_names (rowid, name_words, folder_words)
        VALUES (new.id, new.name_words, new.folder_words);
    END""",
)

_SECOND = (
    "ALTER TABLE library ADD COLUMN instructions TEXT",
    """CREATE TABLE pending (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        model TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        dim INTEGER NOT NULL,
        instructions TEXT
    )""",
    # Exactly like `vectors`: the two tables change their names when the library changes its model.
    """CREATE TABLE pending_vectors (
        segment_id INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
        data BLOB NOT NULL
    )""",
)

_THIRD = ("ALTER TABLE library ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0",)

_FOURTH = (
    *counters.TABLES,
    *counters.TRIGGERS,
    *counters.FILL,
    "DROP INDEX items_status",
    "CREATE INDEX items_listed ON items (status, path)",
    "CREATE INDEX items_listed_by_kind ON items (status, kind, path)",
    # With all that a filter by date looks at.
    "CREATE INDEX items_modified ON items (mtime_ns, media_id, kind)",
    # Any three characters of a name, which `item_names` has only by its words. Two more that no
    # name has make that any one or two are the beginning of three.
    """CREATE VIRTUAL TABLE name_parts USING fts5 (
        name_words, content = 'items', content_rowid = 'id', tokenize = 'trigram'
    )""",
    "CREATE VIRTUAL TABLE name_parts_held USING fts5vocab (name_parts, row)",
    "INSERT INTO name_parts (rowid, name_words) SELECT id, name_words || char(1, 1) FROM items",
    """CREATE TRIGGER name_parts_insert AFTER INSERT ON items BEGIN
        INSERT INTO name_parts (rowid, name_words)
        VALUES (new.id, new.name_words || char(1, 1));
    END""",
    """CREATE TRIGGER name_parts_delete AFTER DELETE ON items BEGIN
        INSERT INTO name_parts (name_parts, rowid, name_words)
        VALUES ('delete', old.id, old.name_words || char(1, 1));
    END""",
    """CREATE TRIGGER name_parts_update AFTER UPDATE OF name_words ON items BEGIN
        INSERT INTO name_parts (name_parts, rowid, name_words)
        VALUES ('delete', old.id, old.name_words || char(1, 1));
        INSERT INTO name_parts (rowid, name_words)
        VALUES (new.id, new.name_words || char(1, 1));
    END""",
    # The generation at which near duplicates were counted.
    "ALTER TABLE library ADD COLUMN near_generation INTEGER NOT NULL DEFAULT 0",
)

MIGRATIONS = (
    Migration(1, "the first tables", _FIRST),
    Migration(2, "vectors of another model beside the present ones", _SECOND),
    Migration(3, "removals that have been forgotten", _THIRD),
    Migration(4, "numbers beside the rows they count", _FOURTH),
)


def current(connection: Connection) -> int:
    """The number of the last step that a database has taken, 0 for an empty one."""
    if not connection.exec_driver_sql(
        "SELECT 1 FROM sqlite_master WHERE name = 'migrations'"
    ).first():
        return 0
    return int(
        connection.exec_driver_sql("SELECT coalesce(max(number), 0) FROM migrations").scalar_one()
    )


def refuse_newer(number: int) -> None:
    """Refuses a database that a later version has changed.

    Raises:
        LibraryError: if the step is not known to this version.
    """
    if number > MIGRATIONS[-1].number:
        raise LibraryError(
            f"the library was made by a newer version of RzenEmbed Search (its tables are at "
            f"step {number}, this version knows {MIGRATIONS[-1].number}): update the program"
        )


def take_next(connection: Connection) -> bool:
    """Takes the next step within the transaction of the connection; False if there is none.

    Raises:
        LibraryError: if the database is newer than this version.
    """
    number = current(connection)
    refuse_newer(number)
    step = next((step for step in MIGRATIONS if step.number > number), None)
    if step is None:
        return False
    _log.debug("migration %d: %s", step.number, step.name)
    connection.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS migrations "
        "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, taken_at TEXT NOT NULL)"
    )
    for statement in step.statements:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(
        "INSERT INTO migrations VALUES (?, ?, datetime('now'))", (step.number, step.name)
    )
    return True
