from pathlib import Path

import pytest
from PIL import Image

from embedder import Modality
from embedder.media.kinds import Kind
from indexer.errors import QueryError
from indexer.search.query import MAX_TERMS, file_part, terms, text_part


def test_stop_words_are_not_looked_up():
    assert terms("A photo of the Dog on a beach") == ["dog", "beach"]


def test_stop_words_are_looked_up_if_there_is_nothing_else():
    assert terms("To be") == ["to", "be"]


def test_a_quoted_phrase_is_one_term():
    assert terms('"New York" skyline') == ["new york", "skyline"]


def test_an_unclosed_quote_is_no_phrase():
    assert terms('"New York') == ["new", "york"]


def test_an_accent_that_is_written_apart_is_part_of_its_word():
    assert terms("cafe\u0301s") == ["cafes"]
    assert terms('"cafe\u0301s de nuit"') == ["cafes de nuit"]


def test_quotes_of_any_style_make_a_phrase():
    for quoted in ("“New York” skyline", "„New York“ skyline", "«New York» skyline"):
        assert terms(quoted) == ["new york", "skyline"]


def test_a_word_of_a_script_without_spaces_is_the_phrase_of_its_characters():
    assert terms("東京駅 2024年") == ["東 京 駅", "2024", "年"]


def test_a_word_is_looked_up_once():
    assert terms("cat Cat CAT") == ["cat"]


def test_a_long_text_is_compared_as_a_whole_and_not_looked_up():
    assert terms(" ".join(f"word{i}" for i in range(MAX_TERMS + 1))) == []


@pytest.mark.parametrize("text", ["", "  ", '""', "!?"])
def test_a_text_without_words_has_no_terms(text: str):
    assert terms(text) == []


def test_a_blank_text_is_refused_with_what_to_do():
    with pytest.raises(QueryError, match="type some words"):
        text_part(" \n ")


def test_a_picture_becomes_a_part_with_one_frame(tmp_path: Path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    part = file_part(tmp_path / "red.png", 0.5)
    assert part.content is not None
    assert part.content.modality is Modality.IMAGE
    assert part.weight == 0.5


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(QueryError, match=r"lost\.png cannot be used as a query"):
        file_part(tmp_path / "lost.png")


def test_a_file_of_another_kind_than_said_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(QueryError, match="kind text, not image"):
        file_part(tmp_path / "a.txt", expected=Kind.IMAGE)
