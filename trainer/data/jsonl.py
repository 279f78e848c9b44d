"""Our own format: JSON Lines, one example a line.

A line is an object such as this one, without the line breaks:

    {"query": "a red bicycle against a wall",
     "positive": {"images": "photos/bicycle.jpg"},
     "negatives": [{"images": "photos/red-car.jpg"}, {"images": "photos/wall.jpg"}],
     "task": "image_retrieval",
     "instruction": "Find me an everyday image that matches the given caption: ",
     "target_instruction": "Represent the given image."}

- `query` and `positive` are needed, `negatives` is a list and may be missing.
- A side is a string, its words, or an object with `text` and one of `images` (a name, or a list
  of them), `video`, or `pdf` with `page` (from 1; the first if missing). Images that are scanned
  pages say `"modality": "page"`, and single frames `"modality": "video"`.
- Names of files are relative to the folder of the JSON Lines file, unless another is given.
- `task` is a value of `trainer.tasks.Task`; `dataset` names the set. Where a line has none, what
  the reader was given counts, and the name of the file for the set.
- `instruction` is the query's, `target_instruction` that of the others. Missing or null takes the
  checkpoint's default, the empty string gives none.
- Fields that start with an underscore are for notes. Any other field is an error, since a
  misspelt one would be lost without a word. Blank lines are passed over.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from embedder.content import Modality
from trainer.data.examples import Example, Origin, Side
from trainer.data.files import existing
from trainer.data.ledger import BrokenRow, Ledger, Unreadable
from trainer.tasks import Task

_EXAMPLE = (
    *("query", "positive", "negatives", "task", "dataset"),
    *("instruction", "target_instruction"),
)
_SIDE = ("text", "images", "video", "pdf", "page", "modality")


def read_jsonl(
    path: Path,
    ledger: Ledger,
    task: Task | None = None,
    dataset: str | None = None,
    folder: Path | None = None,
) -> Iterator[Example]:
    """Read a JSON Lines file; the module's docstring describes it.

    Args:
        path: The file, in UTF-8.
        ledger: Counts lines that can be used and those that are skipped.
        task: Of lines that name none.
        dataset: Of lines that name none; the name of the file without its suffix if None.
        folder: What names of files start from; that of `path` if None.

    Yields:
        Examples in order; nothing is decoded.

    Raises:
        Unreadable: the file cannot be opened.
        TooManyBroken: more lines are broken than the ledger allows.
    """
    folder = path.parent if folder is None else folder
    name = path.stem if dataset is None else dataset

    def parse(line: bytes, origin: Origin) -> list[Example]:
        return [_example(parsed_object(line), origin, folder, task, name)]

    yield from ledger.usable(path, numbered_lines(path), parse)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, as bytes: one that is not UTF-8 spoils no other.

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
    """The object of a line.

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
        raise BrokenRow(f"the line is not JSON that can be read: {error}") from error
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
        page = 1 if row.get("page") is None else row["page"]
        if not isinstance(page, int) or isinstance(page, bool):
            raise BrokenRow("the page is not a whole number")
        modality = words(row, "modality")
        return Side(
            words(row, "text"),
            tuple(existing(folder, name) for name in _names(row.get("images"))),
            _file(row, "video", folder),
            _file(row, "pdf", folder),
            page,
            None if modality is None else Modality(modality),
        )
    except ValueError as error:  # of a BrokenRow, of a Side, of a Modality
        raise BrokenRow(f"{which}: {error}") from error


def _names(images: Any) -> list[str]:
    if images is None:
        return []
    names = [images] if isinstance(images, str) else images
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BrokenRow("images are neither a name nor a list of names")
    return names


def _file(row: dict[str, Any], name: str, folder: Path) -> Path | None:
    given = words(row, name)
    return None if given is None else existing(folder, given)


def _task(given: Any, default: Task | None) -> Task:
    if given is None:
        if default is None:
            raise BrokenRow("the task is missing")
        return default
    try:
        return Task(given)
    except ValueError:
        raise BrokenRow(f"{given!r} is no task; it is one of {', '.join(Task)}") from None


def words(row: dict[str, Any], name: str) -> str | None:
    """A field that is a string or missing.

    Raises:
        BrokenRow: it is something else.
    """
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BrokenRow(f"{name} is a {type(value).__name__}, not a string")


def check_fields(row: dict[str, Any], known: Collection[str], what: str) -> None:
    """Refuse a field that is not known.

    Raises:
        BrokenRow: there is one.
    """
    unknown = [name for name in row if name not in known and not name.startswith("_")]
    if unknown:
        raise BrokenRow(f"{what} has no field {unknown[0]!r}, only {', '.join(known)}")
