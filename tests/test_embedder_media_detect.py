"""What kind a file is: from its bytes, against its name."""

import io
import os
import struct
from pathlib import Path

import pytest
from PIL import Image

from embedder.media import Kind, MediaError, UnsupportedMedia, detect, suffix_kind


def picture_bytes(fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(buffer, fmt, **options)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


SUN = struct.pack(">8I", 0x59A66A95, 2, 2, 24, 12, 1, 0, 0) + bytes(12)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"
MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 64
MKV = b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x23" + b"\0" * 64
TS = (b"\x47\x40\0\x10" + b"\xff" * 184) * 6


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.jpg", picture_bytes("JPEG"), Kind.IMAGE),
        ("a.png", picture_bytes("PNG"), Kind.IMAGE),
        ("a.PNG", picture_bytes("PNG"), Kind.IMAGE),
        ("a.webp", picture_bytes("WEBP"), Kind.IMAGE),
        ("a.bmp", picture_bytes("BMP"), Kind.IMAGE),
        ("a.tif", picture_bytes("TIFF"), Kind.IMAGE),
        ("a.jp2", picture_bytes("JPEG2000"), Kind.IMAGE),
        ("a.avif", picture_bytes("AVIF"), Kind.IMAGE),
        ("a.ppm", picture_bytes("PPM"), Kind.IMAGE),
        ("a.pgm", b"P2\n2 1\n255\n0 255\n", Kind.IMAGE),
        ("a.tga", picture_bytes("TGA"), Kind.IMAGE),
        ("logo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", Kind.IMAGE),
        ("logo.html", b"<svg xmlns='http://www.w3.org/2000/svg'/>", Kind.TEXT),
        ("a.mp4", MP4, Kind.VIDEO),
        ("a.mkv", MKV, Kind.VIDEO),
        ("a.pdf", PDF, Kind.PDF),
        ("a.pdf", b"\0\0junk\n" + PDF, Kind.PDF),
        ("a.txt", b"plain words\n", Kind.TEXT),
        ("a.md", "Grüße\n".encode("cp1252"), Kind.TEXT),
        ("a.csv", "ä;b\n".encode("utf-16"), Kind.TEXT),
        ("a.csv", "name;town\n".encode("utf-16-le"), Kind.TEXT),
        ("main.py", b"import os\n", Kind.TEXT),
        ("index.ts", b"export const a = 1\n", Kind.TEXT),
        ("pyproject.toml", b"[project]\n", Kind.TEXT),
        ("Setup.INI", b"[a]\r\nb=c\r\n", Kind.TEXT),
        ("go.mod", b"module example.org/a\n", Kind.TEXT),
        ("README", b"Read me.\n", Kind.TEXT),
        ("README", "Grüße".encode("cp1252"), Kind.TEXT),
        ("readme.ru", "Прочти меня".encode("koi8-r"), Kind.TEXT),
        ("LICENSE", "Grüße".encode("utf-16"), Kind.TEXT),
        ("LICENSE-MIT", "© 2026 Zoë\n".encode(), Kind.TEXT),
        ("Dockerfile.dev", b"FROM scratch\n", Kind.TEXT),
        ("changelog.Debian", b"a (1.0) unstable\n", Kind.TEXT),
        ("Shopping list", "Äpfel\n".encode(), Kind.TEXT),
        ("cut", b"a" * 4095 + "ü".encode(), Kind.TEXT),
    ],
)
def test_detect_by_bytes_and_name(tmp_path: Path, name: str, data: bytes, kind: Kind) -> None:
    assert detect(written(tmp_path / name, data)) is kind


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("photo.jpg", picture_bytes("PNG"), Kind.IMAGE),
        ("photo", picture_bytes("JPEG"), Kind.IMAGE),
        ("screen", SUN, Kind.IMAGE),
        ("screen.ras", SUN, Kind.IMAGE),
        ("photo.jpg_large", picture_bytes("JPEG"), Kind.IMAGE),
        ("recording.ts", TS, Kind.VIDEO),
        ("00001.MTS", TS, Kind.VIDEO),
        ("clip.gif", MP4, Kind.VIDEO),
        ("scan.bin", PDF, Kind.PDF),
    ],
)
def test_detect_ignores_wrong_suffix_within_kind(
    tmp_path: Path, name: str, data: bytes, kind: Kind
) -> None:
    assert detect(written(tmp_path / name, data)) is kind


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "photo.jpg",
            b"<html><body>Not found</body></html>",
            r"named \.jpg, but its bytes are a text",
        ),
        ("photo.jpg", PDF, r"named \.jpg, but its bytes are a PDF; rename it"),
        ("photo.jpg", MP4, r"named \.jpg, but its bytes are a video; rename it"),
        ("film.mp4", b"just words\n" * 9, r"named \.mp4, but its bytes are a text"),
        ("film.mp4", picture_bytes("PNG"), r"named \.mp4, but its bytes are a picture"),
        ("paper.pdf", picture_bytes("JPEG"), r"named \.pdf, but its bytes are a picture"),
        ("note.txt", picture_bytes("PNG"), r"named \.txt, but its bytes are a picture"),
        ("note.txt", bytes(range(256)) * 4, r"named \.txt, but its bytes are not text"),
    ],
)
def test_misnamed_file_is_refused(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as raised:
        detect(written(tmp_path / name, data))
    assert not isinstance(raised.value, UnsupportedMedia)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("data.bin", bytes(range(256))),
        ("data", bytes(range(256))),
        ("letter", "Grüße".encode("cp1252")),  # could as well be anything
        ("letter", "Grüße".encode("utf-16")),
        ("dump", b"x" * 5_000_001),
        ("font.dfont", b"\0\0\1\0\0\0\6\x8a\0\0\5\x8a"),
    ],
)
def test_other_files_are_unsupported(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="not a picture, video, sound, PDF or text file"):
        detect(written(tmp_path / name, data))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("song.flac", b"fLaC\0\0\0\x22"),
        ("song.wav", b"RIFF\x24\0\0\0WAVEfmt "),
        ("song.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0"),
        ("song.m4a", b"\0\0\0\x20ftypmp42\0\0\0\0"),
        ("song.mp3", b"\xff\xfb\x90\x44" + bytes(200)),
        ("song.MP3", b"ID3\3" + bytes(200)),
        ("song.opus", b"OggS" + bytes(200)),
        ("voice", b"OggS" + bytes(200)),
        ("voice.mp4", b"\0\0\0\x20ftypM4A \0\0\0\0"),
    ],
)
def test_sounds(tmp_path: Path, name: str, data: bytes) -> None:
    assert detect(written(tmp_path / name, data)) is Kind.AUDIO


def test_sound_that_is_named_as_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"named \.jpg, but its bytes are a sound"):
        detect(written(tmp_path / "a.jpg", b"ID3\3" + bytes(200)))


@pytest.mark.parametrize("name", ["jquery.min.js", "Site.MIN.css", "package-lock.json"])
def test_generated_files_are_unsupported(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match="generated by a build tool"):
        detect(written(tmp_path / name, b"var a"))


@pytest.mark.parametrize("start", [b"BMW builds cars.\n", b"P3 is a prime minister.\n", b"Pf.\n"])
def test_text_with_picture_signature_is_text(tmp_path: Path, start: bytes) -> None:
    assert detect(written(tmp_path / "note.txt", start)) is Kind.TEXT


def test_an_empty_file_is_named_as_such(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.txt", "a.pdf", "a.mp4", "a.unknown"):
        with pytest.raises(MediaError, match="the file is empty") as raised:
            detect(written(tmp_path / name, b""))
        may_be_no_media = name in ("a.txt", "a.unknown")
        assert isinstance(raised.value, UnsupportedMedia) is may_be_no_media, name


def test_pipe_and_folder_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in ("pipe.jpg", "."):
        with pytest.raises(MediaError, match="not a file"):
            detect(tmp_path / name)
    with pytest.raises(MediaError, match="does not exist"):
        detect(tmp_path / "nowhere.jpg")


def test_animated_pictures_are_videos(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    for suffix in ("gif", "png", "webp", "avif"):
        path = tmp_path / f"moving.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        assert detect(path) is Kind.VIDEO, suffix
        frames[0].save(tmp_path / f"still.{suffix}")
        assert detect(tmp_path / f"still.{suffix}") is Kind.IMAGE, suffix
    large = b"GIF89a\x08\0\x06\0\x80\0\0" + bytes(6) + b",\0\0\0\0\x08\0\x06\0\0\x02"
    assert detect(written(tmp_path / "cut.gif", large + b"\xff" * 900)) is Kind.IMAGE
    assert detect(written(tmp_path / "empty.gif", b"GIF89a" + bytes(90))) is Kind.IMAGE
    pages = tmp_path / "pages.tif"
    frames[0].save(pages, save_all=True, append_images=frames[1:])
    assert detect(pages) is Kind.IMAGE


def test_the_name_alone_tells_the_promised_kind() -> None:
    assert suffix_kind("/nowhere/Photo.JPG") is Kind.IMAGE
    assert suffix_kind(Path("a.b/film.mkv")) is Kind.VIDEO
    assert suffix_kind("paper.pdf") is Kind.PDF
    assert suffix_kind("notes.md") is Kind.TEXT
    assert suffix_kind("main.py") is Kind.TEXT
    for name in ("README", ".jpg", "a.zip", "a.jpg/"):
        assert suffix_kind(name) is None, name
