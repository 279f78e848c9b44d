"""The files of thumbnails."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from indexer.ingest.thumbnails import Thumbnails

PHOTO = Path(__file__).parent.parent / "samples" / "media" / "photos" / "animals" / "IMG_0101.jpg"
CONTENT = "ab" * 32


def test_progressive_files_have_the_same_pixels_in_fewer_bytes(tmp_path):
    with Image.open(PHOTO) as photo:
        picture = photo.convert("RGB")
    picture.thumbnail((384, 384))
    thumbnails = Thumbnails(tmp_path / "thumbnails")
    thumbnails.write(CONTENT, 0, picture)
    path = thumbnails.path(CONTENT, 0)
    plain = io.BytesIO()
    picture.save(plain, "JPEG", quality=82)
    with Image.open(path) as written, Image.open(plain) as other:
        assert written.info["progressive"]
        assert np.array_equal(np.asarray(written), np.asarray(other))
    assert path.stat().st_size < 0.97 * len(plain.getvalue())
    assert not thumbnails.broken("ab")


def test_a_thumbnail_written_before_is_whole_too(tmp_path):
    thumbnails = Thumbnails(tmp_path)
    path = thumbnails.path(CONTENT, 0)
    path.parent.mkdir()
    Image.new("RGB", (384, 288), "red").save(path, "JPEG", quality=82)
    assert not thumbnails.broken("ab")
    assert thumbnails.compare("ab", {(CONTENT, 0)}) == (set(), set())
