"""A library on RzenEmbed, from files to hits: with an untrained model of 200,000 numbers."""

import json
from pathlib import Path

import programs
import pymupdf
import pytest
from PIL import Image

from embedder.media import read_picture
from indexer import Filters, Library, Query
from indexer.search.query import file_part, text_part, with_instruction
from indexer.types import Reason


def noise(seed: int) -> Image.Image:
    return Image.effect_noise((160, 120), 60 + 40 * seed).convert("RGB")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for name in (1, 2, 3):
        noise(name).save(folder / f"{name}.png")
    noise(1).save(folder / "film.gif", save_all=True, append_images=[noise(2)] * 9, duration=200)
    (folder / "note.txt").write_text("Tulips grow beside the pond.")
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "An invoice over forty apples")
        document.save(folder / "paper.pdf")
    return folder


def names(library: Library, *parts: object, **filters: object) -> list[str]:
    query = Query(tuple(parts), Filters(**filters))  # type: ignore[arg-type]
    return [hit.item.name for hit in library.search(query)]


def test_files_of_every_kind_are_taken_in_and_found(tmp_path: Path, media: Path, tiny_rzen: Path):
    with Library.open(tmp_path / "library", model=f"rzen:{tiny_rzen}") as library:
        report = library.ingest([media])
        assert not report.failures
        assert report.added == 6
        assert names(library, file_part(media / "2.png", limits=library.limits))[0] == "2.png"
        for word, name in (("invoice", "paper.pdf"), ("tulips", "note.txt")):
            instructed = with_instruction(text_part(word), "Find it: ")
            why = {hit.item.name: hit.why for hit in library.search(Query((instructed,)))}
            assert Reason.WORDS in why[name]
        copy = library.search(Query((file_part(media / "2.png", limits=library.limits),)))[0]
        assert copy.relevance > 0.9


def test_a_photo_is_read_as_large_as_the_first_resizing_step_takes_it(
    tmp_path: Path, tiny_rzen: Path
):
    photo = noise(1).resize((4000, 3000))
    photo.save(tmp_path / "photo.png")
    with Library.open(tmp_path / "library", model=f"rzen:{tiny_rzen}") as library:
        read = read_picture(tmp_path / "photo.png", library.limits)
        assert read.tobytes() == photo.tobytes()
        assert library.limits.sheet_side < 4000


def test_a_library_changes_to_rzen_and_back_on_the_command_line(
    tmp_path: Path, media: Path, tiny_rzen: Path
):
    library, rzen = tmp_path / "library", f"rzen:{tiny_rzen}"
    assert (
        programs.run("indexer.ingest", media, "--library", library, "--model", "toy").returncode
        == 0
    )
    refused = programs.run("indexer.ingest", media, "--library", library, "--model", rzen)
    assert refused.returncode == 2
    assert f"python -m indexer.reembed --library {library} --model {rzen}" in refused.stderr
    changed = programs.run(
        "indexer.reembed", "--library", library, "--model", rzen, "--device", "cpu"
    )
    assert changed.returncode == 0, changed.stderr
    assert f"now has the model {rzen}" in changed.stdout
    found = programs.run(
        *("indexer.search", "--image", media / "3.png", "--library", library, "--json"),
        *("--kind", "image", "--instruction", "Represent the given image."),
    )
    assert Path(json.loads(found.stdout)[0]["path"]).name == "3.png", found.stderr
    back = programs.run("indexer.reembed", "--library", library, "--model", "toy")
    assert back.returncode == 0, back.stderr
    with Library.open(library) as opened:
        assert opened.model == "toy"
        assert names(opened, text_part("tulips"))[0] == "note.txt"
