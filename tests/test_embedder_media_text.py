"""Text files of any encoding, HTML without its mark-up, and passages with exact spans."""

import random
import re
from pathlib import Path

import pytest

from embedder.media import Limits, MediaError, read_text
from embedder.media.text import passages

UNIT = re.compile(r"\S+")


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings_are_told_apart(tmp_path: Path, encoding: str) -> None:
    text = "Größe, naïve café – “quoted”\nsecond line\n" * 3
    assert read_text(written(tmp_path / "a.txt", text.encode(encoding))) == text


def test_damaged_bytes_keep_the_encoding(tmp_path: Path) -> None:
    data = ("日本語の文章。" * 20).encode()
    assert "日本語の文章" in read_text(written(tmp_path / "a.txt", data[:-1]))


def test_a_declared_encoding_is_believed(tmp_path: Path) -> None:
    page = '<html><head><meta charset="koi8-r"></head><body>Привет</body></html>'
    assert read_text(written(tmp_path / "a.html", page.encode("koi8-r"))) == "Привет"
    xml = "<?xml version='1.0' encoding='shift_jis'?><a>日本</a>"
    assert "日本" in read_text(written(tmp_path / "a.xml", xml.encode("shift_jis")))
    odd = b'<meta charset="rot13"><p>caf\xe9</p>'
    assert read_text(written(tmp_path / "b.html", odd)) == "café"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.properties"])
def test_escaped_letters_are_read_as_letters(tmp_path: Path, name: str) -> None:
    source = r'"Zo\u00eb \ud83c\udf52 \u000a \ud800 C:\\u00fc"'
    expected = r'"Zoë 🍒 \u000a ' + "\ufffd" + r' C:\\u00fc"'
    assert read_text(written(tmp_path / name, source)) == expected
    assert read_text(written(tmp_path / "a.py", source)) == source


def test_the_end_of_a_dos_text_is_no_sign_of_other_bytes(tmp_path: Path) -> None:
    assert read_text(written(tmp_path / "a.txt", b"An old note\r\n\x1a")).startswith("An old note")


def test_lines_end_alike(tmp_path: Path) -> None:
    assert read_text(written(tmp_path / "a.txt", b"a\r\nb\rc\n")) == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\n", "holds no text"),
        (b"abc\0\0def" * 40, "not text"),
        (bytes(range(1, 32)) * 9, "not text"),
        (b"x" * 2000, "larger than the limit"),
    ],
)
def test_what_is_no_usable_text_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        read_text(written(tmp_path / "a.txt", data), Limits(file_bytes=1000))
    with pytest.raises(MediaError, match="does not exist"):
        read_text(tmp_path / "nowhere.txt")


def test_html_gives_its_title_and_what_is_seen(tmp_path: Path) -> None:
    page = """<!doctype html><html><head><title>Sea &amp; sky</title>
    <style>p { color: red }</style><script>var hidden = "<p>no</p>"</script></head>
    <body><h1>Waves</h1><p>One <b>bold</b>
    word.</p><ul><li>first<li>second</ul><noscript>no</noscript>
    <table><tr><td>a</td><td>b</td></tr></table><img src=x alt="A gull">
    <pre>kept
  as is</pre><!-- no --></body></html>"""
    text = read_text(written(tmp_path / "a.html", page))
    assert text.startswith("Sea & sky\n\nWaves\n\nOne bold word.")
    assert re.search(r"first\s*\n\s*second", text)
    assert "a b" in text
    assert "A gull" in text
    assert "kept\n" in text
    for hidden in ("color", "hidden", "no", "<", "&amp;"):
        assert not re.search(rf"\b{hidden}\b" if hidden.isalpha() else hidden, text), hidden


@pytest.mark.parametrize("charset", ["idna", "punycode", "unicode_escape", "utf-7", "undefined"])
def test_impossible_charset_is_ignored(tmp_path: Path, charset: str) -> None:
    page = f'<meta charset="{charset}">words \\ud800 +2AA- caf'.encode() + b"\xe9-\xff"
    assert "words \\ud800 +2AA- café" in read_text(written(tmp_path / "a.html", page))


def test_long_runs_take_linear_time(tmp_path: Path) -> None:
    # Each would take hours if what is read again and again grew with it.
    text = "." * 300_000 + " end"
    spans = list(passages(text))
    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    page = written(tmp_path / "a.html", "<pre>" + " " * 300_000 + "x</pre>")
    assert read_text(page).strip() == "x"


def test_broken_html_still_gives_its_words(tmp_path: Path) -> None:
    for page in (
        "<p>words<script>never closed",
        "<title>words",
        "<head><p>words</head",
        "<b><i>words</b></i></div></div>",
        "<head><title>t</title><body>words",
        "words <![CDATA[ & <! >",
    ):
        assert "words" in read_text(written(tmp_path / "a.html", page)), page


def pieces(text: str, words: int = 120) -> list[str]:
    spans = list(passages(text, Limits(passage_words=words)))
    return [text[start:end] for start, end in spans]


PARAGRAPHS = ["The first paragraph has seven words.", "So has the second one of them."] * 8


def test_short_paragraphs_share_a_passage() -> None:
    text = "\n\n".join(PARAGRAPHS)
    found = pieces(text, 20)
    assert all(len(piece.split()) <= 20 for piece in found)
    assert all(len(piece.split()) >= 12 for piece in found[:-1])
    assert [part for piece in found for part in piece.split("\n\n")] == PARAGRAPHS


def test_long_paragraph_is_cut_at_sentences() -> None:
    text = " ".join(f"Sentence number {n} ends here." for n in range(40))
    found = pieces(text, 33)
    assert all(piece.endswith(".") and piece.startswith("Sentence") for piece in found)
    assert all(len(piece.split()) == 30 for piece in found[:-1])


def test_a_heading_starts_a_passage() -> None:
    body = "Some words about it, quite enough of them to stand alone. " * 2
    text = f"# One\n\n{body}\n\n## Two\n\n{body}\n\nThree\n=====\n\n{body}"
    starts = [piece.split("\n")[0] for piece in pieces(text, 60)]
    assert starts == ["# One", "## Two", "Three"]


def test_text_without_spaces_is_cut_by_characters() -> None:
    sentences = "海の見える町に住んでいます。" * 40
    found = pieces(sentences, 120)
    assert all(len(piece) <= 130 and piece.endswith("。") for piece in found)
    assert "".join(found) == sentences
    endless = "漢" * 1000
    assert [len(piece) for piece in pieces(endless, 120)] == [120] * 8 + [40]


def test_an_endless_word_is_cut_too() -> None:
    found = pieces("x" * 100_000, 120)
    assert "".join(found) == "x" * 100_000
    assert max(map(len, found)) <= 120 * 24


def test_lines_of_a_table_are_not_torn() -> None:
    lines = [f"{n};name {n};town {n}" for n in range(200)]
    found = pieces("\n".join(lines), 30)
    assert [line for piece in found for line in piece.split("\n")] == lines


def test_passages_lose_only_white_space() -> None:
    rng = random.Random(4)
    alphabet = [
        "word ",
        "longer-word ",
        "\n",
        "\n\n",
        "  ",
        "End. ",
        "! ",
        "漢字",
        "。",
        "# ",
        "x" * 90,
    ]
    for _ in range(200):
        text = "".join(rng.choices(alphabet, k=rng.randrange(0, 300)))
        most = rng.choice([1, 2, 7, 120])
        last = 0
        for start, end in passages(text, Limits(passage_words=most)):
            assert not text[last:start].strip()
            piece = text[start:end]
            assert piece == piece.strip() != ""
            assert len(UNIT.findall(piece)) <= most
            last = end
        assert not text[last:].strip()


def test_a_short_text_is_one_passage() -> None:
    assert list(passages("  One line.\n")) == [(2, 11)]
    assert list(passages(" \n\n ")) == []
