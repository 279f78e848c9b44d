"""Models on ONNX Runtime: sessions on a CPU or an accelerator, and pictures through a session."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.interface import EmbedderUnavailable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Official builds of onnxruntime send usage data to Microsoft unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_CPU = "CPUExecutionProvider"
_ACCELERATORS = {"cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
_MAX_FRAMES_IN_MEMORY = 16


def usable_cpus() -> int:
    """Return how many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(
    model: bytes | Path, device: str | None = "cpu", *, fits_16_bits: bool = False
) -> "InferenceSession":
    """Load a model; onnxruntime is imported only here.

    Args:
        model: The ONNX file or its bytes; one with external data has to be a file.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best that onnxruntime has.
        fits_16_bits: Whether sums of two products of an int8 model fit 16 bits. Those of others
            are added precisely on CPUs without VNNI, too, which is slower.

    Raises:
        EmbedderUnavailable: onnxruntime is missing, or has no such device.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EmbedderUnavailable(f"onnxruntime cannot be imported: {error}") from error
    options = onnxruntime.SessionOptions()
    # Threads that share an operation wait for each other at its end, which costs most when decoding
    # takes one of their CPUs: each thread runs whole pictures and texts instead.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise CPUs with AVX2 but without VNNI clip sums that overflow: of an int8 SigLIP 2 with
    # random weights, vectors had a cosine of 0.93 with the precise ones.
    if not fits_16_bits:
        options.add_session_config_entry("session.x64quantprecision", "1")
    providers = execution_providers(device, onnxruntime.get_available_providers())
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers
    )


def execution_providers(
    device: str | None, available: Sequence[str]
) -> list[str | tuple[str, dict[str, str]]]:
    """Return the execution providers for a device, the CPU last.

    Args:
        device: As for `open_session`.
        available: The providers of the installed onnxruntime.

    Raises:
        EmbedderUnavailable: it has none for that device.
    """
    if device is None:
        return [*(one for one in _ACCELERATORS.values() if one in available), _CPU]
    name, _, index = device.partition(":")
    if name == "cpu":
        return [_CPU]
    provider = _ACCELERATORS.get(name, "")
    if provider not in available or (index and not index.isdecimal()):
        known = ["cpu", *(name for name, one in _ACCELERATORS.items() if one in available)]
        raise EmbedderUnavailable(
            f"the installed onnxruntime cannot run on {device!r}: use --device "
            f"{' or '.join(known)}, or install its build for that device"
        )
    return [(provider, {"device_id": index}) if index else provider, _CPU]


def run_pictures(
    session: "InferenceSession",
    frames: Sequence[Image.Image],
    pixels_of: Callable[[Image.Image], NDArray[Any]],
    threads: int,
    batch: int | None = None,
    names: Sequence[str] | None = None,
) -> list[NDArray[np.float32]]:
    """Run pictures through a session with one input; equal pixels are computed once.

    Args:
        session: Of a vision tower.
        frames: RGB pictures, at least one.
        pixels_of: Returns the input of a picture, without the dimension of the batch.
        threads: How many pictures are prepared, and how many batches run, at the same time.
        batch: Pictures in a batch; None to divide them among the threads.
        names: Of the outputs that are wanted; None for all.

    Returns:
        The outputs, float32 arrays whose first dimension is that of `frames`.
    """
    given = session.get_inputs()[0].name
    first: dict[bytes, int] = {}
    order: list[int] = []
    outputs: list[Sequence[NDArray[Any]]] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(frames), _MAX_FRAMES_IN_MEMORY):
            fresh = []
            for pixels in pool.map(pixels_of, frames[start : start + _MAX_FRAMES_IN_MEMORY]):
                key = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
                if key not in first:
                    first[key] = len(first)
                    fresh.append(pixels)
                order.append(first[key])
            each = batch or max(1, -(-len(fresh) // threads))
            parts = [np.stack(fresh[i : i + each]) for i in range(0, len(fresh), each)]
            outputs += pool.map(lambda part: session.run(names, {given: part}), parts)
    return [
        np.concatenate(rows).astype(np.float32, copy=False)[order]
        for rows in zip(*outputs, strict=True)
    ]
