"""The page's texts in the user's language: English is the key, catalogues have the others.

`_` and `ngettext` translate into the language of the request that is being answered, which
`LanguageMiddleware` finds out. Values are inserted by name, numbers as the language writes them:

    _("{name} is not connected", name=disk)
    ngettext("{n} file", "{n} files", count)

A catalogue is `languages/<code>.po`; `make texts` brings them up to date.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from markupsafe import Markup, escape
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

_FOLDER = Path(__file__).parent / "languages"
_ENGLISH = "en"
_REGIONS = {"en": "en_GB"}  # 3 May 2024: without the region it would be May 3, 2024.

LANGUAGES = {
    code: Locale.parse(code).get_display_name(code) or code
    for code in (_ENGLISH, *sorted(path.stem for path in _FOLDER.glob("*.po")))
}
"""The page's languages by code, each by its own name."""

COOKIE = "rzen-language"
"""The cookie with the language that a user has chosen; the page's script sets it."""

_MAX_TRIED = 200  # The numbers that show all plural forms of a language.

_language: ContextVar[str] = ContextVar("language", default=_ENGLISH)


# ---- texts


def _(message: str, /, **values: object) -> str:
    """Translate a text, and insert values by name."""
    text, values = _translated(message, values)
    return _filled(text, values)


def ngettext(singular: str, plural: str, n: int, /, **values: object) -> str:
    """Translate a text in the form that goes with the number n, and insert n and other values."""
    return _filled(_catalogue().translations.ngettext(singular, plural, n), {"n": n, **values})


def gettext_html(message: str, /, **values: object) -> Markup:
    """Translate a text for HTML: it and its values are escaped, except for values of HTML."""
    text, values = _translated(message, values)
    return _filled(escape(text), values)


def ngettext_html(singular: str, plural: str, n: int, /, **values: object) -> Markup:
    """Do for HTML what `ngettext` does."""
    text = _catalogue().translations.ngettext(singular, plural, n)
    return _filled(escape(text), {"n": n, **values})


class Marked(str):
    """A text in English that is translated where it is shown, by `_`."""

    message: str
    values: dict[str, object]


def N_(message: str, /, **values: object) -> Marked:  # noqa: N802 -- gettext's name
    """Mark a text that is made before it is known who will read it."""
    with using(_ENGLISH):
        text = Marked(_filled(message, values))
    text.message, text.values = message, values
    return text


def message_of(error: Exception) -> str:
    """Return an error's message, which `_` can translate if it was marked."""
    message = error.args[0] if error.args else ""
    return message if isinstance(message, Marked) else str(error)


def _translated(message: str, values: dict[str, object]) -> tuple[str, dict[str, object]]:
    if isinstance(message, Marked):
        values = {**message.values, **values}
        message = message.message
    # The translation of the empty text is the catalogue's header.
    return _catalogue().translations.gettext(message) if message else "", values


_Text = TypeVar("_Text", str, Markup)


def _filled(text: _Text, values: Mapping[str, object]) -> _Text:
    written = {name: _written(value) for name, value in values.items()}
    return text.format(**written) if written else text


def _written(value: object) -> object:
    if isinstance(value, Marked):
        return _(value)
    return number(value) if isinstance(value, int | float) else value


def number(value: float, digits: int | None = None) -> str:
    """Format a number as the language writes it.

    Args:
        value: The number.
        digits: How many to write after the decimal point; at most three by default.
    """
    pattern = None if digits is None else "#,##0" + ("." + "0" * digits if digits else "")
    return format_decimal(value, pattern, locale=_catalogue().locale)


def day(day: date, skeleton: str = "yMMMd") -> str:
    """Format a date with the fields of a CLDR skeleton: 3 May 2024."""
    return format_skeleton(skeleton, day, locale=_catalogue().locale)


def language_named(code: str) -> str:
    """Return a language in words, given its code as in names of files; else what was given."""
    try:
        spoken = Locale.parse(code.replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return code
    if len(code) > 3:
        return spoken.get_display_name(_catalogue().locale) or code
    return str(_catalogue().locale.languages.get(spoken.language, code))


# ---- catalogues


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """The texts of a language.

    Attributes:
        locale: Its way to write numbers and dates.
        translations: Of all texts.
        scripts: The texts of the page's scripts: English ones, and their translations; where they
            depend on a number, by the plural categories of `Intl.PluralRules`.
    """

    locale: Locale
    translations: NullTranslations
    scripts: dict[str, str | dict[str, str]]


def _catalogue() -> _Catalogue:
    return _load(_language.get())


@cache
def _load(language: str) -> _Catalogue:
    locale = Locale.parse(_REGIONS.get(language, language))
    if language == _ENGLISH:
        return _Catalogue(locale, NullTranslations(), {})
    with (_FOLDER / f"{language}.po").open("rb") as file:
        messages = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    translations = GNUTranslations(compiled)
    return _Catalogue(locale, translations, _of_scripts(messages, translations, locale))


def _of_scripts(
    messages: Catalog, translations: NullTranslations, locale: Locale
) -> dict[str, str | dict[str, str]]:
    texts: dict[str, str | dict[str, str]] = {}
    for message in messages:
        if not any(path.endswith(".js") for path, _ in message.locations):
            continue
        if isinstance(message.id, str):
            texts[message.id] = translations.gettext(message.id)
        else:
            singular, plural = message.id
            texts[singular] = {
                locale.plural_form(n): translations.ngettext(singular, plural, n)
                for n in range(_MAX_TRIED)
            }
    return texts


def script() -> str:
    """Return the JavaScript module with the texts of the page's scripts."""
    catalogue = _catalogue()
    constants = {
        "language": _language.get(),
        "locale": str(catalogue.locale).replace("_", "-"),
        "messages": catalogue.scripts,
    }
    return "".join(
        f"export const {name} = {json.dumps(value)};\n" for name, value in constants.items()
    )


# ---- the language of a request


def language() -> str:
    """Return the code of the language that texts are translated into."""
    return _language.get()


@contextmanager
def using(code: str) -> Iterator[None]:
    """Translate into a language meanwhile."""
    token = _language.set(code)
    try:
        yield
    finally:
        _language.reset(token)


def use(code: str) -> None:
    """Translate into a language from now on, in this task."""
    _language.set(code)


_RANGE = re.compile(r"\s*([a-z]{2,3})\b[\w-]*\s*(?:;\s*q=([01](?:\.\d*)?)\s*)?", re.IGNORECASE)


def preferred(headers: Headers) -> str:
    """Return the language of a request: the one chosen, the best one accepted, or English."""
    chosen = cookie_parser(headers.get("cookie", "")).get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    ranges = map(_RANGE.fullmatch, headers.get("accept-language", "").split(","))
    accepted = [
        (float(found[2] or 1), found[1].lower())
        for found in ranges
        if found and found[1].lower() in LANGUAGES
    ]
    quality, best = max(accepted, key=lambda one: one[0], default=(0.0, _ENGLISH))
    return best if quality else _ENGLISH


class LanguageMiddleware:
    """Has texts translated into the language of each request.

    Gradio's routes, for programs and agents, answer in English; the page's own events choose its
    language themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if scope["type"] != "http" or scope["path"].startswith("/gradio_api/"):
            await self._app(scope, receive, send)
            return
        with using(preferred(Headers(scope=scope))):
            await self._app(scope, receive, send)
