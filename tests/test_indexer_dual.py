"""Libraries on dual encoders, from files to hits: with tiny checkpoints of random weights."""

import json
from pathlib import Path

import programs
import pytest
from PIL import Image

from indexer import Library

DATA = Path(__file__).with_name("dual")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("cat", "coffee", "rocket"):
        photo = Image.open(DATA.parent / "media" / f"{name}.jpg")
        photo.save(folder / f"{name}.png")
    photo.save(folder / "film.gif", save_all=True, append_images=[photo] * 9, duration=200)
    (folder / "garden.txt").write_text("Tulips and other flowers grow beside the pond.")
    (folder / "taxes.txt").write_text("Interest accrues on amounts that remain unpaid.")
    return folder


def search(library: Path, *arguments: object) -> list[dict[str, object]]:
    found = programs.run("indexer.search", *arguments, "--library", library, "--json")
    assert found.returncode == 0, found.stderr
    hits: list[dict[str, object]] = json.loads(found.stdout)
    return hits


@pytest.mark.parametrize("family", ["siglip2", "clip"])
def test_library_of_a_dual_encoder_is_filled_and_searched(
    tmp_path: Path, media: Path, family: str
) -> None:
    library, model = tmp_path / "library", f"{family}:{DATA / family}"
    filled = programs.run("indexer.ingest", media, "--library", library, "--model", model)
    assert filled.returncode == 0, filled.stderr
    copy = search(library, "--image", media / "coffee.png")[0]
    assert Path(str(copy["path"])).name == "coffee.png"
    assert not copy["weak"]
    passage = search(library, "blossoms at a lake", "--kind", "text")[0]
    assert Path(str(passage["path"])).name == "garden.txt"
    assert search(library, "a cat")


def test_library_changes_to_a_dual_encoder_and_back(tmp_path: Path, media: Path) -> None:
    library, siglip2 = tmp_path / "library", f"siglip2:{DATA / 'siglip2'}"
    filled = programs.run("indexer.ingest", media, "--library", library)
    assert filled.returncode == 0, filled.stderr
    before = search(library, "a cup of coffee")
    for model in (siglip2, "mini"):
        changed = programs.run("indexer.reembed", "--library", library, "--model", model)
        assert changed.returncode == 0, changed.stderr
        assert f"now has the model {model}" in changed.stdout
        with Library.open(library) as opened:
            assert opened.model == model
            assert opened.embedder.info.dim == (384 + 32 if model == siglip2 else 640)
        assert search(library, "a cup of coffee")
    assert search(library, "a cup of coffee") == before


def test_model_that_is_not_here_changes_nothing(tmp_path: Path, media: Path) -> None:
    library = tmp_path / "library"
    programs.run("indexer.ingest", media, "--library", library)
    before = search(library, "a cup of coffee")
    refused = programs.run("indexer.reembed", "--library", library, "--model", "siglip2")
    assert refused.returncode == 2
    assert (
        "siglip2 is not on this machine: download it with `rzen-models fetch siglip2`"
        in refused.stderr
    )
    assert search(library, "a cup of coffee") == before
