"""Authentication: passwords, tokens, login throttling, session cookies, and the login page."""

import base64
import hmac
import ipaddress
import math
import secrets
from collections.abc import Callable
from threading import Lock
from time import monotonic
from urllib.parse import quote

from cachetools import TTLCache
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.page import render
from app.peer import Address
from app.texts import N_, _, message_of

SESSION_SECONDS = 7 * 24 * 3600
"""How long a session lasts."""

_REMEMBERED_SECONDS = 90 * 24 * 3600
_MAX_SESSIONS = 1_000
_MAX_FORM_BYTES = 4096
_BUCKETS = 256
_BURST = 10
_SECONDS_PER_ATTEMPT = 10.0


class TooManyAttempts(Exception):
    """An address has sent too many wrong passwords.

    Attributes:
        seconds: After how many it may try again.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(
            N_(
                "Too many wrong passwords came from your address: try again in {n} seconds.",
                n=self.seconds,
            )
        )


class LoginThrottle:
    """Limits wrong passwords by address, in constant memory. Thread-safe.

    Guarantees: an address may fail ten times at once, then once every ten seconds. Failures of
    other addresses cost it nothing unless they share one of 256 leaky buckets by chance, so all
    addresses together may try 1,536 passwords a minute. Rate limiters with a counter for each
    address bound either memory or that sum, and not both.

    Args:
        now: A clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._empty_at = [0.0] * _BUCKETS  # When each bucket has leaked all it holds.
        self._lock = Lock()

    def check(self, address: str) -> None:
        """Let an address try a password.

        Raises:
            TooManyAttempts: if it has to wait.
        """
        until_empty = self._empty_at[_bucket(address)] - self._now()
        wait = until_empty - (_BURST - 1) * _SECONDS_PER_ATTEMPT
        if wait > 0:
            raise TooManyAttempts(wait)

    def record_failure(self, address: str) -> None:
        """Count a wrong password."""
        bucket = _bucket(address)
        with self._lock:
            filled_from = max(self._empty_at[bucket], self._now())
            self._empty_at[bucket] = filled_from + _SECONDS_PER_ATTEMPT


def _bucket(address: str) -> int:
    """Return an address's bucket; Python's salt for hashes keeps secret which ones share it."""
    return hash(_network(address)) % _BUCKETS


class Authenticator:
    """Checks session cookies, and Basic and Bearer credentials for programs. Thread-safe.

    Sessions are kept in memory, so that logging out ends them also for a copied cookie; a restart
    ends all. A browser that had one is known for 90 days, and waits only for its own wrong
    passwords, however many others fail. Without a password and a token everything is admitted.

    Args:
        auth: The user and the password.
        now: A clock in seconds.
        token: What programs and the address of the page may carry in place of a password.
        same_user: Whether the program at the other end of a connection, given by the addresses of
            both ends, is one of the user who started the page; such a program needs neither.
    """

    def __init__(
        self,
        auth: tuple[str, str] | None,
        now: Callable[[], float] = monotonic,
        *,
        token: str | None = None,
        same_user: Callable[[Address, Address], bool] | None = None,
    ) -> None:
        self._auth = auth
        self._token = token
        self._same_user = same_user
        self._now = now
        self._throttle = LoginThrottle(now)
        self._throttle_of_known = LoginThrottle(now)
        # Until when each admits; it is kept longer, to know its browser.
        self._sessions = TTLCache[str, float](_MAX_SESSIONS, _REMEMBERED_SECONDS, timer=now)
        self._lock = Lock()

    def verify(self, address: str, user: str, password: str, browser: str = "") -> bool:
        """Return whether user and password are right, in constant time.

        Args:
            address: Where they come from.
            user: As sent.
            password: As sent.
            browser: The key in the sender's cookie, if there is one.

        Raises:
            TooManyAttempts: if the sender has to wait, whatever it sends.
        """
        if self._auth is None:
            return self._token is None
        with self._lock:
            known = browser in self._sessions
        sender = browser if known else address
        throttle = self._throttle_of_known if known else self._throttle
        throttle.check(sender)
        user_matches = _equal(user, self._auth[0])
        password_matches = _equal(password, self._auth[1])
        if not (user_matches and password_matches):
            throttle.record_failure(sender)
            return False
        return True

    def is_token(self, value: str) -> bool:
        """Return whether a value is the token, in constant time."""
        return self._token is not None and _equal(value, self._token)

    def start_session(self, request: Request, response: Response) -> None:
        """Start a session for the browser that sent a request, by a cookie of its response."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[key] = self._now() + SESSION_SECONDS
        response.set_cookie(
            cookie_name(request),
            key,
            max_age=_REMEMBERED_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    def end_session(self, key: str) -> None:
        """End a session."""
        with self._lock:
            if key in self._sessions:
                self._sessions[key] = -math.inf

    def admits(self, request: Request) -> bool:
        """Return whether a request carries a session's cookie or credentials, or needs none.

        Raises:
            TooManyAttempts: if it carries a password, and its address has to wait.
        """
        if self._auth is None and self._token is None:
            return True
        with self._lock:
            if self._sessions.get(session_key(request), -math.inf) > self._now():
                return True
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials):
            return True
        if scheme.lower() == "basic" and self._is_login(request, credentials):
            return True
        client, server = request.scope.get("client"), request.scope.get("server")
        if self._same_user is None or client is None or server is None:
            return False
        return self._same_user(client, server)

    def _is_login(self, request: Request, encoded: str) -> bool:
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # No base64, no ASCII, no UTF-8.
            return False
        return self.verify(client_address(request), user, password)


def cookie_name(request: Request) -> str:
    """Return the cookie's name, with the port: all ports of a host share their cookies."""
    return f"rzen-session-{request.url.port or 80}"


def session_key(request: Request) -> str:
    """Return the key in a request's cookie, or an empty one."""
    return request.cookies.get(cookie_name(request), "")


def client_address(request: Request) -> str:
    """Return the address that a request comes from."""
    return request.client.host if request.client else ""


def _equal(value: str, expected: str) -> bool:
    return hmac.compare_digest(value.encode(errors="replace"), expected.encode())


def _network(address: str) -> str:
    """Return what belongs to one sender: an IPv4 address, or an IPv6 network of 2⁶⁴ addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed.packed, 64), strict=False))


def with_query(path: str, request: Request) -> str:
    """Return an address with the query of a request, in which the page keeps its search.

    A token is left out: addresses are seen and kept.
    """
    query = request.scope["query_string"].decode("ascii", "replace")
    kept = "&".join(part for part in query.split("&") if part and not part.startswith("token="))
    return quote(f"{path}?{kept}" if kept else path, safe="%/:?=&#@+,;!$'()*[]")


def login_router(authenticator: Authenticator) -> APIRouter:
    """Build GET and POST of /login and /logout; only a POST changes anything."""
    router = APIRouter()

    @router.get("/login")
    def show_login(request: Request) -> Response:
        return HTMLResponse(render("login.html", target=with_query("login", request)))

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        user, password = await _credentials(request)
        target = with_query("login", request)
        try:
            address, browser = client_address(request), session_key(request)
            if not authenticator.verify(address, user, password, browser):
                problem = _("Incorrect username or password.")
                return HTMLResponse(
                    render("login.html", problem=problem, target=target), status_code=401
                )
        except TooManyAttempts as error:
            wait = {"Retry-After": str(error.seconds)}
            problem = _(message_of(error))
            return HTMLResponse(render("login.html", problem=problem, target=target), 429, wait)
        if "text/html" in request.headers.get("accept", ""):
            response: Response = RedirectResponse(with_query(".", request), status_code=303)
        else:
            response = Response(status_code=200)
        authenticator.start_session(request, response)
        return response

    @router.get("/logout")
    def show_logout() -> Response:
        return HTMLResponse(render("login.html", logout=True))

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        authenticator.end_session(session_key(request))
        return RedirectResponse("login", status_code=303)

    return router


async def _credentials(request: Request) -> tuple[str, str]:
    """Return the form's fields; Gradio's client sends multipart, browsers a plain form."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MAX_FORM_BYTES:
        return "", ""
    async with request.form(max_files=1, max_fields=9) as form:
        return str(form.get("username", "")), str(form.get("password", ""))
