"""What the indexer raises on purpose; every message says what happened and what to do next.

IndexerError
├── LibraryError        the library on disk cannot be opened or used
│   ├── ModelMismatch   it holds vectors of another model
│   └── LibraryBusy     another process is writing to it
├── QueryError          the query is empty, unreadable or contradicts itself
└── NotFound            no item or segment has that id
"""


class IndexerError(Exception):
    """Everything that the indexer raises on purpose."""


class LibraryError(IndexerError):
    """The library on disk cannot be opened or used."""


class ModelMismatch(LibraryError):
    """The library holds vectors of another model than the one asked for."""


class LibraryBusy(LibraryError):
    """Another process is writing to the library."""


class QueryError(IndexerError):
    """The query is empty, unreadable or contradicts itself."""


class NotFound(IndexerError):
    """No item or segment has that id."""


class Closed(Exception):
    """The queue was closed: there is nothing more to put or to take."""
