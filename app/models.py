"""The library's model, and the models that it can be switched to.

Requests name a model by the id of an offer, never by its specification, which may be a path of
this machine or any repository of the hub.
"""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from cachetools import TTLCache

from embedder import EmbedderError, EmbedderInfo, Modality
from embedder.interface import ModelSpec
from embedder.registry import BACKENDS
from indexer import IndexerError, Library, QueryError

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that the library can be switched to.

    Attributes:
        spec: What opens it; shown to trusted users only.
        missing: What to install first, one sentence; None if it can be chosen.
    """

    spec: str
    missing: str | None = None

    @property
    def id(self) -> str:
        """Return its name in requests."""
        return offer_id(self.spec)

    @property
    def summary(self) -> str:
        """Return what the model is, in a few words; empty for one from a folder or the hub."""
        spec = ModelSpec.parse(self.spec)
        backend = BACKENDS.get(spec.family)
        return backend.summary if backend and not spec.argument else ""


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """The library's model.

    Attributes:
        spec: What opens it.
        info: Its description; None if it cannot be opened.
        problem: Why it cannot be opened, one sentence.
    """

    spec: str
    info: EmbedderInfo | None = None
    problem: str | None = None

    @property
    def mark(self) -> str:
        """Return what identifies it, for pages that show it already."""
        return self.info.fingerprint if self.info else offer_id(self.spec)

    @property
    def instruction(self) -> str | None:
        """Return its default for words that look for pictures; None if it takes no instructions."""
        if self.info is None or not self.info.takes_instructions:
            return None
        return self.info.instructions.get((Modality.TEXT, Modality.IMAGE), "")


def offer_id(spec: str) -> str:
    """Return the id of the offer with that specification."""
    return hashlib.sha256(spec.encode(errors="surrogateescape")).hexdigest()[:12]


class Models:
    """The library's model and the offers. Thread-safe."""

    def __init__(self, library: Library, offered: Iterable[str]) -> None:
        self._library = library
        always = [backend.family for backend in BACKENDS.values() if backend.listed]
        # With the current model, so that the library can be switched back to it.
        self._specs = tuple(dict.fromkeys((*always, library.model, *offered)))
        self._failed: TTLCache[str, ActiveModel] = TTLCache(1, _RETRY_SECONDS)
        self._lock = Lock()

    def active(self) -> ActiveModel:
        """Return the library's model, opened if necessary; that may take seconds.

        If it cannot be opened, the next attempt is made after ten seconds.
        """
        spec = self._library.model
        with self._lock:
            if failed := self._failed.get(spec):
                return failed
        active = self._open(spec)
        if active.problem:
            with self._lock:
                self._failed[spec] = active
        return active

    def offers(self, active: ActiveModel) -> list[Offer]:
        """Return all models but the active one; that one too if only re-embedding would fix it."""
        return [
            Offer(spec, _missing(spec))
            for spec in self._specs
            if spec != active.spec or active.problem is not None
        ]

    def chosen(self, offer: str) -> str:
        """Return the specification of the offer with that id.

        Raises:
            QueryError: if there is no such offer, or its packages are not installed.
        """
        for spec in self._specs:
            if offer_id(spec) == offer:
                if missing := _missing(spec):
                    raise QueryError(missing)
                return spec
        raise QueryError("that model is not on offer: choose one from the list")

    def _open(self, spec: str) -> ActiveModel:
        try:
            return ActiveModel(spec, self._library.embedder.info)
        except (IndexerError, EmbedderError) as error:
            return ActiveModel(spec, problem=str(error))
        except Exception:
            _log.exception("cannot open the model %s", spec)
            return ActiveModel(spec, problem="it cannot be opened: see the server's log")


def _missing(spec: str) -> str | None:
    backend = BACKENDS.get(ModelSpec.parse(spec).family)
    missing = backend.missing() if backend else None
    return f"{missing}, and start the page again" if missing else None
