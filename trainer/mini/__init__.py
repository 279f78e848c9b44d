"""Build the weights of `mini` from packages."""

from pathlib import Path

import embedder.onnx_runtime  # noqa: F401  it turns off the telemetry of onnxruntime, if imported first

CACHE = Path("var/mini")
"""Default folder of cached features."""
