"""The page in Gradio: what stands where, and which function answers which event."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr

from app import layout, panels, views
from app import services as actions
from app.api import Api
from app.services import Services
from app.views import LibraryView
from embedder import EmbedderError
from embedder.media import MediaError
from indexer import IndexerError

TITLE = "RzenEmbed Search"
_EVENTS = ("search", "add_uploads", "add_folder", "retry", "cancel", "files", "remove", "follow")
_CONNECT = f"""
import(new URL('site/app.js', document.baseURI).href).then(
  (page) => page.connect(trigger, {list(_EVENTS)!r}));
"""
_EXPECTED = (IndexerError, EmbedderError, MediaError)


def theme() -> gr.themes.Base:
    """Gradio's own parts in the page's colours, with the fonts of the visitor's system."""
    sans = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=sans, font_mono=mono
    )


def build(services: Services) -> gr.Blocks:
    """The page over the services; `app.server` mounts it."""
    blocks = gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)
    )
    with blocks:
        bridge = gr.HTML("", js_on_load=_CONNECT, elem_id="rz-bridge", apply_default_css=False)
        _panel(layout.header(services.library.model))
        with gr.Tabs(elem_id="rz-tabs", selected="search"):
            with gr.Tab("Search", id="search", elem_id="rz-tab-search"):
                _panel(layout.search_bar(), "rz-search")
                results = _panel("", "rz-results")
                home = _panel(layout.loading(), "rz-home")
            with gr.Tab("Library", id="library", elem_id="rz-tab-library"):
                stats = _panel("", "rz-stats")
                _panel(layout.add_files(named_folders=services.config.trusted), "rz-add")
                progress = _panel("", "rz-ingest")
                _panel(layout.file_filter(), "rz-file-filter")
                files = _panel("", "rz-files")
        state = _panel("", "rz-state")
        library = (progress, stats, home, state)
        _connect_search(services, bridge, results)
        _connect_library(services, blocks, bridge, library, files)
        _serve_api(services)
    return blocks


def _panel(value: str, elem_id: str | None = None) -> gr.HTML:
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, js_on_load=None)


def _connect_search(services: Services, bridge: gr.HTML, results: gr.HTML) -> None:
    def search(event: gr.EventData) -> str:
        return views.answer(services, views.sent(event._data))

    bridge.search(search, None, results, **_quiet("search", limit=4))


def _connect_library(
    services: Services,
    blocks: gr.Blocks,
    bridge: gr.HTML,
    outputs: tuple[gr.HTML, ...],
    files: gr.HTML,
) -> None:
    view = LibraryView(services)
    progress = outputs[0]

    def follow() -> Iterator[Any]:
        for update in view.follow():
            yield tuple(gr.skip() if part is None else part for part in update)

    def started(start: Callable[[gr.EventData], None]) -> Callable[..., Iterator[Any]]:
        def run(event: gr.EventData) -> Iterator[Any]:
            try:
                start(event)
            except _EXPECTED as error:
                yield (panels.refusal(str(error), services.ingests.state), *[gr.skip()] * 3)
                if not services.ingests.state.running:
                    return
            yield from follow()

        return run

    def cancel() -> str:
        services.ingests.cancel()
        return panels.ingest(services.ingests.state)

    def list_files(event: gr.EventData) -> str:
        return view.files(views.sent(event._data))

    def remove(event: gr.EventData) -> tuple[Any, ...]:
        return view.remove(views.sent(event._data))

    add_folder = started(
        lambda event: actions.add_folder(services, views.text(views.sent(event._data), "folder"))
    )
    bridge.add_uploads(
        started(lambda _: actions.add_uploads(services)), None, outputs, **_quiet("add_uploads")
    )
    bridge.add_folder(add_folder, None, outputs, **_quiet("add_folder"))
    bridge.retry(
        started(lambda _: actions.retry_failed(services)), None, outputs, **_quiet("retry")
    )
    bridge.follow(follow, None, outputs, **_quiet("follow"))
    bridge.cancel(cancel, None, progress, **_quiet("cancel"))
    bridge.files(list_files, None, files, **_quiet("files"))
    bridge.remove(remove, None, outputs, **_quiet("remove"))
    blocks.load(follow, None, outputs, **_quiet("load"))


def _quiet(name: str, limit: int = 32) -> dict[str, Any]:
    """How the page's own events run: not listed for programs, without Gradio's own spinner."""
    return {
        "api_name": f"page_{name}",
        "api_visibility": "private",
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": limit,
    }


def _serve_api(services: Services) -> None:
    for endpoint in Api(services).endpoints():
        gr.events.api(
            _with_sentences(endpoint),
            api_name=endpoint.__name__,
            queue=False,  # Answers MCP calls in place, without a detour over HTTP.
        )


def _with_sentences(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Errors made for people reach the caller as they are; others stay in the log."""

    @wraps(endpoint)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except _EXPECTED as error:
            raise gr.Error(str(error), print_exception=False) from error

    return wrapped
