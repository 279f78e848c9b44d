"""`mini`: the embedded default model, on a CPU, from weights inside the package.

Pictures and texts share one space:

- A text is embedded by all-MiniLM-L6-v2 (384 values, mean pooling), one in another language by a
  multilingual encoder that is mapped into that space, see embedder/mini/languages.py. What neither
  understands is a vector of zeros.
- A picture is classified by EfficientNet-Lite2. The average of the text vectors of its likely
  classes, weighted by their probabilities, is its position in the text space (ConSE, Norouzi et
  al. 2013, https://arxiv.org/abs/1312.5650). A head, trained on drawings with captions, moves it
  from there, see docs/mini.md; it is optional.
- Class probabilities hardly distinguish two dogs, so the whitened features of the picture stand
  beside that; for a text, a linear map predicts them from its vector.

A content with several parts is the normalised sum: frames first, then frames and text, of which a
text that is not understood is no part. A vector is [text space (384) | visual (n)], each part of
fixed length, so a plain dot product compares all.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.content import Content, Modality, Role
from embedder.interface import (
    BaseEmbedder,
    Calibration,
    EmbedderError,
    EmbedderInfo,
    EmbedderUnavailable,
    Reliability,
    Vectors,
    normalised,
)
from embedder.mini.languages import LanguageMap, Languages
from embedder.mini.sentences import DIM, Sentences
from embedder.mini.space import Head, Space
from embedder.mini.text import SentenceEncoder
from embedder.onnx_runtime import open_session, run_pictures, usable_cpus

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


FOLDER = Path(__file__).parent / "weights"
"""The weights of this package: data files that cannot run code."""

MANIFEST = "manifest.json"
SCHEMA = 1
SIDE = 260  # pixels, as EfficientNet-Lite2 was trained
CROP = 0.875  # of the shorter side, at the centre
CLS, SEP = 101, 102  # token ids of the English encoder
_BEGIN, _END = 1, 2  # of the multilingual one
_PROCESSOR = "2"  # increment when pixels, windows or the combination of parts change


class Weights:
    """A folder of weights; files are checked against its manifest as they are read.

    The manifest gives for every file its size, its SHA-256 and where it comes from.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read the manifest only.

        Raises:
            EmbedderUnavailable: the manifest is missing or of another schema version.
        """
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise EmbedderUnavailable(
                f"the weights of mini cannot be read ({error}); install the package again"
            ) from error
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != SCHEMA:
            raise EmbedderUnavailable(
                f"{folder / MANIFEST} has schema {schema}, this version reads "
                f"{SCHEMA}; install matching versions of the program and its weights"
            )
        self.files: dict[str, dict[str, Any]] = manifest.get("files")
        if not _are_files(self.files):
            raise EmbedderUnavailable(
                f"{folder / MANIFEST} does not list files with their SHA-256; install the package "
                "again"
            )

    @property
    def revision(self) -> str:
        """Twelve hexadecimal digits over every file that changes vectors, for the fingerprint."""
        lines = [f"{n} {f['sha256']}" for n, f in sorted(self.files.items()) if f["in_revision"]]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]

    def read(self, name: str) -> bytes:
        """Read one file and compare its digest with the manifest.

        Raises:
            EmbedderUnavailable: the file is missing, not in the manifest, or was changed.
        """
        path = self.folder / name
        try:
            content = path.read_bytes()
            expected = self.files[name]["sha256"]
        except (OSError, KeyError) as error:
            raise EmbedderUnavailable(
                f"the weights of mini are incomplete ({error}); install the package again"
            ) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise EmbedderUnavailable(
                f"{path} is not the file that was shipped (its SHA-256 differs from the "
                f"manifest); install the package again"
            )
        return content


def _are_files(listed: object) -> bool:
    return isinstance(listed, dict) and all(
        isinstance(one, dict)
        and isinstance(one.get("sha256"), str)
        and isinstance(one.get("in_revision"), bool)
        for one in listed.values()
    )


@dataclass(frozen=True, slots=True)
class _Models:
    """What is loaded on first use."""

    vision: "InferenceSession"
    sentences: Sentences
    space: Space


class MiniEmbedder(BaseEmbedder):
    """The embedded default: 123 MB of weights, no download, no GPU.

    Guarantees:
        Opening reads two small JSON files; the models load on the first `embed`, once, under a
        lock. Threads may embed at the same time. A row does not depend on what else is in the
        call. Equal texts and equal pictures in a call are computed once. The cost of a text is
        linear in its length, and of a clip in its frames: callers set the limits.
    """

    batch_size = 32

    def __init__(self, weights: Weights | None = None, threads: int | None = None) -> None:
        """Open the weights.

        Args:
            weights: The shipped ones if None.
            threads: CPU threads to use; None takes the CPUs that this process may run on.

        Raises:
            EmbedderUnavailable: the weights are missing or were changed.
        """
        super().__init__()
        self._weights = weights or Weights()
        self._threads = threads or usable_cpus()
        self._lock = threading.Lock()
        self._models: _Models | None = None
        settings = json.loads(self._weights.read("settings.json"))
        self.info = EmbedderInfo(
            name="mini",
            revision=f"{self._weights.revision}-{_PROCESSOR}",
            dim=settings["dim"],
            modalities=frozenset(Modality),
            frame_side=640,  # a 2:1 picture still has more than the 297 pixels that are used
            calibration=_calibrations(settings["calibration"]),
        )

    def knows_word(self, word: str) -> bool:
        """Return whether this is an English word."""
        return self._loaded().sentences.knows_word(word)

    def close(self) -> None:
        """Free the models."""
        super().close()
        with self._lock:
            self._models = None

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        models = self._loaded()
        texts = [content.text for content in contents if content.text is not None]
        words = models.space.texts(models.sentences.embed(texts))
        seen = self._embed_pictures(models, [frame for c in contents for frame in c.frames])
        rows = np.zeros((len(contents), self.info.dim), dtype=np.float32)
        word, frame = 0, 0
        for row, content in zip(rows, contents, strict=True):
            if content.frames:
                row += normalised(seen[frame : frame + len(content.frames)].sum(axis=0))
                frame += len(content.frames)
            if content.text is not None:
                row += words[word]
                word += 1
        return normalised(rows)

    def _loaded(self) -> _Models:
        with self._lock:
            if self._closed:
                raise EmbedderError("the embedder mini is closed")
            if self._models is None:
                self._models = _load(self._weights, self._threads)
            return self._models

    def _embed_pictures(self, models: _Models, frames: Sequence[Image.Image]) -> Vectors:
        """Embed pictures as unit rows (n, dim)."""
        if not frames:
            return np.empty((0, self.info.dim), dtype=np.float32)
        return models.space.pictures(*run_pictures(models.vision, frames, pixels_of, self._threads))


def pixels_of(frame: Image.Image) -> NDArray[np.uint8]:
    """Crop and resize the centre of a picture for the vision tower.

    Args:
        frame: An RGB picture of any size.

    Returns:
        Uint8 array (260, 260, 3): the middle 87.5 % of the shorter side, square, resized.
    """
    side = CROP * min(frame.size)
    left, top = (frame.width - side) / 2, (frame.height - side) / 2
    box = (left, top, left + side, top + side)
    small = frame.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    return np.asarray(small)


def _load(weights: Weights, threads: int) -> _Models:
    """Load both towers."""
    return _Models(
        # trainer/mini/quantise.py chose its weights for that.
        vision=open_session(weights.read("vision.onnx"), fits_16_bits=True),
        sentences=open_sentences(weights, threads),
        space=Space.read(weights.read("space.npz"), _head(weights)),
    )


def open_sentences(weights: Weights, threads: int) -> Sentences:
    """Load the text side alone; the multilingual encoder follows when a text needs it.

    Raises:
        EmbedderUnavailable: its files are missing or were changed.
    """
    encoder = _encoder(weights, "text.onnx", "tokenizer.json", (CLS, SEP), DIM)
    return Sentences(encoder, _languages(weights), threads)


def load_multilingual(weights: Weights) -> SentenceEncoder:
    """Load the encoder for texts that are not English."""
    return _encoder(weights, "multilingual.onnx", "multilingual.json", (_BEGIN, _END), 512)


def _encoder(
    weights: Weights, model: str, tokenizer: str, around: tuple[int, int], width: int
) -> SentenceEncoder:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EmbedderUnavailable(f"mini needs tokenizers: {error}") from error
    session = open_session(weights.read(model))
    cutter = Tokenizer.from_str(weights.read(tokenizer).decode("utf-8"))
    return SentenceEncoder(session, cutter, around, width)


def _languages(weights: Weights) -> Languages | None:
    """Return what understands other languages, or None where the weights do not."""
    if "languages.npz" not in weights.files:
        return None
    known = LanguageMap.read(weights.read("languages.npz"))
    return Languages(known, partial(load_multilingual, weights))


def _head(weights: Weights) -> Head | None:
    """Return the head, or None where the weights have none."""
    return Head.read(weights.read("head.npz")) if "head.npz" in weights.files else None


def _calibrations(
    table: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[Modality, Modality], Calibration]:
    """Parse {"text image": {"midpoint": …, "slope": …, "reliability": {…}}, …}: query first."""
    found = {}
    for pair, values in table.items():
        query, document = pair.split()
        measured = Reliability(**values["reliability"]) if "reliability" in values else None
        constants = Calibration(values["midpoint"], values["slope"], measured)
        found[Modality(query), Modality(document)] = constants
    return found
