"""Properties of documents, collected from the elements that state them."""

from datetime import datetime
from typing import Any

from embedder.media.kinds import SEPARATOR, Details
from embedder.media.metadata.documents import document_details
from embedder.media.metadata.values import labelled, parsed_date

# Elements of Dublin Core, and those of the formats that build on it.
_LABELS = {
    "title": "Title",
    "subject": "Subject",
    "creator": "Author",
    "initial-creator": "Author",
    "keywords": "Keywords",
    "keyword": "Keywords",
    "category": "Category",
    "description": "Description",
}
_MORE_LABELS = ("Category", "Description", "People")
_DATES = ("created", "creation-date", "date", "modified")  # the best first


class Properties:
    """Collects what a document says about itself.

    Attributes:
        written_at: When it was written, if no element has the date.
    """

    def __init__(self) -> None:
        self.written_at: datetime | None = None
        self._words: dict[str, list[str]] = {}
        self._dates: dict[str, str] = {}
        self._facts: dict[str, str] = {}

    def add(self, label: str, value: str | None) -> None:
        """Add one of the values that a label has."""
        self._words.setdefault(label, []).append(" ".join((value or "").split()))

    def add_dublin_core(self, root: Any) -> None:
        """Add what the elements below a root say; nothing if it is None."""
        for element in root.iter() if root is not None else ():
            if element.tag in _LABELS:
                self.add(_LABELS[element.tag], element.text)
            elif element.tag in _DATES:
                self._dates.setdefault(element.tag, element.text or "")

    def add_count(self, label: str, value: str | int | None) -> None:
        """Add how many pages or words there are; nothing if that is not known."""
        text = str(value)
        if text.isdecimal() and len(text) < 10 and int(text):
            self._facts[label] = f"{int(text):,}"

    def details(self) -> Details:
        """Return what was added, without what is blank or cannot be true."""
        dates = [parsed_date(self._dates.get(name, "")) for name in _DATES]
        words = self._words
        more = labelled(*((label, words.get(label, ())) for label in _MORE_LABELS))
        return document_details(
            title=SEPARATOR.join(words.get("Title", ())),
            author=SEPARATOR.join(words.get("Author", ())),
            subject=SEPARATOR.join(words.get("Subject", ())),
            keywords=words.get("Keywords", ()),
            written_at=next((date for date in dates if date), self.written_at),
        ).over(Details(words=more, facts=tuple(self._facts.items())))
