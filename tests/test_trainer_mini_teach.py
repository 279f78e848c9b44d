"""Training the head of `mini` on a space of a few numbers, and what the head does in it."""

import csv
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from embedder.interface import normalised
from embedder.mini.embedder import Weights
from embedder.mini.space import Head, Space
from trainer.losses import LossConfig
from trainer.metrics_log import METRICS_FILE
from trainer.mini import __main__ as program
from trainer.mini import teach
from trainer.mini.features import PictureFeatures, imagined, last_layer
from trainer.mini.measure import RetrievalSet, measure
from trainer.mini.teach import HeadConfig, Lesson, Network, TrainingData, build_training_data, train

WIDTH, VISUAL, CLASSES, FEATURES = 8, 6, 10, 12
QUICK = HeadConfig(
    hidden=32,
    dropout=0.0,
    epochs=60,
    batch=16,
    learning_rate=1e-2,
    weight_decay=0.0,
    warmup=5,
    place=2.0,
    similarity=1.0,
    texts=10.0,
    guess=1.0,
)


@pytest.fixture
def space() -> Space:
    chance = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "prototypes": normalised(chance.normal(size=(CLASSES, WIDTH))),
        "mean": np.zeros(FEATURES, np.float32),
        "projection": chance.normal(size=(FEATURES, VISUAL)).astype(np.float32),
        "text_projection": chance.normal(size=(WIDTH + 1, VISUAL)).astype(np.float32),
        "picture_shares": np.sqrt(np.array([0.5, 0.5], np.float32)),
        "text_shares": np.sqrt(np.array([0.8, 0.2], np.float32)),
    }
    return Space(**arrays, temperature=1.0, top=CLASSES)


@pytest.fixture
def school() -> TrainingData:
    """Twelve pictures that are far from their words, and forty photos elsewhere."""
    chance = np.random.default_rng(1)

    def rows(count: int, width: int, shift: float) -> torch.Tensor:
        made = chance.normal(size=(count, width))
        made[:, 0] += shift
        return torch.from_numpy(normalised(made))

    return TrainingData(
        groups=[[i] for i in range(12)],
        texts=[[i] for i in range(12)],
        words=rows(12, WIDTH, 0),
        meaning=rows(12, WIDTH, 4)[:, None],
        looks=rows(12, VISUAL, 4)[:, None],
        photo_meaning=rows(40, WIDTH, -4),
        photo_looks=rows(40, VISUAL, -4),
        nouns=rows(30, WIDTH, 0),
    )


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    return tmp_path / "curves"


def right(space: Space, school: TrainingData) -> float:
    """The share of pictures whose own words are the nearest."""
    meaning, looks = school.meaning[:, 0].numpy(), school.looks[:, 0].numpy()
    moved = meaning if space.head is None else space.head(meaning, looks)
    pictures = np.hstack([moved, looks]) * 0.5**0.5
    nearest = (space.texts(school.words.numpy()) @ pictures.T).argmax(axis=1)
    return float((nearest == np.arange(len(nearest))).mean())


def moved(trained: Head, school: TrainingData) -> float:
    before = school.photo_meaning.numpy()
    after = trained(before, school.photo_looks.numpy())
    return float((1 - (after * before).sum(axis=1)).mean())


def test_training_brings_pictures_to_their_words_and_leaves_photos_in_place(
    space: Space, school: TrainingData, curves: Path
) -> None:
    trained = train(school, space, QUICK, curves)
    assert right(space, school) < 0.5
    assert right(replace(space, head=trained), school) > 0.9
    assert moved(trained, school) < 0.1
    with (curves / METRICS_FILE).open(newline="") as file:
        steps = list(csv.DictReader(file))
    assert [int(step["step"]) for step in steps] == list(range(1, 61))
    assert float(steps[-1]["pairs"]) < float(steps[0]["pairs"])


def test_photos_stay_because_of_the_terms_that_hold_them(
    space: Space, school: TrainingData, curves: Path
) -> None:
    free = train(school, space, replace(QUICK, place=0.0, similarity=0.0), curves)
    held = train(school, space, QUICK, curves)
    assert moved(free, school) > 5 * moved(held, school)


def test_texts_keep_their_cosines_because_of_the_term_that_holds_them(
    space: Space, school: TrainingData, curves: Path
) -> None:
    nouns = school.nouns.numpy()
    before = space.texts(nouns) @ space.texts(nouns).T

    def changed(config: HeadConfig) -> float:
        rows = replace(space, head=train(school, space, config, curves)).texts(nouns)
        return float(np.abs(rows @ rows.T - before).mean())

    assert changed(replace(QUICK, texts=0.0, similarity=0.0)) > 3 * changed(
        replace(QUICK, texts=1e4)
    )


def test_the_same_seed_gives_the_same_head_and_another_does_not(
    space: Space, school: TrainingData, curves: Path
) -> None:
    config = replace(QUICK, epochs=10, dropout=0.2)
    one, other = (train(school, space, config, curves) for _ in range(2))
    third = train(school, space, replace(config, seed=1), curves)
    assert np.array_equal(one.inner, other.inner)
    assert np.array_equal(one.outer, other.outer)
    assert not np.allclose(one.inner, third.inner)


def test_as_much_of_the_taught_guess_is_exported_as_is_asked_for(
    space: Space, school: TrainingData, curves: Path
) -> None:
    none, half, whole = (
        train(school, space, replace(QUICK, epochs=5, guess=share), curves).text_projection
        for share in (0.0, 0.5, 1.0)
    )
    assert np.array_equal(none, space.text_projection)
    assert not np.allclose(whole, none, atol=1e-3)
    assert np.allclose(half, (none + whole) / 2, atol=1e-6)


def test_all_of_the_loss_takes_part(
    space: Space, school: TrainingData, curves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[LossConfig, float]] = []

    def noted(*given: Any, temperatures: torch.Tensor, config: LossConfig) -> Any:
        seen.append((config, temperatures[0].item()))
        return original(*given, temperatures=temperatures, config=config)

    original = teach.contrastive_loss
    monkeypatch.setattr(teach, "contrastive_loss", noted)
    train(school, space, replace(QUICK, epochs=20), curves)
    assert {config.alpha for config, _ in seen} == {9.0}
    assert {config.delta for config, _ in seen} == {0.95}
    retrieval, classification = ([tau for _, tau in seen][start::2] for start in (0, 1))
    assert len(set(retrieval)) > 1
    assert retrieval[-1] != classification[-1]


def test_numpy_and_torch_compute_the_same_head(space: Space, school: TrainingData) -> None:
    torch.manual_seed(0)
    network = Network(space, QUICK).eval()
    torch.nn.init.normal_(network.outer.weight)
    meaning, looks = school.photo_meaning, school.photo_looks
    with torch.no_grad():
        pictures = network.pictures(meaning, looks).numpy()
        texts = network.texts(school.nouns).numpy()
    exported = network.export()
    ours = replace(space, head=exported)
    assert np.allclose(
        exported(meaning.numpy(), looks.numpy()), pictures[:, :WIDTH] * 2**0.5, atol=1e-5
    )
    assert np.allclose(ours.texts(school.nouns.numpy()), texts, atol=1e-5)


def test_a_head_moves_only_the_text_space_part_of_a_picture(space: Space) -> None:
    chance = np.random.default_rng(2)
    pooled = chance.normal(size=(5, FEATURES)).astype(np.float32)
    logits = chance.normal(size=(5, CLASSES)).astype(np.float32)
    inner = chance.normal(size=(VISUAL + WIDTH + 1, 4)).astype(np.float32)
    outer = chance.normal(size=(5, WIDTH)).astype(np.float32)
    before = space.pictures(pooled, logits)
    after = replace(space, head=Head(inner, outer, space.text_projection)).pictures(pooled, logits)
    assert np.allclose(after[:, WIDTH:], before[:, WIDTH:], atol=1e-6)
    assert not np.allclose(after[:, :WIDTH], before[:, :WIDTH], atol=0.1)
    assert np.allclose(np.linalg.norm(after, axis=1), 1, atol=1e-6)
    still = Head(inner, np.zeros_like(outer), space.text_projection)
    assert np.allclose(replace(space, head=still).pictures(pooled, logits), before, atol=1e-6)


def test_lessons_and_photos_become_tensors_in_the_space(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teach, "concrete_nouns", lambda: ["cat", "sea"])
    chance = np.random.default_rng(3)

    def features(*shape: int) -> Any:
        return chance.normal(size=shape).astype(np.float32)

    lessons = [
        Lesson(group, texts, features(2, FEATURES), features(2, CLASSES))
        for group, texts in (("cat", ("a cat", "pet")), ("sea", ("sea",)), ("cat", ("pet",)))
    ]
    photos = PictureFeatures(["a", "b"], features(2, FEATURES), features(2, CLASSES))
    found = build_training_data(
        lessons, photos, space, lambda texts: np.eye(len(texts), WIDTH, dtype=np.float32)
    )
    assert found.groups == [[0, 2], [1]]
    assert found.texts == [[0, 1], [2], [1]]
    meaning, looks = space.parts(lessons[1].pooled, lessons[1].logits)
    assert np.allclose(found.meaning[1], meaning)
    assert np.allclose(found.looks[1], looks)
    assert found.photo_meaning.shape == (2, WIDTH)
    assert found.nouns.shape == (2, WIDTH)


def linear(count: int) -> tuple[PictureFeatures, np.ndarray]:
    """Features with the answers of a linear layer, and its weights."""
    chance = np.random.default_rng(4)
    pooled = np.abs(chance.normal(size=(count, FEATURES))).astype(np.float32)
    weights = chance.normal(size=(CLASSES, FEATURES))
    logits = (pooled @ weights.T + 0.5).astype(np.float32)
    return PictureFeatures([str(i) for i in range(count)], pooled, logits), weights


def test_the_last_layer_is_solved_from_what_it_answers() -> None:
    seen, weights = linear(100)
    assert np.allclose(last_layer(seen.pooled, seen.logits), weights, atol=1e-3)


def test_in_imagined_photos_the_class_leads() -> None:
    seen, weights = linear(100)
    photos, classes = imagined(seen, 60)
    assert (photos.pooled >= 0).all()
    assert np.allclose(photos.logits, photos.pooled @ weights.T + 0.5, atol=0.05)
    assert (seen.logits.argmax(axis=1)[:60] == classes).mean() < 0.3
    assert (photos.logits.argmax(axis=1) == classes).mean() > 0.6
    assert len(set(classes)) == CLASSES
    assert np.array_equal(photos.pooled, imagined(seen, 60)[0].pooled)


def test_a_set_is_measured_by_the_best_document_of_the_wanted_name() -> None:
    rows = {"queries": np.eye(3), "documents": np.array([[0.1, 1, 0], [0.9, 0, 0], [0, 0.5, 1]])}
    asked = RetrievalSet("set", ["q"] * 3, ["d"] * 3, ["a", "b", "a"], ["a", "b", "a"])
    values = iter(rows.values())
    found = measure(asked, lambda _: next(values).astype(np.float32))
    # Ranks of the first right one: a 2nd for the first query, b 3rd for the second, a 1st.
    assert found["mrr"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert found["hit@1"] == pytest.approx(1 / 3)


def test_stages_run_in_order_or_alone_and_each_renews_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def stage(name: str) -> Any:
        def run(build: program.Build) -> None:
            ran.append(name)
            (build.out / "space.npz").write_bytes(name.encode())

        return run

    monkeypatch.setattr(program, "STAGES", {name: stage(name) for name in program.STAGES})
    assert program.main(["--out", str(tmp_path)]) == 0
    assert ran == ["towers", "space", "head", "languages", "calibration"]
    last = (tmp_path / "manifest.json").read_text()
    assert program.main(["--out", str(tmp_path), "--only", "head"]) == 0
    assert ran[5:] == ["head"]
    assert (tmp_path / "manifest.json").read_text() != last


@pytest.mark.parametrize("right", [True, False])
def test_towers_are_installed_only_if_they_compute_what_the_originals_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    def export(*names: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            for name in names:
                (folder / name).write_bytes(b"converted")

        return write

    def verify(weights: Weights) -> None:
        assert weights.read("multilingual.onnx") == b"converted"
        if not right:
            raise ValueError("multilingual.onnx differs from the original")

    english, others = program.TOWERS[:3], program.TOWERS[3:]
    convert = SimpleNamespace(export_towers=export(*english), verify_towers=lambda weights: None)
    multilingual = SimpleNamespace(export_multilingual=export(*others), verify_multilingual=verify)
    monkeypatch.setitem(sys.modules, "trainer.mini.convert", convert)
    monkeypatch.setitem(sys.modules, "trainer.mini.multilingual", multilingual)
    out = tmp_path / "out"
    with nullcontext() if right else pytest.raises(ValueError, match="differs"):
        program.build_towers(program.Build(out, tmp_path, 1))
    found = [path.name for path in out.iterdir()] if out.exists() else []
    assert sorted(found) == (sorted(program.TOWERS) if right else [])


def test_arrays_are_written_with_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.npz", "two.npz"):
        program.write_arrays(tmp_path / name, {"inner": np.arange(6.0).reshape(2, 3)})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as arrays:
        assert arrays["inner"].shape == (2, 3)
