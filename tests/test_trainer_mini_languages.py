"""Texts that are not English: the map between both encoders, and what it is learned from."""

from pathlib import Path

import numpy as np
import pytest

from embedder.mini.embedder import FOLDER
from embedder.mini.languages import LanguageMap, hashed, is_english
from trainer.mini.languages import MEAN_KEPT, english_words, fit, read_texts
from trainer.mini.pictures import read_captions, read_photos


def test_mapped_vectors_are_as_far_apart_as_their_targets() -> None:
    chance = np.random.default_rng(0)
    inputs = chance.normal(size=(600, 40)).astype(np.float32)
    targets = inputs[:, :8] + chance.normal(size=(600, 8)).astype(np.float32) + 3
    projection = fit(inputs, targets)
    mapped = inputs @ projection[:-1] + projection[-1]
    assert np.allclose(mapped.mean(axis=0), MEAN_KEPT * targets.mean(axis=0), atol=0.02)
    assert mapped.std(axis=0).mean() == pytest.approx(targets.std(axis=0).mean(), rel=0.01)
    assert np.corrcoef(mapped[:, 0], inputs[:, 0])[0, 1] > 0.95


def test_words_of_names_and_of_several_glosses_are_english() -> None:
    names = ["harbor seal, Phoca vitulina", "Baltic"]
    glosses = ["a seal of the sea"] * 3 + ["the suricate"] * 2
    expected = hashed(["a", "harbor", "of", "sea", "seal", "the"])
    assert np.array_equal(english_words(names, glosses), np.sort(expected))


def test_names_glosses_and_examples_are_read(tmp_path: Path) -> None:
    line = '00001740 03 a 02 afraid(p) 0 ill_at_ease 0 000 | filled with fear; "afraid of snakes"'
    for part in ("noun", "verb", "adj", "adv"):
        text = "  1 This is the licence.\n" + (f"{line}  \n" if part == "adj" else "")
        (tmp_path / f"data.{part}").write_text(text)
    names, glosses, examples = read_texts(tmp_path)
    assert names == ["afraid, ill at ease"]
    assert glosses == ["filled with fear"]
    assert examples == ["afraid of snakes"]


def test_every_language_has_the_captions_of_the_same_photos() -> None:
    captions = read_captions()
    assert set(captions["en"]) <= {photo.caption for photo in read_photos()}
    for translated in captions.values():
        assert len(set(translated)) == len(captions["en"])
        assert all(translated)


def test_shipped_words_know_english_from_other_languages() -> None:
    known = LanguageMap.read((FOLDER / "languages.npz").read_bytes())
    captions = read_captions()
    shares = {
        language: np.mean([is_english(known.english_words(text)) for text in texts])
        for language, texts in captions.items()
    }
    assert shares.pop("en") > 0.95
    assert max(shares.values()) < 0.06
