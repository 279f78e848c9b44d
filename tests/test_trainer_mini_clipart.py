"""Reading the Open Clip Art Library."""

from pathlib import Path

import pytest
from PIL import Image

from trainer.data.examples import Unreadable
from trainer.mini.pictures import Drawing, drawings, limited

_SVG = """<svg xmlns="http://www.w3.org/2000/svg"><metadata
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:RDF><Work>
 <dc:title>{title}</dc:title><dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>
 <dc:publisher><dc:title>Open Clip Art Library</dc:title></dc:publisher>
</Work></rdf:RDF></metadata></svg>"""


def _add(library: Path, name: str, title: str, *words: str) -> None:
    said = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    svg, png = library / "svg" / f"{name}.svg", library / "png" / f"{name}.png"
    for path in (svg, png):
        path.parent.mkdir(parents=True, exist_ok=True)
    svg.write_text(_SVG.format(title=title, words=said), encoding="utf-8")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(png)


def test_a_drawing_has_its_own_title_and_the_keywords_that_are_words(tmp_path: Path) -> None:
    _add(tmp_path, "animals/bored_dog_01", "Bored_dog", "Mammal", "", "HASH(0x8a)", "dog", "dog")
    one = drawings(tmp_path)[0]
    assert (one.title, one.keywords, one.category) == ("Bored dog", ("mammal", "dog"), "animals")
    assert one.path == tmp_path / "png/animals/bored_dog_01.png"


def test_the_name_of_a_collection_is_no_title(tmp_path: Path) -> None:
    for number in range(20):
        _add(tmp_path, f"icons/view{chr(97 + number)}mag_1", "Lemon SVG theme")
    _add(tmp_path, "icons/zebra", "Clipart by Somebody - zebra")
    found = drawings(tmp_path)
    assert [one.title for one in found[:2]] == ["viewamag", "viewbmag"]
    assert found[-1].title == "zebra"


def test_variants_of_a_drawing_are_one_group_and_on_one_side(tmp_path: Path) -> None:
    for number in range(30):
        _add(tmp_path, f"a/arrow{number}", f"Arrow {number}")
        _add(tmp_path, f"b/{chr(97 + number % 26)}{'x' * number}", chr(97 + number % 26) * 3)
    found = drawings(tmp_path)
    arrows = [one for one in found if one.category == "a"]
    assert {one.group for one in arrows} == {"arrow"}
    assert len({one.held_out for one in arrows}) == 1
    assert {one.held_out for one in found} == {True, False}
    assert len(limited(arrows, 4)) == 4
    assert limited(arrows, 4) == arrows[:4]


def test_what_is_held_out_stays_the_same_from_version_to_version() -> None:
    def held_out(group: str) -> bool:
        return Drawing(Path("x.png"), "", (), "", group).held_out

    chosen = [name for name in ("cat", "dog", "sun", "moon", "boat", "fish") if held_out(name)]
    assert chosen == ["moon", "fish"], "figures before and after would not compare"


def test_a_drawing_without_readable_metadata_is_called_as_its_file(tmp_path: Path) -> None:
    _add(tmp_path, "tools/red_hammer_02", "x")
    (tmp_path / "svg/tools/red_hammer_02.svg").write_text("<svg")
    assert [one.title for one in drawings(tmp_path)] == ["red hammer"]


def test_without_the_packages_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="apt-get install openclipart-svg openclipart-png"):
        drawings(tmp_path)
