"""The page: HTML from Jinja templates, and the handlers of its events."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from app import texts
from app.page import labels
from embedder.media import MEDIA_KINDS
from indexer.types import clock

_LINE_BREAKS_AT_TAGS = re.compile(r"\s*\n\s*(?=[<{])|(?<=[>}])\s*\n\s*")


class _DropLineBreaks(Extension):
    """Drops line breaks beside tags, which browsers would show as spaces."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the template's source in one line."""
        return _LINE_BREAKS_AT_TAGS.sub("", source)


def _readable(value: object) -> object:
    """Replace lone surrogates in what a template inserts: names of files may hold some."""
    if not isinstance(value, str):
        return value
    return (Markup if isinstance(value, Markup) else str)(labels.readable(value))


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,  # Names, texts and messages come from outside.
    finalize=_readable,
    undefined=StrictUndefined,
    extensions=[_DropLineBreaks],
)
_environment.filters |= {
    "day": labels.day,
    "duration": labels.duration,
    "fact": labels.fact,
    "moment": labels.moment,
    "filesize": labels.size,
    "clock": clock,
    "language_named": texts.language_named,
    "sentence": labels.sentence,
}
_environment.globals |= {
    "_": texts.gettext_html,
    "ngettext": texts.ngettext_html,
    "number": texts.number,
    "language": texts.language,
    "languages": texts.LANGUAGES,
    "absence": labels.absence,
    "place_in": labels.place,
    "further_places": labels.further_places,
    "folder": labels.folder_name,
    "kinds": MEDIA_KINDS,
    "labels": labels.KIND_LABELS,
    "date_sources": labels.DATE_SOURCES,
}


def render(template: str, **context: Any) -> str:
    """Render a whole document."""
    return _environment.get_template(template).render(context)


class Macros(Protocol):
    """A template's macros by name: functions that return escaped HTML."""

    def __getattr__(self, name: str) -> Callable[..., Markup]: ...


def macros(template: str) -> Macros:
    """Return a template's macros."""
    return cast(Macros, _environment.get_template(template).module)
