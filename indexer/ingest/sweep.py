"""Sweep: which of the known files that an ingest did not find leave the library, and which stay.

A disk that is unplugged must not cost its files: they would all have to be embedded again. So a
file is removed only where it was evidently deleted:

1. Its folder still holds another known file, and it is the folder that it was, or most files that
   are known of it are there: a folder may also be where several disks are mounted in turn; or
2. no known file is left in its folder, but one was found elsewhere on the same disk, and the folder
   is the same one as before or gone from a folder on that disk (`indexer.presence.disconnected`).
   If these are `MIN_DOUBTED_FILES` or more, and over half of a root, they are not believed to be
   deleted all the same.

So all files of a root stay of which none is found. What a root excludes is removed, whether it is
there or not.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from embedder.media.members import was_detached
from indexer.catalog.writer import CatalogWriter, KnownFile
from indexer.ingest.roots import base_of, excludes
from indexer.presence import FolderId, deleted, disconnected, lost_part, vanished
from indexer.types import Kept, Root

MIN_DOUBTED_FILES = 20


@dataclass(frozen=True, slots=True)
class Swept:
    """The known files that an ingest did not find.

    Attributes:
        removed: Paths by the ids of those that leave the library.
        kept: Those that stay although they are not there.
        kept_in: Folders of those that stay.
    """

    removed: dict[int, Path]
    kept: tuple[Kept, ...] = ()
    kept_in: frozenset[Path] = frozenset()


def sweep(
    writer: CatalogWriter,
    roots: Sequence[Root],
    found: Container[int],
    folders: Mapping[Path, FolderId],
) -> Swept:
    """Return which of the known files below some roots are removed, and which are kept.

    Args:
        writer: Knows the files.
        roots: What was ingested.
        found: Ids of the known files that were found.
        folders: The folders in which files were found.
    """
    removed: dict[int, Path] = {}
    kept: dict[int, Path] = {}
    kept_in = set[Path]()
    for root in roots:
        lost = _Lost.of(writer, root, found, folders)
        removed |= {one.id: one.path for one in lost.excluded}
        for one, missing in lost.judged():
            if missing is None:
                removed[one.id] = one.path
            else:
                kept[one.id] = missing
                kept_in.add(one.path.parent)
    for item_id in removed.keys() & kept.keys():  # Of two roots that overlap, one is not there.
        del removed[item_id]
    return Swept(removed, tuple(_counted(kept.values())), frozenset(kept_in))


def _counted(missing: Iterable[Path]) -> Iterator[Kept]:
    """Count files by what is not connected; a folder counts as what is above it and missing too."""
    counts = Counter(missing)
    for path in sorted(counts):
        if not counts.keys().isdisjoint(path.parents):
            continue
        yield Kept(path, sum(counts[one] for one in counts if one.is_relative_to(path)))


def sweep_failed(writer: CatalogWriter, found: Container[int]) -> Swept:
    """Return which of the failed files are removed, since they were deleted."""
    missing = (one for one in writer.below(writer.failed()) if one.id not in found)
    return Swept({one.id: one.path for one in missing if deleted(one.path, one.folder)})


@dataclass(frozen=True, eq=False, slots=True)
class _Lost:
    """The known files below a root that were not found there.

    Attributes:
        base: The file or folder of the root.
        excluded: Those that the root excludes.
        missing: Those that are not there.
        occupied: How many known files were found in a folder, by its id.
        folders: The folders in which files were found.
        devices: Present numbers of the disks on which known files were found, by those seen before.
        known: How many files the library knows below the root, those that it excludes left out.
    """

    base: Path
    excluded: list[KnownFile]
    missing: list[KnownFile]
    occupied: Counter[int]
    folders: Mapping[Path, FolderId]
    devices: dict[int, int]
    known: int

    @classmethod
    def of(
        cls,
        writer: CatalogWriter,
        root: Root,
        found: Container[int],
        folders: Mapping[Path, FolderId],
    ) -> Self:
        """Compare what the library knows below a root with what was found."""
        base = base_of(root)
        excluded, missing = list[KnownFile](), list[KnownFile]()
        occupied, devices, known = Counter[int](), dict[int, int](), 0
        for one in writer.below([base]):
            there = one.id in found
            if not there and excludes(root, one.path):
                excluded.append(one)
                continue
            known += 1
            if not there and (vanished(one.path) or was_detached(one.path)):
                missing.append(one)
            elif there:
                occupied[one.folder_id] += 1
                if occupied[one.folder_id] > 1:
                    continue
                now = folders.get(one.path.parent)
                if now is not None and one.device is not None:
                    devices[one.device] = now.device
        return cls(base, excluded, missing, occupied, folders, devices, known)

    def judged(self) -> Iterator[tuple[KnownFile, Path | None]]:
        """Yield each missing file with what is not connected, or None if it was deleted."""
        if not self.occupied:
            gone = vanished(self.base)
            for one in self.missing:
                yield one, self.base if gone else lost_part(one.path.parent)
            return
        doubted: list[KnownFile] = []
        places: dict[int, Path | None] = {}
        lacking = Counter(one.folder_id for one in self.missing)
        for one in self.missing:
            if found := self.occupied[one.folder_id]:
                same = self._is_same(one, most=found > lacking[one.folder_id])
                yield one, None if same else one.path.parent
                continue
            if one.folder_id not in places:
                places[one.folder_id] = disconnected(one.path.parent, one.folder, self.devices)
            if (missing := places[one.folder_id]) is None:
                doubted.append(one)
            else:
                yield one, missing
        many = MIN_DOUBTED_FILES <= len(doubted) > self.known / 2
        yield from ((one, lost_part(one.path.parent) if many else None) for one in doubted)

    def _is_same(self, one: KnownFile, *, most: bool) -> bool:
        """Whether the folder of a missing file is that in which the file was, and not another's.

        Numbers of folders change where a disk is connected again, if `most` of its files are there.
        """
        return one.folder is not None and (most or one.folder == self.folders.get(one.path.parent))
