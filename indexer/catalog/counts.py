"""How much the library holds, and a little of everything: by looking at few rows, however many."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection, select, text

from embedder.media.kinds import Kind
from indexer.catalog import rows, schema
from indexer.catalog.sqlite import given_ids, one_of
from indexer.types import LibraryStats, MediaItem, Segment, Status

_PROBES = 10  # For each file wanted, since some hit the same one where many were removed.

_NEWEST_MEDIA = text("SELECT id FROM media ORDER BY id DESC LIMIT :count")

_NEXT_MEDIA = text(
    "SELECT DISTINCT (SELECT id FROM media WHERE id >= value ORDER BY id LIMIT 1) "
    "FROM json_each(:ids)"
)
_OLDEST_ITEMS = text(
    "SELECT (SELECT id FROM items WHERE media_id = value ORDER BY id LIMIT 1) FROM json_each(:ids)"
)


def stats(connection: Connection) -> LibraryStats:
    """See `Catalog.stats`."""
    table = schema.item_counts.c
    counted = select(table.status, table.kind, table.files, table.bytes).where(table.files > 0)
    files = connection.execute(counted).all()
    pieces = select(schema.segment_counts).where(schema.segment_counts.c.segments > 0)
    by_status = {
        status: sum(count for state, _, count, _ in files if state == status.value)
        for status in Status
    }
    indexed = [row for row in files if row[0] == Status.INDEXED.value]
    return LibraryStats(
        items={Kind(kind): count for _, kind, count, _ in indexed if kind},
        segments={Kind(kind): count for kind, count in connection.execute(pieces)},
        skipped=by_status[Status.SKIPPED],
        failed=by_status[Status.FAILED],
        bytes=sum(size for *_, size in indexed),
    )


def folders(connection: Connection) -> list[tuple[Path, int]]:
    """See `Catalog.folders`."""
    table = schema.folders.c
    query = select(table.path, table.files).where(table.files > 0).order_by(table.path)
    return [(path, files) for path, files in connection.execute(query)]


def branches(folders: Iterable[tuple[Path, int]], limit: int) -> list[tuple[Path, int]]:
    """See `Catalog.branches`."""
    own = {str(path): files for path, files in folders}
    parents: dict[str, str] = {}  # The root is its own parent.
    for path in own:
        child = path
        while child not in parents:
            parent = os.path.dirname(child)  # noqa: PTH120 -- Path's takes ten times as long.
            parents[child], child = parent, parent
    children = Counter(parent for child, parent in parents.items() if child != parent)
    below = Counter(own)
    for path in sorted(parents, key=len, reverse=True):  # Folders before those that hold them.
        if parents[path] != path:
            below[parents[path]] += below[path]
    shown = (path for path in parents if path in own or children[path] != 1)
    return [(Path(path), below[path]) for path in sorted(shown, key=os.fsencode)[:limit]]


def sample(connection: Connection, count: int) -> list[tuple[MediaItem, Segment]]:
    """See `Catalog.sample`."""
    first, last = connection.exec_driver_sql(
        "SELECT (SELECT min(id) FROM media), (SELECT max(id) FROM media)"
    ).one()
    if first is None or count < 1:
        return []
    probes = count * _PROBES
    points = (first + n * (last - first) // (probes - 1) for n in range(probes))
    found = sorted(connection.execute(_NEXT_MEDIA, given_ids(points)).scalars())
    if len(found) < count:
        newest = connection.execute(_NEWEST_MEDIA, {"count": count}).scalars()
        found = sorted({*found, *newest})
    media = [found[n * len(found) // count] for n in range(count)] if len(found) > count else found
    held = connection.execute(_OLDEST_ITEMS, given_ids(media)).scalars()
    files = rows.select_items().where(one_of(schema.items.c.id))
    by_media = {
        row.media_id: rows.item(row)
        for row in connection.execute(files, given_ids(one for one in held if one))
    }
    segments = schema.segments.c
    heads = (
        rows.select_segments()
        .where(one_of(segments.media_id), segments.position == 0)
        .order_by(segments.media_id)
    )
    begun = connection.execute(heads, given_ids(by_media))
    return [(by_media[row.media_id], rows.segment(row)) for row in begun]
