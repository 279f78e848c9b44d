"""Sounds as items: found by tags, names and kind, with a thumbnail, and changed by new tags."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_embedder_media_audio import TAGS, with_cover, write_sound

from embedder.media import Kind
from indexer import Filters, Library
from indexer.search.__main__ import main
from indexer.search.query import file_part, text_part
from indexer.types import Hit, Query, Reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = tmp_path / "files"
    files.mkdir()
    write_sound(files / "01.mp3", TAGS)
    write_sound(files / "harbour_at_dawn.wav", {}, pitch=200)
    with_cover(files / "cover.mp3", (200, 30, 30))
    (files / "notes.txt").write_text("lighthouse")
    return tmp_path


@pytest.fixture
def library(folder: Path) -> Iterator[Library]:
    with Library.open(folder / "library", model="toy") as library:
        report = library.ingest([folder / "files"])
        assert not report.failures
        assert not report.skipped
        yield library


def hits(library: Library, text: str, *kinds: Kind) -> list[Hit]:
    query = Query((text_part(text),), Filters(kinds=frozenset(kinds)))
    return [hit for hit in library.search(query) if not hit.weak]


def test_sounds_are_found_by_their_tags_and_names(library):
    (hit,) = hits(library, '"wet meadows"')
    assert hit.item.name == "01.mp3"
    assert hit.item.kind is hit.segment.kind is Kind.AUDIO
    assert hit.why[0] is Reason.WORDS
    assert hit.segment.place_in(hit.item.path) == "0:00–0:02"
    (hit,) = hits(library, "harbour dawn", Kind.AUDIO)
    assert hit.item.name == "harbour_at_dawn.wav"
    assert library.catalog.stats().items[Kind.AUDIO] == 3


def test_sounds_are_compared_as_texts_with_words_and_pictures(library):
    queries = (text_part("salamander waltz by the newts"), file_part(_file(library)))
    for part in queries:
        best, *_ = library.search(Query((part,), Filters(kinds=frozenset({Kind.AUDIO}))))
        assert best.item.name == "01.mp3"
        assert Reason.PICTURE not in best.why


def _file(library: Library) -> Path:
    return next(item.path for item in library.catalog.items(name="01.mp3"))


def test_kind_restricts_the_command(library, folder, capsys):
    library.close()
    asked = ["waltz", "--library", str(folder / "library"), "--kind", "audio", "--json"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in found} == {"audio"}
    assert Path(found[0]["path"]).name == "01.mp3"


def test_files_of_the_same_bytes_are_of_the_kind_that_these_were_read_as(library, folder):
    sound = folder / "files" / "evening.m4a"
    write_sound(sound, {"title": "Curfew"})
    data = sound.read_bytes().replace(b"ftypM4A ", b"ftypisom", 1)  # So only the name says it.
    sound.write_bytes(data)
    library.ingest([folder / "files"])
    sound.with_suffix(".mp4").write_bytes(data)
    library.ingest([folder / "files"])
    assert {item.name for item in library.catalog.items(kind=Kind.AUDIO, name="evening")} == {
        "evening.m4a",
        "evening.mp4",
    }
    (hit,) = hits(library, "evening")
    assert hit.item.kind is hit.segment.kind is Kind.AUDIO
