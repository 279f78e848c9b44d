"""The vector index as the rest of the library sees it: what it is asked, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from threading import Event
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kinds import Kind

Ids = NDArray[np.int64]
"""Ids of segments, int64 (n,)."""

Found = tuple[NDArray[np.float32], Ids]
"""Scores float32 (n,) and ids int64 (n,), best first."""

NOTHING: Found = (np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64))

_MAX_COUNT = 1 << 30


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which segments may be found: those that some file in such a folder, of such a time, holds.

    Attributes:
        folders: Ids of folders; None for any.
        after_ns: Modified at this time or later, nanoseconds since 1970; None for any.
        before_ns: Modified before this time; None for any.
        segments: Ids of segments; None for any.
    """

    folders: frozenset[int] | None = None
    after_ns: int | None = None
    before_ns: int | None = None
    segments: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """How much an approximate search looks at, and the recall measured with that.

    Attributes:
        probes: Inverted lists.
        candidates: Vectors that are compared exactly, for the 10 and for the 100 nearest.
        recall: Share of the 10 and of the 100 nearest that were found, before the margins.
    """

    probes: int
    candidates: tuple[int, int]
    recall: tuple[float, float]

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Self:
        """Return the tuning that JSON made of one.

        Raises:
            KeyError, TypeError: if something is missing.
            ValueError: if no measurement gives such numbers.
        """
        probes, (ten, hundred), recall = saved["probes"], saved["candidates"], saved["recall"]
        counts = (probes, ten, hundred)
        if not all(type(count) is int and 0 < count < _MAX_COUNT for count in counts):
            raise ValueError(f"not a tuning: {dict(saved)}")
        return cls(probes, (ten, hundred), tuple(recall))

    def probes_for(self, k: int) -> int:
        """Return how many lists to look into for the k nearest."""
        return ceil(self.probes * max(1.0, k / 100))

    def candidates_for(self, k: int) -> int:
        """Return how many vectors to compare exactly for the k nearest."""
        ten, hundred = self.candidates
        if k > 100:
            return max(k, ceil(hundred * k / 100))
        return max(k, ceil(ten + (hundred - ten) * max(0, k - 10) / 90))


@dataclass(frozen=True, slots=True)
class Description:
    """How the vectors of one kind are searched.

    Attributes:
        index: "exact" or "inverted".
        vectors: How many there are.
        memory: Bytes in memory, apart from mapped files.
        mapped: Bytes of mapped files that a search without a filter may look into, apart from the
            rows that it compares exactly.
        lists: How many inverted lists there are.
        tuning: What is looked at; None where that is everything.
    """

    index: str
    vectors: int
    memory: int
    mapped: int = 0
    lists: int = 0
    tuning: Tuning | None = None

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Self:
        """Return the description that `asdict` and JSON made of one; raises as `Tuning.of`."""
        tuning = saved["tuning"]
        return cls(**{**saved, "tuning": None if tuning is None else Tuning.of(tuning)})


class VectorIndex(ABC):
    """Vectors by id in partitions, one for each kind of media, that are searched separately.

    Guarantees: scores are exact for what was added and not removed, and nothing else is found;
    where not every vector is compared, the share of the nearest that is found was measured; a
    search finds k vectors if there are as many, whatever the filter; any method may be called from
    any thread; a search sees all of an `add` or nothing of it, and waits neither for changes nor
    while an index is built.

    Attributes:
        dim: Length of the vectors.
        fingerprint: Of the model that made them; None where no model is known.
    """

    dim: int
    fingerprint: str | None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of vectors."""

    @property
    @abstractmethod
    def kinds(self) -> frozenset[Kind]:
        """The kinds that there are vectors of."""

    @abstractmethod
    def add(self, kind: Kind, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of shape (len(ids), dim); those of known ids are replaced."""

    @abstractmethod
    def remove(self, ids: Ids, kind: Kind | None = None) -> int:
        """Remove vectors of one kind, or of all; return how many."""

    @abstractmethod
    def set_holders(
        self, kind: Kind, ids: Ids, folder_ids: NDArray[np.int32], dates_ns: NDArray[np.int64]
    ) -> None:
        """Say which files hold some segments; this replaces what was known of them.

        Args:
            kind: Of the segments.
            ids: One entry (n,) for each file; segments that several files hold repeat.
            folder_ids: The folder (n,) of each file.
            dates_ns: The date of each file (n,).
        """

    @abstractmethod
    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        kind: Kind,
        where: SearchFilter | None = None,
        ids: Ids | None = None,
    ) -> Found:
        """Return the k nearest vectors of a kind by inner product, best first.

        Args:
            vector: Shape (dim,).
            k: Most results.
            kind: Where to look.
            where: Find only segments that it lets pass.
            ids: Find only these.

        Returns:
            Scores and ids, both of the same length of at most k.
        """

    @abstractmethod
    def matching(self, ids: Ids, kind: Kind, where: SearchFilter) -> NDArray[np.bool_]:
        """Return which of some ids (n,) are of a kind and pass a filter."""

    @abstractmethod
    def among(self, ids: Ids, kind: Kind) -> Ids:
        """Return those of some ids that are of a kind, ascending and without repeats."""

    @abstractmethod
    def rows(self, ids: Ids, kind: Kind) -> tuple[Ids, Vectors]:
        """Return those of some ids that are of a kind, and their vectors.

        Returns:
            Ids (n,), ascending and without repeats, and float32 (n, dim), as stored: rounded to
            float16.
        """

    @abstractmethod
    def sample(self, kind: Kind, count: int) -> Vectors:
        """Return vectors of a kind, evenly spread over all of them, always the same ones.

        Returns:
            Float32 (n, dim), n ≤ `count`.
        """

    @abstractmethod
    def tend(self) -> None:
        """Start in the background what has become due as the index grew or shrank."""

    @abstractmethod
    def settle(self, stop: Event | None = None) -> bool:
        """Wait until every kind is indexed as its size makes due.

        Args:
            stop: Set it to stop waiting; building goes on.

        Returns:
            Whether everything is.
        """

    @abstractmethod
    def after_building(self, call: Callable[[], None]) -> None:
        """Call this in the background whenever something was built that `save` would write."""

    @abstractmethod
    def describe(self) -> Mapping[Kind, Description]:
        """Return how each kind is searched."""

    @property
    @abstractmethod
    def unsaved(self) -> bool:
        """Whether there is anything that `save` would write."""

    @property
    @abstractmethod
    def fragmented(self) -> bool:
        """Whether removed vectors take up so much that filling an empty index is better."""

    @abstractmethod
    def save(self, directory: Path, owner: str, generation: int) -> None:
        """Write everything, so that all of it is loaded or nothing, as of an owner and generation.

        Raises:
            LibraryError: if it cannot be written.
        """

    @abstractmethod
    def close(self, wait: bool = True) -> None:
        """Stop what goes on in the background, for good; only time is lost by it."""
