"""A decoder that a file has taken over: it tries what the name of the file says.

The name is what to try and, after an underscore, a number.
"""

import ctypes
import mmap
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from embedder import Content
from embedder.media import Draft, Limits
from indexer.decoding.protocol import Task


def probe(path: Path, _task: Task, _limits: Limits) -> Iterator[Draft]:
    """Says whether it was possible."""
    name, _, number = path.stem.partition("_")
    try:
        text = f"done: {PROBES[name](path, int(number or 0))}"
    except (OSError, ValueError) as error:
        text = f"refused: {error!r}"
    yield Draft(Content(text=text))


def execute(_path: Path, _number: int) -> None:
    """A program that does not exist: that this is noticed means that others could be run."""
    try:
        os.execv("/nonexistent/program", ["program"])
    except FileNotFoundError:
        return


def fork(_path: Path, _number: int) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def connect_unix(path: Path, _number: int) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(path.with_name("listener")))


def read_memory(_path: Path, number: int) -> None:
    """A byte of the parent's memory, at an address of it."""
    byte = ctypes.create_string_buffer(1)
    here, there = ((ctypes.c_void_p * 2)(at, 1) for at in (ctypes.addressof(byte), number))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.process_vm_readv(os.getppid(), here, 1, there, 1, 0) != 1:
        raise OSError(ctypes.get_errno(), "process_vm_readv")


def open_memory(_path: Path, _number: int) -> None:
    Path(f"/proc/{os.getppid()}/mem").open("rb").close()


def raise_limit(_path: Path, _number: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def start_thread(_path: Path, _number: int) -> None:
    thread = threading.Thread(target=bool)
    thread.start()
    thread.join()


PROBES: Mapping[str, Callable[[Path, int], object]] = {
    "password": lambda path, number: Path("/etc/passwd").read_bytes(),
    "neighbour": lambda path, number: path.with_name("neighbour.txt").read_bytes(),
    "write": lambda path, number: path.with_name("written").write_text("x"),
    "rename": lambda path, number: path.rename(path.with_name("renamed")),
    "list": lambda path, number: os.listdir(path.parent),  # noqa: PTH208
    "memory file": lambda path, number: os.close(os.memfd_create("memory")),
    "shared memory": lambda path, number: mmap.mmap(-1, 1 << 20).close(),
    "tcp": lambda path, number: socket.create_connection(("127.0.0.1", number)).close(),
    "udp": lambda path, number: socket.socket(type=socket.SOCK_DGRAM).close(),
    "unix": connect_unix,
    "execute": execute,
    "fork": fork,
    "signal": lambda path, number: os.kill(os.getppid(), 0),
    "limit": raise_limit,
    "read memory": read_memory,
    "open memory": open_memory,
    "thread": start_thread,
    "environment": lambda path, number: " ".join(os.environ),
}
