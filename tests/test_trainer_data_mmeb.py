"""Rows of MMEB's training sets, from parquet files."""

from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from trainer.data.examples import ErrorBudget, Example, Origin, Side, Task, Unreadable
from trainer.data.readers import read_mmeb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images/a.jpg", "images/b.jpg", "images/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "OK-VQA").mkdir()
    return tmp_path


def row(**fields: object) -> dict[str, object]:
    return {
        "qry": "<|image_1|>\nRepresent the given image with the question: what is it?\n",
        "qry_image_path": "a.jpg",
        "pos_text": "a cat",
        "pos_image_path": "",
        **fields,
    }


def read(folder: Path, rows: list[dict[str, object]]) -> tuple[list[Example], list[str]]:
    path = folder / "OK-VQA" / "train.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    errors = ErrorBudget()
    found = list(read_mmeb(path, folder / "images", errors, Task.IMAGE_QA))
    return found, [f"{note.origin.line}: {note.reason}" for note in errors.skipped]


def test_a_row_becomes_an_example_without_marks_of_pictures(folder: Path) -> None:
    found, skipped = read(folder, [row()])
    assert skipped == []
    question = "Represent the given image with the question: what is it?"
    assert found == [
        Example(
            Side(question, (folder / "images/a.jpg",)),
            Side("a cat"),
            (),
            Task.IMAGE_QA,
            "OK-VQA",
            "",
            "",
        )
    ]
    assert found[0].origin == Origin(folder / "OK-VQA/train.parquet", 1)


def test_a_mark_inside_the_text_leaves_its_words_apart(folder: Path) -> None:
    found, _ = read(folder, [row(qry="Look at<|image_1|>\nand say:  what?", pos_text=None)])
    assert found == []
    found, _ = read(folder, [row(qry="Look at<|image_1|>\nand say:  what?")])
    assert found[0].query.text == "Look at and say:  what?"


def test_a_text_that_is_nothing_but_a_mark_leaves_the_picture_alone(folder: Path) -> None:
    found, _ = read(folder, [row(pos_text="<|image_1|>\n", pos_image_path="b.jpg")])
    assert found[0].positive == Side(images=(folder / "images/b.jpg",))


@pytest.mark.parametrize(
    ("texts", "names", "wanted"),
    [
        ("a dog", "", [("a dog", None)]),
        ("<|image_1|> this", "b.jpg", [("this", "b.jpg")]),
        ("", "", []),
        (None, None, []),
        (["a dog", "a cow"], None, [("a dog", None), ("a cow", None)]),
        (["x", ""], ["b.jpg", "c.jpg"], [("x", "b.jpg"), (None, "c.jpg")]),
        ([], [], []),
    ],
)
def test_negatives_are_values_lists_or_missing(
    folder: Path, texts: object, names: object, wanted: list[tuple[str | None, str | None]]
) -> None:
    found, skipped = read(folder, [row(neg_text=texts, neg_image_path=names)])
    images = folder / "images"
    assert skipped == []
    assert found[0].negatives == tuple(
        Side(text, (images / name,) if name else ()) for text, name in wanted
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"qry_image_path": "no.jpg"}, "no.jpg does not exist"),
        ({"qry_image_path": ""}, "the text refers to picture 1, but there are 0"),
        ({"qry": "<|image_2|> what?"}, "the text refers to picture 2, but there are 1"),
        ({"pos_text": ""}, "positive: a side needs a text"),
        ({"neg_text": ["a", "b"], "neg_image_path": ["b.jpg"]}, "there are 2 neg_text but 1"),
    ],
)
def test_a_broken_row_is_skipped_with_its_number(
    folder: Path, fields: dict[str, object], reason: str
) -> None:
    template = dict.fromkeys(fields) | row()
    found, skipped = read(folder, [template, row(**fields), template])
    assert len(found) == 2
    assert len(skipped) == 1
    assert skipped[0].startswith("2: ")
    assert reason in skipped[0]


def test_values_that_are_no_strings_are_a_broken_row(folder: Path) -> None:
    found, skipped = read(folder, [row(pos_text=5)])
    assert (found, skipped) == ([], ["1: positive: int instead of a string"])


def test_long_files_are_read_to_the_end_in_order(folder: Path) -> None:
    found, _ = read(folder, [row(pos_text=f"answer {n}") for n in range(2500)])
    assert [example.positive.text for example in found] == [f"answer {n}" for n in range(2500)]
    assert found[-1].origin.line == 2500


def test_a_file_that_is_no_parquet_or_has_other_columns_is_named(folder: Path) -> None:
    path = folder / "other.parquet"
    path.write_bytes(b"PAR1 but no parquet PAR1")
    with pytest.raises(Unreadable, match=r"other\.parquet cannot be read as parquet"):
        list(read_mmeb(path, folder, ErrorBudget(), Task.IMAGE_QA))
    with pytest.raises(Unreadable, match=r"none\.parquet cannot be read"):
        list(read_mmeb(folder / "none.parquet", folder, ErrorBudget(), Task.IMAGE_QA))
    parquet.write_table(pa.table({"qry": ["a"], "pos_text": ["b"]}), path)
    with pytest.raises(Unreadable, match="no column qry_image_path"):
        list(read_mmeb(path, folder, ErrorBudget(), Task.IMAGE_QA))
