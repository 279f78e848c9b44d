"""Plan an ingest: what it would do, without decoding or writing anything."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedder.media import detect
from embedder.media.kinds import MediaError, UnsupportedMedia, os_reason, sha256_of
from indexer.catalog.writer import CatalogWriter
from indexer.ingest.discovery import compare
from indexer.ingest.live_photos import refuse_moving_part
from indexer.ingest.sweep import sweep
from indexer.presence import FolderId, deleted
from indexer.types import Candidate, Failure, IngestOptions, IngestPlan, Root


def plan(writer: CatalogWriter, roots: Sequence[Root], options: IngestOptions) -> IngestPlan:
    """Return what an ingest of some roots would do.

    New files are read only as far as their kind requires, and whole where a known file has the
    same size and may be the same. Two new files with the same bytes both count as added.
    """
    lists: dict[str, list[Any]] = defaultdict(list)
    new: list[Candidate] = []
    known: set[int] = set()
    folders: dict[Path, FolderId] = {}
    sidecars: dict[int, Path] = {}
    unchanged = 0
    for found in compare(writer, roots, options):
        new += found.new
        lists["updated"] += [candidate.path for candidate in found.changed]
        lists["failures"] += found.failures
        known.update(one.id for one in found.known)
        folders |= found.folders
        sidecars |= found.sidecars
        unchanged += found.unchanged
    moved_away: set[Path] = set()
    for candidate in new:
        name, entry = _classify(writer, candidate, moved_away)
        lists[name].append(entry)
    swept = sweep(writer, roots, known, folders)
    removed = swept.removed | sidecars
    lists["removed"] = [path for path in removed.values() if path not in moved_away]
    lists["kept"] = list(swept.kept)
    return IngestPlan(unchanged=unchanged, **{name: tuple(some) for name, some in lists.items()})


def _classify(
    writer: CatalogWriter, new: Candidate, moved_away: set[Path]
) -> tuple[str, Path | tuple[Path, Path] | Failure]:
    """Return the field of `IngestPlan` that a new file belongs in, and its entry there.

    `moved_away` gets the path that the file was moved from.
    """
    path = new.path
    try:
        detect(path)
        refuse_moving_part(path)
        holders = writer.holders(sha256_of(path)) if writer.holds_size(new.size) else []
    except UnsupportedMedia as error:
        return "skipped", Failure(path, str(error))
    except MediaError as error:
        return "failures", Failure(path, str(error))
    except OSError as error:
        return "failures", Failure(path, os_reason(error))
    left = (one for one in holders if one.path not in moved_away)
    old = next((one.path for one in left if deleted(one.path, one.folder)), None)
    if old is None:
        return ("copies" if holders else "added"), path
    moved_away.add(old)
    return "moved", (old, path)
