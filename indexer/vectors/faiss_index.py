"""`VectorIndex` by FAISS: a partition for each kind, whose lists are built in the background."""

import atexit
import logging
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kinds import Kind
from indexer.vectors.interface import NOTHING, Description, Found, Ids, SearchFilter, VectorIndex
from indexer.vectors.partition import IndexPolicy, Partition
from indexer.vectors.storage import STATE_FILE, files_of, put_state, state_of
from indexer.vectors.view import Mask

_log = logging.getLogger(__name__)

_FORMAT = 6
_WAIT_SECONDS = 0.1
_ATTEMPTS = 3
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RuntimeError),
)


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
        self._state: Any = None  # As it was last loaded or saved.
        self._worker = _Worker()
        self._after_building: Callable[[], None] | None = None

    def __len__(self) -> int:
        return sum(one.view.size for one in self._all())

    def _all(self) -> list[Partition]:
        return list(self._partitions.values())

    @property
    def kinds(self) -> frozenset[Kind]:
        """See `VectorIndex.kinds`."""
        return frozenset(kind for kind, one in list(self._partitions.items()) if one.view.size)

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
        self, kind: Kind, ids: Ids, folder_ids: NDArray[np.int32], dates_ns: NDArray[np.int64]
    ) -> None:
        """See `VectorIndex.set_holders`."""
        with self._changing:
            if (one := self._partitions.get(kind)) is not None:
                one.set_holders(ids, folder_ids, dates_ns)

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
        return ids[:0] if one is None else one.view.find(ids)[0]

    def rows(self, ids: Ids, kind: Kind) -> tuple[Ids, Vectors]:
        """See `VectorIndex.rows`."""
        one = self._partitions.get(kind)
        if one is None:
            return ids[:0], np.empty((0, self.dim), dtype=np.float32)
        view = one.view
        known, positions = view.find(ids)
        return known, view.rows_at(positions)

    def sample(self, kind: Kind, count: int) -> Vectors:
        """See `VectorIndex.sample`."""
        one = self._partitions.get(kind)
        return np.empty((0, self.dim), dtype=np.float32) if one is None else one.view.sample(count)

    def tend(self) -> None:
        """See `VectorIndex.tend`."""
        # Searches call this and must not wait: the next one calls it again.
        if self._changing.acquire(blocking=False):
            try:
                for kind, one in self._partitions.items():
                    if one.due:
                        self._worker.start(kind, partial(self._build, kind))
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

    def _build(self, kind: Kind) -> None:
        """Make other lists of a partition as it is now, and let searches use them."""
        from indexer.vectors.build import Refused, Stopped, build_or_extend

        with self._changing:
            partition = self._partitions[kind]
            view = partition.view
        try:
            lists = build_or_extend(view, self._policy, self._worker.stopped)
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

    @property
    def fragmented(self) -> bool:
        """See `VectorIndex.fragmented`."""
        with self._changing:
            return any(one.fragmented for one in self._all())

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """See `VectorIndex.save`. Only what has changed is written."""
        with self._changing:
            directory.mkdir(parents=True, exist_ok=True)
            # Another process may write of the same generation, in another order.
            stem = f"{generation}-{secrets.token_hex(4)}"
            own = self._state is not None and _state_or_none(directory) == self._state
            saved = {
                kind.value: one.save(directory, f"{kind}-{stem}", own)
                for kind, one in self._partitions.items()
            }
            put_state(
                directory,
                {
                    "format": _FORMAT,
                    "owner": owner,
                    "generation": generation,
                    "dim": self.dim,
                    "fingerprint": self.fingerprint,
                    "partitions": saved,
                },
            )
            self._state = state_of(directory)
            kept = {file.name for one in saved.values() for file in files_of(one).values()}
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
                index._state = state
                return index, state["generation"]
            except FileNotFoundError as error:
                reasons.append(error)  # Another process may just have saved, and tidied up.
            except _DAMAGE as error:
                reasons += [error] * _ATTEMPTS
        if reasons:
            _log.warning("the index in %s is rebuilt: %r", directory, reasons[-1])
        return None

    def close(self, wait: bool = True) -> None:
        """See `VectorIndex.close`."""
        self._worker.stop(wait)


def _state_or_none(directory: Path) -> Any:
    try:
        return state_of(directory)
    except (OSError, ValueError):
        return None


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows does not delete what another process has mapped.
        _log.info("%s stays for now: %s", path, error)


class _Worker:
    """A thread that builds for one partition at a time, and stops within about a second."""

    def __init__(self) -> None:
        self._stop = Event()
        self._thread = Thread()

    @property
    def busy(self) -> bool:
        """Whether it is building."""
        return self._thread.is_alive()

    def stopped(self) -> bool:
        """Return whether it has to stop; builds call this often."""
        return self._stop.is_set()

    def start(self, kind: Kind, work: Callable[[], None]) -> None:
        """Build for a partition in the background, unless it was stopped or is busy."""
        if self.busy or self.stopped():
            return
        arguments = (kind, work)
        self._thread = Thread(target=self._run, args=arguments, name=f"build-{kind}", daemon=True)
        # An index that is never closed must not have a thread at work in a dying interpreter.
        atexit.register(self.stop)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of what is being built, so long at most."""
        if self.busy:
            self._thread.join(seconds)

    def stop(self, wait: bool = True) -> None:
        """End what is being built, for good."""
        self._stop.set()
        if wait:
            self.wait()

    def _run(self, kind: Kind, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            _log.exception("the index of %s could not be built", kind)
        finally:
            atexit.unregister(self.stop)
