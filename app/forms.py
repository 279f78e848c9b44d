"""What the page and the API ask for, checked: from loose values to a `Query` of the indexer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from app.folders import folder_of
from app.query_files import QueryFiles
from embedder.media.kinds import Kind
from indexer import Filters, Library, Query, QueryError, QueryPart
from indexer.queries import file_part, instructed, moment, text_part

MOST_NUMBER = 2**63 - 1
"""The largest number that a database keeps."""

_MAX_TEXT = 20_000
_MAX_INSTRUCTION = 2_000


@dataclass(frozen=True, slots=True)
class SearchForm:
    """A search as a person states it; empty values mean that nothing is asked.

    Attributes:
        text: Words.
        file: An id from `QueryFiles`, or another reference that it resolves.
        similar: Segment of the library to be like.
        balance: 0 looks at the words only, 1 at the file only; matters where both are given.
        not_like: Words to stay away from.
        kinds: Kinds of media; empty means all.
        folder: A folder's id from `app.folders`.
        after: First day, as 2026-03-31.
        before: Last day, included.
        instruction: What the model is told to do with the words and the file, in place of its
            own; only for models that take instructions.
    """

    text: str = ""
    file: object = None
    similar: int | None = None
    balance: float = 0.5
    not_like: str = ""
    kinds: tuple[Kind, ...] = ()
    folder: str = ""
    after: str = ""
    before: str = ""
    instruction: str = ""

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> Self:
        """Checks what came over the wire.

        Raises:
            QueryError: if a value is of a wrong type or out of range.
        """
        return cls(
            text=_text(values, "text"),
            file=values.get("file") or None,
            similar=_segment_id(values.get("similar")),
            balance=_balance(values.get("balance", 0.5)),
            not_like=_text(values, "not_like"),
            kinds=_kinds(values.get("kinds")),
            folder=_text(values, "folder"),
            after=_text(values, "after"),
            before=_text(values, "before"),
            instruction=_text(values, "instruction", _MAX_INSTRUCTION),
        )

    def query(self, library: Library, files: QueryFiles) -> Query:
        """The query that the indexer understands.

        Raises:
            QueryError: if there is nothing to look for, if a file, folder or date is unusable, or
                if the library's model takes no instruction and one is given.
        """
        parts: list[QueryPart] = []
        pictured = self.file is not None or self.similar is not None
        words_weight, file_weight = self._weights(bool(self.text) and pictured)
        if self.text and words_weight:
            parts.append(text_part(self.text, words_weight))
        if self.file is not None and file_weight:
            path = files.resolve(self.file)
            parts.append(file_part(path, file_weight, limits=library.limits, viewer=library.viewer))
        if self.similar is not None and file_weight:
            library.segment(self.similar)
            parts.append(QueryPart(segment_id=self.similar, weight=file_weight))
        if self.instruction:
            self._check_instruction(library)
            parts = [instructed(part, self.instruction) for part in parts]
        if not parts:
            raise QueryError("type what you are looking for, or drop a file to search with")
        if self.not_like:
            parts.append(text_part(self.not_like, -1.0))
        return Query(parts=tuple(parts), filters=self._filters(library))

    def _check_instruction(self, library: Library) -> None:
        info = library.embedder.info
        if not info.takes_instructions:
            family = info.name.partition(":")[0]  # The rest may be a path of this machine.
            raise QueryError(
                f"the library's model, {family}, takes no instructions: leave the instruction empty"
            )

    def _weights(self, both: bool) -> tuple[float, float]:
        if not both:
            return 1.0, 1.0
        return 2 * (1 - self.balance), 2 * self.balance

    def _filters(self, library: Library) -> Filters:
        after = moment(self.after) if self.after else None
        before = moment(self.before) if self.before else None
        if before is not None and len(self.before.strip()) == len("2026-03-31"):
            before = _next_day(before)
        if after is not None and before is not None and after >= before:
            raise QueryError("the first day comes after the last one: swap the dates")
        folder = folder_of(library, self.folder) if self.folder else None
        return Filters(kinds=frozenset(self.kinds), folder=folder, after=after, before=before)


def _next_day(day: datetime) -> datetime:
    """The same time a calendar day later, whatever the clocks did in between."""
    try:
        return (day.replace(tzinfo=None) + timedelta(days=1)).astimezone()
    except OverflowError:  # The last day of all.
        return day


def _text(values: Mapping[str, object], name: str, most: int = _MAX_TEXT) -> str:
    value = values.get(name) or ""
    if not isinstance(value, str):
        raise QueryError(f"{name} must be a text")
    if len(value) > most:
        raise QueryError(f"{name} must not be longer than {most} characters")
    return value.encode(errors="replace").decode().strip()  # No database takes half a character.


def _segment_id(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise QueryError("a segment is named by its number")
    written = str(value) if isinstance(value, str) or abs(value) < MOST_NUMBER else ""
    if (
        not written.isdecimal()
        or len(written) > len(str(MOST_NUMBER))
        or int(written) > MOST_NUMBER
    ):
        raise QueryError("a segment is named by its number")
    return int(written)


def _balance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise QueryError("the balance between words and file must be a number from 0 to 1")
    return float(value)


def _kinds(value: object) -> tuple[Kind, ...]:
    if not value:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise QueryError("kinds must be a list")
    known = ", ".join(Kind)
    try:
        return tuple(dict.fromkeys(Kind(str(kind)) for kind in value))
    except ValueError:
        raise QueryError(f"kinds can be {known}, nothing else") from None
