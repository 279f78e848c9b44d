"""Metrics of rankings: closed forms, ties, means."""

import math

import numpy as np
import pytest

from trainer.evaluation.metrics import (
    METRICS,
    all_metrics,
    hit,
    means,
    ndcg,
    ranked_grades,
    recall,
    reciprocal_rank,
)


def grades(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def test_a_ranking_is_by_score_from_the_highest() -> None:
    assert ranked_grades([0.1, 0.9, 0.5], [1, 0, 2]).tolist() == [0, 2, 1]


def test_of_equal_scores_the_less_relevant_comes_first() -> None:
    assert ranked_grades([0.5, 0.5, 0.5, 0.7], [1, 0, 2, 0]).tolist() == [0, 0, 1, 2]


def test_a_model_that_tells_nothing_apart_gets_the_worst_value_wherever_the_answer_stands() -> None:
    for place in range(4):
        relevance = np.eye(4)[place]
        assert reciprocal_rank(ranked_grades(np.ones(4), relevance)) == 1 / 4


@pytest.mark.parametrize(
    ("scores", "relevance", "reason"),
    [
        ([0.1, 0.2], [1], "not of one length"),
        ([0.1, math.nan], [1, 0], "not a finite number"),
        ([0.1, 0.2], [1, -1], "negative"),
        ([0.1, 0.2], [math.nan, 1], "not a finite number"),
        ([0.1, 0.2], [0, 0], "none of the candidates is relevant"),
        ([], [], "none of the candidates is relevant"),
    ],
)
def test_what_has_no_meaning_is_refused(scores: list, relevance: list, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ranked_grades(scores, relevance)


def test_hit_asks_whether_anything_relevant_is_among_the_first_k() -> None:
    ranking = grades(0, 0, 1, 1)
    assert [hit(ranking, k) for k in (1, 2, 3, 10)] == [0, 0, 1, 1]


def test_recall_is_the_share_of_all_that_is_relevant() -> None:
    ranking = grades(1, 0, 1, 0, 2, 1)
    assert [recall(ranking, k) for k in (1, 3, 5, 6)] == [1 / 4, 2 / 4, 3 / 4, 1]


def test_the_reciprocal_rank_is_that_of_the_first_relevant_one() -> None:
    assert reciprocal_rank(grades(0, 0, 1, 1)) == 1 / 3


def test_ndcg_has_a_linear_gain() -> None:
    # (1/log2 2 + 3/log2 3) / (3/log2 2 + 1/log2 3); with 2^grade − 1 it would be 0.71.
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert ndcg(grades(1, 3, 0, 0), 5) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.7967, abs=1e-4)


def test_ndcg_of_one_answer_is_a_discount_by_its_rank_and_0_beyond_k() -> None:
    assert ndcg(grades(0, 0, 0, 1), 5) == pytest.approx(1 / math.log2(5))
    assert ndcg(grades(0, 0, 0, 0, 0, 1), 5) == 0


def test_ndcg_compares_with_the_best_first_k_and_not_with_all_that_is_relevant() -> None:
    assert ndcg(grades(1, 1, 1, 1, 1, 1, 1), 5) == pytest.approx(1)


def test_ndcg_of_the_best_order_is_1_of_any_grades() -> None:
    assert ndcg(grades(5, 3, 3, 1, 0.5, 0), 5) == pytest.approx(1)


def test_all_metrics_of_a_perfect_ranking_of_one_answer_are_1() -> None:
    assert all_metrics(grades(1, 0, 0)) == dict.fromkeys(METRICS, 1.0)


def test_means_are_over_queries() -> None:
    rows = [all_metrics(grades(1, 0)), all_metrics(grades(0, 1))]
    found = means(rows)
    assert (found["hit@1"], found["hit@5"], found["mrr"]) == (0.5, 1, 0.75)
    with pytest.raises(ValueError, match="no query"):
        means([])
