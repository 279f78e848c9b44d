"""Hostile files: an ingest of them all finds the sound ones and gives a reason for each other."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_files import SECRET, Corpus, build
from hostile_pdfs import forms_of_forms

from embedder.media import Kind, Limits, MediaError
from indexer import Library, MediaItem, Status
from indexer.decoding.pool import DecoderPool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, /proc, limits on memory")

MEMORY = 640 << 20
"""Bytes that neither the ingest nor any process that decodes for it may reach."""

INGEST = """
import json, resource, sys
from pathlib import Path
from embedder.media import Limits
from indexer import IngestOptions, Library

limits = Limits(silence_seconds=10, memory_bytes=1 << 30)
with Library.open(Path(sys.argv[2]), model="toy") as library:
    options = IngestOptions(workers=2, limits=limits)
    report = library.ingest([Path(sys.argv[1])], options)
    again = library.ingest([Path(sys.argv[1])], options)
tasks = Path("/proc/self/task").iterdir()
status = Path("/proc/self/status").read_text().splitlines()
print(json.dumps({
    "added": report.added,
    "refused": {str(one.path): one.reason for one in (*report.failures, *report.skipped)},
    "unchanged": again.unchanged,
    "children": [one for task in tasks for one in (task / "children").read_text().split()],
    "memory": 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1]),
    "their_memory": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
}))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def result(corpus: Corpus) -> dict[str, Any]:
    """The report of an ingest in a separate process."""
    command = [sys.executable, "-c", INGEST, str(corpus.folder), str(corpus.folder / "../library")]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def library(corpus: Corpus, result: dict[str, Any]) -> Iterator[Library]:
    with Library.open(corpus.folder / "../library") as library:
        yield library


@pytest.fixture
def items(library: Library) -> dict[Path, MediaItem]:
    return {item.path: item for item in library.catalog.items(limit=10_000)}


def test_corpus_is_large(corpus):
    assert len(corpus.files) > 300
    assert sum(path.stat().st_size for path in corpus.files) < 40 << 20


def test_every_file_ends_indexed_or_with_a_reason(corpus, items):
    missing = [path for path in corpus.files if path not in items]
    assert not missing
    reasons = [item.error for item in items.values() if item.status is not Status.INDEXED]
    assert len(reasons) > 100
    for reason in reasons:
        assert 10 < len(reason) < 200
        assert "\n" not in reason
        assert "Traceback" not in reason
        assert "unexpected" not in reason


def test_sound_files_are_found(corpus, items, library):
    lost = {path: items[path].error for path in corpus.sound if not items[path].segments}
    assert not lost
    ids = [one.id for path in corpus.sound for one in library.catalog.segments(items[path].id)]
    assert library.catalog.vectors_of(ids).any(axis=1).all()
    for path in corpus.sound:
        (segment, *_) = library.catalog.segments(items[path].id)
        vector = library.catalog.vectors_of([segment.id])[0]
        scores, found = library.vectors.search(vector, len(items), segment.kind)
        near = [one for one, score in zip(found, scores, strict=True) if score > scores[0] - 0.01]
        assert segment.id in near, path


def test_unusable_files_have_their_reason(corpus, items):
    assert len(corpus.hopeless) > 40
    for path, why in corpus.hopeless.items():
        assert items[path].status is not Status.INDEXED, path
        assert why in (items[path].error or ""), path


def test_page_that_is_drawn_for_ever_is_given_up(tmp_path):
    path = tmp_path / "forms-of-forms.pdf"
    with DecoderPool() as decoders:
        path.write_bytes(forms_of_forms(1))
        assert list(decoders.cut(path, Kind.PDF, Limits()))
        path.write_bytes(forms_of_forms(12))
        with pytest.raises(MediaError, match="no progress for 2 seconds"):
            list(decoders.cut(path, Kind.PDF, Limits(silence_seconds=2)))


def test_links_pipes_and_sockets_are_not_opened(corpus, result):
    reasons = {
        "self.jpg": "the link cannot be followed",
        "there.jpg": "the link cannot be followed",
        "up": "the link is circular",
        "nothing.jpg": "the link is broken",
        "device.jpg": "a device, not a file",
        "input.txt": "a device, not a file",
        "pipe.mp4": "a pipe, not a file",
        "socket.jpg": "a socket, not a file",
    }
    for name, reason in reasons.items():
        assert reason in result["refused"][str(corpus.folder / "links" / name)]


def test_only_linked_files_are_read(corpus, items, library):
    assert all(corpus.folder in path.parents for path in items)
    hashes = {item.content_hash for item in items.values()}
    outside = {path.name: hash_of(path) in hashes for path in corpus.outside.iterdir()}
    assert outside == {"film.mp4": False, "secret.txt": False, "linked.png": True}
    segments = [one for item in items.values() for one in library.catalog.segments(item.id)]
    assert any("words" in (segment.text or "") for segment in segments)
    assert not any(SECRET in (segment.text or "") for segment in segments)


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_memory_is_bounded_and_no_process_left(result):
    assert result["memory"] < MEMORY
    assert result["their_memory"] < MEMORY
    assert result["children"] == []


def test_second_ingest_changes_nothing(corpus, result):
    assert result["unchanged"] == len(corpus.files) + 1, "and the file that a link leads to"


def test_corpus_is_deterministic(corpus, tmp_path):
    again = build(tmp_path)
    for path in again.files:
        place = path.relative_to(again.folder)
        if place.parts[0] in ("damaged", "bombs", "names", "text", "mislabelled"):
            other = corpus.folder / place
            assert path.stat().st_size == other.stat().st_size, place
