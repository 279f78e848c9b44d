"""What a library knows, as questions and answers; the only package that speaks SQL."""

from indexer.catalog.catalog import Catalog, Model
from indexer.catalog.changes import Changes

__all__ = ["Catalog", "Changes", "Model"]
