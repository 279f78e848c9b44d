r"""Photos of people, scenes and things from Debian packages, with captions of our own.

    apt-get install scratch tuxpaint-data gcompris-qt-data mate-backgrounds lxqt-themes \
        plasma-workspace-wallpapers lomiri-wallpapers-16.04

For measuring and for choosing; nothing is trained on them. photos.tsv names each with its kind and
a caption written after looking at it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.mini.pictures import Picture, opened

TABLE = Path(__file__).with_name("photos.tsv")


@dataclass(frozen=True, slots=True)
class Photo:
    """One line of photos.tsv.

    Attributes:
        kind: "people", "scene" or "thing".
        source: Path of a file, or path and number of a picture in a bundle of GCompris.
        caption: What it shows.
    """

    kind: str
    source: str
    caption: str


def read_photos(table: Path = TABLE) -> list[Photo]:
    """All of them, whether their packages are installed or not."""
    return [Photo(*line.split("\t")) for line in table.read_text("utf-8").splitlines()]


def open_photos(given: list[Photo]) -> Iterator[tuple[Photo, Picture]]:
    """Those that are installed."""
    for photo in given:
        image = opened(photo.source)
        if image is not None:
            yield photo, Picture(image, photo.source, photo.caption)
