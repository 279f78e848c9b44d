"""Looking up words in texts and in file names, by SQLite's FTS5."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Float, bindparam, column, literal_column, select, table, text

from embedder.media.kind import Kind
from indexer import schema
from indexer.catalog import filters as conditions
from indexer.entities import Filters, NameMatch, WordMatch

_MOST_TERMS = 64

# Where a name goes over from one word to the next without a separator: "IMG2041", "beachParty".
_SEAM = re.compile(
    r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-zà-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])"
    r"|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ])"
)


def name_words(name: str) -> str:
    """What is searched of a name: itself, and its words apart where they are written together."""
    name = unicodedata.normalize("NFC", name.encode(errors="replace").decode()).replace("_", " ")
    apart = _SEAM.sub(" ", name)
    return name if apart == name else f"{name} {apart}"


def folder_words(folder: Path) -> str:
    """What is searched of a folder's path."""
    return " ".join(name_words(part) for part in folder.parts[1:])


def find_words(
    connection: Connection, terms: Sequence[str], kind: Kind, filters: Filters, limit: int
) -> list[WordMatch]:
    """See `Catalog.find_words`."""
    phrases = _phrases(terms)
    if not phrases or limit < 1 or conditions.excludes(filters, kind):
        return []
    found = _texts(connection, " AND ".join(phrases), kind, filters, limit)
    matches = [WordMatch(segment_id, score, True) for segment_id, score in found.items()]
    if len(phrases) > 1 and len(matches) < limit:
        some = _texts(connection, " OR ".join(phrases), kind, filters, limit)
        matches += [
            WordMatch(segment_id, score, False)
            for segment_id, score in some.items()
            if segment_id not in found
        ]
    return matches[:limit]


def find_names(
    connection: Connection, terms: Sequence[str], kind: Kind, filters: Filters, limit: int
) -> list[NameMatch]:
    """See `Catalog.find_names`."""
    phrases = [_name_phrase(phrase) for phrase in _phrases(terms)]
    if not phrases or limit < 1 or conditions.excludes(filters, kind):
        return []
    every = f"name_words : ({' AND '.join(phrases)})"
    matches = {
        segment_id: NameMatch(segment_id, in_name=True, share=1.0)
        for segment_id, _ in _names(connection, every, kind, filters, limit)
    }
    if len(matches) < limit:
        some = _names(connection, " OR ".join(phrases), kind, filters, limit)
        shares = _shares(connection, phrases, [item_id for _, item_id in some])
        partial = [
            NameMatch(segment_id, in_name=False, share=shares[item_id])
            for segment_id, item_id in some
        ]
        for match in sorted(partial, key=lambda match: -match.share):
            matches.setdefault(match.segment_id, match)
    return list(matches.values())[:limit]


def _phrases(terms: Sequence[str]) -> list[str]:
    """Terms as FTS5 strings, in which nothing has a meaning; those without a word are left out."""
    quoted: dict[str, None] = {}
    for term in terms:
        plain = term.encode(errors="ignore").decode().replace("\0", " ")
        if any(character.isalnum() for character in plain):
            quoted['"' + plain.replace('"', '""') + '"'] = None
    return list(quoted)[:_MOST_TERMS]


def _name_phrase(phrase: str) -> str:
    """A phrase as it may be written in a name: together or apart."""
    apart = _SEAM.sub(" ", phrase)
    return phrase if apart == phrase else f"({phrase} OR {apart})"


def _texts(
    connection: Connection, expression: str, kind: Kind, filters: Filters, limit: int
) -> dict[int, float]:
    """Score by segment, best first."""
    segments = schema.segments.c
    texts = table("segment_texts", column("rowid"))
    score = literal_column("-bm25(segment_texts)", Float).label("score")
    query = (
        select(segments.id, score)
        .select_from(texts.join(schema.segments, segments.id == texts.c.rowid))
        .where(text("segment_texts MATCH :expression"))
        .where(segments.kind == kind.value, segments.media_id.in_(conditions.media_of(filters)))
        .order_by(score.desc(), segments.id)
        .limit(bindparam("most"))
    )
    rows = connection.execute(query, {"expression": expression, "most": limit})
    return {segment_id: float(value) for segment_id, value in rows}


def _names(
    connection: Connection, expression: str, kind: Kind, filters: Filters, limit: int
) -> list[tuple[int, int]]:
    """First segment and item of each match, best first; a match in the name counts most."""
    items, segments = schema.items.c, schema.segments.c
    names = table("item_names", column("rowid"))
    query = (
        select(segments.id, items.id)
        .select_from(
            names.join(schema.items, items.id == names.c.rowid).join(
                schema.segments, (segments.media_id == items.media_id) & (segments.position == 0)
            )
        )
        .where(text("item_names MATCH :expression"))
        .where(segments.kind == kind.value, conditions.of_items(filters))
        .order_by(literal_column("bm25(item_names, 4.0, 1.0)"), items.id)
        .limit(bindparam("most"))
    )
    rows = connection.execute(query, {"expression": expression, "most": limit})
    return [(segment_id, item_id) for segment_id, item_id in rows]


def _shares(
    connection: Connection, phrases: Sequence[str], item_ids: Sequence[int]
) -> dict[int, float]:
    """By item, the part of the phrases that its name and folders have."""
    names = table("item_names", column("rowid"))
    query = select(names.c.rowid).where(
        text("item_names MATCH :expression"),
        names.c.rowid.in_(bindparam("ids", expanding=True)),
    )
    counts = dict.fromkeys(item_ids, 0)
    for phrase in phrases:
        found = connection.execute(query, {"expression": phrase, "ids": list(item_ids)})
        for item_id in found.scalars():
            counts[item_id] += 1
    return {item_id: count / len(phrases) for item_id, count in counts.items()}
