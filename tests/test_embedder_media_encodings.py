"""Texts in older encodings are decoded by the letters of their language."""
# ruff: noqa: RUF001

from pathlib import Path

import pytest

from embedder.media import Kind, cut
from embedder.media.encodings import decode, encoding_name, likeliest_codec, looks_binary

_CYRILLIC = ("cp1251", "koi8-r", "cp866", "iso8859-5")
_CENTRAL = ("cp1250", "iso8859-2", "cp852")
# Sentences that people write: none is from the texts that the letters were counted in.
_SENTENCES = [
    ("Счёт за воду и отопление", _CYRILLIC),
    ("Бабушка варит варенье из смородины, а дедушка чинит забор.", _CYRILLIC),
    ("Їжак заліз під ґанок і не хоче виходити.", ("cp1251", "koi8-u")),
    ("Утре ще вали дъжд, вземи чадъра си.", ("cp1251", "koi8-r")),
    ("Њихова кућа је на брду изнад реке.", ("cp1251",)),
    ("Zażółć gęślą jaźń", _CENTRAL),
    ("Faktura za czynsz i śmieci, zapłacić do piątku", _CENTRAL),
    ("Příliš žluťoučký kůň úpěl ďábelské ódy", _CENTRAL),
    ("Včera večer jsme šli na houby do lesa u řeky.", _CENTRAL),
    ("Kiránduláson voltunk a hegyekben, és őzeket láttunk.", _CENTRAL),
    ("Ţara noastră are munţi frumoşi şi păduri întinse", _CENTRAL[:2]),
    ("Ova kuća ima četiri sobe i lijepo dvorište.", _CENTRAL),
    ("Ο λογαριασμός του ρεύματος πρέπει να πληρωθεί", ("cp1253", "iso8859-7")),
    ("Yarın akşam yemeğe çıkıyoruz, şemsiyeni unutma.", ("cp1254",)),
    ("חשבון החשמל צריך להיות משולם עד סוף החודש", ("cp1255",)),
    ("فاتورة الكهرباء يجب دفعها قبل نهاية الشهر", ("cp1256", "iso8859-6")),
    ("ใบเสร็จค่าไฟฟ้าเดือนมีนาคม", ("cp874",)),
    ("Rytoj važiuosime prie ežero žvejoti su dėde.", ("cp1257",)),
    ("今天天气很好我们去公园散步", ("gb18030",)),
    ("昨天我們一起去看電影，很好看。", ("cp950",)),
    ("来週の会議は東京で行われます。", ("cp932", "euc_jp", "iso2022_jp")),
    ("내일 아침에 병원에 가야 합니다", ("cp949",)),
]
# Western texts must not become Cyrillic or Chinese: with few letters beyond ASCII, with capitals
# only, with signs, and with names.
_WESTERN = [
    *("Café Müller", "naïve", "Größe: 12 m²", "Überweisung für März", "ÜBERSICHT DER KÄUFE"),
    *("El niño comió piñas", "¿Qué hora es?", "ÁREA DE NIÑOS", "Où est la bibliothèque ?"),
    *("« Ça va ? »", "À bientôt, chère Zoé", "È più tardi di così", "La città è là"),
    *("São João não está cá", "ligações e informações", "Blåbærsyltetøj på brødskive"),
    *(
        "Räksmörgås åt älgen",
        "Þetta er ís og fjöll",
        "Hyvää päivää, äiti",
        "Één ideeën, coöperatie",
    ),
    *("100 °C", "© 2009 Smith", "£5 or €6", "§ 12 Abs. 3", "½ cup", "“quoted” – it’s", "5 × 3 ± 1"),
    *("Dvorák’s letters in the café", "François Mitterrand visited Málaga"),
]


def _mistaken(text: str, codec: str) -> str | None:
    read = decode(text.encode(codec))
    return None if read.text == text else f"{codec}: {text} was read as {read.text} ({read.codec})"


def test_sentences_in_older_encodings_are_read() -> None:
    cases = [(text, codec) for text, codecs in _SENTENCES for codec in codecs]
    assert [wrong for case in cases if (wrong := _mistaken(*case))] == []


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_read_in_any_script(codec: str) -> None:
    texts = [
        *("Счёт за воду\r\n", "Привет", "Ο λογαριασμός του ρεύματος", "ΤΙΜΟΛΟΓΙΟ", "חשבון חשמל"),
        *("فاتورة الكهرباء", "کتاب\u200cها", "ใบเสร็จค่าไฟฟ้า", "बिजली का बिल", "Zażółć gęślą jaźń"),
        *(
            "昨日は東京駅の近くで食べました。\n" * 20,
            "博物馆的门票在桌子上。\n今天天气很好。\n" * 20,
        ),
    ]
    for text in texts:
        data = text.encode(codec)
        assert decode(data) == (text, codec)
        assert not looks_binary(data)


@pytest.mark.parametrize(
    "data",
    [bytes(range(256)) * 4, b"word\0" * 50, b"plain words\0" * 20, b"\1\2\3\4" * 99, b"\4\4\4\4"],
)
def test_other_bytes_are_no_utf16(data: bytes) -> None:
    assert looks_binary(data)


def test_western_texts_stay_western() -> None:
    texts = [*_WESTERN, "\n".join(_WESTERN), "English words, mostly. " * 200 + "Résumé."]
    assert [wrong for text in texts if (wrong := _mistaken(text, "cp1252"))] == []


def test_a_byte_without_a_character_is_kept() -> None:
    assert decode(b"Gr\xf6\xdfe \x81 K\xe4se").text == "Größe \x81 Käse"


def test_a_little_text_far_into_a_file_decides() -> None:
    data = b"plain words; " * 100_000 + "\nОпись имущества".encode("cp1251")
    assert decode(data).text.endswith("Опись имущества")
    assert likeliest_codec("статья расходов; ".encode("koi8-r") * 100_000) == "koi8-r"


def test_damaged_bytes_cost_only_their_characters() -> None:
    data = bytearray("昨日の天気は晴れでした。" * 20, "euc_jp")
    data[21] = 0xFF
    assert decode(bytes(data)).text.count("天気は晴れ") >= 19


@pytest.mark.parametrize(
    ("declared", "codec"), [("GB2312", "gb18030"), ("iso-8859-1", "cp1252"), ("euc-kr", "cp949")]
)
def test_the_larger_encoding_is_meant(declared: str, codec: str) -> None:
    assert decode(b"\xa1\xad\xe9 \x93", declared).codec == codec


@pytest.mark.parametrize(
    ("declared", "text"),
    [("hz-gb-2312", "博物馆"), ("iso-2022-kr", "안녕하세요"), ("unicode-1-1-utf-7", "Grüße")],
)
def test_declared_encodings_of_seven_bits_are_read(declared: str, text: str) -> None:
    assert decode(text.encode(declared), declared).text == text


@pytest.mark.parametrize("declared", ["us-ascii", "utf-16"])
def test_a_declaration_that_cannot_be_true_is_ignored(declared: str) -> None:
    page = f'<meta charset="{declared}">Счёт за воду и отопление'.encode("koi8-r")
    assert decode(page).text.endswith("Счёт за воду и отопление")


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("cp1251", "Windows-1251"),
        ("cp932", "Shift JIS"),
        ("iso8859-7", "ISO-8859-7"),
        ("utf-16-le", "UTF-16-LE"),
        ("mac-cyrillic", "MAC-CYRILLIC"),
        ("utf-8-sig", None),
    ],
)
def test_encodings_have_their_usual_names(codec: str, name: str | None) -> None:
    assert encoding_name(codec) == name


def test_the_details_name_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,000\nКуда ты идёшь?\n".encode("cp1251"))
    first = next(cut(path, Kind.TEXT))
    assert "Куда ты идёшь?" in (first.content.text or "")
    assert first.details
    assert first.details.facts == (("Encoding", "Windows-1251"),)
    path.write_bytes("Куда ты идёшь?".encode())
    assert next(cut(path, Kind.TEXT)).details is None
