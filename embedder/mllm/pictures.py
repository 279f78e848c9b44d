"""Pictures: their sizes and patches.

A picture is resized into the range of tokens it may have, by PIL's bicubic filter; in some families
first to whole tokens at about its own size. A token stands for 2 × 2 patches.

The models refuse a picture that is more than 200 times as long as wide. Here it is laid onto a
white canvas that is just wide enough, which keeps all of it and its shape.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_RATIO = 200

_MERGE = 2  # patches on each side of a token


class Unfit(ValueError):
    """A content does not fit the model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a picture is resized.

    Attributes:
        first: Width and height in pixels after the first step; as before in families without it.
        final: After the last step, multiples of a token's side.
        patch_side: Of a patch, in pixels.
    """

    first: tuple[int, int]
    final: tuple[int, int]
    patch_side: int

    @property
    def tokens(self) -> int:
        """Tokens that it becomes in the language model."""
        rows, columns = self.grid
        return rows * columns // _MERGE**2

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.final[1] // self.patch_side, self.final[0] // self.patch_side


def planned(
    size: tuple[int, int],
    tokens: tuple[float, float],
    patch_side: int,
    first_step: tuple[int, int] | None = None,
) -> Plan:
    """Plan how to resize a picture to a number of tokens within a range.

    Args:
        size: Width and height in pixels.
        tokens: Minimum and maximum; a very elongated picture may have a few more.
        patch_side: Of a patch, in pixels.
        first_step: Minimum and maximum of tokens after a first step; None for a single step.
    """
    first, unit = _widened(size), _MERGE * patch_side
    if first_step is not None:
        first = _fitted(first, first_step, unit)
    return Plan(first, _fitted(first, tokens, unit), patch_side)


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """What becomes one run of tokens, and how it is resized.

    Attributes:
        frames: One picture, or two consecutive frames of a video that are read together.
        plan: For each of them.
        time: When they are shown, in seconds from the start of the video, where the model reads it.
    """

    frames: tuple[Image.Image, ...]
    plan: Plan
    time: float | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Patched:
    """A picture ready for the vision encoder.

    Attributes:
        patches: Uint8 (rows · columns, 3, frames, side²) before normalisation; the four patches of
            a token follow each other.
        plan: Its size.
    """

    patches: NDArray[np.uint8]
    plan: Plan


def patched(picture: Picture) -> Patched:
    """Resize the frames of a picture as planned and cut them into patches."""
    cut = np.stack([_cut(frame, picture.plan) for frame in picture.frames], axis=2)
    return Patched(cut, picture.plan)


def _cut(frame: Image.Image, plan: Plan) -> NDArray[np.uint8]:
    """Resize an RGB frame and return its patches, uint8 (rows · columns, 3, side²)."""
    width, height = _widened(frame.size)
    if frame.size != (width, height):
        white = Image.new("RGB", (width, height), "white")
        white.paste(frame, ((width - frame.width) // 2, (height - frame.height) // 2))
        frame = white
    for size in (plan.first, plan.final):
        if frame.size != size:
            frame = frame.resize(size, Image.Resampling.BICUBIC)
    (rows, columns), side = plan.grid, plan.patch_side
    shape = (rows // _MERGE, _MERGE, side, columns // _MERGE, _MERGE, side, 3)
    cut = np.asarray(frame).reshape(shape).transpose(0, 3, 1, 4, 6, 2, 5)
    return cut.reshape(rows * columns, 3, side**2)


def _widened(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the canvas of a picture: its own, unless it is too elongated."""
    minimum = -(-max(size) // MAX_RATIO)
    return max(size[0], minimum), max(size[1], minimum)


def _fitted(size: tuple[int, int], tokens: tuple[float, float], unit: int) -> tuple[int, int]:
    """Return the nearest size in whole tokens and of about the same shape, within a range.

    Args:
        size: Width and height in pixels.
        tokens: Minimum and maximum.
        unit: The side of a token in pixels.
    """
    minimum, maximum = (count * unit**2 for count in tokens)
    area = size[0] * size[1]
    width, height = (max(unit, round(side / unit) * unit) for side in size)
    if width * height > maximum:
        shrink = math.sqrt(area / maximum)
        width, height = (max(unit, math.floor(side / shrink / unit) * unit) for side in size)
    elif width * height < minimum:
        grow = math.sqrt(minimum / area)
        width, height = (math.ceil(side * grow / unit) * unit for side in size)
    return width, height
