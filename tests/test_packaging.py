"""The distribution: dependencies, lock file, contents, console scripts, make targets."""

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions, requires
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DEPENDENCIES = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
# Distributions of modules that several distributions contain.
BROUGHT_BY = {"cv2": "opencv-python-headless", "faiss": "faiss-cpu"}


def distribution(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize(
    "requirement",
    [*DEPENDENCIES, *chain(*EXTRAS.values()), *PROJECT["build-system"]["requires"]],
)
def test_dependency_has_both_bounds(requirement: str) -> None:
    if requirement.startswith("rzen-search["):
        assert set(Requirement(requirement).extras) <= set(EXTRAS)
        return
    operators = {one.operator for one in Requirement(requirement).specifier}
    assert operators in ({">=", "<"}, {"=="})


@cache
def locked() -> dict[str, list[str]]:
    """Return the pinned versions by name, several where Pythons or platforms differ."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "requirements.lock").read_text("utf-8"))
    lines = [line for line in text.splitlines() if re.match(r"[a-z]", line)]
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    pinned: dict[str, list[str]] = {}
    for line in lines:
        name, version = re.match(r"([a-z0-9._-]+)(?:\[.*?\])?==([^ ;]+)", line).groups()
        pinned.setdefault(name, []).append(version)
    return pinned


def test_lock_file_pins_every_dependency_within_bounds() -> None:
    for requirement in map(Requirement, DEPENDENCIES):
        versions = locked()[distribution(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_lock_file_has_all_transitive_dependencies() -> None:
    waiting = [
        (one, extra) for one in map(Requirement, DEPENDENCIES) for extra in ("", *one.extras)
    ]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = distribution(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert name in locked(), f"{name} is not in requirements.lock"
        for needed in map(Requirement, requires(requirement.name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed, one) for one in ("", *needed.extras)]
    assert len(seen) > 40


def test_imports_and_declared_dependencies_agree() -> None:
    imported = set()
    for package in ("app", "embedder", "indexer"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - set(PACKAGES)
    of_extras = {"pillow_jxl", "torch", "transformers"}
    brought = packages_distributions()
    needed = {
        BROUGHT_BY.get(name) or brought[name][0].lower().replace("_", "-")
        for name in foreign - of_extras
    }
    assert needed == {distribution(requirement) for requirement in DEPENDENCIES}


def test_packages_are_the_four_and_contain_their_data() -> None:
    assert sorted(PACKAGES) == ["app", "embedder", "indexer", "trainer"]
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        check=False,
        cwd=ROOT,
        input="\n".join(str(path) for name in PACKAGES for path in (ROOT / name).rglob("*.*")),
        capture_output=True,
        text=True,
    )
    if ignored.returncode in (0, 1):  # otherwise there is no git, or no checkout
        lost = [line for line in ignored.stdout.splitlines() if "__pycache__" not in line]
        assert lost == []
    assert sum(path.stat().st_size for path in (ROOT / "embedder/mini/weights").iterdir()) < 130e6


def test_the_wheel_leaves_out_build_scripts_and_nothing_in_it_imports_them() -> None:
    left_out = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]
    assert left_out == ["/trainer/mini"]
    folder = ROOT / "trainer/mini"
    assert (folder / "__init__.py").is_file()
    imports = re.compile(r"^\s*(from|import) (benchmarks|trainer(\.| import )mini)\b", re.M)
    for path in chain.from_iterable((ROOT / package).rglob("*.py") for package in PACKAGES):
        text = path.read_text("utf-8")
        assert path.is_relative_to(folder) or not imports.search(text), path
    assert imports.search((folder / "teach.py").read_text("utf-8"))


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"].values())
def test_console_script_returns_its_exit_status(script: str) -> None:
    module, _, name = script.partition(":")
    function = getattr(importlib.import_module(module), name)
    inspect.signature(function).bind()
    assert inspect.signature(function).return_annotation in (int, "int")


make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run_make(folder: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("make"), *arguments],
        check=False,
        cwd=folder,
        env={"PATH": path},
        capture_output=True,
        text=True,
    )


@make
def test_make_lists_its_targets(checkout: Path) -> None:
    done = run_make(checkout, path="/usr/bin:/bin")
    for target in ("app", "test", "lint", "install"):
        assert f"make {target}" in done.stdout


@make
def test_make_without_python_says_what_to_install(checkout: Path) -> None:
    (checkout / "empty").mkdir()
    done = run_make(checkout, "install", path=str(checkout / "empty"))
    assert done.returncode == 2
    assert "Python 3.11 or later is needed and was not found" in done.stderr
    assert not (checkout / ".venv").exists()


@make
def test_make_installs_locked_versions_only(checkout: Path) -> None:
    tools = checkout / ".venv/bin"
    tools.mkdir(parents=True)
    (tools / "python").write_text('#!/bin/sh\necho "ran $*"\n')
    (tools / "python").chmod(0o755)
    done = run_make(checkout, "install", path="/usr/bin:/bin")
    first, second = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert "--require-hashes --requirement requirements.lock" in first
    assert "--no-deps --editable ." in second
    target = re.search(r"^app: *(\S+)", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert target
    assert target[1] == "$(VENV)/.installed"


@make
def test_make_installs_nothing_twice(checkout: Path) -> None:
    tools = checkout / ".venv/bin"
    tools.mkdir(parents=True)
    (tools / "python").write_text("#!/bin/sh\necho ran python; exit 1\n")
    (tools / "python").chmod(0o755)
    for stamp in ("", "-test", "-lint"):
        (checkout / f".venv/.installed{stamp}").touch()
    done = run_make(checkout, "install", path="/usr/bin:/bin")
    assert (done.returncode, "ran python" in done.stdout) == (0, False)


@make
def test_lint_without_an_npm_registry_says_what_is_missing(checkout: Path) -> None:
    tools = checkout / ".venv/bin"
    tools.mkdir(parents=True)
    for tool in ("python", "npm", "ruff"):
        (tools / tool).write_text('#!/bin/sh\necho "ran $0" >&2; exit 1\n')
        (tools / tool).chmod(0o755)
    for stamp in ("", "-lint"):
        (checkout / f".venv/.installed{stamp}").touch()
    done = run_make(checkout, "lint", path="/usr/bin:/bin")
    assert done.returncode == 2
    assert "could not be installed: lint needs it once from an npm registry" in done.stderr
    assert "ran .venv/bin/ruff" not in done.stderr
    assert not list((checkout / ".venv").glob(".installed-typescript*"))


@make
def test_make_installs_again_when_dependencies_change(checkout: Path) -> None:
    tools = checkout / ".venv/bin"
    tools.mkdir(parents=True)
    (tools / "python").write_text('#!/bin/sh\necho "ran $*"\n')
    (tools / "python").chmod(0o755)
    assert "ran -m pip install" in run_make(checkout, "install", path="/usr/bin:/bin").stdout
    assert "ran -m pip install" in run_make(checkout, "test", path="/usr/bin:/bin").stdout
    assert "ran -m pip" not in run_make(checkout, "test", path="/usr/bin:/bin").stdout
