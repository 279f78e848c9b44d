from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.restarts import BadRestart, Place, Restarts


def learning(folder: Path, width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer, Restarts]:
    torch.manual_seed(1)
    module = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return module, optimizer, Restarts(folder, {"module": module}, optimizer, schedule)


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


def test_all_that_the_next_step_depends_on_is_put_back(tmp_path: Path):
    module, optimizer, restarts = learning(tmp_path)
    step(module, optimizer)
    restarts.save(Place(1, {"next": 7}))
    drawn = torch.rand(3)
    step(module, optimizer)
    expected = module.weight.detach().clone()
    other, its_optimizer, its_restarts = learning(tmp_path)
    assert its_restarts.restore() == Place(1, {"next": 7})
    assert torch.equal(torch.rand(3), drawn)
    step(other, its_optimizer)
    assert torch.equal(other.weight, expected)


def test_the_two_latest_are_kept_and_the_latest_is_taken(tmp_path: Path):
    _, _, restarts = learning(tmp_path)
    for number in (9, 10, 100):
        restarts.save(Place(number, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    assert restarts.restore().step == 100


def test_one_that_was_not_finished_does_not_count(tmp_path: Path):
    _, _, restarts = learning(tmp_path)
    restarts.save(Place(1, {}))
    (tmp_path / ".step-00000002.123.partial").mkdir()
    assert restarts.restore().step == 1


def test_there_has_to_be_one_of_this_model(tmp_path: Path):
    _, _, restarts = learning(tmp_path)
    with pytest.raises(BadRestart, match="no checkpoint"):
        restarts.restore()
    restarts.save(Place(1, {}))
    other = nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(BadRestart, match="another model"):
        Restarts(tmp_path, {"module": other}, optimizer, schedule).restore()
