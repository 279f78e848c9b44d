"""Writing to the library's tables: what became of files, and which are gone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, or_, select, union_all, update

from embedder.content import Modality
from embedder.interface import EmbedderInfo
from embedder.media.kinds import Kind
from indexer import schema
from indexer.catalog import filters as conditions
from indexer.catalog import rows
from indexer.catalog.outcomes import (
    Effect,
    Indexed,
    Refused,
    raise_generation,
    record,
    storable_time,
)
from indexer.database import Database
from indexer.entities import Status
from indexer.scan import Candidate

_CHUNK = 1_000
_MEDIA_IN_ONE_REMOVAL = 500
_ROOTS_IN_ONE_QUERY = 200  # SQLite takes expressions of depth 1,000.


@dataclass(frozen=True, slots=True)
class Known:
    """What the library knows of a path."""

    id: int
    size: int
    mtime_ns: int
    status: Status

    def same(self, candidate: Candidate) -> bool:
        """Whether the file looks as it did when it was last read."""
        return (self.size, self.mtime_ns) == (candidate.size, storable_time(candidate.mtime_ns))


class Ledger:
    """Writes to a library's tables.

    Guarantees: each call is one transaction (`remove_orphans`: several), so a file is either in
    with all its segments and vectors, or as it was before. Only the holder of the writer lock
    may call what writes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, paths: Sequence[Path]) -> dict[Path, Known]:
        """What the library knows of some paths; unknown ones are left out."""
        items = schema.items.c
        query = select(items.path, items.id, items.size, items.mtime_ns, items.status)
        found: dict[Path, Known] = {}
        with self._database.reading() as connection:
            for start in range(0, len(paths), _CHUNK):
                chunk = paths[start : start + _CHUNK]
                for row in connection.execute(query.where(items.path.in_(chunk))):
                    found[row[0]] = Known(row[1], row[2], row[3], Status(row[4]))
        return found

    def has_media(self, content_hash: str) -> bool:
        """Whether the bytes are in the library."""
        media = schema.media.c
        query = select(media.id).where(media.content_hash == content_hash)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holds_size(self, size: int) -> bool:
        """Whether any indexed file has this many bytes."""
        items = schema.items.c
        query = select(items.id).where(items.size == size, items.media_id.is_not(None)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holders(self, content_hash: str) -> list[Path]:
        """The files that hold some bytes, oldest first."""
        items, media = schema.items.c, schema.media.c
        query = (
            select(items.path)
            .join(schema.media, media.id == items.media_id)
            .where(media.content_hash == content_hash)
            .order_by(items.id)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def failed(self) -> list[Path]:
        """The files that failed, in order."""
        items = schema.items.c
        query = select(items.path).where(items.status == Status.FAILED.value).order_by(items.path)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def below(self, roots: Sequence[Path]) -> Iterator[tuple[int, Path, int]]:
        """Id, path and size of the known files that are one of the roots or below one."""
        items = schema.items.c
        query = select(items.id, items.path, items.size).order_by(items.id)
        with self._database.reading() as connection:
            for start in range(0, len(roots), _ROOTS_IN_ONE_QUERY):
                chunk = roots[start : start + _ROOTS_IN_ONE_QUERY]
                inside = [conditions.below(root) | (items.path == root) for root in chunk]
                for row in connection.execute(query.where(or_(*inside))):
                    yield row[0], row[1], row[2]

    def remember_model(self, name: str, instructions: Mapping[Modality, str] | None = None) -> None:
        """Remembers the model that a new library is meant for, unless one is remembered."""
        library = schema.library.c
        with self._database.reading() as connection:
            if connection.execute(select(library.model)).scalar_one() is not None:
                return
        values = {"model": name, "instructions": rows.packed_instructions(instructions)}
        with self._database.writing() as connection:
            connection.execute(update(schema.library).where(library.model.is_(None)).values(values))

    def rename_model(
        self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None = None
    ) -> None:
        """Remembers what else opens the model whose vectors these are; nothing if it is another."""
        values = {"model": info.name, "instructions": rows.packed_instructions(instructions)}
        same = schema.library.c.fingerprint == info.fingerprint
        with self._database.writing() as connection:
            connection.execute(update(schema.library).where(same).values(values))

    def adopt(self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None = None) -> None:
        """Remembers whose vectors the library holds; only while it holds none."""
        with self._database.writing() as connection:
            connection.execute(
                update(schema.library).values(
                    model=info.name,
                    fingerprint=info.fingerprint,
                    dim=info.dim,
                    instructions=rows.packed_instructions(instructions),
                )
            )

    def record(self, outcomes: Sequence[Indexed | Refused]) -> list[Effect]:
        """Stores what became of some files, in one transaction; effect i is that of outcome i."""
        with self._database.writing() as connection:
            if any(isinstance(outcome, Indexed) and outcome.segments for outcome in outcomes):
                raise_generation(connection)
            return [record(connection, outcome) for outcome in outcomes]

    def remove(self, item_ids: Sequence[int]) -> list[Path]:
        """Forgets files, but not yet what only they held; returns their paths."""
        items = schema.items.c
        gone: list[Path] = []
        with self._database.writing() as connection:
            for start in range(0, len(item_ids), _CHUNK):
                chunk = item_ids[start : start + _CHUNK]
                known = [one for one in map(rows.row_id, chunk) if one is not None]
                statement = delete(schema.items).where(items.id.in_(known)).returning(items.path)
                gone.extend(connection.execute(statement).scalars())
        return gone

    def remove_orphans(self) -> list[str]:
        """Removes bytes that no file holds any more with their segments; returns the hashes."""
        items, media, unheld = schema.items.c, schema.media.c, schema.unheld.c
        held = select(items.id).where(items.media_id == unheld.media_id).exists()
        noted = select(unheld.media_id, held.label("held")).limit(_MEDIA_IN_ONE_REMOVAL)
        gone: list[str] = []
        while True:
            with self._database.reading() as connection:
                found = connection.execute(noted).all()
            if not found:
                return gone
            ids = [row.media_id for row in found if not row.held]
            again = [row.media_id for row in found if row.held]
            with self._database.writing() as connection:
                if ids:
                    raise_generation(connection)
                statement = delete(schema.media).where(media.id.in_(ids))
                gone.extend(connection.execute(statement.returning(media.content_hash)).scalars())
                connection.execute(delete(schema.unheld).where(unheld.media_id.in_(again)))

    def near_duplicates(self) -> int:
        """The number of groups that was remembered last."""
        with self._database.reading() as connection:
            return connection.execute(select(schema.library.c.near_duplicates)).scalar_one()

    def remember_near_duplicates(self, groups: int) -> None:
        """Remembers the number of groups of pictures that look the same, as of now."""
        now = schema.library.c.generation
        values = {"near_duplicates": groups, "near_generation": now}
        with self._database.writing() as connection:
            connection.execute(update(schema.library).values(values))

    def pictures_changed(self, most: int) -> int:
        """How many pictures have come or gone since near duplicates were counted, up to a number.

        Where it has been forgotten what has gone, as many as asked for.
        """
        library, segments, removals = schema.library.c, schema.segments.c, schema.removals.c
        with self._database.reading() as connection:
            since, pruned = connection.execute(
                select(library.near_generation, library.pruned)
            ).one()
            if since < pruned:
                return most
            come = select(segments.id).where(
                segments.generation > since, segments.picture_hash.is_not(None)
            )
            gone = select(removals.segment_id).where(
                removals.generation > since, removals.kind == Kind.IMAGE.value
            )
            both = union_all(come, gone).limit(most).subquery()
            return connection.execute(select(func.count()).select_from(both)).scalar_one()
