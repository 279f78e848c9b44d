"""The model of a library: which one it is, and the embedder that is open for it."""

import shlex
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from embedder.content import Modality
from embedder.interface import Embedder, EmbedderInfo
from embedder.spec import ModelSpec
from indexer.catalog import Catalog, Model
from indexer.catalog.writer import CatalogWriter
from indexer.config import DEFAULT_MODEL
from indexer.errors import ModelMismatch

Instructions: TypeAlias = Mapping[Modality, str] | None
"""What documents of a modality are told; None for the model's own."""

Opener: TypeAlias = Callable[[str, Instructions], Embedder]
"""From a specification and instructions to an embedder."""


class LibraryModel:
    """The model of a library, opened when it is first needed. Thread-safe.

    Guarantees: `embedder` is of the model whose vectors the library holds, also after another
    process has given it another one; an embedder that was handed out is not closed before
    `close`, so a search that holds it comes to its end.

    Args:
        directory: The library's folder, for messages.
        catalog: Says whose vectors the library holds.
        ledger: Remembers it.
        opener: Opens an embedder; it need not load any weights yet.
        given: An embedder to use as long as the vectors are its own; it is never closed.
    """

    def __init__(
        self,
        directory: Path,
        catalog: Catalog,
        ledger: CatalogWriter,
        opener: Opener,
        given: Embedder | None,
    ) -> None:
        self._directory = directory
        self._catalog = catalog
        self._ledger = ledger
        self._opener = opener
        self._given = self._current = given
        self._lock = threading.Lock()
        self._seen = catalog.model()
        self._name = given.info.name if given else DEFAULT_MODEL
        self._instructions: Instructions = None

    def agree(self, asked: str | None, instructions: Instructions) -> None:
        """Settles which model it is: the one asked for, or else the one that is remembered.

        Where the vectors may be of the model asked for, though its specification is another one
        than is remembered (a folder that was moved, instructions spelled out), it is opened to
        find out.

        Raises:
            ModelMismatch: the library holds vectors of another model.
            EmbedderUnavailable: the model that was asked for cannot be opened.
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
        """The instructions to open a model with: those given, or remembered of the same family."""
        if instructions is not None:
            return dict(instructions) or None
        stored = self._catalog.model()
        return stored.instructions if _family(name) == _family(stored.name) else None

    @property
    def name(self) -> str:
        """What opens the model of the library, also after another process has changed it."""
        stored = self._catalog.model()
        changed = stored.fingerprint != self._seen.fingerprint
        return (stored.name if changed else None) or self._name

    @property
    def embedder(self) -> Embedder:
        """The model, opened when it is first asked for.

        Raises:
            EmbedderUnavailable: it cannot be opened.
            ModelMismatch: the library holds vectors of another version of it.
        """
        with self._lock:
            self._follow()
            while self._current is None:
                try:
                    self._current = self._opened()
                except ModelMismatch:
                    if not self._follow():  # Otherwise it was changed while this was opened.
                        raise
            return self._current

    def open_another(self, name: str, instructions: Instructions) -> Embedder:
        """Opens a model that the library might be given; the caller closes it.

        Raises:
            EmbedderUnavailable: it cannot be opened.
        """
        return self._opener(name, instructions)

    def rename(self, info: EmbedderInfo, instructions: Instructions) -> None:
        """Remembers what else opens the model that the library has."""
        self._ledger.rename_model(info, instructions)
        with self._lock:
            self._name, self._instructions = info.name, instructions

    def replace(self, embedder: Embedder) -> None:
        """Takes over an embedder of the model that the library was given."""
        with self._lock:
            self._follow()
            self._current = embedder

    def adopt(self, info: EmbedderInfo) -> None:
        """Remembers whose vectors the library holds; only while it holds none."""
        self._ledger.adopt(info, self._instructions)

    def close(self) -> None:
        """Closes the embedder that is open, unless it was given."""
        with self._lock:
            if self._current is not None and self._current is not self._given:
                self._current.close()
            self._current = None

    def _follow(self) -> bool:
        """Lets go of the embedder if the vectors have become another model's; whether they have."""
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

    def _opened(self) -> Embedder:
        embedder = self._opener(self._name, self._instructions)
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
            self._ledger.remember_model(info.name, self._instructions)
        elif stored.fingerprint == info.fingerprint and (
            (stored.name, stored.instructions) != (info.name, self._instructions)
        ):
            self._ledger.rename_model(info, self._instructions)


def reembed_command(directory: Path, name: str, instructions: Instructions) -> str:
    """The command that gives a library another model."""
    words = ["python", "-m", "indexer.reembed", "--library", str(directory), "--model", name]
    if instructions is not None:
        told = [f"{modality}={text}" for modality, text in instructions.items()]
        for one in told or ["default"]:
            words += ["--instruction", one]
    return shlex.join(words)


def mismatch(directory: Path, stored: Model, asked: str, told: Instructions) -> ModelMismatch:
    """Why a model cannot be used with a library, and what to do."""
    command = reembed_command(directory, asked, told or ({} if stored.instructions else None))
    anew = f"compute its vectors anew with `{command}`"
    if stored.name != asked:
        return ModelMismatch(
            f"the library in {directory} was made with the model {stored.name}, not {asked}: "
            f"use --model {stored.name}, or {anew}"
        )
    if stored.instructions != told:
        return ModelMismatch(
            f"the library in {directory} was made with other instructions for the model "
            f"{asked}: leave --instruction out, or {anew}"
        )
    return ModelMismatch(
        f"the library in {directory} was made with another version of the model {asked}: {anew}"
    )


def _family(name: str | None) -> str:
    """Return the family of a model; empty for a library that has none yet."""
    return ModelSpec.parse(name or "").family
