"""`python -m app`: serve the page until it is interrupted."""

import gc
import inspect
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.config import AppConfig, parse

if TYPE_CHECKING:
    from indexer import Library

_log = logging.getLogger("app")
# Some of them log what users search for, or their passwords.
_VERBOSE_LOGGERS = (
    *("asyncio", "faiss", "httpcore", "httpx", "mcp", "python_multipart", "sqlalchemy"),
    *("sse_starlette", "uvicorn.access", "watchfiles"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted.

    Returns:
        0; 2 if the page cannot be served, with the reason on standard error; 130 if it was
        interrupted while starting.
    """
    config = parse(sys.argv[1:] if arguments is None else arguments)
    from indexer.cli import VisibleFormatter, prepare_output, refuse

    prepare_output()
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        listening = listen(config.host, config.port)
    except OSError as error:
        return refuse("rzen-app", _listen_problem(config, error))
    with listening, ExitStack() as opened:
        try:
            from app.uploads import workspace

            # Private, for files to search with; the folders of killed servers are deleted.
            scratch = opened.enter_context(workspace(Path(tempfile.gettempdir()), "rzen-app-"))
            _isolate_gradio(scratch)
            return _serve(config, listening, scratch)
        except KeyboardInterrupt:
            return 130  # Interrupted before there was anything to shut down.


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that a port in use is noticed before anything is loaded.

    Raises:
        OSError: if the address is unknown or the port taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def _listen_problem(config: AppConfig, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"unknown address {config.host!r}: choose another --host"
    if isinstance(error, PermissionError):
        return f"no permission to use port {config.port}: choose one above 1023 with --port"
    return (
        f"cannot use port {config.port} of {config.host} ({error.strerror}): close the program "
        f"that uses it, or choose another one, for instance --port {config.port + 1}"
    )


def _isolate_gradio(scratch: Path) -> None:
    """Turn off telemetry and shared folders; takes effect only before Gradio is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(scratch)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(scratch / "examples")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    skip_gradio_stubs()


def skip_gradio_stubs() -> None:
    """Halve the time to import Gradio 6.31: it would compare its type stubs with its sources.

    It looks for the source of each component class; where it finds none, it has no stub to write.
    """
    getfile = inspect.getfile

    def found(described: Any) -> str:
        callers = list(islice(traceback.walk_stack(sys._getframe(1)), 2))  # PyTorch wraps it, too
        if any(one.f_globals.get("__name__") == "gradio.component_meta" for one, _ in callers):
            raise OSError("no stubs are wanted")
        return getfile(described)

    inspect.getfile = found  # type: ignore[assignment]  # its parameter has another name


def _serve(config: AppConfig, listening: socket.socket, scratch: Path) -> int:
    from embedder import EmbedderError
    from embedder.registry import open_reranker
    from indexer import IndexerError, Library
    from indexer.cli import refuse
    from indexer.search.reranking import PageReranker

    device, dtype, reranker = config.device, config.dtype, None
    try:
        if config.reranker:
            reranker = PageReranker(open_reranker(config.reranker, device=device, dtype=dtype))
        library = Library.open(config.library, model=config.model, device=device, dtype=dtype)
    except (IndexerError, EmbedderError) as error:
        return refuse("rzen-app", error)
    library.reranker = reranker
    with library, _incoming(library) as incoming:
        _run(config, library, listening, scratch, incoming)
    return 0


@contextmanager
def _incoming(library: "Library") -> Iterator[Path]:
    """Create a folder for unfinished and removed uploads, and delete those of killed servers."""
    from app.services import INCOMING
    from app.uploads import workspace

    folder = library.directory / INCOMING
    with ExitStack() as opened:
        with suppress(OSError):  # A read-only library is served, too.
            folder = opened.enter_context(workspace(folder, "upload-"))
        yield folder


def _run(
    config: AppConfig, library: "Library", listening: socket.socket, scratch: Path, incoming: Path
) -> None:
    import uvicorn

    from app import server, services

    parts = services.build(config, library, scratch, incoming)
    warming = threading.Thread(target=_warm_up, args=(library,), name="warm-up", daemon=True)

    def on_start() -> None:
        port = listening.getsockname()[1]
        _greet(config, port)
        warming.start()
        if config.open and _has_screen():
            address = _address(config, port)
            if config.admits_own_user:  # Other users of the machine see a browser's arguments.
                address = address.partition("?")[0]
            threading.Timer(0.5, webbrowser.open, [address]).start()

    settings = uvicorn.Config(
        server.build(parts, on_start),
        log_level="warning",
        timeout_graceful_shutdown=3,
        proxy_headers=bool(config.proxy),  # Else anyone could say where a request comes from.
        forwarded_allow_ips=list(config.proxy),
        access_log=False,
        server_header=False,  # Of use to few, and in each of sixty answers of a first visit.
    )
    # Uvicorn shuts down at a signal and raises it again: as an exception, so that all is closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvicorn.Server(settings).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        parts.close()
        if warming.is_alive():
            warming.join()  # Exiting while a model loads may crash.


def _greet(config: AppConfig, port: int) -> None:
    print(f"RzenEmbed Search is at {_address(config, port)} (stop it with Ctrl+C)", flush=True)
    if not config.trusted:
        print("Anyone on the network can search this library: use --auth.", file=sys.stderr)


def _address(config: AppConfig, port: int) -> str:
    """Return the address to open, with the token unless people log in."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    query = f"?token={quote(config.token)}" if config.token and config.auth is None else ""
    return f"http://{host}:{port}/{query}"


def _has_screen() -> bool:
    """Return whether there is a screen; without one, a text browser might take the terminal."""
    on_x = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or bool(on_x)


def _warm_up(library: "Library") -> None:
    from app.search import warm_up

    try:
        warm_up(library)
    except Exception as error:
        _log.warning("the model could not be loaded yet: %s", error)
    # The quarter of a million objects that exist by now stay: scanning them for garbage would stop
    # all searches for 0.2 seconds, several times a minute under load (benchmarks/clients.py).
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
