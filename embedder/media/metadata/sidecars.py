"""Files that describe the file beside them: XMP, JSON as of Google Takeout, subtitles."""

import html
import json
import os
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from embedder.media.kinds import Details, open_media
from embedder.media.metadata.values import labelled, place, plausible, written_date
from embedder.media.metadata.xmp import MAX_PACKET_BYTES, xmp_details
from embedder.media.subtitles import SUFFIXES as SUBTITLES
from embedder.media.subtitles import read_subtitles

_XMP, _JSON = ".xmp", ".json"
_ENDINGS = (_XMP, _JSON, *sorted(SUBTITLES))
_SUPPLEMENT = "supplemental-metadata"
_MIN_SHORTENED = 40  # Takeout shortens names to 46 characters, or bytes, and adds .json
_ANY_NUMBER = re.compile(r"\(\d+\)")
_NUMBER = re.compile(r"\(\d+\)$")
# What Google Photos appends to names of edited copies, in the languages of its users.
_EDITED = re.compile(
    r"-(?:edited|effects|smile|mix|collage|animation|edytowane|bearbeitet|bewerkt|modifi\u00e9"
    r"|modificato|editado|editat|ha editado|redigerad|redigert|muokattu|\u7de8\u96c6\u6e08\u307f)"
    r"(?=(?:\(\d+\))?$)"
)
_CLIPS = (".mp4", ".mov", ".mp")


def sidecars_in(
    names: Collection[str], subtitled: tuple[str, ...] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the files of a folder that have sidecars, each with its sidecars, XMP first.

    Args:
        names: Of all files in the folder.
        subtitled: Endings of the files that may have subtitles, in lower case.
    """
    found = defaultdict[str, list[str]](list)
    sidecars = [name for name in names if name.lower().endswith(_ENDINGS)]
    if sidecars:
        folder = _Folder(names)
        for name in sorted(sidecars, key=lambda name: (not name.lower().endswith(_XMP), name)):
            for owner in folder.owners(name, subtitled):
                found[owner].append(name)
    return {owner: tuple(beside) for owner, beside in found.items()}


def sidecar_details(paths: Iterable[Path]) -> Details:
    """Return what sidecars say about their file, the first before the next.

    One that cannot be read, or is none, says nothing.

    Raises:
        MediaError: of subtitles that cannot be read; it says why.
    """
    details = Details()
    for path in paths:
        if path.suffix.lower() in SUBTITLES:
            details = details.over(Details(tracks=(read_subtitles(path),)))
            continue
        try:
            with open_media(path) as file:
                data = file.read(MAX_PACKET_BYTES + 1)
            if path.suffix.lower() == _XMP:
                said, made = xmp_details(data)
                details = details.over(said).over(Details(captured_at=made))
            else:  # one that is cut off is no JSON
                fields = json.loads(data)
                details = details.over(_takeout_details(fields))
                if "photoTakenTime" not in fields:  # whose title is the name of the file
                    details = details.over(_written_details(fields))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, ArithmeticError):
            continue
    return details


class _Folder:
    """The names in a folder, found by name, by stem and by beginning, whatever their case."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, str] = {}
        self._of_stem = defaultdict[str, list[str]](list)
        for name in names:
            key = _key(name)
            if not key.endswith((_XMP, _JSON)):
                self._names[key] = name
                self._of_stem[_unedited(key.rpartition(".")[0])].append(name)
        self._sorted = sorted(self._names)

    def owners(self, sidecar: str, subtitled: tuple[str, ...]) -> list[str]:
        """Return the names of the files that a sidecar describes."""
        base, _, suffix = _key(sidecar).rpartition(".")
        if f".{suffix}" == _XMP:
            exact = self._names.get(base)
            return [exact] if exact else self._of_stem.get(base, [])
        if f".{suffix}" in SUBTITLES:
            return self._subtitled(base, subtitled)
        owner = self._names.get(base) or self._described(base)
        return [owner, *self._companions(owner)] if owner else []

    def _subtitled(self, base: str, endings: tuple[str, ...]) -> list[str]:
        """Return the files that subtitles are of, by the name of these without .srt.

        trip.en.sdh is of trip.mp4, unless there is a trip.en.mp4.
        """
        while base:
            alike = [self._names.get(base, ""), *self._of_stem.get(_unedited(base), ())]
            found = [
                name
                for name in alike
                if _key(name).endswith(endings) and base in (_key(name), _stem(name))
            ]
            if found:
                return found
            base = base.rpartition(".")[0]
        return []

    def _described(self, base: str) -> str | None:
        """Return the file that a JSON describes, by its name without .json.

        IMG_1.jpg.supplemental-metadata(1) describes IMG_1(1).jpg, as IMG_1.jpg.supp(1) does.
        """
        found = _NUMBER.search(base)
        number = found[0] if found else ""
        plain = base.removesuffix(number)
        name, _, ending = plain.rpartition(".")
        is_supplement = bool(name) and _SUPPLEMENT.startswith(ending)
        if is_supplement:
            plain = name
        stem, suffix = os.path.splitext(plain)
        owner = self._names.get(f"{stem}{number}{suffix}")
        if owner is None and is_supplement:  # photos that were uploaded without an ending
            owner = next(iter(self._of_stem.get(plain + number, ())), None)
        return owner or self._shortened(plain, number)

    def _shortened(self, beginning: str, number: str) -> str | None:
        """Return the first name that begins like this, if it is as long as shortened names are."""
        if len(beginning) >= _MIN_SHORTENED:
            for key in islice(self._sorted, bisect_left(self._sorted, beginning), None):
                if not key.startswith(beginning):
                    break
                if number == "".join(_ANY_NUMBER.findall(key, len(beginning))[-1:]):
                    return self._names[key]
        return None

    def _companions(self, owner: str) -> Iterator[str]:
        """Yield edited copies, and the clip of a live photo, which have no JSON of their own."""
        stem, _, suffix = _key(owner).rpartition(".")
        for name in self._of_stem.get(stem, ()):
            other, _, ending = _key(name).rpartition(".")
            edited = other != stem and ending == suffix
            if edited or (other == stem and ending != suffix and f".{ending}" in _CLIPS):
                yield name


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return _key(name).rpartition(".")[0]


def _unedited(stem: str) -> str:
    """Return the stem of the original: of IMG_1-edited(2), it is IMG_1(2)."""
    return _EDITED.sub("", stem)


def _takeout_details(fields: Any) -> Details:
    """Return what the JSON of Google Takeout says about a photo or video."""
    located = _place(fields.get("geoData")) or _place(fields.get("geoDataExif"))
    people = fields.get("people") or []
    return Details(
        captured_at=_moment(fields.get("photoTakenTime")),
        latitude=located and located[0],
        longitude=located and located[1],
        words=labelled(
            ("Caption", [html.unescape(fields.get("description") or "")]),
            ("People", [person.get("name") or "" for person in people]),
        ),
    )


def _written_details(fields: Any) -> Details:
    """Return what the JSON of a program that downloads pictures says, by the usual names."""

    def texts(name: str) -> list[str]:
        values = fields.get(name) or []
        values = values if isinstance(values, list) else [values]
        return [value for value in values if isinstance(value, str)]

    return Details(
        captured_at=next(filter(None, map(written_date, texts("date"))), None),
        words=labelled(
            ("Title", texts("title")),
            ("Caption", [*texts("description"), *texts("caption")]),
            ("Keywords", [*texts("tags"), *texts("keywords")]),
            ("Author", [*texts("author"), *texts("artist")]),
        ),
    )


def _moment(fields: Any) -> datetime | None:
    try:
        return plausible(datetime.fromtimestamp(int(fields["timestamp"]), UTC))
    except (LookupError, TypeError, ValueError, OverflowError, OSError):
        return None


def _place(fields: Any) -> tuple[float, float] | None:
    try:
        return place(float(fields["latitude"]), float(fields["longitude"]))
    except (LookupError, TypeError, ValueError):
        return None
