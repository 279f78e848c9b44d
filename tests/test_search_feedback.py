"""What yes and no to some documents say about the others."""

import numpy as np
import pytest

from indexer.search.feedback import adjusted, centred, log_odds_of

RNG = np.random.default_rng(7)


def two_groups(count=20, dim=16):
    """Unit vectors of two groups, the first half of one, the rest of the other."""
    middle = np.repeat(np.eye(2, dim), count, axis=0)
    vectors = middle + 0.1 * RNG.normal(size=(2 * count, dim))
    return centred(vectors.astype(np.float32))


def test_without_answers_nothing_changes():
    log_odds = RNG.normal(size=40)
    none = np.array([], dtype=int)
    assert adjusted(log_odds, two_groups(), none, none.astype(bool)) is log_odds


def test_what_is_like_a_yes_rises_and_what_is_like_a_no_falls():
    log_odds, rows = np.zeros(40), np.array([0, 1, 20, 21])
    found = adjusted(log_odds, two_groups(), rows, np.array([True, True, False, False]))
    assert found[:20].min() > 0.5
    assert found[20:].max() < -0.5


def test_one_yes_moves_what_is_like_it_most():
    found = adjusted(np.full(40, -1.0), two_groups(), np.array([0]), np.array([True]))
    assert found[0] == found.max()
    assert found[1:20].mean() > found[20:].mean() + 1


def test_answers_that_were_expected_move_little():
    expected = np.full(40, 5.0)
    rows = np.arange(5)
    found = adjusted(expected, two_groups(), rows, np.ones(5, dtype=bool))
    assert np.abs(found - expected).max() < 0.3


@pytest.mark.parametrize("prior", [-6.0, 0.0, 6.0])
def test_answers_are_where_the_posterior_is_highest(prior):
    """There the gradient is zero: α = answers − p, by which the shift is K α."""
    vectors, rows = two_groups(), np.arange(0, 40, 3)
    answers = RNG.random(len(rows)) < 0.5
    found = adjusted(np.full(40, prior), vectors, rows, answers)
    alpha = answers - 1 / (1 + np.exp(-found[rows]))
    kernel = 1 + 9 * vectors @ vectors[rows].T
    assert found == pytest.approx(prior + kernel @ alpha, abs=0.01)


def test_equal_vectors_have_no_direction():
    assert not centred(np.ones((3, 4), dtype=np.float32)).any()
    assert log_odds_of(np.array([1e-9, 0.5, 1 - 1e-9])).tolist() == [-6, 0, 6]
