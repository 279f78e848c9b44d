"""The records of kinds: every kind has one, and every table of kinds has every kind."""

import mimetypes

from PIL import Image

from app.page import macros
from app.page.labels import KIND_LABELS
from embedder.media import MEDIA_KINDS, Kind, suffix_kind
from embedder.media.picture import FORMATS, prepare_decoders
from indexer import LibraryStats
from indexer.search.__main__ import parser
from indexer.search.candidates import WORDED
from indexer.search.query import MODALITY

PYTHON_TYPES = mimetypes.MimeTypes(())  # Those of Python alone; a machine's own list may differ.


def test_every_kind_has_a_record():
    assert list(MEDIA_KINDS) == list(Kind)
    for kind, record in MEDIA_KINDS.items():
        assert record.kind is kind
        assert record.noun
        assert record.unit
        assert record.has_text or record.has_picture


def test_no_two_kinds_share_a_suffix():
    suffixes = [suffix for record in MEDIA_KINDS.values() for suffix in record.suffixes]
    assert len(suffixes) == len(set(suffixes))
    for kind, record in MEDIA_KINDS.items():
        assert all(suffix_kind(f"a{suffix.upper()}") is kind for suffix in record.suffixes)


def test_endings_of_all_pictures_that_are_decoded_are_known():
    prepare_decoders()
    registered = {one for one, name in Image.EXTENSION.items() if name in FORMATS}
    # These may be anything: pictures of SGI are known by their first bytes.
    assert registered - {".bw", ".rgb", ".rgba"} <= MEDIA_KINDS[Kind.IMAGE].suffixes


def test_media_types_are_of_suffixes_that_the_kind_has():
    for record in MEDIA_KINDS.values():
        assert set(record.media_types) <= record.suffixes
        for suffix, media_type in record.media_types.items():
            if suffix == ".opus" or media_type.startswith("text/plain"):
                continue  # Opus is in files of Ogg: RFC 7845, section 9.
            known = PYTHON_TYPES.guess_type(f"a{suffix}")[0]
            assert known in (None, media_type, media_type.replace("/", "/x-")), suffix


def test_every_table_of_kinds_has_every_kind():
    assert set(MODALITY) == set(Kind)
    assert set(Kind) == WORDED  # Words are read in the pictures of those without a text.
    assert list(KIND_LABELS) == list(Kind)
    flags = parser().format_help()
    assert all(f"--{kind} FILE" in flags for kind in Kind if MEDIA_KINDS[kind].has_picture)


def test_every_kind_is_drawn_on_the_page():
    shown = macros("library.html").stats(LibraryStats({}, {}, 0, 0, 0))
    for kind, label in KIND_LABELS.items():
        assert f'data-kind="{kind}"' in shown
        assert label.plural in shown
