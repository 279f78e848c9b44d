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
