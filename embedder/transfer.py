"""Transfer of listings and large files from the Hugging Face hub, over HTTP."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, NoReturn, Self
from urllib.parse import urlsplit

from embedder.interface import EmbedderUnavailable

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS = 20.0
_MAX_TRIES = 4  # in a row that bring nothing
_PAUSE_SECONDS = 1.0
_MAX_JSON_BYTES = 16_000_000
_RANGE_NOT_SATISFIABLE = 416
_TEMPORARY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class _Interrupted(Exception):
    """A request failed in a way that may not happen again."""


class HubClient:
    """Reads from the hub.

    A token, of HF_TOKEN or of `hf auth login`, is sent to that host only: httpx drops it when it is
    redirected to another one. Proxies are those of the environment.

    Args:
        check_stopped: Called before each request and after each block; what it raises ends the
            transfer.

    Raises:
        EmbedderUnavailable: HF_HUB_OFFLINE forbids it, or the environment's settings are wrong.
    """

    def __init__(self, check_stopped: Callable[[], None]) -> None:
        import httpx
        from huggingface_hub import constants, get_token

        if constants.HF_HUB_OFFLINE:
            raise EmbedderUnavailable(
                "HF_HUB_OFFLINE forbids downloads: unset it, or copy a folder with the model here"
            )
        self._check_stopped = check_stopped
        headers = {"Accept-Encoding": "identity", "User-Agent": "rzen-search"}
        if token := get_token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._client = httpx.Client(
                headers=headers, timeout=_TIMEOUT_SECONDS, follow_redirects=True, max_redirects=5
            )
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise EmbedderUnavailable(
                f"no connection is possible with these settings ({error}): check the variables of "
                "proxies and certificates, and HF_TOKEN"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def read_json(self, url: str) -> Any:
        """Return the JSON at an address of the hub.

        Raises:
            EmbedderUnavailable: the hub cannot be reached, refuses, or answers with something else.
        """
        tries = _Tries(url)
        while True:
            self._check_stopped()
            try:
                return json.loads(self._read(url))
            except _Interrupted as error:
                tries.count(error)
            except (ValueError, RecursionError) as error:
                raise EmbedderUnavailable(
                    f"{url} does not list files: check HF_ENDPOINT"
                ) from error

    def _read(self, url: str) -> bytes:
        body = bytearray()
        with self._response(url) as response:
            for block in response.iter_bytes():
                body += block
                if len(body) > _MAX_JSON_BYTES:
                    raise EmbedderUnavailable(f"{url} is too long for a list of files")
        return bytes(body)

    def download(self, url: str, size: int, to: Path) -> Iterator[int]:
        """Download a file, or what is missing of it; after an interruption, go on from there.

        Args:
            url: Where the hub has it.
            size: In bytes; never more is written.
            to: The file to make or to complete.

        Yields:
            The number of bytes that are here, before each request and after each block.

        Raises:
            EmbedderUnavailable: the hub cannot be reached, refuses, or sends more than that.
            OSError: the file cannot be written.
        """
        tries = _Tries(url)
        to.touch()
        while (here := to.stat().st_size) != size:
            self._check_stopped()
            yield here
            try:
                yield from self._receive(url, here, size, to)
            except _Interrupted as error:
                tries.count(error, to.stat().st_size)

    def _receive(self, url: str, start: int, size: int, to: Path) -> Iterator[int]:
        """Write what a server sends from a position on, or all where it ignores positions."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._response(url, headers) as response:
            resumed = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            with to.open("ab" if start and resumed else "wb") as file:
                if response.status_code == _RANGE_NOT_SATISFIABLE:
                    raise _Interrupted("the server's file is shorter than what has arrived")
                for block in response.iter_raw():
                    if file.tell() + len(block) > size:
                        raise EmbedderUnavailable(
                            f"{url} is longer than the {size:,} bytes that are stated: try again "
                            "later, or use another HF_ENDPOINT"
                        )
                    file.write(block)
                    yield file.tell()
                    self._check_stopped()
                if file.tell() < size:
                    raise _Interrupted("the connection ended early")

    @contextmanager
    def _response(
        self, url: str, headers: dict[str, str] | None = None
    ) -> "Iterator[httpx.Response]":
        """Request a URL; raise for what is no success, but not where a range was beyond the end."""
        import httpx

        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if response.status_code in _TEMPORARY_STATUSES:
                    raise _Interrupted(f"it answers with status {response.status_code}")
                if not response.is_success and response.status_code != _RANGE_NOT_SATISFIABLE:
                    _refuse(url, response.status_code)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Interrupted(str(error) or type(error).__name__) from error


def _refuse(url: str, status: int) -> NoReturn:
    """Raise what a status of a response means, and what to do."""
    if status in (401, 403):
        advice = (
            "it asks for an account, or there is no such model: check the name, accept the "
            "model's terms on its page, and set HF_TOKEN to your token"
        )
    elif status == 404:
        advice = "there is no such model, or it lacks this file: check the name"
    else:
        advice = "try again later"
    raise EmbedderUnavailable(f"{url} was refused with status {status}: {advice}")


class _Tries:
    """Waits after an interruption, and gives up after some in a row that brought nothing."""

    def __init__(self, url: str) -> None:
        self._host, self._furthest, self._failed = urlsplit(url).netloc, 0, 0

    def count(self, error: _Interrupted, here: int = 0) -> None:
        """Count an interruption.

        Args:
            error: What interrupted it.
            here: How many bytes are here.

        Raises:
            EmbedderUnavailable: it is one too many.
        """
        self._failed = 0 if here > self._furthest else self._failed + 1
        self._furthest = max(self._furthest, here)
        if self._failed == _MAX_TRIES:
            raise EmbedderUnavailable(
                f"the download from {self._host} failed ({error}): check the connection to the "
                "internet and try again; what has arrived is kept"
            ) from error
        sleep(_PAUSE_SECONDS)
