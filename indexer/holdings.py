"""What a library holds, as its callers ask for it."""

from pathlib import Path

from embedder.media.kinds import Kind
from embedder.media.pdf import Word
from indexer.catalog import Catalog
from indexer.entities import Duplicates, LibraryStats, MediaItem, Segment, Status
from indexer.thumbnails import Thumbnails


class Holdings:
    """The files and segments of a library, for reading. Thread-safe.

    Attributes:
        catalog: Questions to its tables.
    """

    def __init__(self, catalog: Catalog, thumbnails: Thumbnails) -> None:
        self.catalog = catalog
        self._thumbnails = thumbnails

    def stats(self) -> LibraryStats:
        """What the library holds."""
        return self.catalog.stats()

    def items(
        self,
        *,
        status: Status | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[MediaItem]:
        """Files in order of their paths.

        Args:
            status: Only in this state.
            kind: Only of this kind.
            name: Only with this in their names, whatever the case.
            limit: Most files to return.
            offset: Files to pass over first.
        """
        return self.catalog.items(status=status, kind=kind, name=name, limit=limit, offset=offset)

    def item(self, item_id: int) -> MediaItem:
        """A file, or `NotFound`."""
        return self.catalog.item(item_id)

    def segment(self, segment_id: int) -> Segment:
        """A segment, or `NotFound`."""
        return self.catalog.segment(segment_id)

    def item_of(self, segment_id: int) -> MediaItem:
        """The file that holds a segment, the oldest of several; or `NotFound`."""
        return self.catalog.item_of(segment_id)

    def segments(self, item_id: int) -> list[Segment]:
        """What can be found in a file, in order of position; or `NotFound`."""
        return self.catalog.segments(item_id)

    def words(self, segment_id: int) -> tuple[Word, ...]:
        """The words of a PDF page with their places; none for other segments."""
        return self.catalog.words(segment_id)

    def thumbnail(self, segment_id: int) -> Path | None:
        """The file with a segment's small picture; None if it has none, or `NotFound`."""
        segment = self.segment(segment_id)
        path = self._thumbnails.path(segment.content_hash, segment.position)
        return path if path.is_file() else None

    def folders(self) -> list[tuple[Path, int]]:
        """Folders that hold indexed files, with their number."""
        return self.catalog.folders()

    def branches(self, most: int) -> list[tuple[Path, int]]:
        """Folders that hold indexed files or more than one branch, with the files in and below.

        The first of them, in order, and no more than `most`.
        """
        return self.catalog.branches(most)

    def sample(self, count: int) -> list[tuple[MediaItem, Segment]]:
        """Files with different contents from all over the library, and where each begins."""
        return self.catalog.sample(count)

    def duplicates(self) -> Duplicates:
        """Files that hold the same bytes, and apart from them pictures that look the same."""
        from indexer.duplicates import duplicates

        return duplicates(self.catalog)
