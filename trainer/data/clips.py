"""Captioned stretches of long videos, cut into clips that are each other's hard negatives.

JSON Lines, one video a line, without the line breaks:

    {"video": "films/market.mp4",
     "captions": [{"start": 0, "end": 8.5, "text": "a woman weighs tomatoes"},
                  {"start": 8.5, "end": 15, "text": "two boys carry a crate"}]}

Times are in seconds. A video is cut once, at its shot changes, and the frames of its clips are
kept as JPEG files: decoding a clip out of a long video in every epoch would mean decoding all
that comes before it. The query of a clip is the caption that fits it best; its negatives are clips
of the same video, the nearest in time first, because these look most alike.

Source: arXiv 2510.27350 cuts long videos into clips as each other's hard negatives; it does not
say how many and which.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from embedder.content import Modality
from embedder.media import Limits, MediaError, read_clips
from trainer.data.examples import BrokenRow, ErrorBudget, Example, Origin, Side, Task, existing_file
from trainer.data.readers import Fields, numbered_lines, parsed_object
from trainer.output import BadOutput, atomic_folder

_SCHEMA = 1
_QUALITY = 92
_MIN_OVERLAP = 0.5
_MAX_OVERLAP_OF_NEGATIVE = 0.1
_MAX_SECONDS = 1e6


@dataclass(frozen=True, slots=True)
class CutClip:
    """A clip whose frames are files.

    Attributes:
        start: Seconds from the start of the video.
        end: Seconds from the start of the video.
        frames: In order.
    """

    start: float
    end: float
    frames: tuple[Path, ...]

    def overlap(self, start: float, end: float) -> float:
        """Return the seconds in common with a stretch of the video."""
        return max(0.0, min(self.end, end) - max(self.start, start))

    @property
    def side(self) -> Side:
        """Return the clip as one side of a pair."""
        return Side(images=self.frames, modality=Modality.VIDEO)


_Seconds = Annotated[float, Field(ge=0, lt=_MAX_SECONDS, strict=True)]


class Caption(Fields):
    """A caption of a stretch of a video, in seconds."""

    start: _Seconds
    end: _Seconds
    text: str

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not self.start < self.end:
            raise ValueError("the start must be before the end")
        if not self.text.strip():
            raise ValueError("the text is blank")
        return self


class _VideoFields(Fields):
    video: str
    captions: Annotated[tuple[Caption, ...], Field(min_length=1)]


def read_captioned_clips(
    path: Path,
    frames: Path,
    errors: ErrorBudget,
    limits: Limits | None = None,
    dataset: str | None = None,
    most_negatives: int = 4,
) -> Iterator[Example]:
    """Read videos with captions for stretches of them; the format is above.

    Args:
        path: The JSON Lines file; names of videos are relative to its folder.
        frames: A folder for the frames of clips; what is there already is not cut again.
        errors: Counts usable and broken videos.
        limits: Its `clip_seconds`, `clip_frames` and `clip_side` apply.
        dataset: Name of the dataset; that of the file without its suffix if None.
        most_negatives: Most clips of the same video that an example has as negatives.

    Yields:
        Examples in order: caption → clip. Captions that fit no clip well are left out.

    Raises:
        Unreadable: the file cannot be opened.
        TooManyBroken: more videos are broken than the budget allows.
    """
    name = path.stem if dataset is None else dataset
    limits = limits or Limits()

    def parse(line: bytes, origin: Origin) -> Iterator[Example]:
        row = _VideoFields.of(parsed_object(line))
        video, captions = row.video, row.captions
        try:
            clips = cut(existing_file(path.parent, video), frames, limits)
        except MediaError as error:
            raise BrokenRow(f"{video}: {error}") from error
        pairs = paired(clips, captions)
        if not pairs:
            raise BrokenRow(f"none of its {len(captions)} captions fits a clip of {video}")
        for caption, clip in pairs:
            yield Example(
                Side(text=caption.text),
                clip.side,
                tuple(c.side for c in nearby_clips(clip, caption, pairs, clips, most_negatives)),
                Task.VIDEO_RETRIEVAL,
                name,
                origin=origin,
            )

    yield from errors.usable(path, numbered_lines(path), parse)


def paired(clips: Sequence[CutClip], captions: Sequence[Caption]) -> list[tuple[Caption, CutClip]]:
    """Pair each caption with the clip that it overlaps most.

    A caption is left out if the overlap is less than half of either: the clip would show too much
    that the caption lacks, or too little of it.
    """
    pairs = []
    for caption in captions:
        fits = [_fit(clip, caption) for clip in clips]
        best = max(range(len(clips)), key=fits.__getitem__)
        if fits[best] >= _MIN_OVERLAP:
            pairs.append((caption, clips[best]))
    return pairs


def nearby_clips(
    clip: CutClip,
    caption: Caption,
    pairs: Sequence[tuple[Caption, CutClip]],
    clips: Sequence[CutClip],
    most: int,
) -> list[CutClip]:
    """Return other clips of the same video, the nearest in time first.

    Clips that the caption covers too, and those of another caption with the same words, are left
    out: they are not wrong answers.
    """
    same = {id(c) for other, c in pairs if _same_words(other.text, caption.text)}
    wrong = [
        other
        for other in clips
        if other is not clip
        and id(other) not in same
        and other.overlap(caption.start, caption.end)
        <= _MAX_OVERLAP_OF_NEGATIVE * (other.end - other.start)
    ]
    middle = (clip.start + clip.end) / 2
    wrong.sort(key=lambda other: abs((other.start + other.end) / 2 - middle))
    return wrong[: max(0, most)]


def cut(video: Path, folder: Path, limits: Limits) -> list[CutClip]:
    """Cut a video into clips and write their frames, unless they are there already.

    A changed video or changed limits are cut again.

    Raises:
        MediaError: the video cannot be decoded.
        BadOutput: the frames cannot be written.
    """
    place = folder / f"{video.stem[:40]}-{_fingerprint(video, limits)}"
    if not place.is_dir():
        try:
            with atomic_folder(place) as partial:
                _write(video, partial, limits)
        except BadOutput:
            if not place.is_dir():  # else another process has cut it meanwhile
                raise
    listed = json.loads((place / "clips.json").read_text("utf-8"))
    return [
        CutClip(clip["start"], clip["end"], tuple(place / frame for frame in clip["frames"]))
        for clip in listed["clips"]
    ]


def _write(video: Path, place: Path, limits: Limits) -> None:
    clips = []
    for number, clip in enumerate(read_clips(video, limits)):
        names = [f"{number:05}-{n:02}.jpg" for n in range(len(clip.frames))]
        for name, frame in zip(names, clip.frames, strict=True):
            frame.save(place / name, quality=_QUALITY)
        clips.append({"start": clip.start, "end": clip.end, "frames": names})
    text = json.dumps({"schema": _SCHEMA, "video": str(video), "clips": clips})
    (place / "clips.json").write_text(text, "utf-8")


def _fingerprint(video: Path, limits: Limits) -> str:
    status = video.stat()
    ways = [limits.clip_side, limits.clip_seconds, limits.clip_frames]
    about = [_SCHEMA, str(video.absolute()), status.st_size, status.st_mtime_ns, *ways]
    return hashlib.blake2b(repr(about).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _fit(clip: CutClip, caption: Caption) -> float:
    """Return the seconds in common, as a share of the longer of the two."""
    longer = max(clip.end - clip.start, caption.end - caption.start)
    return clip.overlap(caption.start, caption.end) / longer if longer else 0.0


def _same_words(first: str, second: str) -> bool:
    return Side(text=first).key == Side(text=second).key
