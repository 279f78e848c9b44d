"""The page: HTML from Jinja templates, and the handlers of its events."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension

from app.page import labels
from embedder.media import MEDIA_KINDS

_LINE_BREAKS_AT_TAGS = re.compile(r"\s*\n\s*(?=[<{])|(?<=[>}])\s*\n\s*")


class _DropLineBreaks(Extension):
    """Drops line breaks beside tags, which browsers would show as spaces."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the template's source in one line."""
        return _LINE_BREAKS_AT_TAGS.sub("", source)


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
    autoescape=True,  # Names, texts and messages come from outside.
    undefined=StrictUndefined,
    extensions=[_DropLineBreaks],
)
_environment.filters |= {
    "count": labels.counted,
    "day": labels.day,
    "duration": labels.duration,
    "filesize": labels.size,
    "sentence": labels.sentence,
}
_environment.globals |= {
    "kinds": MEDIA_KINDS,
    "labels": labels.KIND_LABELS,
}


def render(template: str, **context: Any) -> str:
    """Render a whole document."""
    return _environment.get_template(template).render(context)


def macros(template: str) -> Any:
    """Return a template's macros: functions that return escaped HTML.

    Pass what they return through `labels.readable` before it is sent.
    """
    return _environment.get_template(template).module
