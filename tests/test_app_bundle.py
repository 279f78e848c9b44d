"""The page's scripts as one module."""

import re

import pytest

from app.bundle import bundled
from app.server import ASSETS


def write(folder, **scripts):
    for name, text in scripts.items():
        (folder / f"{name}.js").write_text(text)


def test_scripts_come_once_each_after_what_they_import(tmp_path):
    write(
        tmp_path,
        a='import { b, again as other } from "./b.js";\nimport {\n  c,\n} from "./c.js";\n'
        "/** Types. */\nexport function start() {\n  // Why.\n  return b + c + other;\n}\n",
        b='import { c } from "./c.js";\nexport const b = c + 1;\nexport const again = 1;\n',
        c='import { given } from "../given.js";\nexport const c = 2;\nexport { given };\n',
    )
    assert bundled(tmp_path, "a") == (
        'import { given } from "../given.js";\n'
        "const $c = (() => {\nconst c = 2;\nreturn { c, given };\n})();\n"
        "const $b = (() => {\nconst { c } = $c;\nconst b = c + 1;\nconst again = 1;\n"
        "return { b, again };\n})();\n"
        "const $a = (() => {\nconst { b, again: other } = $b;\nconst {\n  c,\n} = $c;\n"
        "function start() {\n  return b + c + other;\n}\nreturn { start };\n})();\n"
        "export const { start } = $a;\n"
    )


@pytest.mark.parametrize(
    "script",
    ["export let a = 1;\n", "export default 1;\n", 'import * as b from "./b.js";\n'],
)
def test_an_unknown_form_is_refused(tmp_path, script):
    write(tmp_path, a=script, b="")
    with pytest.raises(ValueError, match=r"a\.js imports or exports something"):
        bundled(tmp_path, "a")


def test_all_scripts_of_the_page_are_in_it_with_all_lines_but_comments():
    found = bundled(ASSETS, "app")
    names = set(re.findall(r"^const \$(\w+) = ", found, re.MULTILINE))
    assert names == {path.stem for path in ASSETS.glob("*.js")}
    sent = set(found.splitlines())
    for path in ASSETS.glob("*.js"):
        for line in path.read_text("utf-8").splitlines():
            is_comment = line.lstrip().startswith(("//", "/*", "* ", "*/")) or line == " *"
            is_linked = re.match(r"import |export |\} from ", line)
            assert is_comment or is_linked or line in sent, (path.name, line)
    assert not re.search(r"^\s*(//|/\*)", found, re.MULTILINE)
