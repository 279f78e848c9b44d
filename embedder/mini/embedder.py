"""`mini`: the embedded default model, on a CPU, from weights inside the package.

Pictures and texts share one space:

- A text is embedded by all-MiniLM-L6-v2 (384 values, mean pooling). A text longer than 256 tokens
  is cut into windows of about equal length, whose vectors are averaged.
- A picture is classified by EfficientNet-Lite2. The average of the text vectors of its likely
  classes, weighted by their probabilities, is its position in the text space (ConSE, Norouzi et
  al. 2013, https://arxiv.org/abs/1312.5650). A head, trained on drawings with captions, moves it
  from there, see docs/mini.md; it is optional.
- Class probabilities hardly distinguish two dogs, so the whitened features of the picture stand
  beside that; for a text, a linear map predicts them from its vector.

A content with several parts is the normalised sum: frames first, then frames and text. A vector
is [text space (384) | visual (n)], each part of fixed length, so a plain dot product compares all.
"""

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    Vectors,
    normalised,
)
from embedder.mini.space import Head, Space

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer


FOLDER = Path(__file__).parent / "weights"
"""The weights of this package: data files that cannot run code."""

MANIFEST = "manifest.json"
SCHEMA = 1
SIDE = 260  # pixels, as EfficientNet-Lite2 was trained
CROP = 0.875  # of the shorter side, at the centre
WINDOW = 256  # tokens of a text that are embedded at once, with [CLS] and [SEP]
_CLS, _SEP = 101, 102  # token ids
_PROCESSOR = "1"  # increment when pixels, windows or the combination of parts change
_MAX_FRAMES_IN_MEMORY = 16
_MAX_BATCH_TOKENS = 2048
_MIN_DIVIDED_TOKENS = 128  # fewer are not worth dividing among threads


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
    text: "InferenceSession"
    tokenizer: "Tokenizer"
    space: Space


class MiniEmbedder(BaseEmbedder):
    """The embedded default: 50 MB of weights, no download, no GPU.

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
        self._threads = threads or _usable_cpus()
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

    def close(self) -> None:
        """Free the models."""
        super().close()
        with self._lock:
            self._models = None

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        models = self._loaded()
        words = self._embed_texts(models, [c.text for c in contents if c.text is not None])
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
                self._models = _load(self._weights)
            return self._models

    def _embed_texts(self, models: _Models, texts: Sequence[str]) -> Vectors:
        """Embed texts as unit rows (n, dim); equal ones are computed once."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return np.empty((0, self.info.dim), dtype=np.float32)
        # The tokenizer refuses lone surrogates, which broken file names have.
        valid = [text.encode("utf-8", "replace").decode("utf-8") for text in unique]
        encodings = models.tokenizer.encode_batch_fast(valid, add_special_tokens=False)
        windows: list[list[int]] = []
        owners: list[int] = []
        for owner, encoding in enumerate(encodings):
            for window in _windows(encoding.ids):
                windows.append(window)
                owners.append(owner)
        vectors = _run_text(models.text, windows, self._threads)
        sums = np.zeros((len(unique), vectors.shape[1]), dtype=np.float32)
        np.add.at(sums, owners, vectors)
        rows = models.space.texts(normalised(sums))
        position = {text: row for row, text in enumerate(unique)}
        return rows[[position[text] for text in texts]]

    def _embed_pictures(self, models: _Models, frames: Sequence[Image.Image]) -> Vectors:
        """Embed pictures as unit rows (n, dim)."""
        return models.space.pictures(*self._features(models, frames))

    def _features(self, models: _Models, frames: Sequence[Image.Image]) -> tuple[Vectors, Vectors]:
        """Return pooled features (n, 1280) and logits (n, 1000); equal frames are computed once."""
        first: dict[bytes, int] = {}
        order: list[int] = []
        pooled, logits = [np.empty((0, 1280), np.float32)], [np.empty((0, 1000), np.float32)]
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(frames), _MAX_FRAMES_IN_MEMORY):
                fresh = []
                for pixels in pool.map(pixels_of, frames[start : start + _MAX_FRAMES_IN_MEMORY]):
                    key = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
                    if key not in first:
                        first[key] = len(first)
                        fresh.append(pixels)
                    order.append(first[key])
                each = max(1, -(-len(fresh) // self._threads))
                parts = [fresh[i : i + each] for i in range(0, len(fresh), each)]
                for features, scores in pool.map(partial(_run_vision, models.vision), parts):
                    pooled.append(features)
                    logits.append(scores)
        return np.concatenate(pooled)[order], np.concatenate(logits)[order]


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


def _windows(ids: Sequence[int]) -> Iterator[list[int]]:
    """Cut tokens into windows of about equal length, so that each has the same weight."""
    room = WINDOW - 2
    count = max(1, -(-len(ids) // room))
    bounds = [len(ids) * i // count for i in range(count + 1)]
    for start, end in itertools.pairwise(bounds):
        yield [_CLS, *ids[start:end], _SEP]


def _run_vision(
    session: "InferenceSession", pixels: Sequence[NDArray[np.uint8]]
) -> tuple[Vectors, Vectors]:
    """Return pooled features (n, 1280) and logits (n, 1000)."""
    features, scores = session.run(None, {"pixels": np.stack(pixels)})
    return features, scores


def _run_text(
    session: "InferenceSession", windows: Sequence[Sequence[int]], threads: int = 1
) -> Vectors:
    """Embed windows of token ids as unit vectors (n, 384), in batches with little padding."""
    vectors = np.empty((len(windows), 384), dtype=np.float32)
    batches = list(_batches(windows, threads))

    def run(batch: Sequence[int]) -> None:
        longest = len(windows[batch[-1]])
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, : len(windows[i])] = windows[i]
            mask[row, : len(windows[i])] = 1
        vectors[batch] = session.run(None, {"ids": ids, "mask": mask})[0]

    if len(batches) == 1:
        run(batches[0])  # a single query does not wait for a thread
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, batches))
    return vectors


def _batches(windows: Sequence[Sequence[int]], threads: int) -> Iterator[list[int]]:
    """Yield positions of windows of about equal length, the longest last."""
    by_length = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    share = (
        -(-len(windows) // threads)
        if sum(map(len, windows)) > _MIN_DIVIDED_TOKENS
        else len(windows)
    )
    while by_length:
        longest = len(windows[by_length[-1]])
        size = max(1, min(share, _MAX_BATCH_TOKENS // threads // longest))
        batch = [i for i in by_length[-size:] if len(windows[i]) * 4 >= longest * 3 - 16]
        del by_length[-len(batch) :]
        yield batch


def _load(weights: Weights) -> _Models:
    """Load both towers; onnxruntime and tokenizers are imported only here."""
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EmbedderUnavailable(f"mini needs onnxruntime and tokenizers: {error}") from error
    options = onnxruntime.SessionOptions()
    # Threads that share an operation wait for each other at its end, which costs most when decoding
    # takes one of their CPUs: each thread runs whole pictures and texts instead.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = partial(
        onnxruntime.InferenceSession, sess_options=options, providers=["CPUExecutionProvider"]
    )
    return _Models(
        vision=session(weights.read("vision.onnx")),
        text=session(weights.read("text.onnx")),
        tokenizer=Tokenizer.from_str(weights.read("tokenizer.json").decode("utf-8")),
        space=Space.read(weights.read("space.npz"), _head(weights)),
    )


def _head(weights: Weights) -> Head | None:
    """Return the head, or None where the weights have none."""
    return Head.read(weights.read("head.npz")) if "head.npz" in weights.files else None


def _calibrations(
    table: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[Modality, Modality], Calibration]:
    """Parse {"text image": {"midpoint": …, "slope": …}, …}: query first, then document."""
    found = {}
    for pair, values in table.items():
        query, document = pair.split()
        constants = Calibration(midpoint=values["midpoint"], slope=values["slope"])
        found[Modality(query), Modality(document)] = constants
    return found


def _usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
