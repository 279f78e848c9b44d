"""Dates in the words of a search: "beach July 2023", "letzten Sommer", "between 2019 and 2021".

English and German are understood, whatever the language of the page. What may as well be meant as
words is left alone: months and seasons need a year, or "in", "last" or "this" before them. Seasons
are those of the northern hemisphere, by whole months.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

from embedder.normalisation import words
from indexer.search.query import MAX_TERMS, quoted_spans


@dataclass(frozen=True, slots=True)
class Period:
    """Days that a search is about.

    Attributes:
        first: The first one; None for no bound.
        last: The last one, included.
        phrase: How the text says so.
        is_year: Whether it is a year alone, which may as well be a number.
    """

    first: date | None
    last: date | None
    phrase: str = ""
    is_year: bool = False


def split_dates(text: str, today: date) -> tuple[str, Period | None]:
    """Return the text without the date that is in it, and the period that it says.

    Spaces are single ones in both. Nothing is taken from quotes, from a long text, or where there
    are several dates. A year alone counts at the end of the text.

    Args:
        text: As typed.
        today: What "last year" and the like refer to.
    """
    if len(words(text)) > MAX_TERMS:
        return text, None
    text = " ".join(text.split())
    unquoted = text
    for start, end in quoted_spans(text):
        unquoted = unquoted[:start] + '"' * (end - start) + unquoted[end:]
    found = list(_periods(unquoted, today))
    if len(found) != 1:
        return text, None
    span, period = found[0]
    before, after = text[: span[0]].strip(" ,;"), text[span[1] :].strip(" ,;")
    if period.is_year and (after or (period.first and period.first > today)):
        return text, None
    rest = " ".join(filter(None, (before, after)))
    if not set(words(rest)) - _ALL_FILES:
        rest = ""
    return rest, replace(period, phrase=text[slice(*span)])


def _periods(text: str, today: date) -> Iterator[tuple[tuple[int, int], Period]]:
    """Yield the periods in a text, and where they are."""
    position = 0
    while match := _PERIOD.search(text, position):
        position = match.end()
        for pattern, period in _WAYS:
            try:
                inner = pattern.fullmatch(match[0])
                found = period(inner, today) if inner else None
            except ValueError:  # 31 February
                found = None
            if found:
                yield match.span(), found
                break


# ---- words

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january januar jänner jan",
            "february februar feber feb",
            "march märz maerz mar mär mrz",
            "april apr",
            "may mai",
            "june juni jun",
            "july juli jul",
            "august aug",
            "september sept sep",
            "october oktober oct okt",
            "november nov",
            "december dezember dec dez",
        ),
        1,
    )
    for name in names.split()
}
_SEASONS = {  # The first month
    **dict.fromkeys(("spring", "frühling", "frühjahr"), 3),
    **dict.fromkeys(("summer", "sommer"), 6),
    **dict.fromkeys(("autumn", "fall", "herbst"), 9),
    "winter": 12,
}
_WEEKDAYS = {
    name: number
    for number, names in enumerate(
        (
            *("monday montag", "tuesday dienstag", "wednesday mittwoch", "thursday donnerstag"),
            *("friday freitag", "saturday samstag sonnabend", "sunday sonntag"),
        )
    )
    for name in names.split()
}
_LENGTHS = {
    **dict.fromkeys(("day", "days", "tag", "tage", "tagen"), 1),
    **dict.fromkeys(("week", "weeks", "woche", "wochen"), 7),
}
_MONTH_COUNTS = {
    **dict.fromkeys(("month", "months", "monat", "monate", "monaten"), 1),
    **dict.fromkeys(("year", "years", "jahr", "jahre", "jahren"), 12),
}
_DAYS_AGO = {"today": 0, "heute": 0, "yesterday": 1, "gestern": 1, "vorgestern": 2}
_ALL_FILES = set(
    "a all any every everything file files image images my of photo photos pic pics picture "
    "pictures the alle alles bild bilder datei dateien der die das foto fotos meine von".split()
)
"""Words beside a date that leave nothing out."""


def _easter(year: int) -> date:
    """Return Easter Sunday in the Gregorian calendar.

    Source: the anonymous algorithm that J. Meeus gives in "Astronomical Algorithms".
    """
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


_FEASTS: dict[str, Callable[[int], tuple[date, date]]] = {
    **dict.fromkeys(
        ("christmas", "xmas", "weihnachten"), lambda y: (date(y, 12, 24), date(y, 12, 26))
    ),
    **dict.fromkeys(
        ("easter", "ostern"),
        lambda y: (_easter(y) - timedelta(days=2), _easter(y) + timedelta(days=1)),
    ),
    **dict.fromkeys(
        ("new year's eve", "new years eve", "silvester"),
        lambda y: (date(y, 12, 31), date(y + 1, 1, 1)),
    ),
    "halloween": lambda y: (date(y, 10, 31), date(y, 10, 31)),
}


def _any(names: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(names, key=len, reverse=True)) + ")"


# ---- what names a period by itself

_YEAR = r"(?:19|20)\d\d"
_MONTH = rf"{_any(_MONTHS)}\.?"
_DAY_OF_MONTH = r"\d{1,2}(?:st|nd|rd|th|\.)?"
_LAST = r"(?:last|past|previous|letzte[nrsm]?|vorige[nrsm]?|vergangene[nrsm]?)"
_THIS = r"(?:this|diese[nrsm]?)"
_Match = re.Match[str]


def _month(year: int, month: int) -> Period:
    return Period(date(year, month, 1), _month_end(date(year, month, 1)))


def _month_end(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _season(year: int, month: int) -> Period:
    start = date(year, month, 1)
    return Period(start, _month_end(start + timedelta(days=62)))


def _single(year: int, month: int, day: int) -> Period:
    only = date(year, month, day)
    return Period(only, only)


def _name(text: str) -> str:
    return text.lower().rstrip(".")


def _day_of(match: _Match, today: date) -> Period:
    day = int(re.sub(r"\D", "", match["day"]))
    return _single(int(match["year"]), _MONTHS[_name(match["month"])], day)


_NAMED: tuple[tuple[str, Callable[[_Match, date], Period | None]], ...] = (
    (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)",
        lambda m, _: _single(*map(int, m.group("year", "month", "day"))),
    ),
    (
        r"(?P<day>\d{1,2})\. ?(?P<month>\d{1,2})\. ?(?P<year>\d{4})",
        lambda m, _: _single(*map(int, m.group("year", "month", "day"))),
    ),
    (rf"(?P<year>{_YEAR})-(?P<month>\d\d)", lambda m, _: _month(int(m["year"]), int(m["month"]))),
    (
        rf"(?P<day>{_DAY_OF_MONTH}) (?:of )?(?P<month>{_MONTH}),? (?P<year>{_YEAR})",
        _day_of,
    ),
    (rf"(?P<month>{_MONTH}) (?P<day>{_DAY_OF_MONTH}),? (?P<year>{_YEAR})", _day_of),
    (
        rf"(?P<month>{_MONTH}),? (?:of )?(?P<year>{_YEAR})",
        lambda m, _: _month(int(m["year"]), _MONTHS[_name(m["month"])]),
    ),
    (
        rf"(?P<season>{_any(_SEASONS)}) (?:of )?(?P<year>{_YEAR})(?:/\d\d)?",
        lambda m, _: _season(int(m["year"]), _SEASONS[m["season"].lower()]),
    ),
    (
        rf"(?P<feast>{_any(_FEASTS)}) (?P<year>{_YEAR})",
        lambda m, _: Period(*_FEASTS[m["feast"].lower()](int(m["year"]))),
    ),
    (
        rf"(?P<year>{_YEAR})",
        lambda m, _: Period(date(int(m["year"]), 1, 1), date(int(m["year"]), 12, 31), "", True),
    ),
)
_DATE = "(?:" + "|".join(re.sub(r"\(\?P<\w+>", "(?:", pattern) for pattern, _ in _NAMED) + ")"


def _named(text: str, today: date) -> Period:
    for pattern, period in _NAMED:
        if match := re.fullmatch(pattern, text, re.IGNORECASE):
            found = period(match, today)
            if found:
                return found
    raise ValueError(text)


# ---- periods that other words bound or refer to


def _between(match: _Match, today: date) -> Period | None:
    first, last = _named(match["from"], today).first, _named(match["to"], today).last
    return Period(first, last) if first and last and first <= last else None


def _months_between(match: _Match, today: date) -> Period | None:
    first, last = (_MONTHS[_name(match[name])] for name in ("from", "to"))
    year = int(match["year"])
    return Period(date(year, first, 1), _month(year, last).last) if first < last else None


def _bounded(match: _Match, today: date) -> Period:
    named, word = _named(match["date"], today), match["bound"].lower()
    if word in {"since", "seit"}:
        return Period(named.first, None)
    if word in {"after", "nach"}:
        return Period(named.last and named.last + timedelta(days=1), None)
    if word in {"before", "vor"}:
        return Period(None, named.first and named.first - timedelta(days=1))
    return Period(None, named.last)


def _dated(match: _Match, today: date) -> Period:
    return replace(_named(match["date"], today), is_year=False)


def _recent_month(match: _Match, today: date) -> Period:
    month = _MONTHS[_name(match["month"])]
    return _month(today.year - (month > today.month), month)


def _this_or_last(match: _Match, today: date) -> Period | None:
    """Return the week, month, year, season, feast or weekday that is, or was before it."""
    unit, is_last = match["unit"].lower(), bool(re.match(_LAST, match["which"], re.IGNORECASE))
    monday = today - timedelta(days=today.weekday() + 7 * is_last)
    if unit in {"week", "woche"}:
        return Period(monday, monday + timedelta(days=6))
    if unit in {"weekend", "wochenende"}:
        return Period(monday + timedelta(days=5), monday + timedelta(days=6))
    if unit in {"month", "monat"}:
        day = today.replace(day=1) - timedelta(days=1) if is_last else today
        return _month(day.year, day.month)
    if unit in {"year", "jahr"}:
        year = today.year - is_last
        return Period(date(year, 1, 1), date(year, 12, 31))
    if unit in _WEEKDAYS:
        days = (today.weekday() - _WEEKDAYS[unit]) % 7
        only = today - timedelta(days=days or 7 * is_last)
        return Period(only, only)
    return _latest(unit, today, is_last=is_last)


def _latest(unit: str, today: date, *, is_last: bool) -> Period | None:
    """Return the latest of what comes once a year; `is_last` for one that is over."""
    for year in (today.year, today.year - 1, today.year - 2):
        if unit in _SEASONS:
            found = _season(year, _SEASONS[unit])
        elif unit in _FEASTS:
            found = Period(*_FEASTS[unit](year))
        else:
            found = _month(year, _MONTHS[_name(unit)])
        end = found.last if is_last else found.first
        if end and (end < today or (not is_last and end == today)):
            return found
    return None


def _last_units(match: _Match, today: date) -> Period:
    number, unit = int(match["number"]), match["unit"].lower()
    if days := _LENGTHS.get(unit):
        return Period(today - timedelta(days=days * number), today)
    months = today.year * 12 + today.month - 1 - _MONTH_COUNTS[unit] * number
    start = date(months // 12, months % 12 + 1, 1)
    return Period(min(start.replace(day=min(today.day, _month_end(start).day)), today), today)


def _days_ago(match: _Match, today: date) -> Period:
    only = today - timedelta(days=_DAYS_AGO[match["ago"].lower()])
    return Period(only, only)


_IN = r"(?:in|im|during|from|of|on|at|am|vom|von|aus|an|zu)"
_YEARS_WORD = r"(?:the )?(?:year |jahr )?"
_UNITS = _any([*_LENGTHS, *_MONTH_COUNTS])
_SPANS = "week woche weekend wochenende month monat year jahr".split()
_ONCE = _any([*_SPANS, *_SEASONS, *_FEASTS, *_MONTHS, *_WEEKDAYS])
_PATTERNS: tuple[tuple[str, Callable[[_Match, date], Period | None]], ...] = (
    (rf"(?:between|zwischen) (?P<from>{_DATE}) (?:and|und) (?P<to>{_DATE})", _between),
    (
        rf"(?:(?:from|von|vom) )?(?P<from>{_DATE}) ?(?:to|until|till|bis|bis zum|-|–) ?"
        rf"(?P<to>{_DATE})",
        _between,
    ),
    (
        rf"(?:(?:from|von|between|zwischen) )?(?P<from>{_MONTH}) ?(?:to|until|bis|and|und|-|–) ?"
        rf"(?P<to>{_MONTH}) (?P<year>{_YEAR})",
        _months_between,
    ),
    (
        rf"(?P<bound>since|seit|after|nach|before|vor|until|bis)(?: dem)? (?P<date>{_DATE})",
        _bounded,
    ),
    (rf"{_IN} {_YEARS_WORD}(?P<date>{_DATE})", _dated),
    (rf"(?P<date>{_DATE})", lambda m, today: _named(m["date"], today)),
    (
        rf"(?:{_IN} )?(?:the |den |dem |der )?{_LAST} (?P<number>\d{{1,3}}) (?P<unit>{_UNITS})",
        _last_units,
    ),
    (
        rf"(?:{_IN} )?(?:the |der |dem )?(?P<which>{_LAST}|{_THIS}) "
        rf"(?P<unit>{_ONCE})",
        _this_or_last,
    ),
    (rf"(?:in|im) (?P<month>{_any(_MONTHS)})", _recent_month),
    (rf"(?:(?:from|of|von) )?(?P<ago>{_any(_DAYS_AGO)})", _days_ago),
)
_WAYS = tuple((re.compile(pattern, re.IGNORECASE), period) for pattern, period in _PATTERNS)
_PERIOD = re.compile(
    r"(?<![\w.,/'’-])(?:"
    + "|".join(re.sub(r"\(\?P<\w+>", "(?:", pattern) for pattern, _ in _PATTERNS)
    + r")(?![\w/'’-]|[.,]\d)",
    re.IGNORECASE,
)
