"""A folder of pictures with captions, in text files beside them or in one table.

Either every picture has a text file of the same name beside it (`cat.jpg`, `cat.txt`), in
subfolders too, or the folder has a `captions.csv` or `captions.tsv` whose first line is
`file,caption`; a picture may be in several lines. If there is a table, it alone counts.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from embedder.media import Kind, Limits, MediaError, read_text, suffix_kind
from trainer.data.examples import Example, Origin, Side
from trainer.data.files import existing
from trainer.data.ledger import BrokenRow, Ledger, Unreadable
from trainer.tasks import Task

Queries = Literal["captions", "pictures"]

_TABLES = {"captions.csv": ",", "captions.tsv": "\t"}
_COLUMNS = ("file", "caption")
_CAPTION_LIMITS = Limits(file_bytes=100_000)


def read_captioned(
    folder: Path,
    ledger: Ledger,
    task: Task = Task.IMAGE_RETRIEVAL,
    dataset: str | None = None,
    queries: Queries = "captions",
    first_line: bool = False,
) -> Iterator[Example]:
    """Read the pictures of a folder with their captions.

    Args:
        folder: Laid out as the module's docstring says.
        ledger: Counts pictures that can be used and those that are skipped.
        task: Of all of them.
        dataset: Name of the set; that of the folder if None.
        queries: Whether captions look for pictures or pictures for captions.
        first_line: Whether only the first line of a text file counts, as where translations
            follow.

    Yields:
        Examples in order of the names, or of the table; nothing is decoded.

    Raises:
        Unreadable: there is no such folder, or its table cannot be read.
        TooManyBroken: more pictures are broken than the ledger allows.
    """
    if not folder.is_dir():
        raise Unreadable(f"{folder} is not a folder")
    name = folder.absolute().name if dataset is None else dataset

    def pair(picture: Path, caption: str, origin: Origin) -> Example:
        caption = " ".join(caption.split())
        if not caption:
            raise BrokenRow("the caption is blank")
        sides = Side(text=caption), Side(images=(picture,))
        query, positive = sides if queries == "captions" else sides[::-1]
        return Example(query, positive, (), task, name, origin=origin)

    for table, delimiter in _TABLES.items():
        if (folder / table).is_file():
            path = folder / table

            def of_table(row: list[str], origin: Origin) -> list[Example]:
                if len(row) != len(_COLUMNS):
                    raise BrokenRow(f"the line has {len(row)} fields, not a file and a caption")
                return [pair(existing(folder, row[0]), row[1], origin)]

            yield from ledger.usable(path, _table_rows(path, delimiter), of_table)
            return

    def beside(picture: Path, origin: Origin) -> list[Example]:
        return [pair(picture, _caption_beside(picture, first_line), origin)]

    for picture in _pictures(folder):
        yield from ledger.usable(picture, [(1, picture)], beside)


def _pictures(folder: Path) -> Iterator[Path]:
    """The pictures below a folder in the order of their names, hidden ones left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():  # a link may lead back to where it is
            yield from _pictures(path)
        elif suffix_kind(path) is Kind.IMAGE:
            yield path


def _caption_beside(picture: Path, first_line: bool) -> str:
    path = picture.with_suffix(".txt")
    if not path.is_file():
        raise BrokenRow(f"there is no {path.name} beside it")
    try:
        text = read_text(path, _CAPTION_LIMITS)
    except MediaError as error:
        raise BrokenRow(f"{path.name}: {error}") from error
    return text.strip().splitlines()[0] if first_line else text


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows below the first, each with the number of the line where it ends."""
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
