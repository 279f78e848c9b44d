"""What programs and agents can ask for: plain functions from JSON values to JSON values.

They are served as named endpoints over HTTP and as tools over MCP. Finds are named by the numbers
of their segments; no path of this machine is taken, save by `ingest_folder`, or given out.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app import services as actions
from app.jobs import JobState
from app.models import short_name
from app.page.labels import folder_choices, readable, reason
from app.search import MOST_NUMBER, SearchForm
from app.services import Services
from embedder.media import Kind
from indexer import Hit, IngestReport, MediaItem, QueryError, Status

_MOST = 200
_TEXT = 400


class Api:
    """The endpoints over the services; the docstrings are what agents read."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def endpoints(self) -> tuple[Callable[..., Any], ...]:
        """All of them, each to be served under its own name."""
        return (
            self.search,
            self.similar,
            self.stats,
            self.folders,
            self.files,
            self.ingest_folder,
            self.ingest_status,
            self.cancel_ingest,
            self.retry_failed,
            self.remove_files,
        )

    def search(  # noqa: PLR0913, PLR0917 – the endpoint's parameters
        self,
        text: str = "",
        file: str = "",
        not_like: str = "",
        kinds: list[str] | None = None,
        folder: str = "",
        after: str = "",
        before: str = "",
        balance: float = 0.5,
        limit: int = 20,
        offset: int = 0,
        instruction: str = "",
    ) -> list[dict[str, Any]]:
        """Searches the library of pictures, videos, PDFs and texts by meaning and by words.

        Each hit names its segment; GET /media/{segment_id} gives the original file and
        GET /thumbnail/{segment_id} a small picture of it. Hits that are marked weak are less
        likely relevant than not.

        Args:
            text: What to look for, in plain words. May be empty if a file is given.
            file: Id of a file sent as body of POST /query-files?name=a.jpg, or a "data:" address.
            not_like: Words for what hits should not be like.
            kinds: Any of image, video, pdf and text; empty means all.
            folder: Only files in or below this folder; an id from the folders endpoint.
            after: Only files modified on this day or later, as 2026-03-31.
            before: Only files modified on this day or earlier, as 2026-03-31.
            balance: From 0 (only the words count) to 1 (only the file counts), for both together.
            limit: Most hits to return, up to 200.
            offset: Hits to leave out from the beginning.
            instruction: What the model is told to do with text and file, in place of its own;
                only where stats says that it takes instructions.
        """
        form = SearchForm.from_values(
            {
                "text": text,
                "file": file,
                "not_like": not_like,
                "kinds": kinds,
                "folder": folder,
                "after": after,
                "before": before,
                "balance": balance,
                "instruction": instruction,
            }
        )
        return self._hits(form, limit, offset)

    def similar(
        self,
        segment_id: int,
        kinds: list[str] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Finds what is like something in the library.

        Args:
            segment_id: A segment from an earlier hit.
            kinds: Any of image, video, pdf and text; empty means all.
            limit: Most hits to return, up to 200.
            offset: Hits to leave out from the beginning.
        """
        return self._hits(
            SearchForm.from_values({"similar": segment_id, "kinds": kinds}), limit, offset
        )

    def stats(self) -> dict[str, Any]:
        """Counts what the library holds, by kind, and names the model that it is searched with."""
        counts = self._services.library.stats()
        active = self._services.models.active()
        return {
            "files": {str(kind): counts.items.get(kind, 0) for kind in Kind},
            "segments": {str(kind): counts.segments.get(kind, 0) for kind in Kind},
            "skipped": counts.skipped,
            "failed": counts.failed,
            "bytes": counts.bytes,
            "model": short_name(active.spec),
            "dimensions": active.info.dim if active.info else None,
            "takes_instructions": active.instruction is not None,
        }

    def folders(self) -> list[dict[str, Any]]:
        """Lists the library's folders with an id for the search filter, a name and a count."""
        return [
            {"id": folder.id, "name": folder.name, "files": folder.files}
            for folder in folder_choices(self._services.library)
        ]

    def files(
        self, status: str = "indexed", name: str = "", limit: int = 50, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Lists files of the library, with the reason where one failed or was skipped.

        Args:
            status: One of indexed, failed and skipped.
            name: Only files with this in their name.
            limit: Most files to return, up to 200.
            offset: Files to leave out from the beginning.
        """
        if status not in list(Status):
            raise QueryError(f"the status can be {', '.join(Status)}, not {status!r}")
        if not isinstance(name, str):
            raise QueryError(f"the name must be text, not {name!r}")
        limit, offset = _bounded(limit, offset)
        items = self._services.library.items(
            status=Status(status), name=name or None, limit=limit, offset=offset
        )
        return [_item(item) for item in items]

    def ingest_folder(self, folder: str) -> dict[str, Any]:
        """Starts to add a folder of the machine that serves this; ask ingest_status how far it is.

        Works only where the page is served to its own machine alone, or asks for a login.

        Args:
            folder: The folder's whole path.
        """
        actions.add_folder(self._services, folder)
        return self.ingest_status()

    def ingest_status(self) -> dict[str, Any]:
        """Tells how far the running ingest is, or how the last one ended."""
        return _job(self._services.jobs.state)

    def cancel_ingest(self) -> dict[str, Any]:
        """Stops the running ingest after the file it works on; what is done stays done."""
        self._services.jobs.cancel()
        return self.ingest_status()

    def retry_failed(self) -> dict[str, Any]:
        """Starts to try all failed files again."""
        actions.retry_failed(self._services)
        return self.ingest_status()

    def remove_files(self, item_ids: list[int]) -> dict[str, int]:
        """Takes files out of the library; only copies that were uploaded to it are deleted.

        Args:
            item_ids: Numbers of files, from the files endpoint or the item_id of hits.
        """
        return {"removed": self._services.library.remove(_numbers(item_ids))}

    def _hits(self, form: SearchForm, limit: int, offset: int) -> list[dict[str, Any]]:
        limit, offset = _bounded(limit, offset)
        query = form.query(self._services.library, self._services.files)
        found = self._services.library.search(replace(query, limit=limit, offset=offset))
        return [_hit(hit) for hit in found]


def _bounded(limit: object, offset: object) -> tuple[int, int]:
    if (
        isinstance(limit, int)
        and isinstance(offset, int)
        and 1 <= limit <= _MOST
        and 0 <= offset <= MOST_NUMBER - _MOST
    ):
        return limit, offset
    raise QueryError(f"the limit must be from 1 to {_MOST} and the offset at least 0")


def _numbers(values: object) -> list[int]:
    if isinstance(values, list) and all(type(value) is int for value in values):
        return [value for value in values if 0 <= value <= MOST_NUMBER]
    raise QueryError("files are named by a list of their numbers")


def _job(state: JobState) -> dict[str, Any]:
    progress, report = state.progress, state.report
    answer: dict[str, Any] = {"running": state.running, "title": state.title}
    if progress is not None:
        answer |= {"done": progress.done, "total": progress.total}
        answer |= {"failed": progress.failures, "seconds_left": progress.remaining}
    if isinstance(report, IngestReport):
        answer |= {"added": report.added, "updated": report.updated, "moved": report.moved}
        answer |= {"removed": report.removed, "unchanged": report.unchanged}
    elif report is not None:
        answer |= {"model": short_name(report.model), "switched": report.switched}
        answer |= {"segments": report.segments, "reused": report.reused}
    if report is not None:
        answer |= {"cancelled": report.cancelled, "seconds": round(report.seconds, 1)}
        answer["failures"] = [
            {"name": readable(failure.path.name), "reason": failure.reason}
            for failure in report.failures[:_MOST]
        ]
    if state.error is not None:
        answer["error"] = state.error
    return answer


def _item(item: MediaItem) -> dict[str, Any]:
    return {
        "item_id": item.id,
        "name": readable(item.name),
        "kind": str(item.kind) if item.kind else None,
        "bytes": item.size,
        "modified": item.modified_at.isoformat(timespec="seconds"),
        "reason": item.error,
    }


def _hit(hit: Hit) -> dict[str, Any]:
    segment = hit.segment
    return {
        "rank": hit.rank,
        "segment_id": segment.id,
        "item_id": hit.item.id,
        "name": readable(hit.item.name),
        "kind": str(segment.kind),
        "place": segment.place or None,
        "page": segment.page,
        "start": segment.start,
        "end": segment.end,
        "text": _beginning(segment.text) if segment.text else None,
        "score": round(hit.score, 4),
        "relevance": round(hit.relevance, 4),
        "weak": hit.weak,
        "why": [str(why) for why in hit.why],
        "reason": reason(hit),
        "media": f"/media/{segment.id}",
        "thumbnail": f"/thumbnail/{segment.id}" if segment.kind is not Kind.TEXT else None,
    }


def _beginning(text: str) -> str:
    """The first words of a text on one line; of a long one, no more is looked at than may show."""
    return " ".join(text[: 8 * _TEXT].split())[:_TEXT]
