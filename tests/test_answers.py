"""Questions answered by quotations: sources, sentences, and the command."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer import Library
from indexer.answers.extractive import MAX_QUOTES, ExtractiveAnswerer, sentences_in
from indexer.answers.sources import MAX_SOURCES, Piece, find_sources
from indexer.errors import QueryError
from tests import programs

MEDIA = Path(__file__).parent.parent / "samples/media"
NOTES = MEDIA / "notes"
DOG = MEDIA / "photos/animals/IMG_0102.jpg"
TRAIN = "When did the night train leave?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the sample notes, a photo, and short notes that fill all sources."""
    base = tmp_path_factory.mktemp("answers")
    for number in range(MAX_SOURCES + 4):
        note = f"The red kite number {number} flew over the dunes. It came down at noon."
        (base / f"kite-{number}.txt").write_text(note)
    with Library.open(base / "library") as library:
        library.ingest([NOTES, DOG, *base.glob("kite-*.txt")])
    return base / "library"


@pytest.fixture(scope="module")
def library(folder: Path) -> Iterator[Library]:
    with Library.open(folder, create=False) as opened:
        yield opened


def answer(library: Library, question: str, **options: threading.Event) -> list[Piece]:
    sources = find_sources(library, question)
    return list(ExtractiveAnswerer(library.embedder).answer(question, sources, **options))


def test_best_sentence_is_quoted_with_its_context(library: Library) -> None:
    first, *_ = answer(library, TRAIN)
    assert first.text.startswith("The night train left at ten past nine, an hour late")
    assert first.after == "They gave me three."
    sources = {source.number: source for source in find_sources(library, TRAIN)}
    (cited,) = first.cites
    assert first.text in " ".join(sources[cited].text.split())
    assert sources[cited].hit.item.name == "night-train.txt"


@pytest.mark.parametrize("question", ["Who is the president of France?", "What costs a bitcoin?"])
def test_question_without_an_answer_has_none(library: Library, question: str) -> None:
    assert answer(library, question) == []


def test_sources_are_strong_few_numbered_and_of_several_files(library: Library) -> None:
    sources = find_sources(library, "the red kite over the dunes")
    assert [source.number for source in sources] == list(range(1, MAX_SOURCES + 1))
    assert not any(source.hit.weak for source in sources)
    assert len({source.hit.item.id for source in sources}) == MAX_SOURCES


def test_few_sentences_are_quoted_and_none_twice(library: Library) -> None:
    quotes = [piece.text for piece in answer(library, "the red kite over the dunes")]
    assert len(quotes) == len(set(quotes)) == MAX_QUOTES


def test_picture_is_evidence_without_a_quotation(folder: Path) -> None:
    done = programs.run("indexer.ask", "a dog", "--library", folder, "--kind", "image", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["answer"]) == (0, "")
    assert [(one["path"], one["quote"]) for one in found["sources"]] == [(str(DOG), "")]


def test_filters_restrict_the_sources(folder: Path) -> None:
    done = programs.run("indexer.ask", TRAIN, "--library", folder, "--kind", "image", "--json")
    assert (done.returncode, json.loads(done.stdout)["sources"]) == (3, [])


def test_answer_can_be_cancelled(library: Library) -> None:
    cancel = threading.Event()
    cancel.set()
    assert answer(library, TRAIN, cancel=cancel) == []


def test_blank_question_is_refused(library: Library) -> None:
    with pytest.raises(QueryError, match="empty"):
        find_sources(library, "  ")


def test_sentences_keep_their_quotes_and_long_tables_are_divided_at_lines() -> None:
    assert sentences_in('He said "Go." Then\nhe left. \u96e8\u3002\u96ea\u3002') == [
        'He said "Go."',
        "Then he left.",
        "\u96e8\u3002",
        "\u96ea\u3002",
    ]
    rows = [f"plant {number}, water, light, note" for number in range(20)]
    assert sentences_in("\n".join(rows)) == rows


def test_command_prints_quotations_and_their_sources(folder: Path) -> None:
    done = programs.run("indexer.ask", TRAIN, "--library", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('From your files:\n  "The night train left at ten past nine')
    assert str(NOTES / "night-train.txt") in done.stdout.partition("Sources:\n")[2]


def test_command_prints_json(folder: Path) -> None:
    done = programs.run("indexer.ask", TRAIN, "--library", folder, "--kind", "text", "--json")
    found = json.loads(done.stdout)
    assert found.keys() == {"answer", "extractive", "sources", "complete"}
    assert found["extractive"] is found["complete"] is True
    (source,) = found["sources"]
    assert source.keys() == {"n", "path", "kind", "page", "start", "end", "quote"}
    assert f"{source['quote']} [{source['n']}]" in found["answer"]


def test_command_says_that_nothing_answers(folder: Path) -> None:
    done = programs.run("indexer.ask", "What costs a bitcoin?", "--library", folder)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Nothing in the library answers this.\n"


@pytest.mark.parametrize("wrong", [["--kind", "poem"], ["--library", "/none"]])
def test_impossible_request_is_refused(folder: Path, wrong: list[str]) -> None:
    done = programs.run("indexer.ask", TRAIN, "--library", folder, *wrong)
    assert done.returncode == 2
    assert done.stderr.startswith("rzen-ask: ")
