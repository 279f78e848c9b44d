"""The contrastive loss: closed forms, equivalences, gradients, and what each piece does alone."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses import (
    TASKS,
    LossConfig,
    TaskTemperatures,
    contrastive_loss,
    false_negative_mask,
    log_hardness_weights,
    similarities,
)

PLAIN = LossConfig(alpha=0.0, delta=2.0, learn_temperature=False)
PAPER = LossConfig()
UNWEIGHTED = replace(PAPER, alpha=0.0)
UNMASKED = replace(PAPER, delta=2.0)


def units(count: int, seed: int, dim: int = 8) -> Tensor:
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)).double()
    return functional.normalize(rows, dim=-1)


def with_cosine(base: Tensor, cosine: float) -> Tensor:
    """A unit row of that cosine to `base`, by tilting it towards what is orthogonal to it."""
    other = units(1, seed=99, dim=len(base))[0]
    other = functional.normalize(other - (other @ base) * base, dim=0)
    return cosine * base + math.sqrt(1 - cosine**2) * other


def gradients(loss: Tensor, *tensors: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, tensors))


def test_equal_embeddings_give_the_logarithm_of_the_batch():
    rows = units(1, 0).expand(6, -1)
    for temperature in (0.02, 1.0):
        for config in (PLAIN, replace(PLAIN, two_sided=True)):
            loss = contrastive_loss(rows, rows, temperatures=temperature, config=config)
            assert loss.value.item() == pytest.approx(math.log(6))


def test_equal_embeddings_with_weights_give_one_positive_against_heavier_negatives():
    rows = units(1, 0).expand(6, -1)
    loss = contrastive_loss(rows, rows, temperatures=0.02, config=UNMASKED)
    assert loss.value.item() == pytest.approx(math.log(1 + 5 * math.exp(9)))


def test_equal_embeddings_with_the_mask_leave_nothing_to_learn():
    rows = units(1, 0).expand(6, -1).clone().requires_grad_()
    loss = contrastive_loss(rows, rows, temperatures=0.02, config=PAPER)
    assert loss.value.item() == 0
    assert loss.masked.item() == 1
    assert torch.isfinite(gradients(loss.value, rows)[0]).all()


@pytest.mark.parametrize("two_sided", [False, True])
def test_without_weights_and_mask_it_is_plain_infonce(two_sided: bool):
    queries, positives, labels = units(7, 1), units(7, 2), torch.arange(7)
    config = replace(PLAIN, two_sided=two_sided)
    loss = contrastive_loss(queries, positives, temperatures=0.05, config=config).value
    logits = queries @ positives.T / 0.05
    expected = functional.cross_entropy(logits, labels)
    if two_sided:
        expected = (expected + functional.cross_entropy(logits.T, labels)) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss.item() > 0.1


def test_two_queries_and_a_hard_negative_computed_by_hand():
    positives = torch.eye(3).double()[:2]
    negative = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    queries = torch.tensor([[0.8, 0.0, 0.6], [0.6, 0.8, 0.0]], dtype=torch.float64)
    # Cosines: of query 0 to its positive 0.8, to the other 0, to the hard negative 0.96; of query 1
    # to its positive 0.8, to the other 0.6, to the hard negative 0.36.
    config = LossConfig(alpha=2.0, delta=0.5)
    own, other, hard = (math.exp(s / 0.5) for s in (0.8, 0.6, 0.36))
    # The hard negative is 0.6 to positive 0 and leaves for query 0: only positive 1 is left there.
    first = -math.log(own / (own + 1))
    second = -math.log(own / (own + math.exp(2 * 0.6) * other + math.exp(2 * 0.36) * hard))
    loss = contrastive_loss(queries, positives, negative, temperatures=0.5, config=config)
    assert loss.value.item() == pytest.approx((first + second) / 2, rel=1e-12)
    assert loss.masked.item() == pytest.approx(1 / 4)


def test_two_sided_computed_by_hand():
    positives = torch.eye(2, dtype=torch.float64)
    queries = torch.tensor([[0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
    config = LossConfig(alpha=1.0, delta=0.9, two_sided=True)
    e = math.exp
    asking = [math.log(1 + e(0.6 * 3) / e(0.8 * 2)), math.log(1 + 1 / e(2))]
    asked = [math.log(1 + 1 / e(0.8 * 2)), math.log(1 + e(0.6 * 3) / e(2))]
    loss = contrastive_loss(queries, positives, temperatures=0.5, config=config)
    assert loss.value.item() == pytest.approx((sum(asking) + sum(asked)) / 4, rel=1e-12)


def test_two_sided_a_query_of_nearly_the_same_target_is_no_negative():
    first, third = units(2, 34)
    positives = torch.stack([first, with_cosine(first, 0.97), third])
    config = replace(UNWEIGHTED, two_sided=True)
    # Rows 0 and 1 have negative 2 alone in either direction, row 2 has two: 4 of 12 are masked.
    loss = contrastive_loss(units(1, 35).expand(3, -1), positives, temperatures=1e9, config=config)
    assert loss.masked.item() == pytest.approx(4 / 12)
    assert loss.value.item() == pytest.approx((2 * math.log(2) + math.log(3)) / 3)


def test_a_negative_weighs_the_exponential_of_its_cosine():
    cosines = torch.tensor([[-1.0, 0.0, 0.5]], requires_grad=True)
    weights = log_hardness_weights(cosines, 9.0, detach=False).exp()
    torch.testing.assert_close(weights, torch.tensor([[math.exp(-9), 1.0, math.exp(4.5)]]))
    assert weights.requires_grad
    assert not log_hardness_weights(cosines, 9.0, detach=True).requires_grad


def test_weights_move_the_gradient_towards_hard_negatives():
    query = units(1, 3)
    near, far = with_cosine(query[0], 0.6)[None], with_cosine(query[0], 0.1)[None]
    positives = torch.cat([with_cosine(query[0], 0.5)[None]])

    def share(config: LossConfig) -> float:
        negatives = torch.cat([near, far]).requires_grad_()
        loss = contrastive_loss(query, positives, negatives, temperatures=1.0, config=config).value
        hard, easy = gradients(loss, negatives)[0].norm(dim=1)
        return (hard / (hard + easy)).item()

    assert share(UNMASKED) > 0.95 > 0.7 > share(PLAIN) > 0.5


def test_extreme_similarities_and_temperatures_stay_finite():
    queries = units(4, 4).float().requires_grad_()
    targets = torch.cat([-queries.detach(), queries.detach()])
    loss = contrastive_loss(
        queries, targets[:4], targets[4:], temperatures=1e-4, config=replace(UNMASKED, alpha=200.0)
    )
    assert torch.isfinite(loss.value)
    assert loss.value > 1e4
    assert torch.isfinite(gradients(loss.value, queries)[0]).all()


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("delta", [0.3, 2.0])
def test_gradients_are_those_of_finite_differences(two_sided: bool, delta: float):
    config = LossConfig(alpha=3.0, delta=delta, detach_weights=False, two_sided=two_sided)
    tensors = [units(n, seed).requires_grad_() for n, seed in ((3, 5), (5, 6), (2, 7), (5, 8))]
    temperatures = torch.tensor([0.3, 0.5, 0.9]).double().requires_grad_()

    def value(
        queries: Tensor, positives: Tensor, negatives: Tensor, all_queries: Tensor, t: Tensor
    ):
        return contrastive_loss(
            queries,
            positives,
            negatives,
            temperatures=temperatures,
            config=config,
            offset=1,
            all_queries=all_queries if two_sided else None,
        ).value

    assert torch.autograd.gradcheck(value, (*tensors, temperatures))
    used = [*tensors[: 4 if two_sided else 3], temperatures]
    assert all(one.norm() > 1e-3 for one in gradients(value(*tensors, temperatures), *used))


def test_detached_weights_change_the_gradient_and_not_the_value():
    queries, positives = units(4, 9).requires_grad_(), units(4, 10)
    kept, detached = (
        contrastive_loss(
            queries,
            positives,
            temperatures=0.5,
            config=replace(UNMASKED, detach_weights=detach),
        ).value
        for detach in (False, True)
    )
    assert kept.item() == detached.item()
    (whole,), (part,) = gradients(kept, queries), gradients(detached, queries)
    assert (whole - part).norm() > 0.1
    # Detached, a weight is a constant: a plain cross-entropy with a fixed summand in its logits.
    cosines = queries @ positives.T
    constant = (9 * cosines.detach()).fill_diagonal_(0)
    expected = functional.cross_entropy(cosines / 0.5 + constant, torch.arange(4))
    torch.testing.assert_close(part, gradients(expected, queries)[0])


def test_targets_nearly_the_positive_leave_the_denominator():
    targets = torch.stack([one for row in units(3, 11) for one in (row, with_cosine(row, 0.96))])
    mask = false_negative_mask(targets, targets, torch.arange(6), delta=0.95)
    pairs = {(row, column) for row, column in mask.nonzero().tolist()}
    assert pairs == {(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)}
    assert not false_negative_mask(targets, targets, torch.arange(6), delta=0.97).any()


def test_the_mask_compares_targets_and_not_the_query():
    queries = torch.eye(4).double()[:2]
    # Query 0 is exactly the target of query 1: hard, and no false negative.
    positives = torch.eye(4).double()[[2, 0]]
    loss = contrastive_loss(queries, positives, temperatures=1.0, config=UNWEIGHTED)
    assert loss.masked.item() == 0
    assert loss.value.item() == pytest.approx((math.log(1 + math.e) + math.log(2)) / 2)


def test_the_mask_never_takes_the_positive_itself():
    rows = units(1, 12).expand(5, -1)
    for offset in (0, 2):
        columns = torch.arange(offset, offset + 3)
        mask = false_negative_mask(rows, rows[:3], columns, delta=0.95)
        assert (~mask).nonzero().tolist() == [[row, row + offset] for row in range(3)]


def test_the_mask_takes_explicit_negatives_too():
    queries, positives = units(2, 13), units(2, 14)
    copies = torch.stack([with_cosine(positives[0], 0.99), with_cosine(positives[1], 0.5)])
    masked = contrastive_loss(queries, positives, copies, temperatures=1.0, config=PAPER)
    without = contrastive_loss(queries, positives, copies, temperatures=1.0, config=UNMASKED)
    assert masked.masked.item() == pytest.approx(1 / 6)
    assert masked.value.item() < without.value.item()


def test_masked_targets_get_no_gradient():
    queries, positives = units(1, 15), units(1, 16)
    negatives = torch.stack([with_cosine(positives[0], 0.99), units(1, 17)[0]]).requires_grad_()
    loss = contrastive_loss(queries, positives, negatives, temperatures=1.0, config=PAPER).value
    copy, other = gradients(loss, negatives)[0].norm(dim=1)
    assert copy == 0
    assert other > 1e-4


def test_above_one_the_mask_keeps_exact_copies_whatever_rounding_makes_of_them():
    rows = (units(1, 18) * (1 + 1e-6)).expand(3, -1)
    assert (similarities(rows, rows) > 1.000_001).all()
    assert not false_negative_mask(rows, rows, torch.arange(3), delta=1.000_001).any()


def test_explicit_negatives_count_for_every_query():
    queries, positives, negatives = units(3, 19), units(3, 20), units(4, 21)
    for config in (PLAIN, PAPER):
        plain = contrastive_loss(queries, positives, temperatures=0.1, config=config).value
        empty = contrastive_loss(
            queries, positives, negatives[:0], temperatures=0.1, config=config
        ).value
        more = contrastive_loss(
            queries, positives, negatives, temperatures=0.1, config=config
        ).value
        assert empty.item() == plain.item() < more.item()
    logits = queries @ torch.cat([positives, negatives]).T / 0.1
    expected = functional.cross_entropy(logits, torch.arange(3))
    loss = contrastive_loss(queries, positives, negatives, temperatures=0.1, config=PLAIN).value
    assert loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("two_sided", [False, True])
def test_parts_of_a_batch_among_all_targets_have_the_mean_of_the_whole(two_sided: bool):
    queries, positives, negatives = units(6, 22), units(6, 23), units(3, 24)
    temperatures = torch.linspace(0.1, 0.6, 6).double()
    config = LossConfig(alpha=4.0, delta=0.3, two_sided=two_sided)
    whole = contrastive_loss(
        queries, positives, negatives, temperatures=temperatures, config=config
    )
    parts = [
        contrastive_loss(
            queries[start : start + 2],
            positives,
            negatives,
            temperatures=temperatures[start : start + 2],
            config=config,
            offset=start,
            all_queries=queries,
        )
        for start in (0, 2, 4)
    ]
    for name in ("value", "masked"):
        found = torch.stack([getattr(part, name) for part in parts]).mean()
        assert found.item() == pytest.approx(getattr(whole, name).item(), rel=1e-6), name
    assert 0 < whole.masked.item() < 1


def test_halves_are_computed_in_full_precision_inside_autocast():
    queries, positives = units(5, 25).float(), units(5, 26).float()
    expected = contrastive_loss(queries, positives, temperatures=0.02, config=PAPER).value
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(queries, positives, temperatures=0.02, config=PAPER).value
        assert similarities(queries.bfloat16(), positives).dtype == torch.float32
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()


def test_each_query_has_the_temperature_of_its_task():
    temperatures = TaskTemperatures(["one", "two"], start=0.5)
    with torch.no_grad():
        temperatures.theta["two"].fill_(math.log(0.25))
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
        loss = contrastive_loss(
            queries, positives, temperatures=temperatures(tasks), config=PAPER
        ).value
        loss.backward()
        grads = {task: temperatures.theta[task].grad for task in TASKS}
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
        assert sign * temperatures.theta["only"].grad > 0.01


def test_temperatures_start_where_told_stay_positive_and_can_be_fixed():
    temperatures = TaskTemperatures(start=0.02)
    assert temperatures.values() == pytest.approx(dict.fromkeys(TASKS, 0.02))
    with torch.no_grad():
        temperatures.theta["image_qa"].fill_(-30)
    assert temperatures(["image_qa"]) > 0
    fixed = TaskTemperatures(["only"], learned=False)
    assert not fixed(["only"]).requires_grad


def test_temperatures_are_saved_and_loaded_by_the_name_of_their_task():
    saved = TaskTemperatures(["one", "two"], start=0.3).state_dict()
    loaded = TaskTemperatures(["two", "one"])
    loaded.load_state_dict(saved | {"theta.two": torch.tensor(math.log(0.7))})
    assert loaded.values() == pytest.approx({"one": 0.3, "two": 0.7})


def test_an_unknown_task_is_named():
    with pytest.raises(KeyError, match="no temperature for other; known tasks: one, two"):
        TaskTemperatures(["one", "two"])(["one", "other"])


def test_a_config_without_sense_names_all_that_is_wrong_with_it():
    with pytest.raises(ValueError, match=r"alpha(.|\n)*delta(.|\n)*temperature"):
        LossConfig(alpha=-1, delta=0, temperature=float("nan"))


def test_the_defaults_are_those_of_the_paper():
    assert (PAPER.alpha, PAPER.delta, PAPER.learn_temperature) == (9.0, 0.95, True)


@pytest.mark.parametrize(
    ("count", "offset", "config", "said"),
    [
        (0, 0, PAPER, "there must be at least one query"),
        (3, 0, PAPER, "3 queries from row 0 on do not match 2 positives"),
        (1, 2, PAPER, "1 queries from row 2 on do not match"),
        (1, -1, PAPER, "from row -1 on"),
        (1, 0, replace(PAPER, two_sided=True), "pass all_queries"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(
    count: int, offset: int, config: LossConfig, said: str
):
    with pytest.raises(ValueError, match=said):
        contrastive_loss(
            units(3, 32)[:count], units(2, 33), temperatures=0.1, config=config, offset=offset
        )
