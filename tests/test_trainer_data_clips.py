"""Long videos: captions look for clips, whose hard negatives are clips of the same video."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.content import Modality
from embedder.media import Limits, MediaError
from trainer.data import clips
from trainer.data.clips import Caption, CutClip, cut, nearby_clips, paired, read_captioned_clips
from trainer.data.examples import ErrorBudget, Example

COLORS = [(200, 30, 30), (30, 160, 40), (40, 60, 210), (220, 210, 60)]
SMALL = Limits(video_side=64, clip_frames=3)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shots of two seconds, each of another colour."""
    import cv2

    path = tmp_path_factory.mktemp("films") / "colours.mp4"
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64)
    )
    for color in COLORS:
        noise = np.random.default_rng(sum(color)).integers(-30, 31, (4, 6, 3)) + color
        frame = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).resize((96, 64))
        for _ in range(20):
            writer.write(np.ascontiguousarray(np.asarray(frame)[:, :, ::-1]))
    writer.release()
    return path


def write(folder: Path, *rows: object) -> Path:
    (folder / "films.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder / "films.jsonl"


def said(*rows: tuple[float, float, str]) -> list[dict[str, object]]:
    return [{"start": start, "end": end, "text": text} for start, end, text in rows]


def read(path: Path, **options: object) -> tuple[list[Example], list[str]]:
    errors = ErrorBudget()
    frames = path.parent / "frames"
    found = list(read_captioned_clips(path, frames, errors, SMALL, **options))
    return found, [note.reason for note in errors.skipped]


def seconds(*edges: float) -> list[CutClip]:
    return [CutClip(a, b, (Path(f"{a}.jpg"),)) for a, b in pairwise(edges)]


def mean_color(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        return tuple(np.asarray(image).mean(axis=(0, 1)).astype(int).tolist())


def test_captions_look_for_their_clip_and_not_for_others_of_the_video(
    film: Path, tmp_path: Path
) -> None:
    shutil.copy(film, tmp_path / "a.mp4")
    captions = said((0, 2, "red"), (2.1, 4, "green"), (4, 6, "blue"))
    found, skipped = read(write(tmp_path, {"video": "a.mp4", "captions": captions}))
    assert skipped == []
    assert [example.query.text for example in found] == ["red", "green", "blue"]
    for example, color in zip(found, COLORS, strict=False):
        frames = example.positive.images
        assert len(frames) == 3
        assert all(np.abs(np.subtract(mean_color(frame), color)).max() < 25 for frame in frames)
        assert len(example.negatives) == 3
        assert example.positive not in example.negatives
    assert found[0].negatives[0] == found[1].positive
    content = found[0].positive.content()
    assert (content.modality, content.frames[0].size) == (Modality.VIDEO, (64, 43))


def test_a_clip_of_one_frame_is_a_video() -> None:
    assert seconds(0, 1)[0].side.modality is Modality.VIDEO


def test_the_number_of_negatives_is_bounded(film: Path, tmp_path: Path) -> None:
    row = {"video": str(film), "captions": said((0, 2, "red"))}
    assert [len(e.negatives) for e in read(write(tmp_path, row), most_negatives=1)[0]] == [1]
    assert [len(e.negatives) for e in read(write(tmp_path, row), most_negatives=0)[0]] == [0]


def test_a_video_is_cut_once_and_again_when_it_has_changed(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Path(shutil.copy(film, tmp_path / "a.mp4"))
    first = cut(video, tmp_path / "frames", SMALL)
    monkeypatch.setattr(clips, "read_clips", lambda *_: pytest.fail("cut again"))
    assert cut(video, tmp_path / "frames", SMALL) == first
    monkeypatch.undo()
    video.touch()
    again = cut(video, tmp_path / "frames", SMALL)
    assert [clip.start for clip in again] == [clip.start for clip in first]
    assert again[0].frames != first[0].frames


def test_cutting_that_was_broken_off_leaves_nothing_behind_and_is_done_again(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*given: object) -> object:
        yield next(iter(original(*given)))
        raise MediaError("the video breaks off")

    original = clips.read_clips
    monkeypatch.setattr(clips, "read_clips", breaking)
    with pytest.raises(MediaError):
        cut(film, tmp_path / "frames", SMALL)
    assert list((tmp_path / "frames").iterdir()) == []
    monkeypatch.undo()
    assert len(cut(film, tmp_path / "frames", SMALL)) == 4
    assert len(list((tmp_path / "frames").iterdir())) == 1


def test_what_another_process_has_cut_meanwhile_is_used(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(film, tmp_path / "other", SMALL)

    def overtaken(*given: object) -> object:
        yield from original(*given)
        shutil.copytree(tmp_path / "other", tmp_path / "frames", dirs_exist_ok=True)

    original = clips.read_clips
    monkeypatch.setattr(clips, "read_clips", overtaken)
    assert [clip.start for clip in cut(film, tmp_path / "frames", SMALL)] == [0, 2, 4, 6]
    assert len(list((tmp_path / "frames").iterdir())) == 1


def test_a_caption_belongs_to_the_clip_it_has_most_in_common_with() -> None:
    cuts = seconds(0, 4, 10, 20)
    captions = [
        Caption(start=3, end=9, text="second"),
        Caption(start=9, end=21, text="third"),
        Caption(start=0, end=20, text="all"),
    ]
    found = paired(cuts, captions)
    assert [(caption.text, clip.start) for caption, clip in found] == [
        ("second", 4),
        ("third", 10),
        ("all", 10),
    ]
    assert paired(cuts, [Caption(start=0, end=1, text="too short for a clip")]) == []
    assert paired(cuts, [Caption(start=50, end=60, text="after the end")]) == []


def test_the_nearest_clips_are_the_hardest_and_right_ones_are_left_out() -> None:
    cuts = seconds(0, 4, 10, 20, 22, 30, 36)
    pairs = [
        (Caption(start=10, end=20, text="a dog"), cuts[2]),
        (Caption(start=30, end=36, text="A  dog"), cuts[5]),
        (Caption(start=0, end=4, text="a cat"), cuts[0]),
    ]
    found = nearby_clips(cuts[2], pairs[0][0], pairs, cuts, 10)
    assert [clip.start for clip in found] == [20, 4, 22, 0]
    wide = Caption(start=9, end=21, text="a dog")
    assert [c.start for c in nearby_clips(cuts[2], wide, pairs, cuts, 10)] == [22, 0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"captions": said((0, 2, "a"))}, "video: Field required"),
        ({"video": "no.mp4", "captions": said((0, 2, "a"))}, "does not exist"),
        (
            {"video": "bad.mp4", "captions": said((0, 2, "a"))},
            "bad.mp4: the video cannot be opened",
        ),
        ({"video": "bad.mp4"}, "captions: Field required"),
        ({"video": "bad.mp4", "captions": []}, "captions: Tuple should have at least 1 item"),
        (
            {"video": "bad.mp4", "captions": said((2, 2, "a"))},
            "captions.0: the start must",
        ),
        ({"video": "bad.mp4", "captions": said((-1, 2, "a"))}, "captions.0.start: Input"),
        (
            {"video": "bad.mp4", "captions": said(("0", 2, "a"))},
            "captions.0.start: Input",
        ),
        ({"video": "bad.mp4", "captions": said((0, 2, " "))}, "captions.0: the text is blank"),
        ({"video": "bad.mp4", "captions": ["a"]}, "captions.0: it is not an object"),
        ({"video": "bad.mp4", "captions": [{"from": 1}]}, "captions.0.from: unknown field"),
        ({"video": "good.mp4", "captions": said((60, 70, "a"))}, "none of its 1 captions fits"),
    ],
)
def test_a_broken_video_or_caption_is_skipped_with_its_reason(
    film: Path, tmp_path: Path, row: object, reason: str
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    shutil.copy(film, tmp_path / "good.mp4")
    good = {"video": "good.mp4", "captions": said((0, 2, "red"))}
    found, skipped = read(write(tmp_path, good, row, good))
    assert [example.origin.line for example in found] == [1, 3]
    assert len(skipped) == 1
    assert reason in skipped[0]
