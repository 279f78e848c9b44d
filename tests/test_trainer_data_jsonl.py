"""Our JSON Lines: what a line may say, and that a wrong one is skipped with its reason."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from embedder.content import Modality
from trainer.data import readers
from trainer.data.examples import (
    ErrorBudget,
    Example,
    Origin,
    Side,
    Task,
    TooManyBroken,
    Unreadable,
)
from trainer.data.readers import read_jsonl


def write(folder: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / "pairs.jsonl").write_bytes(b"\n".join(lines))
    return folder / "pairs.jsonl"


def read(path: Path, **options: object) -> tuple[list[Example], list[tuple[int, str]]]:
    errors = ErrorBudget()
    options.setdefault("task", Task.IMAGE_RETRIEVAL)
    found = list(read_jsonl(path, errors, **options))
    return found, [(note.origin.line, note.reason) for note in errors.skipped]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("photos/bicycle.jpg", "photos/red-car.jpg", "photos/wall.jpg", "a.pdf", "a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="JPEG")
    return tmp_path


def test_the_example_of_the_documentation_is_read(photos: Path) -> None:
    text = re.search(r"    (\{.*?\})\n\n", readers.__doc__, re.DOTALL)[1]
    found, skipped = read(write(photos, json.loads(text)), task=None)
    assert skipped == []
    assert found == [
        Example(
            Side(text="a red bicycle against a wall"),
            Side(images=(photos / "photos/bicycle.jpg",)),
            (
                Side(images=(photos / "photos/red-car.jpg",)),
                Side(images=(photos / "photos/wall.jpg",)),
            ),
            Task.IMAGE_RETRIEVAL,
            "pairs",
            "Find me an everyday image that matches the given caption: ",
            "Represent the given image.",
        )
    ]
    assert found[0].origin == Origin(photos / "pairs.jsonl", 1)


def test_sides_may_be_any_medium(photos: Path) -> None:
    path = write(
        photos,
        {"query": {"text": "q", "images": "photos/wall.jpg"}, "positive": {"video": "a.mp4"}},
        {"query": "q", "positive": {"pdf": "a.pdf", "page": 3}, "negatives": ["no", None][:1]},
        {"query": "q", "positive": {"images": ["photos/wall.jpg"], "modality": "page"}},
        {"query": "q", "positive": {"pdf": "a.pdf"}, "_note": "ours", "instruction": ""},
    )
    found, skipped = read(path)
    assert skipped == []
    assert found[0].query == Side("q", (photos / "photos/wall.jpg",))
    assert [example.positive for example in found] == [
        Side(video=photos / "a.mp4"),
        Side(pdf=photos / "a.pdf", page=3),
        Side(images=(photos / "photos/wall.jpg",), modality=Modality.PAGE),
        Side(pdf=photos / "a.pdf"),
    ]
    assert found[1].negatives == (Side("no"),)
    assert [example.instruction for example in found] == [None, None, None, ""]


def test_a_line_may_name_its_task_and_set_and_else_takes_those_of_the_file(photos: Path) -> None:
    path = write(
        photos,
        {"query": "q", "positive": "p", "task": "video_qa", "dataset": "mine"},
        {"query": "q", "positive": "p"},
    )
    found, _ = read(path, task=Task.IMAGE_QA, dataset="given")
    assert [(example.task, example.dataset) for example in found] == [
        (Task.VIDEO_QA, "mine"),
        (Task.IMAGE_QA, "given"),
    ]


def test_names_of_files_may_start_from_another_folder(photos: Path) -> None:
    (photos / "lists").mkdir()
    path = write(photos / "lists", {"query": "q", "positive": {"images": "photos/wall.jpg"}})
    assert read(path)[0] == []
    assert read(path, folder=photos)[0][0].positive.images == (photos / "photos/wall.jpg",)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"query": "q"', "not JSON: Expecting"),
        (b'{"query": "\xff"}', "not UTF-8 at byte 11"),
        (b"[1, 2]", "a list, not an object"),
        (b"[" * 100_000, "not readable JSON"),
        (b"1" * 5_000, "not readable JSON"),
        ({"query": "q"}, "positive: Field required"),
        ({"positive": "p", "query": None}, "query: it is not an object"),
        ({"query": "q", "positive": " "}, "positive: a side needs a text"),
        ({"query": 5, "positive": "p"}, "query: it is not an object"),
        (
            {"query": "q", "positive": "p", "negatives": "n"},
            "negatives: Input should",
        ),
        (
            {"query": "q", "positive": "p", "negatives": ["n", 5]},
            "negatives.1: it is not an object",
        ),
        (
            {"query": "q", "positive": "p", "task": "cooking"},
            "task: Input should",
        ),
        ({"query": "q", "positive": "p", "task": ["image_qa"]}, "task: Input should be"),
        ({"query": "q", "positive": "p", "instrucion": "x"}, "instrucion: unknown field"),
        (
            {"query": "q", "positive": "p", "instruction": 5},
            "instruction: Input should",
        ),
        (
            {"query": "q", "positive": {"image": "a.jpg"}},
            "positive.image: unknown field",
        ),
        ({"query": "q", "positive": {"images": "no.jpg"}}, "no.jpg does not exist"),
        (
            {"query": "q", "positive": {"images": [5]}},
            "positive.images.0: Input should",
        ),
        ({"query": "q", "positive": {"images": []}}, "a side needs"),
        (
            {"query": "q", "positive": {"pdf": "a.pdf", "page": "2"}},
            "positive.page: Input should",
        ),
        (
            {"query": "q", "positive": {"pdf": "a.pdf", "page": True}},
            "positive.page: Input should",
        ),
        ({"query": "q", "positive": {"pdf": "a.pdf", "video": "a.mp4"}}, "only one of"),
        (
            {"query": "q", "positive": {"images": "a.pdf", "modality": "song"}},
            "positive.modality: Input",
        ),
    ],
)
def test_a_broken_line_is_skipped_with_its_number_and_reason(
    photos: Path, row: object, reason: str
) -> None:
    good = {"query": "q", "positive": "p"}
    found, skipped = read(write(photos, good, b"  ", row, good))
    assert [example.origin.line for example in found] == [1, 4]
    assert [line for line, _ in skipped] == [3]
    assert re.search(reason, skipped[0][1])


def test_a_task_is_needed_from_the_line_or_the_reader(photos: Path) -> None:
    found, skipped = read(write(photos, {"query": "q", "positive": "p"}), task=None)
    assert (found, skipped) == ([], [(1, "the task is missing")])


def test_a_file_with_too_many_broken_lines_stops(photos: Path) -> None:
    path = write(photos, *[{"query": "q", "positive": "p"}] * 99, *[b"{"] * 10)
    with pytest.raises(TooManyBroken, match=r"6 of the first 105 rows.*pairs.jsonl:100"):
        read(path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"none\.jsonl cannot be read: No such file"):
        read(tmp_path / "none.jsonl")
