"""A folder of pictures with captions beside them or in a table."""

from pathlib import Path

import pytest
from PIL import Image

from trainer.data.examples import ErrorBudget, Side, Task, TooManyBroken, Unreadable
from trainer.data.readers import read_captioned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stamps = tmp_path / "stamps"
    for name in ("b.jpg", "a.png", "animals/cat.jpg"):
        (stamps / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(stamps / name)
    (stamps / "a.txt").write_text("A red\n  bicycle.\n", "utf-8")
    (stamps / "b.txt").write_text("Ein Café\nfr.utf8=Un café\n", "utf-8")
    (stamps / "animals/cat.txt").write_text("a cat", "utf-8")
    return stamps


def read(folder: Path, **options: object) -> tuple[list[tuple[str, str]], list[str]]:
    errors = ErrorBudget()
    found = [
        (example.query.text, example.positive.images[0].relative_to(folder).as_posix())
        for example in read_captioned(folder, errors, **options)
    ]
    return found, [str(note) for note in errors.skipped]


def test_captions_beside_pictures_look_for_them(folder: Path) -> None:
    assert read(folder) == (
        [
            ("A red bicycle.", "a.png"),
            ("a cat", "animals/cat.jpg"),
            ("Ein Café fr.utf8=Un café", "b.jpg"),
        ],
        [],
    )
    example = next(read_captioned(folder, ErrorBudget()))
    assert (example.task, example.dataset) == (Task.IMAGE_RETRIEVAL, "stamps")


def test_the_dataset_may_have_another_name_than_its_folder(folder: Path) -> None:
    example = next(read_captioned(folder, ErrorBudget(), dataset="mine"))
    assert example.query == Side("A red bicycle.")
    assert example.positive == Side(images=(folder / "a.png",))
    assert example.dataset == "mine"


def test_a_picture_without_a_caption_is_skipped_with_the_reason(folder: Path) -> None:
    (folder / "a.txt").unlink()
    (folder / "b.txt").write_text(" \n")
    found, skipped = read(folder)
    assert found == [("a cat", "animals/cat.jpg")]
    assert skipped == [
        f"{folder / 'a.png'}:1: a.txt beside it is missing",
        f"{folder / 'b.jpg'}:1: b.txt: the file holds no text",
    ]


def test_hidden_files_and_links_to_folders_are_passed_over(folder: Path) -> None:
    (folder / "animals/round").symlink_to(folder)
    Image.new("RGB", (8, 8)).save(folder / ".thumb.png")
    found, skipped = read(folder)
    assert (len(found), skipped) == (3, [])


@pytest.mark.parametrize(("name", "mark"), [("captions.csv", ","), ("captions.tsv", "\t")])
def test_a_table_alone_counts_if_there_is_one(folder: Path, name: str, mark: str) -> None:
    lines = ["file,caption", 'b.jpg,"a house', 'with ""a"" door"', "", "b.jpg,a hut"]
    text = "\ufeff" + "\r\n".join(lines).replace(",", mark)
    (folder / name).write_text(text, "utf-8", newline="")
    assert read(folder) == ([('a house with "a" door', "b.jpg"), ("a hut", "b.jpg")], [])


def test_broken_lines_of_a_table_are_skipped_with_their_number(folder: Path) -> None:
    (folder / "captions.csv").write_text(
        "file,caption\nno.jpg,a house\nb.jpg\nb.jpg, \na.png,good\n", "utf-8"
    )
    found, skipped = read(folder)
    table = folder / "captions.csv"
    assert found == [("good", "a.png")]
    assert skipped == [
        f"{table}:2: {folder / 'no.jpg'} does not exist",
        f"{table}:3: the line has 1 fields, not a file and a caption",
        f"{table}:4: the caption is blank",
    ]


def test_a_table_without_its_first_line_is_refused(folder: Path) -> None:
    (folder / "captions.csv").write_text("b.jpg,a house\n", "utf-8")
    with pytest.raises(Unreadable, match=r"first line of .*captions\.csv is not 'file,caption'"):
        read(folder)


def test_a_folder_without_captions_stops(folder: Path) -> None:
    for number in range(100):
        (folder / f"{number}.jpg").touch()
    with pytest.raises(TooManyBroken, match="beside it"):
        read(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="none is not a folder"):
        read(tmp_path / "none")
