"""`VectorIndex` by FAISS: partitions that change, are saved, and get lists in the background."""

import atexit
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kinds import Kind
from indexer.vectors.interface import (
    NOTHING,
    Description,
    Found,
    Ids,
    SearchFilter,
    VectorIndex,
)
from indexer.vectors.ivf import IndexPolicy, Lists, Refused, Stopped, build, faiss
from indexer.vectors.storage import (
    STATE_FILE,
    Column,
    Positions,
    StoredFile,
    files_of,
    put_state,
    read_file,
    state_of,
    stated,
    write_file,
)
from indexer.vectors.view import Mask, View

_log = logging.getLogger(__name__)

_FORMAT = 5
_WAIT_SECONDS = 0.1
_ATTEMPTS = 3
_MIN_GAPS = 1_000
_SHRUNK = 4
"""Lists go, or are trained again, when there is only one vector where so many were."""
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RuntimeError),
)

_MakeLists = Callable[[View, Callable[[], bool]], Lists | None]


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
        return len(self.view) - self.view.gaps

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

    def due(self) -> _MakeLists | None:
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
        return lists.extended if late > policy.merge_components else None

    def _build(self, view: View, stopped: Callable[[], bool]) -> Lists:
        return build(view, self._policy, stopped)

    def use(self, lists: Lists | None) -> None:
        """Let searches use other lists, or none."""
        self._lists, self._refused = lists, 0
        self._change()

    def refuse(self, lists: Lists | None = None) -> None:
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
            "faiss": faiss().__version__,
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
        if lists is not None and saved["faiss"] == faiss().__version__:
            if said.tuning is None:
                raise ValueError("the state does not say how much to look at")
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


class FaissIndex(VectorIndex):
    """`VectorIndex` with a FAISS index for each partition, chosen by its size: `IndexPolicy`."""

    def __init__(
        self, dim: int, fingerprint: str | None = None, policy: IndexPolicy | None = None
    ) -> None:
        """Create an empty index."""
        self.dim, self.fingerprint = dim, fingerprint
        self._policy = policy or IndexPolicy()
        self._changing = RLock()  # Held while partitions change or are saved; searches do not.
        self._partitions: dict[Kind, Partition] = {}
        self._saved: dict[Kind, dict[str, Any]] = {}
        self._state: Any = None  # As it was last loaded or saved.
        self._worker = _Worker()
        self._after_building: Callable[[], None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._all()))

    def _all(self) -> list[Partition]:
        return list(self._partitions.values())

    @property
    def kinds(self) -> frozenset[Kind]:
        """See `VectorIndex.kinds`."""
        return frozenset(kind for kind, one in list(self._partitions.items()) if len(one))

    def describe(self) -> dict[Kind, Description]:
        """See `VectorIndex.describe`."""
        with self._changing:
            return {kind: one.describe() for kind, one in self._partitions.items() if len(one)}

    def add(self, kind: Kind, ids: Ids, vectors: Vectors) -> None:
        """See `VectorIndex.add`."""
        if not len(ids):
            return
        if vectors.shape != (len(ids), self.dim):
            raise ValueError(
                f"expected vectors of shape {(len(ids), self.dim)}, not {vectors.shape}"
            )
        with self._changing:
            one = self._partitions.get(kind) or Partition(self.dim, self._policy)
            one.add(ids, vectors)
            self._partitions[kind] = one

    def remove(self, ids: Ids, kind: Kind | None = None) -> int:
        """See `VectorIndex.remove`."""
        with self._changing:
            some = [self._partitions.get(kind)] if kind else self._all()
            return sum(one.remove(ids) for one in some if one is not None and len(ids))

    def set_holders(
        self, kind: Kind, ids: Ids, folder_ids: NDArray[np.int32], mtimes_ns: NDArray[np.int64]
    ) -> None:
        """See `VectorIndex.set_holders`."""
        with self._changing:
            if (one := self._partitions.get(kind)) is not None:
                one.set_holders(ids, folder_ids, mtimes_ns)

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        kind: Kind,
        where: SearchFilter | None = None,
        ids: Ids | None = None,
    ) -> Found:
        """See `VectorIndex.search`."""
        one = self._partitions.get(kind)
        if one is None or k < 1 or (ids is not None and not len(ids)):
            return NOTHING
        row = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, self.dim)
        return one.view.search(row, k, where, ids)

    def matching(self, ids: Ids, kind: Kind, where: SearchFilter) -> Mask:
        """See `VectorIndex.matching`."""
        one = self._partitions.get(kind)
        return np.zeros(len(ids), dtype=np.bool_) if one is None else one.view.matching(ids, where)

    def among(self, ids: Ids, kind: Kind) -> Ids:
        """See `VectorIndex.among`."""
        one = self._partitions.get(kind)
        return ids[:0] if one is None else one.view.present_ids(ids)[0]

    def rows(self, ids: Ids, kind: Kind) -> tuple[Ids, Vectors]:
        """See `VectorIndex.rows`."""
        one = self._partitions.get(kind)
        if one is None:
            return ids[:0], np.empty((0, self.dim), dtype=np.float32)
        view = one.view
        known, positions = view.present_ids(ids)
        return known, view.rows_at(positions)

    def tend(self) -> None:
        """See `VectorIndex.tend`."""
        # Searches call this and must not wait: the next one calls it again.
        if self._changing.acquire(blocking=False):
            try:
                for kind, one in self._partitions.items():
                    if (make := one.due()) is not None:
                        self._worker.start(kind, self._build, make)
                        break
            finally:
                self._changing.release()

    def settle(self, stop: Event | None = None) -> bool:
        """See `VectorIndex.settle`."""
        while not self._worker.stopped() and not (stop is not None and stop.is_set()):
            with self._changing:
                self.tend()
                if not self._worker.busy:
                    return True
            self._worker.wait(_WAIT_SECONDS)
        return False

    def after_building(self, call: Callable[[], None]) -> None:
        """See `VectorIndex.after_building`."""
        self._after_building = call

    def _build(self, kind: Kind, make: _MakeLists) -> None:
        """Make other lists of a partition as it is now, and let searches use them."""
        with self._changing:
            partition = self._partitions[kind]
            view = partition.view
        try:
            lists = make(view, self._worker.stopped)
            with self._changing:
                partition.use(lists)
            _log.info("%s: searched differently from now on: %s", kind, partition.describe())
        except Stopped:
            _log.info("%s: the index was not finished", kind)
            return
        except Refused as reason:
            _log.info("%s: every vector is compared: %s", kind, reason)
            with self._changing:
                partition.refuse()
        except BaseException:
            with self._changing:
                partition.refuse(view.lists)  # Not again and again.
            raise
        if self._after_building and not self._worker.stopped():
            self._after_building()

    @property
    def unsaved(self) -> bool:
        """See `VectorIndex.unsaved`."""
        with self._changing:
            return any(one.changed for one in self._all())

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """See `VectorIndex.save`. Only what has changed is written."""
        with self._changing:
            directory.mkdir(parents=True, exist_ok=True)
            # Another process may write of the same generation, in another order.
            stem = f"{generation}-{secrets.token_hex(4)}"
            own = self._state is not None and _state_or_none(directory) == self._state
            for kind, one in self._partitions.items():
                if one.changed or not own or not _all_there(directory, self._saved[kind]):
                    idle = self._worker.kind is not kind
                    self._saved[kind] = one.save(directory, f"{kind}-{stem}", own, renumber=idle)
            put_state(
                directory,
                {
                    "format": _FORMAT,
                    "owner": owner,
                    "generation": generation,
                    "dim": self.dim,
                    "fingerprint": self.fingerprint,
                    "partitions": {kind.value: saved for kind, saved in self._saved.items()},
                },
            )
            self._state = state_of(directory)
            kept = {
                file.name for saved in self._saved.values() for file in files_of(saved).values()
            }
            for path in directory.iterdir():
                if path.name not in kept | {STATE_FILE}:
                    _discard(path)

    @classmethod
    def load(
        cls,
        directory: Path,
        owner: str,
        dim: int,
        fingerprint: str | None = None,
        policy: IndexPolicy | None = None,
    ) -> tuple["FaissIndex", int] | None:
        """Return what `save` wrote, and its generation.

        Returns:
            None if there is nothing, or it is truncated, damaged or of another library or model.
        """
        same = {"format": _FORMAT, "owner": owner, "dim": dim, "fingerprint": fingerprint}
        reasons: list[Exception] = []
        while len(reasons) < _ATTEMPTS and (directory / STATE_FILE).is_file():
            try:
                state = state_of(directory)
                if any(state[name] != value for name, value in same.items()):
                    _log.info("the index in %s is of another library or model", directory)
                    return None
                index = cls(dim, fingerprint, policy)
                for name, saved in state["partitions"].items():
                    partition = Partition.load(directory, saved, dim, index._policy)
                    index._partitions[Kind(name)] = partition
                    index._saved[Kind(name)] = saved
                index._state = state
                return index, state["generation"]
            except FileNotFoundError as error:
                reasons.append(error)  # Another process may just have saved, and tidied up.
            except _DAMAGE as error:
                reasons += [error] * _ATTEMPTS
        if reasons:
            _log.warning("the index in %s is rebuilt: %s", directory, reasons[-1])
        return None

    def close(self, wait: bool = True) -> None:
        """See `VectorIndex.close`."""
        self._worker.stop(wait)


def _state_or_none(directory: Path) -> Any:
    try:
        return state_of(directory)
    except (OSError, ValueError):
        return None


def _all_there(directory: Path, saved: Mapping[str, Any]) -> bool:
    return all(stored.is_in(directory) for stored in files_of(saved).values())


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows does not delete what another process has mapped.
        _log.info("%s stays for now: %s", path, error)


class _Worker:
    """A thread that builds for one partition at a time, and can be stopped within about a second.

    Attributes:
        kind: The partition that it builds for; None while it does not.
    """

    def __init__(self) -> None:
        self.kind: Kind | None = None
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether it is building."""
        return self._thread is not None and self._thread.is_alive()

    def stopped(self) -> bool:
        """Return whether it has to stop; builds call this often."""
        return self._stop.is_set()

    def start(self, kind: Kind, work: Callable[[Kind, _MakeLists], None], make: _MakeLists) -> None:
        """Build in the background, unless it was stopped or is busy."""
        if self.busy or self.stopped():
            return
        self.kind = kind
        self._thread = Thread(
            target=self._run, args=(kind, work, make), name=f"build-{kind}", daemon=True
        )
        # An index that is never closed must not have a thread at work in a dying interpreter.
        atexit.register(self.stop)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the end of what is being built, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def stop(self, wait: bool = True) -> None:
        """End what is being built, for good."""
        self._stop.set()
        if self._thread is not None and wait:
            self._thread.join()

    def _run(self, kind: Kind, work: Callable[[Kind, _MakeLists], None], make: _MakeLists) -> None:
        try:
            work(kind, make)
        except Exception:
            _log.exception("the index of %s could not be built", kind)
        finally:
            self.kind = None
            atexit.unregister(self.stop)
