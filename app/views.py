"""From what the page's events send to what the page then shows."""

import json
import logging
from collections.abc import Iterator, Mapping
from html import escape
from time import monotonic, sleep

from app import cards, handlers, panels
from app.folders import folder_choices
from app.forms import SearchForm
from app.services import Services
from embedder import EmbedderError
from embedder.media import MediaError
from indexer import IndexerError, Status

_log = logging.getLogger(__name__)
_FILES = 50
_PACE = 0.3

Update = tuple[str | None, str | None, str | None, str | None]
"""New content of the panels progress, stats, home and state; None leaves one as it is.

When the state changes the page asks for its page of the table of files again.
"""


def sent(data: object) -> Mapping[str, object]:
    """What an event carries, as a mapping whatever a client made of it."""
    return data if isinstance(data, Mapping) else {}


def text(values: Mapping[str, object], name: str) -> str:
    """A text among the values, or the empty one."""
    value = values.get(name)
    return value if isinstance(value, str) else ""


def answer(services: Services, values: Mapping[str, object]) -> str:
    """The results of a search as HTML; a problem becomes a sentence in their place."""
    try:
        session = services.searches.open(SearchForm.from_values(values))
        strong, weak = session.page(), session.page(weak=True)
        return cards.search_results(strong, weak, session.terms)
    except (IndexerError, EmbedderError, MediaError) as error:
        return cards.problem(str(error))
    except Exception:
        _log.exception("a search failed")
        return cards.problem("something unforeseen went wrong: the server's log says more")


class LibraryView:
    """The library tab and what depends on it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def follow(self) -> Iterator[Update]:
        """Everything once, then the progress as it changes, then everything again."""
        state = self._services.ingests.state
        yield (panels.ingest(state), *self.everything())
        ran = state.running
        while state.running:
            before = monotonic()
            state = self._services.ingests.wait(state.version, timeout=2.0)
            yield (panels.ingest(state), None, None, None)
            sleep(max(0.0, _PACE - (monotonic() - before)))
        if ran:
            yield (panels.ingest(state), *self.everything())

    def everything(self) -> tuple[str, str, str]:
        """The panels stats, home and state."""
        library = self._services.library
        counts = library.stats()
        total = sum(counts.items.values())
        home = cards.glimpse_section(handlers.glimpses(library)) if total else cards.empty_library()
        return panels.stats(counts), home, self._state(total, counts.failed)

    def files(self, values: Mapping[str, object]) -> str:
        """A page of the table of files."""
        wanted = text(values, "status")
        status = Status(wanted) if wanted in list(Status) else Status.INDEXED
        name = text(values, "name")[:200].strip()
        offset = values.get("offset")
        offset = offset if isinstance(offset, int) and offset > 0 else 0
        items = self._services.library.items(
            status=status, name=name or None, limit=_FILES + 1, offset=offset
        )
        return panels.files(
            items[:_FILES], status=status, name=name, offset=offset, more=len(items) > _FILES
        )

    def remove(self, values: Mapping[str, object]) -> Update:
        """Removes files and shows what is left."""
        wanted = values.get("items")
        ids = [one for one in wanted if type(one) is int] if isinstance(wanted, list) else []
        try:
            removed = self._services.library.remove(ids)
        except (IndexerError, OSError) as error:
            return (cards.problem(str(error)), *self.everything())
        return (panels.removed(removed), *self.everything())

    def _state(self, total: int, failed: int) -> str:
        """What the script needs to know: the folders to filter by, and counts."""
        folders = [
            {"id": folder.id, "name": folder.name, "files": folder.files}
            for folder in folder_choices(self._services.library)
        ]
        version = self._services.ingests.state.version
        known = json.dumps(
            {"version": version, "files": total, "failed": failed, "folders": folders}
        )
        return f'<div id="rz-known" hidden data-known="{escape(known)}"></div>'
