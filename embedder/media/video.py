"""Moving pictures → clips, read as a stream in one pass: videos with PyAV, others with Pillow."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, dropwhile
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from PIL import Image

from embedder.content import Content, Modality
from embedder.media.animation import animation_samples
from embedder.media.kinds import (
    Details,
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    UnsupportedMedia,
    first_bytes,
    open_media,
    report_progress,
    suffixes,
    translated_os_errors,
)
from embedder.media.metadata import video_details
from embedder.media.picture import FTYP_BRANDS, IMAGE
from embedder.media.pixels import fitted, thumbnail
from embedder.media.shots import (
    SAMPLES_PER_SECOND,
    SIGNATURE_SIZE,
    Clip,
    Sample,
    as_signature,
    cut_clips,
    gather,
)
from embedder.media.subtitles import SUBTITLES, embedded_tracks

_MIN_SEEK_SECONDS = 30.0  # shorter videos are decoded as a whole
_MAX_FFMPEG_PIXELS = 2**31 - 1  # of a larger limit, FFmpeg decodes nothing
# Seconds before a time from which to seek it: without an index, the key frame after it is found.
_SEEK_MARGINS = (0, 2, 12)
_MAX_THREADS = 8  # of a decoder, which keeps as many frames
# Only formats that hold the video themselves: playlists name other files, or addresses on the
# network.
_FORMATS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,mjpeg,obu,ivf,asf,flv,live_flv,ogg,mxf,"
    "rm,dv,nut,wtv,swf"
)
# What cameras, phones, screen recorders and converters write. FFmpeg has hundreds more decoders,
# each of them code that a file can attack: CVE-2026-8461 was in that of MagicYUV.
_CODECS = (
    "h264,hevc,libdav1d,vp8,vp9,mpeg1video,mpeg2video,mpegvideo,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,"
    "wmv1,wmv2,wmv3,vc1,h263,h263i,h263p,flv,vp6,vp6a,vp6f,flashsv,flashsv2,theora,mjpeg,mjpegb,"
    "jpeg2000,prores,dnxhd,cfhd,dvvideo,svq1,svq3,cinepak,indeo3,indeo4,indeo5,msvideo1,msrle,rpza,"
    "smc,aic,qtrle,png,rv10,rv20,rv30,rv40,ffv1,huffyuv,ffvhuff,utvideo,rawvideo,v210"
)
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "codec_whitelist": _CODECS,
    "protocol_whitelist": "none",  # the file is open, and names no others
}
_PROTECTED_TAGS = ("encv", "drmi")
_BRANDS = first_bytes(rb"iso|mp4|avc|hvc|M4V|qt  |3g|mmp4|MSNV|dash|[fF]4[vV]|XAVC|CAEP|ndx|dby")

_Frame = TypeVar("_Frame")


def read_clips(path: str | os.PathLike[str], limits: Limits | None = None) -> Iterator[Clip]:
    """Cut a video or animated picture into clips at shot changes.

    It is read in one pass, and memory holds the frames of one clip.

    Args:
        path: A video file. A truncated one is read as far as it goes.
        limits: Gives `seconds`, `pixels` (of a frame), `frame_side`, `video_side`, `clip_seconds`
            and `clip_frames`.

    Yields:
        Clips without gaps, in order; frames are upright RGB pictures.

    Raises:
        MediaError: if not a single frame can be decoded, or a limit is exceeded.
    """
    limits = limits or Limits()
    yield from cut_clips(_samples(Path(path), limits), limits)


def sample_video(path: str | os.PathLike[str], limits: Limits | None = None) -> Clip:
    """Read a whole video or animated picture as one clip.

    Frames are evenly spaced, `limits.clip_frames` at most. In long videos they are sought, so that
    the rest is not decoded.

    Raises:
        MediaError: if not a single frame can be decoded, or a limit is exceeded.
    """
    path, limits = Path(path), limits or Limits()
    if not _is_picture(path):
        with _open_video(path, limits) as stream:
            if stream.seconds >= _MIN_SEEK_SECONDS:
                clip = gather(_sought_samples(stream, limits), limits)
                if clip is not None and len(clip.frames) == limits.clip_frames:
                    return replace(clip, start=0.0, end=max(stream.seconds, clip.end))
    clip = gather(_samples(path, limits), limits)
    assert clip is not None  # _samples raises instead
    return clip


def read_frames(
    path: str | os.PathLike[str], start: float, interval: float, limits: Limits | None = None
) -> list[Image.Image]:
    """Read the frames that are shown at some moments, to play a part of a video.

    Args:
        path: A video file or an animated picture.
        start: The first moment, in seconds.
        interval: Seconds from one moment to the next.
        limits: Gives how many moments (`clip_frames`), `pixels`, `frame_side` and `video_side`.

    Returns:
        One frame for each moment, fewer where the video ends, at least one.

    Raises:
        MediaError: if not a single frame can be decoded, or a limit is exceeded.
    """
    path, limits = Path(path), limits or Limits()
    if not _is_picture(path):
        with _open_video(path, limits) as stream:
            sought = _shown_at(_decoded_from(stream, start), start, interval, limits.clip_frames)
            if sought:
                return [_sample(stream, start, frame, limits).frame for frame in sought]
    samples = ((sample.time, sample.frame) for sample in _samples(path, limits))
    return _shown_at(samples, start, interval, limits.clip_frames)


def _shown_at(
    timed: Iterable[tuple[float, _Frame]], start: float, interval: float, count: int
) -> list[_Frame]:
    """Return the frames that are shown at some moments: the latest until the next one begins."""
    found: list[_Frame] = []
    shown: list[_Frame] = []  # The latest, if there is one.
    for time, frame in timed:
        while shown and len(found) < count and time > start + len(found) * interval:
            found += shown
        if len(found) == count:
            return found
        shown = [frame]
    return found + shown


def _samples(path: Path, limits: Limits) -> Iterator[Sample]:
    if _is_picture(path):
        yield from animation_samples(path, limits)
    else:
        with _open_video(path, limits) as stream:
            yield from _video_samples(stream, limits)


@dataclass(frozen=True, eq=False, slots=True)
class _Stream:
    """An open video.

    Attributes:
        container: PyAV's.
        track: The one of its streams that is decoded.
        rate: Frames a second; 25 where the file states nothing plausible.
        seconds: How long it is said to last; 0 if unknown.
    """

    container: Any
    track: Any
    rate: float
    seconds: float


@cache
def _load_pyav() -> Any:
    """Import PyAV when the first video comes."""
    import av

    return av


@cache
def _load_opencv() -> Any:
    """Import OpenCV when the first video comes, with one thread."""
    import cv2

    cv2.setNumThreads(1)  # files are decoded in parallel already
    return cv2


@contextmanager
def _open_video(path: Path, limits: Limits) -> Iterator[_Stream]:
    with translated_os_errors():
        opened = open_media(path)
    with opened as file:
        try:
            with _container(file) as container:
                track = _track(container, file)
                _check_frame(track, limits)
                # Frames may become larger later.
                most = min(limits.pixels, _MAX_FFMPEG_PIXELS)
                track.codec_context.options = {"max_pixels": str(most)}
                track.codec_context.thread_count = min(os.cpu_count() or 1, _MAX_THREADS)
                track.codec_context.thread_type = "AUTO"
                stream = _describe(container, track)
                _check_seconds(stream.seconds, limits)
                yield stream
        except MediaError:
            raise
        except Exception as error:  # MemoryError, and what broken headers cause
            raise MediaError(f"the video cannot be decoded ({type(error).__name__})") from error


def _container(file: IO[bytes]) -> Any:
    av = _load_pyav()
    try:
        return av.open(file, options=_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(_unreadable(file)) from error


def _unreadable(file: IO[bytes]) -> str:
    """Return why a file cannot be opened; one of ISO's base format may be anything but a video."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp" and not _BRANDS.match(head[8:]):
        brand = head[8:].decode("ascii", "replace").strip()
        return f"the file is of a type that is not known (ftyp brand {brand!r})"
    return (
        "the video cannot be opened: it is damaged, truncated, or of a format that is not supported"
    )


def _track(container: Any, file: IO[bytes]) -> Any:
    """Return the stream that players show, if it can be decoded."""
    track = container.streams.best("video")
    if track is None:
        if container.streams.audio:
            raise UnsupportedMedia("the file has sound but no picture")
        raise MediaError(_unreadable(file))
    codec = track.codec_context  # None if FFmpeg knows no decoder
    if codec and codec.codec_tag in _PROTECTED_TAGS:
        raise MediaError("the video is protected against copying (DRM) and cannot be decoded")
    if not codec or codec.name not in _CODECS.split(","):
        name = f" ({codec.name})" if codec else ""
        raise MediaError(
            f"the video is of a codec{name} that is not supported: convert it to H.264"
        )
    return track


def _describe(container: Any, track: Any) -> _Stream:
    rate = float(track.average_rate or track.guessed_rate or 0)
    seconds = float(track.duration * track.time_base) if track.duration else 0.0
    if not seconds and container.duration:
        seconds = container.duration / _load_pyav().time_base
    return _Stream(container, track, rate if 0.1 <= rate <= 1000 else 25.0, max(seconds, 0.0))


def _check_frame(track: Any, limits: Limits) -> None:
    width, height = track.width, track.height
    if width * height > limits.pixels:
        raise MediaError(
            f"the video's frames have {width} × {height} = {width * height / 1e6:.0f} million "
            f"pixels, more than the limit of {limits.pixels / 1e6:.0f} million"
        )


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.seconds:
        raise MediaError(
            f"the video lasts {seconds / 60:.0f} minutes, "
            f"longer than the limit of {limits.seconds / 60:.0f} minutes"
        )


def _video_samples(stream: _Stream, limits: Limits) -> Iterator[Sample]:
    """Decode every frame and yield some five a second, the first and the last included."""
    interval = 1 / SAMPLES_PER_SECOND
    if stream.seconds:
        interval = min(interval, stream.seconds / limits.clip_frames)
    clock, due, skipped = Clock(stream), -math.inf, None
    for index, frame in enumerate(_frames(stream)):
        time = clock.time(index, frame)
        skipped = (time, frame)
        if time >= due:
            _check_seconds(time, limits)
            yield _sample(stream, time, frame, limits)
            due, skipped = time + interval - 0.25 / stream.rate, None
    if due == -math.inf:
        raise MediaError("the video has no frame that can be decoded: it is damaged or truncated")
    if skipped:
        yield _sample(stream, *skipped, limits)


def _frames(stream: _Stream) -> Iterator[Any]:
    """Decode frame by frame, past those that are broken, as far as the file can be read."""
    ffmpeg_error = _load_pyav().FFmpegError
    with suppress(ffmpeg_error):
        for packet in stream.container.demux(stream.track):
            report_progress()
            frames = []
            with suppress(ffmpeg_error):
                frames = packet.decode()
            yield from frames


def _sought_samples(stream: _Stream, limits: Limits) -> Iterator[Sample]:
    """Seek evenly spaced frames and yield them; stop where the file cannot be sought."""
    last = stream.seconds - 1 / stream.rate
    for step in range(limits.clip_frames):
        time = last * step / max(1, limits.clip_frames - 1)
        if step == limits.clip_frames - 1:
            time = max(0.0, last - 0.5)  # the duration is often too long
        frame = _frame_at(stream, time)
        if frame is None:
            return
        yield _sample(stream, time, frame, limits)


def _frame_at(stream: _Stream, time: float) -> Any | None:
    """Seek the frame that is shown at a time; return None if the file cannot be sought there."""
    half_frame, found = 0.5 / stream.rate, None
    for margin in _SEEK_MARGINS:
        for number, (seconds, frame) in enumerate(_frames_from(stream, time - margin)):
            if seconds > time - half_frame:
                if number or seconds < time + half_frame:
                    return frame
                # None before it was decoded: one that is shown at the time may have been missed.
                found = frame if seconds < time + 1 else None
                break
    return found


def _decoded_from(stream: _Stream, time: float) -> Iterator[tuple[float, Any]]:
    """Seek the frame that is shown at a time and decode on; yield nothing as `_frames_from`."""
    for margin in _SEEK_MARGINS:
        decoded = _frames_from(stream, time - margin)
        first = next(decoded, None)
        if first and (first[0] <= time + 0.5 / stream.rate or margin == _SEEK_MARGINS[-1]):
            return chain([first], decoded)
    return iter(())


def _frames_from(stream: _Stream, time: float) -> Iterator[tuple[float, Any]]:
    """Seek a time and decode from the next key frame; yield nothing without time stamps."""
    track = stream.track
    with suppress(_load_pyav().FFmpegError):
        offset = (track.start_time or 0) + int(max(0.0, time) / track.time_base)
        stream.container.seek(offset, stream=track)
        whole = dropwhile(lambda frame: not frame.key_frame, _frames(stream))
        for frame in whole:  # others refer to frames that were not decoded
            seconds = _seconds(stream, frame)
            if seconds is None:
                return
            yield seconds, frame


def _seconds(stream: _Stream, frame: Any) -> float | None:
    """Return the time stamp of a frame, in seconds from the start; None if it has none."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    if stamp is None:
        return None
    return float((stamp - (stream.track.start_time or 0)) * stream.track.time_base)


class Clock:
    """The time of each frame: its time stamp, or its number over the rate where that is absurd."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._first = 0.0  # of a cut recording, frames before the stated start may be there
        self._last = -1.0
        self._trusted = True

    def time(self, index: int, frame: Any) -> float:
        """Return seconds from the start, always more than for the frame before."""
        counted = index / self._stream.rate
        stamp = _seconds(self._stream, frame) if self._trusted else counted
        if stamp is not None:
            self._first = min(self._first, stamp) if index == 0 else self._first
            stamp -= self._first
        if stamp is None or stamp <= self._last or stamp - max(self._last, 0.0) > 3600:
            self._trusted = False
            stamp = max(counted, self._last + 1 / self._stream.rate)
        self._last = stamp
        return stamp


def _sample(stream: _Stream, time: float, frame: Any, limits: Limits) -> Sample:
    """Return a frame, upright and scaled down, with its signature."""
    cv2 = _load_opencv()
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    height, width = pixels.shape[:2]
    tiny = cv2.resize(pixels, SIGNATURE_SIZE, interpolation=cv2.INTER_AREA)
    size = fitted((width, height), limits.clip_side)
    if size != (width, height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    end = time + 1 / stream.rate
    return Sample(time, end, Image.fromarray(np.ascontiguousarray(pixels)), as_signature(tiny))


def _is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file's bytes are those of a picture, whatever its name."""
    with translated_os_errors(), open_media(path) as file:
        return IMAGE.signature.match(file.read(4096)) is not None


def _read(path: Path, limits: Limits, _page: int | None) -> Content:
    return sample_video(path, limits).content


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    for clip in read_clips(path, limits):
        yield Draft(
            clip.content,
            # The middle frame: the first is often black or still fading in.
            thumbnail(clip.frames[len(clip.frames) // 2], limits),
            start=clip.start,
            end=clip.end,
        )


def _details(path: Path, limits: Limits) -> Details | None:
    if _is_picture(path):
        return IMAGE.details(path, limits)
    with _open_video(path, limits) as stream:
        first = next(_frames(stream), None)
        details = video_details(stream.container, stream.track, first.rotation if first else 0)
    return details.over(_subtitles(path, limits))


def _subtitles(path: Path, limits: Limits) -> Details:
    """Return the tracks of subtitles, or why they are not read."""
    with _open_video(path, limits) as stream:
        origin = float((stream.track.start_time or 0) * stream.track.time_base)
        try:
            return Details(tracks=tuple(embedded_tracks(stream.container, origin)))
        except MediaError as error:
            return Details(facts=((SUBTITLES, f"not read: {error}"),))


VIDEO = MediaKind(
    kind=Kind.VIDEO,
    noun="video",
    unit="clip",
    modality=Modality.VIDEO,
    has_text=True,
    has_picture=True,
    suffixes=suffixes(
        "mp4 m4v mov qt mkv webm avi wmv asf flv f4v mpg mpeg mpe m1v m2v vob ogv 3gp 3g2 m2ts mxf "
        "rm rmvb dv divx"
    ),
    media_types={
        ".mp4": "video/mp4",
        ".m4v": "video/mp4",
        ".mov": "video/quicktime",
        ".webm": "video/webm",
        ".ogv": "video/ogg",
        ".mkv": "video/x-matroska",
    },
    signature=first_bytes(
        *(rb"\x1a\x45\xdf\xa3", rb"FLV\x01", rb"\0\0\x01[\xba\xb3]", rb"\.RMF\0", rb"RIFF.{4}AVI "),
        *(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01"),
        rb"OggS.{0,502}theora",
        rb".{4}ftyp(?!M4[ABP] |" + FTYP_BRANDS + rb")",
    ),
    named_signature=first_bytes(rb"OggS"),
    weak_signature=first_bytes(
        rb".{4}(?:moov|mdat|wide|free|skip|pnot)",
        rb"(?:G.{187}){4}G",  # MPEG-TS: a sync byte every 188 bytes,
        rb".{4}(?:G.{191}){4}G",  # or every 192 with a time code before
    ),
    read=_read,
    cut=_cut,
    details=_details,
)
