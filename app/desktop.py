"""Files in programs of this machine: the file manager, and the program that a file opens with.

Only for users whose browser runs on the machine of the page, since windows appear there.

    POST /desktop/{item}/show   show a file of the library in the file manager
    POST /desktop/{item}/open   open it with its program

No shell reads a name, which is passed as an argument. What a program would run rather than show is
never opened: scripts, desktop entries, web pages and drawings (whose scripts could read files next
to them), and documents with macros.
"""

import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from fastapi import APIRouter
from fastapi import Path as FromPath
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.page.labels import readable, unavailable
from app.search import MAX_DATABASE_INTEGER
from app.texts import N_, _, message_of
from embedder.media import MEDIA_KINDS
from embedder.media.kinds import Kind, suffixes
from embedder.media.members import container_of
from indexer import IndexerError, Library, NotFound

_DOCUMENTS = suffixes(
    "txt text md log csv tsv docx dotx pptx potx ppsx xlsx xltx odt ott odp otp ods ots odg otg "
    "rtf epub fb2 eml vcf ics"
)
_RUN_SCRIPTS = suffixes("svg svgz")
_SHOWN = (Kind.IMAGE, Kind.VIDEO, Kind.AUDIO, Kind.PDF)
OPENED: frozenset[str] = (
    _DOCUMENTS.union(*(MEDIA_KINDS[kind].suffixes for kind in _SHOWN)) - _RUN_SCRIPTS
)
"""Extensions of the files that are opened: a list of what is safe, as what runs is endless."""

_WAIT_SECONDS = 5.0  # Some programs return only when their window is closed.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_FILE_MANAGER = "org.freedesktop.FileManager1"

ItemId: TypeAlias = Annotated[int, FromPath(ge=0, le=MAX_DATABASE_INTEGER)]


class NoProgram(IndexerError):
    """No program of this machine could show the file."""


def is_opened(path: Path) -> bool:
    """Return whether files of such names are opened; the disk, which may be slow, is not asked."""
    return path.suffix.lower() in OPENED


def is_on_this_machine(request: Request) -> bool:
    """Return whether a request is from a program of this machine that has a screen.

    Proxies of this machine send the requests of others, and say so in headers.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        local = ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    has_screen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return local and has_screen


def show(path: Path) -> None:
    """Show a file in the file manager, selected in its folder where the manager can.

    Raises:
        NoProgram: if there is no file manager.
    """
    match sys.platform:
        case "darwin":
            commands = [["open", "-R", str(path)]]
        case "win32":
            commands = [["explorer", "/select,", str(path)]]
        case _:
            commands = [_show_items(path), ["xdg-open", str(path.parent)]]
    if not any(_run(command) for command in commands):
        raise NoProgram(N_("no file manager of this machine answered"))


def open_file(path: Path) -> None:
    """Open a file with the program that this machine opens such files with.

    Raises:
        NoProgram: if there is none, the file may run, or it is attached to a mail.
    """
    if container_of(path):
        name = readable(path.name)
        raise NoProgram(N_("{name} is attached to a mail: download it to open it", name=name))
    if not (is_opened(path) and is_opened(path.resolve())):  # It may be a link to another file.
        raise NoProgram(
            N_(
                "files such as {name} may run as programs: show it in its folder, and open it "
                "there",
                name=readable(path.name),
            )
        )
    if sys.platform == "win32":
        os.startfile(path)
        return
    if not _run(["open" if sys.platform == "darwin" else "xdg-open", str(path)]):
        raise NoProgram(N_("no program of this machine opens {name}", name=readable(path.name)))


def _show_items(path: Path) -> list[str]:
    """Return the command that asks the desktop's file manager to select a file."""
    address = f"/{_FILE_MANAGER.replace('.', '/')}"
    return [
        *("dbus-send", "--session", "--print-reply", f"--dest={_FILE_MANAGER}", address),
        # A comma would begin another element; in an address it is %2C.
        *(f"{_FILE_MANAGER}.ShowItems", f"array:string:{path.as_uri()}", "string:"),
    ]


def _run(command: Sequence[str]) -> bool:
    """Run a program; return whether it is there and reports no failure."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # It stays when the page ends.
        )
    except OSError:
        return False
    try:
        # Windows' Explorer returns 1 whatever happens.
        return process.wait(_WAIT_SECONDS) == 0 or command[0] == "explorer"
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, daemon=True).start()
        return True


def desktop_router(library: Library, *, trusted: bool) -> APIRouter:
    """Build the routes.

    Args:
        library: Whose files are shown.
        trusted: Whether users may see where files are on this machine.
    """
    router = APIRouter()

    @router.post("/desktop/{item_id}/show")
    def show_file(request: Request, item_id: ItemId) -> Response:
        return answer(request, item_id, lambda path: show(container_of(path) or path))

    @router.post("/desktop/{item_id}/open")
    def open_with_program(request: Request, item_id: ItemId) -> Response:
        return answer(request, item_id, open_file)

    def answer(request: Request, item_id: int, act: Callable[[Path], None]) -> Response:
        if not (trusted and is_on_this_machine(request)):
            here = _("files are shown only on the machine where the page runs, to its own user")
            return PlainTextResponse(here, status_code=403)
        try:
            item = library.catalog.item(item_id)
            if missing := library.missing([item.path]).get(item.path):
                raise NotFound(unavailable(item, missing))
            act(item.path)
        except NotFound as error:
            return PlainTextResponse(_(message_of(error)), status_code=404)
        except IndexerError as error:
            return PlainTextResponse(_(message_of(error)), status_code=409)
        return Response(status_code=204)

    return router
