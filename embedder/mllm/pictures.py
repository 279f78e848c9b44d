"""Pictures for Qwen2-VL: their sizes and patches.

A picture is resized twice, as the released script does: first to whole tokens at about its own
size, then into the range of tokens it may have. Both use PIL's bicubic filter. Here and below, a
token stands for 28 × 28 pixels: 2 × 2 patches of 14 × 14.

Qwen2-VL refuses a picture that is more than 200 times as long as wide. Here it is laid onto a white
canvas that is just wide enough, which keeps all of it and its shape.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TOKEN_SIDE = 28
PATCH_SIDE = 14
MAX_RATIO = 200

_MERGE = TOKEN_SIDE // PATCH_SIDE
_FIRST_STEP_TOKENS = (4, 16_384)


class Unfit(ValueError):
    """A content does not fit the model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a picture is resized.

    Attributes:
        first: Width and height in pixels after the first step.
        final: After the second, multiples of 28.
    """

    first: tuple[int, int]
    final: tuple[int, int]

    @property
    def tokens(self) -> int:
        """Tokens that it becomes in the language model."""
        return self.final[0] * self.final[1] // TOKEN_SIDE**2

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.final[1] // PATCH_SIDE, self.final[0] // PATCH_SIDE


def planned(size: tuple[int, int], tokens: tuple[int, int]) -> Plan:
    """Plan how to resize a picture to a number of tokens within a range.

    Args:
        size: Width and height in pixels.
        tokens: Minimum and maximum; a very elongated picture may have a few more.
    """
    first = _fitted(_widened(size), _FIRST_STEP_TOKENS)
    return Plan(first, _fitted(first, tokens))


@dataclass(frozen=True, eq=False, slots=True)
class Patched:
    """A picture ready for the vision encoder.

    Attributes:
        patches: Uint8 (rows · columns, 3 · 14 · 14) before normalisation, grouped by channel; the
            four patches of a token follow each other.
        plan: Its size.
    """

    patches: NDArray[np.uint8]
    plan: Plan


def patched(picture: Image.Image, plan: Plan) -> Patched:
    """Resize an RGB picture as planned for its size and cut it into patches."""
    width, height = _widened(picture.size)
    if picture.size != (width, height):
        white = Image.new("RGB", (width, height), "white")
        white.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        picture = white
    for size in (plan.first, plan.final):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
    rows, columns = plan.grid
    shape = (rows // _MERGE, _MERGE, PATCH_SIDE, columns // _MERGE, _MERGE, PATCH_SIDE, 3)
    cut = np.asarray(picture).reshape(shape).transpose(0, 3, 1, 4, 6, 2, 5)
    return Patched(cut.reshape(rows * columns, 3 * PATCH_SIDE**2), plan)


def _widened(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the canvas of a picture: its own, unless it is too elongated."""
    minimum = -(-max(size) // MAX_RATIO)
    return max(size[0], minimum), max(size[1], minimum)


def _fitted(size: tuple[int, int], tokens: tuple[int, int]) -> tuple[int, int]:
    """Return the nearest size in whole tokens and of about the same shape, within a range."""
    minimum, maximum = (count * TOKEN_SIDE**2 for count in tokens)
    area = size[0] * size[1]
    width, height = (max(TOKEN_SIDE, round(side / TOKEN_SIDE) * TOKEN_SIDE) for side in size)
    if width * height > maximum:
        shrink = math.sqrt(area / maximum)
        width, height = (
            max(TOKEN_SIDE, math.floor(side / shrink / TOKEN_SIDE) * TOKEN_SIDE) for side in size
        )
    elif width * height < minimum:
        grow = math.sqrt(minimum / area)
        width, height = (math.ceil(side * grow / TOKEN_SIDE) * TOKEN_SIDE for side in size)
    return width, height
