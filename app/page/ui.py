"""The page in Gradio: its panels, and which handler answers which event."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from app.api import Api
from app.config import AppConfig
from app.gradio_compat import Endpoint
from app.page import library_tab, macros
from app.page.events import LibraryView
from app.services import Services, error_message

_html = macros("page.html")

_JOB_EVENTS = ("add_uploads", "add_folder", "retry", "reembed")
_EVENTS = ("search", *_JOB_EVENTS, "cancel", "files", "remove")
_CONNECT = f"""
import(new URL('site/app.js', document.baseURI).href).then(
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


def build(services: Services, endpoints: Mapping[str, Endpoint]) -> gr.Blocks:
    """Build the page over the services, with the named endpoints beside it."""
    blocks = gr.Blocks(
        title="RzenEmbed Search",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 3600),
    )
    with blocks:
        bridge = gr.HTML("", js_on_load=_CONNECT, elem_id="rz-bridge", apply_default_css=False)
        header = _panel("rz-head", library_tab.header())
        with gr.Tabs(elem_id="rz-tabs", selected="search"):
            with gr.Tab("Search", id="search", elem_id="rz-tab-search"):
                _panel("rz-search", _html.search_bar())
                results = _panel("rz-results")
                home = _panel("rz-home", _html.loading())
            with gr.Tab("Library", id="library", elem_id="rz-tab-library"):
                stats = _panel("rz-stats")
                _panel("rz-add", _html.add_files(services.config.trusted))
                job = _panel("rz-ingest")
                model = _panel("rz-model")
                _panel("rz-file-filter", _html.file_filter())
                files = _panel("rz-files")
        state = _panel("rz-state")
        view, config = LibraryView(services), services.config
        update = (job, stats, home, state, header, model)  # In the order of `events.Update`.
        outputs = {"search": (results, header, model), "cancel": job, "files": files}
        for name in ("search", "cancel", "files", "remove"):
            handler = _handler(getattr(view, name), config)
            _listen(bridge, name, handler, outputs.get(name, update))
        for name in _JOB_EVENTS:
            handler = _stream_handler(getattr(view, name), config)
            _listen(bridge, name, handler, update, queue=True)
        _listen(
            blocks, "load", _stream_handler(lambda _: view.follow(), config), update, queue=True
        )
        for name, endpoint in endpoints.items():
            gr.events.api(endpoint, api_name=name, queue=False)  # MCP calls it directly.
    return blocks


def endpoints(services: Services) -> dict[str, Endpoint]:
    """Return the named endpoints for programs and agents."""
    api = Api(services)
    return {
        name: _with_gradio_errors(getattr(api, name), services.config) for name in api.ENDPOINTS
    }


def _panel(elem_id: str, value: str = "") -> gr.HTML:
    return gr.HTML(str(value), elem_id=elem_id, apply_default_css=False, js_on_load=None)


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
    def answer(event: gr.EventData) -> Any:
        with _gradio_errors(config):
            return _panels(function(_values(event)))

    return answer


def _stream_handler(
    function: Callable[[Mapping[str, Any]], AsyncIterator[Any]], config: AppConfig
) -> Any:
    async def answer(event: gr.EventData) -> AsyncIterator[Any]:
        with _gradio_errors(config):
            async for update in function(_values(event)):
                yield _panels(update)

    return answer


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
