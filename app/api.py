"""The API for programs and agents: functions from JSON values to JSON values.

They are served as named endpoints over HTTP and as tools over MCP. Hits are identified by segment
ids; paths of this machine are never returned, and accepted by `ingest_folder` only.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app import services as actions
from app.jobs import JobState
from app.page.labels import folder_choices, readable, reason
from app.search import FileFilter, FileSelection, SearchForm, Window, validated
from app.services import Services
from embedder.interface import ModelSpec
from embedder.media import MEDIA_KINDS, Kind
from indexer import Filters, Hit, IngestReport, Library, MediaItem
from indexer.search.query import boxes_of, corrections, found_forms, terms, without_excluded

_MAX_FAILURES = 200
_MAX_TEXT = 400


class Api:
    """The endpoints over the services; their docstrings are what agents read."""

    ENDPOINTS = (
        *("search", "similar", "stats", "folders", "files", "ingest_folder", "ingest_status"),
        *("scan_folders", "cancel_ingest", "retry_failed", "remove_files", "albums", "album_files"),
    )

    def __init__(self, services: Services) -> None:
        self._services = services

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
        sort: str = "relevance",
        has_text: bool = False,
    ) -> list[dict[str, Any]]:
        """Search the library of pictures, videos, PDFs and texts by meaning and by words.

        Each hit has a segment id: GET /media/{segment_id} returns the original file and
        GET /thumbnail/{segment_id} a small picture of it. Words by which a page or picture was
        found are listed with their boxes: left, top, right and bottom, as fractions of it. Hits
        marked as weak are more likely irrelevant than relevant. Files of disks that are not
        connected are not reachable.

        Args:
            text: What to look for, in plain words and "phrases in quotes"; what has a -word is left
                out. May be empty if a file is given.
            file: Id of a file sent as body of POST /query-files?name=a.jpg, or a "data:" URL.
            not_like: Words that hits should not be like.
            kinds: Kinds of files, named as in the library's counts; empty means all.
            folder: Only files in or below this folder; an id from the folders endpoint.
            after: Only files of this day, month or year, or later: 2026-03-31, 2026-03 or 2026.
            before: Only files of this day, month or year, or earlier, written likewise.
            balance: From 0 (only the words count) to 1 (only the file counts), if both are given.
            limit: Maximum number of hits, up to 200.
            offset: Number of hits to skip.
            instruction: The model's instruction for text and file, in place of its default; only
                if stats says that the model takes instructions.
            sort: Order of the strong hits: relevance, newest or oldest; weak ones follow.
            has_text: Only files with words in them, those that were read in pictures included.
        """
        form = validated(
            SearchForm,
            {
                "text": text,
                "files": [file] if file else [],
                "not_like": not_like,
                "kinds": kinds,
                "folder": folder,
                "after": after,
                "before": before,
                "has_text": has_text,
                "balance": balance,
                "instruction": instruction,
                "sort": sort,
            },
        )
        return self._hits(form, limit, offset)

    def similar(
        self,
        segment_id: int,
        kinds: list[str] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Find what is similar to something in the library.

        Args:
            segment_id: Segment id of an earlier hit.
            kinds: Kinds of files, named as in the library's counts; empty means all.
            limit: Maximum number of hits, up to 200.
            offset: Number of hits to skip.
        """
        return self._hits(
            validated(SearchForm, {"similar": [segment_id], "kinds": kinds}), limit, offset
        )

    def stats(self) -> dict[str, Any]:
        """Count the library's files and segments by kind, and name its model."""
        counts = self._services.library.catalog.stats()
        active = self._services.models.active()
        return {
            "files": {str(kind): counts.items.get(kind, 0) for kind in Kind},
            "segments": {str(kind): counts.segments.get(kind, 0) for kind in Kind},
            "skipped": counts.skipped,
            "failed": counts.failed,
            "bytes": counts.bytes,
            "model": ModelSpec.parse(active.spec).short,
            "dimensions": active.info.dim if active.info else None,
            "takes_instructions": active.instruction is not None,
        }

    def folders(self) -> list[dict[str, Any]]:
        """List the library's folders with an id for the search filter, a name and a count."""
        return [
            {"id": folder.id, "name": folder.name, "files": folder.files}
            for folder in folder_choices(self._services.library)
        ]

    def files(
        self, status: str = "indexed", name: str = "", limit: int = 50, offset: int = 0
    ) -> list[dict[str, Any]]:
        """List files of the library, with the reason where one failed or was skipped.

        Args:
            status: One of indexed, failed and skipped.
            name: Only files with this in their name.
            limit: Maximum number of files, up to 200.
            offset: Number of files to skip.
        """
        chosen = validated(
            FileFilter, {"status": status, "name": name, "limit": limit, "offset": offset}
        )
        items = self._services.library.catalog.items(
            status=chosen.status,
            name=chosen.name or None,
            limit=chosen.limit,
            offset=chosen.offset,
        )
        return [_item(item) for item in items]

    def ingest_folder(self, folder: str) -> dict[str, Any]:
        """Start to add a folder of the server; poll ingest_status for its progress.

        Works only if the page is served to its own machine alone, or requires a login.

        Args:
            folder: The folder's absolute path.
        """
        actions.add_folder(self._services, folder)
        return self.ingest_status()

    def ingest_status(self) -> dict[str, Any]:
        """Return the progress of the running ingest, or the result of the last one."""
        return _job(self._services.jobs.state)

    def scan_folders(self) -> dict[str, Any]:
        """Start to update all folders that were added; poll ingest_status for its progress.

        Works only if the page is served to its own machine alone, or requires a login.
        """
        actions.scan_folders(self._services)
        return self.ingest_status()

    def cancel_ingest(self) -> dict[str, Any]:
        """Stop the running ingest after the current file; what is done is kept."""
        self._services.jobs.cancel()
        return self.ingest_status()

    def retry_failed(self) -> dict[str, Any]:
        """Start to ingest all failed files again."""
        actions.retry_failed(self._services)
        return self.ingest_status()

    def albums(self) -> list[dict[str, Any]]:
        """List the albums with an id, a name, a count, and whether a search fills them by itself.

        The first one, with the id 1, are the favourites.
        """
        return [
            {
                "id": album.id,
                "name": readable(album.name),
                "files": album.files,
                "fills_itself": album.search is not None,
            }
            for album in self._services.living.all()
        ]

    def album_files(self, album_id: int, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
        """List the files in an album, the newest first.

        Args:
            album_id: Id from the albums endpoint.
            limit: Maximum number of files, up to 200.
            offset: Number of files to skip.
        """
        form = validated(SearchForm, {"album": album_id})
        window = validated(Window, {"limit": limit, "offset": offset})
        library, services = self._services.library, self._services
        album = services.living.filled(form.album or 0).album
        files = library.catalog.timeline.files(
            Filters(album=album.id), limit=window.limit, offset=window.offset
        )
        return [_item(item) for item, _ in files]

    def remove_files(self, item_ids: list[int]) -> dict[str, int]:
        """Remove files from the library; only copies that were uploaded to it are deleted.

        Args:
            item_ids: Ids of files, from the files endpoint or the item_id of hits; at most 10,000.
        """
        chosen = validated(FileSelection, {"item_ids": item_ids})
        return {"removed": self._services.library.remove(chosen.item_ids)}

    def _hits(self, form: SearchForm, limit: int, offset: int) -> list[dict[str, Any]]:
        window = validated(Window, {"limit": limit, "offset": offset})
        services = self._services
        query = form.query(services.library, services.files, services.living.keep_filled)
        query = replace(query, limit=window.limit, offset=window.offset, sort=form.sort)
        library, typed = services.library, without_excluded(form.text)[0]
        corrected = corrections(library, typed)
        asked = found_forms(corrected.get(one, one) for one in terms(typed))
        return [_hit(library, hit, asked) for hit in library.search(query)]


def _job(state: JobState) -> dict[str, Any]:
    progress, report = state.progress, state.report
    answer: dict[str, Any] = {"running": state.running, "title": state.title}
    if progress is not None:
        # Of the stage "download", in bytes.
        answer |= {"stage": progress.stage, "done": progress.done, "total": progress.total}
        answer |= {"failed": progress.failures, "seconds_left": progress.remaining}
    if isinstance(report, IngestReport):
        answer |= {"added": report.added, "updated": report.updated, "moved": report.moved}
        answer |= {"removed": report.removed, "unchanged": report.unchanged}
        answer["kept"] = sum(one.files for one in report.kept)
    elif report is not None:
        answer |= {"model": ModelSpec.parse(report.model).short, "switched": report.switched}
        answer |= {"segments": report.segments, "reused": report.reused}
    if report is not None:
        answer |= {"cancelled": report.cancelled, "seconds": round(report.seconds, 1)}
        answer["failures"] = [
            {"name": readable(failure.path.name), "reason": failure.reason}
            for failure in report.failures[:_MAX_FAILURES]
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
        **_dates(item),
        "modified": item.modified_at.isoformat(timespec="seconds"),
        "reason": item.error,
    }


def _dates(item: MediaItem) -> dict[str, str]:
    return {
        "date": item.date.replace(tzinfo=None).isoformat(timespec="seconds"),
        "date_source": str(item.date_source),
    }


def _hit(library: Library, hit: Hit, asked: Sequence[str]) -> dict[str, Any]:
    segment = hit.segment
    text = library.catalog.text(segment)
    return {
        "rank": hit.rank,
        "segment_id": segment.id,
        "item_id": hit.item.id,
        "name": readable(hit.item.name),
        **_dates(hit.item),
        "kind": str(segment.kind),
        "reachable": hit.missing is None,
        "place": segment.place_in(hit.item.path) or None,
        "page": segment.page,
        "start": segment.start,
        "end": segment.end,
        "text": _beginning(text) if text else None,
        "words": boxes_of(library, hit, asked),
        "score": round(hit.score, 4),
        "relevance": round(hit.relevance, 4),
        "weak": hit.weak,
        "why": [str(why) for why in hit.why],
        "reason": reason(hit),
        "media": f"/media/{segment.id}",
        "thumbnail": f"/thumbnail/{segment.id}" if MEDIA_KINDS[segment.kind].has_picture else None,
    }


def _beginning(text: str) -> str:
    """Return the first words of a text on one line, without splitting all of a long one."""
    return " ".join(text[: 8 * _MAX_TEXT].split())[:_MAX_TEXT]
