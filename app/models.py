"""The library's model, and the models that it can be switched to.

Requests name a model by the id of an offer, never by its specification, which may be a path of
this machine or any repository of the hub.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from urllib.parse import urlsplit

from cachetools import TTLCache
from huggingface_hub import constants

from app.texts import N_, _
from embedder import EmbedderError, EmbedderInfo, Modality
from embedder.download import FetchProgress, FetchStopped, fetch, fetched_bytes, local_folder
from embedder.hub import HubModel
from embedder.interface import Backend, ModelSpec
from embedder.media import Kind
from embedder.registry import BACKENDS
from indexer import IndexerError, Library, LibraryStats, Progress, QueryError
from indexer.config import DEFAULT_MODEL
from indexer.progress import ProgressReporter

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 10.0
_SUGGESTED = "siglip2"
_MIN_PICTURES = 20  # With fewer there is little to find.

_DESCRIPTIONS = (
    N_("everyday things, animals and places; small, and part of this program"),
    N_("English best, 15 other languages"),
    N_("70 pictures/s on two CPU cores"),
    N_("people, activities, places and things; the one to take without a GPU"),
    N_("17 to 50 pictures/s on two CPU cores"),
    N_("over 100 languages"),
    N_("what siglip2 finds, in finer detail"),
    N_("5 pictures/s on two CPU cores"),
    N_("what siglip2 finds, in the finest detail"),
    N_("for a GPU"),
    N_("photos by English captions, for comparison"),
    N_("22 pictures/s on two CPU cores"),
    N_("English"),
    N_("things, people, text in pictures and pages"),
    N_("things, people, videos, text in pictures and pages; the one to take with a GPU"),
    N_("over 30 languages"),
    N_("what qwen3-vl finds, more exactly"),
)
"""What `embedder` says of its models."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that the library can be switched to.

    Attributes:
        spec: What opens it; shown to trusted users only.
        model: What it is on the hub; None if it needs no download.
        fetched: Bytes of it that are on this machine, if more have to be downloaded first.
        missing: Why it cannot be chosen and what to do, one sentence; None if it can be.
    """

    spec: str
    model: HubModel | None = None
    fetched: int | None = None
    missing: str | None = None

    @property
    def id(self) -> str:
        """Return its name in requests."""
        return offer_id(self.spec)

    @property
    def needs_download(self) -> bool:
        """Return whether files of it have to be downloaded first."""
        return self.fetched is not None

    @property
    def facts(self) -> tuple[str, ...]:
        """Return its languages, speed and licence, as far as they are known."""
        facts: tuple[str, ...] = self._backend.facts if self._backend else ()
        if self.model:
            facts = (self.model.languages, self.model.speed, self.model.licence)
        return tuple(_(fact) for fact in facts if fact)

    @property
    def bytes(self) -> int:
        """Return the size of its files, about; 0 if it is not known."""
        return (self.model.megabytes or 0) * 1_000_000 if self.model else 0

    @property
    def summary(self) -> str:
        """Return what it is good at, in a few words; empty if that is not known."""
        if self.model:
            return _(self.model.summary)
        return _(self._backend.summary) if self._backend else ""

    @property
    def _backend(self) -> Backend | None:
        """The family, for its default model."""
        spec = ModelSpec.parse(self.spec)
        return None if spec.argument else BACKENDS.get(spec.family)


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
            described(spec)
            for spec in self._specs
            if spec != active.spec or active.problem is not None
        ]

    def chosen(self, offer: str) -> Offer:
        """Return the offer with that id.

        Raises:
            QueryError: if there is no such offer, or something is missing that it needs.
        """
        for spec in self._specs:
            if offer_id(spec) == offer:
                found = described(spec)
                if found.missing:
                    raise QueryError(found.missing)
                return found
        raise QueryError(N_("that model is not on offer: choose one from the list"))

    def download(
        self, offer: Offer, on_progress: Callable[[Progress], None], cancel: Event
    ) -> bool:
        """Download what an offer needs; return False if it was cancelled.

        Args:
            offer: One that needs a download.
            on_progress: Receives progress in bytes, of the stage "download".
            cancel: Stops it; what has arrived is kept for the next download.

        Raises:
            EmbedderUnavailable: if it fails; what has arrived is kept.
        """
        assert offer.model is not None
        reporter = ProgressReporter(on_progress)
        before = offer.fetched or 0

        def show(now: FetchProgress) -> None:
            reporter.report("download", now.done, now.total, path=Path(now.file), reused=before)

        show(FetchProgress("", before, offer.bytes))
        try:
            fetch(offer.model, progress=show, stopped=cancel.is_set)
        except FetchStopped:
            return False
        with self._lock:
            self._failed.clear()  # It may be the library's, which was not on this machine.
        return True

    def _open(self, spec: str) -> ActiveModel:
        try:
            return ActiveModel(spec, self._library.embedder.info)
        except (IndexerError, EmbedderError) as error:
            return ActiveModel(spec, problem=str(error))
        except Exception:
            _log.exception("cannot open the model %s", spec)
            return ActiveModel(spec, problem="it cannot be opened: see the server's log")


def suggested(active: ActiveModel, offers: Iterable[Offer], counts: LibraryStats) -> Offer | None:
    """Return the model to recommend for a library of photos that has the default model, if any."""
    if active.spec != DEFAULT_MODEL or counts.items.get(Kind.IMAGE, 0) < _MIN_PICTURES:
        return None
    return next((one for one in offers if one.spec == _SUGGESTED and not one.missing), None)


def download_host() -> str:
    """Return the host that models are downloaded from: the hub, or the mirror in HF_ENDPOINT."""
    return urlsplit(str(constants.ENDPOINT)).netloc


def described(spec: str) -> Offer:
    """Return what is known of the model that a specification opens, without opening it."""
    parsed = ModelSpec.parse(spec)
    backend = BACKENDS.get(parsed.family)
    if backend is None:  # named by --offer; opening it says what is wrong
        return Offer(spec)
    model = backend.hub_model(parsed.argument)
    try:
        if missing := backend.missing():
            return Offer(spec, model, missing=f"{missing}, and start the page again")
        if model is None or local_folder(model) is not None:
            return Offer(spec, model)
        named = parsed.argument in ("", *backend.variants)
        return Offer(spec, model, fetched_bytes(model), missing=_undownloadable(spec, named=named))
    except EmbedderError as error:
        return Offer(spec, model, missing=str(error))


def _undownloadable(spec: str, *, named: bool) -> str | None:
    """Return why the page cannot download a model, or None if it can.

    It downloads only models whose repositories this program knows.
    """
    if not named:
        return f"it is not on this machine: get it with `rzen-models fetch {spec}`"
    if constants.HF_HUB_OFFLINE:
        return (
            "it is not on this machine, and HF_HUB_OFFLINE forbids downloads: start the page "
            "without that, or offer a folder with its files by --offer "
            f"{ModelSpec.parse(spec).family}:FOLDER"
        )
    return None
