"""`python -m indexer.ask`: answers a question by quotations from the files of a library."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

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
from indexer.search.__main__ import add_filters, filters_of

if TYPE_CHECKING:
    from indexer.answers.sources import Piece, Source

_PROGRAM = "rzen-ask"
_UNANSWERED = 3


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = CommandParser(
        prog=_PROGRAM,
        description="Answer a question by sentences that are quoted from the files of a library, "
        "with their sources.",
    )
    parser.add_argument("question", metavar="QUESTION", help='what to answer; "-" reads it')
    add_filters(parser)
    add_options(parser, "--library", "--device", "--dtype", "--json")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 2, or 3 if nothing answers."""
    given = parser().parse_args(arguments)
    prepare_output()
    question = sys.stdin.read() if given.question == "-" else given.question
    from embedder.interface import EmbedderError
    from indexer.answers.extractive import ExtractiveAnswerer
    from indexer.answers.sources import NO_ANSWER, find_sources
    from indexer.errors import IndexerError
    from indexer.library import Library

    try:
        directory = given.library or default_library()
        with Library.open(directory, create=False, **placement(given)) as library:
            sources = find_sources(library, question, filters_of(given, library))
            pieces = list(ExtractiveAnswerer(library.embedder).answer(question, sources))
    except (IndexerError, EmbedderError) as error:
        return refuse(_PROGRAM, error)
    if pieces or given.json:
        answer = _object(pieces, sources) if given.json else None
        print_result(answer, _lines(pieces, sources), as_json=given.json, ensure_ascii=False)
    else:
        note(NO_ANSWER)
    return 0 if pieces else _UNANSWERED


def _lines(pieces: Sequence["Piece"], sources: Sequence["Source"]) -> Iterator[str]:
    """Yield quotations in their context, then the sources that they are from."""
    quotes = [piece for piece in pieces if piece.text]
    if quotes:
        yield "From your files:"
    for piece in quotes:
        yield f'  "{piece.text}" {_marks(piece)}'
        if context := " … ".join(filter(None, (piece.before, piece.after))):
            yield f"      beside it: {context}"
    cited = _cited(pieces, sources)
    if pieces:
        yield "Sources:"
    for source in cited:
        path, place = source.hit.item.path, source.hit.segment.place_in(source.hit.item.path)
        yield f"  [{source.number}] {f'{path}, {place}' if place else path}"


def _object(pieces: Sequence["Piece"], sources: Sequence["Source"]) -> dict[str, Any]:
    quotes: dict[int, str] = {}
    for piece in pieces:
        for number in piece.cites:
            quotes.setdefault(number, piece.text)
    return {
        "answer": "\n".join(f"{piece.text} {_marks(piece)}" for piece in pieces if piece.text),
        "extractive": True,
        "sources": [
            {
                "n": source.number,
                "path": str(source.hit.item.path),
                "kind": source.hit.segment.kind.value,
                "page": source.hit.segment.page,
                "start": source.hit.segment.start,
                "end": source.hit.segment.end,
                "quote": quotes[source.number],
            }
            for source in _cited(pieces, sources)
        ],
        "complete": True,
    }


def _cited(pieces: Sequence["Piece"], sources: Sequence["Source"]) -> "list[Source]":
    numbers = {number for piece in pieces for number in piece.cites}
    return [source for source in sources if source.number in numbers]


def _marks(piece: "Piece") -> str:
    return "".join(f"[{number}]" for number in piece.cites)


if __name__ == "__main__":
    sys.exit(main())
