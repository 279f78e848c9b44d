"""Sidecars: what XMP and Google Takeout's JSON say about the file beside them."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from decoders import InProcess
from PIL import Image

from embedder.media import Draft, Kind, Limits, cut
from embedder.media.kinds import Details
from indexer import Filters, Library
from indexer.search.query import text_part
from indexer.types import DateSource, IngestOptions, MediaItem, Query, Status

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
exif:DateTimeOriginal="2009-05-06T23:30:00"><dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF>
</x:xmpmeta>"""
TAKEN = datetime(2011, 2, 3, 4, 5, 6, tzinfo=UTC)
EVENING = datetime(2009, 5, 6, 23, 30)  # noqa: DTZ001 -- as cameras write it


def takeout(caption: str) -> str:
    people = [{"name": "Ada"}]
    time = {"timestamp": str(int(TAKEN.timestamp()))}
    return json.dumps({"description": caption, "photoTakenTime": time, "people": people})


class World:
    """A folder and a library of it, and the names of the files that were decoded."""

    def __init__(self, folder: Path) -> None:
        self.files, self.decoded = folder / "files", list[str]()
        self.files.mkdir()
        decoders = InProcess(self._cut)
        self.library = Library.open(folder / "library", model="toy", decoders=decoders)

    def _cut(self, path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        self.decoded.append(path.name)
        return cut(path, kind, limits)

    def picture(self, name: str) -> None:
        shade = len(list(self.files.iterdir())) * 9
        Image.new("RGB", (60, 40), (shade, 90, 200)).save(self.files / name, format="PNG")

    def write(self, name: str, text: str) -> None:
        (self.files / name).write_text(text)

    def ingest(self, *paths: Path, **options: object) -> list[str]:
        """Ingest, and return which files were decoded."""
        self.decoded.clear()
        report = self.library.ingest(list(paths) or [self.files], IngestOptions(**options))  # type: ignore[arg-type]
        assert not report.failures
        return sorted(self.decoded)

    def items(self) -> dict[str, MediaItem]:
        return {item.name: item for item in self.library.catalog.items(status=Status.INDEXED)}

    def details(self, name: str) -> Details:
        return self.library.catalog.details(self.items()[name].id)

    def found(self, text: str) -> list[str]:
        hits = self.library.search(Query((text_part(text),)))
        return sorted(hit.item.name for hit in hits if not hit.weak)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.library.close()


def test_a_picture_is_found_by_what_its_sidecar_says_and_the_sidecar_is_not(world):
    for name in ("one.png", "two.png", "three.png", "clip.png"):
        world.picture(name)
    world.write("one.png.xmp", XMP.format("toboggan race"))
    world.write("two.xmp", XMP.format("salamander"))
    world.write("three.png.supplemental-metadata.json", takeout("lighthouse"))
    assert world.ingest() == ["clip.png", "one.png", "three.png", "two.png"]
    assert world.found("toboggan races") == ["one.png"]
    assert world.found("salamander") == ["two.png"]
    assert world.found("lighthouse") == world.found("Ada") == ["three.png"]
    items = world.items()
    assert set(items) == {"clip.png", "one.png", "two.png", "three.png"}
    assert items["one.png"].date.replace(tzinfo=None) == EVENING
    assert items["three.png"].date == TAKEN
    assert items["three.png"].date_source is DateSource.METADATA
    assert world.details("three.png").words == (("Caption", "lighthouse"), ("People", "Ada"))
    assert world.ingest() == []


def test_new_changed_and_deleted_sidecars_are_noticed_and_nothing_is_decoded_again(world):
    world.picture("one.png")
    world.picture("IMG_20200102_030405.png")
    assert len(world.ingest()) == 2
    before = world.items()
    for caption in ("toboggan", "salamander race"):
        world.write("one.png.json", takeout(caption))
        assert world.ingest() == []
        assert world.found(caption) == ["one.png"]
        assert world.items()["one.png"].date == TAKEN
    assert world.found("toboggan") == []
    (world.files / "one.png.json").unlink()
    assert world.ingest() == []
    assert world.found("salamander") == []
    assert world.items() == before
    assert world.details("one.png").words == ()


def test_what_a_sidecar_says_counts_as_an_update(world):
    world.picture("one.png")
    world.picture("two.png")
    world.ingest()
    world.write("one.png.json", takeout("toboggan"))
    assert world.library.ingest([world.files]).updated == 1
    os.utime(world.files / "one.png.json", (1, 1))
    report = world.library.ingest([world.files])
    assert (report.updated, report.unchanged) == (0, 2)


def test_a_changed_sidecar_moves_its_file_in_filters(world):
    world.picture("one.png")
    world.ingest()
    _ = world.library.vectors  # an index that has to follow
    world.write("one.png.json", takeout("toboggan"))
    world.ingest()
    year = [datetime(year, 1, 1, tzinfo=UTC) for year in (2011, 2012)]
    filters = Filters(after=year[0], before=year[1])
    hits = world.library.search(Query((text_part("blue"),), filters))
    assert [hit.item.name for hit in hits] == ["one.png"]


def test_a_text_that_becomes_a_sidecar_leaves_the_library(world):
    world.write("other.txt", "beside it")
    world.write("one.png.json", takeout("toboggan"))
    world.ingest()
    assert set(world.items()) == {"one.png.json", "other.txt"}
    world.picture("one.png")
    plan = world.library.plan([world.files])
    assert plan.removed == (world.files / "one.png.json",)
    world.ingest()
    assert set(world.items()) == {"one.png", "other.txt"}
    (world.files / "one.png").unlink()
    world.ingest()
    assert set(world.items()) == {"one.png.json", "other.txt"}


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("config", "config.json"),
        ("notes.txt", "notes.txt.json"),
        ("notes.txt", "notes.json"),
        ("one.png", "two.png.json"),
        ("one.png", "one.json"),
    ],
)
def test_json_that_describes_no_picture_is_a_text(world, name, beside):
    if name.endswith(".png"):
        world.picture(name)
    else:
        world.write(name, "some settings or notes")
    world.write(beside, json.dumps({"description": "walrus"}))
    world.ingest()
    assert beside in world.items()
    assert world.found("walrus") == [beside]


def test_xmp_of_nothing_is_skipped(world):
    world.write("lost.xmp", XMP.format("walrus"))
    world.ingest()
    assert world.items() == {}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "<x", '{"people": 3}', "[" * 100_000, "\0" * 99, "9" * 9999]
)
def test_a_damaged_sidecar_costs_its_file_nothing(world, content):
    world.picture("one.png")
    world.write("one.png.json", content)
    world.write("one.png.xmp", content)
    assert world.ingest() == ["one.png"]
    assert world.items()["one.png"].date_source is DateSource.MODIFIED
    assert world.ingest() == []


def test_the_sidecars_of_a_single_file_and_of_a_pattern_are_read(world):
    world.picture("one.png")
    world.write("one.png.json", takeout("toboggan"))
    for path in (world.files / "one.png", world.files / "*", world.files):
        world.ingest(path)
        assert world.found("toboggan") == ["one.png"]
        assert set(world.items()) == {"one.png"}


def test_copies_have_sidecars_of_their_own(world):
    world.picture("one.png")
    (world.files / "two.png").write_bytes((world.files / "one.png").read_bytes())
    world.write("two.png.json", takeout("toboggan"))
    assert len(world.ingest()) == 1
    assert world.items()["two.png"].date == TAKEN
    assert world.items()["one.png"].date_source is DateSource.MODIFIED
    # Whichever of them a hit is shown as, what found it is to be seen.
    assert world.details("one.png") == world.details("two.png")
    assert world.details("one.png").words[0] == ("Caption", "toboggan")
    (match,) = world.library.catalog.find_about(["toboggan"], Filters(), 9).values()
    assert len(match) == 1


def test_an_excluded_sidecar_says_nothing(world):
    world.picture("one.png")
    world.write("one.png.json", takeout("toboggan"))
    world.ingest(exclude=("*.json",))
    assert set(world.items()) == {"one.png"}
    assert world.found("toboggan") == []


def test_sidecars_are_read_by_decoders(tmp_path):
    """By the processes that are confined, as every file of a user."""
    files = tmp_path / "files"
    files.mkdir()
    Image.new("RGB", (60, 40), "red").save(files / "one.png")
    (files / "one.png.json").write_text(takeout("toboggan"))
    (files / "one.xmp").write_text(XMP.format("salamander"))
    (files / "broken.png.json").symlink_to(files / "lost")
    Image.new("RGB", (60, 40), "blue").save(files / "broken.png")
    with Library.open(tmp_path / "library", model="toy") as library:
        assert library.ingest([files]).added == 2
        (item,) = library.catalog.items(name="one.png")
        assert item.date.replace(tzinfo=None) == EVENING  # of the first one
        assert dict(library.catalog.details(item.id).words) == {
            "Caption": "salamander; toboggan",
            "People": "Ada",
        }
