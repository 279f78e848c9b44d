"""Build the weights of `mini` from packages."""

from pathlib import Path

CACHE = Path("var/mini")
"""Default folder of cached features."""
