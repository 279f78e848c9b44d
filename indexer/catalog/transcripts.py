"""What is said in videos: which clip each cue belongs to, and the texts of clips that follow."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from embedder.content import Modality
from embedder.media.kinds import Cue, Track
from indexer.catalog import fulltext, schema
from indexer.catalog.details import unpacked_details


def cues_of_clips(tracks: Iterable[Track], starts: Sequence[float]) -> list[list[Cue]]:
    """Divide cues among clips: each belongs to the clip in which it begins.

    So what is found is heard from the beginning; a cue that goes on in the next clip is not found
    twice. What begins after the last clip belongs to it.

    Args:
        tracks: Of the video.
        starts: Of its clips in seconds, ascending, at least one.

    Returns:
        The cues of clip i, track by track.
    """
    found: list[list[Cue]] = [[] for _ in starts]
    for track in tracks:
        for cue in track.cues:
            found[max(0, bisect_right(starts, cue.start) - 1)].append(cue)
    return found


def text_of(cues: Iterable[Cue]) -> str | None:
    """Return the text of a clip: a line for each cue, each text once; None without any."""
    return "\n".join(dict.fromkeys(cue.text for cue in cues)) or None


def transcribe(connection: Connection, media_id: int) -> bool:
    """Make the texts of a video's clips those of its tracks and of the subtitles beside its files.

    Returns:
        Whether any of them changed.
    """
    segments = schema.segments.c
    clips = select(segments.id, segments.start, segments.text).where(
        segments.media_id == media_id, segments.modality == Modality.VIDEO.value
    )
    rows = connection.execute(clips.order_by(segments.position)).all()
    if not rows:
        return False
    cues = cues_of_clips(_tracks(connection, media_id), [row.start or 0.0 for row in rows])
    changed = [
        {"clip": row.id, "said": text, "searched": fulltext.terms_of(text)}
        for row, said in zip(rows, cues, strict=True)
        if (text := text_of(said)) != row.text
    ]
    if changed:
        values: dict[str, Any] = {"text": bindparam("said"), "terms": bindparam("searched")}
        statement = update(schema.segments).where(segments.id == bindparam("clip"))
        connection.execute(statement.values(values), changed)
    return bool(changed)


def _tracks(connection: Connection, media_id: int) -> list[Track]:
    """Return the tracks of a content, then those beside the files that hold it, oldest first."""
    media, items = schema.media.c, schema.items.c
    own = select(media.details).where(media.id == media_id)
    beside = select(items.sidecar_details).where(items.media_id == media_id).order_by(items.id)
    stored = [*connection.execute(own).scalars(), *connection.execute(beside).scalars()]
    return [track for one in stored if (found := unpacked_details(one)) for track in found.tracks]
