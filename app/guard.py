"""Access control: an ASGI middleware in front of every route, Gradio's included.

It refuses

- a `Host` header that is neither an IP address nor one of this machine's names, so that a foreign
  web site cannot reach the page by pointing its own name at this machine (DNS rebinding);
- requests from the pages of another site or port (CSRF), except for links to the page;
- Gradio's routes that read files, fetch URLs or run developer tools, by allowing only the few
  that the page and the API need;
- requests without a login or token, if one is required.
"""

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth import Authenticator, TooManyAttempts, with_query
from app.config import AppConfig
from app.texts import N_, _, message_of

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")
_MAX_PORT = 65535

_GRADIO_ROUTES = re.compile(
    r"/gradio_api/("
    r"info|config|openapi\.json|app_id|theme\.css|login_check|startup-events|cancel|reset"
    r"|queue/(join|data|status)|heartbeat/\w+"
    r"|(run|api|call|call/v2)/\w+|call/\w+/\w+"
    r"|upload|mcp(/http)?"
    r")/?"
)
_WITH_PARAMETERS = (
    "media|thumbnail|page|frame|detail|results|suggestions|query-files|uploads|items|duplicates"
    "|albums|searches|collections|files|folders|timeline|reading"
)
_OWN_ROUTES = re.compile(
    r"/|/(config|theme\.css|robots\.txt|manifest\.json|favicon\.ico|health)/?|/login|/logout"
    rf"|/(static|assets|site)/.*|/messages\.js|/desktop/\d+/(show|open)|/({_WITH_PARAMETERS})(/.*)?"
)
# Characters that a later layer may decode or normalise to another path: no route needs them.
_UNSAFE_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\\%]")
_MAX_PATH = 500
_NO_TOKEN = N_(
    "This library is open only to the one who started the page. Open the address that was printed "
    'then and ends in ?token=…; programs send that token as "Authorization: Bearer …".'
)
_WITH_QUERIES = re.compile(rf"/login|/({_WITH_PARAMETERS})(/.*)?")
_WITHOUT_LOGIN = re.compile(r"/(login|favicon\.ico|robots\.txt|health|site/.*)")

# Gradio compiles its templates in the browser and styles elements in place.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HEADERS_OF_DOCUMENTS = _HEADERS | {
    "Content-Security-Policy": _POLICY,
    # With no-referrer, browsers would send the login's own form with "Origin: null".
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
}
# What runs nothing and loads nothing, even when it is opened by itself. A first visit asks for
# eighty of these, and the headers of documents would be 30 kB.
_NO_DOCUMENTS = re.compile(r"text/(javascript|css)\b|image/(jpeg|webp)$")


class Guard:
    """Refuses requests that may not pass, and adds security headers to all responses."""

    def __init__(self, app: ASGIApp, config: AppConfig, authenticator: Authenticator) -> None:
        self._app = app
        self._names = config.names
        self._has_login = config.auth is not None
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # No route uses websockets.
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope)
        refusal = self._refusal(request)
        app = refusal if refusal is not None else self._app
        await app(_without_query(scope), receive, _with_headers(send))

    def _refusal(self, request: Request) -> Response | None:
        checks: tuple[Callable[[Request], Response | None], ...] = (
            self._foreign_host,
            _foreign_site,
            _unknown_route,
            self._token_in_address,
            self._not_admitted,
        )
        return next((refusal for check in checks if (refusal := check(request))), None)

    def _foreign_host(self, request: Request) -> Response | None:
        host = _HOST.fullmatch(request.headers.get("host", "").lower())
        if (
            host is not None
            and int(host[2] or 0) <= _MAX_PORT
            and (host[1] in self._names or _is_address(host[1]))
        ):
            return None
        return PlainTextResponse(
            _(
                "The page does not answer to this name. Open it by its IP address, or start it "
                "with --name and this name."
            ),
            status_code=421,
        )

    def _token_in_address(self, request: Request) -> Response | None:
        """Exchange the token of the printed address for a cookie: addresses are seen and kept."""
        is_page = request.method == "GET" and request.scope["path"] == "/"
        if not is_page or not self._authenticator.is_token(request.query_params.get("token", "")):
            return None
        response = RedirectResponse(with_query(".", request), status_code=303)
        self._authenticator.start_session(request, response)
        return response

    def _not_admitted(self, request: Request) -> Response | None:
        path = request.scope["path"]
        if _WITHOUT_LOGIN.fullmatch(path):
            return None
        try:
            if self._authenticator.admits(request):
                return None
        except TooManyAttempts as error:
            wait = {"Retry-After": str(error.seconds)}
            return PlainTextResponse(_(message_of(error)), status_code=429, headers=wait)
        if _is_link_to_page(request) and request.headers.get("sec-fetch-site") == "cross-site":
            # Browsers send no cookie with another site's link, but with what our page asks for.
            again = {"Refresh": f"0; url={with_query('./', request)}"}
            return PlainTextResponse(_("Opening the library"), headers=again)
        if self._has_login and request.method == "GET" and path == "/":
            return RedirectResponse(with_query("login", request), status_code=303)
        return PlainTextResponse(_("Log in first.") if self._has_login else _(_NO_TOKEN), 401)


def _foreign_site(request: Request) -> Response | None:
    origin = request.headers.get("origin")
    here = request.headers.get("host", "")
    foreign_origin = origin is not None and _netloc(origin) != here
    # Another port of this host is the same site, and gets its cookies.
    foreign_site = request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    if foreign_origin or (foreign_site and not _is_link_to_page(request)):
        return PlainTextResponse("Requests from other sites are not allowed.", status_code=403)
    return None


def _is_link_to_page(request: Request) -> bool:
    navigates = request.headers.get("sec-fetch-mode") == "navigate"
    return navigates and request.method == "GET" and request.scope["path"] in {"/", "/login"}


def _unknown_route(request: Request) -> Response | None:
    path: str = request.scope["path"]
    unsafe = (
        ".." in path.split("/")
        or len(path) > _MAX_PATH
        or _UNSAFE_CHARACTERS.search(path)
        # URLs are ASCII (RFC 3986), which later layers rely on and not every server enforces.
        or not request.scope["query_string"].isascii()
    )
    if not unsafe and (_GRADIO_ROUTES.fullmatch(path) or _OWN_ROUTES.fullmatch(path)):
        return None
    return PlainTextResponse("Not found", status_code=404)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _without_query(scope: Scope) -> Scope:
    """Drop all but the session from a query: Gradio would serve deep links and the like."""
    if _WITH_QUERIES.fullmatch(scope["path"]):
        return scope
    kept = re.search(rb"(?:^|&)(session_hash=[\w-]*)(?=&|$)", scope["query_string"])
    return {**scope, "query_string": kept[1] if kept else b""}


def _is_address(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host[1:-1]) if host[0] == "[" else ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            inert = _NO_DOCUMENTS.match(headers.get("content-type", "")) is not None
            for name, value in (_HEADERS if inert else _HEADERS_OF_DOCUMENTS).items():
                headers.setdefault(name, value)
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]  # Gradio lets other ports of localhost read its routes.
            message["headers"] = headers.raw
        await send(message)

    return wrapped
