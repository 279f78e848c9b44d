"""Sidecars beside files: to which file they belong, and what they say; dates in file names."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from embedder.media import Details
from embedder.media.metadata import date_in_name, sidecar_details, sidecars_in

LONG = "PXL_20240501_083000123.NIGHT.RAW-01.COVER.original.jpg"


@pytest.mark.parametrize(
    ("owner", "sidecar"),
    [
        ("IMG_1.jpg", "IMG_1.jpg.xmp"),
        ("IMG_1.jpg", "IMG_1.xmp"),
        ("IMG_1.CR2", "img_1.XMP"),
        ("IMG_1.jpg", "IMG_1.jpg.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-meta.json"),
        ("IMG_1.jpg", "IMG_1.jpg.s.json"),
        ("IMG_1.jpg", "IMG_1.jpg..json"),
        ("IMG_1(1).jpg", "IMG_1.jpg(1).json"),
        ("IMG_1(1).jpg", "IMG_1.jpg.supplemental-metadata(1).json"),
        ("IMG_1(1).jpg", "IMG_1(1).jpg.json"),
        ("IMG_1-edited.jpg", "IMG_1.jpg.json"),
        ("IMG_1-bearbeitet(1).jpg", "IMG_1.jpg(1).json"),
        ("IMG_1.MP4", "IMG_1.HEIC.supplemental-metadata.json"),
        ("2013-12-03.jpg", "2013-12-03.supplemental-metadata.json"),
        ("2013-12-03(1).jpg", "2013-12-03.supplemental-metadata(1).json"),
        (LONG, f"{LONG[:46]}.json"),
        (LONG, f"{LONG[:-1]}.supplem.json"),
        (LONG.replace(".jpg", "(2).jpg"), f"{LONG[:46]}(2).json"),
        ("U\u0308bung.jpg", "\u00dcbung.jpg.json"),
    ],
)
def test_sidecar_belongs_to_its_file(owner: str, sidecar: str) -> None:
    others = ["IMG_1.jpg", "IMG_1(1).jpg", "IMG_1.HEIC", "IMG_10.jpg", "notes.txt", LONG]
    found = sidecars_in({owner, sidecar, *others})
    assert found[owner] == (sidecar,)
    assert not {"IMG_10.jpg", "notes.txt"} & set(found)


@pytest.mark.parametrize(
    "names",
    [
        ["data.json", "data.csv", "lake.xmp", "metadata.json"],
        ["IMG_1.jpg", "IMG_2.jpg.json", "IMG_1.json"],
        ["IMG_1.jpg", "IMG_1.jpg(1).json"],
        ["a.jpg", "b.jpg"],
        [],
    ],
)
def test_files_of_nothing_are_no_sidecars(names: list[str]) -> None:
    assert sidecars_in(names) == {}


def test_shortened_names_of_numbered_copies_are_matched_by_number() -> None:
    copy = LONG.replace(".jpg", "(2).jpg")
    first, second = f"{LONG[:46]}.json", f"{LONG[:46]}(2).json"
    assert sidecars_in([LONG, copy, first, second]) == {LONG: (first,), copy: (second,)}


def test_xmp_comes_before_json() -> None:
    names = ["a.jpg.json", "a.jpg", "a.xmp", "a.jpg.xmp"]
    assert sidecars_in(names) == {"a.jpg": ("a.jpg.xmp", "a.xmp", "a.jpg.json")}


def takeout(folder: Path, **fields: Any) -> Details:
    path = folder / "IMG_1.jpg.json"
    path.write_text(json.dumps(fields))
    return sidecar_details([path])


def test_takeout_is_read(tmp_path: Path) -> None:
    said = takeout(
        tmp_path,
        title="IMG_1.jpg",
        description="Toboggan &amp; race",
        photoTakenTime={"timestamp": "1241605815", "formatted": "6 May 2009, 10:30:15 UTC"},
        geoData={"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
        geoDataExif={"latitude": 46.8, "longitude": 9.83, "altitude": 0.0},
        people=[{"name": "Anna"}, {"name": "Bert"}],
    )
    assert said == Details(
        captured_at=datetime(2009, 5, 6, 10, 30, 15, tzinfo=UTC),
        latitude=46.8,
        longitude=9.83,
        words=(("Caption", "Toboggan & race"), ("People", "Anna; Bert")),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"photoTakenTime": {"timestamp": "x"}, "people": None, "geoData": {"latitude": "north"}},
        {"photoTakenTime": {"timestamp": str(10**20)}, "geoData": []},
        {"photoTakenTime": [], "people": [{}], "description": ""},
        {"people": 7},
        {"description": ["x"]},
    ],
)
def test_takeout_of_nonsense_says_nothing(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert takeout(tmp_path, **fields) == Details()


def test_json_of_other_programs_is_read(tmp_path: Path) -> None:
    path = tmp_path / "heron.jpg.json"
    fields = {"title": "Heron", "date": "2010-05-06 12:00:00", "tags": ["marsh", 3], "id": 7}
    path.write_text(json.dumps(fields))
    said = sidecar_details([path])
    assert said.captured_at == datetime.fromisoformat("2010-05-06T12:00:00")
    assert dict(said.words) == {"Title": "Heron", "Keywords": "marsh"}


def test_xmp_beside_a_file_comes_before_its_json(tmp_path: Path) -> None:
    xmp = tmp_path / "IMG_1.xmp"
    xmp.write_text(
        """<?xml version="1.0" encoding="UTF-8"?>
        <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
        xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/">
        <rdf:Description exif:DateTimeOriginal="2009-05-06T12:30:15+02:00">
        <dc:subject><rdf:Bag><rdf:li>sledge</rdf:li></rdf:Bag></dc:subject>
        </rdf:Description></rdf:RDF></x:xmpmeta>"""
    )
    beside = tmp_path / "IMG_1.jpg.json"
    beside.write_text('{"description": "Race", "photoTakenTime": {"timestamp": "1"}}')
    said = sidecar_details([xmp, beside])
    assert said.captured_at == datetime(2009, 5, 6, 10, 30, 15, tzinfo=UTC)
    assert said.words == (("Keywords", "sledge"), ("Caption", "Race"))


def test_sidecars_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    damaged, huge, deep = (tmp_path / f"{name}.json" for name in ("damaged", "huge", "deep"))
    damaged.write_bytes(b'{"description": "Ra')
    huge.write_text(json.dumps({"description": "x" * 5_000_000}))
    deep.write_text("[" * 100_000)
    xmp = tmp_path / "a.xmp"
    xmp.write_text("<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>")
    paths = [damaged, huge, deep, xmp, tmp_path / "none.xmp", tmp_path]
    assert sidecar_details(paths) == Details()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_20240501_103000.jpg", "2024-05-01T10:30:00"),
        ("PXL_20240501_083000123.MP.jpg", "2024-05-01T08:30:00+00:00"),
        ("20240501_103000(1).mp4", "2024-05-01T10:30:00"),
        ("IMG20240501103000.jpg", "2024-05-01T10:30:00"),
        ("00000IMG_00000_BURST20240501103000123_COVER.jpg", "2024-05-01T10:30:00"),
        ("DJI_20240501103000_0001_D.JPG", "2024-05-01T10:30:00"),
        ("WIN_20240501_10_30_00_Pro.jpg", "2024-05-01T10:30:00"),
        ("P_20240501_103000.jpg", "2024-05-01T10:30:00"),
        ("Screenshot_20240501-103000_Chrome.jpg", "2024-05-01T10:30:00"),
        ("Screenshot_2024-05-01-10-30-00-123_com.app.jpg", "2024-05-01T10:30:00"),
        ("Screenshot 2024-05-01 at 10.30.00.png", "2024-05-01T10:30:00"),
        ("Screenshot 2024-05-01 at 1.30.00 PM.png", "2024-05-01T13:30:00"),
        ("Screenshot 2024-05-01 at 12.30.00\u202fAM.png", "2024-05-01T00:30:00"),
        ("Bildschirmfoto 2024-05-01 um 10.30.00.png", "2024-05-01T10:30:00"),
        ("Captura de pantalla 2024-05-01 a las 10.30.00.png", "2024-05-01T10:30:00"),
        ("WhatsApp Image 2024-05-01 at 10.30.00.jpeg", "2024-05-01T10:30:00"),
        ("signal-2024-05-01-103000.jpg", "2024-05-01T10:30:00"),
        ("signal-2024-05-01-10-30-00-123.jpg", "2024-05-01T10:30:00"),
        ("photo_2024-05-01_10-30-00.jpg", "2024-05-01T10:30:00"),
        ("PHOTO-2024-05-01-10-30-00.jpg", "2024-05-01T10:30:00"),
        ("2024-05-01 10.30.00.jpg", "2024-05-01T10:30:00"),
        ("vlcsnap-2024-05-01-10h30m00s123.png", "2024-05-01T10:30:00"),
        ("photo_5@01-05-2024_10-30-00.jpg", "2024-05-01T10:30:00"),
        ("ScreenRecording_05-01-2024 10-30-00_1.MP4", "2024-05-01T10:30:00"),
        ("Screenshot from 2024-05-01 10-30-00.png", "2024-05-01T10:30:00"),
        ("Screenshot 2024-05-01 103000.png", "2024-05-01T10:30:00"),
        ("WhatsApp Image 2024-05-01 at 10.30.00 (1).jpeg", "2024-05-01T10:30:00"),
        ("20240501T103000.mp4", "2024-05-01T10:30:00"),
        ("VID-20240501-WA0001.mp4", "2024-05-01T00:00:00"),
        ("IMG-20240501-WA000123.jpg", "2024-05-01T00:00:00"),
        ("IMG_20240501.jpg", "2024-05-01T00:00:00"),
        ("scan20240501.pdf", "2024-05-01T00:00:00"),
        ("2024-05-01 Minutes of the board.pdf", "2024-05-01T00:00:00"),
        ("20240501_256199.jpg", "2024-05-01T00:00:00"),
        ("mmexport1714559400000.jpg", "2024-05-01T10:30:00+00:00"),
        ("RPReplay_Final1714559400.MP4", "2024-05-01T10:30:00+00:00"),
        ("GMT20240501-103000_Recording_640x360.mp4", "2024-05-01T10:30:00+00:00"),
        ("2024_0501_103000_0001.MP4", "2024-05-01T10:30:00"),
        ("Sk\u00e4rmavbild 2024-05-01 kl. 10.30.00.png", "2024-05-01T10:30:00"),
        ("\u622a\u5c4f2024-05-01 \u4e0b\u53489.30.00.png", "2024-05-01T21:30:00"),
        ("\uc2a4\ud06c\ub9b0\uc0f7 2024-05-01 \uc624\ud6c4 9.30.00.png", "2024-05-01T21:30:00"),
        (
            unicodedata.normalize(
                "NFD", "\uc2a4\ud06c\ub9b0\uc0f7 2024-05-01 \uc624\ud6c4 9.30.00.png"
            ),
            "2024-05-01T21:30:00",
        ),
        ("image_2024-05-01_103000123.png", "2024-05-01T10:30:00"),
    ],
)
def test_date_in_a_name_is_read(name: str, expected: str) -> None:
    found = date_in_name(name)
    assert found is not None
    assert found.isoformat() == expected


@pytest.mark.parametrize(
    "name",
    [
        *("DSC_0123.jpg", "IMG_1234.jpg", "20241301_103000.jpg", "20240230.jpg", "19870501.jpg"),
        *("+436602024050.vcf", "invoice 202405011.pdf", "1202405011.jpg", "id_a20240501.jpg"),
        *("99991231_235959.jpg", "12345678.jpg", "2024-5-1.jpg", "192.168.2024.05.jpg", ""),
        f"IMG_{datetime.now(UTC) + timedelta(days=400):%Y%m%d}.jpg",
    ],
)
def test_numbers_that_are_no_dates_are_left_alone(name: str) -> None:
    assert date_in_name(name) is None
