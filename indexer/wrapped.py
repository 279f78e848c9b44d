"""An embedder around another one, for whoever changes when and with what it is asked."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from embedder.content import Content, Role
from embedder.interface import Embedder, EmbedderInfo, Vectors


class WrappedEmbedder:
    """Passes everything on.

    Attributes:
        inner: What does the work.
    """

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner

    @property
    def info(self) -> EmbedderInfo:
        """See `Embedder.info`."""
        return self.inner.info

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        return self.inner.embed(contents, role)

    def close(self) -> None:
        """See `Embedder.close`."""
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
