"""Words in pictures: PP-OCRv6 through RapidOCR, with the models that its wheel contains.

The alphabet has Latin letters with all accents, Greek, Chinese and Japanese. Cyrillic, Hangul,
Arabic, Hebrew and Devanagari are missing: lines in them have low scores, and are not kept.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Before RapidOCR imports onnxruntime, which sends usage data otherwise.
import embedder.onnx_runtime  # noqa: F401
from embedder.media.kinds import Word

if TYPE_CHECKING:
    from rapidocr import RapidOCR

MIN_LINE_SCORE = 0.8
"""Below it were the doubtful lines of 40 photos, and above it only real words."""

_GATE_SIDE = 736  # of the longer side; at 480, 3 of 42 pictures with text were missed
_GATE_BOX_SCORE = 0.6
_MAX_ASPECT = 23  # RapidOCR needs 32 pixels on the shorter side
_MAX_SIDE = 2000  # bounds memory: 1.1 GB
_UPRIGHT_SCORE = 0.85  # the median of lines upside down is below it
_DETECTOR = "PP-OCRv6_det_small.onnx"
_RECOGNISER = "PP-OCRv6_rec_small.onnx"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text.

    Attributes:
        text: As it is read, with spaces.
        score: How certain the reading is, `MIN_LINE_SCORE` to 1.
        words: Its words from left to right, in scripts without spaces its characters; empty where
            the engine does not locate them.
    """

    text: str
    score: float
    words: tuple[Word, ...]


class Reader:
    """Reads the words in pictures.

    Models are loaded on first use. Threads may share a reader: it reads one picture at a time, in
    one thread, so that it takes one CPU and waits for none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gate: RapidOCR | None = None
        self._engine: RapidOCR | None = None

    def read(self, picture: Image.Image) -> list[Line]:
        """Return the lines of a picture, from top to bottom.

        A picture in which the detector finds no text at a small size is not read, nor is one whose
        longer side is over 23 times the other. One that is read badly is read upside down, too, and
        the better reading is kept.

        Args:
            picture: In any mode and size; over 2000 pixels, it is made smaller.

        Returns:
            Lines with a score of at least `MIN_LINE_SCORE` and two letters or three digits.
        """
        if max(picture.size) > _MAX_ASPECT * min(picture.size):
            return []
        pixels = _bgr(picture)
        with self._lock:
            if not self._shows_text(pixels):
                return []
            lines = self._lines(pixels)
            if lines and median(line.score for line in lines) < _UPRIGHT_SCORE:
                turned = self._lines(np.ascontiguousarray(pixels[::-1, ::-1]))
                if _certainty(turned) > _certainty(lines):
                    lines = [_turned(line) for line in turned]
        return [line for line in lines if line.score >= MIN_LINE_SCORE and _has_word(line.text)]

    def _shows_text(self, pixels: NDArray[np.uint8]) -> bool:
        """Return whether the detector finds a box in a small version of the picture."""
        if self._gate is None:
            # Other than for reading, small pictures stay small.
            quick = {"Det.limit_type": "max", "Det.limit_side_len": _GATE_SIDE}
            self._gate = _load(_GATE_SIDE, {**quick, "Det.box_thresh": _GATE_BOX_SCORE})
        found: Any = self._gate(pixels, use_rec=False)
        return found.boxes is not None and len(found.boxes) > 0

    def _lines(self, pixels: NDArray[np.uint8]) -> list[Line]:
        """Return all lines, uncertain ones too."""
        if self._engine is None:
            self._engine = _load(_MAX_SIDE, {"Global.text_score": 0.0})
        found: Any = self._engine(pixels, return_word_box=True)  # its class depends on arguments
        if found.txts is None:
            return []
        located = found.word_results
        # RapidOCR leaves out lines whose words it cannot locate, which shifts those of the others.
        if len(located) != len(found.txts) or not isinstance(located[0], tuple):
            located = [()] * len(found.txts)
        height, width = pixels.shape[:2]
        return [
            Line(text.strip(), float(score), tuple(_words(row, width, height)))
            for text, score, row in zip(found.txts, found.scores, located, strict=True)
        ]


def _load(max_side: int, more: dict[str, Any]) -> "RapidOCR":
    """Return an engine for pictures up to a longer side in pixels; bigger ones are made smaller."""
    from rapidocr import RapidOCR

    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    models = Path(spec.origin).parent / "models"
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.max_side_len": max_side,
            # It turns long lines that are upright.
            "Global.use_cls": False,
            # Without these paths, models may be fetched.
            "Det.model_path": str(models / _DETECTOR),
            "Rec.model_path": str(models / _RECOGNISER),
            # Threads that share an operation wait for each other, busily.
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            **more,
        }
    )


def _bgr(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a picture, (height, width, 3) in OpenCV's order of colours."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])


def _words(row: tuple[Any, ...], width: int, height: int) -> Iterator[Word]:
    """Yield the words of a line of RapidOCR, which have a quadrilateral each, in pixels."""
    for text, _score, corners in row:
        corners = np.clip(np.asarray(corners, float) / (width, height), 0, 1)
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        yield Word(text, float(left), float(top), float(right), float(bottom))


def _turned(line: Line) -> Line:
    """Return a line of a picture turned by 180 degrees as it lies in the upright one."""
    words = (
        Word(word.text, 1 - word.right, 1 - word.bottom, 1 - word.left, 1 - word.top)
        for word in line.words
    )
    return Line(line.text, line.score, tuple(words))


def _certainty(lines: list[Line]) -> float:
    """Return how good a reading is: the mean score of its characters."""
    characters = sum(len(line.text) for line in lines)
    return sum(line.score * len(line.text) for line in lines) / max(1, characters)


def _has_word(text: str) -> bool:
    """Return whether a line is worth finding; one letter may be anything."""
    letters = sum(char.isalpha() for char in text)
    return letters >= 2 or sum(char.isalnum() for char in text) >= 3
