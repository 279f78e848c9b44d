"""Evaluation sets: queries, candidates and which belong together, decoded when needed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from embedder.content import Content, Modality
from embedder.media import Limits
from trainer.data.examples import BrokenRow, Side, Unreadable
from trainer.data.readers import numbered_lines, parse_side, parsed_object, words
from trainer.evaluation.metrics import CATEGORIES, MAIN_METRIC, METRICS, Category

KEYS = frozenset(
    {"id", "text", "image", "images", "video", "pdf", "page", "modality", "instruction"}
)
ABOUT_FILE = "dataset.json"


class BadEntry(Exception):
    """A query or candidate in a file is invalid; the message does not name the file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A query or candidate to embed, not yet decoded.

    Attributes:
        id: Unique among the queries, or among the candidates, of a set.
        side: Its text, pictures, video or page.
        instruction: None for the model's default, the empty string for none.
    """

    id: str
    side: Side
    instruction: str | None = None

    @classmethod
    def of(cls, stated: object, root: Path, default_id: str | None = None) -> "Entry":
        """Parse an entry from a JSON object.

        Args:
            stated: An object with some of `KEYS`.
            root: Folder that relative paths start from.
            default_id: Its id if it states none.

        Raises:
            BadEntry: a field is missing, unknown or of the wrong type.
        """
        if not isinstance(stated, dict):
            raise BadEntry("it is not an object")
        if unknown := sorted(set(stated) - KEYS):
            raise BadEntry(f"unknown key {unknown[0]!r}")
        name = stated.get("id", default_id)
        if name is None or isinstance(name, bool) or not isinstance(name, str | int):
            raise BadEntry("it has no id")
        images = stated.get("images", [])
        if not isinstance(images, list):
            raise BadEntry("images is not a list")
        images = [one for one in (stated.get("image"), *images) if one not in (None, "")]
        fields = {key: value for key, value in stated.items() if value != ""} | {"images": images}
        try:
            side = parse_side(fields, lambda path: root / path)
            return cls(str(name), side, words(stated, "instruction"))
        except ValueError as error:
            raise BadEntry(str(error)) from error

    @property
    def kind(self) -> Modality:
        """Return the modality, without decoding anything."""
        side = self.side
        if side.pdf is not None:
            return Modality.IMAGE if (side.text or "").strip() else Modality.PAGE
        if side.modality is not None:
            return side.modality
        if side.video is not None or len(side.images) > 1:
            return Modality.VIDEO
        return Modality.IMAGE if side.images else Modality.TEXT

    def content(self, limits: Limits) -> Content:
        """Decode the entry.

        Raises:
            MediaError: a file is missing, damaged or beyond the limits.
            ValueError: there is nothing to embed.
        """
        return self.side.content(limits, self.instruction)


class BadSet(Exception):
    """A folder is no evaluation set, or nothing in it is usable."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be used.

    Attributes:
        where: File and line, or the id of a query or candidate.
        reason: A few words.
    """

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query and its relevant candidates.

    Attributes:
        entry: What to embed.
        grades: Relevance by candidate id, above 0.
        candidates: Ids of the candidates to rank; None for all of the set.
    """

    entry: Entry
    grades: Mapping[str, float]
    candidates: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Queries, candidates and their relevance; nothing is decoded yet.

    Attributes:
        name: Of the dataset.
        category: The mean that its score counts in.
        metric: Name of its main metric.
        queries: At least one.
        candidates: By id.
        broken: Rows that could not be read.
        digest: SHA-256 over its data files (not over pictures).
    """

    name: str
    category: Category
    metric: str
    queries: tuple[Query, ...]
    candidates: Mapping[str, Entry]
    broken: tuple[Broken, ...] = ()
    digest: str = ""

    @property
    def target(self) -> Modality:
        """Return the modality of most candidates; it chooses the queries' instruction."""
        return Counter(one.kind for one in self.candidates.values()).most_common(1)[0][0]

    def limited(self, count: int | None) -> "EvaluationSet":
        """Return the set with only its first `count` queries.

        Candidates that only other queries rank are left out; candidates of all queries stay, since
        fewer distractors would make a different, easier set.
        """
        queries = self.queries[:count]
        if all(one.candidates is not None for one in queries):
            kept = {name for one in queries for name in one.candidates or ()}
            entries = {name: one for name, one in self.candidates.items() if name in kept}
            return replace(self, queries=queries, candidates=entries)
        return replace(self, queries=queries)


@dataclass(slots=True)
class SetBuilder:
    """Collects the contents of an evaluation set while its files are read.

    Attributes:
        folder: Of the set.
        images: Folder that picture paths start from.
        about: The contents of `dataset.json`.
        queries: Read so far.
        candidates: Read so far, by id.
        broken: Rows that could not be used.
        files: The files read.
    """

    folder: Path
    images: Path
    about: Mapping[str, Any]
    queries: list[Query] = field(default_factory=list)
    candidates: dict[str, Entry] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, images: Path | None = None) -> "SetBuilder":
        """Start an empty draft.

        Raises:
            BadSet: `dataset.json` is invalid.
        """
        path = folder / ABOUT_FILE
        about: Any = {}
        if path.is_file():
            try:
                about = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise BadSet(f"{path} cannot be read: {error}") from error
        _check_about(path, about)
        stated = folder / about["images"] if "images" in about else folder
        draft = cls(folder, images or stated, about)
        if about:
            draft.files.append(path)
        return draft

    @contextmanager
    def recording(self, where: str) -> Iterator[None]:
        """Record a row as broken where the block raises `BadEntry`."""
        try:
            yield
        except BadEntry as error:
            self.broken.append(Broken(where, str(error)))

    def finished(self) -> EvaluationSet:
        """Return the finished set.

        Raises:
            BadSet: no query is left.
        """
        name = self.about.get("name", self.folder.resolve().name)
        if not self.queries:
            first = next((f"; the first is {one.where}: {one.reason}" for one in self.broken), "")
            raise BadSet(
                f"{self.folder} has no usable query: {len(self.broken)} rows are broken{first}"
            )
        kinds = {one.kind for one in self.candidates.values()}
        kinds |= {one.entry.kind for one in self.queries}
        category: Category = self.about.get("category") or _category(kinds)
        return EvaluationSet(
            name=name,
            category=category,
            metric=self.about.get("metric", MAIN_METRIC[category]),
            queries=tuple(self.queries),
            candidates=self.candidates,
            broken=tuple(self.broken),
            digest=_digest(self.files),
        )


def objects(path: Path, broken: list[Broken]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number (from 1) and object of each JSON line; add the others to `broken`.

    Raises:
        BadSet: the file cannot be read.
    """
    try:
        for number, line in numbered_lines(path):
            try:
                row = parsed_object(line)
            except BrokenRow as error:
                broken.append(Broken(f"{path.name}:{number}", str(error)))
            else:
                yield number, row
    except Unreadable as error:
        raise BadSet(str(error)) from error


def _category(kinds: Iterable[Modality]) -> Category:
    """Choose the category: documents if there is a page, then videos, else images."""
    kinds = set(kinds)
    if Modality.PAGE in kinds:
        return "document"
    return "video" if Modality.VIDEO in kinds else "image"


def _check_about(path: Path, about: Any) -> None:
    choices = {
        "category": CATEGORIES,
        "metric": tuple(METRICS),
        **dict.fromkeys(("name", "images", "language")),
    }
    if not isinstance(about, dict):
        raise BadSet(f"{path} is not an object")
    problems = [f"unknown key {key!r}" for key in about if key not in choices]
    for key, allowed in choices.items():
        if key in about and not isinstance(about[key], str):
            problems.append(f"{key} must be a text")
        elif key in about and allowed and about[key] not in allowed:
            problems.append(f"{key} must be one of {', '.join(allowed)}")
    name = about.get("name", "x")
    if name in ("", ".", "..") or {"/", "\0"} & set(str(name)):
        problems.append("name must be usable as a file name")
    if problems:
        raise BadSet(f"{path} is invalid: {'; '.join(problems)}")


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
