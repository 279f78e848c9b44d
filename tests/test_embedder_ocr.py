"""Words in pictures are read with their places; pictures without words give none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from embedder.ocr import MIN_LINE_SCORE, Line, Reader

MEDIA = Path(__file__).parent / "media"
TEXTS = ("Platform 7 to Rotterdam", "Ticket RE16 costs 24.50")


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


def drawn(mode: str = "RGB", ink: str = "black", paper: str = "white") -> Image.Image:
    """Return a picture with two lines: from (100, 60), and from (100, 200)."""
    picture = Image.new(mode, (800, 400), paper)
    draw = ImageDraw.Draw(picture)
    for top, text in zip((60, 200), TEXTS, strict=True):
        draw.text((100, top), text, fill=ink, font=ImageFont.load_default(40))
    return picture


def texts(lines: list[Line]) -> tuple[str, ...]:
    return tuple(line.text for line in lines)


def test_lines_come_from_top_to_bottom_with_their_scores(reader: Reader) -> None:
    lines = reader.read(drawn())
    assert texts(lines) == TEXTS
    assert all(MIN_LINE_SCORE <= line.score <= 1 for line in lines)


def test_each_word_has_its_box_as_fractions_of_the_picture(reader: Reader) -> None:
    words = reader.read(drawn())[1].words
    assert [word.text for word in words] == TEXTS[1].split()
    font = ImageFont.load_default(40)
    for word, before in zip(
        words, ("", "Ticket ", "Ticket RE16 ", "Ticket RE16 costs "), strict=True
    ):
        left = 100 + font.getlength(before)
        assert word.left * 800 == pytest.approx(left, abs=12)
        assert word.right * 800 == pytest.approx(left + font.getlength(word.text), abs=12)
        assert 180 < word.top * 400 < 215
        assert 230 < word.bottom * 400 < 260


def test_a_picture_upside_down_is_read_and_its_words_are_where_they_are(reader: Reader) -> None:
    upright = reader.read(drawn())
    turned = reader.read(drawn().rotate(180))
    assert texts(turned) == TEXTS
    word, same = turned[0].words[0], upright[0].words[0]
    assert (1 - word.right, 1 - word.bottom) == pytest.approx((same.left, same.top), abs=0.02)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_every_mode_are_read(reader: Reader, mode: str) -> None:
    assert texts(reader.read(drawn().convert(mode))) == TEXTS


def test_light_words_on_dark_and_black_words_on_nothing_are_read(reader: Reader) -> None:
    assert texts(reader.read(drawn(ink="#eeeeee", paper="#202020"))) == TEXTS
    assert texts(reader.read(drawn("RGBA", paper="#00000000"))) == TEXTS


@pytest.mark.parametrize("name", ["cat.jpg", "coffee.jpg", "rocket.jpg"])
def test_photos_without_words_give_none(reader: Reader, name: str) -> None:
    with Image.open(MEDIA / name) as picture:
        assert reader.read(picture) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (300, 300)])
def test_noise_and_odd_sizes_give_none(reader: Reader, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    assert reader.read(Image.fromarray(pixels)) == []


def test_a_single_letter_is_no_word(reader: Reader) -> None:
    picture = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(picture).text((100, 80), "A", fill="black", font=ImageFont.load_default(120))
    assert reader.read(picture) == []
