"""What the loss is given: a temperature for each task, a config, tensors that belong together."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses import TASKS, LossConfig, TaskTemperatures, contrastive_loss

PLAIN = LossConfig.plain()
PAPER = LossConfig()


def units(count: int, seed: int, dim: int = 8) -> Tensor:
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)).double()
    return functional.normalize(rows, dim=-1)


def test_each_query_has_the_temperature_of_its_task():
    temperatures = TaskTemperatures(["one", "two"], start=0.5)
    with torch.no_grad():
        temperatures.theta_two.fill_(math.log(0.25))
    queries, positives = units(3, 27), units(3, 28)
    loss = contrastive_loss(
        queries, positives, temperatures=temperatures(["two", "one", "two"]), config=PLAIN
    ).value
    logits = queries @ positives.T / torch.tensor([0.25, 0.5, 0.25])[:, None]
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, torch.arange(3)).item())
    assert temperatures.values() == pytest.approx({"one": 0.5, "two": 0.25})


def test_only_tasks_of_the_batch_have_gradients_and_move():
    temperatures = TaskTemperatures(start=0.1)
    optimizer = torch.optim.AdamW(temperatures.parameters(), lr=0.1, weight_decay=0.0)
    queries, positives = units(4, 29), units(4, 30)
    for tasks in (["video_qa"] * 4, ["image_qa", "image_qa", "video_retrieval", "image_qa"]):
        before = temperatures.values()
        optimizer.zero_grad()
        loss = contrastive_loss(queries, positives, temperatures=temperatures(tasks)).value
        loss.backward()
        grads = {task: getattr(temperatures, f"theta_{task}").grad for task in TASKS}
        assert {task for task, grad in grads.items() if grad is not None} == set(tasks)
        assert all(abs(grads[task].item()) > 1e-4 for task in tasks)
        optimizer.step()
        after = temperatures.values()
        assert {task for task in TASKS if after[task] != before[task]} == set(tasks)


def test_the_gradient_of_a_temperature_lowers_it_where_queries_are_right():
    rows = units(4, 31)
    wrong = rows.roll(1, 0)
    for positives, sign in ((rows, 1), (wrong, -1)):
        temperatures = TaskTemperatures(["only"], start=0.5)
        tau = temperatures(["only"] * 4)
        contrastive_loss(rows, positives, temperatures=tau, config=PLAIN).value.backward()
        assert sign * temperatures.theta_only.grad > 0.01


def test_temperatures_start_where_told_stay_positive_and_can_be_fixed():
    temperatures = TaskTemperatures(start=0.02)
    assert temperatures.values() == pytest.approx(dict.fromkeys(TASKS, 0.02))
    with torch.no_grad():
        temperatures.theta_image_qa.fill_(-30)
    assert temperatures(["image_qa"]) > 0
    fixed = TaskTemperatures(["only"], learned=False)
    assert not fixed(["only"]).requires_grad


def test_temperatures_are_saved_and_loaded_by_the_name_of_their_task():
    saved = TaskTemperatures(["one", "two"], start=0.3).state_dict()
    loaded = TaskTemperatures(["two", "one"])
    loaded.load_state_dict(saved | {"theta_two": torch.tensor(math.log(0.7))})
    assert loaded.values() == pytest.approx({"one": 0.3, "two": 0.7})


@pytest.mark.parametrize(
    ("tasks", "start"),
    [([], 0.1), (["a", "a"], 0.1), (["a b"], 0.1), (["a.b"], 0.1), (["a"], 0.0)],
)
def test_temperatures_without_sense_are_refused(tasks: list[str], start: float):
    with pytest.raises(ValueError):
        TaskTemperatures(tasks, start)


def test_an_unknown_task_is_named():
    with pytest.raises(KeyError, match="no temperature for other: there are one, two"):
        TaskTemperatures(["one", "two"])(["one", "other"])


def test_a_config_without_sense_names_all_that_is_wrong_with_it():
    with pytest.raises(ValueError, match=r"alpha .* -1.*; delta .* 0.*; temperature .* nan"):
        LossConfig(alpha=-1, delta=0, temperature=float("nan"))


def test_the_defaults_are_those_of_the_paper():
    assert (PAPER.alpha, PAPER.delta, PAPER.learn_temperature) == (9.0, 0.95, True)


@pytest.mark.parametrize(
    ("count", "offset", "config", "said"),
    [
        (0, 0, PAPER, "there must be a query"),
        (3, 0, PAPER, "3 queries from 0 on do not fit 2 positives"),
        (1, 2, PAPER, "1 queries from 2 on do not fit"),
        (1, -1, PAPER, "from -1 on"),
        (1, 0, replace(PAPER, two_sided=True), "give all_queries"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(
    count: int, offset: int, config: LossConfig, said: str
):
    with pytest.raises(ValueError, match=said):
        contrastive_loss(
            units(3, 32)[:count], units(2, 33), temperatures=0.1, config=config, offset=offset
        )
