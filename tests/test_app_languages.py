"""The languages of the page: which one a request gets, and that each catalogue has all texts."""

import ast
import json
import re
import tomllib
from datetime import date
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from app import texts
from app.models import Offer
from app.page import render
from embedder.registry import BACKENDS

ROOT = Path(__file__).parents[1]
OTHERS = sorted(set(texts.LANGUAGES) - {"en"})
KEYWORDS = {**DEFAULT_KEYWORDS, "t": None, "tn": (1, 2), "N_": None}


@pytest.fixture(scope="module")
def used():
    """The messages in the code, with the files that they are in."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["babel"]["mappings"]
    methods = [(one["pattern"], one["method"]) for one in mappings]
    found = {}
    for file, _, message, *_ in extract_from_dir(ROOT / "app", methods, keywords=KEYWORDS):
        found.setdefault(message, set()).add(f"app/{file}")
    return found


def catalogue(language):
    with (ROOT / f"app/languages/{language}.po").open("rb") as file:
        return [message for message in read_po(file, locale=language) if message.id]


def strings(message):
    """A message's texts: its forms, where they depend on a number."""
    return [message] if isinstance(message, str) else list(message)


@pytest.mark.parametrize("language", OTHERS)
def test_catalogue_has_all_texts_and_no_others(language, used):
    listed = {one.id: {file for file, _ in one.locations} for one in catalogue(language)}
    assert listed == used, "run `make texts`"
    missing = [one.id for one in catalogue(language) if not all(strings(one.string))]
    assert not missing, "translate them"


@pytest.mark.parametrize("language", OTHERS)
def test_translations_insert_the_same_values(language):
    def values(text):
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}

    for one in catalogue(language):
        wanted = values(strings(one.id)[-1])
        for string in strings(one.string):
            assert values(string) == wanted, one.id


# What is the same in all languages, or an example of what to type.
NAMES = {"RzenEmbed Search", "~/Pictures", "private, *.tmp, 2019/drafts"}
LETTERS = re.compile("[A-Za-z]{2}")


def unmarked_in_template(source):
    """What a template says beside its expressions, in English."""
    html = re.sub(r"{#.*?#}|{{.*?}}|{%.*?%}", "\0", source, flags=re.DOTALL)
    attributes = re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', html)
    between = re.split(r"<[^>]*>|\0|&\w+;", html)
    return [text for text in (*attributes, *map(str.strip, between)) if LETTERS.search(text)]


def unmarked_in_script(source):
    """The strings of a script that look like texts, but for the first ones in t() and tn()."""
    string = r'"(?:[^"\\\n]|\\.)*"'
    code = re.sub(r"^\s*(//|/\*\*|\*).*|\s// .*", "", source, flags=re.MULTILINE)
    code = re.sub(rf"\btn?\((\s*{string}\s*[+,]?)+", "", code)
    found = [text[1:-1] for text in re.findall(string, code)]
    found += re.findall(r">([^<>{}]*)<", "".join(re.findall(r"`[^`]*`", code)))
    return [text for text in found if re.search(r"^[A-Z][a-z]+[ …]|[a-z][.,:;]? [a-z]+[ .…]", text)]


def unmarked_in_module(node):
    """The strings of a Python module that look like texts, but for those in _() and the like."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"_", "ngettext", "N_"}:
        return [text for one in node.keywords for text in unmarked_in_module(one.value)]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return []  # A docstring.
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if re.search(r"^[^<{]*[a-z][.,:;]? [a-z]", node.value) else []
    return [text for one in ast.iter_child_nodes(node) for text in unmarked_in_module(one)]


@pytest.mark.parametrize("module", sorted((ROOT / "app/page").glob("*.py")))
def test_page_says_nothing_that_is_not_translated(module):
    assert not unmarked_in_module(ast.parse(module.read_text())), "put it into _()"


@pytest.mark.parametrize("template", sorted((ROOT / "app/templates").glob("*.html")))
def test_templates_say_nothing_that_is_not_translated(template):
    found = {text.removeprefix("· ") for text in unmarked_in_template(template.read_text())}
    assert not found - NAMES, "put it into _()"


@pytest.mark.parametrize("script", sorted((ROOT / "app/assets").glob("*.js")))
def test_scripts_say_nothing_that_is_not_translated(script):
    assert not set(unmarked_in_script(script.read_text())) - NAMES, "put it into t()"


def test_unmarked_texts_are_found():
    assert unmarked_in_module(ast.parse("f(f'{n} files so far')")) == [" files so far"]
    assert not unmarked_in_module(ast.parse("f(_('{n} files so far', n=n))"))
    assert unmarked_in_template('<p title="{{ _("a b") }}">{{ x }} files</p>') == ["files"]
    assert unmarked_in_template('<i title="No file">{# a b #}{{ _("a b") }}</i>') == ["No file"]
    assert not unmarked_in_script('toast(t("Not sent. " + "Try again.")); // As above, so below.')
    assert unmarked_in_script('toast("Not sent.");') == ["Not sent."]
    assert unmarked_in_script("html = `<p>Not sent.</p>`;") == ["Not sent."]


def test_what_readers_and_models_say_is_translated(used):
    readers = ROOT / "embedder/media/metadata"
    source = "".join(one.read_text() for one in readers.glob("*.py"))
    labels = {*re.findall(r'\("([A-Z][a-z]+)", [\[a-z]', source)}
    labels |= {*re.findall('": "([A-Z][a-z]+)",\n', (readers / "properties.py").read_text())}
    assert len(labels) > 10
    assert labels <= set(used)
    listed = [one for one in BACKENDS.values() if one.listed]
    offers = [
        Offer(one.family, one.hub_model(name)) for one in listed for name in ("", *one.variants)
    ]
    said = {text for one in offers for text in (one.summary, *one.facts) if text}
    assert said - {"Apache-2.0", "MIT"} <= set(used)


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ({}, "en"),
        ({"accept-language": "de"}, "de"),
        ({"accept-language": "de-AT,de;q=0.9,en;q=0.8"}, "de"),
        ({"accept-language": "fr, EN-us;q=0.5, de;q=0.7"}, "de"),
        ({"accept-language": "en-GB,en;q=0.9,de;q=0.8"}, "en"),
        ({"accept-language": "de;q=0"}, "en"),
        ({"accept-language": "xx,*;q=0.5,de;q=nonsense,,;"}, "en"),
        ({"accept-language": "en", "cookie": "a=b; rzen-language=de"}, "de"),
        ({"accept-language": "de", "cookie": "rzen-language=../en"}, "de"),
    ],
)
def test_language_is_the_chosen_one_or_the_best_accepted(headers, language):
    assert texts.preferred(Headers(headers)) == language


def test_only_the_page_answers_in_the_language_of_the_request():
    async def app(scope, receive, send):
        await PlainTextResponse(texts.language())(scope, receive, send)

    client = TestClient(texts.LanguageMiddleware(app), headers={"Accept-Language": "de"})
    assert client.get("/results").text == "de"
    assert client.get("/gradio_api/call/search").text == "en"
    assert texts.language() == "en"


def test_texts_numbers_and_dates_are_written_as_the_language_does():
    spring = date(2024, 5, 3)
    assert texts.number(1234.5) == "1,234.5"
    assert texts.day(spring) == "3 May 2024"
    with texts.using("de"):
        assert texts.number(1234.5) == "1.234,5"
        assert texts.day(spring) == "3. Mai 2024"
        assert texts._("Password") == "Passwort"
        assert '<html lang="de">' in render("login.html", target="login")
        assert ">Anmelden</button>" in render("login.html", target="login")


def test_marked_text_is_translated_where_it_is_shown():
    marked = texts.N_("not connected: {name}", name="disk")
    assert marked == "not connected: disk"
    with texts.using("de"):
        assert texts._(marked) == "nicht verbunden: disk"


def test_values_in_html_are_escaped():
    assert texts.gettext_html("{name} & more", name="<b>") == "&lt;b&gt; &amp; more"
    assert texts.gettext_html("{name}", name=texts.Markup("<b>")) == "<b>"


def test_scripts_get_the_texts_they_show():
    with texts.using("de"):
        module = texts.script()
    constants = dict(re.findall(r"export const (\w+) = (.*);\n", module))
    assert json.loads(constants["language"]) == "de"
    shown = {one.id for one in catalogue("de") if any(".js" in file for file, _ in one.locations)}
    assert set(json.loads(constants["messages"])) == {strings(one)[0] for one in shown}
