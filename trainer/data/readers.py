"""Readers of training files: our JSON Lines, MMEB's Parquet files, folders of captioned pictures.

Our own format, one example a line (here with line breaks):

    {"query": "a red bicycle against a wall",
     "positive": {"images": "photos/bicycle.jpg"},
     "negatives": [{"images": "photos/red-car.jpg"}, {"images": "photos/wall.jpg"}],
     "task": "image_retrieval",
     "instruction": "Find me an everyday image that matches the given caption: ",
     "target_instruction": "Represent the given image."}

- `query` and `positive` are required, `negatives` is an optional list.
- A side is a string (its text), or an object with `text` and one of `images` (a name, or a list
  of them), `video`, or `pdf` with `page` (from 1, the default). Images that are scanned pages have
  `"modality": "page"`, and single frames `"modality": "video"`.
- File names are relative to the folder of the JSON Lines file, unless another is given.
- `task` is a value of `Task`; `dataset` names the dataset. The reader's arguments, and the file
  name as dataset, are the defaults.
- `instruction` is the query's, `target_instruction` that of the others. Missing or null takes the
  checkpoint's default, the empty string gives none.
- Fields that start with an underscore are comments. Any other field is an error, so that a
  misspelt one is noticed. Blank lines are skipped.

MMEB's training sets are Parquet files with the columns `qry, qry_image_path, pos_text,
pos_image_path`, and sometimes `neg_text, neg_image_path` (a value or a list). A text has
`<|image_1|>` in the place of its picture and begins with the instruction, so these examples add
none. Source: arXiv 2410.05160 and the datasets TIGER-Lab/MMEB-train and MMEB-eval.

A folder of captioned pictures has, beside every picture, a text file of the same name (`cat.jpg`,
`cat.txt`), in subfolders too; or a `captions.csv` or `captions.tsv` whose first line is
`file,caption`, with any number of lines a picture. If there is a table, text files are ignored.
"""

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from embedder.content import Modality
from embedder.media import Kind, Limits, MediaError, read_text, suffix_kind
from trainer.data.examples import (
    BrokenRow,
    ErrorBudget,
    Example,
    Origin,
    Side,
    Task,
    Unreadable,
    existing_file,
)

_EXAMPLE = (
    *("query", "positive", "negatives", "task", "dataset"),
    *("instruction", "target_instruction"),
)
_SIDE = ("text", "images", "video", "pdf", "page", "modality")
_NEEDED = ("qry", "qry_image_path", "pos_text", "pos_image_path")
_NEGATIVE = ("neg_text", "neg_image_path")
_TOKEN = re.compile(r"\s*<\|image_(\d+)\|>\s*")
_ROWS_PER_BATCH = 64  # pictures may be in the rows
_TABLES = {"captions.csv": ",", "captions.tsv": "\t"}
_COLUMNS = ("file", "caption")
_CAPTION_LIMITS = Limits(file_bytes=100_000)


def read_jsonl(
    path: Path,
    errors: ErrorBudget,
    task: Task | None = None,
    dataset: str | None = None,
    folder: Path | None = None,
) -> Iterator[Example]:
    """Read a JSON Lines file in the format described above.

    Args:
        path: The file, in UTF-8.
        errors: Counts usable and broken lines.
        task: Default of lines without one.
        dataset: Default of lines without one; the name of the file without its suffix if None.
        folder: Folder that paths start from; that of `path` if None.

    Yields:
        Examples in order; nothing is decoded.

    Raises:
        Unreadable: the file cannot be opened.
        TooManyBroken: more lines are broken than the budget allows.
    """
    folder = path.parent if folder is None else folder
    name = path.stem if dataset is None else dataset

    def parse(line: bytes, origin: Origin) -> list[Example]:
        return [_example(parsed_object(line), origin, folder, task, name)]

    yield from errors.usable(path, numbered_lines(path), parse)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, as bytes: one that is not UTF-8 spoils no other.

    Raises:
        Unreadable: the file cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def parsed_object(line: bytes) -> dict[str, Any]:
    """Parse a line as a JSON object.

    Raises:
        BrokenRow: it is not UTF-8, not JSON, or not an object.
    """
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BrokenRow(f"the line is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BrokenRow(f"the line is not JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        raise BrokenRow(f"the line is not readable JSON: {error}") from error
    if not isinstance(row, dict):
        raise BrokenRow(f"the line is a {type(row).__name__}, not an object")
    return row


def _example(
    row: dict[str, Any], origin: Origin, folder: Path, task: Task | None, dataset: str
) -> Example:
    check_fields(row, _EXAMPLE, "an example")
    for needed in ("query", "positive"):
        if row.get(needed) is None:
            raise BrokenRow(f"the {needed} is missing")
    negatives = row.get("negatives") or []
    if not isinstance(negatives, list):
        raise BrokenRow("the negatives are not a list")
    return Example(
        _side(row["query"], folder, "query"),
        _side(row["positive"], folder, "positive"),
        tuple(_side(side, folder, f"negative {n}") for n, side in enumerate(negatives, 1)),
        _task(row.get("task"), task),
        words(row, "dataset") or dataset,
        words(row, "instruction"),
        words(row, "target_instruction"),
        origin,
    )


def _side(row: Any, folder: Path, which: str) -> Side:
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, dict):
        raise BrokenRow(f"the {which} is neither a string nor an object")
    try:
        check_fields(row, _SIDE, "a side")
        return parse_side(row, lambda name: existing_file(folder, name))
    except ValueError as error:  # of a BrokenRow, of a Side, of a Modality
        raise BrokenRow(f"{which}: {error}") from error


def parse_side(row: dict[str, Any], path_of: Callable[[str], Path]) -> Side:
    """Parse the text, media and modality of a JSON object.

    Args:
        row: With any of the fields of a side; others are ignored.
        path_of: Resolves the name of a file.

    Raises:
        ValueError: a field has the wrong type or value; `BrokenRow` is one, too.
    """
    page = 1 if row.get("page") is None else row["page"]
    if not isinstance(page, int) or isinstance(page, bool):
        raise BrokenRow("the page is not a whole number")
    video, pdf, modality = (words(row, name) for name in ("video", "pdf", "modality"))
    return Side(
        words(row, "text"),
        tuple(path_of(name) for name in _names(row.get("images"))),
        None if video is None else path_of(video),
        None if pdf is None else path_of(pdf),
        page,
        None if modality is None else Modality(modality),
    )


def _names(images: Any) -> list[str]:
    if images is None:
        return []
    names = [images] if isinstance(images, str) else images
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BrokenRow("images are neither a name nor a list of names")
    return names


def _task(given: Any, default: Task | None) -> Task:
    if given is None:
        if default is None:
            raise BrokenRow("the task is missing")
        return default
    try:
        return Task(given)
    except ValueError:
        raise BrokenRow(f"{given!r} is no task; tasks are {', '.join(Task)}") from None


def words(row: dict[str, Any], name: str) -> str | None:
    """Return a field that is a string or missing.

    Raises:
        BrokenRow: the field is of another type.
    """
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BrokenRow(f"{name} is a {type(value).__name__}, not a string")


def check_fields(row: dict[str, Any], known: Collection[str], what: str) -> None:
    """Refuse unknown fields.

    Raises:
        BrokenRow: there is one.
    """
    unknown = [name for name in row if name not in known and not name.startswith("_")]
    if unknown:
        raise BrokenRow(f"unknown field {unknown[0]!r} of {what}; known are {', '.join(known)}")


def read_mmeb(
    path: Path, images: Path, errors: ErrorBudget, task: Task, dataset: str | None = None
) -> Iterator[Example]:
    """Read a Parquet file of MMEB's rows.

    Args:
        path: The parquet file.
        images: The folder that picture paths start from.
        errors: Counts usable and broken rows.
        task: Of all rows.
        dataset: Name of the dataset; by default that of the file's folder, as in MMEB.

    Yields:
        Examples in order; nothing is decoded.

    Raises:
        Unreadable: the file is not parquet, or lacks a column.
        TooManyBroken: more rows are broken than the budget allows.
    """
    name = path.absolute().parent.name if dataset is None else dataset

    def parse(fields: dict[str, Any], origin: Origin) -> list[Example]:
        example = Example(
            _mmeb_side(fields["qry"], fields["qry_image_path"], images, "query"),
            _mmeb_side(fields["pos_text"], fields["pos_image_path"], images, "positive"),
            tuple(_negatives(fields, images)),
            task,
            name,
            "",
            "",
            origin,
        )
        return [example]

    yield from errors.usable(path, parquet_rows(path, _NEEDED, _NEGATIVE), parse)


def parquet_rows(
    path: Path, needed: Sequence[str] = (), optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a Parquet file with their numbers, from 1, a batch in memory at a time.

    Args:
        path: The file.
        needed: Columns that it must have.
        optional: Columns to read if they are there; with neither, all are read.

    Raises:
        Unreadable: the file is not Parquet, lacks a column, or pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise Unreadable(f"{path} needs pyarrow: pip install 'rzen-search[train]'") from error
    try:
        with ParquetFile(path) as file:
            known = file.schema_arrow.names
            if missing := [name for name in needed if name not in known]:
                raise Unreadable(f"{path} has no column {missing[0]}: these are not MMEB's rows")
            columns = [one for one in known if one in {*needed, *optional}] or None
            batches = file.iter_batches(_ROWS_PER_BATCH, columns=columns)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from enumerate(rows, 1)
    except (OSError, ArrowException) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreadable(f"{path} cannot be read as parquet: {first}") from error


def _negatives(fields: dict[str, Any], images: Path) -> Iterator[Side]:
    texts, names = (_listed(fields.get(column)) for column in _NEGATIVE)
    if texts and names and len(texts) != len(names):
        raise BrokenRow(f"there are {len(texts)} neg_text but {len(names)} neg_image_path")
    for number in range(max(len(texts), len(names))):
        text = texts[number] if texts else None
        name = names[number] if names else None
        if text or name:  # MMEB fills the column with empty strings where a row has no negative
            yield _mmeb_side(text, name, images, f"negative {number + 1}")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _mmeb_side(text: Any, name: Any, images: Path, which: str) -> Side:
    for value in (text, name):
        if value is not None and not isinstance(value, str):
            raise BrokenRow(f"{which}: {type(value).__name__} instead of a string")
    pictures = (existing_file(images, name),) if name else ()
    try:
        return Side(_without_token(text or "", len(pictures)) or None, pictures)
    except ValueError as error:
        raise BrokenRow(f"{which}: {error}") from error


def _without_token(text: str, pictures: int) -> str:
    """Remove the picture tokens: our template puts pictures before the words."""
    for number in _TOKEN.findall(text):
        if not 1 <= int(number) <= pictures:
            raise BrokenRow(f"the text refers to picture {number}, but there are {pictures}")
    return _TOKEN.sub(" ", text).strip()


def read_captioned(
    folder: Path,
    errors: ErrorBudget,
    task: Task = Task.IMAGE_RETRIEVAL,
    dataset: str | None = None,
) -> Iterator[Example]:
    """Read the pictures of a folder with their captions.

    Args:
        folder: Laid out as described above.
        errors: Counts usable and broken pictures.
        task: Of all examples.
        dataset: Name of the dataset; that of the folder if None.

    Yields:
        Examples of a caption that looks for its picture, by name, or in the order of the table;
        nothing is decoded.

    Raises:
        Unreadable: there is no such folder, or its table cannot be read.
        TooManyBroken: more pictures are broken than the budget allows.
    """
    if not folder.is_dir():
        raise Unreadable(f"{folder} is not a folder")
    name = folder.absolute().name if dataset is None else dataset

    def pair(picture: Path, caption: str, origin: Origin) -> Example:
        caption = " ".join(caption.split())
        if not caption:
            raise BrokenRow("the caption is blank")
        return Example(Side(text=caption), Side(images=(picture,)), (), task, name, origin=origin)

    for table, delimiter in _TABLES.items():
        if (folder / table).is_file():
            path = folder / table

            def of_table(row: list[str], origin: Origin) -> list[Example]:
                if len(row) != len(_COLUMNS):
                    raise BrokenRow(f"the line has {len(row)} fields, not a file and a caption")
                return [pair(existing_file(folder, row[0]), row[1], origin)]

            yield from errors.usable(path, _table_rows(path, delimiter), of_table)
            return

    def beside(picture: Path, origin: Origin) -> list[Example]:
        return [pair(picture, _caption_beside(picture), origin)]

    for picture in _pictures(folder):
        yield from errors.usable(picture, [(1, picture)], beside)


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures below a folder by name, without hidden ones."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():  # a link may lead back to where it is
            yield from _pictures(path)
        elif suffix_kind(path) is Kind.IMAGE:
            yield path


def _caption_beside(picture: Path) -> str:
    path = picture.with_suffix(".txt")
    if not path.is_file():
        raise BrokenRow(f"{path.name} beside it is missing")
    try:
        return read_text(path, _CAPTION_LIMITS)
    except MediaError as error:
        raise BrokenRow(f"{path.name}: {error}") from error


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows below the header, each with the number of its last line."""
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            rows = csv.reader(file, delimiter=delimiter)
            head = next(rows, [])
            if tuple(cell.strip().lower() for cell in head) != _COLUMNS:
                wanted = delimiter.join(_COLUMNS)
                raise Unreadable(f"the first line of {path} is not {wanted!r}")
            for row in rows:
                if row:
                    yield rows.line_num, row
    except (OSError, csv.Error) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
