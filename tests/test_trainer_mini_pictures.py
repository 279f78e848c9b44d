"""Pictures of packages and what is made of them: views, bundles, emoji's words, features."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from embedder.mini.embedder import Weights
from trainer.data.examples import Unreadable
from trainer.mini import pictures
from trainer.mini.features import Features
from trainer.mini.pictures import (
    Photo,
    drawing_view,
    open_photos,
    opened,
    read_photos,
    scene_views,
    unmeasured_scenes,
)
from trainer.mini.words import drawn_emoji, named_emoji


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    image = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (50, 20, 150, 80))
    image.save(tmp_path / "block.png")
    return tmp_path / "block.png"


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def test_the_first_view_of_a_drawing_is_the_drawing_on_white(drawing: Path) -> None:
    view = drawing_view(drawing, "block", 0)
    assert view.size == (200, 100)
    assert view.getpixel((5, 5)) == (255, 255, 255)
    assert view.getpixel((100, 50)) == (255, 0, 0)


def test_a_view_follows_from_the_name_and_the_number_alone(drawing: Path) -> None:
    views = [drawing_view(drawing, "block", number) for number in range(1, 7)]
    again = [drawing_view(drawing, "block", number) for number in range(6, 0, -1)]
    assert all(map(same, views, reversed(again)))
    assert not any(same(views[0], other) for other in views[1:])
    assert not same(views[0], drawing_view(drawing, "another", 1))


def test_a_scene_is_seen_whole_from_two_corners_and_altered() -> None:
    scene = Image.radial_gradient("L").resize((200, 100)).convert("RGB")
    whole, first, second, _ = scene_views(scene, "gradient")
    assert same(whole, scene)
    assert same(first, scene.crop((0, 0, 140, 70)))
    assert same(second, scene.crop((60, 30, 200, 100)))
    assert same(scene_views(scene, "gradient")[3], scene_views(scene, "gradient")[3])


def test_a_picture_in_a_bundle_is_found_by_its_number(tmp_path: Path) -> None:
    bundle = tmp_path / "animals.rcc"
    content = b"qres"
    for colour in ("red", "lime", "blue"):
        Image.new("RGB", (120, 120), colour).save(tmp_path / "one.webp", lossless=True)
        content += b"\0\0\0\7" + (tmp_path / "one.webp").read_bytes()
    bundle.write_bytes(content)
    second = opened(f"{bundle}@1")
    assert second is not None
    assert second.getpixel((60, 60)) == (0, 255, 0)
    assert opened(f"{tmp_path}/missing.rcc@0") is None


def test_scenes_that_are_measured_on_are_left_out_in_all_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "FOLDERS", (tmp_path,))
    monkeypatch.setattr(pictures, "BUNDLES", tmp_path)
    monkeypatch.setattr(pictures, "MIN_BYTES", 0)
    for name in ("Lake/contents/images/1.png", "Lake/contents/images/2.png", "Hill/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (120, 120)).save(tmp_path / name)
    measured = [Photo("scene", f"{tmp_path}/Lake/contents/images/2.png", "A lake")]
    monkeypatch.setattr(pictures, "read_photos", lambda: measured)
    assert [Path(one.source).parent.name for one in unmeasured_scenes()] == ["Hill"]


def test_photos_have_a_kind_a_source_and_a_caption_and_those_installed_are_opened(
    tmp_path: Path,
) -> None:
    table = read_photos()
    assert {photo.kind for photo in table} == {"people", "scene", "thing"}
    assert len({photo.source for photo in table}) == len(table) == 153
    assert all(photo.source.startswith("/usr/share/") and photo.caption for photo in table)
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "sea.png")
    given = [Photo("scene", str(tmp_path / name), "the sea") for name in ("none.png", "sea.png")]
    assert [photo.source for photo, _ in open_photos(given)] == [given[1].source]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    for folder, lines in (
        (
            "annotations",
            '<annotation cp="🏄">beach | ocean</annotation>'
            '<annotation cp="🏄" type="tts">person surfing</annotation>'
            '<annotation cp="🐈" type="tts">cat</annotation>',
        ),
        (
            "annotationsDerived",
            '<annotation cp="🏄🏽" type="tts">person surfing: medium skin tone</annotation>',
        ),
    ):
        (tmp_path / folder).mkdir()
        xml = f"<ldml><annotations>{lines}</annotations></ldml>"
        (tmp_path / folder / "en.xml").write_text(xml, "utf-8")
    return tmp_path


def test_emoji_have_a_name_and_keywords_and_one_tone_of_skin(words: Path) -> None:
    found = [(one.characters, one.name, one.keywords) for one in named_emoji(words)]
    assert found == [("🏄", "person surfing", ("beach", "ocean")), ("🐈", "cat", ())]


def test_packages_of_emoji_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="unicode-cldr-core"):
        named_emoji(tmp_path)
    with pytest.raises(Unreadable, match="fonts-noto-color-emoji"):
        next(drawn_emoji([], tmp_path / "none.ttf"))


def test_features_of_a_set_are_computed_once_and_anew_where_it_differs(tmp_path: Path) -> None:
    opened_sets: list[str] = []

    def pictures(kind: str) -> Iterator[tuple[str, Image.Image]]:
        opened_sets.append(kind)
        yield "red", Image.new("RGB", (40, 40), "red")
        yield "blue", Image.new("RGB", (40, 40), "blue")

    features = Features(Weights(), tmp_path, threads=1)
    first = features.of("colours", pictures("first"), "1")
    again = features.of("colours", pictures("again"), "1")
    features.of("colours", pictures("other version"), "2")
    assert opened_sets == ["first", "other version"]
    assert first.names == again.names == ["red", "blue"]
    assert first.pooled.shape == (2, 1280)
    assert first.logits.shape == (2, 1000)
    assert np.array_equal(first.pooled, again.pooled)
    assert first[1:].names == ["blue"]
    assert np.array_equal(first[1:].pooled[0], first.pooled[1])
