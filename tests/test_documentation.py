"""What the README says is so: commands, flags, variables, links; and the samples' licences."""

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SAMPLES = ROOT / "samples"
PROGRAMS = {
    "rzen-app": "app.__main__",
    "rzen-ingest": "indexer.ingest",
    "rzen-search": "indexer.search",
    "rzen-reembed": "indexer.reembed",
    "rzen-admin": "indexer.admin",
}
HEAVY = ("torch", "transformers", "gradio", "faiss", "onnxruntime", "cv2")


@cache
def help_of(module: str, *command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", module, *command, "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def commands_of(module: str) -> list[str]:
    """What a program with several commands can be told to do."""
    listed = re.search(r"^  COMMAND\n(.*)", help_of(module), re.M | re.S)
    return re.findall(r"^    (\w+) ", listed[1], re.M) if listed else []


def flags_of(module: str, *command: str) -> set[str]:
    """The flags of a program, or of one of its commands; of all if none is named."""
    told = help_of(module, *command)
    if not command:
        told += "".join(help_of(module, one) for one in commands_of(module))
    return set(re.findall(r"^\s+(?:-\w, )?(--[a-z][a-z-]*)", told, re.M))


def commands_in_readme() -> list[list[str]]:
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", README, re.M | re.S)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    known = (*PROGRAMS, "make", "python")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(known)]


def section(title: str) -> str:
    return re.split(r"^#+ ", README.partition(f"# {title}\n")[2], maxsplit=1, flags=re.M)[0]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_flag_of_a_program_is_in_the_readme_and_none_beyond(program: str) -> None:
    module = PROGRAMS[program]
    told = README.partition(f"\n`{program}` ")[2]
    table = re.search(r"^\| flag .*?\n\n", told, re.M | re.S)
    assert table, f"the README has no table of flags for {program}"
    cells = [row.split("|")[1] for row in table[0].strip().splitlines()]
    listed = {flag for cell in cells for flag in re.findall(r"`(--[a-z][a-z-]*)", cell)}
    assert listed == flags_of(module) - {"--help"}


@pytest.mark.parametrize("command", commands_in_readme(), ids=" ".join)
def test_commands_in_the_readme_exist(command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        targets = [argument for argument in arguments if "=" not in argument]
        for target in targets:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
        for name in [argument.partition("=")[0] for argument in arguments if "=" in argument]:
            assert f"$({name})" in (ROOT / "Makefile").read_text(), name
        return
    flags = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    module = arguments[1] if program == "python" else PROGRAMS[program]
    commands = [one for one in arguments[:1] if commands_of(module)]
    assert set(commands) <= set(commands_of(module))
    assert flags <= flags_of(module, *commands)


def test_the_environment_variables_in_the_readme_are_those_that_are_read() -> None:
    listed = set(re.findall(r"`(RZEN_[A-Z_]+)`", section("Environment variables")))
    of_flags = {
        "RZEN_" + flag[2:].replace("-", "_").upper()
        for flag in flags_of("app.__main__") - {"--help", "--open"}  # these take no value
    }
    in_code = {
        name
        for package in ("app", "embedder", "indexer")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"\bRZEN_[A-Z_]+[A-Z]\b", path.read_text("utf-8"))
    }
    assert listed == of_flags | in_code


TRAINING = ("stage1", "stage2", "soup", "merge", "evaluate", "untrained")
TRAINING += ("miniature.ablation", "miniature.shapes")


@pytest.mark.parametrize(
    "module", [*PROGRAMS.values(), "trainer", *(f"trainer.{name}" for name in TRAINING)]
)
def test_asking_for_help_loads_nothing_heavy(module: str) -> None:
    code = (
        "import importlib, sys\n"
        f"module = importlib.import_module({module!r})\n"
        "try:\n"
        "    getattr(module, 'main', lambda _: None)(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('loaded:', *[name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_links_and_pictures_in_the_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")):
        text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_layout_table_names_every_folder() -> None:
    listed = set(re.findall(r"^\| `(\w+)/` ", README, re.M))
    tracked = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    ignored = {"var", "build", "dist", "docs", "htmlcov", "screenshots", "shared"}
    assert listed == tracked - ignored - {"__pycache__"}


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{version}]" in changelog or "## [Unreleased]" in changelog


def test_every_sample_has_its_licence_and_nothing_else_is_listed() -> None:
    licences = (SAMPLES / "LICENSES.md").read_text("utf-8")
    rows = [row for row in licences.splitlines() if row.startswith("| `")]
    listed = {re.match(r"\| `([^`]+)`", row)[1] for row in rows}
    files = {path for path in (SAMPLES / "media").rglob("*") if path.is_file()}
    assert listed == {path.relative_to(SAMPLES).as_posix() for path in files}
    _, _, table = licences.partition("| --- | --- | --- | --- | --- |\n")
    for row in table.splitlines():
        _, _, author, licence, source = (cell.strip() for cell in row.strip("|").split("|"))
        assert author, row
        assert source, row
        assert licence in {"CC0-1.0", "Public Domain"}, row


def test_the_samples_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 10_000_000
    photos = {path: size for path, size in sizes.items() if "photos" in path.parts}
    assert len(photos) >= 25
    assert max(photos.values()) <= 250_000


def test_the_samples_cover_every_kind_and_some_traps() -> None:
    suffixes = {path.suffix for path in (SAMPLES / "media").rglob("*")}
    assert suffixes >= {".jpg", ".png", ".webp", ".heic", ".webm", ".pdf"}
    assert suffixes >= {".txt", ".md", ".html", ".csv"}
    orientations = set()
    for path in (SAMPLES / "media/photos").rglob("*.jpg"):
        with Image.open(path) as picture:
            orientations.add(picture.getexif().get(0x0112, 1))
    assert len(orientations) > 1, "no photo is stored on its side"
