"""Live photos are one item: their photo, beside which their seconds of video are skipped."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from decoders import InProcess
from PIL import Image

from embedder.media import cut
from embedder.media.picture import prepare_decoders
from indexer import Library
from indexer.ingest.live_photos import refuse_moving_part

IDENTIFIER = {"com.apple.quicktime.content.identifier": "0E6A7F11-5F1B-4A0C-9C7E-2D5C6C0F7B1E"}


def film(path: Path, seconds: float = 2.0, metadata: dict[str, str] = IDENTIFIER) -> Path:
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(path), "w", format="mov", options=options) as container:
        container.metadata.update(metadata)
        track = container.add_stream("mpeg4", rate=10, width=64, height=48)
        for number in range(round(10 * seconds)):
            pixels = np.full((48, 64, 3), 10 * number % 256, np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "phone"
    folder.mkdir()
    prepare_decoders()
    Image.new("RGB", (64, 48), "teal").save(folder / "IMG_1234.HEIC", format="HEIF")
    film(folder / "IMG_1234.MOV")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy", decoders=InProcess(cut)) as library:
        yield library


def names(library: Library) -> list[str]:
    return sorted(item.name for item in library.catalog.items() if item.segments)


def test_a_live_photo_is_one_item(library: Library, folder: Path) -> None:
    plan = library.plan([folder])
    assert [one.path.name for one in plan.skipped] == ["IMG_1234.MOV"]
    report = library.ingest([folder])
    (skipped,) = report.skipped
    assert skipped.path.name == "IMG_1234.MOV"
    assert skipped.reason == (
        "it is the moving part of the live photo IMG_1234.HEIC, beside which it lies"
    )
    assert names(library) == ["IMG_1234.HEIC"]
    assert library.ingest([folder]).unchanged == 2


def test_moving_part_is_found_once_its_photo_is_gone(library: Library, folder: Path) -> None:
    library.ingest([folder])
    (folder / "IMG_1234.HEIC").unlink()
    report = library.ingest([folder])
    assert (report.added, report.removed) == (1, 1)
    assert names(library) == ["IMG_1234.MOV"]


@pytest.mark.parametrize("per_query", [1, 1_000])
def test_a_video_that_comes_before_its_photo_is_skipped_once_that_comes(
    library: Library, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_query: int
) -> None:
    monkeypatch.setattr("indexer.ingest.discovery._FILES_PER_QUERY", per_query)
    (folder / "IMG_1234.HEIC").rename(tmp_path / "kept.heic")
    library.ingest([folder])
    assert names(library) == ["IMG_1234.MOV"]
    shutil.move(tmp_path / "kept.heic", folder / "IMG_1234.JPG")
    library.ingest([folder])
    assert names(library) == ["IMG_1234.JPG"]
    assert library.ingest([folder]).unchanged == 2


@pytest.mark.parametrize(
    ("photo", "video", "seconds", "metadata"),
    [
        ("a.jpg", "a.mov", 2.0, {}),
        ("a.jpg", "b.mov", 2.0, IDENTIFIER),
        ("a.jpg", "a.mov", 5.0, IDENTIFIER),
        ("a.png", "a.mov", 2.0, IDENTIFIER),
        ("a.jpg", "a.avi", 2.0, IDENTIFIER),
    ],
)
def test_other_videos_beside_photos_are_items(
    photo: str, video: str, seconds: float, metadata: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / photo).write_bytes(b"a photo")
    refuse_moving_part(film(tmp_path / video, seconds, metadata))
    (tmp_path / "a.mp4").write_bytes(b"com.apple.quicktime.content.identifier mvhd")
    refuse_moving_part(tmp_path / "a.mp4")
