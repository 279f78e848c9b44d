"""Rows of MMEB's training sets: parquet files with names of pictures beside the texts.

Columns: `qry, qry_image_path, pos_text, pos_image_path`, and sometimes `neg_text, neg_image_path`
(a value or a list). A text has `<|image_1|>` where its picture belongs and begins with the
instruction, so the examples ask for no other. Source: arXiv 2410.05160 and the data sets
TIGER-Lab/MMEB-train and MMEB-eval.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.data.examples import Example, Origin, Side
from trainer.data.files import existing
from trainer.data.ledger import BrokenRow, Ledger, Unreadable
from trainer.tasks import Task

_NEEDED = ("qry", "qry_image_path", "pos_text", "pos_image_path")
_NEGATIVE = ("neg_text", "neg_image_path")
_TOKEN = re.compile(r"\s*<\|image_(\d+)\|>\s*")
_ROWS_AT_A_TIME = 1024


def read_mmeb(
    path: Path, images: Path, ledger: Ledger, task: Task, dataset: str | None = None
) -> Iterator[Example]:
    """Read a parquet file of MMEB rows, a thousand at a time.

    Args:
        path: The parquet file.
        images: The folder that names of pictures start from.
        ledger: Counts rows that can be used and those that are skipped.
        task: Of all rows.
        dataset: Name of the set; that of the folder the file is in if None, as MMEB has it.

    Yields:
        Examples in order; nothing is decoded.

    Raises:
        Unreadable: the file is not parquet, or lacks a column.
        TooManyBroken: more rows are broken than the ledger allows.
    """
    name = path.absolute().parent.name if dataset is None else dataset

    def parse(fields: dict[str, Any], origin: Origin) -> list[Example]:
        example = Example(
            _side(fields["qry"], fields["qry_image_path"], images, "query"),
            _side(fields["pos_text"], fields["pos_image_path"], images, "positive"),
            tuple(_negatives(fields, images)),
            task,
            name,
            "",
            "",
            origin,
        )
        return [example]

    yield from ledger.usable(path, _rows(path), parse)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with their numbers, from 1."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            known = set(file.schema_arrow.names)
            missing = [name for name in _NEEDED if name not in known]
            if missing:
                raise Unreadable(f"{path} has no column {missing[0]}: these are no rows of MMEB")
            columns = [name for name in (*_NEEDED, *_NEGATIVE) if name in known]
            number = 0
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=columns):
                for fields in batch.to_pylist():
                    number += 1
                    yield number, fields
    except (OSError, ArrowException) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreadable(f"{path} cannot be read as parquet: {first}") from error


def _negatives(fields: dict[str, Any], images: Path) -> Iterator[Side]:
    texts, names = (_listed(fields.get(column)) for column in _NEGATIVE)
    if texts and names and len(texts) != len(names):
        raise BrokenRow(f"{len(texts)} neg_text stand beside {len(names)} neg_image_path")
    for number in range(max(len(texts), len(names))):
        text = texts[number] if texts else None
        name = names[number] if names else None
        if text or name:  # MMEB fills the column with empty strings where a row has no negative
            yield _side(text, name, images, f"negative {number + 1}")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _side(text: Any, name: Any, images: Path, which: str) -> Side:
    for value in (text, name):
        if value is not None and not isinstance(value, str):
            raise BrokenRow(f"{which}: a {type(value).__name__} stands in place of a string")
    pictures = (existing(images, name),) if name else ()
    try:
        return Side(_without_token(text or "", len(pictures)) or None, pictures)
    except ValueError as error:
        raise BrokenRow(f"{which}: {error}") from error


def _without_token(text: str, pictures: int) -> str:
    """The text without the marks of pictures: our template has the pictures before the words."""
    for number in _TOKEN.findall(text):
        if not 1 <= int(number) <= pictures:
            raise BrokenRow(f"the text points to picture {number}, but there are {pictures}")
    return _TOKEN.sub(" ", text).strip()
