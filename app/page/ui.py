"""The page in Gradio: what stands where, and which function answers which event."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial, wraps
from typing import Any

import gradio as gr
from anyio import CapacityLimiter, to_thread

from app import services as actions
from app.api import Api
from app.config import AppConfig
from app.gradio_compat import Endpoint, described
from app.page import events as views
from app.page import library_tab
from app.page.events import LibraryView
from app.services import Services
from embedder import EmbedderError
from embedder.media import MediaError
from indexer import IndexerError

_log = logging.getLogger(__name__)

TITLE = "RzenEmbed Search"
_EVENTS = (
    "search",
    "add_uploads",
    "add_folder",
    "retry",
    "reembed",
    "cancel",
    "files",
    "remove",
)
_CONNECT = f"""
import(new URL('site/app.js', document.baseURI).href).then(
  (page) => page.connect(trigger, {list(_EVENTS)!r}));
"""
_WATCHERS = 64
_EXPECTED = (IndexerError, EmbedderError, MediaError)


def theme() -> gr.themes.Base:
    """Gradio's own parts in the page's colours, with the fonts of the visitor's system."""
    sans = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=sans, font_mono=mono
    )


def build(services: Services, endpoints: Mapping[str, Endpoint]) -> gr.Blocks:
    """The page over the services, with the endpoints beside it; `app.server` mounts it."""
    blocks = gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)
    )
    with blocks:
        bridge = gr.HTML("", js_on_load=_CONNECT, elem_id="rz-bridge", apply_default_css=False)
        header = _panel(library_tab.header(), "rz-head")
        with gr.Tabs(elem_id="rz-tabs", selected="search"):
            with gr.Tab("Search", id="search", elem_id="rz-tab-search"):
                _panel(library_tab.search_bar(), "rz-search")
                results = _panel("", "rz-results")
                home = _panel(library_tab.loading(), "rz-home")
            with gr.Tab("Library", id="library", elem_id="rz-tab-library"):
                stats = _panel("", "rz-stats")
                _panel(library_tab.add_files(named_folders=services.config.trusted), "rz-add")
                job = _panel("", "rz-ingest")
                model = _panel("", "rz-model")
                _panel(library_tab.file_filter(), "rz-file-filter")
                files = _panel("", "rz-files")
        state = _panel("", "rz-state")
        _connect_search(LibraryView(services), services, bridge, (results, header, model))
        outputs = (job, stats, home, state, header, model)  # As in `views.Update`.
        _connect_library(LibraryEvents(services), blocks, bridge, outputs, files)
        for name, endpoint in endpoints.items():
            # Answers MCP calls in place, without a detour over HTTP.
            gr.events.api(endpoint, api_name=name, queue=False)
    return blocks


def _panel(value: str, elem_id: str | None = None) -> gr.HTML:
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, js_on_load=None)


def _connect_search(
    view: LibraryView, services: Services, bridge: gr.HTML, outputs: tuple[gr.HTML, ...]
) -> None:
    def answered(data: object) -> tuple[Any, ...]:
        values = views.sent(data)
        answer = views.answer(services, values)
        model = view.model(views.text(values, "model"))  # Another program may have changed it.
        return (answer, *_parts((model.header, model.model)))

    in_turn = _in_turn(_with_sentences(answered, services.config), services.turns)

    async def search(event: gr.EventData) -> tuple[Any, ...]:
        found: tuple[Any, ...] = await in_turn(event._data)
        return found

    bridge.search(search, None, outputs, **_quiet("search"))


def _connect_library(
    events: "LibraryEvents",
    blocks: gr.Blocks,
    bridge: gr.HTML,
    outputs: tuple[gr.HTML, ...],
    files: gr.HTML,
) -> None:
    def told(event: Callable[..., Any]) -> Callable[..., Any]:
        return _with_sentences(event, events.config)

    def streamed(event: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        return _streamed(event, events.config)

    for name in ("add_uploads", "add_folder", "retry", "reembed"):
        listen = getattr(bridge, name)
        listen(streamed(getattr(events, name)), None, outputs, **_quiet(name, streams=True))
    bridge.cancel(told(events.cancel), None, outputs[0], **_quiet("cancel"))
    bridge.files(told(events.files), None, files, **_quiet("files"))
    bridge.remove(told(events.remove), None, outputs, **_quiet("remove"))
    blocks.load(streamed(events.follow), None, outputs, **_quiet("load", streams=True))


class LibraryEvents:
    """What answers the library tab; the ones that start a job then follow it to its end."""

    def __init__(self, services: Services) -> None:
        self.config = services.config
        self._services = services
        self._view = LibraryView(services)

    def follow(self) -> AsyncIterator[Any]:
        """What there is, then the running job as it goes on."""
        return self._followed("")

    def add_uploads(self) -> AsyncIterator[Any]:
        """Adds what was uploaded."""
        return self._started(lambda: actions.add_uploads(self._services))

    def add_folder(self, event: gr.EventData) -> AsyncIterator[Any]:
        """Adds the folder that was named."""
        folder = views.text(views.sent(event._data), "folder")
        return self._started(lambda: actions.add_folder(self._services, folder))

    def retry(self) -> AsyncIterator[Any]:
        """Tries the failed files again."""
        return self._started(lambda: actions.retry_failed(self._services))

    def reembed(self, event: gr.EventData) -> AsyncIterator[Any]:
        """Computes all vectors anew with the model that was chosen."""
        values = views.sent(event._data)
        wanted, leave_out = views.text(values, "model"), values.get("leave_out") is True
        return self._started(lambda: actions.reembed(self._services, wanted, leave_out=leave_out))

    def cancel(self) -> str:
        """Stops the running job."""
        self._services.jobs.cancel()
        return library_tab.job(self._services.jobs.state)

    def files(self, event: gr.EventData) -> str:
        """A page of the table of files."""
        return self._view.files(views.sent(event._data))

    def remove(self, event: gr.EventData) -> tuple[Any, ...]:
        """Removes the files that were ticked."""
        return _parts(self._view.remove(views.sent(event._data)))

    async def _started(self, start: Callable[[], None]) -> AsyncIterator[Any]:
        refused = ""
        try:
            await to_thread.run_sync(start)
        except _EXPECTED as error:
            refused = actions.told(self._services.config, error)
        async for parts in self._followed(refused):
            yield parts

    async def _followed(self, refused: str) -> AsyncIterator[Any]:
        async for update in self._view.follow(refused):
            yield _parts(update)


def _parts(update: tuple[str | None, ...]) -> tuple[Any, ...]:
    """What Gradio is given for the panels of an update."""
    return tuple(gr.skip() if part is None else part for part in update)


def _quiet(name: str, *, streams: bool = False) -> dict[str, Any]:
    """How the page's own events run: not listed for programs, without Gradio's own spinner.

    Only what streams goes through the queue; the rest is answered by its own request.
    """
    return {
        "api_name": f"page_{name}",
        "api_visibility": "private",
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "queue": streams,
        "concurrency_limit": _WATCHERS,
    }


def endpoints(services: Services) -> dict[str, Endpoint]:
    """What programs can ask for, by name; searches wait for their turn."""
    api = Api(services)
    searches = (api.search, api.similar)
    return {
        one.__name__: _in_turn(
            _with_sentences(one, services.config), services.turns if one in searches else None
        )
        for one in api.endpoints()
    }


def _in_turn(endpoint: Callable[..., Any], turns: CapacityLimiter | None) -> Endpoint:
    """The endpoint in a thread, once it is its turn."""

    @wraps(endpoint)
    async def waiting(*args: Any, **kwargs: Any) -> Any:
        return await to_thread.run_sync(partial(endpoint, *args, **kwargs), limiter=turns)

    return waiting


def _with_sentences(function: Callable[..., Any], config: AppConfig) -> Callable[..., Any]:
    """The function, whose errors reach people as sentences; Gradio would print all of them."""

    @wraps(function)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise _sentence(error, config) from None

    return answering


def _streamed(
    function: Callable[..., AsyncIterator[Any]], config: AppConfig
) -> Callable[..., AsyncIterator[Any]]:
    """Like `_with_sentences`, for what answers more than once."""

    @wraps(function)
    async def streaming(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            async for answer in function(*args, **kwargs):
                yield answer
        except Exception as error:
            raise _sentence(error, config) from None

    return streaming


def _sentence(error: Exception, config: AppConfig) -> gr.Error:
    """What people are told of an error; if it was not made for them, the log has the place."""
    if isinstance(error, _EXPECTED):
        return gr.Error(actions.told(config, error), print_exception=False)
    _log.error("something unforeseen went wrong: %s", described(error))
    told = "something unforeseen went wrong: the server's log says more"
    return gr.Error(told, print_exception=False)
