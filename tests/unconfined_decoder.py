"""The decoders of the tests without confinement: what they do then, it prevents."""

from misbehaving_decoder import misbehave
from probing_decoder import probe

from indexer.decoding import worker

__all__ = ["misbehave", "probe"]

worker.confine = list  # type: ignore[assignment]
