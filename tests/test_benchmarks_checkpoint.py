"""The checklist for downloaded models, on tiny checkpoints and a made-up COCO."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.interface import normalised

ROOT = Path(__file__).parent.parent
DUAL = ROOT / "tests/dual"
INT8 = "vision_model_int8 against vision_model"
PHOTOS = sorted((ROOT / "tests/media").glob("*.jpg"))

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="needs a checkout")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a SigLIP 2, to damage."""
    return Path(shutil.copytree(DUAL / "siglip2", tmp_path / "copy"))


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in the folders of COCO, with two captions each in either form."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "val2017").mkdir()
    images, annotations, split = [], [], []
    for number in range(12):
        name = f"{number:012}.png"
        photo = Image.open(PHOTOS[number % 4]).convert("RGB")
        top = number * photo.height // 20
        part = photo.crop((0, top, photo.width, top + photo.height // 3)).resize((128, 96))
        part.save(folder / "val2017" / name)
        images.append({"id": 100 - number, "file_name": name})
        captions = [f"number {number}", f"A picture, number {number}"]
        annotations += [{"image_id": 100 - number, "caption": one} for one in captions]
        split.append(
            {
                "filepath": "val2017",
                "filename": name,
                "split": "test" if number % 2 else "train",
                "sentences": [{"raw": one} for one in captions],
            }
        )
    (folder / "annotations").mkdir()
    stated = {"images": images, "annotations": annotations}
    (folder / "annotations/captions_val2017.json").write_text(json.dumps(stated))
    (folder / "split.json").write_text(json.dumps({"images": split}))
    return folder


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, str]]:
    """Return the status of the command, and its verdicts and findings by name."""
    from benchmarks.checkpoint import main

    status = main([str(one) for one in arguments])
    lines = capsys.readouterr().out.splitlines()
    names = [line[6:].partition(": ") for line in lines if line[4:6] == "  "]
    verdicts = [line[:4] for line in lines if line[4:6] == "  "]
    return status, {
        name: f"{verdict} {found}"
        for verdict, (name, _, found) in zip(verdicts, names, strict=True)
    }


def test_every_check_is_made(
    folder: Path, coco: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.checkpoint._MAX_MOVED_MIDPOINT", 10)  # of random weights
    for tower in ("vision", "text"):
        model = folder / f"onnx/{tower}_model.onnx"
        shutil.copy(model, model.with_name(f"{tower}_model_int8.onnx"))
    status, found = report(capsys, f"siglip2:{folder}", "--coco", coco)
    assert len([name for name in found if name.startswith("file ")]) == 5
    assert 'HubFile("tokenizer.json", 5727, "8cabf1e8' in found["file tokenizer.json"]
    for name in ("lower case", "end of a text", "padding", INT8):
        assert found[name].startswith("pass"), found
    assert found["model text_model.onnx"] == "pass input_ids → pooler_output, last_hidden_state"
    assert "cosines of pictures 1.0000 (lowest 1.0000), captions 1.0000" in found[INT8]
    assert "24 captions of 12 pictures; nothing is published" in found["recall@1"]
    assert found["speed"].startswith("---- ")
    assert "found[image, image] = Calibration(midpoint=" in found["constants of image → image"]
    assert "in use Calibration(midpoint=0.0827" in found["constants of text → image"]
    assert status == any(line.startswith("fail") for line in found.values())


def test_fault_of_a_tokenizer_fails_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "tokenizer.json"
    stated = json.loads(path.read_text("utf-8"))
    stated["post_processor"] = None  # which appends <eos>
    path.write_text(json.dumps(stated), "utf-8")
    status, found = report(capsys, f"siglip2:{folder}")
    assert status == 1
    assert failing(found) == ["end of a text"]


def failing(found: Mapping[str, str]) -> list[str]:
    return [name for name, line in found.items() if line.startswith("fail")]


def test_damaged_model_fails_what_needs_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "onnx/text_model.onnx").write_bytes(b"damaged" * 200)
    status, found = report(capsys, f"siglip2:{folder}")
    assert status == 1
    assert failing(found) == ["models", "speed"]
    assert "download or copy it again" in found["models"]


def test_files_of_a_named_model_are_compared_with_the_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    from embedder.dual.families import SIGLIP2

    repository = SIGLIP2.models["base16"].repository
    place = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    status, found = report(capsys, "siglip2:base16")
    assert status == 1
    assert {"file tokenizer.json", "file onnx/vision_model.onnx"} <= set(failing(found))
    assert found["file config.json"].startswith("---- `HubFile")


@pytest.mark.parametrize(
    ("published", "captioned", "verdict"),
    [(0.9, True, False), (0.9, False, False), (1.0, True, True), (0.99, False, True)],
)
def test_recall_is_held_to_the_published_figure(
    monkeypatch: pytest.MonkeyPatch, published: float, captioned: bool, verdict: bool
) -> None:
    from benchmarks import checkpoint
    from benchmarks.coco import CaptionedPictures
    from embedder.dual.checkpoint import Checkpoint
    from embedder.dual.families import SIGLIP2

    monkeypatch.setattr(checkpoint, "_PUBLISHED_PICTURES", 12)
    given = Checkpoint.find(SIGLIP2, str(DUAL / "siglip2"))
    monkeypatch.setitem(checkpoint.PUBLISHED_RECALL, str(given.spec), published)
    pictures = CaptionedPictures([Path()] * 12, [""] * 12, np.arange(12), published=captioned)
    assert checkpoint._recall(given, pictures, recall=1.0).passed is verdict


def test_precision_that_loses_recall_fails() -> None:
    from benchmarks.checkpoint import Rows, _precision
    from embedder.dual.checkpoint import Checkpoint
    from embedder.dual.families import SIGLIP2

    full = Checkpoint.find(SIGLIP2, str(DUAL / "siglip2"))
    less = replace(full, vision=full.vision.with_stem("vision_model_q4"))
    right = np.eye(12, dtype=np.float32)
    good, bad = Rows(right, right), Rows(right, right[::-1])
    for check in (_precision(less, bad, full, good), _precision(full, good, less, bad)):
        assert check.name == "vision_model_q4 against vision_model"
        assert check.passed is False
        assert "recall@1 1.000 → 0.000" in check.found
    assert _precision(less, good, full, bad).passed


def test_constants_separate_pairs_from_others() -> None:
    from benchmarks.checkpoint import _separates, fitted_calibration

    chance = np.random.default_rng(0)
    rows = normalised(chance.normal(size=(200, 64)))
    near = normalised(rows + 0.1 * chance.normal(size=(200, 64)))
    fitted = fitted_calibration(near, rows)
    assert _separates(fitted)
    assert 0.3 < fitted.midpoint < (near * rows).sum(1).min()
    assert not _separates(fitted_calibration(near[::-1], rows))


def test_pictures_are_read_in_both_forms(coco: Path) -> None:
    from benchmarks.coco import read_coco

    whole = read_coco(coco)
    assert len(whole.pictures) == 12
    assert whole.captions[:3] == ["number 0", "A picture, number 0", "number 1"]
    assert whole.owners.tolist()[:3] == [0, 0, 1]
    assert not whole.published
    assert read_coco(coco, 5).first_captions(3).tolist() == [0, 2, 4]
    shutil.copy(coco / "split.json", coco / "dataset_coco.json")
    try:
        split = read_coco(coco)
    finally:
        (coco / "dataset_coco.json").unlink()
    assert [path.stem[-2:] for path in split.pictures] == ["01", "03", "05", "07", "09", "11"]
    assert split.published


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: shutil.rmtree(folder / "val2017"), "neither dataset_coco.json nor"),
        (lambda folder: (folder / "val2017/000000000003.png").unlink(), "lacks 1 pictures"),
        (
            lambda folder: (folder / "annotations/captions_val2017.json").write_text("[]"),
            "is not a file of captions of COCO",
        ),
    ],
)
def test_folder_without_what_is_needed_is_refused(
    coco: Path, tmp_path: Path, damage, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.checkpoint import main

    copy = Path(shutil.copytree(coco, tmp_path / "coco"))
    damage(copy)
    assert main([f"siglip2:{DUAL / 'siglip2'}", "--coco", str(copy)]) == 2
    assert problem in capsys.readouterr().err


def test_other_models_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.checkpoint import main

    assert main(["siglip2:nothing/here"]) == 2
    assert "is not on this machine" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["mini"])
    assert "mini is not a dual encoder: give one of siglip2, clip" in capsys.readouterr().err
