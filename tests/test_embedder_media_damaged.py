"""Damaged files of every format end in a picture, a text or a `MediaError`, in nothing else."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_files import FORMATS, mutated, whole

from embedder.media import Kind, Limits, MediaError, cut, detect, suffix_kind

MUTATIONS = 100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_only_media_errors_come_of_damaged_files(name: str, tmp_path: Path) -> None:
    data = whole(name, tmp_path)
    path = tmp_path / f"damaged.{name.rpartition('.')[2]}"
    limits = Limits(frame_side=32, pixels=10_000_000)
    rng = random.Random(name)
    path.write_bytes(data)
    assert list(cut(path, detect(path), limits)), "the undamaged file is read"
    reasons = []
    for _ in range(MUTATIONS if name != "icns" else MUTATIONS // 5):  # a megapixel each
        path.write_bytes(mutated(data, rng))
        reasons += reason_against(path, None, limits)
    assert reasons, "no mutation did any damage"
    assert all(10 < len(reason) < 200 and "\n" not in reason for reason in reasons)


def reason_against(path: Path, kind: Kind | None, limits: Limits) -> list[str]:
    """Why a file cannot be read; nothing if it can."""
    try:
        assert list(cut(path, kind or detect(path), limits))
    except MediaError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_wrong_kind_is_media_error_or_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(whole(name, tmp_path))
    reasons = [reason_against(path, kind, Limits(frame_side=32)) for kind in Kind]
    assert sum(bool(reason) for reason in reasons) >= 2


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.pdf", "a.txt"])
def test_a_file_without_permission_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    for read in (detect, lambda path: list(cut(path, suffix_kind(path) or Kind.TEXT))):
        with pytest.raises(MediaError, match="not permitted; change its permissions"):
            read(path)


def test_importing_the_package_loads_no_decoder() -> None:
    program = (
        "import sys, embedder, embedder.media\n"
        "heavy = {'cv2', 'av', 'pymupdf', 'fitz', 'pillow_heif', 'rawpy', 'onnxruntime', 'torch'}\n"
        "print(*heavy & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")
