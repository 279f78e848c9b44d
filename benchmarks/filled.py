"""Fills a new library with made-up segments, a million in a few minutes.

    python -m benchmarks.filled DIR [--segments 1000000] [--seed 1]

Half of the segments are pictures, a tenth clips, two tenths pages and two tenths passages, as in
`latency.py`. Rows go straight into the tables of the program, with its full-text indexes, in the
order of an ingest: folder by folder, over ten years; the counts beside them are made at the end. No
file of them exists, pages have no word boxes, and pictures no thumbnails. The vectors are clustered
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
from sqlalchemy import Connection, insert, update

from benchmarks.madeup import WEIGHTS, WORDS
from embedder import open_embedder
from embedder.content import Modality
from embedder.interface import EmbedderInfo, normalised
from embedder.media.kinds import Kind
from indexer.catalog import schema
from indexer.catalog.names import folder_words, name_words
from indexer.catalog.sqlite import Database
from indexer.catalog.verify import recount
from indexer.catalog.writer import CatalogWriter
from indexer.config import LIBRARY_FILE
from indexer.types import DateSource, Status

ROOT = Path("/home/ada/made-up")
"""Where the files of a filled library are said to be."""

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

TABLES = (schema.folders, schema.media, schema.items, schema.segments, schema.vectors)
"""Referred to before referring."""


@dataclass(eq=False)
class Batch:
    """Rows of one transaction, by the name of their table."""

    generation: int
    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {table.name: [] for table in TABLES}
    )

    def store(self, connection: Connection) -> None:
        """Insert the rows."""
        connection.execute(update(schema.library).values(generation=self.generation))
        for table in TABLES:
            if self.rows[table.name]:
                connection.execute(insert(table), self.rows[table.name])


class Maker:
    """Makes up files, their segments and vectors; the same ones for the same numbers.

    Args:
        segments: How many there are to be.
        dim: Length of the vectors.
        seed: Another one makes other files.
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
        self._folder_ids: dict[Path, int] = {}
        self._files = self._segments = 0
        self._look = (0, b"")

    def batches(self) -> Iterator[tuple[Batch, int]]:
        """What to store, and how many segments there are by then."""
        folder, first_day = ROOT, 0
        batch = Batch(1)
        for number, kind in enumerate(self._kinds):
            if number % FOLDER_FILES == 0:
                folder, first_day = self._folder(number // FOLDER_FILES)
            self._add_file(batch, folder, first_day, kind)
            if (number + 1) % FILES_AT_ONCE == 0:
                self._add_vectors(batch)
                yield batch, self._segments
                batch = Batch(batch.generation + 1)
        self._add_vectors(batch)
        yield batch, self._segments

    def _draw(self, count: int) -> str:
        """Words by Zipf's law."""
        chosen = np.searchsorted(self._rising, self._chance.random(count))
        return " ".join(self._words[chosen].tolist())

    def _folder(self, number: int) -> tuple[Path, int]:
        """A folder, and the day from which its files are."""
        day = number * DAYS // self._folders
        folder = ROOT / str(2015 + day // 365) / f"{self._draw(2)} {number}"
        return (folder / f"day {1 + number % 9}" if number % 4 == 0 else folder), day

    def _add_file(self, batch: Batch, folder: Path, first_day: int, kind: Kind) -> None:
        self._files += 1
        number = self._files
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        camera = kind in (Kind.IMAGE, Kind.VIDEO) and number % 5 < 3
        name = f"{'IMG' if number % 5 else 'DSC'}_{number:04}" if camera else self._draw(2)
        path = folder / f"{name if camera else f'{name} {number}'}.{SUFFIXES[kind]}"
        seconds = FIRST_DAY + 86_400 * first_day + int(self._chance.integers(7 * 86_400))
        media = {"id": number, "content_hash": digest, "kind": kind.value}
        batch.rows["media"].append(media | {"generation": batch.generation})
        self._add_item(batch, path, seconds, kind, number)
        if number % COPY_EVERY == 0:
            self._add_item(batch, ROOT / "copies" / path.name, seconds, kind, number)
        if number % REFUSED_EVERY == 0:
            self._add_item(batch, path.with_suffix(".broken"), seconds, kind, None)
        for position in range(SEGMENTS_OF[kind]):
            self._segments += 1
            segment = {
                "id": self._segments,
                "media_id": number,
                "position": position,
                "kind": kind.value,
                "modality": MODALITIES[kind].value,
                "generation": batch.generation,
            }
            look = self._next_look() if kind is Kind.IMAGE else (None, None)
            batch.rows["segments"].append(
                segment
                | self._place(kind, position)
                | {"picture_hash": look[0], "picture_tint": look[1]}
            )

    def _add_item(
        self, batch: Batch, path: Path, seconds: int, kind: Kind, media_id: int | None
    ) -> None:
        folder = path.parent
        if folder not in self._folder_ids:
            self._folder_ids[folder] = len(self._folder_ids) + 1
            batch.rows["folders"].append(
                {"id": self._folder_ids[folder], "path": folder, "files": 0}
            )
        batch.rows["items"].append(
            {
                "path": path,
                "folder_id": self._folder_ids[folder],
                "name_words": name_words(path.name),
                "folder_words": folder_words(folder),
                "size": int(self._chance.integers(10_000, 10_000_000)),
                "mtime_ns": seconds * 10**9 + self._files,
                "date_ns": seconds * 10**9 + self._files,
                "date_source": DateSource.MODIFIED.value,
                "media_id": media_id,
                "kind": kind.value,
                "status": (Status.INDEXED if media_id else Status.FAILED).value,
                "error": None if media_id else "it cannot be decoded",
                "added_us": seconds * 10**6,
            }
        )

    def _place(self, kind: Kind, position: int) -> dict[str, Any]:
        """Return where a segment is in its file, and its text."""
        names = ("page", "start", "end", "span_start", "span_end", "text")
        place: dict[str, Any] = dict.fromkeys(names)
        if kind is Kind.VIDEO:
            place |= {"start": 5.0 * position, "end": 5.0 * position + 5}
        elif kind is not Kind.IMAGE:
            text = self._draw(int(self._chance.integers(60, 101)))
            place["text"] = text
            if kind is Kind.PDF:
                place["page"] = position + 1
            else:
                place |= {"span_start": 600 * position, "span_end": 600 * position + len(text)}
        return place

    def _next_look(self) -> tuple[int, bytes]:
        """Hash and colours of a picture; one of some looks like the picture before it."""
        if self._look[1] and self._segments % ALIKE_EVERY == 0:
            self._look = (self._look[0] ^ 1, self._look[1])
        else:
            number = int(self._chance.integers(-(2**63), 2**63, dtype=np.int64))
            self._look = (number, self._chance.integers(256, size=48, dtype=np.uint8).tobytes())
        return self._look

    def _add_vectors(self, batch: Batch) -> None:
        ids = [row["id"] for row in batch.rows["segments"]]
        noise = self._chance.standard_normal((len(ids), self._dim), dtype=np.float32)
        chosen = self._chance.integers(len(self._centres), size=len(ids))
        vectors = normalised(self._centres[chosen] + NOISE * noise)
        batch.rows["vectors"] = [
            {"segment_id": one, "data": schema.packed_vector(vector)}
            for one, vector in zip(ids, vectors, strict=True)
        ]


def fill(directory: Path, segments: int, info: EmbedderInfo, seed: int = 1) -> Iterator[int]:
    """Makes a library of made-up files.

    Args:
        directory: Its folder, in which there is no library yet.
        segments: How many segments it is to have, about.
        info: Of the embedder that it is to be opened with.
        seed: Another one makes other files.

    Yields:
        How many segments there are, after each transaction.

    Raises:
        FileExistsError: if there is a library.
    """
    if (directory / LIBRARY_FILE).exists():
        raise FileExistsError(f"there is a library in {directory} already: name another folder")
    directory.mkdir(parents=True, exist_ok=True)
    database = Database(directory / LIBRARY_FILE)
    try:
        CatalogWriter(database).adopt(info)
        for batch, count in Maker(segments, info.dim, seed).batches():
            with database.writing() as connection:
                batch.store(connection)
            yield count
        with database.writing() as connection:
            recount(connection)
        with database.outside() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Fills a folder and says how long it took."""
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
