"""Damaged files of every format end in a picture, a text or a `MediaError`, in nothing else."""

import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pymupdf
import pytest
from PIL import Image

from embedder.media import Kind, Limits, MediaError, detect, suffix_kind
from embedder.media.picture import prepare_decoders
from indexer.segments import cut

BASE = Image.effect_noise((48, 36), 60).convert("RGB")
MOVED = [BASE.rotate(30 * n) for n in range(5)]
STILL = dict(
    zip(
        "jpg png gif webp bmp tif jp2 ppm heic avif ico icns tga dds pcx sgi qoi".split(),
        "JPEG PNG GIF WEBP BMP TIFF JPEG2000 PPM HEIF AVIF ICO ICNS TGA DDS PCX SGI QOI".split(),
        strict=True,
    )
)
MOVING = {"gif": "GIF", "png": "PNG", "webp": "WEBP", "avif": "AVIF"}
VIDEOS = {"mp4": "mp4v", "avi": "MJPG", "mkv": "mp4v"}
FORMATS = [
    *STILL,
    *(f"moving.{suffix}" for suffix in MOVING),
    *(f"film.{suffix}" for suffix in VIDEOS),
    "pdf",
    "html",
    "txt",
]
MUTATIONS = 100


def whole(name: str, folder: Path) -> bytes:
    """An undamaged file of a format."""
    suffix = name.rpartition(".")[2]
    path = folder / f"whole.{suffix}"
    prepare_decoders()
    if name in STILL:
        BASE.save(path, STILL[name])
    elif name.startswith("moving"):
        MOVED[0].save(path, MOVING[suffix], save_all=True, append_images=MOVED[1:], duration=90)
    elif name.startswith("film"):
        code = cv2.VideoWriter.fourcc(*VIDEOS[suffix])
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10, BASE.size)
        for frame in MOVED * 3:
            writer.write(np.asarray(frame))
        writer.release()
    elif name == "pdf":
        path.write_bytes(pdf())
    elif name == "html":
        path.write_bytes(b"<html><title>T</title><body><p>Hello <b>x</b><br>y</body></html>" * 4)
    else:
        path.write_bytes("Grüße an alle.\n\n世界。".encode() * 9)
    return path.read_bytes()


def pdf() -> bytes:
    document: Any = pymupdf.open()
    picture = io.BytesIO()
    BASE.save(picture, "JPEG")
    for number in range(2):
        page = document.new_page(width=200, height=200)
        page.insert_text((20, 50), f"page {number}")
        page.insert_image((50, 60, 150, 160), stream=picture.getvalue())
    return bytes(document.tobytes())


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut off, with bits flipped, with a header overwritten, or with a stretch replaced."""
    damaged = bytearray(data)
    how = rng.randrange(4)
    if how == 0:
        return bytes(damaged[: rng.randrange(len(damaged))])
    if how == 1:
        for _ in range(rng.randrange(1, 12)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    elif how == 2:
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(min(len(damaged), 300))] = rng.choice([0, 255, 127, 128, 1])
    else:
        start = rng.randrange(len(damaged))
        damaged[start : start + rng.randrange(1, 60)] = rng.randbytes(rng.randrange(60))
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_only_media_errors_come_of_damaged_files(name: str, tmp_path: Path) -> None:
    data = whole(name, tmp_path)
    path = tmp_path / f"damaged.{name.rpartition('.')[2]}"
    limits = Limits(frame_side=32, pixels=10_000_000)
    rng = random.Random(name)
    path.write_bytes(data)
    assert list(cut(path, detect(path), limits)), "the undamaged file is read"
    reasons = []
    for _ in range(MUTATIONS if name != "icns" else MUTATIONS // 5):  # a megapixel each
        path.write_bytes(mutated(data, rng))
        reasons += reason_against(path, None, limits)
    assert reasons, "no mutation did any damage"
    assert all(10 < len(reason) < 200 and "\n" not in reason for reason in reasons)


def reason_against(path: Path, kind: Kind | None, limits: Limits) -> list[str]:
    """Why a file cannot be read; nothing if it can."""
    try:
        assert list(cut(path, kind or detect(path), limits))
    except MediaError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_a_file_given_the_wrong_kind_is_a_media_error_or_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(whole(name, tmp_path))
    reasons = [reason_against(path, kind, Limits(frame_side=32)) for kind in Kind]
    assert sum(bool(reason) for reason in reasons) >= 2


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.pdf", "a.txt"])
def test_a_file_without_permission_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    for read in (detect, lambda path: list(cut(path, suffix_kind(path) or Kind.TEXT))):
        with pytest.raises(MediaError, match="not permitted; change its permissions"):
            read(path)


def test_importing_the_package_loads_no_decoder() -> None:
    program = (
        "import sys, embedder, embedder.media\n"
        "heavy = {'cv2', 'pymupdf', 'fitz', 'pillow_heif', 'onnxruntime', 'torch'}\n"
        "print(*heavy & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")
