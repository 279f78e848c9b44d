"""Run our programs inside the test process: starting an interpreter takes longer than they do."""

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from subprocess import CompletedProcess
from unittest.mock import patch


def run(module: str, *arguments: object, stdin: str = "") -> CompletedProcess[str]:
    """Run a program as `python -m module` would, and return its status and output.

    Signal handlers are restored afterwards, and the priority of the process stays. What depends on
    a process (signals, a terminal, imports) is tested with a process.
    """
    main: Callable[[Sequence[str]], int] = import_module(_main_module(module)).main
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    words = list(map(str, arguments))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have had ignored
    try:
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "stdin", io.StringIO(stdin)),
            patch.object(os, "nice", lambda _increment: 0, create=True),
        ):
            status = main(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return CompletedProcess([module, *words], status, *texts)


def _main_module(module: str) -> str:
    """Return the module that `python -m` runs."""
    package = import_module(module)
    return f"{module}.__main__" if hasattr(package, "__path__") else module
