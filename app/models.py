"""Which model the library has, and which others it can be switched to.

Visitors name a model by the id of an offer, never by its specification: that may be a path of this
machine, or any address of the hub.
"""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from embedder import EmbedderError, EmbedderInfo, Modality
from embedder.registry import BACKENDS
from embedder.spec import ModelSpec
from indexer import IndexerError, Library, QueryError

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that the library can be switched to.

    Attributes:
        spec: What opens it; shown to trusted visitors only.
        missing: What to install first, one sentence; None if it can be chosen.
    """

    spec: str
    missing: str | None = None

    @property
    def id(self) -> str:
        """Names it in requests."""
        return offer_id(self.spec)

    @property
    def summary(self) -> str:
        """What the model is good for, in a few words; empty for one from a folder or the hub."""
        spec = ModelSpec.parse(self.spec)
        backend = BACKENDS.get(spec.family)
        return backend.summary if backend and not spec.argument else ""


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """The library's model.

    Attributes:
        spec: What opens it.
        info: What is known of it; None where it cannot be opened.
        problem: Why it cannot, one sentence.
    """

    spec: str
    info: EmbedderInfo | None = None
    problem: str | None = None

    @property
    def mark(self) -> str:
        """Tells whether it is still the one that a page shows."""
        return self.info.fingerprint if self.info else offer_id(self.spec)

    @property
    def instruction(self) -> str | None:
        """What it tells words that look for pictures; None if it takes no instructions."""
        if self.info is None or not self.info.takes_instructions:
            return None
        return self.info.instructions.get((Modality.TEXT, Modality.IMAGE), "")


def offer_id(spec: str) -> str:
    """The id of the offer with that specification."""
    return hashlib.sha256(spec.encode(errors="surrogateescape")).hexdigest()[:12]


def short_name(spec: str) -> str:
    """A specification without parent folders: rzen:/a/b/v1 is rzen:v1."""
    return ModelSpec.parse(spec).short


class Models:
    """The library's model and the offers. Thread-safe."""

    def __init__(self, library: Library, offered: Iterable[str]) -> None:
        self._library = library
        always = [backend.family for backend in BACKENDS.values() if backend.listed]
        # The model that the library has now, so that there is a way back to it.
        self._specs = tuple(dict.fromkeys((*always, library.model, *offered)))
        self._failed: tuple[ActiveModel, float] | None = None
        self._lock = Lock()

    def active(self) -> ActiveModel:
        """The library's model, opened if it was not; that may take seconds.

        One that cannot be opened is not tried again by every visitor, only every few seconds.
        """
        spec = self._library.model
        with self._lock:
            failed = self._failed
        if failed and failed[0].spec == spec and monotonic() - failed[1] < _RETRY_SECONDS:
            return failed[0]
        active = self._opened(spec)
        with self._lock:
            self._failed = (active, monotonic()) if active.problem else None
        return active

    def offers(self, active: ActiveModel) -> list[Offer]:
        """All models but the active one; that one too where only new vectors would mend it."""
        return [
            Offer(spec, _missing(spec))
            for spec in self._specs
            if spec != active.spec or active.problem is not None
        ]

    def chosen(self, wanted: str) -> str:
        """The specification of the offer with that id.

        Raises:
            QueryError: if nothing like that is on offer, or it lacks what it needs.
        """
        for spec in self._specs:
            if offer_id(spec) == wanted:
                if missing := _missing(spec):
                    raise QueryError(missing)
                return spec
        raise QueryError("that model is not on offer here: choose one of the list")

    def _opened(self, spec: str) -> ActiveModel:
        try:
            return ActiveModel(spec, self._library.embedder.info)
        except (IndexerError, EmbedderError) as error:
            return ActiveModel(spec, problem=str(error))
        except Exception:
            _log.exception("the model %s could not be opened", spec)
            return ActiveModel(spec, problem="it cannot be opened: the server's log says more")


def _missing(spec: str) -> str | None:
    backend = BACKENDS.get(ModelSpec.parse(spec).family)
    missing = backend.missing() if backend else None
    return f"{missing}, and start the page again" if missing else None
