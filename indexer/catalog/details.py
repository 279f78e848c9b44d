"""What is known of a file beside its content: its date, and what people wrote about it.

People wrote captions, keywords, names of people and places: looked up in full text, these find it.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import Connection

from embedder.media.kinds import Cue, Details, Kind, Labelled, Track
from embedder.media.metadata import date_in_name
from embedder.normalisation import folded
from indexer.catalog.fulltext import IDS, MAX_LISTED, Ids, answers, expressions, numbers
from indexer.catalog.names import MAX_NAMED, first_segments
from indexer.catalog.schema import nanoseconds
from indexer.types import Candidate, DateSource, Filters

_CAPTURED_KINDS = frozenset({Kind.IMAGE, Kind.VIDEO, Kind.AUDIO})
"""Their names may say when they were taken; a date in the name of a document is its subject."""


def packed_details(details: Details | None) -> str | None:
    """Return details as they are stored; None if there are none."""
    if details is None or details == Details():
        return None
    place = None if details.latitude is None else (details.latitude, details.longitude)
    captured = details.captured_at and details.captured_at.isoformat()
    values: list[object] = [captured, place, details.words, details.facts]
    if details.tracks:
        values.append(
            [
                (one.name, [(cue.start, cue.end, cue.text) for cue in one.cues])
                for one in details.tracks
            ]
        )
    return json.dumps(values, ensure_ascii=False)


def unpacked_details(data: str | None) -> Details | None:
    """Return the details that `packed_details` stored."""
    if data is None:
        return None
    captured, place, words, facts, *rest = json.loads(data)
    latitude, longitude = place or (None, None)
    return Details(
        captured_at=captured and datetime.fromisoformat(captured),
        latitude=latitude,
        longitude=longitude,
        words=_labelled(words),
        facts=_labelled(facts),
        tracks=tuple(
            Track(name, tuple(Cue(*cue) for cue in cues)) for some in rest for name, cues in some
        ),
    )


def has_tracks(stored: str | None) -> bool:
    """Return whether stored details have tracks."""
    found = unpacked_details(stored)
    return found is not None and bool(found.tracks)


def _labelled(pairs: list[list[str]]) -> Labelled:
    return tuple((label, value) for label, value in pairs)


def packed_sidecars(candidate: Candidate) -> str | None:
    """Return the sidecars of a file as they are stored, to be compared; None if it has none."""
    found = [(one.path.name, one.size, one.mtime_ns) for one in candidate.sidecars]
    return json.dumps(found) if found else None


def all_details(own: Details | None = None, beside: Details | None = None) -> Details:
    """Return what a file says about itself and, where it says nothing, what files beside it say."""
    return (own or Details()).over(beside or Details())


def described(path: Path, mtime_ns: int, kind: Kind | None, details: Details) -> dict[str, Any]:
    """Return the values of an item that follow from what is known about it.

    Its date is when it was captured or written, according to its details, else to its name, else
    when it was modified.

    Args:
        path: The file's.
        mtime_ns: When it was modified, in nanoseconds since 1970.
        kind: Its kind, if known.
        details: From `all_details`.
    """
    source, date = DateSource.METADATA, details.captured_at
    if date is None and kind in _CAPTURED_KINDS:
        source, date = DateSource.FILE_NAME, date_in_name(path.name)
    if date is None:
        source = DateSource.MODIFIED
    return {
        "date_ns": mtime_ns if date is None else _captured_ns(date),
        "date_source": source.value,
        "about_words": folded("\n".join(value for _, value in details.words)) or None,
    }


def _captured_ns(captured: datetime) -> int:
    """Return the wall clock where something was captured as if it had been here.

    A photo of 6 May, half past eleven at night, is of 6 May wherever it was taken. UTC is what is
    stored where that clock is not known, so it is a moment.
    """
    return nanoseconds(captured.replace(tzinfo=None) if captured.utcoffset() else captured)


AboutMatches: TypeAlias = dict[Kind, dict[int, float]]
"""The first segments of files, by kind and the best first, with the share of the terms that was
found in the details: 1 also where the rest is in the name.
"""


def find_about(
    connection: Connection, terms: Sequence[str], filters: Filters, limit: int
) -> AboutMatches:
    """See `Catalog.find_about`."""
    asked = expressions(terms)
    if not asked or limit < 1:
        return {}
    lists = _described_by(connection, asked, every=filters != Filters())
    ids = np.unique(np.concatenate(lists))
    if not ids.size:
        return {}
    share = np.mean([np.isin(ids, some) for some in lists], axis=0)
    shares = dict(zip(ids.tolist(), share.tolist(), strict=True))
    best = ids[np.lexsort((ids, -share))].tolist()
    found: AboutMatches = {}
    for item_id, kind, segment_id in first_segments(connection, best, filters):
        of_kind = found.setdefault(kind, {})
        if len(of_kind) < limit:
            of_kind.setdefault(segment_id, shares[item_id])
    return found


def _described_by(connection: Connection, asked: Sequence[str], *, every: bool) -> list[Ids]:
    """Return for each phrase the files whose details have it; with all of these files in each.

    A phrase that very many have counts only where all phrases are found.

    Args:
        connection: To the library.
        asked: The phrases.
        every: Return every file with all phrases, even if they are very many.
    """
    sql, most = IDS.format("item_about"), -1 if every else MAX_LISTED
    whole = f"{{about_words}} : ({' OR '.join(asked)}) AND ({' AND '.join(asked)})"
    single = ((sql, f"{{about_words}} : {phrase}", MAX_NAMED + 1) for phrase in asked)
    complete, *lists = map(numbers, answers(connection, (sql, whole, most), *single))
    return [np.union1d(one, complete) if len(one) <= MAX_NAMED else complete for one in lists]
