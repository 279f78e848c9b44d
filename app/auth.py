"""Who has logged in, and how often a wrong password may be tried."""

import base64
import hmac
import ipaddress
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from html import escape
from threading import Lock
from time import monotonic
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

SESSION_SECONDS = 7 * 24 * 3600
"""How long a session lasts."""

_MOST_SESSIONS = 1_000
_SLOTS = 256
_AT_ONCE = 10
_SECONDS_EACH = 10.0


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


class Attempts:
    """Counts wrong passwords by address, in memory that does not grow.

    Guarantees: an address may send ten at once, and then one every ten seconds; nobody waits for
    longer than that however much others try, save those few whose address falls by chance into
    the same of 256 slots; all addresses together may send 1,536 a minute.

    Args:
        now: A clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._key = secrets.token_bytes(16)  # Nobody can tell which addresses share a slot.
        self._levels = [0.0] * _SLOTS
        self._seen_at = [now()] * _SLOTS
        self._lock = Lock()

    def check(self, address: str) -> None:
        """Lets an address try.

        Raises:
            TooManyAttempts: if it has to wait.
        """
        with self._lock:
            over = self._level(self._slot(address)) - (_AT_ONCE - 1)
        if over > 0:
            raise TooManyAttempts(over * _SECONDS_EACH)

    def failed(self, address: str) -> None:
        """Counts a wrong password."""
        with self._lock:
            slot = self._slot(address)
            self._levels[slot] = self._level(slot) + 1
            self._seen_at[slot] = self._now()

    def _level(self, slot: int) -> float:
        passed = (self._now() - self._seen_at[slot]) / _SECONDS_EACH
        return max(0.0, self._levels[slot] - passed)

    def _slot(self, address: str) -> int:
        digest = blake2b(_network(address).encode(errors="replace"), key=self._key, digest_size=8)
        return int.from_bytes(digest.digest(), "big") % _SLOTS


class Logins:
    """Who has logged in: by a session cookie, or by HTTP Basic for programs.

    Without a user and password everybody has. A session ends a week after it began.

    Args:
        auth: The user and the password.
        now: A clock in seconds.
    """

    def __init__(self, auth: tuple[str, str] | None, now: Callable[[], float] = monotonic) -> None:
        self._auth = auth
        self._now = now
        self._attempts = Attempts(now)
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def accepts(self, address: str, user: str, password: str) -> bool:
        """Whether the two are the right ones; takes as long if they are not.

        Raises:
            TooManyAttempts: if that address has to wait, whatever it sends.
        """
        if self._auth is None:
            return True
        self._attempts.check(address)
        right_user = _same(user, self._auth[0])
        right_password = _same(password, self._auth[1])
        if not (right_user and right_password):
            self._attempts.failed(address)
            return False
        return True

    def open(self) -> str:
        """A new session's key, to be kept in a cookie."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[key] = self._now() + SESSION_SECONDS
            while len(self._ends) > _MOST_SESSIONS:
                self._ends.popitem(last=False)
        return key

    def forget(self, key: str) -> None:
        """Ends a session."""
        with self._lock:
            self._ends.pop(key, None)

    def admits(self, request: Request) -> bool:
        """Whether a request carries a session's cookie or the right Basic credentials.

        Raises:
            TooManyAttempts: if it carries credentials, and its address has to wait.
        """
        if self._auth is None or self._is_open(request.cookies.get(cookie_name(request), "")):
            return True
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # No base64, no ASCII, no UTF-8.
            return False
        return self.accepts(address_of(request), user, password)

    def _is_open(self, key: str) -> bool:
        with self._lock:
            return self._now() < self._ends.get(key, -math.inf)


def cookie_name(request: Request) -> str:
    """Cookies are shared by all ports of a host, so the name tells the port."""
    return f"rzen-session-{request.url.port or 80}"


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())


def _network(address: str) -> str:
    """What one sender has for itself: of IPv6, whoever has an address has 2⁶⁴ of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found.packed, 64), strict=False))


_MOST_BYTES = 4096


def login_router(logins: Logins) -> APIRouter:
    """GET and POST of /login and /logout: a link from elsewhere can neither log in nor out."""
    router = APIRouter()

    @router.get("/login")
    def show() -> Response:
        return HTMLResponse(_page(""))

    @router.post("/login")
    async def enter(request: Request) -> Response:
        user, password = await _credentials(request)
        try:
            if not logins.accepts(address_of(request), user, password):
                return HTMLResponse(_page("That user and password do not fit."), status_code=401)
        except TooManyAttempts as error:
            wait = {"Retry-After": str(error.seconds)}
            return HTMLResponse(_page(str(error)), status_code=429, headers=wait)
        if "text/html" in request.headers.get("accept", ""):
            response: Response = RedirectResponse(".", status_code=303)
        else:
            response = Response(status_code=200)
        response.set_cookie(
            cookie_name(request),
            logins.open(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @router.get("/logout")
    def ask() -> Response:
        return HTMLResponse(_LOGOUT)

    @router.post("/logout")
    def leave(request: Request) -> Response:
        logins.forget(request.cookies.get(cookie_name(request), ""))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(cookie_name(request))
        return response

    return router


async def _credentials(request: Request) -> tuple[str, str]:
    """What the form holds; from Gradio's client it comes as multipart or as a plain form."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MOST_BYTES:
        return "", ""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=9) as form:
            return str(form.get("username", "")), str(form.get("password", ""))
    fields = parse_qs((await request.body()).decode(errors="replace"))
    return fields.get("username", [""])[0], fields.get("password", [""])[0]


def _page(problem: str) -> str:
    told = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return _document(
        "Log in",
        f"""<form method="post" action="login">
<h1>RzenEmbed Search</h1><p class="rz-fine">This library asks for a login.</p>{told}
<label>User<input name="username" autocomplete="username" required autofocus></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required>
</label><button class="rz-button rz-primary">Log in</button></form>""",
    )


def _document(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · RzenEmbed Search</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="site/app.css"></head>
<body class="rz-login">{body}</body></html>"""


_LOGOUT = _document(
    "Log out",
    """<form method="post" action="logout"><h1>RzenEmbed Search</h1>
<button class="rz-button rz-primary">Log out</button></form>""",
)
