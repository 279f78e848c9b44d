"""Our own layout of an evaluation set: JSON Lines in a folder.

Three files, every query ranked among all candidates:

    queries.jsonl      {"id": "q1", "text": "a red bus"}
    candidates.jsonl   {"id": "c1", "image": "bus.jpg"}
    qrels.jsonl        {"query": "q1", "candidate": "c1", "relevance": 1}

`relevance` may be left out and is 1 then. A query may name the "candidates" that it alone is ranked
among, a list of ids. Or one file, every query ranked among the candidates of its row:

    rows.jsonl         {"query": {"text": "…"}, "candidates": [{"image": "…"}, …], "label": 0}

`label` is the place of the right candidate from 0, or a list of places. A query or candidate has
"text" and/or one of "image", "images" (frames in order), "video", "pdf" with "page" (from 1);
"modality": "page" for the picture of a document; "instruction" for what the model is told in place
of its own. Paths start from the folder. `dataset.json` may state "name", "category" ("image",
"video", "document"), "metric" and "images" (a folder that paths start from).
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.evaluation.entry import BadEntry, Entry
from trainer.evaluation.sets import BadSet, Broken, Draft, EvaluationSet, Query, objects

_THREE = ("queries.jsonl", "candidates.jsonl", "qrels.jsonl")
_ONE = "rows.jsonl"


def is_own(folder: Path) -> bool:
    """Whether a folder is laid out like this."""
    return (folder / _ONE).is_file() or (folder / _THREE[0]).is_file()


def read_own(folder: Path, images: Path | None = None) -> EvaluationSet:
    """Reads a set; broken rows are named in it.

    Args:
        folder: Of the set.
        images: Folder that paths start from, in place of the set's own.

    Raises:
        BadSet: a file is missing, or nothing can be used.
    """
    draft = Draft.of(folder, images)
    if (folder / _ONE).is_file():
        _read_rows(draft)
    else:
        _read_three(draft)
    return draft.finished()


def _read_rows(draft: Draft) -> None:
    for number, where, row in _lines(draft, _ONE):
        try:
            query, labels = _row(draft, number, row)
        except BadEntry as error:
            draft.broken.append(Broken(where, str(error)))
            continue
        names = tuple(query.candidates or ())
        grades = {names[place]: 1.0 for place in labels}
        draft.queries.append(Query(query.entry, grades, names))


def _row(draft: Draft, number: int, row: Mapping[str, Any]) -> tuple[Query, list[int]]:
    if not {"query", "candidates", "label"} <= set(row):
        raise BadEntry("it lacks one of query, candidates and label")
    if not isinstance(row["candidates"], list) or not row["candidates"]:
        raise BadEntry("candidates is not a list with at least one")
    labels = row["label"] if isinstance(row["label"], list) else [row["label"]]
    places = range(len(row["candidates"]))
    if not labels or not all(type(one) is int and one in places for one in labels):
        raise BadEntry(f"label is not a place from 0 to {places[-1]}")
    try:
        entry = Entry.of(row["query"], draft.images, str(number))
    except BadEntry as error:
        raise BadEntry(f"query: {error}") from error
    found = {}
    for place, stated in enumerate(row["candidates"]):
        try:
            one = Entry.of(stated, draft.images, f"{number}/{place}")
        except BadEntry as error:
            raise BadEntry(f"candidate {place}: {error}") from error
        if one.id in found or draft.candidates.get(one.id, one) != one:
            raise BadEntry(f"candidate {place}: the id {one.id!r} is taken")
        found[one.id] = one
    draft.candidates.update(found)
    return Query(entry, {}, tuple(found)), labels


def _read_three(draft: Draft) -> None:
    if missing := [name for name in _THREE if not (draft.folder / name).is_file()]:
        raise BadSet(f"{draft.folder} has no {' and no '.join(missing)}")
    for _, where, row in _lines(draft, _THREE[1]):
        try:
            entry = Entry.of(row, draft.images)
            if entry.id in draft.candidates:
                raise BadEntry(f"the id {entry.id!r} is taken")
        except BadEntry as error:
            draft.broken.append(Broken(where, str(error)))
            continue
        draft.candidates[entry.id] = entry
    grades = _qrels(draft)
    seen = set()
    for _, where, row in _lines(draft, _THREE[0]):
        try:
            among = row.pop("candidates", None)
            entry = Entry.of(row, draft.images)
            names = _among(draft, among)
            right = grades.get(entry.id, {})
            right = {name: grade for name, grade in right.items() if not names or name in names}
            if entry.id in seen:
                raise BadEntry(f"the id {entry.id!r} is taken")
            if not right:
                raise BadEntry(f"none of its candidates is right for {entry.id!r}")
        except BadEntry as error:
            draft.broken.append(Broken(where, str(error)))
            continue
        seen.add(entry.id)
        draft.queries.append(Query(entry, right, names))


def _among(draft: Draft, stated: Any) -> tuple[str, ...] | None:
    if stated is None:
        return None
    if not isinstance(stated, list) or not stated:
        raise BadEntry("candidates is not a list with at least one")
    names = tuple(dict.fromkeys(str(one) for one in stated))
    if unknown := [name for name in names if name not in draft.candidates]:
        raise BadEntry(f"there is no candidate {unknown[0]!r}")
    return names


def _qrels(draft: Draft) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for _, where, row in _lines(draft, _THREE[2]):
        try:
            if not {"query", "candidate"} <= set(row):
                raise BadEntry("it lacks query or candidate")
            grade = _grade(row.get("relevance", 1))
            candidate = str(row["candidate"])
            if candidate not in draft.candidates:
                raise BadEntry(f"there is no candidate {candidate!r}")
        except BadEntry as error:
            draft.broken.append(Broken(where, str(error)))
            continue
        if grade:
            found.setdefault(str(row["query"]), {})[candidate] = grade
    return found


def _grade(stated: Any) -> float:
    if type(stated) not in (int, float) or not 0 <= stated <= sys.float_info.max:
        raise BadEntry("relevance is not a number from 0 on")
    return float(stated)


def _lines(draft: Draft, name: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number from 1, place and object of each line that has one; the others count as broken."""
    path = draft.folder / name
    draft.files.append(path)
    for number, row in objects(path, draft.broken):
        yield number, f"{name}:{number}", row
