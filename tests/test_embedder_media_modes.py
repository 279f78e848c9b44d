import numpy as np
import pytest
from PIL import Image

from embedder.media import picture

SIZE = (61, 83)  # No multiple of anything, so that strips and reduced rows do not come out even.


def gradient(mode: str) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1]))
    if mode.startswith("I;16"):
        return Image.fromarray((across * 40000 + down * 20000).astype(np.uint16))
    if mode == "F":
        return Image.fromarray((across - 3 * down).astype(np.float32))
    pixels = np.stack([across, down, 1 - across, 1 - down / 2], axis=-1) * 255
    return Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "P", "I;16", "F"])
def test_a_large_picture_looks_the_same_though_it_is_reduced_strip_by_strip(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, size = gradient(mode), (15, 20)
    whole = picture.onto_white(picture.plain_mode(image, size)).resize(size, Image.Resampling.BOX)
    monkeypatch.setattr(picture, "_LARGE_PIXELS", 1)
    monkeypatch.setattr(picture, "_STRIP_PIXELS", 61 * 7)
    reduced = picture.plain_mode(image, size)
    assert reduced.size == (31, 42)
    frame = picture.onto_white(reduced).resize(size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(frame, dtype=int) - np.asarray(whole, dtype=int))
    assert difference.mean() < 4  # rows that do not come out even shift it by half a pixel
    assert difference.max() < 24


def test_the_values_of_a_strip_are_scaled_by_those_of_the_whole_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picture, "_LARGE_PIXELS", 1)
    monkeypatch.setattr(picture, "_STRIP_PIXELS", 100)
    depth = np.repeat(np.linspace(100_000, 300_000, 100, dtype=np.int32)[:, None], 100, axis=1)
    rows = np.asarray(picture.plain_mode(Image.fromarray(depth), (10, 10)))[:, 0]
    assert rows[0] < 8
    assert rows[-1] > 247
    assert (np.diff(rows.astype(int)) >= 0).all()
