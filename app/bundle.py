"""The scripts of the page as one module, since thirty requests cost a first visit 20 kB and time.

They stay ES modules without a build step: the server puts them together when it starts. Each
becomes a function that returns what it exports, after those that it imports from.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_COMMENT = re.compile(r"^[ \t]*(?:/\*.*?\*/[ \t]*|//[^\n]*)\n", re.DOTALL | re.MULTILINE)
_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
_DECLARED = re.compile(r"^export ((?:async )?function|const|class) (\w+)", re.MULTILINE)
_LISTED = re.compile(r"^export \{([^}]*)\};\n", re.MULTILINE)


def bundled(folder: Path, entry: str) -> str:
    """Return a module with the exports of `entry`, and all it needs of the folder inside.

    Comments that begin a line are left out: types, for the most part. Modules must not import each
    other in a circle, nor export what they assign again later.

    Args:
        folder: Where the scripts are.
        entry: The name of one of them, without its ending.

    Raises:
        ValueError: if a script has an import or an export of another form.
    """
    outside: dict[str, None] = {}
    parts = [_as_function(name, text, outside) for name, text in _in_order(folder, entry, set())]
    names = ", ".join(_exports(_read(folder, entry)))
    return "".join([*outside, *parts, f"export const {{ {names} }} = ${entry};\n"])


def _read(folder: Path, name: str) -> str:
    return _COMMENT.sub("", (folder / f"{name}.js").read_text("utf-8"))


def _in_order(folder: Path, name: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield scripts and their texts, each after those that it imports from."""
    seen.add(name)
    text = _read(folder, name)
    for _, source in _IMPORT.findall(text):
        other = _inside(source)
        if other and other not in seen:
            yield from _in_order(folder, other, seen)
    yield name, text


def _inside(source: str) -> str:
    """Return the name of a script of the folder; empty for others, such as the page's texts."""
    return source[2:-3] if source.startswith("./") else ""


def _as_function(name: str, text: str, outside: dict[str, None]) -> str:
    """Return a script as a function that is called at once; imports from outside are noted."""

    def imported(found: re.Match[str]) -> str:
        other = _inside(found[2])
        if not other:
            outside[found[0]] = None
            return ""
        names = found[1].replace(" as ", ": ")
        return f"const {{{names}}} = ${other};\n"

    body = _IMPORT.sub(imported, _LISTED.sub("", _DECLARED.sub(r"\1 \2", text)))
    if re.search(r"^(import|export)\b", body, re.MULTILINE):
        raise ValueError(f"{name}.js imports or exports something in an unknown form")
    return f"const ${name} = (() => {{\n{body}return {{ {', '.join(_exports(text))} }};\n}})();\n"


def _exports(text: str) -> list[str]:
    listed = ",".join(_LISTED.findall(text))
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return [found[2] for found in _DECLARED.finditer(text)] + names
