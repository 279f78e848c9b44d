"""From what the page's events send to what the page then shows."""

import json
import logging
from collections.abc import AsyncIterator, Mapping
from time import monotonic
from typing import NamedTuple

from anyio import sleep, to_thread

from app import search
from app.gradio_compat import described
from app.page import library_tab, results
from app.page.labels import escape, folder_choices
from app.search import MOST_NUMBER, SearchForm
from app.services import Services, told
from embedder import EmbedderError
from embedder.media import MediaError
from indexer import IndexerError, Status

_log = logging.getLogger(__name__)
_FILES = 50
_PACE = 0.3
_LONGEST_PACE = 2.0


class Update(NamedTuple):
    """New content of the panels; None leaves one as it is.

    When the state changes the page asks for its page of the table of files again.
    """

    progress: str | None = None
    stats: str | None = None
    home: str | None = None
    state: str | None = None
    header: str | None = None
    model: str | None = None


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
        return results.search_results(strong, weak, session.terms)
    except (IndexerError, EmbedderError, MediaError) as error:
        return results.problem(told(services.config, error))
    except Exception as error:
        _log.error("a search failed: %s", described(error))
        return results.problem("something unforeseen went wrong: the server's log says more")


class LibraryView:
    """The library tab and what depends on it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def follow(self, refused: str = "") -> AsyncIterator[Update]:
        """Everything once, then the progress as it changes, then everything again.

        The model comes apart: opening it may take seconds, and the rest need not wait for it. No
        thread waits meanwhile: there are fewer of them than there may be visitors.

        Args:
            refused: Why what was asked for was not started, to be told above what runs.
        """
        state = self._services.jobs.state
        everything = await to_thread.run_sync(self._everything)
        yield everything._replace(progress=library_tab.job(state, refused))
        yield await to_thread.run_sync(self.model)
        ran = state.running
        while state.running:
            seen, since = state.version, monotonic()
            while state.version == seen and monotonic() - since < _LONGEST_PACE:
                await sleep(_PACE)
                state = self._services.jobs.state
            yield Update(progress=library_tab.job(state, refused if state.running else ""))
        if ran:
            yield await to_thread.run_sync(self.model)
            everything = await to_thread.run_sync(self._everything)
            yield everything._replace(progress=library_tab.job(state))

    def model(self, shown: str = "") -> Update:
        """The panels that tell of the library's model.

        Args:
            shown: Mark of the model that the page tells of already: it is left as it is if the
                library still has that one.
        """
        services = self._services
        active, trusted = services.models.active(), services.config.trusted
        if active.mark == shown:
            return Update()
        header = library_tab.header(library_tab.chip(active, trusted=trusted))
        if not trusted:
            return Update(header=header)
        segments = sum(services.library.stats().segments.values())
        section = library_tab.section(
            active, services.models.offers(active), segments, running=services.jobs.state.running
        )
        return Update(header=header, model=section)

    def _everything(self) -> Update:
        """The panels stats, home and state."""
        library = self._services.library
        counts = library.stats()
        total = sum(counts.items.values())
        home = (
            results.glimpse_section(search.glimpses(library)) if total else results.empty_library()
        )
        return Update(
            stats=library_tab.stats(counts), home=home, state=self._state(total, counts.failed)
        )

    def files(self, values: Mapping[str, object]) -> str:
        """A page of the table of files."""
        wanted = text(values, "status")
        status = Status(wanted) if wanted in list(Status) else Status.INDEXED
        name = text(values, "name")[:200].strip()
        offset = values.get("offset")
        offset = offset if type(offset) is int and 0 < offset < MOST_NUMBER else 0
        items = self._services.library.items(
            status=status, name=name or None, limit=_FILES + 1, offset=offset
        )
        return library_tab.files(
            items[:_FILES], status=status, name=name, offset=offset, more=len(items) > _FILES
        )

    def remove(self, values: Mapping[str, object]) -> Update:
        """Removes files and shows what is left."""
        wanted = values.get("items")
        numbers = [one for one in wanted if type(one) is int] if isinstance(wanted, list) else []
        ids = [one for one in numbers if 0 <= one <= MOST_NUMBER]
        try:
            removed = self._services.library.remove(ids)
        except (IndexerError, OSError) as error:
            shown = results.problem(told(self._services.config, error))
        else:
            shown = library_tab.removed(removed)
        return self._everything()._replace(progress=shown)

    def _state(self, total: int, failed: int) -> str:
        """What the script needs to know: the folders to filter by, and counts."""
        folders = [
            {"id": folder.id, "name": folder.name, "files": folder.files}
            for folder in folder_choices(self._services.library)
        ]
        version = self._services.jobs.state.version
        known = json.dumps(
            {"version": version, "files": total, "failed": failed, "folders": folders}
        )
        return f'<div id="rz-known" hidden data-known="{escape(known)}"></div>'
