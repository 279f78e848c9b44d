"""Camera raw files: their previews, or the raw where these are missing or small."""

from pathlib import Path

import pytest
from PIL import Image
from raw_files import cr3, dng
from test_embedder_media_picture import LEFT_RED, near, saved

from embedder.media import Kind, Limits, MediaError, cut, detect, read_picture

SENSOR = (1600, 1200)


def read(path: Path, data: bytes, limits: Limits | None = None) -> Image.Image:
    path.write_bytes(data)
    assert detect(path) is Kind.IMAGE
    (draft,) = cut(path, Kind.IMAGE, limits)
    return draft.content.frames[0]


def test_the_preview_of_a_raw_is_read(tmp_path: Path) -> None:
    frame = read(tmp_path / "a.dng", dng(LEFT_RED))
    assert frame.size == (800, 600)
    assert near(frame.getpixel((100, 300)), (255, 0, 0))
    assert near(frame.getpixel((700, 300)), (0, 0, 255))
    assert read(tmp_path / "b.NEF", dng(LEFT_RED), Limits(frame_side=200)).size == (200, 150)


@pytest.mark.parametrize("preview", [None, (160, 120)])
def test_a_raw_without_a_good_preview_is_developed(
    preview: tuple[int, int] | None, tmp_path: Path
) -> None:
    data = dng(LEFT_RED, SENSOR, preview)
    frame = read(tmp_path / "a.dng", data)
    assert frame.size == (800, 600)
    assert near(frame.getpixel((100, 300)), (255, 0, 0), 80)
    assert near(frame.getpixel((700, 300)), (0, 0, 255), 80)


def test_a_small_preview_of_a_smaller_raw_is_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a.dng", dng(LEFT_RED, (64, 48), (320, 240))).size == (320, 240)


@pytest.mark.parametrize("preview", [None, (800, 600)])
@pytest.mark.parametrize(
    ("orientation", "red"), [(3, (500, 300)), (6, (300, 100)), (8, (300, 700))]
)
def test_raws_are_turned_upright(
    preview: tuple[int, int] | None, orientation: int, red: tuple[int, int], tmp_path: Path
) -> None:
    frame = read(tmp_path / "a.dng", dng(LEFT_RED, SENSOR, preview, orientation))
    assert frame.size == ((800, 600) if orientation == 3 else (600, 800))
    assert near(frame.getpixel(red), (255, 0, 0), 80)


@pytest.mark.parametrize("preview", [None, (800, 600)])
def test_details_of_a_raw_name_its_camera(preview: tuple[int, int] | None, tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(LEFT_RED, SENSOR, preview, orientation=6))
    (draft,) = cut(path, Kind.IMAGE)
    assert draft.details is not None
    assert ("Camera", "Maker Camera 1") in draft.details.facts


def test_too_many_pixels_are_not_developed(tmp_path: Path) -> None:
    limits = Limits(pixels=1_000_000)
    with pytest.raises(MediaError, match="1600 × 1200"):
        read(tmp_path / "a.dng", dng(LEFT_RED, SENSOR, None), limits)
    assert read(tmp_path / "b.dng", dng(LEFT_RED, SENSOR, (160, 120)), limits).size == (160, 120)
    assert read(tmp_path / "c.dng", dng(LEFT_RED, SENSOR), limits).size == (800, 600)


def test_a_raw_that_libraw_cannot_open_gives_its_largest_jpeg(tmp_path: Path) -> None:
    frame = read(tmp_path / "a.cr3", cr3(LEFT_RED.resize((1620, 1080))))
    assert frame.size == (1620, 1080)
    assert near(frame.getpixel((100, 500)), (255, 0, 0))


def test_what_is_named_as_a_raw_is_read_by_its_bytes(tmp_path: Path) -> None:
    assert read(tmp_path / "a.dng", saved(LEFT_RED, "TIFF")).size == LEFT_RED.size
    assert read(tmp_path / "a.nef", saved(LEFT_RED, "JPEG")).size == LEFT_RED.size


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(300)),
        ("a.raf", b"FUJIFILMCCD-RAW 0201" + bytes(300)),
        ("a.nef", b"II*\0\x08\0\0\0" + bytes(300)),
        ("a.dng", dng(LEFT_RED, SENSOR, None)[:9000]),
        ("without a suffix", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(300)),
    ],
)
def test_the_reason_why_a_raw_cannot_be_read_is_true(
    name: str, data: bytes, tmp_path: Path
) -> None:
    with pytest.raises(
        MediaError, match="the camera raw file cannot be read: it is damaged, trunc"
    ):
        read(tmp_path / name, data)


def test_a_raw_without_pixels_is_no_black_picture(tmp_path: Path) -> None:
    black = Image.new("RGB", (64, 48))
    with pytest.raises(MediaError, match="cannot be read"):
        read(tmp_path / "a.dng", dng(black, SENSOR, None))


def test_bytes_of_a_raw_need_no_name() -> None:
    assert read_picture(cr3(LEFT_RED.resize((1620, 1080)))).size == (1620, 1080)
