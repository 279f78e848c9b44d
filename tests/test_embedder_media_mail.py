"""Mails, mailboxes, contacts and calendars are read as people see them."""
# ruff: noqa: RUF001

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path

import pytest

from embedder.media import Details, Draft, Limits, MediaError, UnsupportedMedia, cut, detect
from embedder.media.mail import attachments


def read(path: Path, data: str | bytes) -> Sequence[Draft]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(cut(path, detect(path)))


def text_of(drafts: Sequence[Draft]) -> str:
    return "\n".join(draft.content.text or "" for draft in drafts)


def details_of(drafts: Sequence[Draft]) -> Details:
    return drafts[0].details or Details()


def invoice() -> EmailMessage:
    """A mail with accents everywhere, in two forms, with two files."""
    mail = EmailMessage()
    mail["From"] = "Jürgen Müller <juergen@example.com>"
    mail["To"] = "ann@example.com, Zoë Ñandú <zoe@example.com>"
    mail["Cc"] = "Bob <bob@example.com>"
    mail["Subject"] = "Rechnung für März – " + "sehr lang " * 20
    mail["Date"] = "Mon, 3 Mar 2025 10:00:00 +0100"
    mail.set_content("The résumé of the salamander, " * 9 + "\n", cte="quoted-printable")
    mail.add_alternative("<p>Another <b>form</b></p>", subtype="html")
    mail.add_attachment(b"%PDF-1.4 ", maintype="application", subtype="pdf", filename="März/1.pdf")
    mail.add_attachment("Guten Tag", filename="März_1.pdf")
    return mail


def test_a_mail_is_decoded(tmp_path: Path) -> None:
    drafts = read(tmp_path / "a.eml", bytes(invoice()))
    text = text_of(drafts)
    assert text.startswith("Rechnung für März – sehr lang sehr lang")
    assert "From: Jürgen Müller <juergen@example.com>\n" in text
    assert "To: ann@example.com, Zoë Ñandú <zoe@example.com>\n" in text
    assert "Date: 2025-03-03 10:00\n" in text
    assert text.count("The résumé of the salamander") == 9
    assert "Another" not in text
    assert "Attachments: März_1.pdf, März_1 (2).pdf" in text
    details = details_of(drafts)
    assert details.captured_at == datetime(2025, 3, 3, 10, tzinfo=timezone(timedelta(hours=1)))
    words = dict(details.words)
    assert words["Title"].startswith("Rechnung für März")
    assert words["Author"] == "Jürgen Müller <juergen@example.com>"
    assert "Zoë Ñandú" in words["People"]
    assert "Bob" in words["People"]


def test_attachments_have_safe_names_of_their_own() -> None:
    found = list(attachments(bytes(invoice())))
    assert [one.name for one in found] == ["März_1.pdf", "März_1 (2).pdf"]
    assert found[0].data == b"%PDF-1.4 "


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="../../.ssh/config"', "_.._.ssh_config"),
        ("attachment; filename*=utf-8''R%C3%A9sum%C3%A9.pdf", "Résumé.pdf"),
        ('attachment; filename*0="a very "; filename*1="long name.pdf"', "a very long name.pdf"),
        ('attachment; filename="=?koi8-r?B?89XF1C5wZGY=?="', "Сует.pdf"),
        ('attachment; filename=".hidden"', "hidden"),
        ("attachment", "attachment.pdf"),
        ("attachment; filename=a." + "b" * 70, "a." + "b" * 58),
        ("attachment; filename*=nonsense''%zz%ff", "%zzÿ"),
        ('attachment; filename="' + "n" * 400 + '.pdf"', "n" * 56 + ".pdf"),
    ],
)
def test_names_of_attachments(disposition: str, name: str) -> None:
    head = f"Content-Type: application/pdf\nContent-Disposition: {disposition}\n\n"
    (found,) = attachments(head.encode() + b"%PDF-1.4")
    assert found.name == name


def test_a_short_subject_is_decoded_as_the_body_is(tmp_path: Path) -> None:
    head = "Subject: 8bit Счёт\nContent-Type: text/plain; charset=windows-1251\n\n"
    (draft,) = read(tmp_path / "a.eml", (head + "Привет").encode("cp1251"))
    assert draft.content.text == "8bit Счёт\n\nПривет"


@pytest.mark.parametrize("codec", ["utf-8", "cp1251", "koi8-r"])
def test_names_beyond_ascii_that_are_not_encoded_are_decoded(codec: str) -> None:
    head = (
        'Content-Type: application/pdf\nContent-Disposition: attachment; filename="Счёт март.pdf"'
    )
    (found,) = attachments(head.encode(codec) + b"\n\n%PDF-1.4")
    assert found.name == "Счёт март.pdf"


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("Content-Type: text/plain; charset=koi8-r", "Привет".encode("koi8-r"), "Привет"),
        ("Content-Type: text/plain; charset=x-nonsense", "Grüße".encode("cp1252"), "Grüße"),
        ("Content-Type: text/plain", "Счёт за свет".encode("cp1251"), "Счёт за свет"),
        ("Content-Type: text/plain; charset=gb2312", "电话费".encode("gbk"), "电话费"),
        ("Content-Type: text/html", b"<p>seen</p><script>no()</script>", "seen"),
        ("Content-Transfer-Encoding: base64", b"YXJtYWRpbGxv!", "armadillo"),
        ("Content-Transfer-Encoding: x-unknown", b"as it is", "as it is"),
    ],
)
def test_bodies_are_decoded(tmp_path: Path, head: str, body: bytes, expected: str) -> None:
    drafts = read(tmp_path / "a.eml", f"Subject: x\n{head}\n\n".encode() + body)
    assert text_of(drafts) == f"x\n\n{expected}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("=?utf-8?B?UmVjaG51bmcgZsO8ciBNw6Ryeg==?=", "Rechnung für März"),
        ("=?iso-8859-1?Q?Caf=E9?=\n =?iso-8859-1?Q?_au_lait?=", "Café au lait"),
        ("=?utf-8?B?broken", "=?utf-8?B?broken"),
        ("=?nonsense?Q?Caf=E9?=", "Café"),
        ("Grüße", "Grüße"),
    ],
)
def test_headers_are_decoded(tmp_path: Path, raw: str, expected: str) -> None:
    drafts = read(tmp_path / "a.eml", f"Subject: {raw}\n\nbody")
    assert text_of(drafts) == f"{expected}\n\nbody"


def test_a_forwarded_mail_is_part_of_the_text(tmp_path: Path) -> None:
    outer = EmailMessage()
    outer["Subject"] = "Fwd"
    outer.set_content("See below.")
    outer.add_attachment(invoice())
    text = text_of(read(tmp_path / "a.eml", bytes(outer)))
    assert text.index("See below.") < text.index("Rechnung für März") < text.index("salamander")
    assert [one.name for one in attachments(bytes(outer))] == ["März_1.pdf", "März_1 (2).pdf"]


def test_html_is_read_where_the_plain_form_is_blank(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail.set_content(" \n")
    mail.add_alternative("<h1>News</h1>", subtype="html")
    assert text_of(read(tmp_path / "a.eml", bytes(mail))) == "News"


def test_mails_of_a_mailbox_are_pages(tmp_path: Path) -> None:
    mails = [f"Subject: mail {number}\n\nFirst\fline\n>From here on\n" for number in (1, 2, 3)]
    data = "".join(f"From a@example.com Mon Mar  3 10:00:00 2025\n{mail}\n" for mail in mails)
    drafts = read(tmp_path / "a.mbox", data)
    assert [draft.page for draft in drafts] == [1, 2, 3]
    assert drafts[1].content.text == "mail 2\n\nFirst\nline\nFrom here on"
    with pytest.raises(MediaError, match="a mail in the mailbox is larger than the limit"):
        list(cut(tmp_path / "a.mbox", detect(tmp_path / "a.mbox"), Limits(file_bytes=40)))


def test_contacts_are_read_without_pictures(tmp_path: Path) -> None:
    drafts = read(
        tmp_path / "a.vcf",
        "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;=\r\n"
        "J=C3=B6rg;;Dr.\r\nitem1.TEL;CELL:+49 170 12345\r\nORG:Zoo;Reptiles\r\n"
        "PHOTO;ENCODING=BASE64;JPEG:/9j/4AAQSkZJRgABAQ\r\n AAAQABAAD\r\n\r\nEND:VCARD\r\n"
        "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Theodora Vasquez\r\nEMAIL;TYPE=work:theo@example.com\r\n"
        "PHOTO:data:image/jpeg;base64,/9j/4AAQ\r\nNOTE:likes\\, above all\\, newts\\nand sa\r\n"
        " lamanders\r\nEND:VCARD\r\n",
    )
    assert [draft.page for draft in drafts] == [1, 2]
    assert drafts[0].content.text == (
        "Jörg Müller\nOrganisation: Zoo, Reptiles\nPhone: +49 170 12345"
    )
    assert drafts[1].content.text == (
        "Theodora Vasquez\nMail: theo@example.com\nNote: likes, above all, newts\nand salamanders"
    )
    assert details_of(drafts).facts == (("Contacts", "2"),)
    one = "BEGIN:VCARD\nFN:Ann Chovy\nKEY;ENCODING=b:QUJD\nEND:VCARD\n".encode("utf-16")
    assert details_of(read(tmp_path / "b.vcf", one)).words == (("People", "Ann Chovy"),)


def test_a_calendar_is_read_without_attachments_and_reminders(tmp_path: Path) -> None:
    folded = "DESCRIPTION:Bring the nö"  # a fold may divide a character
    data = (
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;TZID=Europe/Berlin:20230704T180000\r\n"
        b"SUMMARY:Summer party\r\nLOCATION:Riverside\\, hall 2\r\n"
        b'ATTENDEE;CN="Ann Chovy":mailto:ann@example.com\r\n'
        b"ATTACH;ENCODING=BASE64;VALUE=BINARY:QUJDREVG\r\n"
        b"BEGIN:VALARM\r\nDESCRIPTION:Reminder\r\nEND:VALARM\r\n"
    )
    data += folded.encode()[:-1] + b"\r\n " + folded.encode()[-1:] + b"dles\r\n"
    drafts = read(tmp_path / "a.ics", data + b"END:VEVENT\r\nEND:VCALENDAR\r\n")
    assert text_of(drafts) == (
        "Summer party\nFrom: 2023-07-04 18:00\nPlace: Riverside, hall 2\n"
        "With: Ann Chovy <ann@example.com>\nBring the nödles"
    )
    details = details_of(drafts)
    assert details.captured_at == datetime(2023, 7, 4, 18)  # noqa: DTZ001 -- the file has no offset
    assert details.words == (("Title", "Summer party"),)
    in_utc = (data + b"END:VEVENT\r\nEND:VCALENDAR\r\n").replace(b"T180000", b"T180000Z")
    assert details_of(read(tmp_path / "b.ics", in_utc)).captured_at == datetime(
        2023, 7, 4, 18, tzinfo=UTC
    )


def test_what_is_no_mail_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.msg").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(UnsupportedMedia, match=r"Outlook messages .* save them as \.eml"):
        detect(tmp_path / "a.msg")
    with pytest.raises(MediaError, match="not those of a mail"):
        read(tmp_path / "a.eml", "just words, without a header")


@pytest.mark.parametrize(
    "data",
    [
        b"Subject: deep\n"
        + b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3000)
        ),
        b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * 1_000_000,
        b"Subject: " + b"=?utf-8?Q?a?= " * 500_000 + b"\n\nx",
        b"From: " + b"(" * 1_000_000 + b"\n\nx",
        b"X: y\n" * 500_000 + b"\nx",
    ],
    ids=["deep", "parts", "words", "comments", "headers"],
)
def test_hostile_mails_cost_little(tmp_path: Path, data: bytes) -> None:
    try:
        assert text_of(read(tmp_path / "a.eml", data))
    except MediaError as error:
        assert str(error)  # noqa: PT017
