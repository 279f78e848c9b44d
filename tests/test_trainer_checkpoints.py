from pathlib import Path

import pytest
import torch
from processes import run_two
from torch import nn

from trainer.checkpoints import Checkpointer, ResumeError, TrainingState

DRAWING = """
import sys
from pathlib import Path
import torch
from torch import distributed
from tests.test_trainer_checkpoints import learning
from trainer.checkpoints import TrainingState
distributed.init_process_group("gloo")
torch.set_num_threads(1)
folder = Path(sys.argv[1])
_, _, checkpoints = learning(folder / "checkpoints")
torch.manual_seed(distributed.get_rank())
checkpoints.save(TrainingState(1, {}))
distributed.barrier()
drawn = torch.rand(3)
checkpoints.restore()
assert torch.equal(torch.rand(3), drawn)
torch.save(drawn, folder / f"drawn-{distributed.get_rank()}")
distributed.destroy_process_group()
"""


def learning(folder: Path, width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer, Checkpointer]:
    torch.manual_seed(1)
    module = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return module, optimizer, Checkpointer(folder, {"module": module}, optimizer, schedule)


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


def test_all_that_the_next_step_depends_on_is_put_back(tmp_path: Path):
    module, optimizer, checkpoints = learning(tmp_path)
    step(module, optimizer)
    checkpoints.save(TrainingState(1, {"next": 7}))
    drawn = torch.rand(3)
    step(module, optimizer)
    expected = module.weight.detach().clone()
    other, its_optimizer, its_checkpoints = learning(tmp_path)
    assert its_checkpoints.restore() == TrainingState(1, {"next": 7})
    assert torch.equal(torch.rand(3), drawn)
    step(other, its_optimizer)
    assert torch.equal(other.weight, expected)


def test_the_two_latest_are_kept_and_the_latest_is_taken(tmp_path: Path):
    _, _, checkpoints = learning(tmp_path)
    for number in (9, 10, 100):
        checkpoints.save(TrainingState(number, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    assert checkpoints.restore().step == 100


def test_one_that_was_not_finished_does_not_count(tmp_path: Path):
    _, _, checkpoints = learning(tmp_path)
    checkpoints.save(TrainingState(1, {}))
    (tmp_path / ".step-00000002.123.partial").mkdir()
    assert checkpoints.restore().step == 1


def test_there_has_to_be_one_of_this_model(tmp_path: Path):
    _, _, checkpoints = learning(tmp_path)
    with pytest.raises(ResumeError, match="no checkpoint"):
        checkpoints.restore()
    checkpoints.save(TrainingState(1, {}))
    other = nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(ResumeError, match="another model"):
        Checkpointer(tmp_path, {"module": other}, optimizer, schedule).restore()


def test_each_process_goes_on_with_what_it_would_have_drawn(tmp_path: Path):
    (tmp_path / "drawing.py").write_text(DRAWING)
    run_two(tmp_path / "drawing.py", tmp_path)
    drawn = [torch.load(tmp_path / f"drawn-{rank}") for rank in range(2)]
    assert not torch.equal(*drawn)
    # One process cannot know what either would have drawn: it draws its own.
    _, _, checkpoints = learning(tmp_path / "checkpoints")
    before = torch.get_rng_state()
    checkpoints.restore()
    assert torch.equal(torch.get_rng_state(), before)


class Spell:
    """What runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("damage", ["code", "cut off", "another file"])
def test_a_checkpoint_that_is_damaged_or_would_run_code_is_refused(tmp_path: Path, damage: str):
    module, optimizer, checkpoints = learning(tmp_path / "runs")
    step(module, optimizer)
    checkpoints.save(TrainingState(1, {}))
    (state,) = (tmp_path / "runs").glob("*/state.pt")
    if damage == "code":
        torch.save({"optimizer": Spell(tmp_path / "ran")}, state)
        torch.load(state, weights_only=False)
        (tmp_path / "ran").unlink()  # So it would have.
    elif damage == "cut off":
        state.write_bytes(state.read_bytes()[:99])
    else:
        state.with_name("trained.safetensors").write_text("<html>not found</html>")
    with pytest.raises(ResumeError, match="cannot be read"):
        checkpoints.restore()
    assert not (tmp_path / "ran").exists()
