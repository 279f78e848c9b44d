"""The Collections tab as HTML: albums and saved searches, and what is above an open album."""

from collections.abc import Sequence

from app.living import Filled
from app.page import macros
from app.page.labels import sentence
from indexer.catalog.albums import FAVOURITES, Album, SavedSearch

_html = macros("collections.html")


def collections(albums: Sequence[Album], searches: Sequence[SavedSearch]) -> str:
    """Return the content of the tab."""
    return _html.collections(albums, searches, FAVOURITES)


def album_head(filled: Filled, problem: str = "") -> str:
    """Return the name of an album, what can be done with it, and what it asks about.

    Args:
        filled: The album.
        problem: Why it could not be filled, in words.
    """
    return _html.album_head(filled, filled.album.id != FAVOURITES, problem and sentence(problem))
