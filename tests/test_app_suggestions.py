"""What is suggested while a search is typed."""

import json
import time

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from app.page.labels import FolderChoice
from app.suggestions import suggestions, suggestions_router
from indexer import Library


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggested")
    for path in ("media/Holiday 2019/IMG_0206.jpg", "media/Holiday 2020/b.jpg", "media/misc/c.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (200, len(path), 9)).save(folder / path)
    for name in ("little-penguin.png", "zoo2penguins.png", "XZebra.v2.png", "arctic.png"):
        Image.new("RGB", (64, 48), (9, len(name), 9)).save(folder / "media/misc" / name)
    described = {
        "people": [{"name": "Anna Schmidt"}, {"name": "Bob"}],
        "tags": ["Beach", "Marmalade jars"],
    }
    (folder / "media/misc/c.jpg.json").write_text(json.dumps(described | {"title": "c.jpg"}))
    for number in range(3):
        text = f"The company {number} had a harbour and several harbours. Companies compare."
        (folder / f"media/misc/note {number}.txt").write_text(text)
    with Library.open(folder / "library", model="toy") as opened:
        opened.ingest([folder / "media"])
        yield opened


def found(library, text, *kinds):
    return [
        (one.label, one.text)
        for one in suggestions(library, text)
        if not kinds or one.kind in kinds
    ]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("holi", "folder", {("Holiday 2019", ""), ("Holiday 2020", "")}),
        ("Holiday 20", "folder", {("Holiday 2019", ""), ("Holiday 2020", "")}),
        ("dog in holiday 2019", "folder", {("Holiday 2019", "dog in")}),
        ("olid", "folder", set()),
        ("img_02", "file", {("IMG_0206.jpg", "IMG_0206.jpg")}),
        ("206", "file", set()),
        ("penguin", "file", {(one, one) for one in ("little-penguin.png", "zoo2penguins.png")}),
        ("v2.p", "file", {("XZebra.v2.png", "XZebra.v2.png")}),
        ("guin", "file", set()),
        ("harb", "word", {("harbour", "harbour"), ("harbours", "harbours")}),
        ("old -harb", "word", {("harbour", "old -harbour"), ("harbours", "old -harbours")}),
        ("a harbour ", "word", set()),
        ("marma", "spelling", set()),
        ("a harbpur", "spelling", {("a harbour", "a harbour")}),
        ("h", None, set()),
        ("", None, set()),
        ("\"'\0*", None, set()),
    ],
)
def test_suggestions(library, text, kind, expected):
    shown = set(found(library, text, *[kind] if kind else []))
    assert shown <= expected if kind == "word" else shown == expected
    assert bool(shown) == bool(expected)


@pytest.mark.parametrize("text", ["penguin", "a harbour", "harbours"])
def test_word_that_files_have_is_suggested_first(library, text):
    assert found(library, text, "word")[0] == (text.split()[-1], text)


def test_labels_come_before_words_and_keep_how_they_are_written(library):
    assert found(library, "dog and anna schm", "people") == [
        ("Anna Schmidt", "dog and Anna Schmidt")
    ]
    assert found(library, "beac")[0] == ("Beach", "Beach")
    assert found(library, "jar", "keywords") == [("Marmalade jars", "Marmalade jars")]
    assert found(library, "beac", "word") == []


def test_saved_searches_are_suggested_by_their_names(library):
    library.albums.save_search("Beach at dusk", {"text": "beach", "kinds": ["image"]})
    (saved,) = (one for one in suggestions(library, "at du") if one.kind == "saved")
    assert (saved.label, saved.search) == ("Beach at dusk", {"text": "beach", "kinds": ["image"]})


def test_words_of_texts_are_whole(library):
    """What is indexed of "company" is "compani"."""
    assert {label for label, _ in found(library, "comp", "word")} <= {
        *("company", "companies", "compare"),
    }
    assert found(library, "comp", "word")


def test_route(library):
    app = FastAPI()
    app.include_router(suggestions_router(library))
    client = TestClient(app)
    answer = client.get("/suggestions", params={"q": "holi"}).json()
    assert answer[0]["kind"] == "folder"
    assert answer[0]["files"] == 1
    assert "/" not in json.dumps(answer), "a path of this machine"
    assert client.get("/suggestions", params={"q": "x" * 201}).status_code == 422


def test_long_texts_are_answered_fast_among_many_folders(library, monkeypatch):
    choices = [FolderChoice(str(number), f"Trip {number}", 1) for number in range(2_000)]
    monkeypatch.setattr("app.suggestions.folder_choices", lambda library: choices)
    before = time.thread_time()
    words = " ".join("ab" * 45)
    assert found(library, f"{words} trip 1999", "folder") == [("Trip 1999", words)]
    assert time.thread_time() - before < 0.5
