r"""Pictures and captions from Debian packages, to whiten features and to calibrate on.

    apt-get install tuxpaint-stamps-default gcompris-qt-data mate-backgrounds gnome-backgrounds \
        plasma-workspace-wallpapers lxqt-themes lomiri-wallpapers ukui-wallpapers opencv-doc

Only statistics of these pictures (a mean, a covariance, two numbers for each pair of modalities)
end in the weights. Folders that are not installed are left out, with a warning.
"""

import io
import itertools
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

logger = logging.getLogger(__name__)

STAMPS = Path("/usr/share/tuxpaint/stamps")
FOLDERS = (
    Path("/usr/share/wallpapers"),
    Path("/usr/share/backgrounds"),
    Path("/usr/share/lxqt/wallpapers"),
    Path("/usr/share/doc/opencv-doc"),
)
BUNDLES = Path("/usr/share/gcompris-qt/rcc")
LEAST_SIDE, MOST_SIDE = 96, 640  # pixels
LEAST_BYTES = 20_000
_WEBP = re.compile(rb"RIFF(....)WEBPVP8", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Picture:
    """An RGB picture, where it is from, and its caption ("" where there is none)."""

    image: Image.Image
    source: str
    caption: str


def stamps(least: int = LEAST_SIDE) -> Iterator[Picture]:
    """Tux Paint's stamps that have an English caption, on white squares; letters are left out.

    Args:
        least: Pixels of the shorter side; smaller ones are left out.
    """
    for path in _files(STAMPS, (".png",)):
        text = path.with_suffix(".txt")
        if "symbols" in path.parts or not text.exists():
            continue
        caption = text.read_text("utf-8", errors="replace").splitlines()[0].strip()
        image = _opened(path.read_bytes(), least)
        if image is None or not caption:
            continue
        side = max(image.size)
        square = Image.new("RGB", (side, side), (255, 255, 255))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        yield Picture(square, str(path), caption)


def scenes(every: int = 1) -> Iterator[Picture]:
    """Wallpapers, figures of manuals and the pictures of GCompris, without captions.

    Args:
        every: Takes only each n-th file of a folder and each n-th picture of a bundle.
    """
    for folder in FOLDERS:
        for path in _files(folder, (".jpg", ".jpeg", ".png", ".webp"))[::every]:
            if path.stat().st_size < LEAST_BYTES or path.is_symlink():
                continue
            image = _opened(path.read_bytes())
            if image is not None:
                yield Picture(image, str(path), "")
    for path in _files(BUNDLES, (".rcc",)):
        for number, content in itertools.islice(enumerate(_bundled(path)), 0, None, every):
            image = _opened(content)
            if image is not None:
                yield Picture(image, f"{path}@{number}", "")


def opened(source: str) -> Image.Image | None:
    """The picture of a source, as `Picture` names it; None where it is not installed."""
    name, _, number = source.partition("@")
    path = Path(name)
    if not path.is_file():
        logger.warning("%s is not installed; it is left out", source)
        return None
    if not number:
        return _opened(path.read_bytes(), 1)
    return _opened(next(itertools.islice(_bundled(path), int(number), None)), 1)


def _bundled(path: Path) -> Iterator[bytes]:
    """The WebP files in a bundle, in their order."""
    content = path.read_bytes()
    for match in _WEBP.finditer(content):
        size = int.from_bytes(match.group(1), "little") + 8
        yield content[match.start() : match.start() + size]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        logger.warning("%s is not installed; its pictures are left out", folder)
        return []
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())


def _opened(content: bytes, least: int = LEAST_SIDE) -> Image.Image | None:
    """RGB on white, at most 640 pixels; None for what is broken or too small."""
    try:
        image = Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, ValueError):
        return None
    if min(image.size) < least:
        return None
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    image = white.convert("RGB")
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    return image
