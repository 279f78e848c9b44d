"""What PDF, HTML, Markdown and videos say about themselves."""

import io
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pymupdf
import pytest

from embedder.media import MEDIA_KINDS, Details, Kind, Limits
from embedder.media.metadata import (
    front_matter_details,
    html_details,
    pdf_details,
    video_details,
)

CEST = timezone(timedelta(hours=2))


def details_of(path: Path, kind: Kind) -> Details:
    said = MEDIA_KINDS[kind].details(path, Limits())
    assert said is not None
    return said


def test_pdf_properties_are_read(tmp_path: Path) -> None:
    path = tmp_path / "paper.pdf"
    document: Any = pymupdf.open()
    document.new_page()
    document.new_page()
    document.set_metadata(
        {
            "title": "Keeping of Lighthouses",
            "author": "Ada",
            "subject": "Lamps and logs",
            "keywords": "sea, coast; light",
            "creationDate": "D:20110203040506+02'00'",
        }
    )
    document.save(str(path))
    assert details_of(path, Kind.PDF) == Details(
        captured_at=datetime(2011, 2, 3, 4, 5, 6, tzinfo=CEST),
        words=(
            ("Title", "Keeping of Lighthouses"),
            ("Author", "Ada"),
            ("Subject", "Lamps and logs"),
            ("Keywords", "sea; coast; light"),
        ),
        facts=(("Pages", "2"),),
    )


def test_xmp_of_a_pdf_is_read_where_it_has_no_other_words(tmp_path: Path) -> None:
    path = tmp_path / "paper.pdf"
    document: Any = pymupdf.open()
    document.new_page()
    document.set_xml_metadata(
        """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
        xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
        <rdf:Description xmp:CreateDate="2011-02-03T04:05:06+02:00"><dc:title><rdf:Alt>
        <rdf:li>Lighthouses</rdf:li></rdf:Alt></dc:title><dc:description><rdf:Alt>
        <rdf:li>Of lamps</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF>"""
    )
    document.save(str(path))
    said = details_of(path, Kind.PDF)
    assert said.words == (("Title", "Lighthouses"), ("Subject", "Of lamps"))
    assert said.captured_at == datetime(2011, 2, 3, 4, 5, 6, tzinfo=CEST)
    assert pdf_details({"title": "Sea"}, 1, "<damaged").words == (("Title", "Sea"),)
    assert pdf_details({}, 1, "<damaged").words == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("D:20110203040506Z", "2011-02-03T04:05:06+00:00"),
        ("D:20110203040506Z00'00'", "2011-02-03T04:05:06+00:00"),
        ("D:20110203040506-05'30", "2011-02-03T04:05:06-05:30"),
        ("D:20110203040506", "2011-02-03T04:05:06"),
        ("D:201102030405", "2011-02-03T04:05:00"),
        ("20110203", "2011-02-03T00:00:00"),
        ("D:2011", "2011-01-01T00:00:00"),
        ("D:201102", "2011-02-01T00:00:00"),
        ("2011-02-03T04:05:06Z", "2011-02-03T04:05:06+00:00"),
        ("D:2011-02-03", "2011-02-03T00:00:00"),
        ("2011/02/03 04:05:06", "2011-02-03T04:05:06"),
        ("Thu Feb  3 04:05:06 2011", "2011-02-03T04:05:06"),
        ("2011-02-03 or later", None),
        ("D:00000101000000Z", None),
        ("D:20111403040506", None),
        ("D:19700101000000Z", None),
        ("Thursday", None),
    ],
)
def test_pdf_dates_are_read(text: str, expected: str | None) -> None:
    found = pdf_details({"creationDate": text}, 1).captured_at
    assert (found and found.isoformat()) == expected


@pytest.mark.parametrize(
    "title",
    [
        *("Microsoft Word - foo.doc", "untitled", "PowerPoint Presentation", "Slide 1", "foo.dvi"),
        *("Microsoft PowerPoint - talk [Compatibility Mode]", "Document1", " ", "()"),
        "PowerPoint-Präsentation",
    ],
)
def test_titles_that_programs_write_are_left_out(title: str) -> None:
    assert pdf_details({"title": title, "author": "Administrator"}, 1).words == ()


def test_head_of_html_is_read(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        """<html><head><title>Sea &amp; coast</title><meta name="author" content="Ada">
        <meta property="og:description" content="Of lamps"><meta name=keywords content="sea, lamp">
        <meta property="article:published_time" content="2011-02-03T04:05:06+02:00">
        <meta name="viewport" content="width=device-width"></head><body><h1>Lighthouses</h1>
        <svg><title>Icon</title></svg></body></html>"""
    )
    assert details_of(path, Kind.TEXT) == Details(
        captured_at=datetime(2011, 2, 3, 4, 5, 6, tzinfo=CEST),
        words=(
            ("Title", "Sea & coast"),
            ("Author", "Ada"),
            ("Subject", "Of lamps"),
            ("Keywords", "sea; lamp"),
        ),
    )
    assert html_details("<p>no head, <meta name='date' content='never'> no date") == Details()
    damaged = html_details("<title>Sea</title><![x[ <meta name=author content=Ada>")
    assert damaged.words == (("Title", "Sea"),)
    mail = html_details("<meta name=date content='Thu, 03 Feb 2011 04:05:06 +0200'>")
    assert mail.captured_at == datetime(2011, 2, 3, 4, 5, 6, tzinfo=CEST)


def test_front_matter_of_markdown_is_read(tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_bytes(
        b'---\r\ntitle: "Lamps: a log"\r\ndate: 2011-02-03 04:05\r\nauthor: Ada\r\n'
        b"cover:\r\n  author: Nested\r\n"
        b"tags:\r\n  - sea\r\n  - coast\r\ncategories: [light, 'Sea']\r\ndraft: no\r\n---\r\n# Log"
    )
    assert details_of(path, Kind.TEXT) == Details(
        captured_at=datetime.fromisoformat("2011-02-03T04:05"),
        words=(
            ("Title", "Lamps: a log"),
            ("Author", "Ada"),
            ("Keywords", "sea; coast; light"),
        ),
    )


@pytest.mark.parametrize(
    "text", ["no front matter", "---\ntitle: open", "a\n---\ntitle: x\n---\n", "", "---\n---\n"]
)
def test_texts_without_front_matter_say_nothing(text: str) -> None:
    assert front_matter_details(text) == Details()


def video(fmt: str, **tags: str) -> Details:
    file = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if fmt in ("mp4", "mov") else {}
    with av.open(file, "w", format=fmt, options=options) as container:
        container.metadata.update({name.replace("__", "."): text for name, text in tags.items()})
        track: Any = container.add_stream("mpeg4", rate=Fraction(30_000, 1001))
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        for _ in range(60):
            container.mux(track.encode(picture))
        container.mux(track.encode())
    file.seek(0)
    with av.open(file) as container:
        return video_details(container, container.streams.video[0])


@pytest.mark.parametrize("fmt", ["mp4", "mov", "matroska"])
def test_container_of_a_video_is_read(fmt: str) -> None:
    said = video(
        fmt,
        creation_time="2009-05-06T10:30:15Z",
        title="Toboggan race",
        description="In Davos",
        location="+46.8043+009.8372/",
        make="Apple",
        model="iPhone 15",
    )
    assert said.captured_at == datetime(2009, 5, 6, 10, 30, 15, tzinfo=UTC)
    assert (said.latitude, said.longitude) == (46.8043, 9.8372)
    assert dict(said.words) == {"Title": "Toboggan race", "Caption": "In Davos"}
    assert dict(said.facts) == {
        "Camera": "Apple iPhone 15",
        "Duration": "0:02",
        "Size": "64 × 48 pixels",
        "Encoding": "MPEG-4, 29.97 frames a second",
    }


def test_durations_and_rates_that_say_little_are_rounded_or_left_out() -> None:
    codec = SimpleNamespace(name="dvvideo")
    track = SimpleNamespace(
        metadata={}, codec_context=codec, average_rate=60_000, width=720, height=576
    )
    said = video_details(SimpleNamespace(metadata={}, duration=40_000), track)
    assert said.facts == (("Duration", "0:01"), ("Size", "720 × 576 pixels"), ("Encoding", "DV"))


def test_date_with_a_zone_comes_before_that_of_the_container() -> None:
    said = video(
        "mov",
        creation_time="2020-01-01T00:00:00Z",
        com__apple__quicktime__creationdate="2009-05-06T12:30:15+0200",
        com__apple__quicktime__location__ISO6709="-33.8567+151.2150+058.000/",
    )
    assert said.captured_at == datetime(2009, 5, 6, 12, 30, 15, tzinfo=CEST)
    assert (said.latitude, said.longitude) == (-33.8567, 151.215)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"date": "20110203"}, "2011-02-03T00:00:00"),
        ({"date": "2011"}, "2011-01-01T00:00:00"),
        ({"DATE_RECORDED": "2011-02-03 04:05:06", "date": "2020"}, "2011-02-03T04:05:06"),
        ({"creation_time": "1904-01-01T00:00:00Z"}, None),
        ({"creation_time": "1970-01-01T00:00:00Z"}, None),
        ({}, None),
    ],
)
def test_dates_of_videos_that_are_no_moments(tags: dict[str, str], expected: str | None) -> None:
    said = video("matroska", **tags)
    assert (said.captured_at and said.captured_at.isoformat()) == expected
    assert (said.latitude, said.words) == (None, ())
