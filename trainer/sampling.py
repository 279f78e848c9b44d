"""Sample batches: one dataset each, no positive twice, reproducible from a seed."""

import hashlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.examples import Task

_log = logging.getLogger(__name__)
_SCHEMA = 1
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Source:
    """The rows of one dataset, as far as a sampler needs to know them.

    Attributes:
        name: Of the dataset; no two sources have the same.
        task: Of all its rows.
        keys: Of the positive of each row, at least one: rows with equal keys must not share a
            batch.
        weight: Its share of an epoch relative to the other weights; all sources have one, or
            none has and its number of rows is its share.
        resampling: Factor on its share of an epoch: with 2 each row comes twice, with 0.5 half of
            them, different ones in each epoch. The paper resamples image data upwards, because
            the losses of video data converge sooner.
        cap: Most rows that are used at all, instead of the sampler's.
    """

    name: str
    task: Task
    keys: Sequence[bytes]
    weight: float | None = None
    resampling: float = 1.0
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the index of its source among the sampler's, and its index in it."""

    source: int
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are compared with each other.

    Attributes:
        dataset: Of all rows; of merged datasets, the name of their task.
        task: Of all rows.
        epoch: From 0.
        number: Of the batch in its epoch, from 0.
        rows: In order.
    """

    dataset: str
    task: Task
    epoch: int
    number: int
    rows: tuple[Row, ...]

    def shard(self, rank: int, world: int) -> "Batch":
        """Return the part of one of several processes.

        In the order of ranks, the parts are the batch; their sizes differ by one at most.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank must be below {world} and not negative, not {rank}")
        start, end = (len(self.rows) * at // world for at in (rank, rank + 1))
        return Batch(self.dataset, self.task, self.epoch, self.number, self.rows[start:end])


@dataclass(frozen=True, slots=True)
class _EpochPlan:
    """The batches of an epoch: each its group's number and rows as one number each."""

    batches: list[tuple[int, Numbers]]
    left_out: dict[str, int]


class Sampler:
    """Yields the batches of an epoch, and resumes where a stopped run was.

    Guarantees:

    - All rows of a batch are from one dataset; those of image classification are from all
      datasets of that task, merged: a batch of few labels would have few real negatives.
    - No two rows of a batch have positives with the same key. A row that would is moved to another
      batch of the epoch. Rows that would be alone in theirs, with nothing to be compared with,
      are left out, counted in `left_out`, and come in another epoch. Batches that are not
      full are therefore rare, unless a dataset has few different positives.
    - Apart from these, an epoch has each row as often as `resampling` or the dataset's weight
      says; fractions are drawn each epoch, caps once.
    - The batches of an epoch depend on the sources, the options, the seed and the number of the
      epoch only, not on earlier draws, nor on the number of processes: all of them compute the
      same batches, and each takes its `Batch.shard`.
    - `restore(state())` continues with exactly the batches that would have come.
    - Memory holds some 30 bytes a row beside its key, 130 while an epoch is planned; no example.

    Args:
        sources: The datasets.
        batch: Rows of a batch, of all processes together.
        seed: Of all random numbers.
        cap: Most rows of a dataset; the paper has 100,000. None for no cap.
        merge: Tasks whose datasets are merged; empty for none.
        unique: False allows equal positives in any batch.
        repeat: Tasks whose batches may have equal positives although `unique`, for datasets of few
            labels: 185,000 rows of five datasets with 1,000, 397, 24, 20 and 2 labels give 165
            batches of 768 and then 4,000 small ones without repetition, and 242 with it. The
            loss masks equal targets.

    Raises:
        ValueError: there is no source, two have one name, or `batch` is below 2.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int,
        *,
        seed: int = 0,
        cap: int | None = 100_000,
        merge: Sequence[Task] = (Task.IMAGE_CLASSIFICATION,),
        unique: bool = True,
        repeat: Sequence[Task] = (),
    ) -> None:
        names = [source.name for source in sources]
        if not sources or len(set(names)) != len(names):
            raise ValueError("a sampler needs datasets with unique names")
        if batch < 2:
            raise ValueError(f"a batch must have at least 2 rows to compare, not {batch}")
        self._sources, self._batch, self._seed = tuple(sources), batch, seed
        self._unique = set(Task) - set(repeat) if unique else set()
        self._groups = _grouped(self._sources, merge)
        self._kept = [self._capped(source, cap) for source in self._sources]
        self._starts = np.cumsum([0, *(len(source.keys) for source in self._sources)])
        self._keys = _numbered(self._sources)
        self._about = _fingerprint(
            self._sources, self._keys, [batch, seed, cap, *merge, *sorted(self._unique)]
        )
        self._epoch = self._next = 0
        self._planned: tuple[int, _EpochPlan] | None = None

    @property
    def epoch(self) -> int:
        """Return the epoch of the next batch, from 0."""
        return self._epoch

    def batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch; it varies a little between epochs."""
        return len(self._plan(epoch).batches)

    def left_out(self, epoch: int) -> dict[str, int]:
        """Return the rows that an epoch lacks because their keys are equal, by dataset."""
        return dict(self._plan(epoch).left_out)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch, then advance to the next.

        A run of several epochs iterates `while sampler.epoch < epochs`, so that one that stopped
        right after the last batch of an epoch goes on with the next.
        """
        epoch, plan = self._epoch, self._plan(self._epoch)
        while self._epoch == epoch and self._next < len(plan.batches):
            number = self._next
            self._next += 1
            yield self._made(epoch, number, *plan.batches[number])
        if self._epoch == epoch:
            self._epoch, self._next = epoch + 1, 0

    def state(self, after: Batch | None = None) -> dict[str, Any]:
        """Return the sampler's position, for JSON.

        Args:
            after: The last batch that was used, where others were prefetched; None for the last
                one that was yielded.
        """
        epoch, number = self._epoch, self._next
        if after is not None:
            epoch, number = after.epoch, after.number + 1
        return {"schema": _SCHEMA, "data": self._about, "epoch": epoch, "next": number}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Raises:
            ValueError: the state is of other data, options or seed, or of another version.
        """
        if state.get("schema") != _SCHEMA:
            raise ValueError(f"the sampler's state is of version {state.get('schema')}, not 1")
        if state.get("data") != self._about:
            raise ValueError(
                "the run was started with other data, weights, batch size or seed: its batches "
                "cannot be continued. Restore these, or start a new run from its weights"
            )
        self._epoch, self._next = int(state["epoch"]), int(state["next"])

    def _made(self, epoch: int, number: int, group: int, rows: Numbers) -> Batch:
        sources = np.searchsorted(self._starts, rows, side="right") - 1
        pairs = zip(sources.tolist(), (rows - self._starts[sources]).tolist(), strict=True)
        name, members = self._groups[group]
        task = self._sources[members[0]].task
        return Batch(name, task, epoch, number, tuple(Row(*pair) for pair in pairs))

    def _plan(self, epoch: int) -> _EpochPlan:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._drawn(epoch)
        return self._planned[1]

    def _drawn(self, epoch: int) -> _EpochPlan:
        """Draw the batches of an epoch, those of all groups shuffled together."""
        found: list[tuple[int, Numbers]] = []
        left_out: dict[str, int] = {}
        quotas = self._quotas()
        for number, (name, members) in enumerate(self._groups):
            parts = [self._resampled(at, quotas[at], epoch) for at in members]
            rows = np.concatenate(parts)
            rows = rows[self._order(len(rows), epoch, f"group {name}")]
            unique = self._sources[members[0]].task in self._unique
            keys = self._keys[rows] if unique else np.arange(len(rows))
            batches, rest = assemble_batches(keys, self._batch)
            found += [(number, rows[places]) for places in batches]
            small = sum(len(places) < self._batch for places in batches)
            _log.info("epoch %d: %s: %d batches, %d not full", epoch, name, len(batches), small)
            if rest:
                left_out[name] = rest
                _log.warning(
                    "epoch %d leaves out %d of %d rows of %s", epoch, rest, len(rows), name
                )
        order = self._order(len(found), epoch, "all")
        return _EpochPlan([found[place] for place in order], left_out)

    def _quotas(self) -> list[int]:
        """Return the number of rows that an epoch has of each source."""
        total = sum(map(len, self._kept))
        weights = sum(source.weight or 0 for source in self._sources)
        shares = (
            len(kept) if source.weight is None else total * source.weight / weights
            for source, kept in zip(self._sources, self._kept, strict=True)
        )
        return [
            max(1, round(share * source.resampling))
            for source, share in zip(self._sources, shares, strict=True)
        ]

    def _resampled(self, number: int, quota: int, epoch: int) -> Numbers:
        """Draw rows of a source: whole rounds of all, then a random rest."""
        kept = self._kept[number]
        rounds, rest = divmod(quota, len(kept))
        drawn = kept[self._order(len(kept), epoch, f"source {self._sources[number].name}")[:rest]]
        return np.concatenate([*[kept] * rounds, drawn]) + self._starts[number]

    def _capped(self, source: Source, cap: int | None) -> Numbers:
        most = source.cap if source.cap is not None else cap
        rows = np.arange(len(source.keys))
        if most is None or len(rows) <= most:
            return rows
        return np.sort(self._order(len(rows), 0, f"cap {source.name}")[:most])

    def _order(self, count: int, epoch: int, purpose: str) -> Numbers:
        """Return a permutation that no other purpose or epoch shares.

        NumPy guarantees the raw bits of PCG64 for all its versions, but not what its generators
        make of them (NEP 19); and a resumed run may have another version.
        """
        digest = hashlib.blake2b(purpose.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        mixed = np.random.SeedSequence([self._seed, epoch, int.from_bytes(digest)])
        return np.argsort(np.random.PCG64(mixed).random_raw(count), kind="stable")


def _grouped(sources: Sequence[Source], merge: Sequence[Task]) -> list[tuple[str, tuple[int, ...]]]:
    """Group sources that share batches: a name and the sources' numbers."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for number, source in enumerate(sources):
        merged = source.task in merge
        groups.setdefault((source.task if merged else source.name, merged), []).append(number)
    return [(str(name), tuple(members)) for (name, _), members in groups.items()]


def _numbered(sources: Sequence[Source]) -> Numbers:
    """Number the keys of all rows; equal keys get equal numbers."""
    known: dict[bytes, int] = {}
    numbers = (known.setdefault(key, len(known)) for source in sources for key in source.keys)
    return np.fromiter(numbers, np.int64)


def _fingerprint(sources: Sequence[Source], keys: Numbers, options: Sequence[object]) -> str:
    """Hash what the batches depend on; of keys only their equality: folders may move."""
    shapes = [(s.name, str(s.task), len(s.keys), s.weight, s.resampling, s.cap) for s in sources]
    about = repr([shapes, [str(option) for option in options]]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(about + keys.astype("<i8").tobytes(), digest_size=16).hexdigest()


def assemble_batches(keys: Numbers, size: int) -> tuple[list[Numbers], int]:
    """Put rows into batches in which no key comes twice.

    A row whose key is in the batch already waits for the next one, where waiting rows come first,
    one of each key: a key that n rows have needs n batches. If in the end a single row is left, a
    batch before gives it company. It takes a time proportional to the number of rows.

    Args:
        keys: Int64 (rows,), in the order in which they are to be taken.
        size: Rows of a full batch.

    Returns:
        The batches as places in `keys`, each row in at most one of them, and how many are in none
        because they were left with one key.
    """
    # Keys only come to wait while the batch has them, and those that wait are in the next batch:
    # there are never more than `size`.
    waiting: dict[int, deque[int]] = {}
    batches: list[list[int]] = []
    listed: Sequence[int] = keys.tolist()
    place = 0
    while True:
        taken = set(waiting)
        batch = [places.popleft() for places in waiting.values()]
        waiting = {key: places for key, places in waiting.items() if places}
        while place < len(listed) and len(batch) < size:
            key = listed[place]
            if key in taken:
                waiting.setdefault(key, deque()).append(place)
            else:
                taken.add(key)
                batch.append(place)
            place += 1
        if len(batch) > 1:
            batches.append(batch)
            continue
        rest = len(batch) + sum(map(len, waiting.values()))
        if rest == 1 and any(_add_second(batch, before, listed) for before in reversed(batches)):
            batches.append(batch)
            rest = 0
        return [np.array(places, dtype=np.int64) for places in batches], rest


def _add_second(batch: list[int], before: list[int], keys: Sequence[int]) -> bool:
    """Add a row of another key to a batch of one, from a batch that has more than two."""
    if len(before) <= 2:
        return False
    spare = [place for place in before if keys[place] != keys[batch[0]]]
    before.remove(spare[-1])
    batch.append(spare[-1])
    return True
