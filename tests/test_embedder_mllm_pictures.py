import numpy as np
import pytest
from PIL import Image

from embedder.mllm.pictures import TOKEN_SIDE, patched, planned

IMAGE = (256, 1280)
SIZES = [(640, 480), (321, 777), (64, 48), (1500, 300), (980, 1260), (4000, 3000), (28, 28), (1, 1)]


def noise(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokens", [IMAGE, (160, 180), (4, 60)])
def test_picture_becomes_whole_tokens(size: tuple[int, int], tokens: tuple[int, int]):
    plan = planned(size, tokens)
    assert tokens[0] <= plan.tokens <= tokens[1]
    assert all(side % TOKEN_SIDE == 0 for side in (*plan.first, *plan.final))
    assert plan.grid == (plan.final[1] // 14, plan.final[0] // 14)


def test_resizing_steps():
    plan = planned((1500, 1130), IMAGE)
    assert plan.first == (1512, 1120)
    assert plan.final == (1148, 840)


@pytest.mark.parametrize("size", [(640, 480), (1500, 300), (64, 48), (3000, 2000)])
def test_sizes_and_patches_match_transformers(size: tuple[int, int]):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 256 * 28 * 28, "longest_edge": 1280 * 28 * 28}
    )
    picture, plan = noise(size), planned(size, IMAGE)
    expected = processor(picture.resize(plan.first), return_tensors="np")
    found = patched(picture, plan)
    assert expected["image_grid_thw"].tolist() == [[1, *found.plan.grid]]
    values = found.patches.reshape(-1, 3, 1, 196) / 255.0
    mean, std = (
        np.array(one).reshape(3, 1, 1) for one in (processor.image_mean, processor.image_std)
    )
    both = np.repeat((values - mean) / std, 2, axis=2).reshape(len(found.patches), -1)
    assert np.abs(both - expected["pixel_values"]).max() < 1e-5


def test_elongated_picture_is_padded():
    line = Image.new("RGB", (10_000, 1), "black")
    plan = planned(line.size, IMAGE)
    assert plan.final[0] / plan.final[1] == pytest.approx(200, rel=0.5)
    values = patched(line, plan).patches
    assert values.max() == 255
    assert values.min() < 255


def test_picture_within_ratio_is_not_padded():
    plan = planned((2000, 10), IMAGE)
    assert patched(Image.new("RGB", (2000, 10), "black"), plan).patches.max() == 0
