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
    NO_FOLDER,
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
            "holders": Column(np.int64, (2,)),
        }
        self._others = np.empty((0, 3), dtype=np.int64)
        self._gone: Mask = np.empty(0, dtype=np.bool_)
        self._lists: Lists | None = None
        self._stored: dict[str, StoredFile] = {}  # Of others and gaps.
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
            self._others,
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
        self._columns["holders"].append(np.tile([NO_FOLDER, 0], (len(ids), 1)))
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
            self._stored.pop("gone", None)
            self._drop_others(positions)

    def set_holders(
        self, ids: Ids, folder_ids: NDArray[np.int32], mtimes_ns: NDArray[np.int64]
    ) -> None:
        """See `VectorIndex.set_holders`."""
        located = self.view.located(ids)
        entries = np.stack([located, folder_ids.astype(np.int64), mtimes_ns], axis=1)
        entries = entries[self.view.present(located)]
        if not len(entries):
            return
        entries = entries[np.argsort(entries[:, 0], kind="stable")]
        positions, first, counts = np.unique(entries[:, 0], return_index=True, return_counts=True)
        saved, fresh = self._columns["holders"].blocks
        single, late = counts == 1, positions >= len(saved)
        here = single & late
        fresh[positions[here] - len(saved)] = entries[first[here], 1:]
        # Files are mapped for reading, by others too: what changed in them is kept beside them.
        same = single & ~late
        same[same] = (saved[positions[same]] == entries[first[same], 1:]).all(axis=1)
        self._drop_others(positions)
        apart = entries[np.repeat(~(here | same), counts)]
        if len(apart):
            self._others = np.concatenate([self._others, apart])
            self._stored.pop("others", None)
        self._change()

    def _drop_others(self, positions: Positions) -> None:
        listed = np.isin(self._others[:, 0], positions)
        if listed.any():
            self._others = self._others[~listed]
            self._stored.pop("others", None)

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

    def save(self, directory: Path, stem: str, own: bool, tidy: bool) -> dict[str, Any]:
        """Write what is not in files yet.

        Args:
            directory: Where to.
            stem: What the names of new files begin with.
            own: No other process has written to the files since.
            tidy: Positions may change: nothing is being built of a view.

        Returns:
            What `load` needs.

        Raises:
            LibraryError: if files cannot be written; the next call makes up for that.
        """
        if not own:
            for column in self._columns.values():
                column.forget_file()
        if tidy and self._untidy():
            self._tidy(directory, stem)
        files = {
            role: column.save(directory, f"{stem}.{role}") for role, column in self._columns.items()
        }
        if self._lists is not None:
            self._lists, files["lists"] = self._lists.saved(directory, f"{stem}.faiss")
        gone = np.packbits(self._gone) if self.view.gaps else self._gone[:0]
        for role, array in (("others", self._others), ("gone", gone)):
            if array.size:
                files[role] = self._small_file(directory, f"{stem}.{role}", array)
        ids = self._columns["ids"].blocks[0]
        falls = np.flatnonzero(ids[1:] <= ids[:-1])
        self._ascending = int(falls[0]) + 1 if len(falls) else len(ids)
        self.changed = False
        self._show()
        return self._state(files)

    def _small_file(self, directory: Path, name: str, array: NDArray[Any]) -> StoredFile:
        role = name.rpartition(".")[2]
        stored = self._stored.get(role)
        if stored is None or not stored.is_in(directory):
            stored = write_file(directory / name, lambda write: write(array.tobytes()))
            self._stored[role] = stored
        return stored

    def _untidy(self) -> bool:
        """Return whether gaps, or changes kept beside the files, have become too many."""
        most = max(_MIN_GAPS, self._policy.max_gaps * len(self.view))
        return self.view.gaps > most or len(self._moved()) > most

    def _moved(self) -> Positions:
        """Return the positions of `others` that only one file holds."""
        positions, counts = np.unique(self._others[:, 0], return_counts=True)
        moved: Positions = positions[counts == 1]
        return moved

    def _tidy(self, directory: Path, stem: str) -> None:
        """Write all columns without gaps, and holders as they are now."""
        kept, moved = self.view.alive(), np.isin(self._others[:, 0], self._moved())
        holders = np.concatenate(self._columns["holders"].blocks)
        holders[self._others[moved, 0]] = self._others[moved, 1:]
        columns = self._columns | {"holders": Column.of(holders)}
        columns = {
            role: column.kept(directory, f"{stem}-tidy.{role}", kept)
            for role, column in columns.items()
        }
        # All that can fail is done.
        numbers = np.zeros(len(self.view), dtype=np.int64)
        numbers[kept] = np.arange(len(kept))
        others = self._others[~moved]
        others[:, 0] = numbers[others[:, 0]]
        self._lists = self._lists and self._lists.renumbered(kept)
        self._columns, self._others = columns, others
        self._gone = np.zeros(len(kept), dtype=np.bool_)
        self._stored, self._ascending = {}, 0
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
        for role in ("others", "gone"):
            if stored := files.get(role):
                one._stored[role], data = stored, read_file(directory, stored)
                if role == "others":
                    one._others = np.frombuffer(data, dtype=np.int64).reshape(-1, 3)
                else:
                    bits = np.frombuffer(data, dtype=np.uint8)
                    gone = np.unpackbits(bits)[:count].view(np.bool_)
                    one._gone[: len(gone)] = gone
        one._refused, one._highest = int(saved["refused"]), int(saved["highest"])
        one._ascending = int(saved["ascending"])
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
        counts = {len(column) for column in self._columns.values()}
        listed = self._others[:, 0]
        within = (
            0 <= self._ascending <= positions
            and self.view.covered <= positions
            and (not len(listed) or 0 <= listed.min() <= listed.max() < positions)
        )
        if counts != {positions} or not within:
            raise ValueError("the files do not hold what the state says")
        if len(self) != vectors:
            raise ValueError("there are not as many vectors as the state says")

    def describe(self) -> Description:
        """Return how the vectors are searched."""
        memory = sum(column.memory for column in self._columns.values())
        memory += self._gone.nbytes + self._others.nbytes
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
                    tidy = self._worker.kind is not kind
                    self._saved[kind] = one.save(directory, f"{kind}-{stem}", own, tidy)
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
