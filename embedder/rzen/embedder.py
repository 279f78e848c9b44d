"""`rzen`: RzenEmbed on Qwen2-VL (arXiv 2510.27350) behind the project's interface."""

import hashlib
import importlib.metadata
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embedder.content import Content, Modality, Role
from embedder.interface import (
    BaseEmbedder,
    EmbedderInfo,
    EmbedderUnavailable,
    EmbedError,
    Vectors,
)
from embedder.rzen import BACKEND
from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.pictures import Patched, Unfit, patched
from embedder.rzen.schedule import Group, Member, Name, schedule
from embedder.rzen.settings import Settings
from embedder.rzen.template import Template, TokenSequence

if TYPE_CHECKING:
    from torch import Tensor

    from embedder.rzen.backbone import Backbone

_log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

_REVISION = 1
"""Raised when this package changes what it computes."""

_FRAME_SIDE = 4096
"""The first of both resizing steps keeps about as many pixels as a square of this side has."""

_PREPARERS = max(4, min(8, os.cpu_count() or 1))
_PREPARED_GROUPS = 2


def open_rzen(
    argument: str = "",
    *,
    device: str | None = None,
    dtype: str | None = None,
    instructions: Mapping[Modality, str] | None = None,
) -> "RzenEmbedder":
    """Open a checkpoint; see `embedder.open_embedder`.

    Args:
        argument: A folder, a name on the hub, or nothing for the released weights.
        device: Where to run.
        dtype: In which precision.
        instructions: Replace the checkpoint's own for documents of some modalities.

    Raises:
        EmbedderUnavailable: it cannot be opened; the message says what to do.
    """
    checkpoint = Checkpoint.find(argument)
    settings = Settings.of(checkpoint.directory).instructed(instructions or {})
    return RzenEmbedder(checkpoint, settings, device, dtype)


class RzenEmbedder(BaseEmbedder):
    """A Qwen2-VL checkpoint with its settings; the weights load on first use.

    Contents are sorted into groups of about the same length under a budget of tokens. While one
    group is computed, the pictures of the next are prepared. What occurs several times in a call,
    a frame or a whole content, is computed once. Where memory does not suffice, the group is
    halved.

    Args:
        checkpoint: What to run.
        settings: How.
        device: "cpu", "cuda", "cuda:1", "mps"; None for the best there is.
        dtype: "float32", "bfloat16" or "float16"; None for bfloat16 on CUDA and float32 elsewhere.
            It is not part of the fingerprint: a library made on a GPU can be searched on a CPU.

    Raises:
        EmbedderUnavailable: PyTorch or transformers are missing.
    """

    batch_size = 512  # Contents that are sorted together.

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        if missing := BACKEND.missing():
            raise EmbedderUnavailable(missing)
        self.checkpoint = checkpoint
        self.settings = settings
        self._asked = device, dtype
        self._loading, self._computing = threading.Lock(), threading.Lock()
        self._model: tuple[Template, Backbone] | None = None
        self.token_budget = 0
        self.info = EmbedderInfo(
            name=checkpoint.spec,
            revision=_revision(checkpoint, settings),
            dim=checkpoint.dim,
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
        with ThreadPoolExecutor(_PREPARERS, "rzen-prepare") as pool:
            for group, pictures in _prepared(groups, pool):
                with self._computing:  # Another thread's search goes in between two groups.
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
        """The vectors of a group's members, of shape (dim,) each; adds its pictures to `seen`."""
        import torch

        def see(pictures: "Sequence[tuple[Name, Patched]]") -> "list[Tensor]":
            return backbone.see([picture for _, picture in pictures])

        def read(members: Sequence[Member]) -> list[Vectors]:
            features = [[seen[name] for name in member.pictures] for member in members]
            vectors = backbone.read([member.sequence for member in members], features)
            return list(vectors.cpu().numpy())

        with torch.inference_mode():
            try:
                for some in _parts(pictures, self.token_budget):
                    features = self._halving(see, some)
                    seen.update(zip((name for name, _ in some), features, strict=True))
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
        """What `compute` makes of all items, in halves where memory does not suffice."""
        from embedder.rzen.backbone import free_memory, is_out_of_memory

        try:
            return compute(items)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(items) == 1:
                raise _TooLarge(items[0]) from error
        # Out of the handler, whose traceback would hold on to the tensors.
        free_memory()
        middle = len(items) // 2
        _log.info("not enough memory for %d at a time: halved", len(items))
        self.token_budget = max(1, self.token_budget // 2)
        return [*self._halving(compute, items[:middle]), *self._halving(compute, items[middle:])]

    def loaded(self) -> "tuple[Template, Backbone]":
        """What puts contents into sequences, and the model; loaded when first asked for.

        Raises:
            EmbedderUnavailable: the weights do not fit, or are not those of a Qwen2-VL.
        """
        with self._loading:
            if self._model is None:
                from embedder.rzen.backbone import Backbone, chosen_device, chosen_dtype

                device = chosen_device(self._asked[0])
                dtype = chosen_dtype(self._asked[1], device)
                template = Template(self.checkpoint.tokenizer(), self.settings)
                backbone = Backbone.load(self.checkpoint, self.settings, device, dtype)
                self.token_budget = backbone.token_budget()
                self._model = template, backbone
            return self._model


class _TooLarge(Exception):
    """Something does not fit into memory by itself."""

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
    """Each group with its pictures, which are prepared while the groups before are computed."""
    waiting: deque[tuple[Group, list[tuple[Name, Future[Patched]]]]] = deque()
    for group in groups:
        futures = [
            (name, pool.submit(patched, picture.frame, picture.plan))
            for name, picture in group.fresh.items()
        ]
        waiting.append((group, futures))
        if len(waiting) > _PREPARED_GROUPS:
            yield _finished(*waiting.popleft())
    while waiting:
        yield _finished(*waiting.popleft())


def _parts(
    pictures: Sequence[tuple[Name, Patched]], budget: int
) -> Iterator[Sequence[tuple[Name, Patched]]]:
    """The pictures in runs of no more tokens than the budget, or of one."""
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
    """The member that is too large, or that has the picture that is."""
    if isinstance(item, Member):
        return item
    name, _ = item
    return next(member for member in group.members if name in member.pictures)


def _revision(checkpoint: Checkpoint, settings: Settings) -> str:
    major = importlib.metadata.version("transformers").partition(".")[0]
    stated = [str(_REVISION), checkpoint.digest, settings.stated(), f"transformers {major}"]
    return hashlib.sha256("\n".join(stated).encode()).hexdigest()[:16]
