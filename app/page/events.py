"""The handlers of the page's events: from the values that an event carries to new panels."""

from collections.abc import AsyncIterator, Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple

from anyio import sleep, to_thread
from pydantic import BaseModel

from app import services as actions
from app.models import suggested
from app.page import labels, library_tab, results
from app.page.labels import folder_choices
from app.search import (
    SearchForm,
    Text,
    validated,
)
from app.services import EXPECTED_ERRORS, Services, error_message

_POLL_SECONDS = 0.3
_MAX_UPDATE_SECONDS = 2.0


class Update(NamedTuple):
    """New content of the panels; None leaves one as it is.

    When the state changes the page requests its page of the table of files again.
    """

    progress: str | None = None
    stats: str | None = None
    state: str | None = None
    header: str | None = None
    model: str | None = None


class ModelChoice(BaseModel):
    """The model that was chosen, by the id of its offer.

    Attributes:
        download: Download it if it is not on this machine; the user has agreed.
        leave_out: Switch even if files are missing, without them.
    """

    model: Text = ""
    download: bool = False
    leave_out: bool = False


class LibraryView:
    """The panels, and what answers the page's events.

    The methods that start a job then follow it to its end.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def results(self, values: Mapping[str, Any]) -> str:
        """Return the results of a search; an error becomes a sentence in their place."""
        try:
            form, _ = validated(SearchForm, values).dated(self._services.library)
            session = self._services.searches.open(form)
            if session.is_empty():
                has_files = any(self._services.library.catalog.stats().items.values())
                return results.nothing_found(has_files, session.filtered)
            return results.search_results(session)
        except Exception as error:
            return results.problem(error_message(self._services.config, error))

    def period(self, values: Mapping[str, Any]) -> dict[str, str] | None:
        """Return the date that a search has in its words, and the words without it."""
        try:
            form, period = validated(SearchForm, values).dated(self._services.library)
        except Exception:  # The results say what is wrong.
            return None
        if period is None:
            return None
        shown = {"label": labels.period(period), "phrase": period.phrase, "text": form.text}
        return shown | {"after": form.after, "before": form.before}

    # ---- following what runs

    async def follow(self, refusal: str = "") -> AsyncIterator[Update]:
        """Show everything once, then the progress as it changes, then everything again.

        The model comes apart: opening it may take seconds. No thread waits meanwhile: there may be
        more pages than threads.

        Args:
            refusal: Why a requested job was not started, shown above the one that runs.
        """
        state = self._services.jobs.state
        everything = await to_thread.run_sync(self._everything)
        yield everything._replace(progress=library_tab.job(state, refusal))
        yield await to_thread.run_sync(self.model)
        ran = state.running
        while state.running:
            version, since = state.version, monotonic()
            while state.version == version and monotonic() - since < _MAX_UPDATE_SECONDS:
                await sleep(_POLL_SECONDS)
                state = self._services.jobs.state
            yield Update(progress=library_tab.job(state, refusal if state.running else ""))
        if ran:
            yield await to_thread.run_sync(self.model)
            everything = await to_thread.run_sync(self._everything)
            yield everything._replace(progress=library_tab.job(state))

    async def _start(self, start: Callable[[], None]) -> AsyncIterator[Update]:
        refusal = ""
        try:
            await to_thread.run_sync(start)
        except EXPECTED_ERRORS as error:
            refusal = error_message(self._services.config, error)
        async for update in self.follow(refusal):
            yield update

    def add_uploads(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Add what was uploaded."""
        return self._start(lambda: actions.add_uploads(self._services))

    def add_folder(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Add the folder that was named."""
        folder = str(values.get("folder") or "")
        return self._start(lambda: actions.add_folder(self._services, folder))

    def scan(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Ingest the remembered folders again."""
        return self._start(lambda: actions.scan_folders(self._services))

    def retry(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Ingest the failed files again."""
        return self._start(lambda: actions.retry_failed(self._services))

    def reembed(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Re-embed the library with the model that was chosen."""

        def start() -> None:
            choice = validated(ModelChoice, values)
            actions.reembed(
                self._services,
                choice.model,
                download=choice.download,
                leave_out=choice.leave_out,
            )

        return self._start(start)

    def resume(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Go on with the job that was cancelled."""
        return self._start(self._services.jobs.resume)

    def refresh(self, values: Mapping[str, Any]) -> AsyncIterator[Update]:
        """Show what has changed otherwise, and follow the job that runs."""
        return self.follow()

    def cancel(self, values: Mapping[str, Any]) -> str:
        """Stop the running job."""
        self._services.jobs.cancel()
        return library_tab.job(self._services.jobs.state)

    # ---- panels

    def model_mark(self) -> str:
        """Return what tells the library's model from others."""
        return self._services.models.active().mark

    def show_model(self, values: Mapping[str, Any]) -> Update:
        """Describe the library's model, which is another one than the page describes."""
        return self.model()

    def model(self, shown: str = "") -> Update:
        """Return the panels that describe the library's model.

        Args:
            shown: Mark of the model that the page describes already; nothing changes if the
                library still has that one.
        """
        services = self._services
        active, trusted = services.models.active(), services.config.trusted
        if active.mark == shown:
            return Update()
        header = library_tab.header(active, trusted=trusted)
        if not trusted:
            return Update(header=header)
        counts = services.library.catalog.stats()
        offers = services.models.offers(active)
        section = library_tab.model_section(
            active,
            offers,
            sum(counts.segments.values()),
            suggested=suggested(active, offers, counts),
            running=services.jobs.state.running,
        )
        return Update(header=header, model=section)

    def _everything(self) -> Update:
        """Return the panels stats and state."""
        library = self._services.library
        counts = library.catalog.stats()
        folders = folder_choices(library)
        state = library_tab.state(self._services.jobs.state.version, counts, folders)
        return Update(
            stats=library_tab.stats(counts),
            state=state,
        )
