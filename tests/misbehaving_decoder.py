"""A decoder that does what the name of a file says, and decodes others as usual."""

import ctypes
import os
import pickle
import signal
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image

from embedder import Content
from embedder.media import Draft, Limits
from embedder.media.kinds import report_progress
from indexer.decoding.protocol import Task
from indexer.decoding.worker import perform


def misbehave(path: Path, task: Task, limits: Limits) -> Iterator[Draft]:
    """Does what the name says, after a first page where it says that too."""
    how, _, after = path.stem.partition("-")
    if after:
        yield page(1)
    if how in DEEDS:
        DEEDS[how]()
    elif how == "pages":
        for number in range(1, 100_000):
            yield page(number)
    elif how == "steady":
        for number in range(1, 9):
            time.sleep(0.5)
            yield page(number)
    elif how == "drip":
        for _ in range(1_000):
            time.sleep(0.1)
            report_progress()
    elif how == "who":
        yield Draft(Content(text=str(os.getpid())))
    elif how == "huge":
        yield Draft(Content(frames=[Image.new("RGB", (limits.frame_side + 1, 8))]))
    else:
        yield from perform(path, task, limits)


def page(number: int) -> Draft:
    return Draft(Content(frames=[Image.new("RGB", (60, 60))], modality="page"), page=number)


def answers() -> int:
    """The socket to the parent, as a decoder that was taken over would find it."""
    for number in range(3, 1_000):
        with suppress(OSError):  # not open
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return number
    raise AssertionError("there is no socket")


def hang_with_lock() -> None:
    """Inside of C code that keeps the interpreter's lock: no other thread ever runs again."""
    ctypes.PyDLL(None).sleep(1_000)


def bomb() -> None:
    held = [bytearray(os.urandom(1 << 20) * 64) for _ in range(200)]
    raise AssertionError(len(held))


def print_much() -> None:
    for _ in range(100):
        print("a line from a library" * 100)
        os.write(1, b"another from C" * 100)
    raise MemoryError


def half() -> None:
    """Announces a message of a thousand bytes, and sends ten."""
    os.write(answers(), struct.pack("!i", 1_000) + b"0123456789")
    time.sleep(1_000)


def fork() -> None:
    """Ends, and leaves a process behind that keeps the socket open."""
    if os.fork() == 0:
        os.setsid()
        signal.setitimer(signal.ITIMER_REAL, 30)
        time.sleep(1_000)
    os._exit(0)


PICKLE = pickle.dumps({"end": True})

DEEDS = {
    "hang": lambda: time.sleep(1_000),
    "lock": hang_with_lock,
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(0),
    "bomb": bomb,
    "print": print_much,
    "garbage": lambda: os.write(answers(), b"not a message at all" * 20),
    "boast": lambda: os.write(answers(), struct.pack("!iQ", -1, 1 << 60)),
    "negative": lambda: os.write(answers(), struct.pack("!i", -9)),
    "nest": lambda: os.write(answers(), struct.pack("!i", 9_000) + b"[" * 9_000),
    "half": half,
    "fork": fork,
    "pickle": lambda: os.write(answers(), struct.pack("!i", len(PICKLE)) + PICKLE),
    "error": lambda: 1 // 0,
}
