"""How the probabilities of `mini` are calibrated and measured, on made-up cosines and topics."""

import numpy as np
import pytest
from PIL import Image

from embedder import Content, Modality, open_embedder
from embedder.interface import Calibration
from trainer.mini.calibrate import (
    MAX_FALSE,
    Topic,
    Trials,
    all_trials,
    calibration_error,
    fit,
    measure,
    panned,
    platt,
)


def made_up(seed: int, queries: int = 2000, documents: int = 40) -> Trials:
    """Half of the documents are of another library; queries find one of theirs, at about 0.6."""
    chance = np.random.default_rng(seed)
    cosines = chance.normal(0.1, 0.08, (queries, documents))
    cosines[:, 0] = chance.normal(0.6, 0.1, queries)
    relevant = np.zeros(cosines.shape, dtype=bool)
    relevant[:, 0] = True
    absent = np.broadcast_to(np.arange(documents) >= documents // 2, cosines.shape)
    return Trials(cosines, relevant, absent, np.arange(queries) % 2 == 0)


def test_absent_queries_of_the_other_half_have_hardly_a_strong_hit() -> None:
    trials = made_up(0)
    constants = fit(trials.half(fitting=True))
    measured = measure(constants, trials.half(fitting=False))
    assert (measured.present, measured.absent) == (1000, 1000)
    assert measured.false == pytest.approx(MAX_FALSE, abs=0.015)
    assert measured.found > 0.95
    assert measured.error < 0.05


def test_best_hits_count_and_not_random_pairs() -> None:
    few, many = made_up(1, documents=4), made_up(1, documents=400)
    assert fit(many).midpoint > fit(few).midpoint + 0.05


def test_documents_of_the_own_library_are_neither_relevant_nor_absent() -> None:
    trials = made_up(2)
    trials.cosines[:, 1:20] = 0.9
    assert measure(fit(trials), trials).false < 0.05


def test_query_without_a_document_is_absent_only() -> None:
    trials = made_up(3)
    trials.relevant[:500] = False
    assert measure(Calibration(0.4, 20.0), trials).present == 1500
    assert measure(Calibration(0.4, 20.0), trials).absent == 2000


def test_calibration_error_is_zero_where_probabilities_are_true() -> None:
    chance = np.random.default_rng(4)
    true = Calibration(0.5, 10.0)
    cosines = chance.uniform(0, 1, 100_000)
    relevant = chance.random(len(cosines)) < 1 / (1 + np.exp(-true.logit(cosines)))
    prior = relevant.mean()
    assert calibration_error(true, cosines, relevant, prior) < 0.01
    assert calibration_error(Calibration(0.9, 10.0), cosines, relevant, prior) > 0.2
    assert platt(cosines, relevant, prior) == pytest.approx((0.5, 10.0), rel=0.05)


def topic(name: str, library: str, text: str, *documents: Modality) -> Topic:
    content = Content(text=text)
    return Topic(name, library, {Modality.TEXT: [content]}, dict.fromkeys(documents, content))


def test_what_is_present_in_one_library_is_absent_from_the_other() -> None:
    topics = [
        topic("fox", "things", "a red fox", Modality.TEXT),
        topic("beach", "places", "a blue beach", Modality.TEXT),
        topic("qwx", "places", "qwx"),
    ]
    with open_embedder("toy") as toy:
        trials = dict(all_trials(toy, topics))["text text"]
    assert trials.relevant.tolist() == [[True, False], [False, True], [False, False]]
    assert trials.absent.tolist() == [[False, True], [True, False], [True, False]]
    assert trials.cosines[0, 0] == pytest.approx(1)


def test_window_moves_over_the_whole_picture() -> None:
    picture = Image.new("RGB", (100, 50))
    picture.putpixel((0, 0), (255, 0, 0))
    picture.putpixel((99, 49), (0, 255, 0))
    first, _, last = panned(picture, 3)
    assert first.size == last.size == (80, 40)
    assert first.getpixel((0, 0)) == (255, 0, 0)
    assert last.getpixel((79, 39)) == (0, 255, 0)
