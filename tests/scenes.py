"""Pictures that differ from each other as shots of a film do."""

import numpy as np
from PIL import Image

COLORS = [(200, 30, 30), (30, 160, 40), (40, 60, 210), (220, 210, 60), (120, 120, 120)]


def scene(number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A coarse pattern in one colour, different for every number."""
    rng = np.random.default_rng(number)
    noise = rng.integers(-40, 41, (4, 6, 3)) + np.array(COLORS[number % len(COLORS)])
    coarse = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def busy(number: int, size: tuple[int, int]) -> Image.Image:
    """A picture with much structure; the colours of one are like those of another."""
    noise = np.random.default_rng(number).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
