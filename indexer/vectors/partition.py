"""The vectors of one kind as they change, are saved, and are loaded."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.interface import Description, Ids
from indexer.vectors.storage import (
    Column,
    Positions,
    StoredFile,
    files_of,
    read_file,
    stated,
    write_file,
)
from indexer.vectors.view import IndexPolicy, Mask, View, faiss

if TYPE_CHECKING:
    from indexer.vectors.ivf import Lists

_MIN_GAPS = 1_000
_SHRUNK = 4
"""Lists are dropped or trained again when the vectors have shrunk by this factor."""

MakeLists = Callable[[View, Callable[[], bool]], "Lists | None"]
"""Makes lists of a view, or none; raises `Stopped` soon after the function given returns true."""


class Partition:
    """The vectors of one kind as they change and are saved; for one thread at a time.

    Attributes:
        view: What searches see.
        changed: Something is not saved.
    """

    def __init__(self, dim: int, policy: IndexPolicy) -> None:
        self._policy = policy
        self._columns = {
            "ids": Column(np.int64),
            "rows": Column(np.float16, (dim,)),
            "holders": Column(np.int64, (3,)),
        }
        self._gone: Mask = np.empty(0, dtype=np.bool_)
        self._lists: Lists | None = None
        self._gone_file: StoredFile | None = None
        self._held = -1  # No file is known to hold a segment at a later position.
        self._refused = 0
        self._highest = -1
        self._ascending = 0
        self.changed = True
        self._show()

    def __len__(self) -> int:
        """Return the number of vectors."""
        return self.view.size

    def _show(self) -> None:
        """Let searches see what there is now."""
        ids, rows, holders = (column.blocks for column in self._columns.values())
        self.view = View(
            self._policy,
            (ids, rows, holders),
            self._gone,
            self._ascending,
            self._lists,
        )

    def _change(self) -> None:
        self.changed = True
        self._show()

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of shape (len(ids), dim); those of known ids are replaced."""
        if ids.min() <= self._highest:  # Ids mostly ascend: then none of them is known.
            self._mark_gone(self.view.find(ids))
        self._highest = max(self._highest, int(ids.max()))
        self._columns["ids"].append(ids)
        self._columns["rows"].append(vectors)
        self._gone = np.pad(self._gone, (0, len(ids)))
        self._change()

    def remove(self, ids: Ids) -> int:
        """Remove vectors; return how many."""
        positions = self.view.find(ids)
        if len(positions):
            self._mark_gone(positions)
            self._change()
        return len(positions)

    def _mark_gone(self, positions: Positions) -> None:
        if len(positions):
            self._gone = self._gone.copy()  # Views have the former.
            self._gone[positions] = True
            self._gone_file = None

    def set_holders(
        self, ids: Ids, folder_ids: NDArray[np.int32], mtimes_ns: NDArray[np.int64]
    ) -> None:
        """See `VectorIndex.set_holders`."""
        located = self.view.located(ids)
        holders = np.stack([located, folder_ids.astype(np.int64), mtimes_ns], axis=1)
        holders = holders[self.view.present(located)]
        if not len(holders):
            return
        positions = holders[:, 0]
        if positions.min() <= self._held:  # Files are only appended to: write a new one.
            former = np.concatenate(self._columns["holders"].blocks)
            former = former[~np.isin(former[:, 0], positions)]
            self._columns["holders"] = Column.of(former)
        self._columns["holders"].append(holders)
        self._held = max(self._held, int(positions.max()))
        self._change()

    def due(self) -> MakeLists | None:
        """Return what makes the lists that this partition should have; None if it has them."""
        policy, count, lists = self._policy, len(self), self._lists
        components = count * self.view.dim
        if count <= policy.growth * self._refused:
            return None
        if lists is None:
            return self._build if components > policy.exact_components else None
        if _SHRUNK * components < policy.exact_components:
            return lambda _view, _stopped: None
        if not lists.trained / _SHRUNK <= count <= policy.growth * lists.trained:
            return self._build
        late = (len(self.view) - lists.covered) * self.view.dim
        return self._extend if late > policy.merge_components else None

    def _build(self, view: View, stopped: Callable[[], bool]) -> "Lists":
        from indexer.vectors import build  # Small libraries never need it.

        return build.build(view, self._policy, stopped)

    def _extend(self, view: View, stopped: Callable[[], bool]) -> "Lists":
        from indexer.vectors import build

        assert view.lists is not None
        return build.extend(view.lists, view, stopped)

    def use(self, lists: "Lists | None") -> None:
        """Let searches use other lists, or none."""
        self._lists, self._refused = lists, 0
        self._change()

    def refuse(self, lists: "Lists | None" = None) -> None:
        """Keep the lists given, or none, until there are many more vectors."""
        self._lists, self._refused = lists, len(self)
        self._change()

    def save(self, directory: Path, stem: str, own: bool, renumber: bool) -> dict[str, Any]:
        """Write what is not in files yet.

        Args:
            directory: Where to.
            stem: What the names of new files begin with.
            own: No other process has written to the files since.
            renumber: Positions may change: nothing is being built of a view.

        Returns:
            What `load` needs.

        Raises:
            LibraryError: if files cannot be written; the next call makes up for that.
        """
        if not own:
            for column in self._columns.values():
                column.forget_file()
        gaps = self.view.gaps
        if renumber and gaps > max(_MIN_GAPS, self._policy.max_gaps * len(self.view)):
            self._close_gaps(directory, stem)
        files = {
            role: column.save(directory, f"{stem}.{role}") for role, column in self._columns.items()
        }
        if self._lists is not None:
            self._lists, files["lists"] = self._lists.saved(directory, f"{stem}.faiss")
        if self.view.gaps:
            files["gone"] = self._save_gone(directory, f"{stem}.gone")
        ids = self._columns["ids"].blocks[0]
        falls = np.flatnonzero(ids[1:] <= ids[:-1])
        self._ascending = int(falls[0]) + 1 if len(falls) else len(ids)
        self.changed = False
        self._show()
        return self._state(files)

    def _save_gone(self, directory: Path, name: str) -> StoredFile:
        if self._gone_file is None or not self._gone_file.is_in(directory):
            bits = np.packbits(self._gone).tobytes()
            self._gone_file = write_file(directory / name, lambda write: write(bits))
        return self._gone_file

    def _close_gaps(self, directory: Path, stem: str) -> None:
        """Write rows and ids without gaps; holders follow, as all that can fail is done."""
        kept = self.view.alive()
        columns = {
            role: self._columns[role].kept(directory, f"{stem}-whole.{role}", kept)
            for role in ("ids", "rows")
        }
        numbers = np.zeros(len(self.view), dtype=np.int64)
        numbers[kept] = np.arange(len(kept))
        holders = np.concatenate(self._columns["holders"].blocks)
        holders = holders[~self._gone[holders[:, 0]]]
        holders[:, 0] = numbers[holders[:, 0]]
        self._columns = columns | {"holders": Column.of(holders)}
        self._lists = self._lists and self._lists.renumbered(kept)
        self._gone, self._gone_file = np.zeros(len(kept), dtype=np.bool_), None
        self._held, self._ascending = len(kept) - 1, 0
        self._show()

    def _state(self, files: Mapping[str, StoredFile]) -> dict[str, Any]:
        lists = self._lists
        return {
            "description": asdict(self.describe()),
            "positions": len(self.view),
            "ascending": self._ascending,
            "highest": self._highest,
            "refused": self._refused,
            "lists": lists and {"size": lists.size, "covered": lists.covered, "of": lists.trained},
            "faiss": faiss.__version__,
            "files": stated(files),
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
        for role, column in one._columns.items():
            column.restore(directory, files[role])
        count = int(saved["positions"])
        one._gone = np.zeros(count, dtype=np.bool_)
        if "gone" in files:
            one._gone_file = files["gone"]
            bits = np.frombuffer(read_file(directory, one._gone_file), dtype=np.uint8)
            gone = np.unpackbits(bits)[:count].view(np.bool_)
            one._gone[: len(gone)] = gone
        one._refused, one._highest = int(saved["refused"]), int(saved["highest"])
        one._ascending, one._held = int(saved["ascending"]), count - 1
        said, lists = Description.of(saved["description"]), saved["lists"]
        if lists is not None and saved["faiss"] == faiss.__version__:
            if said.tuning is None:
                raise ValueError("the state does not say how much to look at")
            from indexer.vectors.ivf import Lists

            size, covered, trained = (int(lists[name]) for name in ("size", "covered", "of"))
            one._lists = Lists.load(
                directory, files["lists"], (dim, size), covered, trained, said.tuning
            )
        one._show()
        one._check_loaded(count, said.vectors)
        one.changed = False
        return one

    def _check_loaded(self, positions: int, vectors: int) -> None:
        counts = {len(self._columns["ids"]), len(self._columns["rows"]), positions}
        starts = self._ascending, self.view.covered
        if len(counts) != 1 or len(self) != vectors:
            raise ValueError("there are not as many vectors as the state says")
        if not all(0 <= start <= positions for start in starts):
            raise ValueError("the state names positions that do not exist")

    def describe(self) -> Description:
        """Return how the vectors are searched."""
        memory = sum(column.memory for column in self._columns.values())
        memory += self._gone.nbytes
        mapped = self._columns["ids"].mapped + self._columns["holders"].mapped
        lists = self._lists
        if lists is None:
            return Description("exact", len(self), memory, mapped)
        if lists.stored is None:
            memory += lists.bytes
        else:
            mapped += lists.bytes
        return Description("inverted", len(self), memory, mapped, len(lists), lists.tuning)
