"""What a library knows, in tables; the only package that speaks SQL."""

from indexer.catalog.changes import Changes
from indexer.catalog.listing import Catalog
from indexer.catalog.reader import Model

__all__ = ["Catalog", "Changes", "Model"]
