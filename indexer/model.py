"""The model of a library: which one it is, and how searches and an ingest share it."""

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from math import inf
from pathlib import Path
from threading import Condition, Lock
from time import monotonic
from typing import Self, TypeAlias

import numpy as np

from embedder.content import Content, Modality, Role
from embedder.interface import Embedder, EmbedderInfo, EmbedError, ModelSpec, Vectors
from indexer.catalog import Catalog, Model
from indexer.catalog.writer import CatalogWriter
from indexer.config import DEFAULT_MODEL
from indexer.errors import ModelMismatch

Instructions: TypeAlias = Mapping[Modality, str] | None
"""Instructions for documents by modality; None for the model's own."""

Opener: TypeAlias = Callable[[str, Instructions], Embedder]
"""Opens an embedder, given a specification and instructions."""

_MAX_QUERIES = 16
# Documents in a batch, for which a search may have to wait. Of photos, the default model embeds 16
# in the time of 32 halves, but takes 1.6 times as long for them in batches of 4.
_DOCUMENTS_BESIDE_SEARCHES = 4
_DOCUMENTS_BETWEEN_SEARCHES = 16


class SearchPriority:
    """Lets searches go before other work. Thread-safe.

    Guarantees: a batch of other work does not begin while a search is running, unless it has
    waited long enough: an ingest becomes slower but never stops, however many search.

    Args:
        max_wait: Seconds that a batch waits at most.
        recent: Seconds after a search in which the next one is expected.
    """

    def __init__(self, max_wait: float = 2.0, recent: float = 1.0) -> None:
        self._max_wait, self._recent = max_wait, recent
        self._changed = Condition()
        self._searches = 0
        self._searched_at = -inf

    @contextmanager
    def search(self) -> Iterator[None]:
        """Within this context a search is running."""
        with self._changed:
            self._searches += 1
        try:
            yield
        finally:
            with self._changed:
                self._searches -= 1
                self._searched_at = monotonic()
                self._changed.notify_all()

    def wait(self) -> int | None:
        """Wait until a batch of other work may begin.

        Returns:
            How many documents it may have; None for any number, as long as nothing is searched.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._searches, self._max_wait)
            beside = self._searches or monotonic() - self._searched_at < self._recent
            between = None if self._searched_at == -inf else _DOCUMENTS_BETWEEN_SEARCHES
        return _DOCUMENTS_BESIDE_SEARCHES if beside else between


class SharedEmbedder:
    """An embedder for the searches of several threads and one ingest. Thread-safe.

    Guarantees: a query waits for the call in progress and is in the next one, or in the one after
    that if there are very many; a query that cannot be embedded fails alone; documents are
    embedded in small batches, between searches.
    """

    def __init__(self, inner: Embedder, priority: SearchPriority) -> None:
        self.inner = inner
        self._priority = priority
        self._lock = Lock()
        self._waiting: deque[tuple[Sequence[Content], Future[Vectors]]] = deque()

    @property
    def info(self) -> EmbedderInfo:
        """See `Embedder.info`."""
        return self.inner.info

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        return self._documents(contents) if role == "document" else self._queries(contents)

    def knows_word(self, word: str) -> bool:
        """See `Embedder.knows_word`."""
        return self.inner.knows_word(word)

    def close(self) -> None:
        """See `Embedder.close`."""
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _documents(self, contents: Sequence[Content]) -> Vectors:
        batches: list[Vectors] = []
        done = 0
        while done < len(contents) or not batches:
            batch = contents[done:][: self._priority.wait()]
            try:
                batches.append(self.inner.embed(batch, "document"))
            except EmbedError as error:
                raise EmbedError(done + error.position, error.reason) from error
            done += len(batch)
        return np.concatenate(batches)

    def _queries(self, contents: Sequence[Content]) -> Vectors:
        future: Future[Vectors] = Future()
        self._waiting.append((contents, future))
        with self._lock:  # While one thread embeds, others gather: the next embeds them together.
            while not future.done():
                count = min(len(self._waiting), _MAX_QUERIES)
                self._answer([self._waiting.popleft() for _ in range(count)])
        return future.result()

    def _answer(self, batch: Sequence[tuple[Sequence[Content], Future[Vectors]]]) -> None:
        try:
            rows = self.inner.embed([one for contents, _ in batch for one in contents], "query")
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for one in batch:
                    self._answer([one])
            return
        for contents, future in batch:
            future.set_result(rows[: len(contents)])
            rows = rows[len(contents) :]


class LibraryModel:
    """The model of a library, opened on first use. Thread-safe.

    Guarantees: `embedder` is of the model whose vectors the library holds, also after another
    process has switched it; an embedder that was returned is not closed before `close`, so that
    searches in progress can finish.

    Attributes:
        priority: Lets searches go before an ingest.

    Args:
        directory: The library's folder, for messages.
        catalog: Reads which model's vectors the library holds.
        writer: Stores it.
        opener: Opens an embedder; it may load the weights later.
        given: An embedder to use as long as the vectors are of its model; it is never closed.
    """

    def __init__(
        self,
        directory: Path,
        catalog: Catalog,
        writer: CatalogWriter,
        opener: Opener,
        given: Embedder | None,
    ) -> None:
        self._directory = directory
        self._catalog = catalog
        self._writer = writer
        self._opener = opener
        self.priority = SearchPriority()
        self._given = given
        self._current = None if given is None else self._share(given)
        self._lock = Lock()
        self._seen = catalog.model()
        self._name = given.info.name if given else DEFAULT_MODEL
        self._instructions: Instructions = None

    def agree(self, asked: str | None, instructions: Instructions) -> None:
        """Decide which model it is: the one asked for, or else the stored one.

        If the specification differs from the stored one but may name the same model (a folder
        that was moved, instructions spelled out), the model is opened to compare fingerprints.

        Raises:
            ModelMismatch: if the library holds vectors of another model.
            EmbedderUnavailable: if the model that was asked for cannot be opened.
        """
        stored = self._seen
        if self._given is not None:
            self._check(self._given.info)
            return
        self._name = asked or stored.name or DEFAULT_MODEL
        self._instructions = self.kept(self._name, instructions)
        if not self._catalog.has_vectors():
            return
        if _family(self._name) != _family(stored.name):
            raise mismatch(self._directory, stored, self._name, self._instructions)
        if (self._name, self._instructions) != (stored.name, stored.instructions):
            self._current = self._opened()

    def kept(self, name: str, instructions: Instructions) -> Instructions:
        """Return the instructions to open a model with: those given, or stored of its family."""
        if instructions is not None:
            return dict(instructions) or None
        stored = self._catalog.model()
        return stored.instructions if _family(name) == _family(stored.name) else None

    @property
    def name(self) -> str:
        """The specification of the model, also after another process has switched it."""
        stored = self._catalog.model()
        changed = stored.fingerprint != self._seen.fingerprint
        return (stored.name if changed else None) or self._name

    @property
    def embedder(self) -> Embedder:
        """The model, opened on first use, for searches and an ingest at the same time.

        Raises:
            EmbedderUnavailable: if it cannot be opened.
            ModelMismatch: if the library holds vectors of another version of it.
        """
        with self._lock:
            self._follow()
            while self._current is None:
                try:
                    self._current = self._opened()
                except ModelMismatch:
                    if not self._follow():  # Otherwise the library was switched meanwhile.
                        raise
            return self._current

    def opened_as(self, fingerprint: str | None) -> Embedder | None:
        """Return the open embedder if it is the one of a fingerprint; reads no table."""
        current = self._current
        return current if current and current.info.fingerprint == fingerprint else None

    def open_another(self, name: str, instructions: Instructions) -> Embedder:
        """Open a model that the library may switch to; the caller closes it.

        Raises:
            EmbedderUnavailable: if it cannot be opened.
        """
        return self._opener(name, instructions)

    def rename(self, info: EmbedderInfo, instructions: Instructions) -> None:
        """Store another specification of the model that the library has."""
        self._writer.rename_model(info, instructions)
        with self._lock:
            self._name, self._instructions = info.name, instructions

    def replace(self, embedder: Embedder) -> None:
        """Use an embedder of the model that the library has switched to."""
        with self._lock:
            self._follow()
            self._current = self._share(embedder)

    def adopt(self, info: EmbedderInfo) -> None:
        """Store which model's vectors the library holds; only while it holds none."""
        self._writer.adopt(info, self._instructions)

    def close(self) -> None:
        """Close the open embedder, unless it was given."""
        with self._lock:
            if self._current is not None and self._current.inner is not self._given:
                self._current.close()
            self._current = None

    def _follow(self) -> bool:
        """Drop the embedder if the library was switched; return whether it was."""
        stored = self._catalog.model()
        if stored.fingerprint == self._seen.fingerprint:
            return False
        self._seen = stored
        self._name, self._instructions = stored.name or self._name, stored.instructions
        if self._current is not None and self._current.info.fingerprint != stored.fingerprint:
            # It is not closed, since a search in another thread may be using it: its memory is
            # freed with the last one that holds it.
            self._current = None
        return True

    def _share(self, embedder: Embedder) -> SharedEmbedder:
        return SharedEmbedder(embedder, self.priority)

    def _opened(self) -> SharedEmbedder:
        embedder = self._share(self._opener(self._name, self._instructions))
        try:
            self._check(embedder.info)
            self._remember(embedder.info)
        except BaseException:
            embedder.close()
            raise
        return embedder

    def _check(self, info: EmbedderInfo) -> None:
        if not self._catalog.holds_vectors_of(info):
            stored = self._catalog.model()
            raise mismatch(self._directory, stored, info.name, self._instructions)

    def _remember(self, info: EmbedderInfo) -> None:
        stored = self._catalog.model()
        if stored.name is None:
            self._writer.remember_model(info.name, self._instructions)
        elif stored.fingerprint == info.fingerprint and (
            (stored.name, stored.instructions) != (info.name, self._instructions)
        ):
            self._writer.rename_model(info, self._instructions)


def reembed_command(directory: Path, name: str, instructions: Instructions) -> str:
    """Return the command that gives a library another model."""
    words = ["python", "-m", "indexer.reembed", "--library", str(directory), "--model", name]
    if instructions is not None:
        values = [f"{modality}={text}" for modality, text in instructions.items()]
        for one in values or ["default"]:
            words += ["--instruction", one]
    return shlex.join(words)


def mismatch(
    directory: Path, stored: Model, asked: str, instructions: Instructions
) -> ModelMismatch:
    """Return why a model cannot be used with a library, and what to do."""
    command = reembed_command(
        directory, asked, instructions or ({} if stored.instructions else None)
    )
    switch = f"re-embed it with `{command}`"
    if stored.name != asked:
        return ModelMismatch(
            f"the library in {directory} has the model {stored.name}, not {asked}: "
            f"use --model {stored.name}, or {switch}"
        )
    if stored.instructions != instructions:
        return ModelMismatch(
            f"the library in {directory} has other instructions for the model "
            f"{asked}: leave --instruction out, or {switch}"
        )
    return ModelMismatch(
        f"the library in {directory} has vectors of another version of the model {asked}: {switch}"
    )


def _family(name: str | None) -> str:
    """Return the family of a model; empty for a library that has none yet."""
    return ModelSpec.parse(name or "").family
