"""Moving pictures → clips, read as a stream in one pass: videos with OpenCV, others with Pillow."""

import math
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import IO, Any

from PIL import Image

from embedder.content import Content, Modality
from embedder.media.kinds import (
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    first_bytes,
    open_media,
    report_progress,
    suffixes,
    translated_os_errors,
)
from embedder.media.picture import (
    FTYP_BRANDS,
    IMAGE,
    check_pixels,
    fitted,
    opened_picture,
    thumbnail,
    to_frame,
)
from embedder.media.shots import (
    SAMPLES_PER_SECOND,
    SIGNATURE_SIZE,
    Clip,
    Sample,
    Signature,
    as_signature,
    cut_clips,
    gather,
    signature,
)

_MIN_SEEK_SECONDS = 30.0  # shorter videos are decoded as a whole
_MAX_ANIMATION_PIXELS = 50  # of all frames together, in multiples of `Limits.pixels`
_FORMATS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,mjpeg,obu,ivf,asf,flv,live_flv,ogg,mxf,"
    "rm,dv,nut,wtv,swf"
)
# What cameras, phones, screen recorders and converters write. FFmpeg has hundreds more decoders,
# each of them code that a file can attack: CVE-2026-8461 is in that of MagicYUV.
_CODECS = (
    "h264,hevc,av1,libdav1d,libaom-av1,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpegvideo,"
    "mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,wmv1,wmv2,wmv3,vc1,h263,h263i,h263p,flv,vp6,vp6f,flashsv,"
    "flashsv2,theora,mjpeg,mjpegb,jpeg2000,prores,dnxhd,dvvideo,svq1,svq3,cinepak,indeo3,indeo4,"
    "indeo5,msvideo1,msrle,qtrle,png,rv10,rv20,rv30,rv40,ffv1,huffyuv,ffvhuff,utvideo,rawvideo"
)
_OPTIONS_LOCK = Lock()
_UNREADABLE = (
    "the video cannot be opened: it is damaged, truncated, or of a codec that is not supported"
)


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


def _samples(path: Path, limits: Limits) -> Iterator[Sample]:
    if _is_picture(path):
        yield from _animation_samples(path, limits)
    else:
        with _open_video(path, limits) as stream:
            yield from _video_samples(stream, limits)


@dataclass(frozen=True, eq=False, slots=True)
class _Stream:
    """An open video.

    Attributes:
        capture: OpenCV's.
        rate: Frames a second; 25 where the file states nothing plausible.
        frames: How many there are; 0 if unknown.
    """

    capture: Any
    rate: float
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


@cache
def _load_opencv() -> ModuleType:
    """Import OpenCV when the first video comes, silent and with one thread."""
    # FFmpeg would print a line to the console for every damaged block.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    cv2.setNumThreads(1)  # files are decoded in parallel already
    return cv2


@contextmanager
def _open_video(path: Path, limits: Limits) -> Iterator[_Stream]:
    """Open a video with FFmpeg only: other backends take a name with % for a pattern."""
    cv2 = _load_opencv()
    with translated_os_errors():
        opened = open_media(path)
    with opened as file:
        capture = _capture(path, file, cv2)
        try:
            if not capture.isOpened():
                raise MediaError(_UNREADABLE)
            _check_codec(capture, cv2)
            stream = _describe(capture, cv2)
            _check_video(capture, stream, limits, cv2)
            yield stream
        except MediaError:
            raise
        except Exception as error:  # cv2.error, MemoryError, and what broken headers cause
            raise MediaError(f"the video cannot be decoded ({type(error).__name__})") from error
        finally:
            capture.release()


def _capture(path: Path, file: IO[bytes], cv2: ModuleType) -> Any:
    """Have FFmpeg read a file: on Linux the open one, since decoders may not open any there."""
    source, protocol = os.path.abspath(path), "file"
    if sys.platform == "linux":
        source, protocol = "fd:", f"fd|fd;{file.fileno()}"
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # the file may have been buffered
    # Only formats that hold the video themselves: playlists name other files, or addresses on the
    # network.
    options = f"protocol_whitelist;{protocol}|format_whitelist;{_FORMATS}|codec_whitelist;{_CODECS}"
    with _OPTIONS_LOCK:
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options  # OpenCV takes them from nowhere else
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG)


def _check_codec(capture: Any, cv2: ModuleType) -> None:
    """Refuse what FFmpeg did not look into, which OpenCV would decode nevertheless."""
    if capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT) == -1:
        tag = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little")
        codec = "".join(chr(byte) if 32 < byte < 127 else "?" for byte in tag)
        raise MediaError(
            f"the video is damaged, or of a codec ({codec}) that is not supported: convert it to "
            "H.264"
        )


def _describe(capture: Any, cv2: ModuleType) -> _Stream:
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if math.isfinite(rate) and 0.1 <= rate <= 1000 else 25.0
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return _Stream(capture, rate, int(frames) if math.isfinite(frames) and frames > 0 else 0)


def _check_video(capture: Any, stream: _Stream, limits: Limits, cv2: ModuleType) -> None:
    width, height = (
        int(capture.get(prop)) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if width * height > limits.pixels:
        raise MediaError(
            f"the video's frames have {width} × {height} = {width * height / 1e6:.0f} million "
            f"pixels, more than the limit of {limits.pixels / 1e6:.0f} million"
        )
    _check_seconds(stream.seconds, limits)


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.seconds:
        raise MediaError(
            f"the video lasts {seconds / 60:.0f} minutes, "
            f"longer than the limit of {limits.seconds / 60:.0f} minutes"
        )


def _video_samples(stream: _Stream, limits: Limits) -> Iterator[Sample]:
    """Decode every frame and yield some five a second, the first and, where known, the last."""
    interval = 1 / SAMPLES_PER_SECOND
    if stream.frames:
        interval = min(interval, stream.seconds / limits.clip_frames)
    clock = _Clock(stream)
    index, due = 0, -math.inf
    while stream.capture.grab():
        report_progress()
        time = clock.time(index)
        if time >= due or index == stream.frames - 1:
            _check_seconds(time, limits)
            retrieved = _retrieve(stream.capture, limits)
            if retrieved is not None:
                yield Sample(time, time + 1 / stream.rate, *retrieved)
                due = time + interval - 0.25 / stream.rate
        index += 1
    if due == -math.inf:
        raise MediaError("the video has no frame that can be decoded")


def _sought_samples(stream: _Stream, limits: Limits) -> Iterator[Sample]:
    """Seek evenly spaced frames and yield them; stop where the file cannot be sought."""
    cv2 = _load_opencv()
    last = stream.frames - 1
    for step in range(limits.clip_frames):
        index = last * step // max(1, limits.clip_frames - 1)
        if step == limits.clip_frames - 1:
            index = max(0, last - int(stream.rate / 2))  # the last is often counted wrong
        stream.capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        if not stream.capture.grab():
            return
        retrieved = _retrieve(stream.capture, limits)
        if retrieved is None:
            return
        yield Sample(index / stream.rate, (index + 1) / stream.rate, *retrieved)


class _Clock:
    """The time of each frame: its time stamp, or its number over the rate where that is absurd."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._property = _load_opencv().CAP_PROP_POS_MSEC
        self._last = -1.0
        self._trusted = True

    def time(self, index: int) -> float:
        """Return seconds from the start, always more than for the frame before."""
        counted = index / self._stream.rate
        stamp = self._stream.capture.get(self._property) / 1000 if self._trusted else counted
        jump = stamp - max(self._last, 0.0)
        if not math.isfinite(stamp) or stamp <= self._last or jump > 3600:
            self._trusted = False
            stamp = max(counted, self._last + 1 / self._stream.rate)
        self._last = stamp
        return stamp


def _retrieve(capture: Any, limits: Limits) -> tuple[Image.Image, Signature] | None:
    """Return the grabbed frame, upright and scaled down, and its signature; None if broken."""
    cv2 = _load_opencv()
    ok, pixels = capture.retrieve()
    if not ok or pixels is None or pixels.size == 0:
        return None
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    height, width = pixels.shape[:2]
    tiny = cv2.resize(pixels, SIGNATURE_SIZE, interpolation=cv2.INTER_AREA)
    size = fitted((width, height), limits.clip_side)
    if size != (width, height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    frame = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return frame, as_signature(tiny[..., ::-1])


_PNG_START = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATED = 0x02
_MAX_GIF_BYTES = 64 << 20


def is_animated(path: Path, head: bytes) -> bool:
    """Whether a picture file is animated; pages of a TIFF and layers of a PSD do not count.

    Args:
        path: A picture.
        head: Its first bytes, a few hundred at least.

    Raises:
        MediaError: if the file cannot be read.
    """
    if head[8:16] == b"WEBPVP8X":
        return len(head) > 20 and bool(head[20] & _WEBP_ANIMATED)
    if head[4:8] == b"ftyp":
        return head[8:12] == b"avis"
    is_png, is_gif = head.startswith(_PNG_START), head.startswith((b"GIF87a", b"GIF89a"))
    if not (is_png or is_gif):
        return False
    with translated_os_errors(), open_media(path) as file:
        return _png_is_animated(file) if is_png else _gif_is_animated(file)


def _animation_samples(path: Path, limits: Limits) -> Iterator[Sample]:
    """Decode frame by frame and yield some five a second, always the first and the last."""
    with opened_picture(path, limits) as image:
        max_frames = _MAX_ANIMATION_PIXELS * limits.pixels // (image.width * image.height)
        count = min(_frame_count(image), max(1, max_frames))
        time, due = 0.0, 0.0
        for index in range(count):
            if not _decode_frame(image, index, limits):
                break
            report_progress()
            end = time + _frame_seconds(image)
            if time >= due or index < 2 * limits.clip_frames or index == count - 1:
                frame = to_frame(image.copy(), fitted(image.size, limits.video_side))
                size = fitted(frame.size, limits.clip_side)
                yield Sample(time, end, frame.resize(size), signature(frame))
                due = time + 1 / SAMPLES_PER_SECOND - 0.01  # times are sums of fractions
            time = end
            if time > limits.seconds:
                raise MediaError(
                    f"the animation is longer than the limit of {limits.seconds:.0f} seconds"
                )


def _decode_frame(image: Image.Image, index: int, limits: Limits) -> bool:
    """Decode frame `index`; return False if the file ends or breaks there, after the first."""
    try:
        image.seek(index)
        check_pixels(image, limits)  # a frame of a GIF may enlarge the canvas
        image.load()
    except Exception:
        if index == 0:
            raise
        return False
    return True


def _frame_count(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a truncated GIF cannot be counted: read it until it breaks
        image.seek(0)
        return 1 << 31


def _frame_seconds(image: Image.Image) -> float:
    """Return the duration of the current frame: like browsers, 0.1 s if it is less than 0.02 s."""
    try:
        seconds = float(image.info.get("duration", 0)) / 1000
    except (TypeError, ValueError):
        seconds = 0.0
    return seconds if 0.02 <= seconds < 3600 else 0.1


def _png_is_animated(file: IO[bytes]) -> bool:
    """Whether an animation chunk of several frames comes before the picture's data."""
    file.seek(8)
    for _ in range(1000):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IDAT":
            return False
        if header[4:] == b"acTL":
            count = file.read(4)
            return len(count) == 4 and struct.unpack(">I", count)[0] > 1
        file.seek(struct.unpack(">I", header[:4])[0] + 4, 1)
    return False


def _gif_is_animated(file: IO[bytes]) -> bool:
    """Whether a second picture begins within the first megabytes."""
    file.seek(10)
    flags, pictures = file.read(3)[:1], 0
    _skip_colours(file, flags)
    while file.tell() < _MAX_GIF_BYTES:
        match file.read(1):
            case b"" | b";":  # the end
                return False
            case b"!":  # an extension: its label
                file.seek(1, 1)
            case b",":  # a picture: its place and flags, its colours, the size of its codes
                pictures += 1
                if pictures == 2:
                    return True
                _skip_colours(file, file.read(9)[8:])
                file.seek(1, 1)
            case _:
                continue  # as decoders do
        while (size := int.from_bytes(file.read(1))) and file.tell() < _MAX_GIF_BYTES:
            file.seek(size, 1)
    return False


def _skip_colours(file: IO[bytes], flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, 1)


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


VIDEO = MediaKind(
    kind=Kind.VIDEO,
    noun="video",
    unit="clip",
    modality=Modality.VIDEO,
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
)
