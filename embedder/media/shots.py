"""Shot detection: a stream of timed frames → clips without a shot change, of a few frames each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from embedder.content import Content, Modality
from embedder.media.kinds import Limits

SAMPLES_PER_SECOND = 5.0
MIN_CLIP_SECONDS = 1.0
SIGNATURE_SIZE = (32, 18)
_MIN_SHOT_DIFFERENCE = 0.13

Signature = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """An RGB frame of a moving picture, shown at least from `time` to `end`, in seconds.

    Attributes:
        looks: The `signature` of the frame before it was scaled down for a model, so that shots
            change at the same times for every model; None to compute it from `frame`.
    """

    time: float
    end: float
    frame: Image.Image
    looks: Signature | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """A time span of a moving picture.

    Attributes:
        start: Seconds from the start of the file.
        end: Seconds from the start of the file, where the next clip starts or the file ends.
        frames: RGB pictures, evenly spaced, at least one.
        times: When each of them is shown, in seconds from the start of the clip.
    """

    start: float
    end: float
    frames: tuple[Image.Image, ...]
    times: tuple[float, ...]

    @property
    def content(self) -> Content:
        """The clip as what can be embedded."""
        return Content(frames=self.frames, modality=Modality.VIDEO, times=self.times)


def cut_clips(samples: Iterable[Sample], limits: Limits) -> Iterator[Clip]:
    """Cut a stream of samples at shot changes, and at `limits.clip_seconds` where none comes.

    A clip is at least a second long, so that flashes do not make clips; a remainder of less than a
    second stays with the clip before it. Memory is bounded by the samples of one clip.

    Args:
        samples: In order of time.
        limits: Gives `clip_seconds` and `clip_frames`.

    Yields:
        Clips without gaps, in order.
    """
    shot: list[Sample] = []  # complete, but a remainder too short for a clip may still join it
    held: list[Sample] = []
    before: Signature | None = None
    for sample in samples:
        now = signature(sample.frame) if sample.looks is None else sample.looks
        long_enough = bool(held) and sample.time - held[0].time >= MIN_CLIP_SECONDS
        if shot and long_enough:
            yield _clip(shot, held[0].time, limits)
            shot = []
        if long_enough and before is not None and is_shot_change(before, now):
            shot, held = held, []
        before = now
        held.append(sample)
        if sample.time - held[0].time >= limits.clip_seconds + MIN_CLIP_SECONDS:
            full = held[0].time + limits.clip_seconds
            rest = [kept for kept in held if kept.time >= full]
            yield _clip(held[: len(held) - len(rest)], rest[0].time, limits)
            held = rest
    if shot and held[-1].end - held[0].time >= MIN_CLIP_SECONDS:
        yield _clip(shot, held[0].time, limits)
        shot = []
    if held:
        yield _clip(shot + held, held[-1].end, limits)


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Choose at most `count` samples, evenly spaced in time, the first and the last included."""
    if len(samples) <= count:
        return list(samples)
    times = np.array([sample.time for sample in samples])
    chosen: list[int] = []
    for number, time in enumerate(np.linspace(times[0], times[-1], count)):
        first = chosen[-1] + 1 if chosen else 0
        end = len(times) - (count - 1 - number)  # enough must be left for the rest
        chosen.append(first + int(np.abs(times[first:end] - time).argmin()))
    return [samples[index] for index in chosen]


def gather(samples: Iterable[Sample], limits: Limits) -> Clip | None:
    """Make one clip of a whole stream in bounded memory; return None if the stream is empty.

    Whenever too many samples are held, every other one is dropped, and only every second, fourth,
    eighth … sample is kept from then on.
    """
    max_held, step = 6 * limits.clip_frames, 1
    held: list[Sample] = []
    last: Sample | None = None
    for index, sample in enumerate(samples):
        last = sample
        if index % step == 0:
            held.append(sample)
        if len(held) > max_held:
            held, step = held[::2], step * 2
    if last is None:
        return None
    if held[-1] is not last:
        held.append(last)
    return _clip(held, last.end, limits)


def signature(frame: Image.Image) -> Signature:
    """Reduce a frame to float32 (18, 32, 3), values from 0 to 1, to compare shots by."""
    small = frame.resize(SIGNATURE_SIZE, Image.Resampling.BOX, reducing_gap=1.0)
    return as_signature(np.asarray(small))


def as_signature(small: npt.NDArray[np.uint8]) -> Signature:
    """Return the signature of a frame that is reduced to (18, 32, 3) already, red first."""
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def is_shot_change(before: Signature, now: Signature) -> bool:
    """Whether a new shot has begun between two signatures, some 0.2 seconds apart.

    The difference is that of the patterns, after the best shift of up to an eighth of the frame (a
    moving camera), plus that of the colours regardless of position (a light that goes on).
    """
    # On pans over 41 photographs at up to half a frame a second, the threshold found every cut and
    # reported no movement as one.
    change = _pattern_difference(before, now) + _colour_difference(before, now)
    return change > _MIN_SHOT_DIFFERENCE


def _pattern_difference(before: Signature, now: Signature) -> float:
    """Return the least mean difference of overlapping parts, less the shift in colour; 0 to 1."""
    least = 1.0
    for down in range(-2, 3):
        for right in range(-4, 5):
            change = _shifted(before, down, right) - _shifted(now, -down, -right)
            least = min(least, float(np.abs(change - change.mean(axis=(0, 1))).mean()))
    return least


def _shifted(picture: Signature, down: int, right: int) -> Signature:
    """Return a signature without its first `down` rows and `right` columns (last if negative)."""
    height, width = picture.shape[:2]
    return picture[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]


def _colour_difference(before: Signature, now: Signature) -> float:
    """Return the mean distance of each channel's sorted values; 0 to 1."""
    first, second = (np.sort(picture.reshape(-1, 3), axis=0) for picture in (before, now))
    return float(np.abs(first - second).mean())


def _clip(samples: Sequence[Sample], end: float, limits: Limits) -> Clip:
    chosen, start = spread(samples, limits.clip_frames), samples[0].time
    frames = tuple(sample.frame for sample in chosen)
    times = tuple(sample.time - start for sample in chosen)
    return Clip(start, max(end, samples[-1].time), frames, times)
