"""Fill a new library with generated segments, a million in a few minutes.

    python -m benchmarks.filled DIR [--segments 1000000] [--seed 1]

Half of the segments are pictures, a tenth clips, two tenths pages and two tenths passages, as in
`latency.py`. Rows go straight into the tables of the program, with its triggers and full-text
indexes, in the order of an ingest: folder by folder, over ten years. No file
of them exists, pages have no word boxes, and pictures no thumbnails. The vectors are clustered
unit vectors, as long as `mini`'s, and the same ones each time; the vector index is built when the
library is first opened.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from benchmarks.madeup import WEIGHTS, WORDS
from embedder import open_embedder
from embedder.content import Modality
from embedder.interface import EmbedderInfo, normalised
from embedder.media.kinds import Kind
from indexer.catalog import rows
from indexer.catalog.database import Database
from indexer.catalog.fulltext import folder_words, name_words
from indexer.catalog.writer import CatalogWriter, raise_generation
from indexer.config import LIBRARY_FILE
from indexer.types import Status

ROOT = Path("/home/ada/made-up")
"""Folder of the files that a filled library lists."""

FOLDER_FILES = 180
FILES_AT_ONCE = 2_000
COPY_EVERY, REFUSED_EVERY, ALIKE_EVERY = 100, 200, 50
FIRST_DAY = 1_420_070_400  # 2015-01-01, in seconds since 1970.
DAYS = 3_650
CLUSTER, NOISE = 250, 0.7  # As in `search.py`.

SEGMENTS_OF = {Kind.IMAGE: 1, Kind.VIDEO: 10, Kind.PDF: 20, Kind.TEXT: 10}
SHARES = {Kind.IMAGE: 0.5, Kind.VIDEO: 0.1, Kind.PDF: 0.2, Kind.TEXT: 0.2}
SUFFIXES = {Kind.IMAGE: "jpg", Kind.VIDEO: "mp4", Kind.PDF: "pdf", Kind.TEXT: "txt"}
MODALITIES = {
    Kind.IMAGE: Modality.IMAGE,
    Kind.VIDEO: Modality.VIDEO,
    Kind.PDF: Modality.PAGE,
    Kind.TEXT: Modality.TEXT,
}

TABLES = {
    "media": "id, content_hash, kind",
    "items": "path, folder, name_words, folder_words, size, mtime_ns, media_id, kind, status, "
    "error, added_us",
    "segments": 'id, media_id, position, kind, modality, page, start, "end", span_start, '
    "span_end, text, generation, picture_hash, picture_tint",
    "vectors": "segment_id, data",
}


@dataclass(eq=False)
class Batch:
    """Rows of one transaction, by table."""

    rows: dict[str, list[tuple[Any, ...]]] = field(
        default_factory=lambda: {table: [] for table in TABLES}
    )

    def store(self, connection: Connection) -> None:
        """Insert the rows in the order of their foreign keys."""
        for table, columns in TABLES.items():
            if self.rows[table]:
                marks = ", ".join("?" * (columns.count(",") + 1))
                connection.exec_driver_sql(
                    f"INSERT INTO {table} ({columns}) VALUES ({marks})", self.rows[table]
                )


class Maker:
    """Generates files, their segments and vectors deterministically.

    Args:
        segments: Number of segments.
        dim: Length of the vectors.
        seed: Seed of the random generator.
    """

    def __init__(self, segments: int, dim: int, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        counts = {kind: round(segments * SHARES[kind] / SEGMENTS_OF[kind]) for kind in SHARES}
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        self._kinds = [kinds[i] for i in self._chance.permutation(len(kinds))]
        self._words = np.array(WORDS, dtype=object)
        self._rising = np.cumsum(WEIGHTS) / sum(WEIGHTS)
        self._dim = dim
        self._centres = self._chance.standard_normal(
            (max(1, segments // CLUSTER), dim), dtype=np.float32
        )
        self._folders = -(-len(self._kinds) // FOLDER_FILES)
        self._files = self._segments = 0
        self._look = (0, b"")

    def batches(self) -> Iterator[tuple[Batch, int]]:
        """Yield rows to store, and the number of segments so far."""
        folder, first_day = ROOT, 0
        batch, generation = Batch(), 1
        for number, kind in enumerate(self._kinds):
            if number % FOLDER_FILES == 0:
                folder, first_day = self._folder(number // FOLDER_FILES)
            self._add_file(batch, folder, first_day, kind, generation)
            if (number + 1) % FILES_AT_ONCE == 0:
                self._add_vectors(batch)
                yield batch, self._segments
                batch, generation = Batch(), generation + 1
        self._add_vectors(batch)
        yield batch, self._segments

    def _draw(self, count: int) -> str:
        """Draw words by Zipf's law."""
        chosen = np.searchsorted(self._rising, self._chance.random(count))
        return " ".join(self._words[chosen].tolist())

    def _folder(self, number: int) -> tuple[Path, int]:
        """Return a folder and the first day of its files."""
        day = number * DAYS // self._folders
        folder = ROOT / str(2015 + day // 365) / f"{self._draw(2)} {number}"
        return (folder / f"day {1 + number % 9}" if number % 4 == 0 else folder), day

    def _add_file(
        self, batch: Batch, folder: Path, first_day: int, kind: Kind, generation: int
    ) -> None:
        self._files += 1
        number = self._files
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        camera = kind in (Kind.IMAGE, Kind.VIDEO) and number % 5 < 3
        name = f"{'IMG' if number % 5 else 'DSC'}_{number:04}" if camera else self._draw(2)
        path = folder / f"{name if camera else f'{name} {number}'}.{SUFFIXES[kind]}"
        seconds = FIRST_DAY + 86_400 * first_day + int(self._chance.integers(7 * 86_400))
        batch.rows["media"].append((number, digest, kind.value))
        self._add_item(batch, path, seconds, kind, number)
        if number % COPY_EVERY == 0:
            self._add_item(batch, ROOT / "copies" / path.name, seconds, kind, number)
        if number % REFUSED_EVERY == 0:
            self._add_item(batch, path.with_suffix(".broken"), seconds, kind, None)
        for position in range(SEGMENTS_OF[kind]):
            self._segments += 1
            batch.rows["segments"].append(
                (self._segments, number, position, kind.value, MODALITIES[kind].value)
                + self._place(kind, position)
                + (generation,)
                + (self._next_look() if kind is Kind.IMAGE else (None, None))
            )

    def _add_item(
        self, batch: Batch, path: Path, seconds: int, kind: Kind, media_id: int | None
    ) -> None:
        status = Status.INDEXED if media_id else Status.FAILED
        error = None if media_id else "it cannot be decoded"
        batch.rows["items"].append(
            (
                *(str(path), str(path.parent), name_words(path.name), folder_words(path.parent)),
                *(int(self._chance.integers(10_000, 10_000_000)), seconds * 10**9 + self._files),
                *(media_id, kind.value, status.value, error, seconds * 10**6),
            )
        )

    def _place(self, kind: Kind, position: int) -> tuple[Any, ...]:
        """Return page, start, end, span and text of a segment."""
        if kind is Kind.IMAGE:
            return (None,) * 6
        if kind is Kind.VIDEO:
            return None, 5.0 * position, 5.0 * position + 5, None, None, None
        text = self._draw(int(self._chance.integers(60, 101)))
        if kind is Kind.PDF:
            return position + 1, None, None, None, None, text
        return None, None, None, 600 * position, 600 * position + len(text), text

    def _next_look(self) -> tuple[int, bytes]:
        """Return hash and colours of a picture; some look like the picture before."""
        if self._look[1] and self._segments % ALIKE_EVERY == 0:
            self._look = (self._look[0] ^ 1, self._look[1])
        else:
            number = int(self._chance.integers(-(2**63), 2**63, dtype=np.int64))
            self._look = (number, self._chance.integers(256, size=48, dtype=np.uint8).tobytes())
        return self._look

    def _add_vectors(self, batch: Batch) -> None:
        ids = [row[0] for row in batch.rows["segments"]]
        noise = self._chance.standard_normal((len(ids), self._dim), dtype=np.float32)
        chosen = self._chance.integers(len(self._centres), size=len(ids))
        vectors = normalised(self._centres[chosen] + NOISE * noise)
        batch.rows["vectors"] = [
            (one, rows.packed_vector(vector)) for one, vector in zip(ids, vectors, strict=True)
        ]


def fill(directory: Path, segments: int, info: EmbedderInfo, seed: int = 1) -> Iterator[int]:
    """Fill a new library with generated files.

    Args:
        directory: Folder without a library.
        segments: Approximate number of segments.
        info: Describes the embedder that the library will be opened with.
        seed: Seed of the random generator.

    Yields:
        The number of segments, after each transaction.

    Raises:
        FileExistsError: The folder has a library.
    """
    if (directory / LIBRARY_FILE).exists():
        raise FileExistsError(f"{directory} already has a library: name another folder")
    directory.mkdir(parents=True, exist_ok=True)
    database = Database(directory / LIBRARY_FILE)
    try:
        CatalogWriter(database).adopt(info)
        for batch, count in Maker(segments, info.dim, seed).batches():
            with database.writing() as connection:
                raise_generation(connection)
                batch.store(connection)
            yield count
        with database.outside() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Fill a folder and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    with open_embedder("mini") as embedder:
        info = embedder.info
    start, count = time.perf_counter(), 0
    for count in fill(given.directory, given.segments, info, given.seed):
        print(f"\r{count} segments, {time.perf_counter() - start:.0f} s", end="", flush=True)
    size = (given.directory / LIBRARY_FILE).stat().st_size
    print(f"\r{count} segments in {time.perf_counter() - start:.0f} s, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
