"""Multimodal language models behind the project's interface."""

import hashlib
import importlib.metadata
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from embedder.content import Content, Modality, Role
from embedder.interface import (
    BaseEmbedder,
    EmbedderInfo,
    EmbedderUnavailable,
    EmbedError,
    Vectors,
)
from embedder.mllm import BACKENDS
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.families import Family
from embedder.mllm.pictures import Patched, Picture, Unfit, patched
from embedder.mllm.settings import Settings
from embedder.mllm.template import Template, TokenSequence

if TYPE_CHECKING:
    from torch import Tensor

    from embedder.mllm.backbone import Backbone

_log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

Name = Hashable
"""Equal for pictures that look the same to the model."""

_REVISION = 1
"""Increment when this package changes what it computes."""

_FRAME_SIDE = 4096
"""The first of the two resizing steps keeps about as many pixels as a square of this side."""

_MAX_PREPARERS = max(4, min(8, os.cpu_count() or 1))
_MAX_PREPARED_GROUPS = 2
_MIN_FILL = 0.8  # of the longest sequence of a group, by every other one
_PADDING_ALLOWED = 8  # tokens that a sequence may be shorter than that
_PROBE_SIZE = (8, 8)


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A sequence of one content, or of several equal ones.

    Attributes:
        sequence: What the model reads.
        pictures: The names of its pictures.
        positions: Where those contents stand in the call.
    """

    sequence: TokenSequence
    pictures: tuple[Name, ...]
    positions: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Members that go through the language model together.

    Attributes:
        members: Sequences of about the same length.
        fresh: Their pictures that no earlier group has, by name.
        last: Their pictures that no later group has.
    """

    members: tuple[Member, ...]
    fresh: Mapping[Name, Picture]
    last: tuple[Name, ...]


def open_mllm(
    family: Family,
    argument: str = "",
    *,
    device: str | None = None,
    dtype: str | None = None,
    instructions: Mapping[Modality, str] | None = None,
) -> "MllmEmbedder":
    """Open a checkpoint; see `embedder.open_embedder`.

    Args:
        family: Its family.
        argument: One of the family's names, a folder, or a name on the hub.
        device: Where to run.
        dtype: In which precision.
        instructions: Replace the checkpoint's own for documents of some modalities.

    Raises:
        EmbedderUnavailable: it cannot be opened; the message says what to do.
    """
    # Before gigabytes are downloaded for nothing.
    if missing := BACKENDS[family.name].missing():
        raise EmbedderUnavailable(missing)
    checkpoint = Checkpoint.find(argument, family)
    settings = Settings.of(checkpoint.directory, family.settings_file, family.settings)
    return MllmEmbedder(checkpoint, settings.instructed(instructions or {}), device, dtype)


class MllmEmbedder(BaseEmbedder):
    """A checkpoint with its settings; the weights load on first use.

    Contents are sorted into groups of about the same length under a budget of tokens. While one
    group is computed, the pictures of the next are prepared. A frame or content that occurs several
    times in a call is computed once. Where memory does not suffice, the group is halved.

    Args:
        checkpoint: The weights to run.
        settings: How to run them.
        device: "cpu", "cuda", "cuda:1", "mps"; None for the best there is.
        dtype: "float32", "bfloat16" or "float16"; None for bfloat16 on CUDA and float32 elsewhere.
            It is not part of the fingerprint: a library made on a GPU can be searched on a CPU.

    Raises:
        EmbedderUnavailable: the settings ask for longer vectors than the model has.
    """

    batch_size = 512  # contents that are sorted together

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        if settings.dim is not None and settings.dim > checkpoint.dim:
            raise EmbedderUnavailable(
                f"dim in {checkpoint.directory / checkpoint.family.settings_file} is "
                f"{settings.dim}, but the model's vectors have {checkpoint.dim} numbers: lower it"
            )
        self.checkpoint = checkpoint
        self.settings = settings
        self._device, self._dtype = device, dtype
        self._loading, self._computing = threading.Lock(), threading.Lock()
        self._model: tuple[Template, Backbone] | None = None
        self.token_budget = 0
        self.info = EmbedderInfo(
            name=checkpoint.spec,
            revision=_revision(checkpoint, settings),
            dim=settings.dim or checkpoint.dim,
            modalities=frozenset(Modality),
            frame_side=_FRAME_SIDE,
            instructions=settings.query_instructions,
        )

    def close(self) -> None:
        """See `Embedder.close`."""
        super().close()
        with self._loading:
            self._model = None

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        template, backbone = self.loaded()
        groups = schedule(_sequences(template, contents, role), self.token_budget)
        vectors = np.empty((len(contents), self.info.dim), dtype=np.float32)
        seen: dict[Name, Tensor] = {}
        with ThreadPoolExecutor(_MAX_PREPARERS, "mllm-prepare") as pool:
            for group, pictures in _prepared(groups, pool):
                with self._computing:  # another thread's search runs between two groups
                    rows = self._computed(backbone, group, pictures, seen)
                for member, row in zip(group.members, rows, strict=True):
                    vectors[member.positions] = row
                for name in group.last:
                    del seen[name]
        return vectors

    def _computed(
        self,
        backbone: "Backbone",
        group: Group,
        pictures: "Sequence[tuple[Name, Patched]]",
        seen: "dict[Name, Tensor]",
    ) -> Sequence[Vectors]:
        """Return the members' vectors, of shape (dim,) each, and add their pictures to `seen`."""
        import torch

        def see(pictures: "Sequence[tuple[Name, Patched]]") -> "list[Tensor]":
            return backbone.see([picture for _, picture in pictures])

        def read(members: Sequence[Member]) -> list[Vectors]:
            features = [[seen[name] for name in member.pictures] for member in members]
            vectors = backbone.read([member.sequence for member in members], features)
            return list(vectors.cpu().numpy())

        with torch.inference_mode():
            try:
                for run in _within_budget(pictures, self.token_budget):
                    features = self._halving(see, run)
                    seen.update(zip((name for name, _ in run), features, strict=True))
                return self._halving(read, group.members)
            except _TooLarge as error:
                member = _holder(group, error.item)
                raise EmbedError(
                    member.positions[0],
                    f"it does not fit into the memory of the device even alone "
                    f"({len(member.sequence)} tokens): use --dtype bfloat16, another --device, "
                    f"or a smaller model",
                ) from error

    def _halving(
        self, compute: "Callable[[Sequence[T]], list[U]]", items: Sequence[T]
    ) -> "list[U]":
        """Return what `compute` makes of all items, in halves where memory does not suffice."""
        from embedder.mllm.backbone import free_memory, is_out_of_memory

        try:
            return compute(items)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(items) == 1:
                raise _TooLarge(items[0]) from error
        # Outside the handler, whose traceback would keep the tensors alive.
        free_memory()
        middle = len(items) // 2
        _log.info("not enough memory for %d at a time: halved", len(items))
        self.token_budget = max(1, self.token_budget // 2)
        return [*self._halving(compute, items[:middle]), *self._halving(compute, items[middle:])]

    def loaded(self) -> "tuple[Template, Backbone]":
        """Return the template and the model, loaded on first use.

        Raises:
            EmbedderUnavailable: the weights do not fit, or are not those of the architecture.
        """
        with self._loading:
            if self._model is None:
                from embedder.mllm.backbone import Backbone, chosen_device, chosen_dtype

                device = chosen_device(self._device)
                dtype = chosen_dtype(self._dtype, device)
                tokenizer, family = self.checkpoint.tokenizer(), self.checkpoint.family
                template = Template(tokenizer, self.settings, family)
                backbone = Backbone.load(self.checkpoint, self.settings, device, dtype)
                self.token_budget = backbone.token_budget()
                self._model = template, backbone
            return self._model


class _TooLarge(Exception):
    """An item does not fit into memory even alone."""

    def __init__(self, item: object) -> None:
        super().__init__()
        self.item = item


def _sequences(template: Template, contents: Sequence[Content], role: Role) -> list[TokenSequence]:
    sequences = []
    for position, content in enumerate(contents):
        try:
            sequence = template.sequence(content, role)
        except Unfit as error:
            raise EmbedError(position, str(error)) from error
        if sequence.reduced:
            _log.warning("content %d, %r: %s", position, content, sequence.reduced)
        sequences.append(sequence)
    return sequences


def _prepared(
    groups: Sequence[Group], pool: Executor
) -> Iterator[tuple[Group, list[tuple[Name, Patched]]]]:
    """Yield each group with its pictures, prepared while the groups before are computed."""
    waiting: deque[tuple[Group, list[tuple[Name, Future[Patched]]]]] = deque()
    for group in groups:
        futures = [(name, pool.submit(patched, picture)) for name, picture in group.fresh.items()]
        waiting.append((group, futures))
        if len(waiting) > _MAX_PREPARED_GROUPS:
            yield _finished(*waiting.popleft())
    while waiting:
        yield _finished(*waiting.popleft())


def _within_budget(
    pictures: Sequence[tuple[Name, Patched]], budget: int
) -> Iterator[Sequence[tuple[Name, Patched]]]:
    """Yield the pictures in runs of at most `budget` tokens, or of one picture."""
    start = tokens = 0
    for index, (_, picture) in enumerate(pictures):
        if index > start and tokens + picture.plan.tokens > budget:
            yield pictures[start:index]
            start, tokens = index, 0
        tokens += picture.plan.tokens
    if pictures:
        yield pictures[start:]


def _finished(
    group: Group, futures: Sequence[tuple[Name, Future[Patched]]]
) -> tuple[Group, list[tuple[Name, Patched]]]:
    return group, [(name, future.result()) for name, future in futures]


def _holder(group: Group, item: Any) -> Member:
    """Return the member that is too large, or whose picture is."""
    if isinstance(item, Member):
        return item
    name, _ = item
    return next(member for member in group.members if name in member.pictures)


def _revision(checkpoint: Checkpoint, settings: Settings) -> str:
    major = importlib.metadata.version("transformers").partition(".")[0]
    stated = [str(_REVISION), checkpoint.digest, settings.stated(), f"transformers {major}"]
    return hashlib.sha256("\n".join(stated).encode()).hexdigest()[:16]


def schedule(sequences: Sequence[TokenSequence], budget: int) -> list[Group]:
    """Group contents for computing, each picture and each content once.

    Args:
        sequences: Of the contents, in their order.
        budget: Most tokens of a group, padding included; a longer sequence gets its own group.
    """
    members = _members(sequences)
    groups = groups_of([len(member.sequence) for member in members], budget)
    used = Counter(name for member in members for name in set(member.pictures))
    met: set[Name] = set()
    found = []
    for group in groups:
        chosen = tuple(members[i] for i in group)
        named = {
            name: picture
            for member in chosen
            for name, picture in zip(member.pictures, member.sequence.pictures, strict=True)
        }
        used.subtract(name for member in chosen for name in set(member.pictures))
        fresh = {name: picture for name, picture in named.items() if name not in met}
        met.update(named)
        found.append(Group(chosen, fresh, tuple(name for name in named if not used[name])))
    return found


def groups_of(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences of about the same length, so that little of a padded batch is padding.

    Args:
        lengths: Tokens of each sequence.
        budget: Most tokens of a group, padding included.

    Returns:
        Indexes into `lengths`, each once, the longest first: if memory does not suffice, that
        shows at once.
    """
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        fits = groups and (len(groups[-1]) + 1) * longest <= budget
        if not fits or length + _PADDING_ALLOWED < _MIN_FILL * longest:
            groups.append([])
            longest = length
        groups[-1].append(index)
    return groups


def _members(sequences: Sequence[TokenSequence]) -> list[Member]:
    """Return the distinct sequences, in order."""
    names = iter(_names([picture for one in sequences for picture in one.pictures]))
    found: dict[Hashable, Member] = {}
    for position, sequence in enumerate(sequences):
        pictures = tuple(next(names) for _ in sequence.pictures)
        key = (sequence.ids.tobytes(), pictures)
        found.setdefault(key, Member(sequence, pictures)).positions.append(position)
    return list(found.values())


def _names(pictures: Sequence[Picture]) -> list[Name]:
    """Name each picture; hash all pixels only where a few do not distinguish it."""
    probes = [(picture.plan, *(_probe(frame) for frame in picture.frames)) for picture in pictures]
    occurs = Counter(probes)
    names: list[Name] = []
    for picture, probe in zip(pictures, probes, strict=True):
        if occurs[probe] == 1:
            names.append(probe)
        else:
            pixels = (hashlib.sha256(frame.tobytes()).digest() for frame in picture.frames)
            names.append((probe, *pixels))
    return names


def _probe(frame: Image.Image) -> Hashable:
    return frame.size, frame.resize(_PROBE_SIZE, Image.Resampling.NEAREST).tobytes()
