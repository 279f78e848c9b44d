"""Invariants of the module graph that import-linter has no contract for."""

import ast
import sys
import threading
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

from indexer import Library, Query
from indexer.search.query import text_part

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "embedder", "indexer", "trainer")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for name in PACKAGES for p in (ROOT / name).rglob("*.py")}


def executed_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the statements that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from executed_on_import(child)


def imports_of(name: str) -> set[str]:
    """Return our modules that a module imports when it is imported."""
    found = set()
    for node in executed_on_import(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else node.module for one in full}
    return found & MODULES.keys() - {name}


def test_no_import_circle() -> None:
    try:
        TopologicalSorter({name: imports_of(name) for name in MODULES}).prepare()
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from None


def modules_entered(work: Callable[[], object]) -> set[str]:
    """Return our modules in which a call begins while some work is done, in any thread."""
    files = {str(path): name for name, path in MODULES.items()}
    entered = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (name := files.get(frame.f_code.co_filename)):
            entered.add(name)

    before = sys.getprofile(), threading.getprofile()
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])
    return entered


def test_an_ingest_and_a_search_can_be_followed_through_few_modules(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "beach.txt").write_text("a dog on a beach")
    (tmp_path / "media" / "kite.txt").write_text("a red kite in the wind")
    query = Query((text_part("red kite"),))
    with Library.open(tmp_path / "library", model="toy") as library:
        ingest = modules_entered(lambda: library.ingest([tmp_path / "media"]))
        assert library.search(query)
        search = modules_entered(lambda: library.search(query))
    assert {"indexer.library", "indexer.ingest.pipeline", "indexer.catalog.writer"} < ingest
    assert {"indexer.library", "indexer.search.ranking", "indexer.catalog.reader"} < search
    assert len(ingest) <= 40, sorted(ingest)
    assert len(search) <= 22, sorted(search)
