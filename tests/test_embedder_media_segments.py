"""What of a file can be found: one draft for a picture, one a clip, page or passage."""

from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from PIL import Image

from embedder.content import Modality
from embedder.media import (
    Draft,
    Kind,
    Limits,
    MediaError,
    cut,
    detect,
    difference_hash,
    read_content,
    read_text,
)

LIMITS = Limits(frame_side=200, thumbnail_side=50)


def drafts(path: Path) -> list[Draft]:
    return list(cut(path, detect(path), LIMITS))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    document: Any = pymupdf.open()
    document.new_page(width=300, height=400).insert_text((30, 50), "Lighthouse keepers")
    document.new_page(width=300, height=400)
    document.save(str(tmp_path / "paper.pdf"))
    return tmp_path / "paper.pdf"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = [Image.new("RGB", (64, 48), color) for color in ("maroon", "gold", "navy")]
    stretched = [frame for frame in frames for _ in range(20)]
    path = tmp_path / "film.gif"
    for n, frame in enumerate(stretched):
        stretched[n] = frame.copy()
        stretched[n].putpixel((0, 0), (n, n, n))
    stretched[0].save(path, save_all=True, append_images=stretched[1:], duration=100)
    return path


def test_a_picture_is_one_segment(photo: Path) -> None:
    (draft,) = drafts(photo)
    assert draft.content.modality is Modality.IMAGE
    assert draft.content.frames[0].size == (200, 150)
    assert draft.thumbnail is not None
    assert draft.thumbnail.size == (50, 38)
    assert draft.picture_hash == difference_hash(draft.thumbnail)
    assert (draft.page, draft.start, draft.end, draft.span, draft.words) == (None,) * 4 + ((),)


def test_resized_copy_has_a_near_hash(photo: Path) -> None:
    copy = photo.with_name("copy.webp")
    with Image.open(photo) as image:
        image.resize((500, 375)).save(copy, quality=60)
    (first,), (second,) = drafts(photo), drafts(copy)
    assert first.picture_hash is not None
    assert second.picture_hash is not None
    assert ((first.picture_hash ^ second.picture_hash) & (2**64 - 1)).bit_count() <= 4


def test_moving_picture_is_cut_into_clips(film: Path) -> None:
    found = drafts(film)
    assert [draft.start for draft in found] == pytest.approx([0, 2, 4], abs=0.21)
    assert [draft.end for draft in found] == pytest.approx([2, 4, 6], abs=0.21)
    for draft, red in zip(found, (128, 255, 0), strict=True):
        assert draft.content.modality is Modality.VIDEO
        assert len(draft.content.frames) == 8
        assert draft.picture_hash is None
        assert draft.thumbnail is not None
        assert draft.thumbnail.getpixel((25, 19))[0] == pytest.approx(red, abs=3)


def test_every_pdf_page_is_a_segment(paper: Path) -> None:
    first, blank = drafts(paper)
    assert [first.page, blank.page] == [1, 2]
    assert first.content.modality is blank.content.modality is Modality.PAGE
    assert first.content.text == "Lighthouse keepers"
    assert [word.text for word in first.words] == ["Lighthouse", "keepers"]
    assert 0 < first.words[0].left < first.words[0].right < first.words[1].left < 1
    assert (blank.content.text, blank.words) == (None, ())
    assert first.content.frames[0].size == (150, 200)
    assert first.thumbnail is not None
    assert first.thumbnail.size == (38, 50)


def test_passages_point_into_the_extracted_text(tmp_path: Path) -> None:
    path = tmp_path / "tale.html"
    path.write_text("<title>Tale</title>" + "<p>A sentence of seven words stands here.</p>" * 60)
    found = drafts(path)
    text = read_text(path)
    assert len(found) > 2
    for draft in found:
        assert draft.span is not None
        assert draft.content.text == text[slice(*draft.span)]
        assert draft.content.modality is Modality.TEXT
        assert draft.thumbnail is None


def test_files_are_cut_one_segment_at_a_time(paper: Path) -> None:
    stream = cut(paper, Kind.PDF, LIMITS)
    assert next(stream).page == 1
    stream.close()
    paper.unlink()


def test_a_file_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0nothing more")
    with pytest.raises(MediaError, match=r"truncated|damaged"):
        drafts(path)


def test_a_whole_file_can_be_a_query(photo: Path, paper: Path, film: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("a gull over the pier\n")
    assert read_content(photo, LIMITS).frames[0].size == (200, 150)
    page = read_content(paper, LIMITS)
    assert (page.modality, page.text, len(page.frames)) == (Modality.PAGE, "Lighthouse keepers", 1)
    assert read_content(paper, LIMITS, page=2).text is None
    with pytest.raises(MediaError, match="no page 3"):
        read_content(paper, LIMITS, page=3)
    clip = read_content(film, LIMITS)
    assert (clip.modality, len(clip.frames)) == (Modality.VIDEO, 8)
    words = read_content(note, LIMITS)
    assert (words.modality, words.text) == (Modality.TEXT, "a gull over the pier\n")
