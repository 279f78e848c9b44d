"""Read evaluation sets: our own layout, and MMEB's.

Our own layout is JSON Lines in a folder. Three files, every query ranked among all candidates:

    queries.jsonl      {"id": "q1", "text": "a red bus"}
    candidates.jsonl   {"id": "c1", "image": "bus.jpg"}
    qrels.jsonl        {"query": "q1", "candidate": "c1", "relevance": 1}

`relevance` defaults to 1. A query may list the ids of its "candidates", and is ranked among these
alone. Or one file, every query ranked among the candidates of its row:

    rows.jsonl         {"query": {"text": "…"}, "candidates": [{"image": "…"}, …], "label": 0}

`label` is the index of the right candidate from 0, or a list of indices. A query or candidate has
"text" and/or one of "image", "images" (frames in order), "video", "pdf" with "page" (from 1);
"modality": "page" for the picture of a document; "instruction" in place of the model's default.
Paths are relative to the folder. `dataset.json` may state "name", "category" ("image", "video",
"document"), "metric" and "images" (a folder that paths start from).

Of MMEB two layouts are read, one folder a dataset, Parquet or JSON Lines:

- Rows (the image sets of MMEB and MMEB-V2): `qry_text`, `qry_img_path`, `tgt_text`, `tgt_img_path`
  and optionally `qry_inst`, `tgt_inst`. The targets are two lists of the same length and the query
  is ranked among them; the first one is right. Files anywhere below the folder.
- Corpora (the document sets of MMEB-V2, which are those of ViDoRe and VisRAG): folders or files
  whose path contains `queries` (`query-id`, `query`, optionally `language`), `corpus`
  (`corpus-id`, `image` as bytes or a path) and `qrels` (`query-id`, `corpus-id`, `score`); every
  query is ranked among the whole corpus, and scores are grades.

The video sets have a layout each and are not read: rewrite them in our own. A set in several
languages counts as one unless "language" in `dataset.json` picks one.

Differences from MMEB's own evaluation: `<|image_1|>` is removed from texts, since our template
places pictures; an instruction and its text are joined with one space, without line breaks.

Source:
    The evaluation code of VLM2Vec (arXiv 2507.04590).
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, StrictInt

from embedder.content import Modality
from trainer.data.examples import BrokenRow, Side
from trainer.data.readers import Fields, listed, parquet_rows
from trainer.evaluation.sets import (
    BadSet,
    Broken,
    Entry,
    EvaluationSet,
    Query,
    SetBuilder,
    objects,
)

_THREE = ("queries.jsonl", "candidates.jsonl", "qrels.jsonl")
_ONE = "rows.jsonl"
IMAGE_TOKEN = "<|image_1|>"
_DOCUMENT_QUERY = "Find a document image that matches the given query: "
_DOCUMENT_TARGET = "Understand the content of the provided document image."
_SUFFIXES = (".parquet", ".jsonl")
_PARTS = ("queries", "corpus", "qrels")


def is_native(folder: Path) -> bool:
    """Return whether a folder has our own layout."""
    return (folder / _ONE).is_file() or (folder / _THREE[0]).is_file()


def read_native(folder: Path, images: Path | None = None) -> EvaluationSet:
    """Read a set and list its broken rows.

    Args:
        folder: Of the set.
        images: Folder that paths start from, in place of the set's own.

    Raises:
        BadSet: a file is missing, or nothing can be used.
        Unreadable: a file cannot be read.
    """
    draft = SetBuilder.of(folder, images)
    if (folder / _ONE).is_file():
        _read_rows(draft)
    else:
        _read_three(draft)
    return draft.finished()


def _read_rows(draft: SetBuilder) -> None:
    for number, where, row in _lines(draft, _ONE):
        with draft.recording(where):
            query, labels = _row(draft, number, row)
            names = tuple(query.candidates or ())
            grades = {names[place]: 1.0 for place in labels}
            draft.queries.append(Query(query.entry, grades, names))


class _LooseFields(Fields):
    """The fields that are read of a row that may have others."""

    model_config = ConfigDict(extra="ignore")


class _RowFields(_LooseFields):
    query: Any
    candidates: Annotated[list[Any], Field(min_length=1)]
    label: Annotated[tuple[StrictInt, ...], BeforeValidator(listed), Field(min_length=1)]


class _Judgement(_LooseFields):
    query: str | StrictInt
    candidate: str | StrictInt
    relevance: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] = 1.0


def _row(draft: SetBuilder, number: int, row: Mapping[str, Any]) -> tuple[Query, Sequence[int]]:
    given = _RowFields.of(row)
    places = range(len(given.candidates))
    if not all(one in places for one in given.label):
        raise BrokenRow(f"label must be an index from 0 to {places[-1]}")
    try:
        entry = Entry.of(given.query, draft.images, str(number))
    except BrokenRow as error:
        raise BrokenRow(f"query: {error}") from error
    found = {}
    for place, stated in enumerate(given.candidates):
        try:
            one = Entry.of(stated, draft.images, f"{number}/{place}")
        except BrokenRow as error:
            raise BrokenRow(f"candidate {place}: {error}") from error
        if one.id in found or draft.candidates.get(one.id, one) != one:
            raise BrokenRow(f"candidate {place}: the id {one.id!r} is taken")
        found[one.id] = one
    draft.candidates.update(found)
    return Query(entry, {}, tuple(found)), given.label


def _read_three(draft: SetBuilder) -> None:
    if missing := [name for name in _THREE if not (draft.folder / name).is_file()]:
        raise BadSet(f"{draft.folder} has no {' and no '.join(missing)}")
    for _, where, row in _lines(draft, _THREE[1]):
        with draft.recording(where):
            entry = Entry.of(row, draft.images)
            if entry.id in draft.candidates:
                raise BrokenRow(f"the id {entry.id!r} is taken")
            draft.candidates[entry.id] = entry
    grades = _qrels(draft)
    seen = set()
    for _, where, row in _lines(draft, _THREE[0]):
        with draft.recording(where):
            among = row.pop("candidates", None)
            entry = Entry.of(row, draft.images)
            names = _among(draft, among)
            right = grades.get(entry.id, {})
            right = {name: grade for name, grade in right.items() if not names or name in names}
            if entry.id in seen:
                raise BrokenRow(f"the id {entry.id!r} is taken")
            if not right:
                raise BrokenRow(f"none of its candidates is right for {entry.id!r}")
            seen.add(entry.id)
            draft.queries.append(Query(entry, right, names))


def _among(draft: SetBuilder, stated: Any) -> tuple[str, ...] | None:
    if stated is None:
        return None
    if not isinstance(stated, list) or not stated:
        raise BrokenRow("candidates must be a list with at least one")
    names = tuple(dict.fromkeys(str(one) for one in stated))
    if unknown := [name for name in names if name not in draft.candidates]:
        raise BrokenRow(f"there is no candidate {unknown[0]!r}")
    return names


def _qrels(draft: SetBuilder) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for _, where, row in _lines(draft, _THREE[2]):
        with draft.recording(where):
            given = _Judgement.of(row)
            candidate = str(given.candidate)
            if candidate not in draft.candidates:
                raise BrokenRow(f"there is no candidate {candidate!r}")
            if given.relevance:
                found.setdefault(str(given.query), {})[candidate] = given.relevance
    return found


def _lines(draft: SetBuilder, name: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield number, location and object of each valid line; record the others as broken."""
    path = draft.folder / name
    draft.files.append(path)
    for number, row in objects(path, draft.broken):
        yield number, f"{name}:{number}", row


def is_mmeb(folder: Path) -> bool:
    """Return whether a folder has data files of one of MMEB's layouts."""
    first = next(iter(_files(folder)), None)
    if first is None:
        return False
    if _is_corpora(folder):
        return True
    row = next((row for _, row in _rows(first, [])), None)
    return row is not None and {"qry_text", "tgt_text"} <= set(row)


def read_mmeb(folder: Path, images: Path | None, cache: Path) -> EvaluationSet:
    """Read a set and list its broken rows.

    Args:
        folder: Of the set.
        images: Folder that picture paths start from (`image-tasks/MMEB`, for instance).
        cache: Folder for pictures embedded in data files, under the set's name.

    Raises:
        BadSet: nothing in it can be used.
        Unreadable: a file cannot be read.
    """
    draft = SetBuilder.of(folder, images)
    draft.files.extend(_files(folder))
    if _is_corpora(folder):
        _read_corpora(draft, cache / draft.name)
    else:
        _mmeb_read_rows(draft)
    return draft.finished()


def _mmeb_read_rows(draft: SetBuilder) -> None:
    for path in _files(draft.folder):
        for where, row in _rows(path, draft.broken):
            with draft.recording(where):
                query, entries = _mmeb_row(draft, where, row)
                draft.candidates.update(entries)
                draft.queries.append(query)


_Text = Annotated[str, BeforeValidator(lambda stated: "" if stated is None else stated)]


class _MmebFields(_LooseFields):
    qry_text: _Text
    qry_img_path: _Text = ""
    qry_inst: _Text = ""
    tgt_text: Annotated[tuple[_Text, ...], Field(min_length=1)]
    tgt_img_path: tuple[_Text, ...] | None = None
    tgt_inst: _Text = ""


def _mmeb_row(
    draft: SetBuilder, where: str, row: Mapping[str, Any]
) -> tuple[Query, dict[str, Entry]]:
    given = _MmebFields.of(row)
    texts = given.tgt_text
    paths = ("",) * len(texts) if given.tgt_img_path is None else given.tgt_img_path
    if len(texts) != len(paths):
        raise BrokenRow(f"it has {len(texts)} target texts and {len(paths)} target pictures")
    query = _entry(draft, where, given.qry_text, given.qry_img_path, given.qry_inst)
    entries: dict[str, Entry] = {}
    right = ""
    for text, path in zip(texts, paths, strict=True):
        # MMEB's own evaluation gives candidates without a picture no instruction.
        instruction = given.tgt_inst if path else ""
        # The same target in several rows, or twice in one, is one candidate.
        name = json.dumps([text, path], ensure_ascii=False)
        entries[name] = _entry(draft, name, text, path, instruction)
        right = right or name
    return Query(query, {right: 1.0}, tuple(entries)), entries


def _entry(draft: SetBuilder, name: str, text: str, path: str, instruction: str) -> Entry:
    words = text.replace(IMAGE_TOKEN, "").strip()
    instruction = instruction.replace(IMAGE_TOKEN, "").strip()
    if words and instruction:
        instruction += " "
    if not words and not path:
        raise BrokenRow("a query or target has neither a text nor a picture")
    images = (draft.images / path,) if path else ()
    return Entry(name, Side(words or None, images), instruction)


def _is_corpora(folder: Path) -> bool:
    return all(any(True for _ in _files(folder, part)) for part in _PARTS)


def _read_corpora(draft: SetBuilder, cache: Path) -> None:
    for where, row in _part(draft, "corpus"):
        try:
            path = _picture(row["image"], str(row["corpus-id"]), draft.images, cache)
        except (KeyError, BrokenRow) as error:
            draft.broken.append(Broken(where, f"it has no picture or corpus-id ({error})"))
            continue
        name = str(row["corpus-id"])
        page = Side(images=(path,), modality=Modality.PAGE)
        draft.candidates[name] = Entry(name, page, _DOCUMENT_TARGET)
    grades: dict[str, dict[str, float]] = {}
    for where, row in _part(draft, "qrels"):
        try:
            query, name, grade = str(row["query-id"]), str(row["corpus-id"]), float(row["score"])
            if not math.isfinite(grade) or name not in draft.candidates:
                raise BrokenRow(f"there is no page {name!r}, or its score is not a number")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            draft.broken.append(Broken(where, str(error)))
            continue
        if grade > 0:
            known = grades.setdefault(query, {})
            known[name] = max(known.get(name, 0.0), grade)
    for where, row in _part(draft, "queries"):
        try:
            name, words = str(row["query-id"]), row["query"].strip()
        except (KeyError, AttributeError) as error:
            draft.broken.append(Broken(where, f"it has no query or query-id ({error})"))
            continue
        if draft.about.language not in (None, row.get("language")):
            continue
        if not words or name not in grades:
            draft.broken.append(Broken(where, "it has no text or no relevant page"))
            continue
        entry = Entry(name, Side(words), _DOCUMENT_QUERY)
        draft.queries.append(Query(entry, grades[name]))


def _part(draft: SetBuilder, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in _files(draft.folder, part):
        yield from _rows(path, draft.broken)


def _picture(stated: Any, name: str, images: Path, cache: Path) -> Path:
    """Return a page's picture file; extract an embedded one to `cache` first."""
    if isinstance(stated, Mapping):
        content = stated.get("bytes")
        if not isinstance(content, bytes):
            stated = stated.get("path")
        else:
            path = cache / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.png"
            if not path.is_file() or path.stat().st_size != len(content):
                cache.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return path
    if not isinstance(stated, str) or not stated:
        raise BrokenRow("image is neither bytes nor a path")
    return images / stated


def _files(folder: Path, part: str = "") -> list[Path]:
    """Return the data files below a folder, in order, whose relative path contains a word."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and path.is_file() and part in str(path.relative_to(folder))
    )


def _rows(path: Path, broken: list[Broken]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield location and object of each valid row; add the others to `broken`."""
    rows = objects(path, broken) if path.suffix == ".jsonl" else parquet_rows(path)
    for number, row in rows:
        yield f"{path.name}:{number}", row
