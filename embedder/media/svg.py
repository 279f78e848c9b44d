"""SVG drawings, which MuPDF draws without loading anything from outside the file.

MuPDF knows neither style sheets nor gradients, and would draw what they colour in black. So rules
for names, classes and ids of elements are applied here first, and a gradient becomes one colour,
the mean of its stops.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import IO, Any, TypeAlias

from PIL import Image, ImageColor

from embedder.media.kinds import Limits, MediaError, first_bytes
from embedder.media.pdf import MUPDF_LOCK, load_mupdf, rendered

Element: TypeAlias = Any
Styles: TypeAlias = dict[str, str]
Colour: TypeAlias = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0 to 255."""

SVG_SIGNATURES = (
    rb"(?:\xef\xbb\xbf)?\s*<(?:[^\0]*<)?(?:\w{1,40}:)?svg[\s>]",
    rb"(?:\xff\xfe|\xfe\xff).{,2000}?<\0s\0v\0g\0[\s>]",  # in UTF-16
    rb"\x1f\x8b\x08",
)
_SVG = first_bytes(*SVG_SIGNATURES)
_ZIPPED = b"\x1f\x8b"
_GREY = (128, 128, 128, 255)
_MAX_DRAWN = 100_000
"""Most elements that are drawn; `use` draws others again, and may do so exponentially."""
_ATTRIBUTES = "fill fill-opacity stroke stroke-opacity stroke-width opacity display".split()
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"""url\(\s*['"]?#([^'")]+)['"]?\s*\).*""", re.DOTALL)


def is_svg(head: bytes) -> bool:
    """Whether a file begins as an SVG, or as one that is compressed."""
    return _SVG.match(head) is not None


def open_svg(file: IO[bytes], limits: Limits) -> Image.Image:
    """Draw an SVG, its longest side `limits.sheet_side`.

    Args:
        file: Open for reading; compressed or not.
        limits: Gives `file_bytes`, compressed or not, and the size of pages.

    Returns:
        The drawing on white. Its `info` has the title, and as description all other text in it.

    Raises:
        MediaError: if it is damaged, too large, or too complex.
    """
    from lxml import etree

    root = _parsed(_content(file, limits.file_bytes))
    if _drawn(root, _by_id(root), {}) > _MAX_DRAWN:
        raise MediaError(f"the SVG draws more than the limit of {_MAX_DRAWN:,} elements")
    texts = [_text(one) for name in ("desc", "text") for one in root.iter(f"{{*}}{name}")]
    title = next((_text(one) for one in root.iter("{*}title")), "")
    _colour(root)
    image = _rendered(etree.tostring(root), limits.sheet_side)
    image.info |= {"Title": title, "Description": "\n".join(filter(None, texts))}
    return image


def _content(file: IO[bytes], most: int) -> bytes:
    data = file.read(most + 1)
    if data.startswith(_ZIPPED):
        with suppress(zlib.error):  # what is no XML then is said to be damaged
            data = zlib.decompressobj(wbits=31).decompress(data, most + 1)
    if len(data) > most:
        raise MediaError(f"the SVG has more than {most / 1e6:.0f} MB, the limit for texts")
    return data


def _parsed(data: bytes) -> Element:
    """Parse XML with limits on depth and entities, and without anything from outside."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities="internal", no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        detail = " ".join(str(error.msg).split())
        raise MediaError(f"the SVG is damaged or truncated: {detail:.120}") from error
    if etree.QName(root).localname != "svg":
        raise MediaError("the file is not an SVG")
    return root


def _by_id(root: Element) -> Mapping[str, Element]:
    return {one.get("id"): one for one in root.iter("{*}*") if one.get("id")}


def _target(element: Element) -> str:
    return str(element.get("href") or element.get(_XLINK) or "").removeprefix("#")


def _drawn(element: Element, by_id: Mapping[str, Element], known: dict[Element, int]) -> int:
    """Count the elements that are drawn for one, with those that it uses."""
    if element not in known:
        known[element] = 0  # where it uses itself
        count = 1 + sum(_drawn(child, by_id, known) for child in element)
        if element.tag.endswith("}use") and _target(element) in by_id:
            count += _drawn(by_id[_target(element)], by_id, known)
        known[element] = count
    return known[element]


def _text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def _colour(root: Element) -> None:
    """Write into each element the styles that rules give it, and colours in place of gradients."""
    rules: dict[str, Styles] = {}
    for sheet in root.iter("{*}style"):
        for selector, styles in _rules("".join(sheet.itertext())):
            rules.setdefault(selector, {}).update(styles)
    elements = list(root.iter("{*}*"))
    for element in elements:  # of gradients, too, whose stops have styles
        found: Styles = {}
        for selector in _selectors(element):
            found |= rules.get(selector, {})
        found |= _styles(element.get("style", ""))
        if found:
            _set_styles(element, found)
    by_id = _by_id(root)
    mean = cache(lambda name: _mean(by_id.get(name), by_id))
    for element in elements:
        for paint in ("fill", "stroke"):
            if reference := _REFERENCE.fullmatch(element.get(paint, "")):
                red, green, blue, opacity = mean(reference[1])
                element.set(paint, f"rgb({red},{green},{blue})")
                element.set(f"{paint}-opacity", f"{opacity / 255:.3f}")


def _rules(sheet: str) -> Iterator[tuple[str, Styles]]:
    """Yield the selectors of a style sheet with their styles."""
    first, *others = sheet.split("/*")
    without_comments = first + "".join(one.partition("*/")[2] for one in others)
    for rule in without_comments.split("}"):
        selectors, _, text = rule.partition("{")
        styles = _styles(text)
        for selector in selectors.split(","):
            yield selector.strip(), styles


def _selectors(element: Element) -> Iterator[str]:
    """Yield the selectors that match an element by itself, the strongest last."""
    name = element.tag.rpartition("}")[2]
    yield from ("*", name)
    for one in element.get("class", "").split():
        yield from (f".{one}", f"{name}.{one}")
    yield f"#{element.get('id')}"


def _styles(text: str) -> Styles:
    pairs = (one.partition(":") for one in text.split(";"))
    return {name.strip(): value.replace("!important", "").strip() for name, _, value in pairs}


def _set_styles(element: Element, styles: Styles) -> None:
    """Set the styles of an element, of which MuPDF knows or prefers some as attributes."""
    for name, value in styles.items():
        if name in _ATTRIBUTES:
            element.set(name, value)
    rest = {name: value for name, value in styles.items() if name and name not in _ATTRIBUTES}
    element.set("style", ";".join(f"{name}:{value}" for name, value in rest.items()))


def _mean(gradient: Element | None, by_id: Mapping[str, Element]) -> Colour:
    """Return the mean of a gradient's stops; grey for what else may be referred to."""
    stops = list(_stops(gradient, by_id)) or [_GREY]
    red, green, blue, opacity = (sum(values) // len(stops) for values in zip(*stops, strict=True))
    return red, green, blue, opacity


def _stops(
    gradient: Element | None, by_id: Mapping[str, Element], depth: int = 0
) -> Iterator[Colour]:
    """Yield the stops of a gradient, or of the one that it is like."""
    if gradient is None or depth > 9:
        return
    stops = list(gradient.iterchildren("{*}stop"))
    if not stops:
        yield from _stops(by_id.get(_target(gradient)), by_id, depth + 1)
    for stop in stops:
        styles = _styles(stop.get("style", ""))
        with suppress(ValueError):
            colour = styles.get("stop-color") or stop.get("stop-color", "black")
            opacity = float(styles.get("stop-opacity") or stop.get("stop-opacity", 1))
            red, green, blue, *_ = ImageColor.getrgb(colour)
            yield red, green, blue, round(255 * min(max(opacity, 0.0), 1.0))


def _rendered(data: bytes, side: int) -> Image.Image:
    try:
        with MUPDF_LOCK, load_mupdf().open(stream=data, filetype="svg") as document:
            page = document.load_page(0)
            if min(page.rect.width, page.rect.height) * side < max(
                page.rect.width, page.rect.height
            ):
                raise MediaError("the SVG has no size that can be drawn")
            return rendered(page, side)
    except MediaError:
        raise
    except Exception as error:  # RuntimeError, ValueError, mupdf.FzErrorBase and more
        raise MediaError("the SVG is damaged and cannot be drawn") from error
