"""Rows of files that do not exist, for tests of what only looks at the tables."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import insert

from embedder.media.kinds import Kind
from embedder.toy import ToyEmbedder
from indexer.catalog import schema
from indexer.catalog.sqlite import Database
from indexer.catalog.transaction import WriteTransaction

DAY_NS = 86_400 * 10**9


def add_files(
    database: Database,
    ids: range,
    *,
    days: Sequence[int],
    kinds: Sequence[Kind] = tuple(Kind),
    folders: Sequence[str] = ("/a", "/a/b", "/a!", "/z"),
    seed: int = 1,
) -> None:
    """Add a file for each id, its kind, folder and day since 1970 at random.

    Every seventh content has two files. Each segment has a text, which names the content, and a
    vector of the toy model's length.
    """
    chance = random.Random(seed)
    contents = [(one, chance.choice(kinds).value) for one in ids]
    media = [
        {"id": one, "content_hash": str(one), "kind": kind, "generation": 1}
        for one, kind in contents
    ]
    segments = [
        {"media_id": one["id"], "position": n, "kind": one["kind"], "modality": "text"}
        | {"generation": 1, "text": f"content {one['id']}"}
        for one in media
        for n in range(2)
    ]
    vector = schema.packed_vector(np.ones(ToyEmbedder().info.dim, np.float32))
    with database.writing() as connection:
        connection.execute(insert(schema.media), media)
        added = connection.execute(
            insert(schema.segments).returning(schema.segments.c.id), segments
        )
        vectors = [{"segment_id": one, "data": vector} for (one,) in added]
        connection.execute(insert(schema.vectors), vectors)
    values = {"size": 1, "mtime_ns": 1, "status": "indexed", "error": None}
    with WriteTransaction.of(database) as transaction:
        for one, kind in contents:
            dated = {"date_ns": chance.choice(days) * DAY_NS + 1, "date_source": "modified"}
            for copy in range(1 + (one % 7 == 0)):
                path = Path(chance.choice(folders)) / f"{one}-{copy}.{kind}"
                transaction.add_item(path, values | dated | {"media_id": one, "kind": kind})
