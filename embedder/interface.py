"""The interface of embedding models, and the checks and batching that all of them share.

Errors:
    EmbedderError            everything an embedder raises on purpose
    ├── EmbedError           one content could not be embedded; names its position
    └── EmbedderUnavailable  the model cannot be opened (unknown name, missing extra or weights)
"""

import hashlib
import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embedder.content import ROLES, Content, Modality, Role
from embedder.normalisation import readable

if TYPE_CHECKING:
    from embedder.hub import HubModel

Vectors = NDArray[np.float32]
"""Float32 array of shape (n, dim); rows have unit length unless stated otherwise.

A row of zeros stands for a content that the model does not understand: it is like nothing.
"""


class EmbedderError(Exception):
    """Base class of what an embedder raises on purpose."""


class EmbedError(EmbedderError):
    """One content could not be embedded.

    Attributes:
        position: Index of the content in the sequence given to `embed`.
        reason: One sentence without the position.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"content {position}: {reason}")
        self.position = position
        self.reason = reason


class EmbedderUnavailable(EmbedderError):
    """The model cannot be opened; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a calibration did on queries that it was not fitted to.

    Attributes:
        present: How many queries had a relevant document.
        absent: How many had none.
        found: Share of those present whose best relevant document is likelier than not.
        false: Share of those absent for which any document is.
        error: Expected calibration error of all pairs, from 0 to 1.
    """

    present: int
    absent: int
    found: float
    false: float
    error: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Turns a cosine between two modalities into the log-odds of relevance.

    Cosines between two texts are higher than those between a text and a picture, so they can be
    compared only after this step (Platt scaling): logit = slope · (cosine − midpoint).

    Attributes:
        midpoint: The cosine at which a pair is as likely relevant as not.
        slope: Growth of the log-odds per unit of cosine, above 0.
        reliability: What was measured; None where nothing was.
    """

    midpoint: float
    slope: float
    reliability: Reliability | None = None

    def logit(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds of relevance for cosines of any shape."""
        return np.asarray(self.slope * (cosine - self.midpoint), dtype=np.float32)


UNCALIBRATED = Calibration(midpoint=0.5, slope=10.0)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What opens a model: "family[:argument]", for instance "mini" or "rzen:/models/v1".

    Attributes:
        family: Selects the backend; models of two families never share vectors.
        argument: What the family opens, a folder or a name on the hub; empty for its default.
    """

    family: str
    argument: str = ""

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Split a specification at its first colon; every string is one."""
        family, _, argument = spec.partition(":")
        return cls(family, argument)

    def __str__(self) -> str:
        return f"{self.family}:{self.argument}" if self.argument else self.family

    @property
    def short(self) -> str:
        """The specification without parent folders: rzen:/a/b/v1 is rzen:v1."""
        parts = [part for part in re.split(r"[/\\]+", self.argument) if part]
        return f"{self.family}:{parts[-1]}" if parts else str(self)


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """What is known of an embedder without running it.

    Attributes:
        name: The specification that opens it again, for instance "mini".
        revision: Identifies everything else that changes vectors: weights, processor, prompts,
            positions, documents' instructions, library major version.
        dim: Length of its vectors.
        modalities: What it can embed.
        frame_side: Longest side in pixels that it uses: decoders may scale frames down to it.
        calibration: By (query modality, document modality); see `Calibration`.
        instructions: By (query modality, document modality): the instruction of a query of the one
            that searches documents of the other. Empty for a model that takes none.
    """

    name: str
    revision: str
    dim: int
    modalities: frozenset[Modality]
    frame_side: int = 1024
    calibration: Mapping[tuple[Modality, Modality], Calibration] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )
    instructions: Mapping[tuple[Modality, Modality], str] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits over everything that changes vectors.

        Only the family of the name counts: the same weights in another folder give the same
        vectors.
        """
        family = ModelSpec.parse(self.name).family
        identity = "\n".join([family, self.revision, str(self.dim)])
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    @property
    def takes_instructions(self) -> bool:
        """Whether contents can be given an instruction."""
        return bool(self.instructions)

    def calibrated(self, query: Modality, document: Modality) -> Calibration:
        """Return the calibration of a pair of modalities, or a generic one if none was measured."""
        return self.calibration.get((query, document), UNCALIBRATED)


@runtime_checkable
class Embedder(Protocol):
    """Turns contents of all modalities into unit vectors of one space."""

    @property
    def info(self) -> EmbedderInfo:
        """What is known of it without running it."""
        ...

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """Embed contents in order.

        Args:
            contents: What to embed; may be empty.
            role: "query" or "document".

        Returns:
            Float32 array of shape (len(contents), info.dim) with unit rows; row i is content i. A
            content that the model does not understand, such as random letters, has a row of zeros:
            its cosine with everything is 0, so that it has no say in a search.

        Raises:
            EmbedError: a content cannot be embedded; nothing is returned for the others.
        """
        ...

    def knows_word(self, word: str) -> bool:
        """Return whether this is surely a word as it is written, and not a misspelled one."""
        ...

    def close(self) -> None:
        """Free the model; embedding afterwards raises `EmbedderError`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class OpenBackend(Protocol):
    """Opens a model of a family; see `embedder.open_embedder`."""

    def __call__(
        self,
        argument: str,
        *,
        device: str | None,
        dtype: str | None,
        instructions: Mapping[Modality, str],
    ) -> Embedder:
        """Open the model that the argument names; its weights load on first use."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What a family of models states about itself; loads nothing.

    Attributes:
        family: What its specifications begin with.
        summary: What it is good for, in a few words, shown beside its name.
        open: Opens one of its models.
        argument: What may follow the family and a colon, as help shows it; None for nothing.
        variants: Names that may follow as well, of models other than the default.
        requires: Modules that must be installed; the extra named as the family brings them.
        takes_instructions: Whether documents can be embedded with an instruction.
        listed: Whether it is offered to people; the others are for tests.
        facts: Languages, speed and licence, for a model that is in this package.
        hub_model: Returns what the model that an argument names is on the hub; None for one that
            is in this package or in a folder.
    """

    family: str
    summary: str
    open: OpenBackend
    argument: str | None = None
    variants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    takes_instructions: bool = False
    listed: bool = True
    facts: tuple[str, ...] = ()
    hub_model: "Callable[[str], HubModel | None]" = lambda _argument: None

    @property
    def forms(self) -> tuple[str, ...]:
        """The specifications that it opens: "rzen" and "rzen:FOLDER-OR-HUB-ID"."""
        arguments = (*self.variants, *([self.argument] if self.argument else []))
        return (self.family, *(f"{self.family}:{argument}" for argument in arguments))

    def missing(self) -> str | None:
        """Return how to install the required modules that are missing, or None if none is."""
        missing = [name for name in self.requires if importlib.util.find_spec(name) is None]
        return self.install_hint(*missing) if missing else None

    def install_hint(self, *modules: str) -> str:
        """Return the sentence that says how to install modules of the family's extra."""
        verb = "is" if len(modules) == 1 else "are"
        return (
            f"the model {self.family} needs {' and '.join(modules)}, which {verb} not installed: "
            f"run `pip install 'rzen-search[{self.family}]'`, or `pip install '.[{self.family}]'` "
            "in a checkout"
        )


class BaseEmbedder(ABC):
    """Base of backends, with checks and batching: they set `info` and implement `_embed_batch`."""

    info: EmbedderInfo
    batch_size: int = 32

    def __init__(self) -> None:
        self._closed = False

    @abstractmethod
    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        """Embed at most `batch_size` contents of supported modalities as rows, in order."""

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        if self._closed:
            raise EmbedderError(f"the embedder {self.info.name} is closed")
        if role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, not {role!r}")
        for position, content in enumerate(contents):
            if content.modality not in self.info.modalities:
                raise EmbedError(position, f"{self.info.name} cannot embed {content.modality}")
        vectors = np.empty((len(contents), self.info.dim), dtype=np.float32)
        contents = list(map(_readable, contents))
        for start in range(0, len(contents), self.batch_size):
            batch = contents[start : start + self.batch_size]
            try:
                rows = self._embed_batch(batch, role)
            except EmbedError as error:
                raise EmbedError(start + error.position, error.reason) from error
            vectors[start : start + len(batch)] = rows
        understood = vectors.any(axis=1)
        unit = np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-3
        broken = np.flatnonzero(understood & ~unit)
        if broken.size:
            raise EmbedError(
                int(broken[0]), f"{self.info.name} returned a vector of other than unit length"
            )
        return vectors

    def knows_word(self, word: str) -> bool:
        """See `Embedder.knows_word`; without a list of words, none is known."""
        return False

    def close(self) -> None:
        """See `Embedder.close`."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _readable(content: Content) -> Content:
    """Return a content with its text as tokenizers know it."""
    if content.text is None or (content.text.isascii() and "-\n" not in content.text):
        return content
    return replace(content, text=readable(content.text) or content.text)


class Reranker(Protocol):
    """Judges document pages by the words of a query. Thread-safe."""

    def score(self, query: str, page: Content) -> float:
        """Return the probability that a page is what a query asks for.

        Args:
            query: Its words, not blank.
            page: A page with its picture.

        Raises:
            EmbedderError: the model cannot be loaded, or does not fit into memory.
        """
        ...


def normalised(rows: NDArray[np.floating]) -> Vectors:
    """Scale rows (n, dim) to unit length; a row of zeros stays zero."""
    rows = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)
