"""Words meet: what a person types finds texts and names in whatever way both are written."""

from collections.abc import Iterator

import numpy as np
import pytest

from indexer import Library
from indexer.catalog import names as catalog_names
from indexer.search.__main__ import main
from indexer.search.query import corrections, terms, text_part, without_excluded
from indexer.types import Hit, Query, Reason

TEXTS = {
    "ja": "昨日は東京駅の近くで請求書を受け取りました。",
    "zh": "今天天气很好，我们去北京的故宫参观博物馆。",
    "ko": "영수증을 받았습니다",
    "th": "ฉันชอบกินข้าวผัดกับน้ำส้มที่กรุงเทพ",
    "book": "मुझे हिन्दी में किताब पढ़ना पसंद है।",
    "river": "नदी के पास हाथी और दादी खड़े थे।",
    "arabic": "ﻓﺎﺗﻮﺭﺓ كَتَبَ",
    "ligature": "from the o\ufb03ce, the \ufb01rst one",
    "german": "Die Straße nach Łódź für Müller",
    "greek": "Το τιμολόγιο της Αθήνας",
    "russian": "Счёт за электроэнергию",
    "soft": "The docu\xadmen\xadta\xadtion of ca\xadtas\xadtro\xadphes",
    "hyphen": "The process of photosyn\u2010\nthesis and chloro-\nphyll",
    "wide": "ＢＲＩＤＧＥ",
    "cake": "for her 🎂 we sang",
    "plural": "Two children feed the geese and mice near the leaves; firemen watch.",
    "invoice": "The invoice of March was paid in the mountains",
    "order": "March was the month of an invoice",
    "marmalade": "The invoice of marmalade",
    "hindi": "मुंबई में संबंध, पाँच क़लम",
    "tibetan": "བཀྲ་ཤིས་བདེ་ལེགས། ལྷ་ས་གྲོང་ཁྱེར།",
    "khmer": "នៅខេត្តសៀមរាប។",
    "leonardo": "レオナルド・ダ・ヴィンチの絵",
    "polytonic": "Ὁ Ὀδυσσεὺς ἐν τῷ οἴκῳ",
    "urdu": "ہماری کتاب لاہور میں",
    "persian": "گزارش سفر",
    "choir": "They sing of baking bread",
    "letter": "The axes x and y" + 200 * " column",
    "hebrew": 'שירת בצה"ל עם ד"ר כהן',
}
NAMES = (
    *(
        "東京タワー",
        "Été à la plage",
        "영수증사진",
        "Hochzeit",
        "Hochzeitsfotos",
        "DSC01234",
        "holiday",
    ),
    *("ОтпускВСочи", "हिमालयपर्वत"),
    *("20240501_103000", "2023-12-24 tree", "IMG-20220731-WA0007", "12345678"),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library that no test changes."""
    folder = tmp_path_factory.mktemp("words")
    root = folder / "files"
    root.mkdir()
    for name, text in TEXTS.items():
        (root / f"{name}.txt").write_text(text)
    for number, name in enumerate(NAMES):
        (root / f"{name}.txt").write_text(f"{number} nothing")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([root])
        yield library


def search(library: Library, typed: str) -> list[Hit]:
    text, without = without_excluded(typed)
    return library.search(Query((text_part(text),), limit=50, without=without))


def found(library: Library, typed: str, reason: Reason = Reason.WORDS) -> set[str]:
    """The files that a query finds for a reason, strong hits alone."""
    hits = search(library, typed)
    return {hit.item.path.stem for hit in hits if reason in hit.why and not hit.weak}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("東京駅", "ja"),
        ("請求書", "ja"),
        ("故宫", "zh"),
        ("博物馆", "zh"),
        ("영수증", "ko"),
        ("กรุงเทพ", "th"),
        ("हिन्दी", "book"),
        ("नदी", "river"),
        ("فاتورة", "arabic"),
        ("كتب", "arabic"),
        ("office", "ligature"),
        ("FIRST", "ligature"),
        ("strasse lodz muller", "german"),
        ("τιμολογιο ΑΘΗΝΑΣ", "greek"),
        ("счет", "russian"),
        ("documentation catastrophe", "soft"),
        ("photosynthesis chlorophyll", "hyphen"),
        ("bridge", "wide"),
        ("🎂", "cake"),
        ("मुम्बई सम्बन्ध पांच कलम", "hindi"),
        ("ལྷ་ས་", "tibetan"),
        ("សៀមរាប", "khmer"),
        ("ダヴィンチ", "leonardo"),
        ("οικω", "polytonic"),
        ("هماري", "urdu"),
        ('ד"ר בצה"ל', "hebrew"),
    ],
)
def test_a_word_is_found_however_it_is_written(library, query, name):
    assert found(library, query) == {name}
    ids = library.catalog.find_words([query]).ids
    every = np.arange(1, 60)
    assert set(library.catalog.with_every_word([query], every)) >= set(ids)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("東京", "東京タワー"),
        ("ete plage", "Été à la plage"),
        ("영수증", "영수증사진"),
        ("Сочи", "ОтпускВСочи"),
    ],
)
def test_a_name_is_found_however_it_is_written(library, query, name):
    assert found(library, query, Reason.FILE_NAME) == {name}


def test_a_possessive_is_looked_up_by_its_name():
    assert terms("Grandma's cake, what’s new, class S") == ["grandma", "cake", "new", "class", "s"]
    assert terms('"Grandma\'s cake"') == ["grandma s cake"]


def test_a_quote_inside_a_word_begins_no_phrase():
    assert terms('a 24" monitor, a 27" screen') == ["24", "monitor", "27", "screen"]
    assert terms('ד"ר כהן מצה"ל "ד"ר כהן"') == ["ד", "ר", "כהן", "מצה", "ל", "ד ר כהן"]
    assert terms('x="New York", «a b», „c d“, “e f”') == ["x", "new york", "a b", "c d", "e f"]


def test_a_word_of_a_script_without_spaces_is_in_one_piece(library):
    assert found(library, "京東") == set()
    assert found(library, "書請") == set()
    assert found(library, "ཤིས་བཀྲ") == set()


def test_texts_are_shown_as_they_were_written(library):
    (segment,) = library.catalog.find_words(["office"]).ids.tolist()
    assert library.catalog.segment(segment).text == TEXTS["ligature"]


def named(library: Library, query: str) -> list[tuple[str, bool]]:
    """The files that a query finds by their names, best first, and whether they are strong hits."""
    hits = search(library, query)
    return [(hit.item.path.stem, not hit.weak) for hit in hits if Reason.FILE_NAME in hit.why]


def test_a_beginning_finds_a_name_after_the_whole_word(library):
    assert named(library, "hochzeit") == [("Hochzeit", True), ("Hochzeitsfotos", True)]
    for typed in ("DSC0123", "DSC_0123", "dsc-0123"):
        assert named(library, typed) == [("DSC01234", True)]
    assert named(library, "हिमालय") == [("हिमालयपर्वत", True)]
    assert named(library, "hochzeitsf tree")[0][0] == "2023-12-24 tree"


def test_a_short_beginning_is_a_weak_hit_and_three_letters_are_none(library):
    assert named(library, "holi") == [("holiday", False)]
    assert named(library, "hol") == []


def test_the_beginning_of_very_many_words_finds_none(library, monkeypatch):
    monkeypatch.setattr(catalog_names, "_MAX_BEGUN", 1)
    assert named(library, "hoch") == []
    assert named(library, "hochzeit") == [("Hochzeit", True), ("Hochzeitsfotos", True)]


def test_what_many_names_have_as_a_word_is_not_sought_as_a_beginning(library, monkeypatch):
    monkeypatch.setattr(catalog_names, "_MAX_BEGUN_FILES", 1)
    assert named(library, "hochzeit") == [("Hochzeit", True)]
    assert named(library, "hochzeitsf") == [("Hochzeitsfotos", True)]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("2024-05-01", "20240501_103000"),
        ("2024_05", "20240501_103000"),
        ("2024.05.01", "20240501_103000"),
        ("20231224", "2023-12-24 tree"),
        ("2022-07-31", "IMG-20220731-WA0007"),
    ],
)
def test_a_day_is_found_in_the_other_form(library, query, name):
    assert named(library, query)[0] == (name, True)


def test_a_number_that_is_no_day_stays_in_one_piece(library):
    assert named(library, "1234") == [("12345678", False)]
    assert named(library, "5678") == []


@pytest.mark.parametrize("query", ["child", "goose", "mouse leaf", "fireman", '"leaf"'])
def test_an_irregular_plural_is_found_by_its_singular(library, query):
    assert found(library, query) == {"plural"}


def test_single_letters_are_weak_hits_unless_they_are_quoted_or_a_name(library):
    for typed in ("x", "x y"):
        (hit,) = (one for one in search(library, typed) if Reason.WORDS in one.why)
        assert (hit.item.path.stem, hit.weak) == ("letter", True)
    assert found(library, '"x"') == found(library, "x axes") == {"letter"}
    assert found(library, "京") == {"ja", "zh"}


def test_a_phrase_alone_has_its_words_in_this_order_or_is_a_weak_hit(library):
    assert found(library, "invoice march") >= {"invoice", "order"}
    hits = search(library, '"invoice of march"')
    assert hits[0].item.path.stem == "invoice"
    assert all(hit.weak for hit in hits[1:])
    assert named(library, '"hochzeit"')[:2] == [("Hochzeit", True), ("Hochzeitsfotos", False)]


def test_a_word_with_a_minus_excludes_what_has_it(library):
    assert "order" in found(library, "invoice")
    assert {hit.item.path.stem for hit in search(library, "invoice -march")} & set(TEXTS) == (
        set(TEXTS) - {"invoice", "order"}
    )
    assert found(library, "invoice -“invoice of”") == {"order"}
    assert named(library, "hochzeit -hochzeitsfotos") == [("Hochzeit", True)]
    assert found(library, "請求書 -東京駅") == set()


def test_a_typed_text_may_begin_with_a_word_to_leave_out(library, capsys):
    given = ["-hochzeitsfotos hochzeit", "--library", str(library.directory), "--limit=99"]
    assert main(given) == 0
    listed = capsys.readouterr().out
    assert "/Hochzeit.txt" in listed
    assert "/Hochzeitsfotos.txt" not in listed


def test_enough_is_found_though_the_nearest_are_excluded(library):
    some, without = without_excluded("nothing -marmalade -march -leaf")
    hits = library.search(Query((text_part(some),), limit=20, without=without))
    assert len(hits) == 20


@pytest.mark.parametrize(
    ("typed", "text", "excluded"),
    [
        ("beach -people", "beach", ("people",)),
        ('-"New York" skyline', "skyline", ("new york",)),
        ("e-mail -e-mail", "e-mail", ("e mail",)),
        ("at -5 degrees", "at -5 degrees", ()),
        ("a - b -- c --flag", "a - b -- c --flag", ()),
        ("-", "-", ()),
        ("-word", "", ("word",)),
        ("party -🎂", "party", ("🎂",)),
        ("-Straße, -STRASSE", "", ("strasse",)),
        ("word -x " * 20, "word -x " * 20, ()),
    ],
)
def test_only_a_minus_before_a_word_excludes(typed, text, excluded):
    assert without_excluded(typed) == (text, excluded)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("invioce", "invoice"),
        ("marmelade", "marmalade"),
        ("marrmalade", "marmalade"),
        ("nountains", "mountains"),
        ("τιμολόγιιο", "τιμολογιο"),
        ("hochzait", "hochzeit"),
        ("گزارشش", "گزارش"),
        ("marmlades", "marmalades"),
        ("invioces", "invoices"),
        ("bakking", "baking"),
    ],
)
def test_a_word_that_occurs_nowhere_is_corrected_and_found_weaker(library, typed, meant):
    assert list(corrections(library, typed).values()) == [meant]
    looked_up = {Reason.WORDS, Reason.FILE_NAME}
    right = {hit.item.id: hit.relevance for hit in search(library, meant) if looked_up & {*hit.why}}
    found = [hit for hit in search(library, typed) if looked_up & {*hit.why}]
    assert right
    assert all(hit.relevance < right[hit.item.id] for hit in found)


@pytest.mark.parametrize(
    "typed",
    ["invoice", "hochzeits", "gese", "mics", "qqqqqq", "DSC91234", '"invioce"', "गीताब", "a" * 30],
)
def test_other_words_stay_as_they_were_typed(library, typed):
    assert corrections(library, typed) == {}


def test_a_stem_alone_is_no_word(library):
    assert corrections(library, "single") == {}, "no text has singe, the stem of which is sing"


def test_words_that_the_model_knows_are_not_corrected(library):
    assert library.catalog.corrections(["marmelade"], {"marmelade"}.__contains__) == {}


def test_few_words_of_a_query_are_corrected(library):
    assert len(corrections(library, "invioce marmelade nountains")) == 2
