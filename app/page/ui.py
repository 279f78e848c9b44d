"""The page in Gradio: its panels, and which handler answers which event."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr
from starlette.datastructures import Headers

from app import texts
from app.api import Api
from app.config import AppConfig
from app.direct_calls import Endpoint
from app.gradio_compat import LocalizedBlocks, localize
from app.page import library_tab, macros
from app.page.events import LibraryView
from app.services import Services, error_message
from app.texts import _

_html = macros("page.html")
_collections = macros("collections.html")
_duplicates = macros("duplicates.html")
_files = macros("files.html")

_JOB_EVENTS = ("add_uploads", "add_folder", "scan", "retry", "reembed", "resume", "refresh")
_EVENTS = (*_JOB_EVENTS, "cancel", "show_model")
_CONNECT = f"""
import(new URL('%s', document.baseURI).href).then(
  (page) => page.connect(trigger, {list(_EVENTS)!r}));
"""
_MAX_PAGES = 64  # That follow a job at the same time.


def theme() -> gr.themes.Base:
    """Return a theme that gives Gradio's own parts the page's colours and the system's fonts."""
    sans = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    return gr.themes.Base(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=sans, font_mono=mono
    )


def build(services: Services, endpoints: Mapping[str, Endpoint], script: str) -> gr.Blocks:
    """Build the page over the services, with the named endpoints beside it.

    Args:
        services: What answers.
        endpoints: By name.
        script: The address of the module that connects the page's parts.
    """
    blocks = LocalizedBlocks(
        title="RzenEmbed Search",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 3600),
    )
    with blocks:
        connect = _CONNECT % script
        bridge = gr.HTML("", js_on_load=connect, elem_id="rz-bridge", apply_default_css=False)
        header = _panel("rz-head", library_tab.header)
        with gr.Tabs(elem_id="rz-tabs", selected="search", overflow_behavior="wrap"):
            with _tab(lambda: _("Search"), id="search", elem_id="rz-tab-search"):
                _panel("rz-search", _html.search_bar)
                _panel("rz-album", _collections.above_results)
                _panel("rz-results", _html.answer_area)
                _panel("rz-home", _html.timeline)
            with _tab(lambda: _("Collections"), id="collections", elem_id="rz-tab-collections"):
                _panel("rz-collections", lambda: '<div id="rz-collections-list"></div>')
                _panel("rz-duplicates", lambda: _duplicates.section(services.config.trusted))
            with _tab(lambda: _("Library"), id="library", elem_id="rz-tab-library"):
                stats = _panel("rz-stats")
                _panel("rz-add", lambda: _html.add_files(services.config.trusted))
                job = _panel("rz-ingest")
                _panel("rz-reading", lambda: '<div id="rz-reading-state"></div>')
                _panel("rz-folders", lambda: '<div id="rz-folder-list"></div>')
                model = _panel("rz-model")
                _panel("rz-file-filter", _files.filter)
                _panel("rz-files", lambda: '<div id="rz-listed"></div>')
        state = _panel("rz-state")
        view, config = LibraryView(services), services.config
        update = (
            job,
            stats,
            state,
            header,
            model,
        )  # In the order of `events.Update`.
        _listen(bridge, "cancel", _handler(view.cancel, config), job)
        _listen(bridge, "show_model", _handler(view.show_model, config), update)
        for name in _JOB_EVENTS:
            handler = _stream_handler(getattr(view, name), config)
            _listen(bridge, name, handler, update, queue=True)
        follow = _stream_handler(lambda values: view.follow(), config)
        _listen(blocks, "load", follow, update, queue=True)
        for name, endpoint in endpoints.items():
            gr.events.api(endpoint, api_name=name, queue=False)  # MCP calls it directly.
    return blocks


def endpoints(services: Services) -> dict[str, Endpoint]:
    """Return the named endpoints for programs and agents."""
    api = Api(services)
    return {
        name: _with_gradio_errors(getattr(api, name), services.config) for name in api.ENDPOINTS
    }


def _panel(elem_id: str, content: Callable[[], object] = str) -> gr.HTML:
    panel = gr.HTML(elem_id=elem_id, apply_default_css=False, js_on_load=None)
    localize(panel, "value", content)
    return panel


def _tab(label: Callable[[], str], **attributes: Any) -> gr.Tab:
    tab = gr.Tab(**attributes)
    localize(tab, "label", label)
    return tab


def _listen(source: Any, name: str, handler: Any, outputs: Any, *, queue: bool = False) -> None:
    """Answer one of the page's own events: hidden from programs, without Gradio's spinner.

    Only streams go through the queue; other events are answered by their own request.
    """
    getattr(source, name)(
        handler,
        None,
        outputs,
        api_name=f"page_{name}",
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="multiple",
        queue=queue,
        concurrency_limit=_MAX_PAGES,
    )


def _handler(function: Callable[[Mapping[str, Any]], Any], config: AppConfig) -> Any:
    def answer(event: gr.EventData, request: gr.Request) -> Any:
        with _gradio_errors(config), texts.using(_language(request)):
            return _panels(function(_values(event)))

    return answer


def _stream_handler(
    function: Callable[[Mapping[str, Any]], AsyncIterator[Any]], config: AppConfig
) -> Any:
    async def answer(event: gr.EventData, request: gr.Request) -> AsyncIterator[Any]:
        with _gradio_errors(config):
            language = _language(request)
            texts.use(language)
            async for update in function(_values(event)):
                yield _panels(update)
                texts.use(language)  # Gradio may go on in another task.

    return answer


def _language(request: gr.Request) -> str:
    return texts.preferred(Headers(dict(request.headers)))


def _values(event: gr.EventData) -> Mapping[str, Any]:
    return event._data if isinstance(event._data, Mapping) else {}


def _panels(update: Any) -> Any:
    """Return what Gradio expects for the panels of an update."""
    if not isinstance(update, tuple):
        return update
    return tuple(gr.skip() if part is None else part for part in update)


def _with_gradio_errors(endpoint: Callable[..., Any], config: AppConfig) -> Endpoint:
    @wraps(endpoint)
    def answer(*args: Any, **kwargs: Any) -> Any:
        with _gradio_errors(config):
            return endpoint(*args, **kwargs)

    return answer


@contextmanager
def _gradio_errors(config: AppConfig) -> Iterator[None]:
    """Turn errors into messages for users; Gradio would print the others with their values."""
    try:
        yield
    except Exception as error:
        raise gr.Error(error_message(config, error), print_exception=False) from None
