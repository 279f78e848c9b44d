"""What of a file can be found: one draft for a picture, one a clip, page or passage."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from PIL import Image, ImageColor

from embedder.content import Modality
from embedder.media import (
    MEDIA_KINDS,
    Details,
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


@pytest.mark.parametrize(
    ("said", "facts"),
    [
        ('GCamera:MotionPhoto="1"', {"Motion photo": "yes"}),
        ("<GCamera:MicroVideo>1</GCamera:MicroVideo>", {"Motion photo": "yes"}),
        ('GCamera:MotionPhoto="0"', {}),
    ],
)
def test_a_motion_photo_is_a_picture_that_says_so(
    said: str, facts: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "PXL_1.MP.jpg"
    Image.new("RGB", (40, 30)).save(path, xmp=f"<x:xmpmeta>{said}</x:xmpmeta>".encode())
    path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(3000))
    (draft,) = drafts(path)
    assert draft.details is not None
    assert dict(draft.details.facts) == {"Size": "40 × 30 pixels"} | facts


def test_resized_copy_has_a_near_hash(photo: Path) -> None:
    copy = photo.with_name("copy.webp")
    with Image.open(photo) as image:
        image.resize((500, 375)).save(copy, quality=60)
    (first,), (second,) = drafts(photo), drafts(copy)
    assert first.picture_hash is not None
    assert second.picture_hash is not None
    assert ((first.picture_hash ^ second.picture_hash) & (2**64 - 1)).bit_count() <= 4


COLORS = ("red", "green", "blue")


def scan(path: Path, colors: Sequence[str] = COLORS, **options: Any) -> Path:
    """Save a TIFF with a page of each colour."""
    pages = [Image.new("RGB", (300, 400), color) for color in colors]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], **options)
    return path


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}])
def test_every_page_of_a_tiff_is_a_segment(options: dict[str, Any], tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.tif", **options)
    found = drafts(path)
    assert [draft.page for draft in found] == [1, 2, 3]
    for draft, color in zip(found, COLORS, strict=True):
        (frame,) = draft.content.frames
        assert frame.size == (150, 200)
        assert draft.thumbnail is not None
        expected = ImageColor.getrgb(color)
        assert frame.getpixel((9, 9)) == draft.thumbnail.getpixel((9, 9)) == expected
        assert (draft.content.modality, draft.picture_hash) == (Modality.IMAGE, None)
    draw = MEDIA_KINDS[Kind.IMAGE].draw
    assert draw is not None
    assert draw(path, 3, LIMITS).getpixel((9, 9)) == (0, 0, 255)
    assert read_content(path, LIMITS, page=2).frames[0].getpixel((9, 9)) == (0, 128, 0)
    assert read_content(path, LIMITS).frames[0].getpixel((9, 9)) == (255, 0, 0)
    with pytest.raises(MediaError, match="no page 4; its pages are 1 to 3"):
        read_content(path, LIMITS, page=4)


def test_previews_and_masks_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    preview, photo, mask = (Image.new("RGB", (60, 40), color) for color in COLORS)
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    photo.encoderinfo = {"tiffinfo": {254: 0}}
    mask.encoderinfo = {"tiffinfo": {254: 4}}
    preview.save(path, save_all=True, append_images=[photo, mask], tiffinfo={254: 1})
    (draft,) = drafts(path)
    assert draft.page is None
    assert draft.picture_hash is not None
    assert draft.content.frames[0].getpixel((9, 9)) == (0, 128, 0)
    preview.save(path, tiffinfo={254: 1})  # as cameras do
    (draft,) = drafts(path)
    assert draft.content.frames[0].getpixel((9, 9)) == (255, 0, 0)


def test_damaged_page_of_a_tiff_costs_no_other(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.tif", compression="tiff_adobe_deflate")
    with Image.open(path) as image:
        image.seek(1)
        start = image.tag_v2[273][0]
    data = bytearray(path.read_bytes())
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    assert [draft.page for draft in drafts(path)] == [1, 3]


def test_tiff_with_too_many_pages_is_refused(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.tif")
    assert len(list(cut(path, Kind.IMAGE, replace(LIMITS, pages=3)))) == 3
    with pytest.raises(MediaError, match="more pages than the limit of 2"):
        list(cut(path, Kind.IMAGE, replace(LIMITS, pages=2)))


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


def test_details_of_one_source_are_completed_by_those_of_another():
    beside = Details(
        captured_at=datetime.fromisoformat("2011-01-02"), words=(("Keywords", "lake; boat"),)
    )
    inside = Details(
        captured_at=datetime.fromisoformat("2020-01-01"),
        latitude=1.0,
        longitude=2.0,
        words=(("Keywords", "Boat; swan"), ("Author", "Ada")),
        facts=(("Camera", "Canon"),),
    )
    assert beside.over(inside) == Details(
        captured_at=datetime.fromisoformat("2011-01-02"),
        latitude=1.0,
        longitude=2.0,
        words=(("Keywords", "lake; boat; swan"), ("Author", "Ada")),
        facts=(("Camera", "Canon"),),
    )


def test_first_segment_has_the_details_and_bad_ones_cost_nothing(monkeypatch, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("word " * 300)
    details = Details(words=(("Title", "a"),))
    record = replace(MEDIA_KINDS[Kind.TEXT], details=lambda path, limits: details)
    monkeypatch.setattr("embedder.media.MEDIA_KINDS", {Kind.TEXT: record})
    assert [draft.details for draft in cut(path, Kind.TEXT)] == [details, None, None]

    def fail(path: Path, limits: Limits) -> Details:
        raise ZeroDivisionError

    record = replace(record, details=fail)
    monkeypatch.setattr("embedder.media.MEDIA_KINDS", {Kind.TEXT: record})
    assert [draft.details for draft in cut(path, Kind.TEXT)] == [None, None, None]
