"""What can be embedded at all, and what is refused."""

import pytest
from PIL import Image

from embedder import Content, Modality


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> Image.Image:
    return Image.new(mode, size)


def test_the_modality_follows_from_what_is_given() -> None:
    assert Content(text="words").modality is Modality.TEXT
    assert Content(frames=[picture()]).modality is Modality.IMAGE
    assert Content(frames=[picture(), picture()]).modality is Modality.VIDEO
    assert Content(text="words", frames=[picture()]).modality is Modality.IMAGE


def test_page_may_have_text_picture_or_both() -> None:
    for content in (
        Content("words", modality="page"),
        Content(frames=[picture()], modality=Modality.PAGE),
        Content("words", [picture()], "page"),
    ):
        assert content.modality is Modality.PAGE


def test_video_may_have_one_frame() -> None:
    assert Content(frames=[picture()], modality="video").modality is Modality.VIDEO


@pytest.mark.parametrize(
    ("modality", "frames"), [("text", 1), ("image", 0), ("image", 2), ("video", 0)]
)
def test_contradicting_modality_is_refused(modality: str, frames: int) -> None:
    with pytest.raises(ValueError, match=f"modality {modality} cannot have {frames} frames"):
        Content("words", [picture()] * frames, modality)


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="smell"):
        Content("words", modality="smell")


@pytest.mark.parametrize("text", [None, "", " \n\t"])
def test_nothing_but_blanks_cannot_be_embedded(text: str | None) -> None:
    with pytest.raises(ValueError, match="not blank, or at least one frame"):
        Content(text=text)


def test_blank_text_beside_picture_is_dropped() -> None:
    assert Content(text="  ", frames=[picture()]).text is None


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_frame_of_other_mode_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"not {mode} 4×3"):
        Content(frames=[picture(mode)])


def test_invalid_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="0×3"):
        Content(frames=[picture(size=(0, 3))])
    with pytest.raises(ValueError, match="not str"):
        Content(frames=["photo.jpg"])  # type: ignore[list-item]


def test_frames_may_come_from_generator() -> None:
    frames = [picture(size=(n, 1)) for n in (1, 2, 3)]
    assert Content(frames=(frame for frame in frames)).frames == tuple(frames)


def test_content_is_frozen_with_short_repr() -> None:
    content = Content(text="words " * 100, frames=[picture()])
    with pytest.raises(AttributeError):
        content.text = "other"  # type: ignore[misc]
    assert len(repr(content)) < 120
