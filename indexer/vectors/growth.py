"""Which index a partition has at which size, and how thoroughly it looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Self

_MOST = 1 << 30


@dataclass(frozen=True, slots=True)
class Growth:
    """When a partition changes its index, and what that has to achieve.

    Attributes:
        exact_components: Up to so many numbers (vectors × dimensions) every vector is compared:
            that takes a few milliseconds. Afterwards there are inverted lists.
        recall: Share of the nearest vectors that a search must find, measured while building.
        grown: Lists are made anew when there are so many times the vectors they were made for.
        emptied: They are made anew, too, when this share of the positions is empty.
        sample: Vectors for each list that the lists are learned from.
        rounds: Of learning.
        questions: Vectors that the recall is measured with.
        margin: Lists that are looked into, as a multiple of those with which the recall was
            measured. Queries come from elsewhere than the vectors do and are harder: among
            WordNet's definitions, single words need more than twice the lists that the definitions
            and their mixtures do.
        compared: A filter that keeps no more vectors than this is searched exactly.
        sifted: One that keeps no more than this has the codes of all of them compared.
        beside: Up to so many vectors that came later are kept beside the saved lists, and written
            with each change; beyond, the lists are written anew with them.
        threads: That build.
    """

    exact_components: int = 20_000_000
    recall: float = 0.99
    grown: float = 2.5
    emptied: float = 0.3
    sample: int = 48
    rounds: int = 8
    questions: int = 128
    margin: float = 3.0
    compared: int = 1_000
    sifted: int = 50_000
    beside: int = 1 << 16
    threads: int = 1

    def lists(self, vectors: int) -> int:
        """How many lists so many vectors are spread over."""
        return max(1, min(round(4 * sqrt(vectors)), vectors // 8))


@dataclass(frozen=True, slots=True)
class Tuning:
    """How much an index looks at, and what came of it when it was measured.

    Attributes:
        probes: Lists.
        candidates: Vectors that are compared exactly, for the 10 and for the 100 nearest.
        recall: Share of the 10 and of the 100 nearest that were found before the margins.
    """

    probes: int
    candidates: tuple[int, int]
    recall: tuple[float, float]

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Self:
        """From what was saved of it.

        Raises:
            KeyError, TypeError: something is missing.
            ValueError: it is nothing that a measurement gives.
        """
        probes, (ten, hundred), recall = stated["probes"], stated["candidates"], stated["recall"]
        if not all(type(count) is int and 0 < count < _MOST for count in (probes, ten, hundred)):
            raise ValueError(f"{dict(stated)} is no tuning")
        return cls(probes, (ten, hundred), tuple(recall))

    def probes_for(self, k: int) -> int:
        """Lists to look into for the k nearest."""
        return ceil(self.probes * max(1.0, k / 100))

    def candidates_for(self, k: int) -> int:
        """Vectors to compare exactly for the k nearest."""
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
        lists: How many lists there are.
        tuning: What is looked at; None where that is everything.
        gpu: Bytes on a GPU, which looks at everything; 0 if there is no copy there.
    """

    index: str
    vectors: int
    memory: int
    mapped: int = 0
    lists: int = 0
    tuning: Tuning | None = None
    gpu: int = 0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Self:
        """From what `asdict` made of it, and JSON of that."""
        tuning = saved["tuning"]
        return cls(**{**saved, "tuning": None if tuning is None else Tuning.of(tuning)})
