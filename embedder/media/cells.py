"""Excel workbooks: strings, cells as they are shown, and rows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from embedder.media.archive import Markup, TextCollector, local_name, too_much_text

_STRINGS = Markup(
    paragraphs=frozenset({"si"}), texts=frozenset({"t"}), skipped=frozenset({"rPh", "rPr"})
)
_MAX_DECIMALS = 30  # more than Excel allows
_SECONDS_PER_DAY = 86_400
# Day 0. Excel counts a 29 February 1900, so earlier dates are a day off, as they are in Excel.
_FIRST_DAY, _FIRST_DAY_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)  # noqa: DTZ001
# Of the formats without a code in the file (ECMA-376, part 1, 18.8.30), what matters here.
_BUILT_IN_CODES = {
    **dict.fromkeys((2, 4, 7, 8, 39, 40, 43, 44), "0.00"),
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    46: "[h]:mm:ss",
    48: "##0.0E+0",
    **dict.fromkeys((*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)), "yyyy-mm-dd hh:mm"),
}
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!(?:h+|m+|s+)\])[^\]]*\]', re.IGNORECASE)


class StringCollector(TextCollector):
    """Collects the strings that cells refer to by number."""

    def __init__(self, max_characters: int) -> None:
        super().__init__(_STRINGS, max_characters)
        self._strings: list[str] = []

    def close(self) -> list[str]:
        """Return all strings."""
        return self._strings

    def _put(self, text: str) -> None:
        self._strings.append(text)


class Cells:
    """Shows values of cells as people see them, except for what differs between countries.

    Args:
        workbook: Root of the workbook.
        styles: Root of its styles, if it has any.
        strings: Its shared strings.
    """

    def __init__(self, workbook: Any, styles: Any, strings: list[str]) -> None:
        self._strings = strings
        codes = dict(_BUILT_IN_CODES)
        formats = styles.find("cellXfs") if styles is not None else None
        for one in styles.iter("numFmt") if styles is not None else ():
            codes[_integer(one.get("numFmtId"))] = one.get("formatCode", "")
        self._codes = [
            codes.get(_integer(one.get("numFmtId")), "")
            for one in (formats if formats is not None else ())
        ]
        properties = workbook.find("workbookPr")
        from_1904 = properties is not None and properties.get("date1904") in ("1", "true")
        self._first_day = _FIRST_DAY_1904 if from_1904 else _FIRST_DAY

    def show(self, kind: str, style: str, value: str) -> str:
        """Return what a cell shows.

        Args:
            kind: Type of the value: "n" for a number, "s" for a string by its number, "b", "e"
                for an error, "str", "inlineStr" or "d".
            style: Number of its style.
            value: As stored.
        """
        if kind == "s":
            return _item(self._strings, value)
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if kind == "n":
            return self._number(value, _parsed(_item(self._codes, style)))
        return "" if kind == "e" else value

    def _number(self, value: str, shown: "_NumberFormat") -> str:
        try:
            number = float(value)
            if shown.is_duration:
                minutes, seconds = divmod(round(number * _SECONDS_PER_DAY), 60)
                return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
            if shown.is_date and number >= 0:
                seconds = round(number * _SECONDS_PER_DAY)
                moment = self._first_day + timedelta(seconds=seconds)
                text = str(moment if number >= 1 else moment.time())
                return text.removesuffix(" 00:00:00")
        except (ValueError, OverflowError):
            return value
        if shown.is_percentage:
            return f"{100 * number:.{shown.decimals}f}%"
        return f"{number:.{shown.decimals}f}" if shown.decimals else f"{number:.15g}"


@dataclass(frozen=True, slots=True)
class _NumberFormat:
    """How a number is shown: as a date, a duration, a percentage, with how many decimals."""

    is_date: bool
    is_duration: bool
    is_percentage: bool
    decimals: int


@lru_cache(maxsize=1000)
def _parsed(code: str) -> _NumberFormat:
    """Parse the code of a format, such as "0.00%" or "dd/mm/yyyy"."""
    positive = _LITERALS.sub("", code).partition(";")[0].lower()
    decimals = re.search(r"0\.(0+)(?!.*e)", positive)
    return _NumberFormat(
        is_date=positive != "general" and re.search("[dmyhs]", positive) is not None,
        is_duration=re.search(r"\[(?:h+|m+|s+)\]", positive) is not None,
        is_percentage="%" in positive,
        decimals=min(len(decimals[1]), _MAX_DECIMALS) if decimals else 0,
    )


class Rows:
    """Collects the rows of a sheet as lines while it is parsed; empty cells are left out."""

    def __init__(self, cells: Cells, max_characters: int) -> None:
        self._cells = cells
        self._left = self._max_characters = max_characters
        self._rows: list[str] = []
        self._row: list[str] = []
        self._cell: Mapping[str, str] = {}
        self._value: list[str] = []
        self._depth = 0  # within the value of a cell

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Enter an element."""
        name = local_name(tag)
        if name == "c":
            self._cell, self._value = attributes, []
        elif name in ("v", "t"):
            self._depth += 1

    def end(self, tag: str) -> None:
        """Leave an element."""
        name = local_name(tag)
        if name in ("v", "t"):
            self._depth -= 1
        elif name == "c" and self._value:
            kind, style = self._cell.get("t", "n"), self._cell.get("s", "0")
            shown = " ".join(self._cells.show(kind, style, "".join(self._value)).split())
            self._row += [shown] if shown else []
            self._left -= len(shown)
            if self._left < 0:
                raise too_much_text(self._max_characters)
        elif name == "row" and self._row:
            self._rows.append("\t".join(self._row))
            self._row = []

    def data(self, data: str) -> None:
        """Take characters."""
        if self._depth:
            self._value.append(data)

    def close(self) -> list[str]:
        """Return the rows."""
        return self._rows


def _item(items: list[str], number: str) -> str:
    """Return an item by a number in a file, which may be wrong."""
    index = _integer(number)
    return items[index] if 0 <= index < len(items) else ""


def _integer(text: str | None) -> int:
    try:
        return int(text or "0")
    except ValueError:
        return -1
