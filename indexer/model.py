"""The model of a library: its name and instructions, and the open embedder."""

import shlex
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from embedder.content import Modality
from embedder.interface import Embedder, EmbedderInfo, ModelSpec
from indexer.catalog import Catalog, Model
from indexer.catalog.writer import CatalogWriter
from indexer.config import DEFAULT_MODEL
from indexer.errors import ModelMismatch

Instructions: TypeAlias = Mapping[Modality, str] | None
"""Instructions for documents by modality; None for the model's own."""

Opener: TypeAlias = Callable[[str, Instructions], Embedder]
"""Opens an embedder, given a specification and instructions."""


class LibraryModel:
    """The model of a library, opened on first use. Thread-safe.

    Guarantees: `embedder` is of the model whose vectors the library holds, also after another
    process has switched it; an embedder that was returned is not closed before `close`, so that
    searches in progress can finish.

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
        self._given = self._current = given
        self._lock = threading.Lock()
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
        """The model, opened on first use.

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
            self._current = embedder

    def adopt(self, info: EmbedderInfo) -> None:
        """Store which model's vectors the library holds; only while it holds none."""
        self._writer.adopt(info, self._instructions)

    def close(self) -> None:
        """Close the open embedder, unless it was given."""
        with self._lock:
            if self._current is not None and self._current is not self._given:
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
