"""What a library knows, as questions and answers; the only package that speaks SQL."""

from indexer.catalog.changes import Changes
from indexer.catalog.reader import Catalog, Model

__all__ = ["Catalog", "Changes", "Model"]
