"""What a picture says about itself: EXIF, XMP, IPTC and text chunks, and the nonsense in them."""

import io
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from embedder.media import Details, Kind, cut
from embedder.media.metadata import picture_details, raw_details
from embedder.media.picture import prepare_decoders

BASE, GPS, IFD = ExifTags.Base, ExifTags.GPS, ExifTags.IFD
CEST = timezone(timedelta(hours=2))

prepare_decoders()


def details_of(data: bytes) -> Details:
    with Image.open(io.BytesIO(data)) as image:
        return picture_details(image)


def saved(fmt: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, fmt, **options)
    return file.getvalue()


def with_exif(fmt: str = "JPEG", gps: dict[int, Any] | None = None, **tags: Any) -> Details:
    exif = Image.Exif()
    camera = exif.get_ifd(IFD.Exif)
    for name, value in tags.items():
        tag = BASE[name]
        in_camera = 0x829A <= tag < 0x9C00 or tag >= 0xA000
        (camera if in_camera and tag != BASE.Copyright else exif)[tag] = value
    if gps:
        exif[IFD.GPSInfo] = gps
    if fmt == "TIFF":  # whose writer takes only what has been read
        exif.load(exif.tobytes())
    return details_of(saved(fmt, exif=exif))


def with_xmp(properties: str) -> Details:
    names = {
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "dc": "http://purl.org/dc/elements/1.1/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "lr": "http://ns.adobe.com/lightroom/1.0/",
        "digiKam": "http://www.digikam.org/ns/1.0/",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
        "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    }
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in names.items())
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {spaces}>{properties}</rdf:RDF>"
        "</x:xmpmeta><?xpacket end='w'?>"
    )
    return details_of(saved(xmp=packet.encode()))


def iptc_block(*records: tuple[int, int, bytes]) -> bytes:
    return b"".join(
        struct.pack(">BBBH", 0x1C, record, number, len(value)) + value
        for record, number, value in records
    )


def with_iptc(*records: tuple[int, int, bytes]) -> Details:
    block = iptc_block(*records)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block
    segment = b"Photoshop 3.0\0" + resource + b"\0" * (len(block) % 2)
    plain = saved()
    return details_of(
        plain[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    )


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_is_read_from_every_format_that_holds_it(fmt: str) -> None:
    said = with_exif(
        fmt,
        gps={
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: (33.0, 51.0, 24.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (151.0, 12.0, 54.0),
            GPS.GPSAltitude: 58.4,
        },
        DateTimeOriginal="2009:05:06 12:30:15",
        OffsetTimeOriginal="+02:00",
        SubsecTimeOriginal="25",
        ImageDescription="Toboggan race",
        Artist="Ingeborg",
        Make="Canon",
        Model="Canon EOS 5D",
    )
    assert said.captured_at == datetime(2009, 5, 6, 12, 30, 15, 250_000, tzinfo=CEST)
    assert (said.latitude, said.longitude) == pytest.approx((-33.856667, 151.215), abs=1e-6)
    assert dict(said.words) == {"Caption": "Toboggan race", "Author": "Ingeborg"}
    facts = dict(said.facts)
    assert (facts["Camera"], facts["Altitude"], facts["Size"]) == (
        *("Canon EOS 5D", "58 m", "40 × 30 pixels"),
    )


def block_of(ifd: dict[int, Any]) -> bytes:
    exif = Image.Exif()
    exif.update(ifd)
    return exif.tobytes().removeprefix(b"Exif\0\0")


def test_exif_of_camera_raws_is_read_without_their_pictures() -> None:
    date = {BASE.DateTimeOriginal: "2009:05:06 12:30:15"}
    date |= {BASE.ExifImageWidth: 6000, BASE.ExifImageHeight: 4000}
    gps = {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (46.0, 48.0, 0.0)}
    gps |= {GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (9.0, 50.0, 0.0)}
    block = block_of({BASE.Model: "EOS R6", IFD.Exif: date, IFD.GPSInfo: gps})
    boxes = ((b"CMT1", {BASE.Model: "EOS R6"}), (b"CMT2", date), (b"CMT4", gps))
    raws = {
        "dng": block,
        "orf": b"MMOR" + block[4:],
        "cr3": b"\0\0\0\x18ftypcrx " + b"".join(name + block_of(ifd) for name, ifd in boxes),
        "raf": b"FUJIFILMCCD-RAW \0\xff\xd8\xff\xe1\0\0Exif\0\0" + block,
        "mrw": b"\0MRM\0\0\0\0\0TTW\0\0\1\0" + block,
    }
    for name, data in raws.items():
        said = raw_details(io.BytesIO(data))
        assert said.captured_at == datetime.fromisoformat("2009-05-06T12:30:15"), name
        assert (said.latitude, said.longitude) == (46.8, 9.833333), name
        assert said.facts == (("Camera", "EOS R6"), ("Size", "6000 × 4000 pixels")), name
    assert raw_details(io.BytesIO(b"FOVb" + bytes(100))) == Details()


def test_details_come_with_the_segment_of_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[BASE.ImageDescription] = "Toboggan race"
    path.write_bytes(saved(exif=exif))
    (draft,) = cut(path, Kind.IMAGE)
    assert draft.details is not None
    assert draft.details.words == (("Caption", "Toboggan race"),)


def test_date_of_the_shutter_comes_before_those_of_scan_and_change() -> None:
    dates = {
        "DateTimeOriginal": "1965:07:01 00:00:00",
        "DateTimeDigitized": "2011:02:03 04:05:06",
        "DateTime": "2020:01:02 03:04:05",
    }
    for expected in (1965, 2011, 2020):
        found = with_exif(**dates).captured_at
        assert found is not None
        assert found.year == expected
        assert found.tzinfo is None
        dates.pop(next(iter(dates)))


@pytest.mark.parametrize(
    "text",
    [
        *("0000:00:00 00:00:00", "    :  :     :  :  ", "2009:13:06 12:00:00", "", "yesterday"),
        *("1702:01:01 00:00:00", "9999:01:01 00:00:00", "1970:01:01 00:00:00"),
        *("1980:01:01 00:00:00", f"{datetime.now(UTC) + timedelta(days=3):%Y:%m:%d} 12:00:00"),
    ],
)
def test_dates_that_cannot_be_true_are_left_out(text: str) -> None:
    assert with_exif(DateTimeOriginal=text).captured_at is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2009-05-06T12:30:00Z", "2009-05-06T12:30:00+00:00"),
        ("2009/05/06 12:30", "2009-05-06T12:30:00"),
        ("2009-05-06/ 12:30", "2009-05-06T12:30:00"),
        ("2009:05:06", "2009-05-06T00:00:00"),
        ("1965", "1965-01-01T00:00:00"),
        ("1970", "1970-01-01T00:00:00"),
        ("2009:05:06 12:30:00\0", "2009-05-06T12:30:00"),
        ("2009: 5: 6  9:05: 3", "2009-05-06T09:05:03"),
        ("2009-05-06T12:30:00+02", "2009-05-06T12:30:00+02:00"),
        ("20090506T123000Z", "2009-05-06T12:30:00+00:00"),
        ("2009-05-06t12:30:00z", "2009-05-06T12:30:00+00:00"),
        ("1953:00:00 00:00:00", "1953-01-01T00:00:00"),
        ("2009:05:06 12:30:00+25:00", "2009-05-06T12:30:00"),
        ("1953:07:  :  :  ", "1953-07-01T00:00:00"),
        ("1953:07:05   :  :  ", "1953-07-05T00:00:00"),
    ],
)
def test_dates_are_read_in_the_forms_that_programs_write(text: str, expected: str) -> None:
    assert with_exif(DateTimeOriginal=text).captured_at == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "Default title", "DCIM\\100GOPRO", " \0 "),
        *("Exif JPEG", "DCF 1.0", "<MetaData>\n<prop/></MetaData>", '{"sdr": 1}', "x-default"),
        *("<Digimax S600 / Kenox S600 / Digimax Cyber 630>", "oplus_1024", "Exif_JPEG_PICTURE"),
        "\x01\x02\x03\x04\x05abc",
    ],
)
def test_captions_that_cameras_write_are_left_out(text: str) -> None:
    assert with_exif(ImageDescription=text).words == ()


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("utf-8", "Übung auf der Straße"),
        ("cp1252", "Übung auf der Straße"),
        ("cp1251", "Красная площадь"),
        ("cp932", "東京駅の近くで"),
    ],
)
def test_encoding_of_captions_is_recognised(codec: str, text: str) -> None:
    assert with_exif(ImageDescription=text.encode(codec)).words == (("Caption", text),)
    assert with_iptc((2, 120, text.encode(codec))).words == (("Caption", text),)


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"ASCII\0\0\0Picnic\0\0", "Picnic"),
        (b"UNICODE\0" + "Пикник".encode("utf-16-le"), "Пикник"),
        (b"UNICODE\0" + "Пикник".encode("utf-16-be"), "Пикник"),
        (b"UNICODE\0" + "Picnic".encode("utf-16-le"), "Picnic"),
        (b"JIS\0\0\0\0\0" + "ピクニック".encode("iso2022_jp"), "ピクニック"),
        (b"\0" * 8 + b"Picnic", "Picnic"),
        (b"UNICODE\0" + "a fox\nSteps: 20, Seed: 1".encode("utf-16-be"), "a fox"),
        (b"Picnic by the lake", "Picnic by the lake"),
        (b"ASCII\0\0\0" + b" " * 100, None),
        (bytes(range(256)), None),
    ],
)
def test_user_comments_are_read_in_their_encoding(comment: bytes, expected: str | None) -> None:
    assert dict(with_exif(UserComment=comment).words).get("Caption") == expected


def test_tags_of_windows_are_read() -> None:
    said = with_exif(
        XPTitle="Straße\0".encode("utf-16-le"),
        XPComment="A day out\0".encode("utf-16-le"),
        XPKeywords="beach;sunset;Beach\0".encode("utf-16-le"),
        XPAuthor="Ada\0".encode("utf-16-le"),
    )
    assert dict(said.words) == {
        "Title": "Straße",
        "Caption": "A day out",
        "Keywords": "beach; sunset",
        "Author": "Ada",
    }


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
        ("SONY", "DSC-W1", "SONY DSC-W1"),
        ("OLYMPUS IMAGING CORP.  ", "E-510", "OLYMPUS E-510"),
        ("EASTMAN KODAK COMPANY", "KODAK DC240", "KODAK DC240"),
        ("", "Pixel 8", "Pixel 8"),
        ("Apple", "", "Apple"),
        ("", "", None),
    ],
)
def test_camera_is_named_once(make: str, model: str, camera: str | None) -> None:
    assert dict(with_exif(Make=make, Model=model).facts).get("Camera") == camera


def test_exposure_is_written_as_photographers_do() -> None:
    said = with_exif(
        ExposureTime=0.004,
        FNumber=2.8,
        ISOSpeedRatings=100,
        FocalLength=50.0,
        FocalLengthIn35mmFilm=75,
        LensModel="EF50mm f/1.8 STM",
    )
    facts = dict(said.facts)
    assert facts["Exposure"] == "1/250 s, f/2.8, ISO 100, 50 mm, as 75 mm on 35 mm film"
    assert facts["Lens"] == "EF50mm f/1.8 STM"
    assert dict(with_exif(ExposureTime=2.5, FNumber=0).facts)["Exposure"] == "2.5 s"


def test_size_is_that_of_the_upright_picture() -> None:
    assert dict(with_exif(Orientation=6).facts)["Size"] == "30 × 40 pixels"


@pytest.mark.parametrize(
    "gps",
    [
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (91.0, 0.0, 0.0), GPS.GPSLongitude: (10.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (48.0, 0.0, 0.0)},
    ],
)
def test_places_without_a_fix_are_left_out(gps: dict[int, Any]) -> None:
    said = with_exif(gps={GPS.GPSLatitudeRef: "N", GPS.GPSLongitudeRef: "E", **gps})
    assert (said.latitude, said.longitude) == (None, None)


def test_xmp_words_are_read() -> None:
    said = with_xmp(
        """<rdf:Description photoshop:City="Wien" photoshop:Country="Österreich" xmp:Rating="4">
        <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Heuriger</rdf:li></rdf:Alt></dc:title>
        <dc:description><rdf:Alt><rdf:li xml:lang="x-default">Wine &amp; song</rdf:li>
          <rdf:li xml:lang="de">Wein und Gesang</rdf:li></rdf:Alt></dc:description>
        <dc:subject><rdf:Bag><rdf:li>vineyard</rdf:li></rdf:Bag></dc:subject>
        <lr:hierarchicalSubject><rdf:Bag><rdf:li>Places|Grinzing</rdf:li></rdf:Bag>
          </lr:hierarchicalSubject>
        <digiKam:TagsList><rdf:Seq><rdf:li>Drinks/Vineyard</rdf:li></rdf:Seq></digiKam:TagsList>
        <dc:creator><rdf:Seq><rdf:li>Ada</rdf:li></rdf:Seq></dc:creator></rdf:Description>"""
    )
    assert dict(said.words) == {
        "Title": "Heuriger",
        "Caption": "Wine & song; Wein und Gesang",
        "Keywords": "vineyard; Places; Grinzing; Drinks",
        "Place": "Wien, Österreich",
        "Author": "Ada",
    }
    assert dict(said.facts)["Rating"] == "4 of 5"


def test_xmp_names_of_faces_are_people() -> None:
    said = with_xmp(
        """<rdf:Description><mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList><rdf:Bag>
        <rdf:li><rdf:Description mwg-rs:Name="Anna" mwg-rs:Type="Face"/></rdf:li>
        <rdf:li rdf:parseType="Resource"><mwg-rs:Name>Bert</mwg-rs:Name>
          <mwg-rs:Type>Face</mwg-rs:Type></rdf:li>
        <rdf:li><rdf:Description mwg-rs:Name="centre" mwg-rs:Type="Focus"/></rdf:li>
        </rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>
        <Iptc4xmpExt:PersonInImage><rdf:Bag><rdf:li>Carl</rdf:li></rdf:Bag>
          </Iptc4xmpExt:PersonInImage>
        <rdf:li MPReg:PersonDisplayName="Dora" MPReg:Rectangle="0,0,1,1"/></rdf:Description>"""
    )
    assert dict(said.words) == {"People": "Carl; Dora; Anna; Bert"}


@pytest.mark.parametrize("latitude", ["48,12.492N", "48,12,29.52N", "48.2082"])
def test_xmp_date_and_place_are_read(latitude: str) -> None:
    said = with_xmp(
        f"""<rdf:Description xmp:CreateDate="2020-01-01T00:00:00"
        photoshop:DateCreated="2011-02-03T04:05:06.5+02:00"
        exif:GPSLatitude="{latitude}" exif:GPSLongitude="16,22.428W"/>"""
    )
    assert said.captured_at == datetime(2011, 2, 3, 4, 5, 6, 500_000, tzinfo=CEST)
    assert (said.latitude, said.longitude) == pytest.approx((48.2082, -16.3738))


@pytest.mark.parametrize(
    "packet",
    [
        b"<rdf:RDF",
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><title xmlns='http://purl.org/dc/elements/1.1/'>&a;</title>",
        "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>".encode(
            "utf-16"
        ),
        b"<a>" * 10_000,
        b"",
    ],
)
def test_xmp_that_is_damaged_or_hostile_costs_only_itself(packet: bytes) -> None:
    exif = Image.Exif()
    exif[BASE.ImageDescription] = "Toboggan race"
    said = details_of(saved(xmp=packet, exif=exif))
    assert said.words == (("Caption", "Toboggan race"),)


def test_iptc_is_read() -> None:
    said = with_iptc(
        (1, 90, b"\x1b%G"),
        (2, 5, "Übung".encode()),
        (2, 25, b"sledge"),
        (2, 25, b"snow"),
        (2, 55, b"19990131"),
        (2, 60, b"123000+0200"),
        (2, 80, b"Ingeborg"),
        (2, 90, b"Davos"),
        (2, 101, b"Switzerland"),
        (2, 120, b"Race in the valley"),
    )
    assert said.captured_at == datetime(1999, 1, 31, 12, 30, tzinfo=CEST)
    assert dict(said.words) == {
        "Title": "Übung",
        "Caption": "Race in the valley",
        "Keywords": "sledge; snow",
        "Place": "Davos, Switzerland",
        "Author": "Ingeborg",
    }


def test_iptc_without_a_charset_is_recognised_and_kept_up_to_its_damage() -> None:
    cut_off = "Übung Ü".encode()[:-1]
    assert with_iptc((1, 90, b"\x1b%G"), (2, 120, cut_off)).words == (("Caption", "Übung \ufffd"),)
    said = with_iptc((2, 120, "Übung".encode("latin-1")), (2, 55, b"19990131"))
    assert said.words == (("Caption", "Übung"),)
    assert said.captured_at == datetime.fromisoformat("1999-01-31")
    chunks = PngImagePlugin.PngInfo()
    profile = b"8BIM\x04\x04\0\0\0\0\0\x0c" + iptc_block((2, 120, b"Race"))
    chunks.add_text(
        "Raw profile type iptc", f"\niptc\n{len(profile):8}\n{profile.hex()}\n", zip=True
    )
    assert details_of(saved("PNG", pnginfo=chunks)).words == (("Caption", "Race"),)
    long_form = struct.pack(">BBBHI", 0x1C, 2, 120, 0x8004, 4) + b"Race"
    block = long_form + iptc_block((2, 25, b"snow"))[:-2]
    assert details_of(saved("TIFF", tiffinfo={33723: block + b"\0"})).words[0] == (
        "Caption",
        "Race",
    )


def test_a_damaged_block_costs_only_itself() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Raw profile type iptc", "\niptc\n      4\nno hexadecimal digits")
    chunks.add_text("Title", "Lighthouse")
    assert details_of(saved("PNG", pnginfo=chunks)).words == (("Title", "Lighthouse"),)


def test_same_words_in_several_places_are_one() -> None:
    exif = Image.Exif()
    exif[BASE.ImageDescription] = "Toboggan race"
    packet = (
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' "
        "xmlns:dc='http://purl.org/dc/elements/1.1/'><rdf:Description><dc:description><rdf:Alt>"
        "<rdf:li>toboggan race</rdf:li><rdf:li>In Davos</rdf:li></rdf:Alt></dc:description>"
        "</rdf:Description></rdf:RDF>"
    )
    said = details_of(saved(exif=exif, xmp=packet.encode()))
    assert said.words == (("Caption", "Toboggan race; In Davos"),)


def test_text_chunks_of_png_are_read() -> None:
    chunks = PngImagePlugin.PngInfo()
    for key, text in {
        "Title": "Lighthouse",
        "Author": "Ada",
        "Creation Time": "Wed, 06 May 2009 12:30:00 +0200",
    }.items():
        chunks.add_text(key, text)
    chunks.add(b"tEXt", b"Description\0" + "Übung".encode())
    said = details_of(saved("PNG", pnginfo=chunks))
    assert said.captured_at == datetime(2009, 5, 6, 12, 30, tzinfo=CEST)
    assert dict(said.words) == {"Title": "Lighthouse", "Caption": "Übung", "Author": "Ada"}


def test_what_is_written_behind_the_pixels_of_a_png_is_read() -> None:
    data, exif, chunks = saved("PNG"), Image.Exif(), io.BytesIO()
    exif[BASE.DateTime] = "2009:05:06 12:30:00"
    PngImagePlugin.putchunk(chunks, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    PngImagePlugin.putchunk(chunks, b"tEXt", b"Description\0Lighthouse")
    end = data.index(b"IEND") - 4
    said = details_of(data[:end] + chunks.getvalue() + data[end:])
    assert dict(said.words) == {"Caption": "Lighthouse"}
    assert said.captured_at == datetime.fromisoformat("2009-05-06T12:30:00")
    damaged = data[:end] + chunks.getvalue()[:-1] + b"X" + data[end:]
    assert details_of(damaged).facts == said.facts == details_of(data).facts


def test_png_is_not_decoded_for_what_may_follow_its_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("it was"))
    assert details_of(saved("PNG")).facts == (("Size", "40 × 30 pixels"),)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("parameters", "a red fox\nin snow\nNegative prompt: dog\nSteps: 20, Sampler: Euler a"),
        ("parameters", "a red fox\nin snow\nSteps: 20, Sampler: Euler a"),
        (
            "prompt",
            '{"3": {"inputs": {"positive": ["6", 0], "negative": ["7", 0]}},'
            '"6": {"inputs": {"text": "a red fox\\nin snow"}}, "7": {"inputs": {"text": "dog"}}}',
        ),
    ],
)
def test_prompts_of_generators_are_captions(key: str, text: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(key, text)
    assert details_of(saved("PNG", pnginfo=chunks)).words == (("Caption", "a red fox\nin snow"),)


def test_comments_of_people_are_captions_and_those_of_programs_are_not() -> None:
    assert details_of(saved(comment="Our garden in May")).words == (
        ("Caption", "Our garden in May"),
    )
    for noise in ("CREATOR: gd-jpeg v1.0 (using IJG JPEG v62)", "Created with GIMP", "0x756ffbf7"):
        assert details_of(saved(comment=noise)).words == ()
