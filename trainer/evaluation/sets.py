"""Evaluation sets: queries, candidates and which belong together, decoded when needed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, StrictInt

from embedder.content import Modality
from trainer.data.examples import BrokenRow, Side
from trainer.data.readers import Fields, SideFields, numbered_lines, parsed_object
from trainer.evaluation.metrics import MAIN_METRIC, METRICS, Category

ABOUT_FILE = "dataset.json"


class _EntryFields(SideFields):
    id: str | StrictInt | None = None
    image: str | None = None
    instruction: str | None = None


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
            stated: An object with the fields of a side, `id`, `image` and `instruction`.
            root: Folder that relative paths start from.
            default_id: Its id if it states none.

        Raises:
            BrokenRow: a field is missing, unknown or of the wrong type.
        """
        if isinstance(stated, dict):  # Tables have empty texts where there is nothing.
            stated = {k: v for k, v in stated.items() if v != "" or k == "instruction"}
        given = _EntryFields.of(stated)
        name = default_id if given.id is None else given.id
        if name is None:
            raise BrokenRow("it has no id")
        images = tuple(one for one in (given.image, *given.images) if one)
        try:
            side = given.model_copy(update={"images": images}).side(lambda path: root / path)
        except ValueError as error:
            raise BrokenRow(str(error)) from error
        return cls(str(name), side, given.instruction)

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


def _file_name(name: str) -> str:
    if name in ("", ".", "..") or {"/", "\0"} & set(name):
        raise ValueError("it must be usable as a file name")
    return name


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"it must be one of {', '.join(METRICS)}")
    return name


class About(Fields):
    """The contents of `dataset.json`, which says what the files of a set leave open."""

    name: Annotated[str, AfterValidator(_file_name)] | None = None
    category: Category | None = None
    metric: Annotated[str, AfterValidator(_metric)] | None = None
    images: str | None = None
    language: str | None = None


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
    about: About
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
        path, about, files = folder / ABOUT_FILE, About(), []
        if path.is_file():
            try:
                about = About.of(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, RecursionError) as error:
                raise BadSet(f"{path} is invalid: {error}") from error
            files.append(path)
        return cls(folder, images or folder / (about.images or ""), about, files=files)

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return self.about.name or self.folder.resolve().name

    @contextmanager
    def recording(self, where: str) -> Iterator[None]:
        """Record a row as broken where the block raises `BrokenRow`."""
        try:
            yield
        except BrokenRow as error:
            self.broken.append(Broken(where, str(error)))

    def finished(self) -> EvaluationSet:
        """Return the finished set.

        Raises:
            BadSet: no query is left.
        """
        if not self.queries:
            first = next((f"; the first is {one.where}: {one.reason}" for one in self.broken), "")
            raise BadSet(
                f"{self.folder} has no usable query: {len(self.broken)} rows are broken{first}"
            )
        kinds = {one.kind for one in self.candidates.values()}
        kinds |= {one.entry.kind for one in self.queries}
        category = self.about.category or _category(kinds)
        return EvaluationSet(
            name=self.name,
            category=category,
            metric=self.about.metric or MAIN_METRIC[category],
            queries=tuple(self.queries),
            candidates=self.candidates,
            broken=tuple(self.broken),
            digest=_digest(self.files),
        )


def objects(path: Path, broken: list[Broken]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number (from 1) and object of each JSON line; add the others to `broken`.

    Raises:
        Unreadable: the file cannot be opened.
    """
    for number, line in numbered_lines(path):
        try:
            yield number, parsed_object(line)
        except BrokenRow as error:
            broken.append(Broken(f"{path.name}:{number}", str(error)))


def _category(kinds: Iterable[Modality]) -> Category:
    """Choose the category: documents if there is a page, then videos, else images."""
    kinds = set(kinds)
    if Modality.PAGE in kinds:
        return "document"
    return "video" if Modality.VIDEO in kinds else "image"


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
