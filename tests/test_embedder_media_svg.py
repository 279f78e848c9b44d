"""SVG drawings: what is drawn, what is found, and what is refused."""

import gzip
import io
import time
from pathlib import Path

import pytest
from PIL import Image
from test_embedder_media_picture import near

from embedder.media import Kind, Limits, MediaError, cut, detect, read_picture

SVG = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
LIMITS = Limits(frame_side=200)


def drawn(inner: str, size: str = 'viewBox="0 0 100 100"') -> Image.Image:
    return read_picture(f"<svg {SVG} {size}>{inner}</svg>".encode(), LIMITS)


def test_a_drawing_is_a_picture_on_white(tmp_path: Path) -> None:
    data = f'<svg {SVG} width="40" height="20"><rect width="20" height="20" fill="red"/></svg>'
    header = '<?xml version="1.0"?>\n<!-- Made by hand. -->\n'
    for name, content in {
        "a.svg": data.encode(),
        "b.SVG": f"\ufeff{header}{data}".encode(),
        "c.svg": data.replace("<svg xmlns", "<svg:svg xmlns:svg")
        .replace("<rect", "<svg:rect")
        .replace("</svg", "</svg:svg")
        .encode(),
        "d.svgz": gzip.compress(data.encode()),
        "e.svg": f'<?xml version="1.0" encoding="UTF-16"?>{data}'.encode("utf-16"),
        "f.svg": f"\ufeff{data}".encode("utf-16-be"),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert detect(tmp_path / name) is Kind.IMAGE, name
        (draft,) = cut(tmp_path / name, Kind.IMAGE, LIMITS)
        (frame,) = draft.content.frames
        assert frame.size == (200, 100), name
        assert frame.getpixel((50, 50)) == (255, 0, 0), name
        assert frame.getpixel((150, 50)) == (255, 255, 255), name


@pytest.mark.parametrize(
    "inner",
    [
        '<style>.a{fill:#00c800}</style><rect class="b a" fill="red" width="100" height="100"/>',
        "<style>/* { */ g, rect {fill: rgb(0,200,0)}</style><rect width='100' height='100'/>",
        "<style>rect{fill:red} .a{fill:blue} #r{fill:#00c800}</style>"
        '<rect id="r" class="a" width="100" height="100"/>',
        '<style>rect{fill:red}</style><rect style="fill:#00c800" width="100" height="100"/>',
        '<linearGradient id="g"><stop stop-color="#00ff00"/><stop offset="1" '
        'style="stop-color:#009100"/></linearGradient>'
        '<rect fill="url(#g)" width="100" height="100"/>',
        '<style>.s{stop-color:#00c800}</style><radialGradient id="g" xlink:href="#h"/>'
        '<radialGradient id="h"><stop class="s"/></radialGradient>'
        '<circle style="fill:url(#g)" cx="50" cy="50" r="90"/>',
        '<linearGradient id="g"><stop stop-opacity="0"/></linearGradient>'
        '<rect fill="#00c800" width="100" height="100"/>'
        '<rect fill="url(#g)" width="100" height="100"/>',
        '<defs><g id="a"><rect fill="#00c800" width="50" height="50"/></g></defs>'
        '<use xlink:href="#a" transform="scale(2)"/>',
        '<g style="fill:#00c800"><path d="M0 0h100v100h-100z"/></g>',
    ],
)
def test_colours_by_rules_and_gradients(inner: str) -> None:
    assert near(drawn(inner).getpixel((100, 100)), (0, 200, 0), 3)


def test_internal_entities_are_replaced() -> None:
    doctype = '<!DOCTYPE svg [<!ENTITY ns "http://www.w3.org/2000/svg"><!ENTITY red "#ff0000">]>'
    square = '<rect fill="&red;" width="9" height="9"/>'
    data = f'{doctype}<svg xmlns="&ns;" width="9" height="9">{square}</svg>'
    assert read_picture(data.encode(), LIMITS).getpixel((9, 9)) == (255, 0, 0)


def test_words_in_a_drawing_are_its_title_and_caption(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    path.write_text(
        f'<svg {SVG} width="90" height="90"><title>Floor plan</title>'
        '<desc>Of the\n boathouse</desc><text y="20">Kit<tspan font-weight="bold">chen</tspan>'
        '</text><text y="40">Hall</text></svg>'
    )
    (draft,) = cut(path, Kind.IMAGE, LIMITS)
    assert draft.details is not None
    assert draft.details.facts == ()
    words = dict(draft.details.words)
    assert words["Title"] == "Floor plan"
    assert words["Caption"].splitlines() == ["Of the boathouse", "Kitchen", "Hall"]


def test_nothing_from_outside_is_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    sheet = f'<?xml-stylesheet href="{tmp_path}/a.css"?>'
    images = "".join(
        f'<image {name}="{where}{tmp_path}/red.png" width="100" height="100"/>'
        for name in ("href", "xlink:href")
        for where in ("", "file://")
    )
    data = f"{sheet}<svg {SVG} viewBox='0 0 100 100'>{images}</svg>"
    assert read_picture(data.encode(), LIMITS).getpixel((50, 50)) == (255, 255, 255)
    entity = f'<!DOCTYPE svg [<!ENTITY a SYSTEM "file://{tmp_path}/red.png">]><svg {SVG}>&a;</svg>'
    with pytest.raises(MediaError, match="Entity 'a' not defined"):
        read_picture(entity.encode(), LIMITS)


def nested(levels: int) -> str:
    """Elements of which each uses the one before ten times."""
    groups = '<rect id="a0" width="9" height="9"/>'
    for number in range(1, levels):
        uses = f'<use xlink:href="#a{number - 1}"/>' * 10
        groups += f'<g id="a{number}">{uses}</g>'
    return f'<defs>{groups}</defs><use href="#a{levels - 1}"/>'


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (nested(12), "draws more than the limit of 100,000 elements"),
        ("<g>" * 9_000, "damaged or truncated: .*depth"),
        ("<rect", "damaged or truncated"),
        ("<g></a>", "damaged or truncated"),
    ],
)
def test_hostile_drawings_are_refused(inner: str, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        drawn(inner)


@pytest.mark.parametrize("size", ['width="1e6" height="1"', 'width="0" height="0"'])
def test_drawings_without_a_size_are_refused(size: str) -> None:
    with pytest.raises(MediaError, match=r"no size that can be drawn|no pixels"):
        drawn("<rect width='9' height='9'/>", size)


def test_large_drawings_are_drawn_small() -> None:
    frame = drawn('<rect width="5e8" height="1e9" fill="blue"/>', 'width="1e9" height="1e9"')
    assert (frame.size, frame.getpixel((50, 50))) == ((200, 200), (0, 0, 255))


def test_entities_and_compressed_data_do_not_grow_without_limit() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    laughs = f'<!DOCTYPE svg [<!ENTITY e0 "ha">{entities}]><svg {SVG}><text>&e9;</text></svg>'
    with pytest.raises(MediaError, match="amplification"):
        read_picture(laughs.encode(), LIMITS)
    zipped = io.BytesIO()
    with gzip.GzipFile(fileobj=zipped, mode="wb") as file:
        file.write(bytes(2_000_000))
    with pytest.raises(MediaError, match="more than 1 MB"):
        read_picture(zipped.getvalue(), Limits(file_bytes=1_000_000))


def test_long_style_sheets_take_no_long_time() -> None:
    started = time.process_time()
    for text in ("/*", "a", "a{", "a:b;", ",", "}"):
        drawn(f"<style>{text * (100_000 // len(text))}</style><rect width='9' height='9'/>")
    assert time.process_time() - started < 10


def test_uses_in_a_circle_end() -> None:
    circle = '<g id="a"><use xlink:href="#b"/></g><g id="b"><use xlink:href="#a"/></g>'
    assert drawn(circle).size == (200, 200)
