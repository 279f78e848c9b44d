"""The login page, and the session that it opens."""

from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.logins import SESSION_SECONDS, Logins, TooManyAttempts, address_of, cookie_name

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
