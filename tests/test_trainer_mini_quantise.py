"""Scales of the quantised vision tower: sums of products fit the 16 bits that AVX2 has for them."""

import numpy as np

from trainer.mini.quantise import channel_scales

HIGHEST_ACTIVATION, MAX_INT16 = 255, 2**15 - 1


def codes(kernel: np.ndarray) -> np.ndarray:
    """Return the int8 weights, by output channel."""
    rows = kernel.reshape(len(kernel), -1)
    return np.rint(rows / channel_scales(kernel)[:, None])


def test_neighbours_of_a_pointwise_convolution_do_not_overflow() -> None:
    kernel = np.random.default_rng(0).normal(size=(200, 48, 1, 1)).astype(np.float32)
    kernel[0, :2, 0, 0] = kernel[1, :2, 0, 0] = 9.0  # two large weights beside each other
    kernel[1] *= -1
    pairs = codes(kernel).reshape(200, 24, 2) * HIGHEST_ACTIVATION
    for sums in (np.maximum(pairs, 0).sum(axis=2), np.maximum(-pairs, 0).sum(axis=2)):
        assert sums.max() <= MAX_INT16


def test_weights_use_all_bits_where_nothing_overflows() -> None:
    chance = np.random.default_rng(0)
    depthwise = chance.normal(size=(50, 1, 3, 3)).astype(np.float32)
    assert (np.abs(codes(depthwise)).max(axis=1) == 127).all()
    pointwise = np.zeros((1, 4, 1, 1), np.float32)
    pointwise[0, :, 0, 0] = (2.0, -2.0, 0.0, 1.0)
    assert codes(pointwise).tolist() == [[127, -127, 0, 64]]


def test_a_channel_of_zeros_has_a_scale() -> None:
    assert channel_scales(np.zeros((1, 2, 1, 1), np.float32))[0] > 0
