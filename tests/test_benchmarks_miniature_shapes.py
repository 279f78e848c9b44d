"""Drawn shapes: the pictures show what the words say, and what is held out is held out."""

import hashlib
import json
import random
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.miniature import shapes
from benchmarks.miniature.shapes import (
    COLOURS,
    DIRECTIONS,
    SHAPES,
    THINGS,
    Thing,
    moving,
    several,
)
from embedder.content import Modality
from embedder.mllm.settings import Settings
from trainer.config import Run
from trainer.data.examples import ErrorBudget
from trainer.data.loader import load_datasets
from trainer.evaluate import find_sets


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "tiny"
    shapes.write(folder, repetitions=1)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def places(picture: Image.Image, thing: Thing) -> list[tuple[float, float]]:
    """Middles of the spots that have a thing's colour."""
    far = np.abs(np.asarray(picture).astype(int) - COLOURS[thing.colour]).max(axis=2)
    found = cv2.connectedComponentsWithStats((far < 60).astype(np.uint8))
    return [
        tuple(middle)
        for middle, stats in zip(found[3][1:], found[2][1:], strict=True)
        if stats[cv2.CC_STAT_AREA] > 20
    ]


@pytest.mark.parametrize("thing", THINGS, ids=str)
def test_a_picture_shows_as_many_things_as_it_should(thing: Thing):
    draw = random.Random(1)
    for count in (1, 2, 3, 4):
        assert len(places(several(thing, count, draw), thing)) == count


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_film_goes_where_it_should(direction: str):
    thing = Thing("black", "circle")
    frames = moving(thing, direction, random.Random(1))
    first, last = (np.array(places(frame, thing)[0]) for frame in (frames[0], frames[-1]))
    assert np.allclose(np.sign(np.round((last - first) / 10)), DIRECTIONS[direction])


def test_what_is_held_out_is_never_shown_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown: set[tuple[Thing, int]] = set()

    def drawn(thing: Thing, value: int | str, draw: random.Random) -> Image.Image:
        number = list(DIRECTIONS).index(value) if isinstance(value, str) else value - 1
        shown.add((thing, number))
        return Image.new("RGB", (1, 1))

    for name in ("several", "moving"):
        monkeypatch.setattr(shapes, name, drawn)
    draw = random.Random(0)
    album = shapes.Album(tmp_path / "album", "album", draw)
    stages = (shapes.stage1_sets, shapes.stage2_sets)
    said = json.dumps([rows for sets in stages for _, rows in sets(album, draw, 1)])
    assert len(shown) == 3 * len(THINGS)
    assert not any(shapes.held_out(thing, number) for thing, number in shown)
    for thing, number in product(THINGS, range(4)):
        if shapes.held_out(thing, number):
            for caption in shapes.captions(thing, number + 1):
                assert f'"{caption}"' not in said
            for caption in shapes.film_captions(thing, list(DIRECTIONS)[number]):
                assert f'"{caption}"' not in said


def test_every_colour_and_shape_is_shown_with_every_number():
    for values in (COLOURS, SHAPES):
        for value, number in product(values, range(4)):
            things = [thing for thing in THINGS if value in (thing.colour, thing.shape)]
            out = [shapes.held_out(thing, number) for thing in things]
            assert any(out)
            assert not all(out)


def test_the_same_folder_comes_out_each_time_and_the_commands_that_follow_are_told(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert shapes.main([str(tmp_path / "again"), "--repetitions", "1"]) == 0
    said = capsys.readouterr().out
    for module, name in (("stage1", "stage1-tiny.toml"), ("stage2", "stage2-tiny.toml")):
        assert f"python -m trainer.{module} {tmp_path / 'again' / name}" in said
    assert f"python -m trainer.evaluate --spec rzen:{tmp_path / 'again'}/stage2/model" in said
    assert digests(tmp_path / "again") == digests(written)


def test_all_that_is_written_can_be_read(written: Path):
    for name in shapes.CONFIGS:
        run, errors = Run.read(written / name), ErrorBudget(0)
        corpus, sources = load_datasets(run.data, errors, written / "work")
        assert errors.broken == 0
        assert len(corpus) == sum(len(source.keys) for source in sources) >= 360
    stated = {path.name for path in written.glob("*.jsonl")}
    used = {one.path.name for name in shapes.CONFIGS for one in Run.read(written / name).data}
    assert stated == used
    sets = list(find_sets([written / "held-out"], None, written / "cache"))
    assert {one.name: (len(one.queries), len(one.candidates)) for one in sets} == {
        "captions": (48, 48),
        "colour": (48, 8),
        "count": (48, 4),
        "films": (48, 48),
        "shape": (48, 6),
    }
    assert not any(one.broken for one in sets)


def test_each_configuration_has_the_recipe_of_its_stage(written: Path):
    first, second = (Run.read(written / name) for name in shapes.CONFIGS)
    assert (first.loss.alpha, first.loss.delta, first.loss.learn_temperature) == (0.0, 2.0, False)
    assert (second.loss.alpha, second.loss.delta) == (9.0, 0.95)
    assert second.loss.learn_temperature
    assert second.batches.merge_classification
    assert (first.model.method, second.model.method) == ("full", "lora")
    assert second.model.lora.rank == 64
    assert second.model.base == f"{first.out.name}/model"
    assert first.optimizer.weight_decay == second.optimizer.weight_decay == 5e-2


def test_what_training_tells_queries_is_what_the_checkpoint_will_tell_them(written: Path):
    run = Run.read(written / shapes.CONFIGS[1])
    instructions = Settings.of_values(run.settings).query_instructions
    kinds = {
        shapes.FIND_PICTURE: (Modality.TEXT, Modality.IMAGE),
        shapes.FIND_FILM: (Modality.TEXT, Modality.VIDEO),
        shapes.ANSWER: (Modality.IMAGE, Modality.TEXT),
    }
    for instruction, kind in kinds.items():
        assert instructions[kind] == instruction
    files = [path.read_text() for path in written.glob("stage2-*.jsonl")]
    rows = [json.loads(line) for text in files for line in text.splitlines()]
    assert {row["instruction"] for row in rows} == set(kinds)


def test_a_folder_with_something_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine.txt").write_text("mine")
    assert shapes.main([str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert shapes.main([str(tmp_path / "mine.txt")]) == 2
