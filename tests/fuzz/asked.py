"""Targets for queries: words, dates, flags, and full-text search in texts and names."""

import contextlib
import io
from collections.abc import Iterator
from functools import cache

import numpy as np
from sqlalchemy import Connection, insert

from embedder.media import Kind
from embedder.normalisation import folded
from embedder.normalisation import words as words_of
from indexer.catalog import fulltext, schema
from indexer.catalog.names import find_names, name_words, plain_name
from indexer.catalog.sqlite import Database
from indexer.errors import IndexerError, QueryError
from indexer.search import __main__
from indexer.search.filters import parse_date
from indexer.search.query import MAX_TERMS, terms
from indexer.types import Filters

from . import world

WORDS = [
    'A photo of "New York" at night',
    '"a" "b',
    "çà ﬁ İstanbul ß 東京 x_y",
    "photosyn-\nthesis हिन्दी กรุงเทพ 영수증 “ﻓﺎﺗﻮﺭﺓ”",
    '"" "-" ""',
    "a " * 40,
    " ".join(map(str, range(MAX_TERMS))),
    " ".join(map(str, range(MAX_TERMS + 1))),
]
DATES = ["2026-03-31", "2026-03-31T12:00+02:00", "20260331T120000Z", "0001-01-01", "9999-12-31"]
FLAGS = [
    "a dog\n--not\ngrass\n--kind\nimage,video\n--weight\nnot=0.5,image=nan",
    "--pdf\nnowhere.pdf:3\n--after\n2026-01-01\n--limit\n5",
    f"--pdf\n{'a' * 300}:1",
    f"--pdf\na.pdf:{'9' * 5000}",
    "--image\nred.png\n--weight\nimage=1e999",
    "x\n--limit\n-1\n--offset\n99999999999999999999",
]
MATCHES = [
    "zebra crossing",
    'AND\nOR\nNOT\nNEAR(a b)\ntext:zebra\nzebra*\n^zebra\nzebra + x\n"zebra""',
    "naïve Ångström ﬁsh ß İ ǅ\n東京都\ne\u0301 \u200d x",
    "\ue000 zebra\n𞤀 zebra\n① ½ ²",
    " ".join(map(str, range(MAX_TERMS + 1))),
]
NAMES = [
    "IMG_2041-beachParty",
    "XMLFile2x",
    "Ärger.Über",
    "e\u0301te\u0301 n\u0303",
    "ǅ𞤀①ﬁ",
    "a" * 300,
    "-".join(map(str, range(MAX_TERMS + 1))),
]

_OWN = 1
_DECOYS = {2: "zebra", 3: "zebrafish"}


def words(data: bytes) -> None:
    """A text's terms are its words, each once, and quoting them gives the same terms."""
    text = world.text_of(data)
    found = terms(text)
    assert len(found) <= MAX_TERMS
    assert len(set(found)) == len(found)
    all_words = words_of(text)
    assert found or not all_words or len(all_words) > MAX_TERMS
    for term in found:
        assert term
        assert f" {term} " in f" {' '.join(all_words)} "
    assert terms(" ".join(f'"{term}"' for term in found)) == found


def dates(data: bytes) -> None:
    """A date can be compared with any other and searched for, or is refused."""
    try:
        found = parse_date(world.text_of(data))
    except QueryError as error:
        assert "2026-03-31" in str(error)
        return
    assert found.tzinfo is not None
    with _tables() as connection:
        for filters in (Filters(after=found), Filters(before=found)):
            find_names(connection, ["zebra"], filters, 5)


def flags(data: bytes) -> None:
    """A command line is answered, or refused in a sentence."""
    # No argument leaves the empty folder; a single minus would read standard input.
    given = world.text_of(data).replace("/", "|").replace("\0", "").split("\n")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parsed = __main__.parser().parse_args([one for one in given if one != "-"])
        except SystemExit:
            return
        if parsed.text == "-":
            return
    try:
        with contextlib.chdir(world.folder("media")):
            query = __main__._query(parsed, world.library())
            world.library().search(query)
    except IndexerError as error:
        assert str(error)


def matches(data: bytes) -> None:
    """A text matches its own terms; other texts match only by words they contain."""
    text = world.text_of(data)
    stored = text.encode(errors="replace").decode()
    lines = text.split("\n")
    joined = folded(text).split() != [word for line in lines for word in folded(line).split()]
    for asked in (terms(text), lines):
        with _tables() as connection:
            _add(connection, _OWN, stored, "plain")
            found = fulltext.find_words(connection, asked)
            apart = fulltext.with_every_word(connection, asked, np.arange(_OWN + 10))
        whole = set(found.ids[found.every].tolist())
        assert whole == set(apart.tolist()), asked
        if words_of(text) and 0 < len(asked) <= 64 and not (joined and asked is lines):
            assert _OWN in whole, asked
        for number, decoy in _DECOYS.items():
            if number in found.ids:
                assert decoy in folded(text), (decoy, asked)


def names(data: bytes) -> None:
    """A file is found by the words of its name, and reported as found by its name."""
    name = world.text_of(data)
    stored = name_words(name)
    stored.encode()
    asked = terms(plain_name(name))
    with _tables() as connection:
        _add(connection, _OWN, "", stored)
        found = find_names(connection, asked, Filters(), 10).get(Kind.TEXT, [])
        shares = [match.share for match in found]
        assert all(0 < share <= 1 for share in shares), shares
        if asked:
            own = [match for match in found if match.segment_id == _OWN]
            assert own, asked
            assert own[0].in_name, asked
            assert own[0].share == 1


@cache
def _open() -> Connection:
    """Return a connection to the tables of a library that holds the decoys."""
    database = Database(world.folder("words") / "library.sqlite3")
    with database.writing() as connection:
        for number, text in _DECOYS.items():
            _add(connection, number, text, text)
    return database._writing.connect()


@contextlib.contextmanager
def _tables() -> Iterator[Connection]:
    """Begin a transaction on them that is rolled back."""
    connection = _open()
    with contextlib.closing(connection.begin()):
        yield connection


def _add(connection: Connection, number: int, text: str, name: str) -> None:
    """Insert a file and its only segment, both with this id."""
    kind = Kind.TEXT.value
    connection.execute(
        insert(schema.media),
        {"id": number, "content_hash": f"{number}", "kind": kind, "generation": 1},
    )
    connection.execute(insert(schema.folders), {"id": number, "path": f"/{number}", "files": 1})
    connection.execute(
        insert(schema.items),
        {"id": number, "path": f"/{number}/a", "folder_id": number, "name_words": name}
        | {
            "folder_words": "",
            "size": 1,
            "mtime_ns": 1,
            "date_ns": 1,
            "media_id": number,
            "kind": kind,
        }
        | {"status": "indexed", "error": None, "added_us": 1, "date_source": "modified"},
    )
    segment = {"id": number, "media_id": number, "position": 0, "kind": kind, "text": text}
    segment["terms"] = fulltext.terms_of(text)
    connection.execute(insert(schema.segments), segment | {"modality": "text", "generation": 1})
