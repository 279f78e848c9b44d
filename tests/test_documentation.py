"""The documents agree with the program: commands, flags, variables, files, links, samples."""

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from embedder.media import MEDIA_KINDS, Kind

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
README = (ROOT / "README.md").read_text("utf-8")
CLI = (ROOT / "docs/cli.md").read_text("utf-8")
SAMPLES = ROOT / "samples"
PROGRAMS = {
    "rzen-app": "app.__main__",
    "rzen-ingest": "indexer.ingest",
    "rzen-search": "indexer.search",
    "rzen-ask": "indexer.ask",
    "rzen-reembed": "indexer.reembed",
    "rzen-admin": "indexer.admin",
    "rzen-models": "embedder.models",
}
TRAINING = {
    "rzen-train-stage1": "trainer.stage1",
    "rzen-train-stage2": "trainer.stage2",
    "rzen-train-soup": "trainer.soup",
    "rzen-train-evaluate": "trainer.evaluate",
}
HEAVY = ("torch", "transformers", "gradio", "faiss", "onnxruntime", "cv2", "av")
FLAG = r"--[a-z][a-z-]*"


@cache
def help_of(module: str, *command: str) -> str:
    """Print the help of a program; fail if that imports a heavy library."""
    code = (
        "import importlib, sys\n"
        f"module = importlib.import_module({module!r})\n"
        "try:\n"
        f"    module.main([*{command!r}, '--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules))\n"
    )
    if module.endswith(("ingest", "search")):
        code = code.replace(f"{module!r}", f"'{module}.__main__'", 1)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "", f"{module} --help loads {done.stderr}"
    return done.stdout


def commands_of(module: str) -> list[str]:
    """List the commands of a program that has several."""
    listed = re.search(r"^  COMMAND\n(.*)", help_of(module), re.M | re.S)
    return re.findall(r"^    (\w+) ", listed[1], re.M) if listed else []


def flags_of(module: str, *command: str) -> set[str]:
    """List the flags of one command of a program, or of the whole program."""
    text = help_of(module, *command)
    if not command:
        text += "".join(help_of(module, one) for one in commands_of(module))
    return set(re.findall(rf"^\s+(?:-\w, )?({FLAG})", text, re.M)) - {"--help"}


def section(title: str) -> str:
    """Return a section of docs/cli.md, without its subsections' siblings."""
    return re.split(r"^## ", CLI.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.M)[0]


def first_cells(text: str) -> str:
    return "\n".join(row.split("|")[1] for row in text.splitlines() if row.startswith("|"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_cli_document_lists_every_flag(program: str) -> None:
    listed = set(re.findall(rf"`({FLAG})", first_cells(section(program))))
    assert listed == flags_of(PROGRAMS[program])


@pytest.mark.parametrize("kind", MEDIA_KINDS)
def test_formats_document_lists_every_ending(kind: Kind) -> None:
    titles = {"image": "Pictures", "video": "Videos", "audio": "Audio", "pdf": "PDF"}
    title = titles.get(kind, "Texts")
    formats = (ROOT / "docs/formats.md").read_text("utf-8").partition(f"\n## {title}\n")[2]
    rows = [row.split("|") for row in formats.partition("\n## ")[0].splitlines() if "|" in row]
    listed = [ending for row in rows for ending in re.findall(r"`(\.\w+)`", row[2].split(";")[0])]
    assert sorted(listed) == sorted(MEDIA_KINDS[kind].suffixes)


@pytest.mark.parametrize("program", ["rzen-admin", "rzen-models"])
def test_cli_document_lists_every_command(program: str) -> None:
    listed = re.findall(r"^`(\w+)", first_cells(section(program)).replace(" `", "`"), re.M)
    assert listed == commands_of(PROGRAMS[program])


@pytest.mark.parametrize("program", TRAINING)
def test_cli_document_lists_every_training_flag(program: str) -> None:
    row = next(line for line in CLI.splitlines() if line.startswith(f"| `{program}`"))
    assert set(re.findall(rf"`({FLAG})", row)) == flags_of(TRAINING[program])


def test_cli_document_names_every_installed_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {*PROGRAMS, *TRAINING}


def documented_commands() -> list[tuple[str, tuple[str, ...]]]:
    """All command lines of our programs, make and python in the documents, once each."""
    known = (*PROGRAMS, *TRAINING, "make", "python")
    found = {}
    for document in DOCUMENTS:
        blocks = re.findall(
            r"^```(?:sh|console)\n(.*?)^```", document.read_text("utf-8"), re.M | re.S
        )
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ")
            if line.startswith(known):
                found.setdefault(tuple(shlex.split(line, comments=True)), document.name)
    return [(document, command) for command, document in found.items()]


@pytest.mark.parametrize(("document", "command"), documented_commands())
def test_documented_command_exists(document: str, command: tuple[str, ...]) -> None:
    program, *arguments = command
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for argument in arguments:
            name, assigned, _ = argument.partition("=")
            assert f"$({name})" in makefile if assigned else re.search(rf"^{name}:", makefile, re.M)
        return
    if program == "python" and arguments[0] != "-m":
        assert (ROOT / arguments[0]).is_file()
        return
    module = arguments[1] if program == "python" else {**PROGRAMS, **TRAINING}[program]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    if module in {*PROGRAMS.values(), *TRAINING.values()}:
        flags = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        subcommands = [word for word in arguments[:1] if commands_of(module)]
        assert set(subcommands) <= set(commands_of(module))
        assert flags <= flags_of(module, *subcommands)


def test_cli_document_lists_every_environment_variable() -> None:
    listed = set(re.findall(r"`(RZEN_[A-Z_]+)`", section("Environment variables")))
    of_flags = {
        "RZEN_" + flag[2:].replace("-", "_").upper()
        for flag in flags_of("app.__main__") - {"--open"}  # it takes no value
    }
    in_code = {
        name
        for package in ("app", "embedder", "indexer")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"\bRZEN_[A-Z_]+[A-Z]\b", path.read_text("utf-8"))
    }
    assert listed == of_flags | in_code


@pytest.mark.parametrize(
    "module",
    ["benchmarks.untrained", "benchmarks.miniature.ablation", "benchmarks.miniature.shapes"],
)
def test_help_of_a_training_program_loads_nothing_heavy(module: str) -> None:
    assert "--help" in help_of(module)


def test_links_in_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
        for link, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]+)?\)", text):
            if "://" in link:
                continue
            target = document.parent / link if link else document
            assert target.exists(), f"{document.name}: {link}"
            if anchor:
                assert anchor[1:] in anchors(target), f"{document.name}: {link}{anchor}"


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_files_named_in_documents_exist() -> None:
    named = r"`((?:app|benchmarks|embedder|indexer|samples|tests|trainer)/[\w/.*-]+)`"
    missing = [
        f"{document.name}: {path}"
        for document in DOCUMENTS
        for path in re.findall(named, document.read_text("utf-8"))
        if not any(ROOT.glob(path.rstrip("/")))
    ]
    assert missing == []


def test_architecture_names_every_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    named = re.findall(r'contract "([^"]+)"', text)
    assert sorted(named) == sorted(one["name"] for one in contracts["contracts"])


def test_documents_are_linked_from_the_readme() -> None:
    for document in ROOT.glob("docs/*.md"):
        assert f"(docs/{document.name})" in README, document.name


def test_list_of_keys_has_every_key_of_the_details() -> None:
    scripts = ROOT / "app" / "assets"
    bound = re.search(r"const KEYS = \{(.*?)\n\};", (scripts / "detail.js").read_text(), re.DOTALL)
    assert bound is not None
    listed = (scripts / "keys.js").read_text()
    shown = {"ArrowLeft": "←", "ArrowRight": "→", " ": "Space", "=": "+"}
    for key in re.findall(r'^  "?(\S+?| )"?: ', bound[1], re.MULTILINE):
        assert f'"{shown.get(key, key)}"' in listed, key


def test_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 180


def test_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "samples/media").mkdir(parents=True)
    (tmp_path / "samples/media/photos").symlink_to(SAMPLES / "media/photos/places")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    exec(compile(example, "README.md", "exec"), {})
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("IMG_0206.jpg")


def test_readme_names_every_folder() -> None:
    rows = re.findall(r"^\| (`\w+/`(?:, `\w+/`)*) \|", README, re.M)
    listed = {name for row in rows for name in re.findall(r"\w+", row)}
    tracked = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    ignored = {"var", "build", "dist", "docs", "htmlcov", "screenshots", "shared"}
    assert listed == tracked - ignored - {"__pycache__"}


def test_changelog_has_this_version() -> None:
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


def test_samples_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 10_000_000
    photos = {path: size for path, size in sizes.items() if "photos" in path.parts}
    assert len(photos) >= 25
    assert max(photos.values()) <= 250_000


def test_samples_cover_every_kind_and_some_traps() -> None:
    suffixes = {path.suffix for path in (SAMPLES / "media").rglob("*")}
    assert suffixes >= {".jpg", ".png", ".webp", ".heic", ".webm", ".pdf"}
    assert suffixes >= {".txt", ".md", ".html", ".csv"}
    orientations = set()
    for path in (SAMPLES / "media/photos").rglob("*.jpg"):
        with Image.open(path) as picture:
            orientations.add(picture.getexif().get(0x0112, 1))
    assert len(orientations) > 1, "no photo is stored on its side"
