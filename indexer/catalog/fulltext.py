"""Looking up words in texts and in file names, by SQLite's FTS5."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sqlalchemy import (
    Connection,
    Float,
    Select,
    bindparam,
    column,
    literal_column,
    select,
    table,
    text,
)

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
    name = plain_name(name)
    apart = _SEAM.sub(" ", name)
    return name if apart == name else f"{name} {apart}"


def plain_name(name: str) -> str:
    """A name in one of the ways in which Unicode can write it, underscores as spaces."""
    readable = name.encode(errors="replace").decode()
    return unicodedata.normalize("NFC", readable).replace("_", " ")


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
    phrases = _phrases(terms)
    if not phrases or limit < 1 or conditions.excludes(filters, kind):
        return []
    expression = " OR ".join(map(_name_phrase, phrases))
    wanted = [[_tokens(phrase), _tokens(_SEAM.sub(" ", phrase))] for phrase in phrases]
    matches: dict[int, NameMatch] = {}
    for segment_id, name, folder in _names(connection, expression, kind, filters, limit):
        in_name = [_holds(_tokens(name), spellings) for spellings in wanted]
        in_folder = [_holds(_tokens(folder), spellings) for spellings in wanted]
        found = sum(map(max, in_name, in_folder))
        matches.setdefault(segment_id, NameMatch(segment_id, all(in_name), found / len(phrases)))
    return sorted(matches.values(), key=lambda match: (not match.in_name, -match.share))


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


def _holds(tokens: list[str], spellings: list[list[str]]) -> bool:
    """Whether tokens of a name have those of a phrase, one after the other, in any spelling."""
    return any(
        tokens[start : start + len(wanted)] == wanted
        for wanted in spellings
        for start in range(len(tokens) - len(wanted) + 1)
    )


def _tokens(name: str) -> list[str]:
    """The words of a name as FTS5's unicode61 tells them apart: folded, without diacritics."""
    plain = unicodedata.normalize("NFKD", name.replace("_", " ")).casefold()
    return re.findall(r"\w+", "".join(c for c in plain if not unicodedata.combining(c)))


def _texts(
    connection: Connection, expression: str, kind: Kind, filters: Filters, limit: int
) -> dict[int, float]:
    """Score by segment, best first."""
    given = {"expression": expression, "kind": kind.value, "most": limit}
    rows = connection.execute(_texts_query(filters), given)
    return {segment_id: float(value) for segment_id, value in rows}


def _names(
    connection: Connection, expression: str, kind: Kind, filters: Filters, limit: int
) -> list[tuple[int, str, str]]:
    """First segment, name and folders of each match, best first; the name counts most."""
    given = {"expression": expression, "kind": kind.value, "most": limit}
    rows = connection.execute(_names_query(filters), given)
    return [(segment_id, name, folder) for segment_id, name, folder in rows]


@lru_cache(maxsize=64)  # Putting a statement together takes longer than SQLite takes to answer it.
def _texts_query(filters: Filters) -> Select[int, float]:
    segments = schema.segments.c
    texts = table("segment_texts", column("rowid"))
    score = literal_column("-bm25(segment_texts)", Float).label("score")
    query = (
        select(segments.id, score)
        .select_from(texts.join(schema.segments, segments.id == texts.c.rowid))
        .where(text("segment_texts MATCH :expression"))
        .where(segments.kind == bindparam("kind"))
        .order_by(score.desc(), segments.id)
        .limit(bindparam("most"))
    )
    if conditions.restricts_files(filters):
        query = query.where(segments.media_id.in_(conditions.media_of(filters)))
    return query


@lru_cache(maxsize=64)
def _names_query(filters: Filters) -> Select[int, str, str]:
    items, segments = schema.items.c, schema.segments.c
    names = table("item_names", column("rowid"))
    return (
        select(segments.id, items.name_words, items.folder_words)
        .select_from(
            names.join(schema.items, items.id == names.c.rowid).join(
                schema.segments, (segments.media_id == items.media_id) & (segments.position == 0)
            )
        )
        .where(text("item_names MATCH :expression"))
        .where(segments.kind == bindparam("kind"), conditions.of_items(filters))
        .order_by(literal_column("bm25(item_names, 4.0, 1.0)"), items.id)
        .limit(bindparam("most"))
    )
