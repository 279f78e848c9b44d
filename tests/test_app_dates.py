"""Dates in typed words: which periods they say, and what is left as words."""

from datetime import date

import pytest

from app.dates import split_dates

TODAY = date(2026, 11, 30)  # A Monday.


def said(text, today=TODAY):
    rest, period = split_dates(text, today)
    if period is None:
        assert rest.split() == text.split()
        return None
    bounds = [day.isoformat() if day else "" for day in (period.first, period.last)]
    return rest, " ".join(bounds).strip() if all(bounds) else "..".join(bounds)


MONTHS = {
    "beach July 2023": ("beach", "2023-07-01 2023-07-31"),
    "beach july, 2023": ("beach", "2023-07-01 2023-07-31"),
    "Strand Juli 2023": ("Strand", "2023-07-01 2023-07-31"),
    "photos from July 2023 at the beach": ("photos at the beach", "2023-07-01 2023-07-31"),
    "in July of 2023": ("", "2023-07-01 2023-07-31"),
    "dog, Feb. 2024": ("dog", "2024-02-01 2024-02-29"),
    "2023-07": ("", "2023-07-01 2023-07-31"),
    "Hund im März 2021": ("Hund", "2021-03-01 2021-03-31"),
    "in May": ("", "2026-05-01 2026-05-31"),
    "Garten im Dezember": ("Garten", "2025-12-01 2025-12-31"),
    "last march": ("", "2026-03-01 2026-03-31"),
}
DAYS = {
    "12.5.2021": ("", "2021-05-12 2021-05-12"),
    "Oma am 12. 05. 2021": ("Oma", "2021-05-12 2021-05-12"),
    "2021-05-12 cat": ("cat", "2021-05-12 2021-05-12"),
    "12 May 2021": ("", "2021-05-12 2021-05-12"),
    "the 12th of May 2021": ("", "2021-05-12 2021-05-12"),
    "May 12th, 2021": ("", "2021-05-12 2021-05-12"),
    "Kuchen vom 12. Mai 2021": ("Kuchen", "2021-05-12 2021-05-12"),
    "yesterday": ("", "2026-11-29 2026-11-29"),
    "cat from yesterday": ("cat", "2026-11-29 2026-11-29"),
    "Katze gestern": ("Katze", "2026-11-29 2026-11-29"),
    "vorgestern": ("", "2026-11-28 2026-11-28"),
    "last friday": ("", "2026-11-27 2026-11-27"),
    "letzten Montag": ("", "2026-11-23 2026-11-23"),
}
YEARS = {
    "2019": ("", "2019-01-01 2019-12-31"),
    "beach 2019": ("beach", "2019-01-01 2019-12-31"),
    "all photos of 2019": ("", "2019-01-01 2019-12-31"),
    "in 2019 at the lake": ("at the lake", "2019-01-01 2019-12-31"),
    "See im Jahr 2019": ("See", "2019-01-01 2019-12-31"),
    "last year": ("", "2025-01-01 2025-12-31"),
    "Hochzeit letztes Jahr": ("Hochzeit", "2025-01-01 2025-12-31"),
    "this year": ("", "2026-01-01 2026-12-31"),
}
SEASONS = {
    "last summer": ("", "2026-06-01 2026-08-31"),
    "letzten Sommer": ("", "2026-06-01 2026-08-31"),
    "skiing winter 2020/21": ("skiing", "2020-12-01 2021-02-28"),
    "last winter": ("", "2025-12-01 2026-02-28"),
    "Weihnachten 2020": ("", "2020-12-24 2020-12-26"),
    "last christmas": ("", "2025-12-24 2025-12-26"),
    "Ostern 2024": ("", "2024-03-29 2024-04-01"),
    "easter 2019": ("", "2019-04-19 2019-04-22"),
    "Silvester 2022": ("", "2022-12-31 2023-01-01"),
}
RANGES = {
    "between 2019 and 2021": ("", "2019-01-01 2021-12-31"),
    "Berge zwischen 2019 und 2021": ("Berge", "2019-01-01 2021-12-31"),
    "from March 2020 to 3 May 2021": ("", "2020-03-01 2021-05-03"),
    "von 2019 bis 2021": ("", "2019-01-01 2021-12-31"),
    "lake 2019-2021": ("lake", "2019-01-01 2021-12-31"),
    "March to May 2021": ("", "2021-03-01 2021-05-31"),
    "since 2019": ("", "2019-01-01.."),
    "seit März 2019": ("", "2019-03-01.."),
    "before 2010": ("", "..2009-12-31"),
    "nach 2010": ("", "2011-01-01.."),
    "until 2010": ("", "..2010-12-31"),
    "last week": ("", "2026-11-23 2026-11-29"),
    "letzte Woche": ("", "2026-11-23 2026-11-29"),
    "last weekend": ("", "2026-11-28 2026-11-29"),
    "in the last 3 months": ("", "2026-08-30 2026-11-30"),
    "letzten 2 Jahre": ("", "2024-11-30 2026-11-30"),
    "last month": ("", "2026-10-01 2026-10-31"),
}


@pytest.mark.parametrize(
    ("text", "expected"), list({**MONTHS, **DAYS, **YEARS, **SEASONS, **RANGES}.items())
)
def test_dates(text, expected):
    assert said(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("may I", "march of the penguins", "1984 novel", "summer dress", "fall leaves"),
        *("April", "August Macke", "christmas tree", "winter landscape", "in summer", "spring"),
        *("blade runner 2049", "IMG_2019", "2019.jpg", "12/5/2021", "31.2.2021", "2021-13"),
        *('"July 2023"', 'beach "last summer"', "beach -2019", "July 2023 or May 2021"),
        *("the last of us", "this is a day", "last day of school", "version 20.19", "7.2023.5"),
        *("12. Bezirk", "Mai", "der Mai ist gekommen", "und 2019 Enten", "Sommerkleid 38", ""),
        *("between 2021 and 2019", "2019er Wein", "mar 7", "a " * 40 + "July 2023", "2019-20211"),
    ],
)
def test_what_may_be_words_is_left_alone(text):
    assert said(text) is None


def test_last_summer_is_over():
    assert said("last summer", date(2026, 7, 14)) == ("", "2025-06-01 2025-08-31")
    assert said("this summer", date(2026, 7, 14)) == ("", "2026-06-01 2026-08-31")
    assert said("last weekend", date(2026, 11, 29)) == ("", "2026-11-21 2026-11-22")
    assert said("in the last 1 month", date(2026, 3, 31)) == ("", "2026-02-28 2026-03-31")


def test_phrase_is_what_was_typed():
    _, period = split_dates("Beach In  July 2023 with dog", TODAY)
    assert (period.phrase, period.is_year) == ("In July 2023", False)
    assert split_dates("beach 2019", TODAY)[1].is_year
