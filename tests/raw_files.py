"""Camera raw files as cameras write them: a DNG with or without a preview, and what is around."""

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

_BYTES, _TEXT, _SHORT, _LONG, _RATIO, _SIGNED_RATIO = 1, 2, 3, 4, 5, 10
_LETTERS = {_BYTES: "B", _SHORT: "H", _LONG: "I", _RATIO: "I", _SIGNED_RATIO: "i"}
_FIRST_AT = 8
Value = int | bytes | Sequence[int]


def dng(
    scene: Image.Image,
    raw: tuple[int, int] = (64, 48),
    preview: tuple[int, int] | None = (800, 600),
    orientation: int = 1,
) -> bytes:
    """Return a scene as a DNG: a raw of the given size, and a JPEG preview if it has a size."""
    pixels = mosaic(scene.resize(raw))
    parts = bytearray(pixels)
    raw_at = _added(
        parts,
        {
            254: (_LONG, 0),
            256: (_LONG, raw[0]),
            257: (_LONG, raw[1]),
            258: (_SHORT, 16),
            259: (_SHORT, 1),
            262: (_SHORT, 32803),  # a mosaic of colours
            273: (_LONG, _FIRST_AT),
            277: (_SHORT, 1),
            278: (_LONG, raw[1]),
            279: (_LONG, len(pixels)),
            33421: (_SHORT, [2, 2]),
            33422: (_BYTES, [0, 1, 1, 2]),
            50717: (_LONG, 255 << 6),
        },
    )
    directories = [raw_at]
    if preview:
        jpeg = io.BytesIO()
        scene.resize(preview).save(jpeg, "JPEG")
        start = _FIRST_AT + len(parts)
        parts += jpeg.getvalue() + bytes(jpeg.tell() % 2)
        fields = {254: 1, 256: preview[0], 257: preview[1], 273: start, 279: jpeg.tell()}
        tags = {tag: (_LONG, value) for tag, value in fields.items()}
        kinds = {258: [8, 8, 8], 259: 7, 262: 6, 277: 3}
        tags |= {tag: (_SHORT, value) for tag, value in kinds.items()}
        directories.append(_added(parts, tags))
    main_at = _added(
        parts,
        {
            254: (_LONG, 1),
            271: (_TEXT, b"Maker\0"),
            272: (_TEXT, b"Camera 1\0"),
            274: (_SHORT, orientation),
            330: (_LONG, directories),
            50706: (_BYTES, [1, 4, 0, 0]),
            50708: (_TEXT, b"Maker Camera 1\0"),
            50721: (_SIGNED_RATIO, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
            50728: (_RATIO, [1, 1, 1, 1, 1, 1]),
            50778: (_SHORT, 21),
        },
    )
    return b"II*\0" + struct.pack("<I", main_at) + parts


def mosaic(scene: Image.Image) -> bytes:
    """Return what a sensor sees of a scene, whose pixels have one colour each, in 14 bits."""
    colors = np.asarray(scene).astype(np.uint16) << 6
    seen = colors[..., 1].copy()
    seen[::2, ::2], seen[1::2, 1::2] = colors[::2, ::2, 0], colors[1::2, 1::2, 2]
    return seen.astype("<u2").tobytes()


def cr3(preview: Image.Image) -> bytes:
    """Return the beginning of a CR3, of which the raw is missing but not the preview."""
    jpeg = io.BytesIO()
    preview.save(jpeg, "JPEG")
    size = struct.pack(">HHHHI", 0, *preview.size, 1, jpeg.tell())
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + box(
        b"uuid", bytes(16) + box(b"PRVW", bytes(6) + size + jpeg.getvalue())
    )


def box(name: bytes, data: bytes) -> bytes:
    """Return a box of ISO base media files."""
    return struct.pack(">I", 8 + len(data)) + name + data


def _added(parts: bytearray, tags: Mapping[int, tuple[int, Value]]) -> int:
    """Add a directory of TIFF with its values; return its offset in the file."""
    start = _FIRST_AT + len(parts)
    values_at = start + 2 + 12 * len(tags) + 4
    entries, values = struct.pack("<H", len(tags)), b""
    for tag, (kind, value) in tags.items():
        numbers = [value] if isinstance(value, int) else value
        data = numbers if isinstance(numbers, bytes) else _packed(kind, numbers)
        count = len(numbers) // (2 if kind in (_RATIO, _SIGNED_RATIO) else 1)
        if len(data) > 4:
            place, values = values_at + len(values), values + data + bytes(len(data) % 2)
            data = struct.pack("<I", place)
        entries += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    parts += entries + bytes(4) + values
    return start


def _packed(kind: int, numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}{_LETTERS[kind]}", *numbers)
