"""Examples hold names and decode when asked; broken rows are skipped, counted, and limited."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from embedder.content import Content, Modality
from embedder.media import Limits, MediaError
from trainer.config import Dataset
from trainer.data.examples import (
    BrokenRow,
    ErrorBudget,
    Example,
    Origin,
    Side,
    Task,
    TooManyBroken,
    existing_file,
)
from trainer.data.loader import BatchLoader, Corpus, PreparedBatch
from trainer.sampling import Batch, Sampler

HERE = Path("some.jsonl")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    import pymupdf

    with pymupdf.open() as document:
        for words in ("the first page", "invoice of March"):
            document.new_page(width=200, height=100).insert_text((20, 50), words)
        document.save(tmp_path / "two.pdf")
    return tmp_path / "two.pdf"


def pair(positive: Side, **options: object) -> Example:
    return Example(Side(text="words"), positive, **options)


def test_the_tasks_are_those_of_the_temperatures() -> None:
    from trainer.losses import TASKS

    assert tuple(Task) == TASKS


def test_a_side_becomes_the_content_that_it_names(picture: Path, pdf: Path) -> None:
    words = Side(text="a cat").content(instruction="Find: ")
    assert (words.text, words.modality, words.instruction) == ("a cat", Modality.TEXT, "Find: ")
    mixed = Side(text="but blue", images=(picture,)).content(Limits(frame_side=30))
    assert (mixed.text, mixed.modality, mixed.frames[0].size) == (
        "but blue",
        Modality.IMAGE,
        (30, 20),
    )
    page = Side(pdf=pdf, page=2).content()
    assert (page.text.strip(), page.modality, len(page.frames)) == (
        *("invoice of March", Modality.PAGE, 1),
    )
    frames = Side(images=(picture, picture)).content()
    assert (frames.modality, len(frames.frames)) == (Modality.VIDEO, 2)
    scan = Side(images=(picture,), modality=Modality.PAGE).content()
    assert scan.modality is Modality.PAGE


def test_a_question_about_a_page_stays_with_its_picture(pdf: Path) -> None:
    asked = Side(text="which month?", pdf=pdf, page=2).content()
    assert (asked.text, asked.modality) == ("which month?", Modality.IMAGE)


def test_nothing_is_decoded_before_the_content_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    side = Side(images=(tmp_path / "broken.png",))
    with pytest.raises(MediaError):
        side.content()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "needs a text"),
        ({"text": " \n"}, "needs a text"),
        ({"images": (HERE,), "video": HERE}, "only one of"),
        ({"pdf": HERE, "page": 0}, "1 or more, not 0"),
        ({"images": (HERE,), "page": 2}, "needs a pdf"),
        ({"images": (HERE, HERE), "modality": Modality.IMAGE}, "2 images cannot be"),
        ({"text": "a", "modality": Modality.PAGE}, "0 images cannot be"),
    ],
)
def test_a_side_that_makes_no_sense_is_refused(fields: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Side(**fields)


def test_sides_are_equal_by_their_words_and_files() -> None:
    assert Side(text="A  Dog\n").key == Side(text="a dog").key
    assert Side(text="a dog").key != Side(text="a cat").key
    assert Side(images=(HERE,)).key == Side(images=(HERE.absolute(),)).key
    assert Side(images=(HERE,)).key != Side(video=HERE).key
    assert Side(images=(HERE,)).key != Side(images=(HERE,), text="but red").key
    assert Side(pdf=HERE, page=1).key != Side(pdf=HERE, page=2).key
    odd = Side(text="half a pair \ud83d", images=(Path(os.fsdecode(b"\xff.jpg")),))
    assert len(odd.key) == 16


def test_a_broken_row_is_named_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    def parse(row: str, origin: Origin) -> list[Example]:
        if row == "bad":
            raise BrokenRow("it is bad")
        return [pair(Side(text=row), origin=origin)]

    errors = ErrorBudget()
    rows = [(1, "a"), (2, "bad"), (4, "b")]
    found = list(errors.usable(HERE, rows, parse))
    assert [str(example.origin) for example in found] == ["some.jsonl:1", "some.jsonl:4"]
    assert (errors.used, errors.broken) == (2, 1)
    assert "skipped some.jsonl:2: it is bad" in caplog.text


def test_a_share_above_the_limit_stops_with_the_first_reasons() -> None:
    errors = ErrorBudget(limit=0.05, least=100)
    for _ in range(1, 96):
        errors.use()
    for line in range(96, 101):
        errors.skip(Origin(HERE, line), "no picture")
    with pytest.raises(TooManyBroken) as stopped:
        errors.skip(Origin(HERE, 101), "no picture")
    message = str(stopped.value)
    assert "6 of the first 101 rows" in message
    assert "0.05" in message
    assert message.count("no picture") == 3
    assert "some.jsonl:96: no picture" in message


def test_the_share_is_not_judged_by_a_few_rows() -> None:
    errors = ErrorBudget(limit=0.05, least=100)
    for line in range(99):
        errors.skip(Origin(HERE, line), "bad")
    with pytest.raises(TooManyBroken):
        errors.use()


def test_a_limit_of_one_lets_everything_pass_and_of_nought_nothing() -> None:
    lenient, strict = ErrorBudget(limit=1), ErrorBudget(limit=0, least=1)
    for line in range(300):
        lenient.skip(Origin(HERE, line), "bad")
    strict.use()
    with pytest.raises(TooManyBroken):
        strict.skip(Origin(HERE, 1), "bad")
    with pytest.raises(ValueError, match="between 0 and 1"):
        ErrorBudget(limit=5)


class Recording:
    """A template that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Content]] = []

    def sequence(self, content: Content, role: str) -> SimpleNamespace:
        self.seen.append((role, content))
        return SimpleNamespace(pictures=())


def loaded(*examples: Example, instructions: bool = True) -> tuple[PreparedBatch, Recording, int]:
    """A batch of the examples, what the template got, and the number of those left out."""
    corpus, template, errors = Corpus(examples), Recording(), ErrorBudget()
    loader = BatchLoader(corpus, template, errors, instructions=instructions)
    (batch,) = loader.batches(Sampler(corpus.sources(), 8, unique=False))
    return batch, template, errors.broken


@pytest.mark.parametrize("instructions", [True, False])
def test_all_sides_are_decoded_with_their_instructions_if_the_stage_has_any(
    picture: Path, instructions: bool
) -> None:
    side = Side(images=(picture,))
    texts = {"instruction": "Find: ", "target_instruction": "See: "}
    example = Example(Side(text="red"), side, (side, side), **texts)
    batch, template, _ = loaded(example, example, instructions=instructions)
    assert [len(part) for part in (batch.queries, batch.positives, batch.negatives)] == [2, 2, 4]
    asked = {content.instruction for role, content in template.seen if role == "query"}
    answers = [content for role, content in template.seen if role == "document"]
    assert asked == {"Find: " if instructions else ""}
    assert {one.instruction for one in answers} == {"See: " if instructions else ""}
    assert [len(one.frames) for one in answers] == [1] * 6


def test_one_broken_side_leaves_its_example_out(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    bad = Side(images=(tmp_path / "broken.png",))
    good = Side(images=(picture,))
    batch, _, broken = loaded(pair(good), pair(bad), pair(good, negatives=(bad,)))
    assert (len(batch.queries), len(batch.positives), len(batch.negatives)) == (1, 1, 0)
    assert broken == 2


def test_a_file_that_a_row_names_has_to_be_there(picture: Path, tmp_path: Path) -> None:
    assert existing_file(tmp_path, "red.png") == picture
    assert existing_file(Path("/elsewhere"), str(picture)) == picture
    (tmp_path / "folder").mkdir()
    for name, reason in [
        ("blue.png", "does not exist"),
        ("folder", "is a folder"),
        ("", "not a file name"),
        ("a\0b", "not a file name"),
        ("n" * 300, "cannot be read|does not exist"),
    ]:
        with pytest.raises(BrokenRow, match=reason):
            existing_file(tmp_path, name)


def test_a_corpus_gives_sources_by_dataset_and_task_and_the_examples_of_a_batch() -> None:
    corpus = Corpus(pair(Side(text=f"a {n}"), dataset="a") for n in range(6))
    corpus.add(pair(Side(text=f"b {n}"), dataset="b", task=Task.IMAGE_QA) for n in range(4))
    corpus.add(pair(Side(text=f"b {n}"), dataset="b", task=Task.VIDEO_QA) for n in range(3))
    sources = corpus.sources({"b": Dataset(Path(), resampling=2.0, cap=3)})
    assert [(s.name, s.task, len(s.keys)) for s in sources] == [
        ("a", Task.IMAGE_RETRIEVAL, 6),
        ("b/image_qa", Task.IMAGE_QA, 4),
        ("b/video_qa", Task.VIDEO_QA, 3),
    ]
    assert [(s.resampling, s.cap) for s in sources] == [(1.0, None), (2.0, 3), (2.0, 3)]
    assert len(corpus) == 13
    for batch in Sampler(sources, 3):
        assert isinstance(batch, Batch)
        examples = corpus.examples(batch)
        assert {(e.dataset, e.task) for e in examples} == {(batch.dataset[0], batch.task)}
        wanted = [f"{batch.dataset[0]} {row.index}" for row in batch.rows]
        assert [example.positive.text for example in examples] == wanted
