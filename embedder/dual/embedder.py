"""`siglip2` and `clip`: dual encoders behind the project's interface.

A dual encoder puts captions near their pictures, but reads only the first 64 or 77 tokens of a
text. So words are compared with words by the sentence encoder of `mini`, which reads whole
passages, and with pictures by the dual encoder. A row has a part for each, of fixed length:

    words [384]   the text, by the sentence encoder
    looks [dim]   the pictures by the vision model, or of a query without any its text by the text
                  model

What a content lacks is zero, and parts that it has are of equal length, so that one dot product
compares what two contents have in common. A text that searches has both parts, a photo the second,
a passage the first, a PDF page with words both.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from embedder.content import Content, Modality, Role
from embedder.dual.checkpoint import Checkpoint
from embedder.dual.families import Family
from embedder.dual.towers import TextTower, VisionTower
from embedder.interface import (
    BaseEmbedder,
    Calibration,
    EmbedderError,
    EmbedderInfo,
    Vectors,
    normalised,
)
from embedder.mini.embedder import Weights, open_sentences
from embedder.mini.sentences import DIM as WORDS
from embedder.mini.sentences import SENTENCE_FILES
from embedder.onnx_runtime import usable_cpus

T = TypeVar("T")

_REVISION = 1
"""Increment when this package changes what it computes."""

_SENTENCES = Calibration(midpoint=0.448, slope=26.5)
"""Of a text and a passage by the sentence encoder alone.

Fitted and measured like those of `mini`, on the texts of trainer/mini/calibrate.py: of 571 queries
that were held out and have no match, 1 % have a passage above the midpoint; of 196 that have one,
67 % have it there.
"""

_NO_WORDS = normalised(np.random.default_rng(0).normal(size=WORDS))
"""The words of a query that the sentence encoder does not understand: near no passage.

The dual encoder may understand it. Without this part the other one would be longer than constants
were fitted for.
"""

_FRAME_SIDES = 4  # sides of the vision model's input that a frame needs, to be resized as published
_MIN_FRAME_SIDE = 1024


def open_dual(
    family: Family, argument: str = "", *, device: str | None = None, **_options: object
) -> "DualEmbedder":
    """Open a checkpoint; see `embedder.open_embedder`.

    Args:
        family: Its family.
        argument: One of the family's names, a folder, or a name on the hub.
        device: Where to run.
        _options: What other families can choose. The precision is that of the files.

    Raises:
        EmbedderUnavailable: it cannot be opened; the message says what to do.
    """
    return DualEmbedder(Checkpoint.find(family, argument), device)


class OnFirstUse(Generic[T]):
    """What is made when it is first needed, once, and dropped in the end. Thread-safe."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: T | None = None
        self._closed = False

    def get(self) -> T:
        """Return it.

        Raises:
            EmbedderError: it was dropped.
        """
        with self._lock:
            if self._closed:
                raise EmbedderError("the embedder is closed")
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """Drop it."""
        with self._lock:
            self._closed, self._made = True, None


class DualEmbedder(BaseEmbedder):
    """A dual encoder beside a sentence encoder.

    Guarantees:
        Opening reads the tokenizer and parts of the models. Each model loads when it is first
        needed: an ingest does without the text model, a search by words without the vision model.
        Threads may embed at the same time. A row does not depend on what else is in the call.

    Args:
        checkpoint: The dual encoder.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best that the installed onnxruntime
            has. It is not part of the fingerprint.
        threads: CPU threads to use; None takes the CPUs that this process may run on.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str | None = None, threads: int | None = None
    ) -> None:
        super().__init__()
        threads = threads or usable_cpus()
        weights = Weights()
        self._sentences = OnFirstUse(partial(open_sentences, weights, threads))
        self._vision = OnFirstUse(partial(VisionTower, checkpoint, device, threads))
        self._text = OnFirstUse(partial(TextTower, checkpoint, device, threads))
        self.info = EmbedderInfo(
            name=str(checkpoint.spec),
            revision=_revision(checkpoint, weights),
            dim=WORDS + checkpoint.dim,
            modalities=frozenset(Modality),
            frame_side=max(_MIN_FRAME_SIDE, _FRAME_SIDES * checkpoint.resizing.side),
            calibration=calibrations(checkpoint.likeness),
        )

    def knows_word(self, word: str) -> bool:
        """Return whether this is an English word."""
        return self._sentences.get().knows_word(word)

    def close(self) -> None:
        """Free the models."""
        super().close()
        for model in (self._sentences, self._vision, self._text):
            model.close()

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        rows = np.zeros((len(contents), self.info.dim), dtype=np.float32)
        words, looks = rows[:, :WORDS], rows[:, WORDS:]
        texts = {i: one.text for i, one in enumerate(contents) if one.text is not None}
        if texts:
            words[list(texts)] = self._sentences.get().embed(list(texts.values()))
        frames = [frame for content in contents for frame in content.frames]
        if frames:
            owners = [i for i, content in enumerate(contents) for _ in content.frames]
            np.add.at(looks, owners, self._vision.get().embed(frames))
            looks[:] = normalised(looks)
        searching = [i for i in texts if role == "query" and not contents[i].frames]
        if searching:
            looks[searching] = self._text.get().embed([texts[i] for i in searching])
            unclear = [i for i in searching if not words[i].any()]
            words[unclear] = _NO_WORDS
        return normalised(rows)


def calibrations(likeness: Calibration | None) -> dict[tuple[Modality, Modality], Calibration]:
    """Return the calibration of rows, for the pairs for which constants are known.

    Args:
        likeness: Of a text and a picture, by the dual encoder alone; None if not known.
    """
    text, image, video, page = Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.PAGE
    # A text that searches has two parts, each of length √½, a passage and a picture have one.
    half = math.sqrt(1 / 2)
    found = {(text, text): _scaled(_SENTENCES, half)}
    if likeness is not None:
        found[text, image] = found[text, video] = _scaled(likeness, half)
        # A page has two parts as well. Its words decide: by the dual encoder, cosines with
        # unrelated pictures lie around 0, and even those with fitting ones are below 0.2.
        found[text, page] = _scaled(_SENTENCES, half * half)
    return found


def _scaled(calibration: Calibration, factor: float) -> Calibration:
    """Return the calibration of products that are cosines times a factor."""
    return Calibration(calibration.midpoint * factor, calibration.slope / factor)


def _revision(checkpoint: Checkpoint, weights: Weights) -> str:
    stated = [weights.files[name]["sha256"] for name in SENTENCE_FILES]
    stated += [str(_REVISION), checkpoint.digest]
    return hashlib.sha256("\n".join(stated).encode()).hexdigest()[:16]
