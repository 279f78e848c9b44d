from pathlib import Path

import pytest

from embedder.mllm.settings import Settings
from trainer.config import BadConfig, Run
from trainer.data.examples import Task
from trainer.losses import LossConfig

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
    for word in ("optimizer.rate", "optimizer.epochs", "frames", "loss.alpha: Input should be gr"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("addition", "word"),
    [
        ("[batches]\nsize = 1\n", "batches.size: Input should be greater than or equal to 2"),
        ('[[data]]\npath = "b"\nweight = 2.0\n', "either all datasets or none must"),
        ("[batches]\ncap = 0\n", "batches.cap"),
        ('[[data]]\npath = "b"\nresampling = 0\n', "resampling: Input should be greater than 0"),
        ('[[data]]\npath = "b"\nweight = inf\n', "weight: Input should be a finite number"),
        ("[optimizer]\nlearning_rate = 0.0\n", "learning_rate: Input should be greater than 0"),
        ("[optimizer]\nwarmup = 1.0\n", "warmup: Input should be less than 1"),
        ("[model.lora]\ndropout = 1.0\n", "model.lora.dropout: Input should be less than 1"),
        ("seed = -1\n", "seed"),
        ("checkpoint_every = 0\n", "checkpoint_every"),
        ("checkpoint = 3\n", "checkpoint"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, addition: str, word: str):
    text = GOOD + addition if addition.startswith("[") else addition + GOOD
    with pytest.raises(BadConfig, match=word):
        Run.read(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(BadConfig, match="nowhere"):
        Run.read(tmp_path / "nowhere.toml")
    with pytest.raises(BadConfig, match=r"run\.toml"):
        Run.read(written(tmp_path, "out = "))


CONFIGS = sorted((Path(__file__).parent.parent / "trainer" / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_the_paper_s_to_the_number(path: Path):
    run = Run.read(path)
    assert run.model.method == "lora"
    assert (run.model.lora.rank, run.model.dtype) == (64, "bfloat16")
    assert run.model.gradient_checkpointing
    assert (run.optimizer.learning_rate, run.optimizer.weight_decay) == (2e-4, 5e-2)
    assert (run.optimizer.epochs, run.batches.size) == (1, 768)
    settings = Settings.of_values(run.settings)
    assert settings.image_tokens[1] == 1280
    assert settings.frames * settings.frame_tokens[1] == 1280
    assert settings.system.startswith("Given an image, summarize the provided image in one word.")
    assert settings.text_prompt.strip() == "Represent the given text in one word."
    if "stage2" in path.stem:
        assert (run.loss.alpha, run.loss.delta, run.batches.cap) == (9.0, 0.95, 100_000)
        assert run.loss.learn_temperature
        assert run.batches.merge_classification
        assert {one.task for one in run.data} == set(Task)
    else:
        assert run.loss == LossConfig(alpha=0.0, delta=2.0, learn_temperature=False)
        assert sum(one.cap or 0 for one in run.data) == 5_050_000


def test_there_is_a_configuration_for_each_size_and_stage():
    names = {path.stem for path in CONFIGS}
    assert names == {f"stage{stage}-{size}" for stage in (1, 2) for size in ("2b", "7b")}
