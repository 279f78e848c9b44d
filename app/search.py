"""Searching: validating what a request asks for, and turning it into a query."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from app.dates import Period, split_dates
from app.page.labels import folder_of
from app.query_files import QueryFiles
from app.texts import N_
from embedder.content import Content, Modality
from embedder.interface import ModelSpec
from embedder.media.kinds import Kind
from indexer import (
    Filters,
    Library,
    Query,
    QueryError,
    QueryPart,
    Sort,
    Status,
)
from indexer.search.filters import parse_dates
from indexer.search.query import (
    file_part,
    terms,
    text_part,
    with_instruction,
    without_excluded,
)

MAX_DATABASE_INTEGER = 2**63 - 1
"""The largest number that the database can store."""

MAX_QUERY_FILES = 8
"""Files that one search may be with."""

MAX_QUERY_SEGMENTS = 16
"""Segments of the library that one search may be like."""

MAX_SELECTED = 10_000
"""Files that can be selected together."""

_MAX_TEXT = 20_000
_MAX_INSTRUCTION = 2_000

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    """Validate what came over the wire.

    Raises:
        QueryError: if a value is of the wrong type or out of range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # Inputs are private: they must not be logged.
        field = ".".join(map(str, first["loc"]))
        raise QueryError(f"invalid {field}: {first['msg']}") from None


def _encodable(value: object) -> object:
    """Replace lone surrogates, which neither a database nor HTML can hold."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value or ""


def _integer(value: object) -> object:
    """Make nothing of an empty text, and refuse booleans, which Python counts as integers."""
    return str(value) if isinstance(value, bool) else None if value == "" else value


Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=_MAX_TEXT),
    BeforeValidator(_encodable),
]
"""A text of bounded length; null is the empty text."""

Number = Annotated[int, Field(ge=0, le=MAX_DATABASE_INTEGER), BeforeValidator(_integer)]
"""A number that the database can store."""

_Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]

_Kinds = Annotated[
    tuple[Kind, ...],
    BeforeValidator(lambda value: value or ()),
    AfterValidator(lambda kinds: tuple(dict.fromkeys(kinds))),
]


Fill: TypeAlias = Callable[[int], None]
"""Puts into an album what a search finds now; see `LivingAlbums.keep_filled`."""


class Window(BaseModel):
    """Which part of a list to return."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_DATABASE_INTEGER - 200)] = 0


class FileFilter(Window):
    """Which files of the library to list."""

    status: Status = Status.INDEXED
    name: Text = ""


class FileSelection(BaseModel):
    """Files of the library, by their ids."""

    item_ids: Annotated[list[Number], Field(max_length=MAX_SELECTED)] = []


class SearchForm(BaseModel):
    """A search as a user enters it; empty values are ignored.

    Attributes:
        text: Words.
        literal: What looks like a date in the words, and is none.
        files: Ids from `QueryFiles`, or other references that it resolves.
        similar: Segments of the library to be like.
        border: Probability from which on hits are matches.
        balance: 0 considers the words only, 1 the files and segments only; matters where both are
            given. The latter count the same.
        not_like: Words that hits should not be like.
        kinds: Kinds of media; empty means all.
        folder: A folder's id from `app.page.labels`.
        album: An album's id.
        after: First day, month or year, as 2026-03-31, 2026-03 or 2026.
        before: Last day, month or year, included.
        has_text: Only files with words in them.
        instruction: The model's instruction for the words and the files, in place of its default;
            only for models that take instructions.
        sort: Order of the strong hits; without words or an example, of all files that fit.
    """

    model_config = ConfigDict(frozen=True)

    text: Text = ""
    literal: Text = ""
    files: Annotated[
        tuple[object, ...],
        Field(max_length=MAX_QUERY_FILES),
        BeforeValidator(lambda value: value or ()),
    ] = ()
    similar: Annotated[
        tuple[Number, ...],
        Field(max_length=MAX_QUERY_SEGMENTS),
        BeforeValidator(lambda value: value or ()),
        AfterValidator(lambda segments: tuple(dict.fromkeys(segments))),
    ] = ()
    border: _Share = 0.5
    balance: _Share = 0.5
    not_like: Text = ""
    kinds: _Kinds = ()
    folder: Text = ""
    album: Annotated[Number | None, BeforeValidator(_integer)] = None
    after: Text = ""
    before: Text = ""
    has_text: Annotated[bool, BeforeValidator(lambda value: value or False)] = False
    instruction: Annotated[
        str,
        StringConstraints(strip_whitespace=True, max_length=_MAX_INSTRUCTION),
        BeforeValidator(_encodable),
    ] = ""
    sort: Annotated[Sort, BeforeValidator(lambda value: value or Sort.RELEVANCE)] = Sort.RELEVANCE

    def dated(self, library: Library) -> tuple[Self, Period | None]:
        """Return the form with a date in its words as its filter, and the period that it says.

        A filter by dates that is set already leaves the words as they are. A year alone is no date
        where words of the library have it, or no file is of that year.
        """
        if self.after or self.before:
            return self, None
        rest, period = split_dates(self.text, datetime.now().astimezone().date())
        if period is None or period.phrase == self.literal:
            return self, None
        bounds = {
            "after": period.first.isoformat() if period.first else "",
            "before": period.last.isoformat() if period.last else "",
        }
        form = self.model_copy(update={"text": rest} | bounds)
        if period.is_year and not form._means_year(library, self.text):
            return self, None
        return form, period

    def _means_year(self, library: Library, text: str) -> bool:
        """Return whether files are of the year of these filters, and no text has all the words."""
        catalog, (after, before) = library.catalog, parse_dates(self.after, self.before)
        if not catalog.timeline.files(Filters(after=after, before=before), limit=1):
            return False
        if not self.text:
            return True
        asked = terms(text)
        named = catalog.find_names(asked, Filters(), 1).values()
        is_named = any(match.share >= 1 for found in named for match in found)
        return not is_named and not catalog.find_words(asked).every.any()

    def query(self, library: Library, files: QueryFiles, fill: Fill) -> Query:
        """Return the query for the indexer; see `filters`.

        Raises:
            QueryError: if there is nothing to search for, if a file, folder or date is unusable,
                or if an instruction is given and the library's model takes none.
        """
        parts: list[QueryPart] = []
        examples = len(self.files) + len(self.similar)
        text_weight, example_weight = 1.0, 1.0
        text, without = without_excluded(self.text)
        if text and examples:
            text_weight, example_weight = 2 * (1 - self.balance), 2 * self.balance / examples
        if text and text_weight:
            parts.append(text_part(text, text_weight))
        if example_weight:
            parts += self._examples(library, files, example_weight)
        if self.instruction:
            self._check_instruction(library)
            parts = [with_instruction(part, self.instruction) for part in parts]
        if not parts:
            raise QueryError(N_("type what you are looking for, or drop a file to search with"))
        if self.not_like:
            parts.append(text_part(self.not_like, -1.0))
        return Query(tuple(parts), self.filters(library, fill), without=without)

    def _examples(self, library: Library, files: QueryFiles, weight: float) -> Iterator[QueryPart]:
        """Yield the parts for files and segments."""
        for file in self.files:
            path = files.resolve(file)
            yield file_part(path, weight, limits=library.limits, viewer=library.viewer)
        for segment_id in self.similar:
            library.catalog.segment(segment_id)
            yield QueryPart(segment_id=segment_id, weight=weight)

    def _check_instruction(self, library: Library) -> None:
        info = library.embedder.info
        if not info.takes_instructions:
            family = ModelSpec.parse(info.name).family  # The rest may be a path of this machine.
            raise QueryError(
                N_(
                    "the library's model, {family}, takes no instructions: leave the instruction "
                    "empty",
                    family=family,
                )
            )

    def filters(self, library: Library, fill: Fill) -> Filters:
        """Return the filters for the indexer.

        Args:
            library: Which is searched.
            fill: Fills the album, if it is one that fills itself.

        Raises:
            QueryError: if the folder or a date is unusable.
        """
        after, before = parse_dates(self.after or None, self.before or None)
        folder = folder_of(library, self.folder) if self.folder else None
        if self.album is not None:
            fill(self.album)
        kinds = frozenset(self.kinds)
        return Filters(kinds, folder, after, before, self.album, self.has_text)


def warm_up(library: Library) -> None:
    """Load the model and start a decoding process before the first search needs them."""
    library.viewer.prepare()
    for text in ("warm up", "aufwärmen"):  # Some models load a part for other languages later.
        library.embedder.embed([Content(text=text, modality=Modality.TEXT)], role="query")
