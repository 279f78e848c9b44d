"""Numbers that are kept beside the rows they count, so that nobody has to count: step 4's tables.

Triggers keep them in the transaction that changes the rows, whoever does so. `RIGHT` is what they
should be, for a check and a repair. As with every step, what comes after a release is a new one.
"""

# The folders above a file's, from the top down to its own: every part of the path that ends where
# a separator follows, and the root. As bytes, since not every path is text; `json_each` counts.
_ABOVE = """
    SELECT substr(folder, 1, n) AS path, n = length(folder) AS own, files,
        lag(substr(folder, 1, n)) OVER (PARTITION BY folder ORDER BY n) AS parent
    FROM (
        SELECT folder, files, key + 1 AS n FROM ({source}) AS held, json_each(
            '[' || replace(hex(zeroblob(length(folder) - 1)), '00', '0,') || '0]'
        )
    )
    WHERE n = length(folder) OR CASE substr(folder, 1, 1)
        WHEN x'2F' THEN n = 1 OR substr(folder, n + 1, 1) = x'2F'
        ELSE substr(folder, n - 1, 2) = x'3A5C' OR (n > 2 AND substr(folder, n + 1, 1) = x'5C')
    END
"""
_ABOVE_NEW = _ABOVE.format(source="SELECT CAST(new.folder AS BLOB) AS folder, 1 AS files")
_ABOVE_OLD = _ABOVE.format(source="SELECT CAST(old.folder AS BLOB) AS folder, 1 AS files")
_ABOVE_ALL = _ABOVE.format(
    source="SELECT CAST(folder AS BLOB) AS folder, count(*) AS files FROM items "
    "WHERE status = 'indexed' GROUP BY 1"
)
_TREE = f"""
    SELECT path, parent, sum(own * files) AS files, sum(files) AS below
    FROM ({_ABOVE_ALL}) GROUP BY path
"""

TABLES = (
    """CREATE TABLE item_counts (
        status TEXT NOT NULL,
        kind TEXT NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (status, kind)
    ) WITHOUT ROWID""",
    """CREATE TABLE segment_counts (
        kind TEXT NOT NULL PRIMARY KEY,
        segments INTEGER NOT NULL
    ) WITHOUT ROWID""",
    # Indexed files in each folder, in it and below it, and folders in it. Without those that have
    # none.
    """CREATE TABLE folders (
        path BLOB NOT NULL PRIMARY KEY,
        parent BLOB,
        files INTEGER NOT NULL,
        below INTEGER NOT NULL,
        children INTEGER NOT NULL
    ) WITHOUT ROWID""",
    # All media that no file holds, and perhaps some that one holds again.
    """CREATE TABLE unheld (
        media_id INTEGER PRIMARY KEY REFERENCES media (id) ON DELETE CASCADE
    )""",
)

_COUNT = """
    INSERT INTO item_counts VALUES (new.status, coalesce(new.kind, ''), 1, new.size)
    ON CONFLICT (status, kind) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
"""
_UNCOUNT = """
    UPDATE item_counts SET files = files - 1, bytes = bytes - old.size
    WHERE status = old.status AND kind = coalesce(old.kind, '');
"""
_ENTER = f"""
    INSERT INTO folders (path, parent, files, below, children)
    SELECT path, parent, own, 1, 0 FROM ({_ABOVE_NEW}) WHERE true
    ON CONFLICT (path) DO UPDATE SET files = files + excluded.files, below = below + 1;
"""
_LEAVE = f"""
    UPDATE folders SET files = files - (path = CAST(old.folder AS BLOB)), below = below - 1
    WHERE path IN (SELECT path FROM ({_ABOVE_OLD}));
"""
_LET_GO = """
    INSERT OR IGNORE INTO unheld
    SELECT id FROM media WHERE id = old.media_id
    AND NOT EXISTS (SELECT 1 FROM items WHERE media_id = old.media_id);
"""
_ELSEWHERE = "(old.status, old.folder) IS NOT (new.status, new.folder)"

TRIGGERS = (
    f"CREATE TRIGGER items_counted_insert AFTER INSERT ON items BEGIN {_COUNT} END",
    f"CREATE TRIGGER items_counted_delete AFTER DELETE ON items BEGIN {_UNCOUNT} END",
    f"""CREATE TRIGGER items_counted_update AFTER UPDATE OF status, kind, size ON items
    WHEN (old.status, old.kind, old.size) IS NOT (new.status, new.kind, new.size)
    BEGIN {_UNCOUNT} {_COUNT} END""",
    """CREATE TRIGGER segments_counted_insert AFTER INSERT ON segments BEGIN
        INSERT INTO segment_counts VALUES (new.kind, 1)
        ON CONFLICT (kind) DO UPDATE SET segments = segments + 1;
    END""",
    """CREATE TRIGGER segments_counted_delete AFTER DELETE ON segments BEGIN
        UPDATE segment_counts SET segments = segments - 1 WHERE kind = old.kind;
    END""",
    """CREATE TRIGGER folders_children_insert AFTER INSERT ON folders BEGIN
        UPDATE folders SET children = children + 1 WHERE path = new.parent;
    END""",
    """CREATE TRIGGER folders_emptied AFTER UPDATE OF below ON folders WHEN new.below = 0 BEGIN
        DELETE FROM folders WHERE path = new.path;
    END""",
    """CREATE TRIGGER folders_children_delete AFTER DELETE ON folders BEGIN
        UPDATE folders SET children = children - 1 WHERE path = old.parent;
    END""",
    f"""CREATE TRIGGER items_entered_insert AFTER INSERT ON items
    WHEN new.status = 'indexed' BEGIN {_ENTER} END""",
    f"""CREATE TRIGGER items_left_delete AFTER DELETE ON items
    WHEN old.status = 'indexed' BEGIN {_LEAVE} END""",
    f"""CREATE TRIGGER items_left_update AFTER UPDATE OF status, folder ON items
    WHEN old.status = 'indexed' AND {_ELSEWHERE} BEGIN {_LEAVE} END""",
    f"""CREATE TRIGGER items_entered_update AFTER UPDATE OF status, folder ON items
    WHEN new.status = 'indexed' AND {_ELSEWHERE} BEGIN {_ENTER} END""",
    f"""CREATE TRIGGER items_let_go_delete AFTER DELETE ON items
    WHEN old.media_id IS NOT NULL BEGIN {_LET_GO} END""",
    f"""CREATE TRIGGER items_let_go_update AFTER UPDATE OF media_id ON items
    WHEN old.media_id IS NOT NULL AND old.media_id IS NOT new.media_id BEGIN {_LET_GO} END""",
)

FILL = (
    "INSERT INTO item_counts "
    "SELECT status, coalesce(kind, ''), count(*), sum(size) FROM items GROUP BY 1, 2",
    "INSERT INTO segment_counts SELECT kind, count(*) FROM segments GROUP BY kind",
    # Folders before those in them, which their trigger counts.
    f"INSERT INTO folders SELECT path, parent, files, below, 0 FROM ({_TREE}) ORDER BY path",
    "INSERT INTO unheld SELECT id FROM media "
    "WHERE NOT EXISTS (SELECT 1 FROM items WHERE media_id = media.id)",
)
"""Fills the tables where they are empty; the triggers have to be there."""

EMPTY = tuple(
    f"DELETE FROM {table}" for table in ("item_counts", "segment_counts", "folders", "unheld")
)

RIGHT = {
    "item_counts": (
        "SELECT status, kind, files, bytes FROM item_counts WHERE files <> 0 OR bytes <> 0",
        "SELECT status, coalesce(kind, ''), count(*), sum(size) FROM items GROUP BY 1, 2",
    ),
    "segment_counts": (
        "SELECT kind, segments FROM segment_counts WHERE segments <> 0",
        "SELECT kind, count(*) FROM segments GROUP BY kind",
    ),
    "folders": (
        "SELECT path, parent, files, below, children FROM folders",
        f"""WITH tree AS MATERIALIZED ({_TREE})
        SELECT path, parent, files, below, (SELECT count(*) FROM tree AS child
            WHERE child.parent = tree.path) FROM tree""",
    ),
}
"""By table what is counted, and what it comes to by counting."""
