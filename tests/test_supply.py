"""No input can run code: the sources contain no unpickling, no evaluated text, no shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "embedder", "indexer", "trainer")
SOURCES = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
MODULES = frozenset(
    "pickle _pickle cPickle dill cloudpickle joblib marshal shelve jsonpickle".split()
)
BUILTINS = frozenset({"eval", "exec", "compile", "__import__"})
CALLS = frozenset(
    "os.system os.popen os.startfile yaml.load yaml.load_all yaml.unsafe_load yaml.full_load "
    "torch.hub.load torch.jit.load torch.package.PackageImporter runpy.run_path runpy.run_module "
    "code.interact".split()
)
# Methods that unpickle what they receive, on any object.
METHODS = frozenset(
    "all_gather_object broadcast_object_list gather_object scatter_object_list recv_object_list "
    "read_pickle to_pickle".split()
)
# Arguments that must have these values, in any call.
KEYWORDS = {
    "allow_pickle": False,
    "shell": False,
    "trust_remote_code": False,
    "weights_only": True,
    "use_safetensors": True,
}
ALLOWED = {
    # Between the processes of one training run, all started by the same user.
    ("trainer/checkpoints.py", "all_gather_object"),
    # Opens a file of a trusted user by its program, on Windows; never one that could run.
    ("app/desktop.py", "os.startfile"),
}


def aliases(tree: ast.AST) -> dict[str, str]:
    """Map the names of a module to what they stand for: `np` to `numpy`, `load` to `torch.load`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def called(node: ast.expr, names: dict[str, str]) -> str:
    """Return the dotted name of a called expression, as far as it is one."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{called(node.value, names)}.{node.attr}"
    return ""


def found_in(tree: ast.AST) -> Iterator[str]:
    """Find everything that could run what was read."""
    names = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in MODULES:
                yield node.module
        elif isinstance(node, ast.Call):
            yield from found_in_call(node, called(node.func, names))


def found_in_call(node: ast.Call, name: str) -> Iterator[str]:
    given = {one.arg: one.value for one in node.keywords if one.arg}
    if name in BUILTINS or name in CALLS:
        yield name
    if (last := name.rpartition(".")[2]) in METHODS:
        yield last
    if name.startswith(("os.exec", "os.spawn")):
        yield name
    if name == "torch.load" and "weights_only" not in given:
        yield "torch.load without weights_only"
    if name == "numpy.load" and len(node.args) > 1:
        yield "numpy.load with options that have no names"
    for keyword, safe in KEYWORDS.items():
        value = given.get(keyword)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is safe):
            yield f"{keyword}={ast.unparse(value)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_runs_nothing_it_reads(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = set(found_in(ast.parse(path.read_text("utf-8"))))
    assert found == {what for where, what in ALLOWED if where == name}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as harmless",
        "from pickle import loads",
        "from marshal import loads",
        "import shelve",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "import torch\ntorch.load(path)",
        "from torch import load\nload(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=safe)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, None, True)",
        "import yaml\nyaml.load(text)",
        "import os\nos.system(line)",
        "from os import system\nsystem(line)",
        "import os\nos.execvp(line, [])",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "import subprocess\nsubprocess.run(line, shell=wanted)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "model.from_pretrained(name, use_safetensors=False)",
        "distributed.broadcast_object_list(found)",
    ],
)
def test_check_finds_code_that_runs_input(source: str) -> None:
    assert list(found_in(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(text)",
        "model.eval()",
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import json\njson.load(file)",
        "import subprocess\nsubprocess.run([line])",
    ],
)
def test_check_accepts_harmless_code(source: str) -> None:
    assert not list(found_in(ast.parse(source)))


def test_no_shipped_file_is_a_pickle() -> None:
    shipped = [
        path
        for name in (*PACKAGES, "samples")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(shipped) > 150
    for path in shipped:
        assert path.suffix not in {".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"}
        with path.open("rb") as file:
            head = file.read(2)
        assert head[:1] != b"\x80" or head[1] > 5, f"{path} begins as a pickle does"
