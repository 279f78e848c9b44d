"""What looks the same to a reader becomes the same characters."""

import numpy as np
import pytest

from embedder import Content
from embedder.normalisation import folded, occurrences, readable, words
from embedder.toy import ToyEmbedder


@pytest.mark.parametrize(
    ("written", "usual"),
    [
        ("the o\ufb03ce \ufb01rst", "the office first"),
        ("ＢＲＩＤＧＥ ５", "BRIDGE 5"),
        ("docu\xadmen\xadta\xadtion", "documentation"),
        ("\ufed3\ufe8e\ufe97\ufeee\ufead\ufe93", "فاتورة"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("⾦曜", "金曜"),
        ("photosyn\u2010\n  thesis", "photosynthesis"),
        ("Well-\nKnown - \n no", "Well-\nKnown - \n no"),
        ("25 ℃… ½ ™ x²", "25 ℃… ½ ™ x²"),
        ("👩\u200d💻 می\u200cخواهم", "👩\u200d💻 می\u200cخواهم"),
    ],
)
def test_models_read_words_in_their_usual_letters(written, usual):
    assert readable(written) == usual


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Straße", "STRASSE"),
        ("Łódź", "lodz"),
        ("œuvre Æsir", "oeuvre aesir"),
        ("Smørrebrød", "smorrebrod"),
        ("Đà Nẵng", "da nang"),
        ("İSTANBUL ılık", "istanbul ilik"),
        ("Счёт", "СЧЕТ"),
        ("ΤΙΜΟΛΌΓΙΟΣ", "τιμολογιος"),
        ("כָּתַב", "כתב"),
        ("كَتَبَ أحمد", "كتب احمد"),
        ("کتاب مدرسة", "كتاب مدرسه"),
        ("٢٠٢٤ २०२४", "2024 2024"),
        ("ﬂower", "FLOWER"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("e\u2011mail", "e\u2010mail"),
        ("l’été", "l'ete"),
        ("か\u3099", "が"),
        ("1\ufe0f\u20e3", "1"),
        ("हिन्दी मुम्बई सम्बन्ध", "हिंदी मुंबई संबंध"),
        ("ज़िंदगी चाँद", "जिंदगी चांद"),
        ("അവന്\u200d", "അവൻ"),
        ("ٱلله خانۀ هماری", "الله خانه ہماری"),
        ("τῷ οἴκῳ ᾨδή", "τω οικω ωδη"),
        ("น้ำ", "น\u0e4d\u0e49า"),
    ],
)
def test_spellings_of_a_word_are_looked_up_as_one(first, second):
    assert folded(first).replace("-", " ").replace("'", " ") == folded(second).replace(
        "-", " "
    ).replace("'", " ")


@pytest.mark.parametrize(
    ("first", "second"),
    [("мой", "мои"), ("हिन्दी", "हन्दी"), ("जन्म", "जंम"), ("กิน", "กน"), ("が", "か")],
)
def test_letters_that_tell_words_apart_stay(first, second):
    assert folded(first) != folded(second)


def test_each_character_of_a_script_without_spaces_is_a_word():
    assert folded("昨日は東京駅。") == "昨 日 は 東 京 駅"
    assert folded("영수증을") == "영 수 증 을"
    assert folded("กินข้าว") == "กิ น ข้ า ว"
    assert folded("USBメモリ🎂") == "usb メ モ リ 🎂"
    assert folded("हिंदी में") == "हिंदी में"
    assert folded("བོད་ཡིག་ ㄅㄆ") == "བོ ད ཡི ག ㄅ ㄆ"
    assert folded("ダ・ヴィンチ សៀម។ မြို့၊") == "ダ ヴ ィ ン チ សៀ ម မြို့"


def test_words_are_runs_of_one_kind_of_script():
    assert words("東京駅 x_y, “New” 2024年") == ["東 京 駅", "x_y", "new", "2024", "年"]
    assert words(" -- … ") == []


def test_folding_once_more_changes_nothing():
    written = "".join(map(chr, range(0x20, 0x3000)))
    assert folded(folded(written)) == folded(written)


@pytest.mark.parametrize(
    ("text", "term", "marked"),
    [
        ("the o\ufb03ces", "office", ["o\ufb03ces"]),
        ("eine Straße, STRASSEN", "strasse", ["Straße", "STRASSEN"]),
        ("昨日は東京駅で", "東 京 駅", ["東京駅"]),
        ("docu\xadmen\xadta\xadtion!", "documentation", ["docu\xadmen\xadta\xadtion"]),
        ("in New\nYork and newyorker", "new york", ["New\nYork"]),
        ("bathe the", "the", ["the"]),
        ("नदी हिन्दी", "हिन्दी", ["हिन्दी"]),
        ("नदी हिन्दी", "हिंदी", ["हिन्दी"]),
        ("un cafe\u0301 noir", "cafe", ["cafe\u0301"]),
        ("か\u3099っこう", "が っ こ う", ["か\u3099っこう"]),
        ("수도 서울", "서 울", ["서울"]),
        ("我用iPhone拍照片，USBメモリーも", "iphone", ["iPhone"]),
        ("我用iPhone拍照片，USBメモリーも", "usb", ["USB"]),
    ],
)
def test_words_are_marked_as_they_were_written(text, term, marked):
    assert [text[start:end] for start, end in occurrences(text, [term])] == marked
    assert occurrences(text, []) == []


@pytest.mark.parametrize(
    ("text", "term", "marked"),
    [
        ("An artist, a heart, ART", "art", ["art", "art", "ART"]),
        ("harbour", "har", ["har"]),
        ("in New\nYork and newyorker", "w y", ["w\nY"]),
        ("eine Straße", "str", ["Str"]),
        ("un cafe\u0301 noir", "fe", ["fe\u0301"]),
        ("昨日は東京駅で", "京 駅", ["京駅"]),
        ("harbour", "harbours", []),
    ],
)
def test_what_is_sought_is_found_inside_words(text, term, marked):
    found = occurrences(text, [term], anywhere=True)
    assert [text[start:end] for start, end in found] == marked


def test_a_text_is_embedded_as_it_is_read():
    with ToyEmbedder() as toy:
        first, second, third = toy.embed(
            [Content(text=one) for one in ("the o\ufb03ce", "the office", "\u200b")], "document"
        )
    assert np.array_equal(first, second)
    assert third.shape == first.shape
