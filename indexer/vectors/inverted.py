"""Vectors in lists around centroids: a search looks into the nearest lists only.

1. The lists nearest to the query are scanned by codes of one bit for each dimension (RaBitQ:
   Gao & Long, SIGMOD 2024), whose estimates order the vectors well enough to pick candidates.
2. The candidates are compared exactly, by their rows.

A filter takes part in both: lists are visited, nearest first, until as many vectors that it keeps
have been seen as a search without it sees, and some ten thousand at least. Where it leaves two or
three of a cluster, the ten nearest lie anywhere; they are found all the same.

Once saved, everything that grows with the vectors is mapped from files: opening reads centroids,
lengths of lists, and what came after the last large change.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.centroids import Nearby
from indexer.vectors.codes import Codes
from indexer.vectors.engine import bitmap, faiss
from indexer.vectors.files import Stored, as_saved, by_role, checked, written
from indexer.vectors.gone import Gone, Positions
from indexer.vectors.growth import Description, Growth, Tuning
from indexer.vectors.partition import NOTHING, Found, Ids, Snapshot, each_once, is_ascending
from indexer.vectors.places import Places
from indexer.vectors.rows import Rows, Scores

_SHRUNK = 4
_MORE = 2  # What a filter keeps may lie far from the query, where centroids tell less of it.
_MOST = 8
_PART = 32  # Of what a filter keeps, this part is compared exactly at a time.


class Inverted:
    """`Partition` in inverted lists with codes, re-ranked exactly.

    Removed vectors are passed over at once; they stay in files as gaps until lists are made anew.
    """

    kind = "inverted"

    def __init__(
        self, codes: Codes, places: Places, rows: Rows, tuning: Tuning, trained: int, growth: Growth
    ) -> None:
        """Takes over its parts.

        Args:
            codes: The codes of all positions that are not empty.
            places: The id and list of each position.
            rows: The row of each position.
            tuning: How much to look at.
            trained: How many vectors the lists were made for.
            growth: When to search and to save in which way.
        """
        self._codes, self._places, self._rows = codes, places, rows
        self.tuning, self._trained, self._growth = tuning, trained, growth
        self._dim, self._lists = codes.centroids.dim, len(codes.centroids)
        self._base: dict[str, Stored] = {}  # Files of codes, lists and places.

    def __len__(self) -> int:
        return len(self._places) - self._places.gone.count

    def adding(self, ids: Ids, vectors: Vectors) -> Callable[[], None]:
        """See `Partition.adding`."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        lists = np.ascontiguousarray(self._codes.centroids.assigned(vectors))

        def add() -> None:
            self.remove(ids)
            positions = self._places.append(ids, lists.astype(np.int32))
            self._rows.append(vectors)
            self._codes.add(vectors, positions, lists)

        return add

    def remove(self, ids: Ids) -> int:
        """See `Partition.remove`."""
        positions = self._places.find(ids)
        self._places.gone.add(positions)
        return len(positions)

    def search(self, vector: NDArray[np.float32], k: int, only: Ids | None) -> Found:
        """See `Partition.search`."""
        faiss().omp_set_num_threads(1)  # See `Exact.search`.
        k = min(k, len(self))
        if only is None:
            return self._searched(vector, k) if k else NOTHING
        kept = self._places.find(only)
        if len(kept) <= max(self._growth.compared, 2 * k):
            return self._ranked(vector, k, kept) if len(kept) else NOTHING
        return self._filtered(vector, k, kept)

    def _searched(self, vector: NDArray[np.float32], k: int) -> Found:
        probes, there = self.tuning.probes_for(k), self._places.gone.others()
        while True:
            nearby = self.nearby(vector, min(probes, self._lists))
            found = self.candidates(vector, self.tuning.candidates_for(k), nearby, there)
            if len(found) >= k or probes >= self._lists:
                return self._ranked(vector, k, found)
            probes *= 2

    def _filtered(self, vector: NDArray[np.float32], k: int, kept: Positions) -> Found:
        distances, lists = self.nearby(vector, self._lists)
        numbers = self._places.lists_at(kept)
        numbers = numbers[(numbers >= 0) & (numbers < self._lists)]  # As elsewhere: damage.
        counts = np.bincount(numbers, minlength=self._lists)[lists[0]]
        seen = np.cumsum(counts)
        usual = _MORE * self.tuning.probes_for(k) * len(self) // self._lists
        wanted = max(usual, self._growth.sifted, 2 * k)
        visited = (counts > 0) & (seen - counts < wanted)
        nearby = distances[:, visited], lists[:, visited]
        selector = faiss().IDSelectorBitmap(bitmap(kept))
        # The farther all that is kept lies, the less its codes tell it apart: rows are compared
        # until as many again have changed nothing.
        sifted = min(len(kept), self._growth.sifted)
        count = max(self.tuning.candidates_for(k), sifted // _PART)
        found = self.candidates(vector, min(_MOST * count, len(kept)), nearby, selector)
        scores, best = self._best(vector, k, found[:count])
        for start in range(count, len(found), count):
            before, batch = best, found[start : start + count]
            scores, best = self._best(vector, k, np.concatenate([best, batch]))
            if np.array_equal(before, best):
                break
        return self._hits(scores, best)

    def nearby(self, vector: NDArray[np.float32], count: int) -> Nearby:
        """The lists nearest to a row of shape (1, dim)."""
        return self._codes.centroids.nearby(vector, count)

    def candidates(
        self, vector: NDArray[np.float32], count: int, nearby: Nearby, selector: Any = None
    ) -> Positions:
        """Positions of the vectors in some lists that are nearest by their codes, in order."""
        found = self._codes.nearest(vector, count, nearby, selector)
        return found[found < len(self._places)]

    def _ranked(self, vector: NDArray[np.float32], k: int, positions: Positions) -> Found:
        """The k nearest of some positions, exactly."""
        return self._hits(*self._best(vector, k, positions))

    def _hits(self, scores: Scores, positions: Positions) -> Found:
        ids = self._places.ids_at(positions)
        whole = self._places.confirm(ids, positions)
        if not whole.all() or len(set(ids.tolist())) < len(ids):  # Damage.
            whole[np.setdiff1d(np.arange(len(ids)), np.unique(ids, return_index=True)[1])] = False
            scores, ids = scores[whole], ids[whole]
        return scores, ids

    def _best(
        self, vector: NDArray[np.float32], k: int, positions: Positions
    ) -> tuple[Scores, Positions]:
        """Scores and positions of the k nearest of some, best first."""
        scores = self._rows.scores(positions, vector[0])
        if k < len(scores):
            best = np.argpartition(-scores, k)[:k]
            positions, scores = positions[best], scores[best]
        order = np.argsort(-scores, kind="stable")
        return scores[order], positions[order]

    def among(self, ids: Ids) -> Ids:
        """See `Partition.among`."""
        return each_once(self._places.ids_at(self._places.find(ids)))

    def rows(self, ids: Ids) -> tuple[Ids, Vectors]:
        """See `Partition.rows`."""
        positions = self._places.find(ids)
        known = self._places.ids_at(positions)
        if not is_ascending(known):
            known, first = np.unique(known, return_index=True)
            positions = positions[first]
        return known, self._rows.take(positions)

    def due(self, growth: Growth) -> bool:
        """See `Partition.due`."""
        return (
            len(self) > growth.grown * self._trained
            or self._places.gone.count > growth.emptied * len(self._places)
            or _SHRUNK * len(self) * self._dim < growth.exact_components
        )

    def snapshot(self) -> Snapshot:
        """See `Partition.snapshot`."""
        ids, gone = self._places.ids, self._places.gone
        if not gone.count:
            return Snapshot(ids, self._rows.frozen())
        there = np.flatnonzero(~gone.among(np.arange(len(ids))))
        return Snapshot(ids[there], self._rows.chosen(there))

    def describe(self) -> Description:
        """See `Partition.describe`."""
        memory = self._codes.memory + self._places.memory + self._rows.memory
        mapped = self._codes.mapped + self._places.mapped
        return Description(self.kind, len(self), memory, mapped, self._lists, self.tuning)

    def write(self, directory: Path, stem: str) -> dict[str, Any]:
        """See `Partition.write`.

        What came since the last time is written beside the files there are, which are only
        written anew once it has become much.
        """
        rows, fresh, gone = self._rows.write(directory, stem), [], []
        there = self._base and all(one.path(directory).is_file() for one in self._base.values())
        if not there or self._codes.fresh > self._growth.beside:
            places, self._base = self._places, {}  # Nothing that fails halfway may be relied on.
            base = self._codes.write(directory, stem, places.gone, len(places))
            self._base = base | {"places": places.write(directory / f"{stem}.places")}
        elif self._codes.fresh:
            table = self._table()
            fresh = [written(directory / f"{stem}.fresh", lambda write: write(table.tobytes()))]
        if self._places.gone.count:
            bits = self._places.gone.packed()
            gone = [written(directory / f"{stem}.gone", lambda write: write(bits))]
        files = {role: [stored] for role, stored in self._base.items()}
        return {
            "description": asdict(self.describe()),
            "faiss": faiss().__version__,
            "files": as_saved(files | {"rows": rows, "fresh": fresh, "gone": gone}),
            "positions": self._places.start,
            "trained": self._trained,
        }

    @classmethod
    def read(cls, directory: Path, saved: Mapping[str, Any], dim: int, growth: Growth) -> Self:
        """Maps what `write` wrote; `ValueError`, `OSError` or `LookupError` if it is not whole.

        Centroids and what is beside the large files are read and checked wholly, those as
        `files.mapped` does. Whatever else is damaged can cost a vector its place among the hits
        and no more; `rzen-admin check` reads it all.
        """
        if saved["faiss"] != faiss().__version__:
            raise ValueError("it is of another version of FAISS")
        files = by_role(saved)
        base = {role: files[role][0] for role in ("codes", "lists", "places")}
        gone = Gone()
        for stored in files["gone"]:
            with checked(directory, stored) as file:
                gone = Gone.unpacked(file.read())
        places = Places.read(directory, base["places"], saved["positions"], gone)
        codes = Codes.read(directory, base, dim)
        rows = Rows.read(directory, files["rows"], dim)
        said = Description.of(saved["description"])
        if said.tuning is None:
            raise ValueError("it does not say how much to look at")
        one = cls(codes, places, rows, said.tuning, int(saved["trained"]), growth)
        one._base = base
        for stored in files["fresh"]:
            with checked(directory, stored) as file:
                one._restore(np.frombuffer(file.read(), dtype=one._entry()))
        if len(one) != said.vectors or len(rows) != len(places):
            raise ValueError(f"{base['codes'].name} does not hold what it should")
        return one

    def _entry(self) -> np.dtype[Any]:
        return np.dtype([("id", "<i8"), ("list", "<i4"), ("code", "u1", (self._codes.size,))])

    def _table(self) -> NDArray[Any]:
        table = np.empty(self._codes.fresh, dtype=self._entry())
        table["id"], table["list"] = self._places.fresh
        table["code"] = self._codes.latest(self._places.start)
        return table

    def _restore(self, table: NDArray[Any]) -> None:
        ids, lists = (np.ascontiguousarray(table[name]) for name in ("id", "list"))
        start = self._places.start
        self._places.append(ids, lists)
        self._codes.restore(table["code"], lists, start)
