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
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, StrictInt, ValidationError, model_validator

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

_NEEDED = ("qry", "qry_image_path", "pos_text", "pos_image_path")
_NEGATIVE = ("neg_text", "neg_image_path")
_TOKEN = re.compile(r"\s*<\|image_(\d+)\|>\s*")
_ROWS_PER_BATCH = 64  # pictures may be in the rows
_TABLES = {"captions.csv": ",", "captions.tsv": "\t"}
_COLUMNS = ("file", "caption")
_CAPTION_LIMITS = Limits(file_bytes=100_000)


class Fields(BaseModel):
    """The fields of a row, or of an object in it."""

    model_config = {"extra": "forbid", "frozen": True}

    @classmethod
    def of(cls, row: object) -> Self:
        """Check a row; fields that start with an underscore are comments.

        Raises:
            BrokenRow: it is not an object, or fields are missing, unknown or of another type; the
                message names them all.
        """
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            raise BrokenRow("; ".join(problems(error))) from error

    @model_validator(mode="before")
    @classmethod
    def _without_comments(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            raise ValueError("it is not an object")
        return {name: value for name, value in row.items() if not name.startswith("_")}


def problems(error: ValidationError) -> list[str]:
    """List what is wrong, each with its place."""
    found = []
    for one in error.errors():
        place, reason = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
        reason = "unknown field" if one["type"] == "extra_forbidden" else reason
        found.append(f"{place}: {reason}" if place else reason)
    return found


def listed(value: Any) -> list[Any]:
    """Return a list of one or none where a field may be a value, a list or null."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


class SideFields(Fields):
    """The fields of one side of a pair."""

    text: str | None = None
    images: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    video: str | None = None
    pdf: str | None = None
    page: StrictInt | None = None
    modality: Modality | None = None

    def side(self, path_of: Callable[[str], Path]) -> Side:
        """Return the side.

        Args:
            path_of: Resolves the name of a file.

        Raises:
            ValueError: the fields do not go together; or what `path_of` raises.
        """
        video, pdf = (name if name is None else path_of(name) for name in (self.video, self.pdf))
        images = tuple(path_of(name) for name in self.images)
        page = 1 if self.page is None else self.page
        return Side(self.text, images, video, pdf, page, self.modality)


_TextOrSide = Annotated[
    SideFields, BeforeValidator(lambda row: {"text": row} if isinstance(row, str) else row)
]


class _ExampleFields(Fields):
    query: _TextOrSide
    positive: _TextOrSide
    negatives: tuple[_TextOrSide, ...] | None = None
    task: Task | None = None
    dataset: str | None = None
    instruction: str | None = None
    target_instruction: str | None = None


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
        row = _ExampleFields.of(parsed_object(line))
        if (row_task := row.task or task) is None:
            raise BrokenRow("the task is missing")
        negatives = enumerate(row.negatives or (), 1)
        example = Example(
            _side(row.query, folder, "query"),
            _side(row.positive, folder, "positive"),
            tuple(_side(one, folder, f"negative {number}") for number, one in negatives),
            row_task,
            row.dataset or name,
            row.instruction,
            row.target_instruction,
            origin,
        )
        return [example]

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


def _side(given: SideFields, folder: Path, which: str) -> Side:
    try:
        return given.side(lambda name: existing_file(folder, name))
    except ValueError as error:  # of a BrokenRow, of a Side
        raise BrokenRow(f"{which}: {error}") from error


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
    texts, names = (listed(fields.get(column)) for column in _NEGATIVE)
    if texts and names and len(texts) != len(names):
        raise BrokenRow(f"there are {len(texts)} neg_text but {len(names)} neg_image_path")
    for number in range(max(len(texts), len(names))):
        text = texts[number] if texts else None
        name = names[number] if names else None
        if text or name:  # MMEB fills the column with empty strings where a row has no negative
            yield _mmeb_side(text, name, images, f"negative {number + 1}")


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
