"""What the page lists without words: months, cards and folders, over HTTP."""

import re
from functools import partial

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sample_library import copy_library

from app import services
from app.config import AppConfig
from app.page.labels import folder_choices, folder_of
from app.timeline import timeline_router
from indexer import Library, QueryError, Status


@pytest.fixture(scope="module")
def library(sample_folder):
    with Library.open(sample_folder / "library") as opened:
        yield opened


@pytest.fixture(scope="module")
def ask(library, tmp_path_factory):
    app = FastAPI()
    scratch = tmp_path_factory.mktemp("timeline")
    app.include_router(timeline_router(services.build(AppConfig(), library, scratch)))
    with TestClient(app) as client:
        yield partial(_get, client)


def _get(client, path, **values):
    return client.get(path, params=values)


def folder_id(library, name):
    return next(one.id for one in folder_choices(library) if one.name == name)


def test_months_and_cards_of_what_filters_let_through(ask, library):
    known = {item.name: item.date for item in library.catalog.items(status=Status.INDEXED)}
    photos = sorted(name for name in known if name.endswith(("jpg", "png")))
    for sort in ("newest", "oldest"):
        answer = ask("/timeline", kinds="image", sort=sort).json()
        months = [one["month"] for one in answer["months"]]
        assert months == sorted(months, reverse=True)
        assert answer["notice"] is None
        assert answer["kinds"] == {"image": 45, "video": 1, "pdf": 1, "text": 3}
        shown = [
            name
            for one in (answer["months"] if sort == "newest" else answer["months"][::-1])
            for offset in range(0, one["files"], 20)
            for name in re.findall(
                '<b title="([^"]+)"',
                ask(
                    "/timeline/items",
                    kinds="image", sort=sort, month=one["month"], offset=offset, limit=20,
                ).text,
            )
        ]  # fmt: skip
        assert sorted(shown) == photos
        assert shown == sorted(shown, key=known.__getitem__, reverse=sort == "newest")
        ids = ask("/timeline/ids", kinds="image", sort=sort).json()
        assert ids["is_all"]
        assert [library.catalog.item(one).name for one in ids["item_ids"]] == shown


def test_counts_are_those_under_the_other_filters(ask, library):
    papers = folder_id(library, "papers")
    answer = ask("/timeline", folder=papers, kinds="pdf").json()
    assert [one["files"] for one in answer["months"]] == [1]
    assert answer["kinds"] == {"pdf": 1, "text": 3}
    top = ask("/timeline/folders", kinds="pdf,video", folder=papers).json()
    (root,) = top["folders"]
    assert (root["name"], root["files"], root["is_parent"]) == ("media", 2, True)
    below = ask("/timeline/folders", kinds="pdf,video", within=root["id"]).json()
    assert below["name"] == "media"
    assert [(one["name"], one["files"]) for one in below["folders"]] == [
        ("films", 1),
        ("papers", 1),
    ]


def test_nothing_that_fits_is_said_with_a_way_out(ask):
    answer = ask("/timeline", before="1970").json()
    assert answer["months"] == []
    assert "Reset filters" in answer["notice"]


@pytest.mark.parametrize(
    ("path", "values", "status"),
    [
        ("/timeline", {"after": "2024", "before": "2023"}, 400),
        ("/timeline", {"kinds": "music"}, 400),
        ("/timeline", {"folder": "0"}, 400),
        ("/timeline/folders", {"within": "../.."}, 400),
        ("/timeline/items", {"month": "2023-13"}, 422),
        ("/timeline/items", {"month": "2023-07", "limit": 1000}, 422),
        ("/timeline/items", {"month": "2023-07", "offset": 2**63 - 1}, 200),
        ("/timeline/items", {"month": "2299-12"}, 200),
        ("/timeline/items", {"month": "9999-12"}, 422),
    ],
)
def test_what_is_no_filter_is_refused_in_a_sentence(ask, path, values, status):
    answer = ask(path, **values)
    assert answer.status_code == status
    if status == 400:
        assert answer.text[0].isupper()
        assert answer.text.endswith(".")


def test_file_on_a_disk_that_is_not_connected_is_listed_as_such(sample_folder, tmp_path):
    copy_library(sample_folder, tmp_path)
    with Library.open(tmp_path / "library") as library:
        (item,) = library.catalog.items(name="grey.jpg")
        library.missing = lambda paths: {path: path for path in paths if path == item.path}
        app = FastAPI()
        app.include_router(timeline_router(services.build(AppConfig(), library, tmp_path / "s")))
        with TestClient(app) as client:
            month = f"{item.date:%Y-%m}"
            shown = client.get("/timeline/items", params={"month": month, "limit": 100}).text
    card = shown[shown.index("grey.jpg") - 600 : shown.index("grey.jpg")]
    assert "File is missing" in card
    assert shown.count("File is missing") == 1


def test_folders_are_named_without_saying_where_they_are(library):
    choices = folder_choices(library)
    assert [(one.name, one.files) for one in choices] == [
        ("media", 50),
        ("films", 1),
        ("papers", 4),
        ("photos", 45),
    ]
    assert folder_of(library, choices[1].id).name == "films"
    assert not any("/" in one.id for one in choices)
    with pytest.raises(QueryError, match="no such folder"):
        folder_of(library, "films")
