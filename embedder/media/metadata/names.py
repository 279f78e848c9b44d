"""Dates in the names that cameras, phones, messengers and screenshots give to files."""

import re
import unicodedata
from datetime import UTC, datetime

from embedder.media.metadata.values import plausible

_FIRST_YEAR = 1990  # before that, no camera named files
_TIME = r"(?P<hour>\d\d|\d(?=\D))(?P<gap>{})(?P<minute>\d\d)(?P=gap)(?P<second>\d\d)"
# As macOS and iOS write them before the time, in Chinese, Japanese and Korean.
_BEFORE_NOON = "\u4e0a\u5348|\u5348\u524d|\uc624\uc804"
_AFTER_NOON = "\u4e0b\u5348|\u5348\u5f8c|\uc624\ud6c4"
_FORMS = (
    # 20240501_103000, IMG20240501103000, PXL_20240501_083000123, Screenshot_20240501-103000_App;
    # 2024_0501_103000 of cameras in cars
    r"(?<!\d)(?P<year>\d{4})_?(?P<month>\d\d)(?P<day>\d\d)[-_ T.]?"
    + _TIME.format("[-_.:]?")
    + r"(?:\d{3})?(?!\d)",
    # 2024-05-01 10.30.00, photo_2024-05-01_10-30-00, Screenshot 2024-05-01 at 10.30.00 PM
    r"(?<!\d)(?P<year>\d{4})(?P<dash>[-_.])(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    rf"(?: ?(?P<noon>{_BEFORE_NOON}|{_AFTER_NOON}) ?"
    r"|[-_T.,]| |(?: [^\W\d_]{1,5}\.?){1,2} |, )"
    + _TIME.format("[-_.: ]?")
    + r"(?:\d{3})?(?!\d)(?:[\s\u202f]?(?P<half>[AP])\.?M\b)?",
    # vlcsnap-2024-05-01-10h30m00s123; Telegram's photo_5@01-05-2024_10-30-00; iOS'
    # ScreenRecording_05-01-2024 10-30-00_1
    r"(?<!\d)(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[-_ ]"
    r"(?P<hour>\d\d)h(?P<minute>\d\d)m(?P<second>\d\d)s",
    r"@(?P<day>\d\d)-(?P<month>\d\d)-(?P<year>\d{4})_" + _TIME.format("-"),
    r"ScreenRecording_(?P<month>\d\d)-(?P<day>\d\d)-(?P<year>\d{4}) " + _TIME.format("-"),
    # 2024-05-01, 2024_05_01
    r"(?<!\d)(?P<year>\d{4})(?P<dash>[-_.])(?P<month>\d\d)(?P=dash)(?P<day>\d\d)(?!\d)",
    # IMG-20240501-WA0001, P_20240501, scan20240501; not a part of a number, or of an identifier
    r"(?:(?<![0-9a-z])|(?<=[a-z]{3}))(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)(?![0-9A-Za-z])",
)
_PATTERNS = tuple(re.compile(form) for form in _FORMS)
_IN_UTC = re.compile(r"PXL_|GMT(?=\d)")
_SINCE_1970 = re.compile(
    r"(?:(?:mmexport|FB_IMG_|wx_camera_)(?=\d{13})|RPReplay_Final)(\d{10})(\d{3})?(?!\d)"
)


def date_in_name(name: str) -> datetime | None:
    """Return the date in a file's name, as cameras, phones and messengers write it.

    Args:
        name: Without its folder.

    Returns:
        Midnight where only the day is given; with a zone only where one is known.
    """
    name = unicodedata.normalize("NFC", name)
    if found := _SINCE_1970.match(name):
        return plausible(datetime.fromtimestamp(int(found[1]), UTC))
    for pattern in _PATTERNS:
        for found in pattern.finditer(name):
            if moment := _moment(found.groupdict()):
                return moment.replace(tzinfo=UTC) if _IN_UTC.match(name) else moment
    return None


def _moment(fields: dict[str, str | None]) -> datetime | None:
    """Return the date of these fields; None if there is no such day."""
    year, month, day, hour, minute, second = (
        int(fields.get(name) or 0) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    if half := fields.get("half") or fields.get("noon"):
        hour = hour % 12 + 12 * (half in ("P", *_AFTER_NOON.split("|")))
    try:
        moment = datetime.fromisoformat(
            f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )
    except ValueError:
        return None
    return plausible(moment) if year >= _FIRST_YEAR else None
