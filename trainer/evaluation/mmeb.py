"""MMEB's layouts of evaluation sets, for users who have them on disk.

Two are read, each one folder per dataset, Parquet or JSON Lines:

- Rows (the image sets of MMEB and MMEB-V2): `qry_text`, `qry_img_path`, `tgt_text`, `tgt_img_path`
  and perhaps `qry_inst`, `tgt_inst`. The targets are two lists of the same length and the query is
  ranked among them; the first one is right. Files anywhere below the folder.
- Corpora (the document sets of MMEB-V2, which are those of ViDoRe and VisRAG): folders or files
  whose path contains `queries` (`query-id`, `query`, perhaps `language`), `corpus` (`corpus-id`,
  `image` as bytes or a path) and `qrels` (`query-id`, `corpus-id`, `score`); every query is ranked
  among the whole corpus, and scores are grades.

The video sets have a layout each and are not read: `trainer.evaluation.own` takes them rewritten.
A set in several languages counts as one unless "language" in `dataset.json` picks one.

Differences from MMEB's own evaluation: `<|image_1|>` is taken out of the words, for our template
places pictures; an instruction and its words are joined with one space, without line breaks behind.

Source:
    The evaluation code of VLM2Vec (arXiv 2507.04590).
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embedder.content import Modality
from trainer.data.examples import Side
from trainer.evaluation.entry import BadEntry, Entry
from trainer.evaluation.sets import BadSet, Broken, Draft, EvaluationSet, Query, objects

IMAGE_TOKEN = "<|image_1|>"
_DOCUMENT_QUERY = "Find a document image that matches the given query: "
_DOCUMENT_TARGET = "Understand the content of the provided document image."
_SUFFIXES = (".parquet", ".jsonl")
_PARTS = ("queries", "corpus", "qrels")


def is_mmeb(folder: Path) -> bool:
    """Whether a folder has data files of one of these layouts."""
    first = next(iter(_files(folder)), None)
    if first is None:
        return False
    if _is_corpora(folder):
        return True
    row = next((row for _, row in _rows(first, [])), None)
    return row is not None and {"qry_text", "tgt_text"} <= set(row)


def read_mmeb(folder: Path, images: Path | None, cache: Path) -> EvaluationSet:
    """Reads a set; broken rows are named in it.

    Args:
        folder: Of the set.
        images: Folder that pictures' paths start from (`image-tasks/MMEB`, for instance).
        cache: Where pictures that lie inside data files are written to, under the set's name.

    Raises:
        BadSet: nothing in it can be used.
    """
    draft = Draft.of(folder, images)
    draft.files.extend(_files(folder))
    if _is_corpora(folder):
        _read_corpora(draft, cache / str(draft.about.get("name", folder.resolve().name)))
    else:
        _read_rows(draft)
    return draft.finished()


def _read_rows(draft: Draft) -> None:
    for path in _files(draft.folder):
        for where, row in _rows(path, draft.broken):
            try:
                query, entries = _row(draft, where, row)
            except (BadEntry, KeyError) as error:
                reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
                draft.broken.append(Broken(where, reason))
                continue
            draft.candidates.update(entries)
            draft.queries.append(query)


def _row(draft: Draft, where: str, row: Mapping[str, Any]) -> tuple[Query, dict[str, Entry]]:
    texts = _texts(row["tgt_text"])
    paths = row.get("tgt_img_path")
    paths = [""] * len(texts) if paths is None else _texts(paths)
    if not texts or len(texts) != len(paths):
        raise BadEntry(f"it has {len(texts)} target texts and {len(paths)} target pictures")
    words = _text(row["qry_text"])
    asked = (_text(row.get(key)) for key in ("qry_img_path", "qry_inst"))
    query = _entry(draft, where, words, *asked)
    entries: dict[str, Entry] = {}
    right = ""
    for text, path in zip(texts, paths, strict=True):
        # MMEB's own evaluation tells candidates without a picture nothing.
        told = _text(row.get("tgt_inst")) if path else ""
        # The same target in several rows, or twice in one, is one candidate.
        name = json.dumps([text, path], ensure_ascii=False)
        entries[name] = _entry(draft, name, text, path, told)
        right = right or name
    return Query(query, {right: 1.0}, tuple(entries)), entries


def _entry(draft: Draft, name: str, text: str, path: str, told: str) -> Entry:
    words = text.replace(IMAGE_TOKEN, "").strip()
    instruction = told.replace(IMAGE_TOKEN, "").strip()
    if words and instruction:
        instruction += " "
    if not words and not path:
        raise BadEntry("a query or target has neither a text nor a picture")
    images = (draft.images / path,) if path else ()
    return Entry(name, Side(words or None, images), instruction)


def _text(stated: object) -> str:
    if stated is not None and not isinstance(stated, str):
        raise BadEntry(f"a text is of type {type(stated).__name__}")
    return stated or ""


def _texts(stated: object) -> list[str]:
    if not isinstance(stated, list):
        raise BadEntry(f"a list of texts is of type {type(stated).__name__}")
    return [_text(one) for one in stated]


def _is_corpora(folder: Path) -> bool:
    return all(any(True for _ in _files(folder, part)) for part in _PARTS)


def _read_corpora(draft: Draft, cache: Path) -> None:
    for where, row in _part(draft, "corpus"):
        try:
            path = _picture(row["image"], str(row["corpus-id"]), draft.images, cache)
        except (KeyError, BadEntry) as error:
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
                raise BadEntry(f"there is no page {name!r}, or its score is not a number")
        except (KeyError, TypeError, ValueError, OverflowError, BadEntry) as error:
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
        if draft.about.get("language", row.get("language")) != row.get("language"):
            continue
        if not words or name not in grades:
            draft.broken.append(Broken(where, "it has no words or no page that is right"))
            continue
        entry = Entry(name, Side(words), _DOCUMENT_QUERY)
        draft.queries.append(Query(entry, grades[name]))


def _part(draft: Draft, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in _files(draft.folder, part):
        yield from _rows(path, draft.broken)


def _picture(stated: Any, name: str, images: Path, cache: Path) -> Path:
    """Where a page's picture lies; one inside the data file is written to `cache` first."""
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
        raise BadEntry("image is neither bytes nor a path")
    return images / stated


def _files(folder: Path, part: str = "") -> list[Path]:
    """Data files below a folder, in order, whose path within it contains a word."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and path.is_file() and part in str(path.relative_to(folder))
    )


def _rows(path: Path, broken: list[Broken]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and object of each row that has one; the others are added to `broken`."""
    if path.suffix == ".jsonl":
        for number, row in objects(path, broken):
            yield f"{path.name}:{number}", row
        return
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise BadSet(f"{path} needs pyarrow: pip install 'rzen-search[train]'") from error
    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}:{number}", row
    except (OSError, ArrowException) as error:
        raise BadSet(f"{path} cannot be read: {error}") from error
