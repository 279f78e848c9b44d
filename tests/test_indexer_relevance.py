import numpy as np
import pytest

from embedder import Calibration, EmbedderInfo, Modality
from embedder.interface import Vectors
from indexer.search import scoring
from indexer.search.scoring import Probabilities, Side

INFO = EmbedderInfo(
    name="test",
    revision="1",
    dim=2,
    modalities=frozenset(Modality),
    calibration={
        (Modality.TEXT, Modality.TEXT): Calibration(midpoint=0.6, slope=10),
        (Modality.TEXT, Modality.IMAGE): Calibration(midpoint=0.2, slope=10),
    },
)
ROWS = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)


def side(
    *vectors: tuple[float, float],
    weights: tuple[float, ...] = (1.0,),
    typed: tuple[bool, ...] = (True, True),
) -> Side:
    return Side(
        vectors=dict.fromkeys(Modality, np.array(vectors, dtype=np.float32).reshape(-1, 2)),
        modalities=tuple(Modality.TEXT for _ in vectors),
        weights=np.array(weights[: len(vectors)], dtype=np.float32),
        terms=(),
        typed=np.array(typed[: len(vectors)], dtype=bool),
    )


def likeness(
    one: Side,
    document: Modality,
    rows: Vectors,
    said: Probabilities | None = None,
    info: EmbedderInfo = INFO,
) -> Probabilities:
    return scoring.likeness(one, scoring.log_odds(info, one, [(document, rows)]), said)


def test_a_cosine_at_the_midpoint_is_as_likely_relevant_as_not():
    likely = likeness(side((1, 0)), Modality.TEXT, ROWS)
    assert likely[1] == pytest.approx(0.5, abs=1e-6)
    assert likely[0] > 0.9 > 0.1 > likely[2]


def test_the_same_cosine_says_more_of_a_picture_than_of_a_text():
    as_text = likeness(side((1, 0)), Modality.TEXT, ROWS[1:2])
    as_picture = likeness(side((1, 0)), Modality.IMAGE, ROWS[1:2])
    assert as_picture > as_text + 0.3


def test_a_part_of_no_weight_to_speak_of_changes_nothing():
    alone = likeness(side((1, 0)), Modality.TEXT, ROWS)
    mixed = likeness(side((1, 0), (0, 1), weights=(1, 1e-6)), Modality.TEXT, ROWS)
    np.testing.assert_allclose(mixed, alone, atol=1e-4)


def test_parts_of_equal_weight_prefer_what_is_like_both():
    mixed = likeness(side((1, 0), (0, 1), weights=(1, 1)), Modality.TEXT, ROWS)
    assert np.argmax(mixed) == 1


def test_words_add_to_what_vectors_say_of_a_typed_query():
    alone = likeness(side((1, 0)), Modality.TEXT, ROWS)
    said = np.array([0.0, 0.9, 0.9])
    backed = likeness(side((1, 0)), Modality.TEXT, ROWS, said)
    assert backed[0] == pytest.approx(alone[0])
    assert backed[1] == pytest.approx(1 - 0.5 * 0.1, abs=0.02)
    assert backed[2] > 0.85 > 0.1 > alone[2]


def test_words_do_not_make_up_for_a_picture_that_a_hit_should_be_like_too():
    both = side((0, 1), (1, 0), weights=(1, 1), typed=(True, False))
    said = np.array([0.0, 0.0, 0.9])
    alike, _, worded = likeness(both, Modality.TEXT, ROWS, said)
    assert worded < 0.6  # taken as evidence for the whole query, the words alone gave 0.9
    assert worded > likeness(both, Modality.TEXT, ROWS)[2] - 1e-9
    assert alike == pytest.approx(likeness(both, Modality.TEXT, ROWS)[0])


def test_near_and_exact_copies_stay_in_order_however_sure_the_match():
    rows = np.array([[1, 0], [0.999, 0.04471]], dtype=np.float32)
    sure = Calibration(midpoint=0.2, slope=30)
    info = EmbedderInfo("t", "1", 2, frozenset(Modality), calibration={
        (Modality.TEXT, Modality.IMAGE): sure})  # fmt: skip
    exact, near = likeness(side((1, 0)), Modality.IMAGE, rows, info=info)
    assert exact > near


def test_unlike_parts_sink_what_resembles_them_and_leave_the_rest():
    start = np.array([0.9, 0.9, 0.9])
    logits = scoring.log_odds(INFO, side((1, 0)), [(Modality.TEXT, ROWS)])
    left = scoring.without(start, side((1, 0)), logits)
    assert left[0] < 0.01
    assert left[2] == pytest.approx(0.9, abs=0.01)


def test_independent_evidence_adds_up_and_none_changes_nothing():
    total = scoring.together(np.array([0.5, 0.5]), np.array([0.5, 0.0]))
    np.testing.assert_allclose(total, [0.75, 0.5])


def test_every_word_says_more_than_the_best_match_of_some_words():
    first, second, partial = scoring.of_words(
        np.array([2.0, 1.0, 9.0]), np.array([True, True, False])
    )
    assert first > second > 0.5 > partial > 0


def test_every_word_says_much_though_nothing_weighs_it():
    found = scoring.of_words(np.zeros(2), np.array([True, False]))
    assert found[0] > 0.5
    assert found[1] == 0


def test_scores_are_put_in_the_order_of_the_ids():
    np.testing.assert_array_equal(
        scoring.aligned({7: 0.7, 3: 0.3}, np.array([3, 5, 7])), [0.3, 0.0, 0.7]
    )


@pytest.mark.parametrize("related", [0.0, 0.2])
def test_calibration_is_fitted_to_unrelated_pictures(related):
    chance = np.random.default_rng(0)
    unrelated = chance.normal(0.4, 0.07, 10_000)
    pairs = np.concatenate([unrelated, np.full(int(related * 10_000), 0.97)])
    calibration = scoring.fitted(pairs.astype(np.float32))
    best = unrelated.reshape(-1, 250).max(axis=1)  # that each of 40 queries finds
    assert (calibration.logit(best.astype(np.float32)) < 0).all()
    copy, typical = calibration.logit(np.array([0.96, 0.4], dtype=np.float32))
    assert copy > 0
    assert typical < -4


@pytest.mark.parametrize("cosines", [[1.0, 1.0, 1.0], [0.3, 0.3, 0.3], [0.99, -0.5, 0.7, 0.2]])
def test_copy_is_found_whatever_the_calibration_was_fitted_to(cosines):
    calibration = scoring.fitted(np.array(cosines, dtype=np.float32))
    assert calibration.slope > 0
    assert calibration.logit(np.array([0.99], dtype=np.float32))[0] > 0
