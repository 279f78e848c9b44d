"""IPTC-IIM: captions, keywords and places as agencies and older programs write them."""

import struct
from collections.abc import Iterator
from datetime import datetime

from embedder.media.kinds import Details
from embedder.media.metadata.values import address, decoded, labelled, parsed_date

_CHARSET, _UTF8 = (1, 90), b"\x1b%G"
_TITLE, _HEADLINE, _CAPTION, _KEYWORD = (2, 5), (2, 105), (2, 120), (2, 25)
_AUTHOR, _COPYRIGHT, _DATE, _TIME = (2, 80), (2, 116), (2, 55), (2, 60)
_PLACES = ((2, 92), (2, 90), (2, 95), (2, 101))
"""From the sublocation over city and state to the country."""


def iptc_details(block: bytes) -> Details:
    """Return what a block of IPTC-IIM says.

    Source: IPTC-NAA Information Interchange Model, version 4.2.
    """
    records: dict[tuple[int, int], list[bytes]] = {}
    for key, value in _datasets(block):
        records.setdefault(key, []).append(value)
    utf8 = records.get(_CHARSET) == [_UTF8]

    def texts(*keys: tuple[int, int]) -> list[str]:
        found = (value for key in keys for value in records.get(key, ()))
        return [value.decode(errors="replace") if utf8 else decoded(value) for value in found]

    date, time = ("".join(texts(key)[:1]) for key in (_DATE, _TIME))
    return Details(
        captured_at=_date(date, time),
        words=labelled(
            ("Title", texts(_TITLE, _HEADLINE)),
            ("Caption", texts(_CAPTION)),
            ("Keywords", texts(_KEYWORD)),
            ("Place", [address(texts(*_PLACES))]),
            ("Author", texts(_AUTHOR)),
        ),
        facts=labelled(("Copyright", texts(_COPYRIGHT))),
    )


def _date(date: str, time: str) -> datetime | None:
    """Parse a date such as 20090506 with a time such as 123000+0200."""
    day = f"{date[:4]}-{date[4:6]}-{date[6:8]}"
    moment = f"{time[:2]}:{time[2:4]}:{time[4:6]}"
    return parsed_date(f"{day} {moment}", time[6:]) or parsed_date(day)


def _datasets(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield records and numbers with their values, up to the first that is damaged."""
    at = 0
    while block[at : at + 1] == b"\x1c" and at + 5 <= len(block):
        _, record, number, size = struct.unpack_from(">BBBH", block, at)
        at += 5
        if size & 0x8000:  # the size of the size
            length = size & 0x7FFF
            size = int.from_bytes(block[at : at + length])
            at += length
        yield (record, number), block[at : at + size]
        at += size
