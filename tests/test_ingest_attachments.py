"""What is attached to a mail is indexed as a file of its own, whose path lies below the mail's."""

import io
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path

import pymupdf
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from app import services
from app.config import AppConfig
from app.routes import media_router
from embedder.media import Kind
from embedder.media.kinds import open_media
from indexer import IngestOptions, Library, Status
from indexer.types import IngestReport

_MAIL = "letters/trip.eml"


def _pdf() -> bytes:
    with pymupdf.open() as document:
        for text in ("An armadillo", "A walrus"):
            document.new_page().insert_text((72, 72), text)
        return bytes(document.tobytes())


def _photo(side: int) -> bytes:
    data = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(data, "PNG")
    return data.getvalue()


PDF, PHOTO, LOGO = _pdf(), _photo(200), _photo(16)


def mail_with(names: Sequence[str]) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "bob@example.com", "The trip"
    mail["Date"] = "Mon, 3 Mar 2025 10:00:00 +0100"
    mail.set_content("See the files.")
    contents = {"pdf": PDF, "png": PHOTO, "txt": b"A toboggan race", "jpg": b"\xff\xd8 no picture"}
    for name in names:
        data = contents[name.rpartition(".")[2]]
        mail.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    mail.add_attachment(LOGO, maintype="image", subtype="png", disposition="inline")
    return bytes(mail)


def write_mail(path: Path, names: Sequence[str] = ("invoice.pdf", "sea.png", "notes.txt")) -> None:
    path.write_bytes(mail_with(names))


def write_mailbox(path: Path, *mails: Sequence[str]) -> None:
    separator = b"\nFrom bob@example.com Mon Mar  3 10:00:00 2025\n"
    path.write_bytes(b"".join(separator + mail_with(names) for names in mails).lstrip())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "letters").mkdir(parents=True)
    (folder / "other.txt").write_text("A lighthouse")
    (folder / "letters" / "other.txt").write_text("A harbour")
    write_mail(folder / _MAIL)
    return folder


@pytest.fixture
def library(tmp_path: Path, folder: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy") as library:
        yield library


def names(library: Library, status: Status = Status.INDEXED) -> set[str]:
    return {item.path.name for item in library.catalog.items(status=status)}


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.unchanged, report.removed


def test_attachments_come_and_go_with_their_mail(library: Library, folder: Path) -> None:
    planned = library.plan([folder])
    assert folder / _MAIL / "invoice.pdf" in planned.added
    assert counts(library.ingest([folder])) == (6, 0, 0, 0)
    assert names(library) == {"other.txt", "trip.eml", "invoice.pdf", "sea.png", "notes.txt"}
    (item,) = library.catalog.items(name="invoice.pdf")
    assert item.path == folder / _MAIL / "invoice.pdf"
    assert (item.kind, item.size) == (Kind.PDF, len(PDF))
    assert counts(library.ingest([folder])) == (0, 0, 6, 0)
    assert library.plan([folder]).unchanged == 6

    write_mail(folder / _MAIL, ("invoice.pdf", "new.txt"))
    report = library.ingest([folder])
    assert (report.updated, report.removed) == (1, 2)
    assert names(library) == {"other.txt", "trip.eml", "invoice.pdf", "new.txt"}

    (folder / _MAIL).unlink()
    assert counts(library.ingest([folder])) == (0, 0, 2, 3)
    assert names(library) == {"other.txt"}


def test_attachments_of_a_mail_beside_other_files_go_with_it(
    library: Library, folder: Path
) -> None:
    mail = folder / "letters" / "trip.eml"
    library.ingest([mail.parent])
    mail.unlink()
    report = library.ingest([mail.parent])
    assert (report.removed, report.kept) == (4, ())


def test_an_attachment_alone_can_be_ingested_again(library: Library, folder: Path) -> None:
    write_mail(folder / _MAIL, ("broken.jpg", "invoice.pdf"))
    report = library.ingest([folder])
    assert [one.path.name for one in report.failures] == ["broken.jpg"]
    assert library.ingest([folder]).unchanged == 5
    again = library.ingest([], IngestOptions(retry_failed=True))
    assert [one.path.name for one in again.failures] == ["broken.jpg"]
    assert names(library, Status.FAILED) == {"broken.jpg"}
    assert library.ingest([folder / _MAIL / "invoice.pdf"]).unchanged == 1


def test_attachments_of_all_mails_of_a_mailbox(library: Library, folder: Path) -> None:
    box = folder / "inbox.mbox"
    write_mailbox(box, ("notes.txt",), ("sea.png", "notes.txt"), ("invoice.pdf",))
    assert library.ingest([box]).failures == ()
    assert names(library) == {"inbox.mbox", "notes.txt", "notes (2).txt", "sea.png", "invoice.pdf"}
    with open_media(box / "invoice.pdf") as last, open_media(box / "notes (2).txt") as second:
        assert (last.read(), second.read()) == (PDF, b"A toboggan race")

    write_mailbox(box, ("notes.txt",), ("sea.png", "new.txt"))
    assert library.ingest([box]).removed == 2
    assert names(library) == {"inbox.mbox", "notes.txt", "sea.png", "new.txt"}
    with pytest.raises(FileNotFoundError):
        open_media(box / "invoice.pdf")


def test_patterns_exclude_attachments(library: Library, folder: Path) -> None:
    report = library.ingest([folder], IngestOptions(exclude=("*.pdf",)))
    assert (report.added, report.removed) == (5, 0)
    assert "invoice.pdf" not in names(library)
    assert "notes.txt" in names(library)
    library.ingest([folder], IngestOptions(exclude=("letters",)))
    assert names(library) == {"other.txt"}


def test_an_attachment_without_a_name_is_named_by_its_type(library: Library, folder: Path) -> None:
    invitation = (
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Lunch\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    mail = EmailMessage()
    mail["Subject"] = "Lunch"
    mail.set_content("Will you come?")
    for subtype in ("calendar", "x-unknown"):
        mail.add_attachment(invitation, "text", subtype, disposition="inline")
    (folder / _MAIL).write_bytes(bytes(mail))
    assert library.ingest([folder / _MAIL]).failures == ()
    assert names(library) == {"trip.eml", "attachment.ics", "attachment"}


def test_a_mail_that_is_damaged_keeps_its_attachments(library: Library, folder: Path) -> None:
    library.ingest([folder])
    (folder / _MAIL).write_bytes(b"Subject: x\n\n" + b"\n--" * 20_000)
    report = library.ingest([folder])
    assert [one.path.name for one in report.failures] == ["trip.eml"]
    assert "more than 10,000 parts" in report.failures[0].reason
    assert report.removed == 0
    assert "invoice.pdf" in names(library)


def test_the_page_shows_and_sends_attachments(
    library: Library, folder: Path, tmp_path: Path
) -> None:
    library.ingest([folder])
    page = services.build(AppConfig(), library, tmp_path / "scratch")
    app = FastAPI()
    app.include_router(media_router(library, page.searches))
    client = TestClient(app)
    (item,) = library.catalog.items(name="invoice.pdf")
    second = library.catalog.segments(item.id)[1].id
    drawn = client.get(f"/page/{second}.png")
    assert drawn.headers["content-type"].startswith("image/")
    sent = client.get(f"/media/{second}")
    assert sent.content == PDF
    assert sent.headers["content-type"] == "application/pdf"
    assert sent.headers["content-disposition"] == "inline; filename*=utf-8''invoice.pdf"
    assert "invoice.pdf" in client.get(f"/detail/{second}").text
    (folder / _MAIL).unlink()
    assert client.get(f"/media/{second}").status_code == 404
