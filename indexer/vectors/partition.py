"""The vectors of one kind as they change, are saved, and are loaded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.interface import Description, Ids
from indexer.vectors.storage import Positions, files_of
from indexer.vectors.view import Column, Mask, View, faiss

if TYPE_CHECKING:
    from indexer.vectors.ivf import Lists

_MIN_GAPS = 1_000


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """When vectors of a kind get inverted lists, and what those have to achieve.

    Attributes:
        exact_components: Every vector is compared up to this size (vectors × dimensions), which
            takes a few milliseconds.
        recall: Share of the nearest vectors that a search must find, measured while building.
        speed: Lists are used only where they take less than this share of the time that comparing
            every vector takes.
        growth: Lists are trained again, and refused ones tried again, when the vectors have
            multiplied by this factor.
        merge_components: Numbers of the vectors beside the lists, all of which every search
            compares, from which on they are added to the lists.
        max_gaps: Share of removed vectors from which on an index is filled again without them.
        sample: Vectors for each list that the lists are learned from.
        rounds: Of learning.
        questions: Vectors that the recall is measured with.
        margin: Lists that are looked into, as a multiple of those with which the recall was
            measured. Queries come from elsewhere than the vectors do and are harder: among
            WordNet's definitions, single words need more than twice the lists that the definitions
            and their mixtures do.
        gathered: A filter that keeps no more vectors than this has their rows gathered.
        filtered: A filter that keeps no more vectors than this for each list to look into has all
            of them compared. A list costs the time of some 60 vectors; twice that makes results
            exact where lists would miss some: 3 % of the nearest if a year of ten is kept of
            500,000 made-up pictures.
        threads: That build.
    """

    exact_components: int = 20_000_000
    recall: float = 0.99
    speed: float = 0.7
    growth: float = 2.5
    merge_components: int = 6_000_000
    max_gaps: float = 0.3
    sample: int = 48
    rounds: int = 8
    questions: int = 128
    margin: float = 3.0
    gathered: int = 1_000
    filtered: int = 120
    threads: int = 1

    def lists(self, vectors: int) -> int:
        """Return how many lists to spread a number of vectors over."""
        return max(1, min(round(4 * sqrt(vectors)), vectors // 8))


class Partition:
    """The vectors of one kind as they change and are saved; for one thread at a time.

    Attributes:
        view: What searches see.
        due: There should be lists, larger ones, or ones that cover more vectors.
        changed: Something is not saved.
    """

    def __init__(self, dim: int, policy: IndexPolicy) -> None:
        self._policy = policy
        self._columns = {
            "ids": Column.empty(np.int64),
            "rows": Column.empty(np.float16, (dim,)),
            "holders": Column.empty(np.int64, (3,)),
            "gone": Column.empty(np.int64),
        }
        self._gone: Mask = np.empty(0, dtype=np.bool_)
        self._lists: Lists | None = None
        self._held = -1  # No file is known to hold a segment at a later position.
        self._refused = 0
        self._highest = -1
        self._ascending = 0
        self.changed = True
        self._show()

    def __len__(self) -> int:
        """Return the number of vectors."""
        return self.view.size

    @property
    def fragmented(self) -> bool:
        """See `VectorIndex.fragmented`."""
        return self.view.gaps > max(_MIN_GAPS, self._policy.max_gaps * len(self.view))

    def _show(self) -> None:
        """Let searches see what there is now."""
        ids, rows, holders, _ = self._columns.values()
        self.view = View(
            self._policy, (ids, rows, holders), self._gone, self._ascending, self._lists
        )
        self.due = self._is_due()  # Every search asks for it.

    def _change(self) -> None:
        self.changed = True
        self._show()

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of shape (len(ids), dim); those of known ids are replaced."""
        if ids.min() <= self._highest:  # Ids mostly ascend: then none of them is known.
            self._mark_gone(self.view.find(ids)[1])
        self._highest = max(self._highest, int(ids.max()))
        self._append("ids", ids)
        self._append("rows", vectors)
        self._gone = np.pad(self._gone, (0, len(ids)))
        self._change()

    def remove(self, ids: Ids) -> int:
        """Remove vectors; return how many."""
        _, positions = self.view.find(ids)
        if len(positions):
            self._mark_gone(positions)
            self._change()
        return len(positions)

    def _mark_gone(self, positions: Positions) -> None:
        self._gone = self._gone.copy()  # Views have the former.
        self._gone[positions] = True
        self._append("gone", positions)

    def _append(self, role: str, values: NDArray[Any]) -> None:
        self._columns[role] = self._columns[role].appended(values)

    def set_holders(
        self, ids: Ids, folder_ids: NDArray[np.int32], dates_ns: NDArray[np.int64]
    ) -> None:
        """See `VectorIndex.set_holders`."""
        located = self.view.located(ids)
        holders = np.stack([located, folder_ids.astype(np.int64), dates_ns], axis=1)
        holders = holders[self.view.present(located)]
        if not len(holders):
            return
        positions = holders[:, 0]
        if positions.min() <= self._held:  # Files are only appended to: write a new one.
            former = self._columns["holders"].all()
            former = former[~np.isin(former[:, 0], positions)]
            self._columns["holders"] = Column.empty(np.int64, (3,)).appended(former)
        self._append("holders", holders)
        self._held = max(self._held, int(positions.max()))
        self._change()

    def _is_due(self) -> bool:
        policy, count, lists = self._policy, len(self), self._lists
        if count <= policy.growth * self._refused:
            return False
        if lists is None:
            return count * self.view.dim > policy.exact_components
        late = (len(self.view) - lists.covered) * self.view.dim
        return count > policy.growth * lists.trained or late > policy.merge_components

    def use(self, lists: "Lists") -> None:
        """Let searches use other lists."""
        self._lists, self._refused = lists, 0
        self._change()

    def refuse(self, lists: "Lists | None" = None) -> None:
        """Keep the lists given, or none, until there are many more vectors."""
        self._lists, self._refused = lists, len(self)
        self._change()

    def save(self, directory: Path, stem: str, own: bool) -> dict[str, Any]:
        """Write what is not in files yet.

        Args:
            directory: Where to.
            stem: What the names of new files begin with.
            own: No other process has written to the files since.

        Returns:
            What `load` needs.

        Raises:
            LibraryError: if files cannot be written; the next call makes up for that.
        """
        if not own:
            self._columns = {
                role: replace(column, stored=None) for role, column in self._columns.items()
            }
        self._columns = {
            role: column.written(directory, f"{stem}.{role}")
            for role, column in self._columns.items()
        }
        if self._lists is not None:
            self._lists = self._lists.written(directory, f"{stem}.faiss")
        ids = self._columns["ids"].saved
        falls = np.flatnonzero(ids[1:] <= ids[:-1])
        self._ascending = int(falls[0]) + 1 if len(falls) else len(ids)
        self.changed = False
        self._show()
        return self._state()

    def _state(self) -> dict[str, Any]:
        lists = self._lists
        files = {role: column.stored for role, column in self._columns.items()}
        if lists is not None:
            files["lists"] = lists.stored
        return {
            "description": asdict(self.describe()),
            "ascending": self._ascending,
            "refused": self._refused,
            "lists": lists and {"covered": lists.covered, "trained": lists.trained},
            "faiss": faiss.__version__,
            "files": {role: asdict(stored) for role, stored in files.items() if stored},
        }

    @classmethod
    def load(cls, directory: Path, saved: Mapping[str, Any], dim: int, policy: IndexPolicy) -> Self:
        """Map what `save` wrote.

        What grows with the vectors is looked at here and there; `rzen-admin check` reads it all.

        Raises:
            OSError: if a file is missing.
            ValueError, LookupError, TypeError, AttributeError, RuntimeError: if it is damaged.
        """
        one, files = cls(dim, policy), files_of(saved)
        one._columns = {
            role: column.mapped(directory, files[role]) for role, column in one._columns.items()
        }
        ids, rows, _, gone = (column.saved for column in one._columns.values())
        one._gone = np.zeros(len(ids), dtype=np.bool_)
        one._gone[gone] = True
        one._ascending, one._refused = int(saved["ascending"]), int(saved["refused"])
        one._highest = int(ids[max(0, one._ascending - 1) :].max(initial=-1))
        one._held = len(ids) - 1
        said = Description.of(saved["description"])
        if said.tuning is not None and saved["faiss"] == faiss.__version__:
            from indexer.vectors.ivf import Lists

            covered, trained = (int(saved["lists"][name]) for name in ("covered", "trained"))
            one._lists = Lists.load(directory, files["lists"], dim, covered, trained, said.tuning)
        one._show()
        if len(rows) != len(ids) or len(one) != said.vectors:
            raise ValueError("there are not as many vectors as the state says")
        if not all(0 <= start <= len(ids) for start in (one._ascending, one.view.covered)):
            raise ValueError("the state names positions that do not exist")
        one.changed = False
        return one

    def describe(self) -> Description:
        """Return how the vectors are searched."""
        memory = sum(column.memory for column in self._columns.values())
        memory += self._gone.nbytes
        mapped = self._columns["ids"].saved.nbytes + self._columns["holders"].saved.nbytes
        lists = self._lists
        if lists is None:
            return Description("exact", len(self), memory, mapped)
        if lists.stored is None:
            memory += lists.bytes
        else:
            mapped += lists.bytes
        return Description("inverted", len(self), memory, mapped, len(lists), lists.tuning)
