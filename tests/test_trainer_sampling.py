"""Batches: one dataset each, no positive twice, the same again under a seed and after a stop."""

import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from trainer.data.examples import Task
from trainer.sampling import Batch, Sampler, Source, assemble_batches

RETRIEVAL, CLASSES = Task.IMAGE_RETRIEVAL, Task.IMAGE_CLASSIFICATION


def keys(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16) for number in numbers]


def distinct(name: str, count: int, task: Task = RETRIEVAL, **options: object) -> Source:
    start = sum(map(ord, name)) * 1_000_000
    return Source(name, task, keys(*range(start, start + count)), **options)


def labelled(name: str, labels: int, count: int, start: int = 0) -> Source:
    return Source(name, CLASSES, keys(*(start + n % labels for n in range(count))))


def epoch(sampler: Sampler) -> list[Batch]:
    return list(sampler)


def rows_of(batches: list[Batch]) -> Counter:
    return Counter(chain.from_iterable(batch.rows for batch in batches))


def by_source(batches: list[Batch]) -> Counter:
    return Counter(row.source for batch in batches for row in batch.rows)


def assert_no_positive_twice(sources: list[Source], batches: list[Batch]) -> None:
    for batch in batches:
        positives = [sources[row.source].keys[row.index] for row in batch.rows]
        assert len(set(positives)) == len(positives)


def test_an_epoch_has_every_row_once_in_batches_of_one_dataset() -> None:
    batches = epoch(Sampler([distinct("a", 50), distinct("b", 33)], 8))
    assert set(rows_of(batches).values()) == {1}
    assert by_source(batches) == {0: 50, 1: 33}
    assert all(len({row.source for row in batch.rows}) == 1 for batch in batches)
    assert {batch.dataset for batch in batches} == {"a", "b"}
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert sorted(len(batch.rows) for batch in batches) == [2, 2, 7, *[8] * 9]


def test_sets_of_image_classification_are_taken_as_one() -> None:
    sources = [labelled("dogs", 10, 10), distinct("c", 10), labelled("cars", 10, 10, start=50)]
    batches = epoch(Sampler(sources, 5))
    merged = [batch for batch in batches if batch.dataset == "image_classification"]
    assert len(merged) == 4
    assert any({row.source for row in batch.rows} == {0, 2} for batch in merged)
    assert {batch.task for batch in merged} == {CLASSES}
    assert all(row.source == 1 for b in batches if b.dataset == "c" for row in b.rows)


def test_merging_can_be_switched_off() -> None:
    batches = epoch(Sampler([labelled("a", 9, 9), labelled("b", 9, 9)], 3, merge=()))
    assert {batch.dataset for batch in batches} == {"a", "b"}
    assert all(len({row.source for row in batch.rows}) == 1 for batch in batches)


def test_no_positive_comes_twice_in_a_batch_and_no_row_is_lost() -> None:
    rng = np.random.default_rng(3)
    source = Source("a", RETRIEVAL, keys(*rng.integers(0, 60, 600).tolist()))
    sampler = Sampler([source], 16)
    batches = epoch(sampler)
    assert_no_positive_twice([source], batches)
    assert sum(rows_of(batches).values()) + sum(sampler.left_out(0).values()) == 600
    assert set(rows_of(batches).values()) == {1}
    assert sampler.left_out(0) == {}
    assert sum(len(batch.rows) < 16 for batch in batches) <= 4


def test_equal_positives_of_two_merged_sets_do_not_meet_either() -> None:
    sources = [labelled("a", 12, 24), labelled("b", 12, 24)]
    batches = epoch(Sampler(sources, 12))
    assert_no_positive_twice(sources, batches)
    assert len(batches) == 4


def test_rows_that_nothing_can_be_compared_with_are_left_out_and_counted() -> None:
    source = Source("a", RETRIEVAL, keys(1, 1, 1, 1, 2))
    sampler = Sampler([source], 4)
    assert [len(batch.rows) for batch in epoch(sampler)] == [2]
    assert sampler.left_out(0) == {"a": 3}


def test_a_single_last_row_gets_another_of_a_batch_before() -> None:
    sampler = Sampler([distinct("a", 17)], 8)
    batches = epoch(sampler)
    assert sorted(len(batch.rows) for batch in batches) == [2, 7, 8]
    assert set(rows_of(batches).values()) == {1}
    assert sampler.left_out(0) == {}


def test_a_last_batch_is_not_filled_with_positives_that_it_has() -> None:
    batches, rest = assemble_batches(np.array([5, 6, 5]), 2)
    assert ([places.tolist() for places in batches], rest) == ([[0, 1]], 1)
    batches, rest = assemble_batches(np.array([6, 7, 8, 5, 5]), 4)
    assert ([places.tolist() for places in batches], rest) == ([[0, 1, 3], [4, 2]], 0)


def test_rows_that_are_left_out_come_in_another_epoch() -> None:
    sampler = Sampler([Source("a", RETRIEVAL, keys(1, 1, 1, 2))], 4)
    taken = set()
    for number in range(20):
        taken |= rows_of(epoch(sampler)).keys()
        assert sampler.left_out(number) == {"a": 2}
    assert len(taken) == 4


def test_equal_positives_may_meet_where_that_is_asked_for() -> None:
    sampler = Sampler([labelled("a", 2, 40)], 10, unique=False)
    assert [len(batch.rows) for batch in epoch(sampler)] == [10] * 4


def test_equal_positives_may_meet_in_the_batches_of_some_tasks() -> None:
    repeated = Source("b", RETRIEVAL, keys(*[1, 2] * 20))
    sampler = Sampler([labelled("a", 2, 40), repeated], 10, repeat=[CLASSES])
    sizes = {batch.dataset: len(batch.rows) for batch in epoch(sampler)}
    assert sizes == {"image_classification": 10, "b": 2}


def test_a_frequent_positive_is_in_every_batch_until_it_is_used_up() -> None:
    # A tenth of all rows have it: with one in each of 30 batches of 10, few are left.
    numbers = [0] * 30 + [1 + n % 90 for n in range(270)]
    order = np.random.default_rng(0).permutation(numbers)
    batches, rest = assemble_batches(order.astype(np.int64), 10)
    assert rest <= 20
    assert all(len(set(order[places])) == len(places) for places in batches)
    assert sum(len(places) == 10 for places in batches) >= 28


def test_the_same_seed_gives_the_same_batches_and_another_gives_others() -> None:
    sources = [distinct("a", 60), labelled("b", 7, 40)]
    first, again, other = (epoch(Sampler(sources, 6, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert rows_of(first).keys() | rows_of(other).keys()
    assert [batch.rows for batch in first] != [batch.rows for batch in other]


def test_every_epoch_has_another_order() -> None:
    sampler = Sampler([distinct("a", 60)], 6)
    first, second = epoch(sampler), epoch(sampler)
    assert [batch.epoch for batch in second] == [1] * 10
    assert rows_of(first) == rows_of(second)
    assert [batch.rows for batch in first] != [batch.rows for batch in second]


def test_batches_of_datasets_alternate() -> None:
    names = [batch.dataset for batch in epoch(Sampler([distinct("a", 80), distinct("b", 80)], 4))]
    assert len(set(names[:10])) == len(set(names[-10:])) == 2


@pytest.mark.parametrize("stop", [1, 7, 20, 21, 33])
def test_a_stopped_run_goes_on_with_exactly_the_batches_that_would_have_come(stop: int) -> None:
    sources = [distinct("a", 60, resampling=1.5), labelled("b", 7, 30), labelled("c", 9, 30)]

    def run(sampler: Sampler, most: int) -> list[Batch]:
        found: list[Batch] = []
        while sampler.epoch < 2:
            for batch in sampler:
                found.append(batch)
                if len(found) == most:
                    return found
        return found

    whole = run(Sampler(sources, 6, seed=4), 10_000)
    stopped = Sampler(sources, 6, seed=4)
    before = run(stopped, stop)
    resumed = Sampler(sources, 6, seed=4)
    resumed.restore(json.loads(json.dumps(stopped.state())))
    assert len(before) == stop
    assert before + run(resumed, 10_000) == whole


def test_a_state_can_be_taken_after_a_batch_although_others_were_fetched_ahead() -> None:
    sources = [distinct("a", 60)]
    ahead = Sampler(sources, 6)
    fetched = epoch(ahead)
    resumed = Sampler(sources, 6)
    resumed.restore(ahead.state(after=fetched[3]))
    assert epoch(resumed) == fetched[4:]


@pytest.mark.parametrize(
    "other",
    [
        Sampler([distinct("a", 61)], 6),
        Sampler([distinct("a", 60, resampling=2.0)], 6),
        Sampler([distinct("a", 60)], 5),
        Sampler([distinct("a", 60)], 6, seed=1),
        Sampler([Source("a", RETRIEVAL, keys(*range(59), 0))], 6),
    ],
)
def test_a_state_of_other_data_or_options_is_refused(other: Sampler) -> None:
    with pytest.raises(ValueError, match="other data"):
        Sampler([distinct("a", 60)], 6).restore(other.state())


def test_a_state_is_accepted_where_the_files_have_moved() -> None:
    moved = Source("a", RETRIEVAL, keys(*range(7, 67)))
    state = Sampler([distinct("a", 60)], 6).state()
    Sampler([moved], 6).restore(state)
    with pytest.raises(ValueError, match="version 2"):
        Sampler([moved], 6).restore({**state, "schema": 2})


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_each_batch_of_one_dataset_without_gap_or_overlap(world: int) -> None:
    sources = [distinct("a", 47), distinct("b", 31)]
    ranks = [[b.shard(r, world) for b in Sampler(sources, 6)] for r in range(world)]
    for whole, *parts in zip(Sampler(sources, 6), *ranks, strict=True):
        assert tuple(chain.from_iterable(part.rows for part in parts)) == whole.rows
        assert {(part.dataset, part.number) for part in parts} == {(whole.dataset, whole.number)}
        sizes = [len(part.rows) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_rank_beyond_the_number_of_processes_is_refused() -> None:
    batch = next(iter(Sampler([distinct("a", 6)], 6)))
    with pytest.raises(ValueError, match="not 2"):
        batch.shard(2, 2)


def test_a_cap_keeps_the_same_rows_in_every_epoch() -> None:
    sampler = Sampler([distinct("a", 100), distinct("b", 100, cap=10)], 5, cap=40)
    first, second = epoch(sampler), epoch(sampler)
    assert by_source(first) == {0: 40, 1: 10}
    assert rows_of(first) == rows_of(second)
    assert max(row.index for row in rows_of(first)) > 50


def test_resampling_repeats_rows_or_takes_others_each_epoch() -> None:
    sampler = Sampler([distinct("a", 40, resampling=2.5), distinct("b", 40, resampling=0.5)], 5)
    first, second = epoch(sampler), epoch(sampler)
    assert by_source(first) == {0: 100, 1: 20}
    assert Counter(n for row, n in rows_of(first).items() if row.source == 0) == {2: 20, 3: 20}
    assert len(rows_of(first + second)) > 60


def test_a_row_that_is_repeated_does_not_meet_itself() -> None:
    sources = [distinct("a", 12, resampling=8)]
    batches = epoch(Sampler(sources, 6))
    assert_no_positive_twice(sources, batches)
    assert sum(len(batch.rows) for batch in batches) == 96


def test_weights_are_shares_of_an_epoch_of_the_same_length() -> None:
    sources = [distinct("a", 90, weight=1), distinct("b", 30, weight=3)]
    assert by_source(epoch(Sampler(sources, 5))) == {0: 30, 1: 90}


def test_another_dataset_leaves_the_choice_of_rows_as_it_was() -> None:
    halved = distinct("a", 40, resampling=0.5)
    alone = rows_of(epoch(Sampler([halved], 5)))
    beside = rows_of(epoch(Sampler([halved, distinct("b", 40)], 5)))
    assert set(alone) == {row for row in beside if row.source == 0}


def test_what_makes_no_sense_is_refused_with_a_reason() -> None:
    one = distinct("a", 5)
    for sources, options, reason in [
        ([], {}, "needs datasets"),
        ([one, one], {}, "unique names"),
    ]:
        with pytest.raises(ValueError, match=reason):
            Sampler(sources, 4, **options)


def test_a_hundred_thousand_rows_are_planned_in_seconds() -> None:
    labels = labelled("a", 1000, 50_000)
    sampler = Sampler([labels, distinct("b", 50_000)], 768)
    assert 2 * 66 <= sampler.batches(0) <= 2 * 66 + 12
