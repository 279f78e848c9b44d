"""What WordNet puts near the classes of ImageNet."""

from pathlib import Path

import pytest

from trainer.mini.words import Nouns, class_words

# offset, field, words, parent
SYNSETS = [
    ("00000001", "05", ["animal"], None),
    ("00000002", "05", ["equine", "equid"], "00000001"),
    ("00000003", "05", ["zebra"], "00000002"),
    ("00000004", "05", ["donkey", "Equus_asinus"], "00000002"),
    ("00000005", "05", ["bird"], "00000001"),
    ("00000006", "05", ["owl"], "00000005"),
    ("00000007", "18", ["rider"], "00000002"),
]


@pytest.fixture
def nouns(tmp_path: Path) -> Nouns:
    data, index = ["  1 licence"], ["  1 licence"]
    for offset, field, words, parent in SYNSETS:
        said = " ".join(f"{word} 0" for word in words)
        up = f"001 @ {parent} n 0000" if parent else "000"
        data.append(f"{offset} {field} n {len(words):02x} {said} {up} | about {words[0]}")
        index += [f"{word.lower()} n 1 1 @ 1 1 {offset}" for word in words]
    (tmp_path / "data.noun").write_text("\n".join(data) + "\n")
    (tmp_path / "index.noun").write_text("\n".join(index) + "\n")
    return Nouns(tmp_path)


def test_a_class_is_called_by_its_names_its_kinds_and_its_relatives(nouns: Nouns) -> None:
    zebra, owl = class_words([nouns.synsets["n00000003"], nouns.synsets["n00000006"]], nouns)
    assert zebra[0] == "zebra"
    assert set(zebra) == {"zebra", "equine", "equid", "animal", "donkey"}
    assert set(owl) == {"owl", "bird", "animal"}


def test_neither_latin_names_nor_people_are_words_for_a_class(nouns: Nouns) -> None:
    (zebra,) = class_words([nouns.synsets["n00000003"]], nouns)
    assert not {"Equus asinus", "rider"} & set(zebra)


def test_a_word_for_too_many_classes_is_a_word_for_none(
    nouns: Nouns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.mini.words._MAX_CLASSES", 1)
    zebra, owl = class_words([nouns.synsets["n00000003"], nouns.synsets["n00000006"]], nouns)
    assert "animal" not in {*zebra, *owl}
    assert {"equine", "donkey"} <= set(zebra)
