"""Libraries on dual encoders, from files to hits: with tiny checkpoints of random weights."""

import json
import shutil
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


@pytest.fixture
def bad_models(tmp_path: Path) -> dict[str, str]:
    """Specifications that cannot be used, and a part of the sentence that says why."""
    incomplete = Path(shutil.copytree(DATA / "siglip2", tmp_path / "incomplete"))
    (incomplete / "onnx/text_model.onnx").unlink()
    truncated = Path(shutil.copytree(DATA / "siglip2", tmp_path / "truncated"))
    vision = truncated / "onnx/vision_model.onnx"
    vision.write_bytes(vision.read_bytes()[:-9_000])
    return {
        f"siglip2:{incomplete}": "is incomplete, it has no onnx/text_model.onnx: download or",
        f"siglip2:{truncated}": "vision_model.onnx is damaged or of another format",
        f"clip:{DATA / 'siglip2'}": "but CLIP is a 'clip': choose another --model",
        f"siglip2:{tmp_path}": "holds no model: there is no config.json in it",
        "siglip2:base99": "or siglip2:so400m",
        "siglip2": "is not on this machine: download it with `rzen-models fetch siglip2`",
        "siglip": "unknown model 'siglip': choose one of mini, siglip2",
    }


def test_model_that_cannot_be_used_changes_nothing(
    tmp_path: Path, media: Path, bad_models: dict[str, str]
) -> None:
    library, new = tmp_path / "library", tmp_path / "new"
    programs.run("indexer.ingest", media, "--library", library)
    before = search(library, "a cup of coffee")
    for model, problem in bad_models.items():
        for refused in (
            programs.run("indexer.reembed", "--library", library, "--model", model),
            programs.run("indexer.ingest", media, "--library", new, "--model", model),
        ):
            assert refused.returncode == 2, model
            assert problem in refused.stderr
            assert refused.stderr.count("\n") == 1
            assert not refused.stdout
        # What is found out while files are embedded is too late for that.
        assert not new.exists() or "truncated" in model
        shutil.rmtree(new, ignore_errors=True)
    assert search(library, "a cup of coffee") == before
