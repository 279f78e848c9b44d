"""Authentication: password checks, login throttling, session cookies, and the login page."""

import base64
import hmac
import ipaddress
import math
import secrets
from collections.abc import Callable
from threading import Lock
from time import monotonic

from cachetools import TTLCache
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.page import render

SESSION_SECONDS = 7 * 24 * 3600
"""How long a session lasts."""

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
            f"Too many wrong passwords came from your address: try again in {self.seconds} seconds."
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
    """Checks session cookies, and HTTP Basic credentials for programs. Thread-safe.

    Sessions are kept in memory, so that logging out ends them also for a copied cookie; a restart
    ends all. Without a user and password everything is admitted.

    Args:
        auth: The user and the password.
        now: A clock in seconds.
    """

    def __init__(self, auth: tuple[str, str] | None, now: Callable[[], float] = monotonic) -> None:
        self._auth = auth
        self._throttle = LoginThrottle(now)
        self._sessions = TTLCache[str, bool](_MAX_SESSIONS, SESSION_SECONDS, timer=now)
        self._lock = Lock()

    def verify(self, address: str, user: str, password: str) -> bool:
        """Return whether user and password are right, in constant time.

        Raises:
            TooManyAttempts: if that address has to wait, whatever it sends.
        """
        if self._auth is None:
            return True
        self._throttle.check(address)
        user_matches = _equal(user, self._auth[0])
        password_matches = _equal(password, self._auth[1])
        if not (user_matches and password_matches):
            self._throttle.record_failure(address)
            return False
        return True

    def create_session(self) -> str:
        """Return a new session's key for the cookie."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[key] = True
        return key

    def end_session(self, key: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(key, None)

    def admits(self, request: Request) -> bool:
        """Return whether a request carries a session's cookie or the right Basic credentials.

        Raises:
            TooManyAttempts: if it carries credentials, and its address has to wait.
        """
        if self._auth is None:
            return True
        with self._lock:
            if request.cookies.get(cookie_name(request), "") in self._sessions:
                return True
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # No base64, no ASCII, no UTF-8.
            return False
        return self.verify(client_address(request), user, password)


def cookie_name(request: Request) -> str:
    """Return the cookie's name, with the port: all ports of a host share their cookies."""
    return f"rzen-session-{request.url.port or 80}"


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


def login_router(authenticator: Authenticator) -> APIRouter:
    """Build GET and POST of /login and /logout; only a POST changes anything."""
    router = APIRouter()

    @router.get("/login")
    def show_login() -> Response:
        return HTMLResponse(render("login.html"))

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        user, password = await _credentials(request)
        try:
            if not authenticator.verify(client_address(request), user, password):
                problem = "Incorrect username or password."
                return HTMLResponse(render("login.html", problem=problem), status_code=401)
        except TooManyAttempts as error:
            wait = {"Retry-After": str(error.seconds)}
            return HTMLResponse(render("login.html", problem=str(error)), 429, wait)
        if "text/html" in request.headers.get("accept", ""):
            response: Response = RedirectResponse(".", status_code=303)
        else:
            response = Response(status_code=200)
        response.set_cookie(
            cookie_name(request),
            authenticator.create_session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @router.get("/logout")
    def show_logout() -> Response:
        return HTMLResponse(render("login.html", logout=True))

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        authenticator.end_session(request.cookies.get(cookie_name(request), ""))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(cookie_name(request))
        return response

    return router


async def _credentials(request: Request) -> tuple[str, str]:
    """Return the form's fields; Gradio's client sends multipart, browsers a plain form."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MAX_FORM_BYTES:
        return "", ""
    async with request.form(max_files=1, max_fields=9) as form:
        return str(form.get("username", "")), str(form.get("password", ""))
