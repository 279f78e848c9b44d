"""Giving a library another model: compute its vectors beside those in use, then switch over."""

import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from threading import Event as Flag
from time import monotonic

from embedder.content import Modality
from embedder.interface import Embedder
from embedder.media.kinds import Limits
from indexer.catalog import Catalog
from indexer.catalog.duplicates import near_media
from indexer.catalog.staged import Outline, StagedVectors
from indexer.catalog.writer import CatalogWriter
from indexer.config import IngestOptions, within
from indexer.ingest.decode import OpenDecoders, os_reason
from indexer.ingest.reembedding import Reembedding, as_failures
from indexer.ingest.thumbnails import Thumbnails
from indexer.model import Instructions, LibraryModel
from indexer.types import Failure, Progress, ReembedPlan, ReembedReport
from indexer.vectors.sync import IndexSync

# What is in the library was decoded before, whatever the limits then were.
_LIMITS = replace(
    Limits(), pixels=sys.maxsize, seconds=inf, pages=sys.maxsize, file_bytes=sys.maxsize
)


@dataclass(frozen=True, eq=False, slots=True)
class ModelSwitch:
    """What a change of the model works with; only the holder of the writer lock may `run` it.

    Attributes:
        catalog: What the library holds.
        ledger: Where files and near duplicates are remembered.
        pending: Where the new vectors wait.
        model: The library's model and embedder.
        mirror: Its vectors as they are searched.
        thumbnails: Small pictures, which stay.
        decoders: Opens what decodes files.
    """

    catalog: Catalog
    ledger: CatalogWriter
    pending: StagedVectors
    model: LibraryModel
    mirror: IndexSync
    thumbnails: Thumbnails
    decoders: OpenDecoders

    def run(
        self,
        name: str,
        instructions: Instructions,
        *,
        leave_out: bool,
        workers: int | None,
        on_progress: Callable[[Progress], None] | None,
        cancel: Flag,
    ) -> ReembedReport:
        """See `indexer.Library.reembed`."""
        started_at = monotonic()
        options = IngestOptions() if workers is None else IngestOptions(workers=workers)
        instructions = self.model.kept(name, instructions)
        embedder = self.model.open_another(name, instructions)
        try:
            if self._is_settled(embedder, instructions):
                embedder.close()
                return ReembedReport(name, seconds=monotonic() - started_at)
            self._forget_orphans()
            reused = self.pending.begin(embedder.info, instructions)
            limits = within(_LIMITS, embedder.info)
            with self.decoders(limits, cancel) as decoders:
                work = Reembedding(
                    self.pending,
                    embedder,
                    limits,
                    decoders.detect,
                    decoders.cut,
                    workers=options.workers,
                    tell=on_progress,
                    cancel=cancel,
                )
                work.run()
            cancelled = cancel.is_set()
            switched = not cancelled and (leave_out or not work.failures)
            if switched:
                work.report_progress("switch", force=True)
                self.pending.take_over(work.failures)
        except BaseException:
            embedder.close()
            raise
        if switched:
            self.model.replace(embedder)
            self._clear_up(work.failures)
        else:
            embedder.close()
        return ReembedReport(
            model=name,
            segments=reused + work.computed,
            reused=reused,
            failures=as_failures(work.failures),
            switched=switched,
            cancelled=cancelled,
            seconds=monotonic() - started_at,
        )

    def plan(self, name: str, instructions: Instructions) -> ReembedPlan:
        """See `indexer.Library.plan_reembed`."""
        with self.model.open_another(name, self.model.kept(name, instructions)) as embedder:
            fingerprint = embedder.info.fingerprint
        if fingerprint == self.catalog.model().fingerprint:
            return ReembedPlan(name, same=True)
        before = self.pending.model()
        if before is None or before.fingerprint != fingerprint:
            failures = tuple(self._absent(self.pending.outlines(of_all=True)))
            return ReembedPlan(name, segments=self.catalog.stats().segments, failures=failures)
        return ReembedPlan(
            name,
            segments=self.pending.missing(),
            reused=self.pending.count(),
            failures=tuple(self._absent(self.pending.outlines())),
        )

    def _is_settled(self, embedder: Embedder, instructions: Instructions) -> bool:
        """Whether the library has that model already; then its name is remembered."""
        if embedder.info.fingerprint != self.catalog.model().fingerprint:
            return False
        self.model.rename(embedder.info, instructions)
        if self.pending.model() is None:
            self.pending.clear()  # Vectors that were retired before the program was killed.
        return True

    def _clear_up(self, left_out: Collection[str]) -> None:
        """What is left to do after the vectors have taken over, and may be cut short."""
        for content_hash in left_out:
            self.thumbnails.remove(content_hash)
        if left_out:
            self.ledger.remember_near_duplicates(len(near_media(self.catalog)))
        self.mirror.save()
        self.pending.clear()

    def _forget_orphans(self) -> None:
        for content_hash in self.ledger.remove_orphans():
            self.thumbnails.remove(content_hash)

    def _absent(self, outlines: Iterator[Outline]) -> Iterator[Failure]:
        """Files that would have to be read and are not there, by a look at each."""
        for outline in outlines:
            lacking = [one for one in outline.segments if one.position in outline.missing]
            if all(one.modality is Modality.TEXT for one in lacking):
                continue
            found = {path: _absence(path) for path in outline.holders}
            if all(found.values()):
                yield from (Failure(path, why) for path, why in found.items() if why)


def _absence(path: Path) -> str | None:
    """Why a file cannot be read, as far as it can be told without reading it."""
    try:
        path.stat()
    except FileNotFoundError:
        return "it is not there any more"
    except OSError as error:
        return os_reason(error)
    return None
