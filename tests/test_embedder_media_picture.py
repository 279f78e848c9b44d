"""Still pictures of every format and mode, as a person would see them."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from embedder.media import (
    Limits,
    MediaError,
    difference_hash,
    picture,
    pixels,
    read_picture,
    thumbnail,
)
from embedder.media.picture import prepare_decoders

LEFT_RED = Image.new("RGB", (60, 40), "blue")
LEFT_RED.paste((255, 0, 0), (0, 0, 30, 40))
NEAR = 30
"""Lossy formats may be this far off in a channel."""


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    prepare_decoders()
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def near(pixel: object, color: tuple[int, int, int], tolerance: int = NEAR) -> bool:
    return bool(np.abs(np.subtract(pixel, color)).max() <= tolerance)  # type: ignore[call-overload]


FORMATS = "JPEG PNG WEBP GIF BMP TIFF JPEG2000 PPM HEIF AVIF ICO ICNS TGA DDS PCX SGI QOI DIB JXL"


@pytest.mark.parametrize("fmt", FORMATS.split())
def test_every_format_gives_the_same_rgb(fmt: str) -> None:
    image = LEFT_RED.resize((64, 64)) if fmt in ("ICO", "ICNS") else LEFT_RED
    frame = read_picture(saved(image, fmt))
    assert frame.mode == "RGB"
    assert near(frame.getpixel((frame.width // 8, frame.height // 2)), (255, 0, 0))
    assert near(frame.getpixel((frame.width * 7 // 8, frame.height // 2)), (0, 0, 255))


def test_photoshop_file_gives_its_flattened_picture() -> None:
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, *reversed(LEFT_RED.size), 8, 3)
    planes = b"".join(LEFT_RED.getchannel(name).tobytes() for name in "RGB")
    frame = read_picture(head + bytes(12) + bytes(2) + planes)
    assert frame.tobytes() == LEFT_RED.tobytes()


def test_picture_of_sun_is_read() -> None:
    head = struct.pack(">8I", 0x59A66A95, 2, 1, 24, 6, 1, 0, 0)
    frame = read_picture(head + bytes([0, 0, 255, 255, 0, 0]))  # blue, green, red
    assert [frame.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (0, 0, 255)]


def test_png_may_have_long_metadata() -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", " " * 3_000_000, zip=True)
    assert read_picture(saved(LEFT_RED, "PNG", pnginfo=info)).size == LEFT_RED.size


@pytest.mark.parametrize("maximum", [b"P1\n2 1\n0 1\n", b"P2\n2 1\n255\n255 0\n"])
def test_portable_maps_in_letters_are_read(maximum: bytes) -> None:
    frame = read_picture(maximum)
    assert frame.getpixel((0, 0)) == (255, 255, 255)
    assert frame.getpixel((1, 0)) == (0, 0, 0)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(fmt: str, orientation: int) -> None:
    upright = LEFT_RED
    stored = upright
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation → Image.Transpose
    if orientation in undo:
        stored = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = read_picture(saved(stored, fmt, exif=exif))
    assert frame.size == upright.size
    assert near(frame.getpixel((5, 20)), (255, 0, 0))
    assert near(frame.getpixel((55, 20)), (0, 0, 255))


def test_orientation_of_scaled_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(LEFT_RED.resize((2400, 1600)), "JPEG", exif=exif)
    frame = read_picture(data, Limits(frame_side=300))
    assert frame.size == (200, 300)
    assert near(frame.getpixel((100, 20)), (255, 0, 0))  # left came to the top


def test_transparency_is_laid_onto_white() -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.paste((0, 128, 0, 255), (0, 0, 10, 20))
    grey = Image.new("LA", (20, 20), (0, 0))
    grey.paste((77, 255), (0, 0, 10, 20))
    palette = clear.quantize(8)
    for image, color in ((clear, (0, 128, 0)), (grey, (77, 77, 77)), (palette, (0, 128, 0))):
        frame = read_picture(saved(image, "PNG"))
        assert near(frame.getpixel((2, 10)), color, 6), image.mode
        assert near(frame.getpixel((17, 10)), (255, 255, 255), 0), image.mode


def test_transparent_palette_colour_is_white() -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((0, 0), 1)
    frame = read_picture(saved(palette, "GIF", transparency=0))
    assert frame.getpixel((3, 3)) == (255, 255, 255)
    assert frame.getpixel((0, 0)) == (200, 0, 0)
    grey = Image.new("L", (4, 4), 7)
    assert read_picture(saved(grey, "PNG", transparency=7)).getpixel((1, 1)) == (255, 255, 255)


def test_translucent_edges_do_not_darken() -> None:
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 200, 400))
    frame = read_picture(saved(image, "PNG"), Limits(frame_side=50))
    assert np.asarray(frame).min() >= 250


def test_cmyk_keeps_its_colours() -> None:
    cyan = Image.new("CMYK", (30, 20), (255, 0, 0, 0))
    for fmt in ("JPEG", "TIFF"):
        assert near(read_picture(saved(cyan, fmt)).getpixel((5, 5)), (0, 255, 255)), fmt


@pytest.mark.parametrize(
    ("values", "fmt"),
    [
        (np.linspace(0, 65535, 256).astype(np.uint16), "PNG"),
        (np.linspace(0, 65535, 256).astype(np.uint16), "TIFF"),
        (np.linspace(0, 4095, 256).astype(np.uint16), "TIFF"),
        (np.linspace(0, 65535, 256).astype(np.int32), "TIFF"),
        (np.linspace(-5, 2e6, 256).astype(np.int32), "TIFF"),
        (np.linspace(0, 1, 256).astype(np.float32), "TIFF"),
        (np.linspace(-0.2, 40, 256).astype(np.float32), "TIFF"),
    ],
)
def test_more_than_8_bits_are_scaled(values: np.ndarray, fmt: str) -> None:
    frame = read_picture(saved(Image.fromarray(np.tile(values, (4, 1))), fmt))
    shown = np.asarray(frame)[0, :, 0].astype(int)
    assert np.abs(shown - np.arange(256)).max() <= 1


def test_nan_values_become_black() -> None:
    depth = np.full((8, 8), 3.0, np.float32)
    depth[0, 0], depth[0, 1], depth[7, 7] = np.nan, np.inf, 6.0
    frame = np.asarray(read_picture(saved(Image.fromarray(depth), "TIFF")))
    assert frame[7, 7, 0] == 255
    assert frame[0, 0, 0] == frame[0, 1, 0] == frame[4, 4, 0] == 0


def test_lab_colours_are_converted() -> None:
    red = Image.new("LAB", (6, 6), (138, 208, 195))  # a and b are kept with 128 added
    assert near(read_picture(saved(red, "TIFF")).getpixel((3, 3)), (255, 0, 0), 60)


def test_frames_keep_their_shape_within_the_side() -> None:
    for size, expected in (
        ((3000, 1000), (600, 200)),
        ((50, 9000), (3, 600)),
        ((70, 30), (70, 30)),
    ):
        for fmt in ("JPEG", "PNG"):
            frame = read_picture(saved(Image.new("RGB", size), fmt), Limits(frame_side=600))
            assert frame.size == expected
    thin = read_picture(saved(Image.new("RGB", (1, 9000)), "PNG"), Limits(frame_side=600))
    assert thin.size == (1, 600)


def test_jpeg_is_decoded_at_smallest_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    decoded: list[tuple[int, int]] = []
    onward = picture.to_frame

    def watched(image: Image.Image, size: tuple[int, int]) -> Image.Image:
        decoded.append(image.size)
        return onward(image, size)

    monkeypatch.setattr(picture, "to_frame", watched)
    data = saved(Image.new("RGB", (4000, 3000)), "JPEG")
    for side, scaled in ((640, (1000, 750)), (1000, (1000, 750)), (1001, (2000, 1500))):
        frame = read_picture(data, Limits(frame_side=side))
        assert max(frame.size) == side
        assert decoded.pop() == scaled


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "size", [(12_000, 9_000), (28_000, 28_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]
)
def test_too_many_pixels_are_refused_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match=r"million pixels, more than the limit of 100 million"):
        read_picture(bomb(*size))


def test_nested_icon_counts_with_true_size() -> None:
    nested = bomb(30_000, 30_000)
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(nested), 22)
    with pytest.raises(MediaError, match="30000 × 30000"):
        read_picture(directory + nested)
    apple = (
        b"icns" + struct.pack(">I", 16 + len(nested)) + b"ic07" + struct.pack(">I", 8 + len(nested))
    )
    with pytest.raises(MediaError, match="30000 × 30000"):
        read_picture(apple + nested)


def test_sequential_jpeg_may_exceed_limit_fourfold() -> None:
    image = Image.new("RGB", (200, 100))
    limits = Limits(pixels=10_000)
    with pytest.raises(MediaError, match="200 × 100"):
        read_picture(saved(image, "PNG"), limits)
    with pytest.raises(MediaError, match="200 × 100"):
        read_picture(saved(image, "JPEG", progressive=True), limits)
    assert read_picture(saved(image, "JPEG"), limits).size == (200, 100)
    with pytest.raises(MediaError, match="300 × 200"):
        read_picture(saved(image.resize((300, 200)), "JPEG"), limits)


NOISE = Image.effect_noise((120, 160), 80).convert("RGB")


@pytest.mark.parametrize(
    ("mode", "progressive"), [("RGB", False), ("L", False), ("CMYK", False), ("RGB", True)]
)
@pytest.mark.parametrize("missing", [1, 2, 12])
def test_jpeg_without_its_last_bytes_is_read(mode: str, missing: int, progressive: bool) -> None:
    data = saved(NOISE.convert(mode), "JPEG", progressive=progressive)
    whole, cut = (np.asarray(read_picture(one)).astype(int) for one in (data, data[:-missing]))
    differs = np.abs(whole - cut).max(axis=(1, 2)) > 80
    assert not differs[:144].any()


def test_progressive_jpeg_is_read_once_a_coarse_picture_is_there() -> None:
    scene = LEFT_RED.resize((640, 480))
    scene.paste(NOISE, (100, 100))
    data = saved(scene, "JPEG", progressive=True)
    frame = read_picture(data[: len(data) // 2])
    assert near(frame.getpixel((30, 400)), (255, 0, 0))
    assert near(frame.getpixel((600, 470)), (0, 0, 255))
    with pytest.raises(MediaError, match="truncated"):
        read_picture(data[: data.index(b"\xff\xda") + 200])


@pytest.mark.parametrize(("fmt", "tail"), [("JPEG", 0), ("PNG", 12), ("BMP", 0), ("PPM", 0)])
def test_share_of_a_truncated_picture_decides(fmt: str, tail: int) -> None:
    data = saved(NOISE, fmt)
    assert read_picture(data[: len(data) * 95 // 100 - tail]).size == NOISE.size
    with pytest.raises(MediaError, match=r"truncated: only (4\d|50)% of the picture is there"):
        read_picture(data[: len(data) // 2])


def test_truncated_picture_that_ends_in_grey_is_not_taken_for_whole() -> None:
    half = NOISE.copy()
    half.paste((128, 128, 128), (0, 80, 120, 160))
    whole = saved(half, "JPEG")
    assert read_picture(whole).size == half.size
    with pytest.raises(MediaError, match="only 50%"):
        read_picture(whole[:-2])


def test_interlaced_png_that_is_truncated_is_refused() -> None:
    data = bytearray(saved(NOISE, "PNG"))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(MediaError, match="truncated"):
        read_picture(bytes(data[:-60]))


@pytest.mark.parametrize("fmt", "JPEG PNG GIF BMP TIFF PPM HEIF WEBP".split())
def test_truncated_picture_is_reported(fmt: str) -> None:
    data = saved(Image.effect_noise((120, 90), 80).convert("RGB"), fmt)
    with pytest.raises(MediaError, match="the file is truncated"):
        read_picture(data[: len(data) * 2 // 3])


def test_what_is_no_picture_is_a_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"damaged|truncated"):
        read_picture(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 20)
    with pytest.raises(MediaError, match="damaged, or of a format"):
        read_picture(b"certainly not a picture")
    with pytest.raises(MediaError, match="does not exist"):
        read_picture(tmp_path / "nowhere.png")


def test_broken_metadata_is_ignored() -> None:
    data = saved(LEFT_RED, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert read_picture(data).size == LEFT_RED.size


def test_sources_give_the_same_picture(tmp_path: Path) -> None:
    data = saved(LEFT_RED, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    odd = tmp_path / "b\udcff\n.png"
    odd.write_bytes(data)
    with path.open("rb") as file:
        frames = [read_picture(source) for source in (path, str(path), odd, data, file)]
    assert len({frame.tobytes() for frame in frames}) == 1


def test_frame_is_independent_of_its_file() -> None:
    frame = read_picture(saved(LEFT_RED, "PNG"))
    assert type(frame) is Image.Image
    frame.putpixel((0, 0), (1, 2, 3))
    assert frame.copy().getpixel((0, 0)) == (1, 2, 3)


def test_pictures_are_read_in_threads() -> None:
    sources = [saved(LEFT_RED, fmt) for fmt in ("JPEG", "PNG", "HEIF", "AVIF", "WEBP", "TIFF")] * 8
    start = threading.Barrier(6)

    def read(numbered: tuple[int, bytes]) -> bytes:
        if numbered[0] < 6:
            start.wait(10)
        return read_picture(numbered[1]).tobytes()

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(read, enumerate(sources)))
    assert results == [read_picture(source).tobytes() for source in sources]


def test_thumbnails_are_small_and_never_enlarged() -> None:
    assert thumbnail(Image.new("RGB", (1024, 512))).size == (384, 192)
    assert thumbnail(Image.new("RGB", (40, 20))).size == (40, 20)
    assert thumbnail(Image.new("RGB", (40, 20)), Limits(thumbnail_side=10)).size == (10, 5)


def test_difference_hash_distances() -> None:
    rng = np.random.default_rng(5)

    def scene() -> Image.Image:
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)

    def distance(first: Image.Image, second: Image.Image) -> int:
        different = difference_hash(first) ^ difference_hash(second)
        return (different & (2**64 - 1)).bit_count()

    first, second = scene(), scene()
    again = read_picture(saved(first.resize((250, 190)), "JPEG", quality=40))
    assert distance(first, again) <= 4
    assert distance(first, second) >= 16


def test_the_difference_hash_fits_sqlite() -> None:
    rising = Image.fromarray(np.tile(np.arange(0, 180, 20, dtype=np.uint8), (8, 1)))
    assert difference_hash(rising) == -1
    assert difference_hash(rising.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0
    first_only = Image.fromarray(np.full((8, 9), 50, np.uint8))
    first_only.putpixel((0, 0), 0)
    assert difference_hash(first_only) == -(2**63)


ODD_SIZE = (
    61,
    83,
)  # No multiple of anything, so that strips and reduced rows do not come out even.


def gradient(mode: str) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 1, ODD_SIZE[0]), np.linspace(0, 1, ODD_SIZE[1]))
    if mode.startswith("I;16"):
        return Image.fromarray((across * 40000 + down * 20000).astype(np.uint16))
    if mode == "F":
        return Image.fromarray((across - 3 * down).astype(np.float32))
    pixels = np.stack([across, down, 1 - across, 1 - down / 2], axis=-1) * 255
    return Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "P", "I;16", "F"])
def test_large_picture_reduced_in_strips_looks_the_same(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, size = gradient(mode), (15, 20)
    whole = pixels.onto_white(pixels.plain_mode(image, size)).resize(size, Image.Resampling.BOX)
    monkeypatch.setattr(pixels, "_LARGE_PIXELS", 1)
    monkeypatch.setattr(pixels, "_STRIP_PIXELS", 61 * 7)
    reduced = pixels.plain_mode(image, size)
    assert reduced.size == (31, 42)
    frame = pixels.onto_white(reduced).resize(size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(frame, dtype=int) - np.asarray(whole, dtype=int))
    assert difference.mean() < 4  # rows that do not come out even shift it by half a pixel
    assert difference.max() < 24


def test_strips_share_the_grey_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixels, "_LARGE_PIXELS", 1)
    monkeypatch.setattr(pixels, "_STRIP_PIXELS", 100)
    depth = np.repeat(np.linspace(100_000, 300_000, 100, dtype=np.int32)[:, None], 100, axis=1)
    rows = np.asarray(pixels.plain_mode(Image.fromarray(depth), (10, 10)))[:, 0]
    assert rows[0] < 8
    assert rows[-1] > 247
    assert (np.diff(rows.astype(int)) >= 0).all()


def test_reason_never_quotes_the_code_of_a_decoder(tmp_path: Path) -> None:
    """Pillow looks colours up in a tuple, and says so where one is missing."""
    path = tmp_path / "a.xpm"
    path.write_text(
        '/* XPM */\nstatic char * a[] = {\n"2 2 1 1",\n"a c #ffffff",\n"ab",\n"ba"\n};\n'
    )
    with pytest.raises(MediaError) as refused:
        read_picture(path)
    assert "tuple" not in str(refused.value)
    assert "damaged" in str(refused.value)
