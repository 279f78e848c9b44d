"""PDF pages: picture, text in reading order, places of words; and what cannot be read."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from hostile_pdfs import one_page

from embedder.media import Limits, MediaError, read_page, read_pages, render_page

LIMITS = Limits(frame_side=300)


def saved(document: Any, path: Path, **options: Any) -> Path:
    document.save(str(path), **options)
    document.close()
    return path


def document(*texts: str) -> Any:
    made = pymupdf.open()
    for text in texts:
        page = made.new_page(width=400, height=600)
        if text:
            page.insert_text((50, 100), text, fontsize=20)
    return made


def spelled(text: str) -> bytes:
    """A page whose font says that its glyphs are these characters, whatever they are."""
    letters = sorted(set(text) - {" ", "\n"})
    codes = {letter: 0x41 + n for n, letter in enumerate(letters)} | {" ": 0x20}
    entries = "".join(
        f"<{code:02x}> <{letter.encode('utf-16-be').hex()}>\n" for letter, code in codes.items()
    )
    table = (
        "/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <ff> "
        f"endcodespacerange {len(codes)} beginbfchar\n{entries}endbfchar endcmap end"
    )
    lines = [bytes(codes[letter] for letter in line).hex() for line in text.split("\n")]
    shown = " T* ".join(f"<{line}> Tj" for line in lines)
    return one_page(
        "/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>",
        {
            4: ("", f"BT /F 9 Tf 12 TL 10 99 Td {shown} ET".encode()),
            5: "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>",
            6: ("", table.encode()),
        },
    )


def ink(picture: Any, box: tuple[float, float, float, float]) -> float:
    """Share of dark pixels in a box given in fractions."""
    grey = np.asarray(picture.convert("L"))
    height, width = grey.shape
    left, top, right, bottom = box
    part = grey[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    return float((part < 160).mean())


def test_every_page_has_a_picture_and_its_text(tmp_path: Path) -> None:
    path = saved(document("First page", "", "Third page"), tmp_path / "a.pdf")
    pages = list(read_pages(path, LIMITS))
    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.text for page in pages] == ["First page", "", "Third page"]
    for page in pages:
        assert (page.picture.mode, page.picture.size) == ("RGB", (200, 300))
    assert [word.text for word in pages[0].words] == ["First", "page"]
    assert pages[1].words == ()


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("cropped", [False, True])
def test_word_boxes_match_the_picture(tmp_path: Path, turn: int, cropped: bool) -> None:
    made = document("Lighthouse")
    if cropped:
        made[0].set_cropbox(pymupdf.Rect(20, 40, 320, 340))
    made[0].set_rotation(turn)
    page = read_page(saved(made, tmp_path / "a.pdf"), 1, Limits(frame_side=600))
    (word,) = page.words
    box = (word.left, word.top, word.right, word.bottom)
    assert 0 <= word.left < word.right <= 1
    assert 0 <= word.top < word.bottom <= 1
    assert ink(page.picture, box) > 0.1
    area = (word.right - word.left) * (word.bottom - word.top)
    assert ink(page.picture, box) * area == pytest.approx(ink(page.picture, (0, 0, 1, 1)), rel=0.1)


def test_text_keeps_lines_and_joins_hyphens(tmp_path: Path) -> None:
    made = pymupdf.open()
    page = made.new_page()
    page.insert_text((50, 100), "All infor-\nmation of the\nNorth-\nSouth line")
    page.insert_text((50, 300), "Another block")
    text = read_page(saved(made, tmp_path / "a.pdf"), 1).text
    assert text == "All information of the\nNorth-\nSouth line\n\nAnother block"


@pytest.mark.parametrize(
    ("shapes", "letters"),
    [
        ("the o\ufb03ce \ufb01led \ufb02ags", "the office filed flags"),
        ("\u2f00\u2f24 \uf9dd", "一大 利"),  # radicals and a compatibility ideograph
        ("\ufee1\ufefc\ufeb3 \ufefb", "لا سلام"),  # drawn from the left, read from the right
        ("photo\u2010\nsyn\u00ad\nthesis", "photosynthesis"),
        ("m\u00b2 \u00bd \uff21", "m\u00b2 \u00bd \uff21"),  # characters, not shapes
    ],
)
def test_shapes_of_fonts_are_read_as_letters(tmp_path: Path, shapes: str, letters: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(spelled(shapes))
    page = read_page(path, 1)
    assert page.text == letters
    assert page.words


def test_glyphs_without_characters_are_no_words(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(spelled("\uf0b7 first \ufffd\ufffda caf\ufffd"))
    assert read_page(path, 1).text == "first caf\ufffd"


def test_notes_and_bookmarks_are_words_of_their_pages(tmp_path: Path) -> None:
    made = document("Draft contract", "Chapter two", "Appendix")
    made[0].add_text_annot((50, 50), "Check the plutonium clause")
    made[0].add_file_annot((90, 90), b"of quartz", "stones.txt")
    made[0].add_freetext_annot((50, 200, 300, 240), "in the margin")
    page = made[1]  # a note is lost without the page that it belongs to
    marked = page.add_highlight_annot(page.search_for("two"))
    marked.set_info(content="too o\ufb03cial")
    marked.update()
    titles = [(1, "Preface", 1), (1, "Chapter two", 2), (2, "Marmalade", 2), (1, "Nowhere", -1)]
    made.set_toc(titles)
    path = saved(made, tmp_path / "a.pdf")
    assert [page.text for page in read_pages(path)] == [
        "Draft contract\n\nin the margin\n\nCheck the plutonium clause\n\n"
        "stones.txt\n\nof quartz\n\nPreface",
        "Chapter two\n\ntoo official\n\nMarmalade",
        "Appendix",
    ]
    assert read_page(path, 2).text.endswith("Marmalade")


def test_attached_files_are_found(tmp_path: Path) -> None:
    made = document("Cover letter", "Second page")
    attached = document("Invoice of the attached PDF", "Its second page").tobytes()
    locked = document("secret").tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u")
    for name, data in {
        "data/invoice.pdf": attached,
        "locked.pdf": locked,
        "damaged.pdf": attached[: len(attached) // 9],
        "prices.csv": "walrus;9,99 €".encode("utf-16"),
        "page.html": b"<title>Otters</title><script>hidden()</script><p>by the o&#xfb03;ce",
        "table.xlsx": b"no archive",
        "picture.png": b"\x89PNG",
    }.items():
        made.embfile_add(name, data)
    path = saved(made, tmp_path / "a.pdf")
    pages = list(read_pages(path))
    assert pages[0].text.split("\n\n") == [
        *("Cover letter", "data/invoice.pdf", "locked.pdf", "damaged.pdf", "prices.csv"),
        *("walrus;9,99 €", "page.html", "Otters by the office", "table.xlsx", "picture.png"),
    ]
    assert [page.text for page in pages[1:]] == [
        *("Second page", "Invoice of the attached PDF", "Its second page"),
    ]
    assert read_page(path, 4).text == "Its second page"
    assert read_page(path, 1).text == pages[0].text
    assert len(list(read_pages(path, Limits(pages=2)))) == 4, "a limit for its own pages"


def test_attached_texts_are_bounded(tmp_path: Path) -> None:
    made = document("Cover letter")
    for number in range(3):
        made.embfile_add(f"{number}.txt", b"many words " * 5_000)
    (page,) = read_pages(saved(made, tmp_path / "a.pdf"))
    assert 19_000 < len(page.text) < 21_000


def test_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    made = pymupdf.open()
    page = made.new_page()
    page.insert_text((50, 100), "left one\nleft two")
    page.insert_text((350, 100), "right one\nright two")
    text = read_page(saved(made, tmp_path / "a.pdf"), 1).text
    assert text == "left one\nleft two\n\nright one\nright two"


def test_a_page_is_rendered_at_the_size_asked_for(tmp_path: Path) -> None:
    path = saved(document("one", "two"), tmp_path / "a.pdf")
    assert render_page(path, 2, 900).size == (600, 900)
    huge = pymupdf.open()
    huge.new_page(width=14_000, height=20)
    wide = render_page(saved(huge, tmp_path / "b.pdf"), 1, 500)
    assert wide.width == 500
    assert 1 <= wide.height <= 2


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_page_that_is_not_there_is_named(tmp_path: Path, number: int) -> None:
    path = saved(document("one", "two"), tmp_path / "a.pdf")
    for read in (read_page, lambda path, number: render_page(path, number, 100)):
        with pytest.raises(MediaError, match=rf"no page {number}; its pages are 1 to 2"):
            read(path, number)


def test_only_user_password_is_refused(tmp_path: Path) -> None:
    kind = pymupdf.PDF_ENCRYPT_AES_256
    locked = saved(document("x"), tmp_path / "a.pdf", encryption=kind, user_pw="u", owner_pw="o")
    with pytest.raises(MediaError, match="protected by a password"):
        next(iter(read_pages(locked)))
    owned = saved(document("open to all"), tmp_path / "b.pdf", encryption=kind, owner_pw="o")
    assert read_page(owned, 1).text == "open to all"


def test_what_is_no_pdf_is_refused(tmp_path: Path) -> None:
    for data, reason in (
        (b"", "empty"),
        (b"%PDF-1.7\n" + b"\1" * 3000, "damaged"),
        (b"words", "damaged"),
    ):
        path = tmp_path / "a.pdf"
        path.write_bytes(data)
        with pytest.raises(MediaError, match=reason):
            list(read_pages(path))
    with pytest.raises(MediaError, match="does not exist"):
        read_page(tmp_path / "nowhere.pdf", 1)


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        (b"/Count 1", b"/Count 0"),
        (b"/Pages 2 0 R", b"/Pages 9 0 R"),
        (b"/Root 1 0 R", b"/Root 8 0 R"),
    ],
)
def test_pages_that_no_list_names_are_read(tmp_path: Path, sound: bytes, broken: bytes) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(spelled("here").replace(sound, broken))
    assert [page.text for page in read_pages(path)] == ["here"]
    assert read_page(path, 1).text == "here"


def test_too_many_pages_are_refused(tmp_path: Path) -> None:
    path = saved(document("a", "b", "c"), tmp_path / "a.pdf")
    with pytest.raises(MediaError, match="3 pages, more than the limit of 2"):
        next(iter(read_pages(path, Limits(pages=2))))
    assert read_page(path, 3, Limits(pages=2)).text == "c", "one page costs the same in any file"


def test_a_damaged_page_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(document("a", "b", "c"), tmp_path / "a.pdf")
    onward = pymupdf.Page.get_pixmap

    def broken(page: Any, **options: Any) -> Any:
        if page.number == 1:
            raise RuntimeError("cycle in resources")
        return onward(page, **options)

    monkeypatch.setattr(pymupdf.Page, "get_pixmap", broken)
    assert [page.number for page in read_pages(path)] == [1, 3]
    with pytest.raises(MediaError, match="page 2 of the PDF is damaged"):
        read_page(path, 2)


def test_truncated_pdf_is_read_as_far_as_possible(tmp_path: Path) -> None:
    path = saved(document("one", "two"), tmp_path / "a.pdf")
    path.write_bytes(path.read_bytes()[:-200])
    assert [page.text for page in read_pages(path)] == ["one", "two"]


@pytest.mark.parametrize("name", ["line\nbreak.pdf", "latin\udce9.pdf", "日本.pdf", "50%.pdf"])
def test_odd_names_are_opened(tmp_path: Path, name: str) -> None:
    path = saved(document("here"), tmp_path / "a.pdf").rename(tmp_path / name)
    assert read_page(path, 1).text == "here"


def test_threads_share_the_library_page_by_page(tmp_path: Path) -> None:
    paths = [
        saved(document(*[f"{n} {m}" for m in range(9)]), tmp_path / f"{n}.pdf") for n in "abcd"
    ]
    started = threading.Barrier(4)

    def texts(path: Path) -> list[str]:
        pages = read_pages(path, Limits(frame_side=64))
        first = next(pages)
        started.wait(10)  # passes only if no document is held while another is open
        return [first.text, *(page.text for page in pages)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(texts, paths))
    assert results == [[f"{n} {m}" for m in range(9)] for n in "abcd"]


def test_damaged_pdfs_print_nothing(tmp_path: Path) -> None:
    made = document("one", "two")
    for page in made:
        made.update_stream(page.get_contents()[0], b"q BT /None 12 Tf (x >> ] ) Tj 1 0 rg foo")
    saved(made, tmp_path / "a.pdf")
    (tmp_path / "b.pdf").write_bytes((tmp_path / "a.pdf").read_bytes()[:-60])
    program = (
        "import sys\nfrom embedder.media import MediaError, read_pages\n"
        "try:\n    list(read_pages(sys.argv[1]))\nexcept MediaError:\n    pass\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "b.pdf")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
