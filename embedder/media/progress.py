"""Signs of life of decoders that take long, for whoever watches over them."""

from collections.abc import Callable
from contextvars import ContextVar

_listener: ContextVar[Callable[[], None] | None] = ContextVar("listener", default=None)


def listen(listener: Callable[[], None]) -> None:
    """Have `listener` called, often, while something long is decoded in this context."""
    _listener.set(listener)


def tell() -> None:
    """Called by decoders for each step of something that may take long."""
    listener = _listener.get()
    if listener is not None:
        listener()
