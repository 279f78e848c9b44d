"""What a library knows, in tables; the only package that speaks SQL."""

from indexer.catalog.listing import Catalog
from indexer.catalog.reader import Changes, Model

__all__ = ["Catalog", "Changes", "Model"]
