"""JPEG XL: what is checked before it is decoded, and what its plug-in leaves to others."""

import io
import struct
from pathlib import Path

import pytest
from PIL import Image
from test_embedder_media_picture import LEFT_RED, near, saved

from embedder.media import Kind, Limits, MediaError, UnsupportedMedia, detect, jxl, read_picture

ROTATED = 6


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize(
    "size", [(60, 40), (64, 48), (256, 256), (257, 255), (96, 80), (1600, 8), (1, 9000), (320, 180)]
)
def test_size_is_checked_before_decoding(container: bool, size: tuple[int, int]) -> None:
    data = saved(Image.new("RGB", size), "JXL", effort=1, use_container=container)
    pixels = size[0] * size[1]
    assert max(read_picture(data, Limits(pixels=pixels)).size) == min(max(size), 4096)
    with pytest.raises(MediaError, match=f"the picture has {size[0]} × {size[1]} = "):
        jxl.check_jxl(io.BytesIO(data), pixels - 1)


def test_bomb_is_refused() -> None:
    side = (1 << 30) - 1
    bits = 0b11 << 1 | side << 3 | 0 << 33 | 0b11 << 36 | side << 38
    declared = b"\xff\x0a" + bits.to_bytes(9, "little") + bytes(20)
    with pytest.raises(MediaError, match="1073741824 × 1073741824"):
        read_picture(declared)
    part = struct.pack(">I4sI", 0, b"jxlp", 0)
    boxed = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s", 16, b"abcd") + bytes(8) + part
    with pytest.raises(MediaError, match="1073741824 × 1073741824"):
        read_picture(boxed + declared)


def test_only_what_was_made_from_a_jpeg_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    (tmp_path / "a.jpg").write_bytes(saved(LEFT_RED, "JPEG", exif=exif))
    with Image.open(tmp_path / "a.jpg") as photo, pytest.warns(match="JPEG reconstruction"):
        frame = read_picture(saved(photo, "JXL"))
    assert frame.size == (40, 60)
    assert near(frame.getpixel((20, 5)), (255, 0, 0))
    assert read_picture(saved(LEFT_RED, "JXL", exif=exif.tobytes())).size == (60, 40)


def test_jpeg_xl_is_known_by_its_bytes_and_its_name(tmp_path: Path) -> None:
    for name, container in (("a.jxl", False), ("b.jxl", True), ("c", True)):
        path = tmp_path / name
        path.write_bytes(saved(LEFT_RED, "JXL", use_container=container))
        assert detect(path) is Kind.IMAGE, name


@pytest.mark.parametrize("length", [2, 14, 40, -30])
def test_truncated_jpeg_xl_is_refused_in_a_sentence(length: int) -> None:
    with pytest.raises(MediaError, match=r"is damaged, or of a format that is not supported$"):
        read_picture(saved(LEFT_RED.resize((300, 200)), "JXL")[:length])


def test_without_the_plug_in_jpeg_xl_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(LEFT_RED, "JXL")
    monkeypatch.setattr(jxl, "register_jxl", lambda: False)
    with pytest.raises(UnsupportedMedia, match=r"not supported: install rzen-search\[jxl\]"):
        read_picture(data)
