"""Build the weights of `mini` from packages."""

from pathlib import Path

import embedder.mini  # noqa: F401  it turns off the telemetry of onnxruntime, if imported first

CACHE = Path("var/mini")
"""Default folder of cached features."""
