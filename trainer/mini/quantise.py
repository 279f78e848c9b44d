"""Quantise the vision tower of `mini` to int8, without overflow on any x86 CPU.

Weights get a scale for each output channel, activations a fixed range each, from the lowest to the
highest value among calibration pictures: vectors do not depend on what else is in a batch, as they
would with ranges found at run time. Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877.

- The first convolutions, up to the second block, stay in float32. Quantised too, they cost more
  accuracy than all others together and hardly any time: see docs/mini.md.
- CPUs with AVX2 but without VNNI multiply unsigned activations by signed weights two by two, and
  add both products in 16 bits, clipped (`vpmaddubsw`): 2 · 255 · 127 overflows. `reduce_range` of
  onnxruntime halves all weights for that. Here a channel's scale is only as wide as its largest two
  neighbours need, 1.45 times in the mean. Depthwise convolutions are added in 32 bits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_QUANTISED = "tower._blocks.2."
"""Prefix of the weights from which on the tower, in order, is quantised."""

_MAX_WEIGHT = 127
_MIN_SCALE = 1e-6  # so that the bias, in units of both scales, fits 32 bits


def quantise(source: Path, target: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Write a copy of the vision tower with int8 convolutions and additions.

    Args:
        source: ONNX file in float32, its batch norms folded.
        target: Where the quantised one goes.
        pictures: Pixels of calibration pictures, each uint8 (260, 260, 3).
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load(str(source))
    nodes = list(model.graph.node)
    first = next(
        place
        for place, node in enumerate(nodes)
        if any(name.startswith(FIRST_QUANTISED) for name in node.input)
    )
    used = {name for node in nodes[first:] if node.op_type == "Conv" for name in node.input}
    kernels = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name in used and len(tensor.dims) == 4
    }
    quantization.quantize_static(
        model,
        str(target),
        _reader(pictures),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Clip", "Add"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=[node.name for node in nodes[:first]],
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={
            "TensorQuantOverrides": {name: _overrides(one) for name, one in kernels.items()}
        },
    )


def channel_scales(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale of each output channel's int8 weights.

    Of a pointwise convolution, two neighbouring weights of one sign are 128 together at most, after
    rounding: 255 · 128 fits 16 bits.

    Args:
        kernel: Of a depthwise (out, 1, h, w) or a pointwise convolution (out, in, 1, 1), `in` even.
    """
    rows = kernel.reshape(len(kernel), -1)
    highest = np.abs(rows).max(axis=1)
    if kernel.shape[1] > 1:
        pairs = rows.reshape(len(rows), -1, 2)
        for part in (np.maximum(pairs, 0), np.maximum(-pairs, 0)):
            highest = np.maximum(highest, part.sum(axis=2).max(axis=1))
    return np.maximum(highest / _MAX_WEIGHT, _MIN_SCALE).astype(np.float32)


def _overrides(kernel: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return the scales in the form that onnxruntime.quantization takes them."""
    channels: list[dict[str, Any]] = [
        {"scale": scale, "zero_point": 0} for scale in channel_scales(kernel)
    ]
    channels[0]["axis"] = 0
    return channels


def _reader(pictures: Sequence[NDArray[np.uint8]]) -> Any:
    """Return a reader that feeds the tower one picture at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._waiting: Iterator[NDArray[np.uint8]] = iter(pictures)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            pixels = next(self._waiting, None)
            return None if pixels is None else {"pixels": pixels[np.newaxis]}

    return Reader()
