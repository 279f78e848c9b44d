"""`python -m indexer.search`: finds things in a library by words, pictures, videos and pages."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedder.content import Modality
from embedder.media import MEDIA_KINDS, Kind
from indexer.cli import (
    CommandParser,
    add_options,
    note,
    placement,
    prepare_output,
    print_result,
    refuse,
)
from indexer.config import default_library
from indexer.types import Filters, Hit, Query, QueryPart, Sort

if TYPE_CHECKING:
    from indexer.library import Library


_PROGRAM = "rzen-search"
_PAGE_DIGITS = 9
_FILE_KINDS = tuple(record for record in MEDIA_KINDS.values() if record.has_picture)
_PARTS = ("text", *(str(record.kind) for record in _FILE_KINDS), "not")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = CommandParser(
        prog=_PROGRAM,
        description="Find pictures, video clips, PDF pages and texts in a library. The words and "
        "the files of a query are used together.",
    )
    parser.add_argument(
        "text",
        nargs="?",
        help='search for these words, "in this order" if quoted, and leave out what has a -word; '
        '"-" reads them',
    )
    for record in _FILE_KINDS:
        paged = record.modality is Modality.PAGE
        parser.add_argument(
            f"--{record.kind}",
            metavar="FILE[:PAGE]" if paged else "FILE",
            action="append",
            default=[],
            help=f"search for what is like this {'page of a ' if paged else ''}{record.noun}",
        )
    parser.add_argument(
        "--not",
        metavar="TEXT",
        dest="unlike",
        action="append",
        default=[],
        help="search for what is not like this",
    )
    parser.add_argument(
        "--weight",
        metavar="PART=NUMBER",
        action="append",
        default=[],
        help=f"weigh a part of the query (default: 1): {', '.join(_PARTS)}; negative is unlike",
    )
    add_filters(parser)
    parser.add_argument(
        "--sort",
        choices=[*Sort],
        default=Sort.RELEVANCE,
        help="list strong matches by this, and weaker ones after them (default: relevance)",
    )
    parser.add_argument("--limit", type=int, default=20, help="list this many hits (default: 20)")
    parser.add_argument(
        "--offset", type=int, default=0, help="skip this many hits first (default: 0)"
    )
    parser.add_argument(
        "--instruction",
        metavar="TEXT",
        help="embed the query with this instruction; an empty one is allowed",
    )
    parser.add_argument(
        "--reranker",
        metavar="SPEC",
        help="rerank PDF pages with this model, such as qwen3-vl-reranker; for GPUs",
    )
    add_options(parser, "--library", "--device", "--dtype", "--json")
    return parser


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that restrict what is found."""
    parser.add_argument(
        "--kind", metavar="KIND,…", help=f"find only these kinds: {', '.join(Kind)}"
    )
    parser.add_argument("--folder", type=Path, help="find only files in this folder or below")
    parser.add_argument(
        "--after", metavar="DATE", help="find only files of this day, month or year, or later"
    )
    parser.add_argument(
        "--before", metavar="DATE", help="find only files of this day, month or year, or earlier"
    )
    parser.add_argument(
        "--has-text", action="store_true", help="find only files with words in them"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status, 0 or 2."""
    # A text may begin with a word to leave out; with a space before it, it is no flag.
    given = parser().parse_args(
        [
            f" {one}" if re.match(r"-[^-].*\s", one) else one
            for one in (sys.argv[1:] if arguments is None else arguments)
        ]
    )
    prepare_output()
    if given.text == "-":
        given.text = sys.stdin.read()
    from embedder.interface import EmbedderError
    from embedder.registry import open_reranker
    from indexer.errors import IndexerError
    from indexer.library import Library
    from indexer.search.query import corrections, found_forms, terms, without_excluded
    from indexer.search.reranking import PageReranker

    try:
        directory, opened = given.library or default_library(), placement(given)
        with Library.open(directory, create=False, **opened) as library:
            if given.reranker:
                library.reranker = PageReranker(open_reranker(given.reranker, **opened))
            hits = library.search(_query(given, library))
            typed = without_excluded(given.text or "")[0]
            corrected = corrections(library, typed)
            asked = found_forms(corrected.get(one, one) for one in terms(typed))
            objects = [_object(library, hit, asked) for hit in hits] if given.json else []
    except (IndexerError, EmbedderError) as error:
        return refuse(_PROGRAM, error)
    for word, correction in corrected.items():
        note(f"Nothing has the word {word!r}: looked for {correction!r} instead.")
    if hits or given.json:
        print_result(objects, _table_lines(hits), as_json=given.json, ensure_ascii=False)
    else:
        note("Nothing was found.")
    return 0


def _query(given: argparse.Namespace, library: "Library") -> Query:
    from indexer.errors import QueryError
    from indexer.search.query import file_part, text_part, with_instruction, without_excluded

    weights = _weights(given.weight)
    parts: list[QueryPart] = []
    text, without = without_excluded(given.text or "")
    if given.text is not None and not (without and not text):
        parts.append(text_part(text, weights["text"]))
    for record in _FILE_KINDS:
        for argument in getattr(given, record.kind):
            paged = record.modality is Modality.PAGE
            path, page = _file_page(argument) if paged else (Path(argument), None)
            weight = weights[record.kind]
            parts.append(file_part(path, weight, page, library.limits, record.kind))
    if given.instruction is not None:
        parts = [with_instruction(part, given.instruction) for part in parts]
    parts += [text_part(text, -abs(weights["not"])) for text in given.unlike]
    if not parts:
        raise QueryError(
            "the query is empty: type some words, or give a file with one of "
            f"{', '.join(f'--{record.kind}' for record in _FILE_KINDS)}"
        )
    filters = filters_of(given, library)
    return Query(tuple(parts), filters, given.limit, given.offset, without, Sort(given.sort))


def filters_of(given: argparse.Namespace, library: "Library") -> Filters:
    """Return the filters that the options of `add_filters` give.

    Raises:
        QueryError: a date, a kind or the folder is not understood.
    """
    from indexer.search.filters import find_folder, parse_dates

    after, before = parse_dates(given.after, given.before)
    return Filters(
        kinds=_kinds(given.kind),
        folder=None if given.folder is None else find_folder(library.catalog, given.folder),
        after=after,
        before=before,
        has_text=given.has_text,
    )


def _weights(given: Sequence[str]) -> dict[str, float]:
    from indexer.errors import QueryError

    weights = dict.fromkeys(_PARTS, 1.0)
    for one in ",".join(given).split(",") if given else ():
        name, _, number = one.partition("=")
        try:
            weights[name.strip()], known = float(number), name.strip() in _PARTS
        except ValueError:
            known = False
        if not known:
            raise QueryError(
                f"--weight {one} is not understood: write PART=NUMBER with one of "
                f"{', '.join(_PARTS)}, for instance image=0.5"
            )
    return weights


def _file_page(argument: str) -> tuple[Path, int]:
    """FILE or FILE:PAGE; a file whose name ends in a colon and digits is taken as it is."""
    stem, _, page = argument.rpartition(":")
    if stem and page.isdecimal() and len(page) <= _PAGE_DIGITS and not _exists(Path(argument)):
        return Path(stem), int(page)
    return Path(argument), 1


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # A name that is too long, for one.
        return False


def _kinds(given: str | None) -> frozenset[Kind]:
    from indexer.errors import QueryError

    names = [] if given is None else [name.strip() for name in given.split(",")]
    for name in names:
        if name not in set(Kind):
            raise QueryError(f"{name!r} is not a kind: choose from {', '.join(Kind)}")
    return frozenset(Kind(name) for name in names)


def _object(library: "Library", hit: Hit, asked: Sequence[str]) -> dict[str, Any]:
    from indexer.search.query import boxes_of

    return {
        "rank": hit.rank,
        "score": round(hit.score, 4),
        "relevance": round(hit.relevance, 4),
        "weak": hit.weak,
        "path": str(hit.item.path),
        "reachable": hit.missing is None,
        "date": hit.item.date.replace(tzinfo=None).isoformat(timespec="seconds"),
        "date_source": hit.item.date_source.value,
        "kind": hit.segment.kind.value,
        "page": hit.segment.page,
        "start": hit.segment.start,
        "end": hit.segment.end,
        "segment_id": hit.segment.id,
        "why": [reason.value for reason in hit.why],
        "text": library.catalog.text(hit.segment),
        "words": boxes_of(library, hit, asked),
    }


def _table_lines(hits: Sequence[Hit]) -> Iterator[str]:
    weak = False
    for hit in hits:
        if hit.weak and not weak:
            yield "Weaker matches:" if hit.rank > 1 else "Only weak matches:"
            weak = True
        why = " + ".join(hit.why)
        place = hit.segment.place_in(hit.item.path)
        where = f"{hit.item.path}, {place}" if place else hit.item.path
        if hit.missing is not None:
            where = f"{where}  ({'missing' if hit.missing == hit.item.path else 'not connected'})"
        yield f"{hit.rank:4}  {hit.relevance:4.0%}  {hit.segment.kind:5}  {where}  ({why})"


if __name__ == "__main__":
    sys.exit(main())
