"""The second pass of an ingest: words in pictures, read after everything can be found."""

import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont
from programs import run

from app.api import Api
from embedder.content import Content
from embedder.media.kinds import Kind, MediaError, Word
from indexer import Filters, Library, Query, QueryPart, Reason
from indexer.ingest.background_ocr import BackgroundOcr
from indexer.maintenance.check import check
from indexer.maintenance.storage import open_storage
from indexer.search.query import text_part
from indexer.types import TextLine

BOX = (0.1, 0.2, 0.3, 0.4)


class CountingReader:
    """Reads a line from the name of each file, and counts how often it reads it."""

    def __init__(self, texts: dict[str, str], revision: str = "1") -> None:
        self.texts, self.revision = texts, revision
        self.read: list[str] = []
        self.on_read: Callable[[], None] = lambda: None

    def lines(self, path, kind, places):
        self.read.append(path.name)
        self.on_read()
        text = self.texts.get(path.name, "")
        if text == "broken":
            raise MediaError("it is damaged")
        for place in places:
            for line in filter(None, text.split("\n")):
                words = tuple(Word(word, *BOX) for word in line.split())
                yield place.id, TextLine(line, words)


def library_of(folder: Path, reader: CountingReader) -> Library:
    library = Library.open(folder / "library", model="toy")
    library.text_reader = lambda _cancel: nullcontext(reader)
    return library


def pictures(folder: Path, *names: str) -> Path:
    media = folder / "media"
    media.mkdir(exist_ok=True)
    for at, name in enumerate(names):
        Image.new("RGB", (64, 48), (40 * at, 90, 200)).save(media / name)
        os.utime(media / name, (1_600_000_000 + at, 1_600_000_000 + at))
    return media


def found(library: Library, text: str, **filters: object) -> list[str]:
    """The names of the files that have the words."""
    hits = library.search(Query((text_part(text),), Filters(**filters)))
    return [hit.item.name for hit in hits if Reason.WORDS in hit.why and not hit.weak]


def drawn(text: str) -> Image.Image:
    picture = Image.new("RGB", (700, 160), "white")
    font = ImageFont.truetype(io.BytesIO(pymupdf.Font("hebo").buffer), 70)
    ImageDraw.Draw(picture).text((30, 40), text, fill="black", font=font)
    return picture


def test_a_picture_is_found_by_the_words_in_it(tmp_path):
    reader = CountingReader({"a.png": "Harbour Street\nNo parking today"})
    with library_of(tmp_path, reader) as library:
        library.ingest([pictures(tmp_path, "a.png", "b.png")])
        assert found(library, "parking") == []
        report = library.read_words()
        assert (report.read, report.with_text, report.left) == (2, 1, 0)
        assert found(library, "parking") == ["a.png"]
        assert found(library, "HARBOUR parking") == ["a.png"]
        assert found(library, "harbour", kinds=frozenset({Kind.IMAGE})) == ["a.png"]
        (hit, *_) = library.search(Query((text_part("parking"),)))
        assert hit.why[0] is Reason.WORDS
        words = library.catalog.words(hit.segment.id)
        assert [one.text for one in words] == ["Harbour", "Street", "No", "parking", "today"]
        assert (words[3].left, words[3].bottom) == pytest.approx((0.1, 0.4), abs=1e-4)
        assert [one.text for one in library.catalog.lines(hit.segment.id)] == [
            "Harbour Street",
            "No parking today",
        ]


def test_parts_of_words_find_pictures_where_they_are_long_enough(tmp_path):
    reader = CountingReader({"car.png": "RE16XYZ scarf", "b.png": "Platform 7"})
    with library_of(tmp_path, reader) as library:
        library.ingest([pictures(tmp_path, "car.png", "b.png", "c.png")])
        library.read_words()
        assert found(library, "RE16") == ["car.png"]
        assert found(library, "e16x") == ["car.png"]
        assert found(library, "re16 scar") == ["car.png"]
        assert found(library, "orm 7") == []  # Too short.
        assert found(library, "art") == []
        assert found(library, "platf re16") == []  # Not in one picture.


def test_words_that_hits_should_not_have_leave_out_pictures_that_show_them(tmp_path):
    reader = CountingReader({"a.png": "sale today", "b.png": "sale tomorrow"})
    with library_of(tmp_path, reader) as library:
        library.ingest([pictures(tmp_path, "a.png", "b.png")])
        library.read_words()
        hits = library.search(Query((text_part("sale"),), without=("tomorrow",)))
        assert [hit.item.name for hit in hits if not hit.weak] == ["a.png"]


def test_only_files_with_words_are_found_with_the_filter(tmp_path):
    media = pictures(tmp_path, "a.png", "b.png")
    (media / "c.txt").write_text("red words")
    with library_of(tmp_path, CountingReader({"a.png": "a sign"})) as library:
        library.ingest([media])
        library.read_words()
        only = Filters(has_text=True)
        assert {one.name for one, _ in library.catalog.timeline.files(only)} == {"a.png", "c.txt"}
        hits = library.search(Query((QueryPart(Content(text="red")),), only))
        assert {hit.item.name for hit in hits} <= {"a.png", "c.txt"}


def test_answers_have_the_words_of_the_query_with_their_boxes(tmp_path, page_over):
    reader = CountingReader({"a.png": "No parking7 today"})
    with library_of(tmp_path, reader) as library:
        library.ingest([pictures(tmp_path, "a.png", "b.png")])
        library.read_words()
        hit = Api(page_over(library)).search("parking", has_text=True)[0]
        assert hit["words"] == [{"text": "parking7", "box": list(BOX)}]
        assert (hit["text"], hit["reason"]) == ("No parking7 today", "Contains your words")
        assert len(Api(page_over(library)).search("green", has_text=True)) <= 1
    where = ("--library", tmp_path / "library", "--json", "--has-text")
    (found,) = json.loads(run("indexer.search", "parking", *where).stdout)
    assert found["words"] == hit["words"]
    assert found["text"] == "No parking7 today"


def test_nothing_is_read_twice_unless_the_content_or_the_engine_changes(tmp_path):
    reader = CountingReader({"a.png": "one", "b.png": "two"})
    with library_of(tmp_path, reader) as library:
        media = pictures(tmp_path, "a.png", "b.png")
        library.ingest([media])
        library.read_words()
        (media / "copy.png").write_bytes((media / "a.png").read_bytes())
        library.ingest([media])
        assert library.read_words().read == 0
        drawn("other").save(media / "a.png")
        library.ingest([media])
        library.read_words()
        assert Counter(reader.read) == {"a.png": 2, "b.png": 1}
        reader.revision, reader.texts = "2", {"b.png": "zwei"}
        library.read_words()
        assert Counter(reader.read) == {"a.png": 3, "b.png": 2, "copy.png": 1}
        assert found(library, "two") == []
        assert found(library, "zwei") == ["b.png"]
    with open_storage(tmp_path / "library") as place:
        assert check(place).findings == ()


def test_pictures_come_first_and_the_newest_of_them(tmp_path):
    media = pictures(tmp_path, "old.png", "new.png")
    document = pymupdf.open()
    for text in ("", "word " * 30, "7"):
        page = document.new_page(width=200, height=200)
        page.draw_rect((20, 20, 90, 90), fill=(1, 0, 0))
        page.insert_textbox((0, 0, 200, 200), text, fontsize=8)
    document.save(media / "scan.pdf")
    reader = CountingReader({"scan.pdf": "stamped 7\n7"})
    with library_of(tmp_path, reader) as library:
        library.ingest([media])
        library.read_words()
        assert reader.read == ["new.png", "old.png", "scan.pdf"]
        (item,) = library.catalog.items(name="scan.pdf")
        lines = [library.catalog.lines(one.id) for one in library.catalog.segments(item.id)]
    # The page with a text is not read, and what a page says itself is not said twice.
    assert [[one.text for one in page] for page in lines] == [
        ["stamped 7", "7"],
        [],
        ["stamped 7"],
    ]


def test_a_file_that_cannot_be_read_fails_once_and_one_that_is_away_is_left(tmp_path):
    reader = CountingReader({"a.png": "broken", "b.png": "fine"})
    with library_of(tmp_path, reader) as library:
        media = pictures(tmp_path, "a.png", "b.png", "c.png")
        library.ingest([media])
        (media / "c.png").rename(tmp_path / "c.png")
        report = library.read_words()
        assert [one.path.name for one in report.failures] == ["a.png"]
        assert (report.read, report.left) == (2, 1)
        (tmp_path / "c.png").rename(media / "c.png")
        library.read_words()
        assert Counter(reader.read) == {"a.png": 1, "b.png": 1, "c.png": 1}


def test_what_was_read_is_kept_when_the_pass_is_stopped(tmp_path):
    cancel, reader = Event(), CountingReader({"a.png": "one", "b.png": "two", "c.png": "three"})
    with library_of(tmp_path, reader) as library:
        library.ingest([pictures(tmp_path, "a.png", "b.png", "c.png")])
        reader.on_read = lambda: cancel.set() if len(reader.read) == 2 else None
        report = library.read_words(cancel=cancel)
        assert report.cancelled
        assert report.left == 3 - report.read
        reader.on_read = lambda: None
        seen = []
        library.read_words(on_progress=seen.append)
        assert seen[0].reused == report.read
        assert seen[0].total == 3
        assert found(library, "one") == ["a.png"]
        assert Counter(reader.read)["c.png"] == 1


def test_an_ingest_goes_on_while_words_are_read(tmp_path):
    reader = CountingReader({"a.png": "one", "b.png": "two"})
    with library_of(tmp_path, reader) as library:
        media = pictures(tmp_path, "a.png", "b.png")
        library.ingest([media])
        reports = []
        drawn("later").save(media / "later.png")
        reader.on_read = lambda: reports.append(library.ingest([media]))
        library.read_words()
        assert reports[0].added == 1
        assert found(library, "two") == ["b.png"]


def test_pictures_are_read_in_the_background_once_nothing_else_runs(tmp_path, background_ocr):
    busy, reader = Event(), CountingReader({"a.png": "one", "late.png": "late"})
    with library_of(tmp_path, reader) as library:
        busy.set()
        words = BackgroundOcr(library, busy.is_set)
        words.start()
        media = pictures(tmp_path, "a.png")
        library.ingest([media])
        sleep(1.5)
        assert reader.read == []
        busy.clear()
        wait_for(lambda: found(library, "one") == ["a.png"])
        drawn("late").save(media / "late.png")
        library.ingest([media])
        wait_for(lambda: found(library, "late") == ["late.png"])
        words.stop()
        wait_for(lambda: not words.is_on)
        words.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = monotonic() + 300  # Words are read by what others leave of the processor.
    while not condition():
        assert monotonic() < until
        sleep(0.05)


def test_the_engine_reads_pictures_scans_and_videos_in_a_process_of_its_own(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    drawn("BAKERY RE16XYZ").save(media / "sign.png")
    page = pymupdf.open()
    page.new_page(width=350, height=80).insert_image((0, 0, 350, 80), stream=png(drawn("Invoice")))
    page.save(media / "scan.pdf")
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([media])
        report = library.read_words()
        assert (report.with_text, report.failures) == (2, ())
        assert found(library, "bakery") == ["sign.png"]
        assert found(library, "re16") == ["sign.png"]
        assert found(library, "invoice") == ["scan.pdf"]
        (hit, *_) = library.search(Query((text_part("bakery"),)))
        word = library.catalog.words(hit.segment.id)[0]
        assert word.text == "BAKERY"
        assert 0 < word.left < word.right < 0.6


def png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("flags", [(), ("--no-ocr",)])
def test_the_command_reads_words_unless_it_is_asked_not_to(tmp_path, monkeypatch, flags):
    monkeypatch.delenv("RZEN_NO_OCR")
    reader = CountingReader({"a.png": "one"})
    monkeypatch.setattr("indexer.library.open_text_reader", lambda _cancel: nullcontext(reader))
    media = pictures(tmp_path, "a.png")
    where = ("--model", "toy", "--library", tmp_path / "library", *flags)
    first = run("indexer.ingest", media, *where)
    assert first.returncode == 0
    assert ("words read in 1 file" in first.stdout) is not flags
    assert len(reader.read) == (0 if flags else 1)
    answer = json.loads(run("indexer.ingest", media, *where, "--json").stdout)
    assert answer["unchanged"] == 1
    assert (answer["words"] is None) == bool(flags)


READING = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
from indexer import Library
from indexer.types import TextLine

class SlowReader:
    revision = "1"

    def lines(self, path, kind, places):
        with open(sys.argv[2], "a") as log:
            log.write(path.name + "\\n")
        time.sleep(0.3)
        yield places[0].id, TextLine(f"{path.stem} sign")

with Library.open(Path(sys.argv[1])) as library:
    library.text_reader = lambda _cancel: nullcontext(SlowReader())
    library.read_words()
"""


@pytest.mark.slow
def test_a_pass_that_is_killed_loses_nothing_and_reads_nothing_twice(tmp_path):
    names = [f"word{chr(97 + at)}.png" for at in range(8)]
    folder, log = tmp_path / "library", tmp_path / "log"
    command = [sys.executable, "-c", READING, str(folder), str(log)]
    with library_of(tmp_path, CountingReader({})) as library:
        library.ingest([pictures(tmp_path, *names)])

        def stored() -> set[str]:
            files = library.catalog.items()
            firsts = {one.name: library.catalog.segments(one.id)[0].id for one in files}
            return {name for name, first in firsts.items() if library.catalog.lines(first)}

        kept: set[str] = set()
        for _ in range(3):
            with subprocess.Popen(command) as running:
                wait_for(lambda before=kept: stored() > before)
                running.kill()
            assert stored() >= kept
            kept = stored()
        subprocess.run(command, check=True)
        assert stored() == set(names)
        assert all(found(library, Path(name).stem) == [name] for name in names)
    times = Counter(log.read_text().split())
    assert set(times) == set(names)
    # Only what was being read when it was killed is read again.
    assert times.total() <= len(names) + 3
    with open_storage(folder) as place:
        assert check(place).findings == ()
