from pathlib import Path

import pytest

from trainer.config import BadConfig, Run
from trainer.tasks import Task

GOOD = """
out = "run"
[model]
base = "somebody/a-model"
[[data]]
path = "pairs.jsonl"
task = "image_qa"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_what_a_file_does_not_say_is_as_in_the_paper(tmp_path: Path):
    run = Run.read(written(tmp_path, GOOD))
    assert (run.loss.alpha, run.loss.delta) == (9.0, 0.95)
    assert (run.optimizer.learning_rate, run.optimizer.weight_decay) == (2e-4, 5e-2)
    assert (run.batches.size, run.batches.cap) == (768, 100_000)
    assert run.model.lora.rank == 64
    assert run.data[0].task is Task.IMAGE_QA


def test_names_of_files_start_beside_the_configuration(tmp_path: Path):
    (tmp_path / "base").mkdir()
    run = Run.read(written(tmp_path, GOOD.replace("somebody/a-model", "base")))
    assert run.out == tmp_path / "run"
    assert run.data[0].path == tmp_path / "pairs.jsonl"
    assert run.model.base == str(tmp_path / "base")
    assert Run.read(written(tmp_path, GOOD)).model.base == "somebody/a-model"


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path):
    text = (
        GOOD
        + '[optimizer]\nrate = 1\nepochs = "many"\n[settings]\nframes = 0\n[loss]\nalpha = -1\n'
    )
    with pytest.raises(BadConfig) as caught:
        Run.read(written(tmp_path, text))
    for word in ("optimizer.rate", "optimizer.epochs", "frames", "alpha must be 0 or more"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("addition", "word"),
    [
        ("[batches]\nsize = 1\n", "two rows"),
        ('[[data]]\npath = "b"\nweight = 2.0\n', "either all sets have a weight or none"),
        ("[optimizer]\nlearning_rate = 0.0\n", "above 0"),
        ("checkpoint = 3\n", "checkpoint"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, addition: str, word: str):
    text = addition + GOOD if addition.startswith("checkpoint") else GOOD + addition
    with pytest.raises(BadConfig, match=word):
        Run.read(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(BadConfig, match="nowhere"):
        Run.read(tmp_path / "nowhere.toml")
    with pytest.raises(BadConfig, match=r"run\.toml"):
        Run.read(written(tmp_path, "out = "))
