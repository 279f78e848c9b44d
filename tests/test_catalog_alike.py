"""Pictures that look nearly alike: of a burst, resized, RAW and JPEG; and those that are not."""

from dataclasses import replace
from pathlib import Path

import pytest

from indexer import DateSource, MediaItem, Status
from indexer.catalog.alike import leaders
from indexer.catalog.listing import Look
from indexer.types import Kind

SECOND = 10**9
GREY, BRIGHTER, RED = bytes([90] * 48), bytes([120] * 48), bytes([200, 20, 20] * 16)


def picture(path="/photos/a.jpg", seconds=0, bits=0, tint=GREY):
    item = MediaItem(
        id=1, path=Path(path), content_hash=path, size=1, mtime_ns=0, kind=Kind.IMAGE,
        status=Status.INDEXED, error=None, added_at=None, date_ns=seconds * SECOND,
        date_source=DateSource.METADATA,
    )  # fmt: skip
    return item, Look(bits, tint)


FIRST = picture()


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (picture("/sent/a small.jpg", seconds=9_999_999, bits=0b111), True),
        (picture("/sent/a small.jpg", seconds=9_999_999, bits=0b1111), False),
        (picture("/sent/a small.jpg", seconds=9_999_999, tint=BRIGHTER), False),
        (picture("/photos/b.jpg", seconds=59, bits=0xFFF, tint=BRIGHTER), True),
        (picture("/photos/b.jpg", seconds=61, bits=0xFFF, tint=BRIGHTER), False),
        (picture("/photos/b.jpg", seconds=59, bits=0x1FFF), False),
        (picture("/photos/b.jpg", seconds=59, tint=RED), False),
        (picture("/other/b.jpg", seconds=59, bits=0xFFF), False),
        (picture("/photos/a.cr2", seconds=1, bits=0xFFFF_FFFF, tint=RED), True),
        (picture("/photos/a.png", seconds=3600, bits=0xFFFF_FFFF, tint=RED), False),
    ],
)
def test_what_is_nearly_alike(other, expected):
    assert leaders([FIRST, other]) == [0, 0 if expected else 1]
    assert leaders([other, FIRST]) == [0, 0 if expected else 1]


def test_all_look_like_the_one_that_stands_for_them():
    burst = [picture(f"/photos/{n}.jpg", seconds=n, bits=(1 << 8 * n) - 1) for n in range(4)]
    assert leaders(burst) == [0, 0, 2, 2], "not like the first, though each is like the one before"
    assert leaders(burst[:3]) == leaders(burst)[:3]
    assert leaders([]) == []


def test_dates_beyond_all_clocks():
    ends = [replace(FIRST[0], date_ns=end) for end in (2**63 - 1, -(2**63))]
    assert leaders([(item, Look(0xFF, GREY)) for item in ends] + [FIRST]) == [0, 0, 2]
